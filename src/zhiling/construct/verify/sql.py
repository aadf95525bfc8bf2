"""Whether a row's SQL runs: on the user's database, read-only, in a cage, within limits; and whether a refusal names what is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from zhiling.construct import cage
from zhiling.construct.verify.sql_schema import Schema, read_schema, shown_schema
from zhiling.errors import EngineError, say
from zhiling.registry import verifier
from zhiling.text import cut
from zhiling.types import Example, Score

_fence = re.compile(r"```(?:\w+)?[ \t]*\n(.*?)```", re.DOTALL)
_start = re.compile(r"\A\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*(\w+|\()", re.DOTALL)
_verb = re.compile(
    r"select|with|values|from|\(|insert|update|delete|replace|create|drop|alter|attach|detach|pragma|vacuum|copy|install|load|set|export"
    r"|import|explain|begin|commit|analyze|reindex|call|describe|show|merge|truncate|grant",
    re.IGNORECASE,
)
_named = re.compile(r"[\"'“‘「『《`]([^\"'”’」』》`\n]{1,60})[\"'”’」』》`]")
_database = re.compile(r"^\s*(?:database|数据库)\s*[:：]\s*([\w.-]+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gave: column names, the first rows as text, how many (`more`: and others), whether it says nothing; or an error.

    `bare` is true where the tables hold no rows at all, so that an empty answer says nothing about the query. `bag` and `order` are hashes
    of all the rows, whatever their order or in it.
    """

    error: str = ""
    kind: str = ""
    columns: tuple[str, ...] = ()
    sample: tuple[tuple[str | None, ...], ...] = ()
    count: int = 0
    more: bool = False
    empty: bool = False
    bare: bool = False
    bag: str = ""
    order: str = ""

    @property
    def described(self) -> str:
        """Rows and columns in words."""
        count = f"{self.count}+" if self.more else str(self.count)
        names = cut(", ".join(self.columns), 80)
        return say(f"{count} rows: {names}", f"{count} 行：{names}")


@verifier("sql", families=("sql",), langs=("zh", "en"), paper="execution accuracy, Yu et al. 2018 (Spider)")
def sql(
    examples: Sequence[Example],
    *,
    here: Path,
    database: str,
    empty: Literal["refuse", "keep"] = "refuse",
    seconds: Annotated[float, Gt(0)] = 5.0,
    rows: Annotated[int, Ge(1)] = 10_000,
    memory: Annotated[int, Ge(64)] = 512,
) -> list[Score]:
    """Each row's query is run on `database`; a row that answers in words must be a refusal, and right.

    `database` is a SQLite or DuckDB file, a script (.sql) that makes the tables, or a folder of them, of which a row then names one in a line
    "Database: NAME". 1.0 where one reading statement ran and said something; 0.0 for an error, a second statement, an attempt to change or
    reach anything else, too long (`seconds`, `memory` MiB), nothing but nulls (unless `empty: keep`), or a table or column that the schema in
    the row's own text does not show. A refusal is right where what it names in quotes is in no table, wrong where it is there; None where it
    names nothing. Raises DataError for a database that cannot be read and EngineError where no cage holds.
    """
    place = here / database
    if not place.exists():
        read_schema(place)  # says what is wrong
    out: list[Score] = []
    jobs: dict[int, tuple[Path, str, str]] = {}
    for row in examples:
        query, file = statement(row.output), file_of(row, place)
        if file is None:
            why = say("the row names no database of the folder", "该行没有指明文件夹中的数据库")
            out.append(Score(row.id, "sql", None, why))
        elif not query:
            out.append(_refusal(row, shown_schema(row.prompt) or read_schema(file)))
        else:
            jobs[len(out)] = (file, query, row.prompt)
            out.append(Score(row.id, "sql", None))
    shown = [shown_schema(prompt) for _, _, prompt in jobs.values()]
    asked = [
        (file, query, seen.script if seen else "") for (file, query, _), seen in zip(jobs.values(), shown, strict=True)
    ]
    for at, answer in zip(jobs, answers(asked, seconds=seconds, rows=rows, memory=memory), strict=True):
        out[at] = _judged(out[at].example, answer, empty)
    return out


def file_of(row: Example, place: Path) -> Path | None:
    """The database that a row is about: the file, or of a folder the one that the row names."""
    if not place.is_dir():
        return place
    named = _database.search(row.system) or _database.search(row.prompt)
    found = [
        file
        for file in sorted(place.iterdir())
        if named and named[1] in (file.name, file.stem) and file.suffix != ".json"
    ]
    return found[0] if found else None


def _judged(row: str, answer: Answer, empty: str) -> Score:
    if answer.error:
        lacks = (
            answer.kind == "LookupError"
            or "no such" in answer.error
            or "does not exist" in answer.error
            or "not found in" in answer.error
        )
        more = (
            say(" (a question that this schema cannot answer needs a refusal)", "（该表结构无法回答的问题应当拒答）")
            if lacks
            else ""
        )
        return Score(row, "sql", 0.0, answer.error + more)
    if answer.empty and empty == "refuse" and not answer.bare:
        return Score(row, "sql", 0.0, say("it runs, but finds nothing", "可以执行，但没有查到内容"))
    return Score(row, "sql", 1.0, answer.described)


def _refusal(row: Example, schema: Schema) -> Score:
    """Whether what an answer in words says to be missing is missing."""
    if not row.output.strip():
        return Score(row.id, "sql", 0.0, say("neither a query nor a refusal", "既不是查询也不是拒答"))
    names = [name for name in _named.findall(row.output) if not schema.is_table(name)]
    there = [name for name in names if schema.has(name)]
    if there:
        return Score(
            row.id,
            "sql",
            0.0,
            say(f"it refuses for lack of '{there[0]}', which is there", f"以缺少“{there[0]}”为由拒答，但该列存在"),
        )
    if names or (missing := [name for name in _named.findall(row.output) if not schema.has(name)]):
        name = names[0] if names else missing[0]
        return Score(row.id, "sql", 1.0, say(f"rightly refused: there is no '{name}'", f"正确拒答：没有“{name}”"))
    why = say(
        "a refusal that names nothing missing (in quotes) cannot be checked", "拒答没有用引号指明缺少什么，无法校验"
    )
    return Score(row.id, "sql", None, why)


def statement(text: str) -> str:
    """The SQL in an answer: its fenced block, or the whole where it begins like a statement; "" for an answer in words."""
    fenced = _fence.search(text)
    body = (fenced[1] if fenced else text).strip()
    found = _start.match(body)
    begins = found is not None and _verb.fullmatch(found[1]) is not None
    # "With this schema it cannot be answered" and "Select nothing, ..." begin like SQL and are words.
    words = (
        begins
        and not fenced
        and body.count(" ") > 2
        and not re.search(r"[*(),;=<>'\"`]|\bfrom\b|\btable\b|\d", body, re.IGNORECASE)
    )
    return body.rstrip("; \n\t") if begins and not words else ""


def answers(
    asked: Sequence[tuple[Path, str, str]], *, seconds: float = 5.0, rows: int = 10_000, memory: int = 512
) -> list[Answer]:
    """What each (file, query, schema shown or "") gives, in order; never raises for a query. Files are read once."""
    out: list[Answer | None] = [None] * len(asked)
    for file in {file: None for file, _, _ in asked}:
        at = [place for place, (other, _, _) in enumerate(asked) if other == file]
        schema = read_schema(file)
        path, script = [], file.read_text(encoding="utf-8-sig") if file.suffix == ".sql" else ""
        if schema.dialect == "duckdb":
            import duckdb

            if cage.need() == "landlock":  # it insists on a file of /proc that this cage does not show
                raise EngineError(
                    say("DuckDB does not run in the only cage that holds here (Landlock)", "本机仅有的隔离环境（Landlock）无法运行 DuckDB"),
                    where=str(file), mend=say("install bubblewrap, or export to SQLite", "请安装 bubblewrap，或导出为 SQLite"),
                )  # fmt: skip
            path = [str(Path(duckdb.__file__).parents[1])]
        room = memory + (
            4096 if path else 256
        )  # DuckDB reserves far more addresses than it uses, and keeps its own limit
        jobs = [_job(file.resolve(), script, schema.dialect, asked[place], seconds, rows, memory) for place in at]
        ended = cage.run_all(
            [(_program(), job) for job in jobs],
            read=[str(file.resolve())],
            path=path,
            modules=["sqlite3", *(["duckdb"] if path else [])],
            limits=cage.Limits(seconds + 2, room, 4096),
        )
        for place, end in zip(at, ended, strict=True):
            out[place] = _answer(end, seconds)
    return [answer or Answer("-") for answer in out]


def _job(
    file: Path, script: str, dialect: str, asked: tuple[Path, str, str], seconds: float, rows: int, memory: int
) -> str:
    job = {
        "file": str(file), "script": script, "dialect": dialect, "query": asked[1], "shown": asked[2], "rows": rows, "seconds": seconds,
        "memory": memory,
    }  # fmt: skip
    return json.dumps(job)


def _answer(end: cage.Outcome, seconds: float) -> Answer:
    if end.state == "time":
        return Answer(_late(seconds), "time")
    if end.state != "done":
        return Answer(end.why, end.state)
    told: dict[str, Any] = json.loads(end.out.strip().rpartition("\n")[2])
    if told["error"]:
        late = "interrupted" in told["error"].lower()
        return Answer(_late(seconds) if late else _clear(told["error"], told["kind"]), "time" if late else told["kind"])
    sample = tuple(tuple(row) for row in told["sample"])
    return Answer(
        "",
        "",
        tuple(told["columns"]),
        sample,
        told["count"],
        told["more"],
        told["empty"],
        told["bare"],
        told["bag"],
        told["order"],
    )


def _late(seconds: float) -> str:
    return say(f"ran past its limit of {seconds:g} seconds", f"超出 {seconds:g} 秒的时间限制")


_walls = re.compile(
    r"not authorized|authorization denied|prohibited|read-?only|disabled by configuration", re.IGNORECASE
)


def _clear(error: str, kind: str) -> str:
    """An engine's words, preceded by ours where the reason is a wall."""
    if kind == "PermissionError" or _walls.search(error):
        return say(f"not allowed: it must only read this database ({error})", f"不允许：只能读取该数据库（{error}）")
    return error


@cache
def _program() -> str:
    return Path(__file__).with_name("sql_inside.py").read_text(encoding="utf-8")
