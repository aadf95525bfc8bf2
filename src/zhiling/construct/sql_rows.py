"""Rows for text-to-SQL from a database: questions with queries that were run on it, and questions that it cannot answer.

schema -> questions drawn from its tables, and asked of a model -> each query run, read-only and caged -> rows
rows -> the column that a query needs is taken away -> the same question, now to be refused
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from zhiling.construct.generate.asking import Asking, Book, book, read, styled
from zhiling.construct.generate.floor import Made, in_waves
from zhiling.construct.generate.repair import failed
from zhiling.construct.sql_draw import Drawn, draw
from zhiling.construct.verify.sql import answers, statement
from zhiling.construct.verify.sql_schema import Schema, read_schema
from zhiling.errors import say, speaking
from zhiling.registry import constructor
from zhiling.text import lang as language
from zhiling.text import normalise
from zhiling.types import Example, Reject, Task, row_seed

if TYPE_CHECKING:
    from zhiling.llm import Model

TRIES = 20
"""How often a question is drawn before tables are taken to have no more."""


def asks(settings: Mapping[str, Any]) -> bool:
    """Whether a model is asked."""
    return int(settings["asked"]) > 0


def calls(settings: Mapping[str, Any], task: Task) -> int:
    """The most calls for one task: a question with its query, and a repair of it, for each candidate."""
    return round(int(settings["asked"]) * float(settings["tries"])) * 2 * len(settings["langs"] or task.langs)


def ready(settings: Mapping[str, Any], task: Task) -> int:
    """The most rows for one task."""
    made = int(settings["drawn"]) + int(settings["asked"])
    return round(made * (1 + float(settings["unanswerable"]))) * len(settings["langs"] or task.langs)


@dataclass(frozen=True, slots=True)
class Rows:
    """What all rows of one task, language and database have in common."""

    task: str
    lang: str
    file: Path
    schema: Schema
    words: Book
    seed: int
    tables: int
    check: Any

    def row(self, question: str, query: str, name: str, maker: str, parents: tuple[str, ...] = ()) -> Example:
        """A question with its query, under a schema of the tables that it uses and some others."""
        return self._row(question, query, self.shown(query, name), name, maker, parents)

    def refused(
        self, row: Example, question: str, query: str, needs: tuple[str, str], name: str
    ) -> tuple[Example, Schema]:
        """The same question under a schema without a column that it needs, which is given too: the answer says what is missing."""
        said = self.words.more["refusal"][self.lang].replace("{name}", needs[1])
        shown = self.shown(query, name).without(*needs)
        return self._row(question, said, shown, f"{name}:refused", f"{row.maker}+without", (row.id,)), shown

    def _row(
        self, question: str, output: str, shown: Schema, name: str, maker: str, parents: tuple[str, ...]
    ) -> Example:
        wordings = self.words.more["instructions"][self.lang]
        instruction = wordings[row_seed(self.seed, f"{name}:wording") % len(wordings)].replace(
            "{dialect}", _dialect(self.schema)
        )
        mark = "问题：" if self.lang == "zh" else "Question: "
        place = (
            f"{'数据库：' if self.lang == 'zh' else 'Database: '}{self.file.stem}\n"
            if self.words.more.get("name_database")
            else ""
        )
        text = f"{place}{shown.script}\n\n{mark}{question}"
        return Example(self.task, instruction, text, output, lang=self.lang, maker=maker, parents=parents)

    def shown(self, query: str, name: str) -> Schema:
        """The tables that a query names, and others drawn, at most `tables` where it names no more."""
        used = [table for table in self.schema.tables if normalise(table) in normalise(query)]
        others = [table for table in self.schema.tables if table not in used]
        more = Random(row_seed(self.seed, f"{name}:tables")).sample(
            others, min(len(others), max(self.tables - len(used), 0))
        )
        kept = {table: columns for table, columns in self.schema.tables.items() if table in used or table in more}
        links = tuple(link for link in self.schema.links if link.table in kept and link.other in kept)
        return Schema(kept, links, self.schema.dialect)

    def checked(self, rows: Sequence[tuple[Example, str]]) -> list[Made]:
        """Each row as it is where its query ran and said something, else the Reject with the reason; in order."""
        out: list[Made] = []
        for (row, _), answer in zip(rows, self.check([(self.file, query, "") for _, query in rows]), strict=True):
            why = answer.error or (say("it finds nothing", "没有查到内容") if answer.empty and not answer.bare else "")
            text = f"{row.input}\n→ {row.output}"[-500:]
            out.append(
                Reject(row.task, row.maker, "dropped", f"sql: {why}", text=text, parents=row.parents) if why else row
            )
        return out


def _dialect(schema: Schema) -> str:
    return {"duckdb": "DuckDB"}.get(schema.dialect, "SQLite")


@constructor("sql", makes="rows", asks=asks, calls=calls, ready=ready, paper="arXiv:2009.13845 for drawn questions")
async def sql(
    *,
    task: Task,
    seed: int,
    here: Path,
    database: str,
    model: Model | None = None,
    drawn: Annotated[int, Ge(0)] = 100,
    asked: Annotated[int, Ge(0)] = 0,
    unanswerable: Annotated[float, Ge(0), Le(1)] = 0.2,
    tables: Annotated[int, Ge(1)] = 6,
    langs: list[str] | None = None,
    tries: Annotated[float, Ge(1)] = 3.0,
    seconds: Annotated[float, Gt(0)] = 5.0,
    memory: Annotated[int, Ge(64)] = 512,
    style: Literal["auto", "small", "large"] = "auto",
    prompts: str | None = None,
    temperature: Annotated[float, Ge(0)] = 0.8,
    max_tokens: Annotated[int, Ge(8)] = 300,
    wave: Annotated[int, Ge(1)] = 16,
    floor: Annotated[float, Ge(0), Le(1)] = 0.05,
) -> list[Made]:
    """Per language, `drawn` questions of the database's tables, `asked` ones of a model, and of both the share `unanswerable` to be refused.

    `database` is a SQLite or DuckDB file or a script of tables (.sql). Every query was run: one that fails, or finds nothing, is a Reject
    with the reason; a model's is sent back once with it. A row shows at most `tables` tables beside those its query uses. Refusals are made
    from rows that hold: the column that the query needs is left out of the schema shown. Raises DataError for a database that cannot be read,
    EngineError where no cage holds, and ProviderError below `floor` usable candidates of a model.
    """
    file = here / database
    schema = read_schema(file, 12)
    check = partial(answers, seconds=seconds, memory=memory)
    out: list[Made] = []
    for lang in langs or task.langs:
        made = Rows(task.name, lang, file, schema, book("sql", prompts, here), seed, tables, check)
        out += _drawn(made, drawn, unanswerable)
        if asked and model is not None:
            asking = Asking(task, model, made.words, lang, styled(model, style), seed, temperature, max_tokens)
            loop = _Loop(asking, made)
            step = f"construct.sql ({task.name}, {lang})"
            out += await in_waves(loop.wave, rows=asked, tries=tries, wave=wave, floor=floor, model=model, step=step)
    return out


def _drawn(made: Rows, count: int, unanswerable: float) -> list[Made]:
    """Rows of drawn questions, none twice, in the order of the draws; with those to be refused behind them."""
    drawn: dict[str, Drawn] = {}
    for at in range(count * TRIES):
        if len(drawn) == count:
            break
        one = draw(made.schema, Random(row_seed(made.seed, f"draw:{at}")))
        if one is not None:
            drawn.setdefault(one.query, one)
    questions = {query: one.zh if made.lang == "zh" else one.en for query, one in drawn.items()}
    out = made.checked([(made.row(questions[query], query, query, "sql:drawn"), query) for query in drawn])
    good = [(row, one) for row, one in zip(out, drawn.values(), strict=True) if isinstance(row, Example)]
    for row, one in good[: round(unanswerable * len(good))]:
        gone, shown = made.refused(row, questions[one.query], one.query, one.needs, one.query)
        if not shown.has(one.needs[1]):  # another table of the row may have a column of the same name
            out.append(gone)
    return out


class _Loop:
    """Questions of a model, a wave at a time; what earlier ones asked is shown to the next, so that they differ."""

    def __init__(self, asking: Asking, made: Rows) -> None:
        self.asking, self.made = asking, made
        self.skills: list[str] = asking.book.more["skills"][asking.lang]
        self.maker = f"sql:{asking.model.label}"
        self.seen: set[str] = set()

    async def wave(self, numbers: range) -> list[Made]:
        """Candidates of these numbers, as rows and Rejects."""
        names = [str(number) for number in numbers]
        shown = {name: self.made.shown("", name) for name in names}
        said = await self.asking.ask("ask", [(name, self._slots(shown[name], int(name))) for name in names])
        out: list[Made] = []
        bad: list[tuple[str, Example, str]] = []
        rows: list[tuple[str, Example, str]] = []
        for name, one in zip(names, said, strict=True):
            values, fault = read(one, "question", "query")
            question, query = str(values.get("question", "")).strip(), statement(str(values.get("query", "")))
            if fault or not question or not query:
                why = fault or f"form: {say('no question, or no query', '没有问题或查询')}"
                out.append(failed(self.made.task, self.maker, one._replace(fault=why), f"ask {name}"))
            elif why := self._unfit(question, query):
                out.append(
                    Reject(self.made.task, self.maker, "dropped", why, text=f"{question}\n{query}", parents=(one.key,))
                )
            else:
                rows.append((name, self.made.row(question, query, f"asked:{name}", self.maker, (one.key,)), query))
        with speaking(self.made.lang):  # the model is told of it
            found = self.made.checked([(row, query) for _, row, query in rows])
        for row, (name, draft, _) in zip(found, rows, strict=True):
            if isinstance(row, Reject):
                bad.append((name, draft, row.why))
            else:
                out.append(row)
        return out + await self._mended(bad)

    def _slots(self, schema: Schema, number: int) -> dict[str, str]:
        values = [
            f"{t}.{c.name}: {', '.join(c.values[:3])}"
            for t, columns in schema.tables.items()
            for c in columns[:6]
            if c.values
        ]
        return {
            "schema": schema.script,
            "values": "\n".join(values[:12]),
            "skill": self.skills[number % len(self.skills)],
        }

    def _unfit(self, question: str, query: str) -> str:
        if (language(question) == "zh") != (self.made.lang == "zh"):
            return f"language: {say(f'asked for {self.made.lang}', f'要求 {self.made.lang}')}"
        if normalise(query) in self.seen or normalise(question) in self.seen:
            return f"novelty: {say('asked before', '已经问过')}"
        self.seen |= {normalise(query), normalise(question)}
        return ""

    async def _mended(self, bad: Sequence[tuple[str, Example, str]]) -> list[Made]:
        """The rows whose query failed, sent back once with the reason."""
        slots = [(name, {"input": row.input, "query": row.output, "reason": why}) for name, row, why in bad]
        said = await self.asking.ask("mend", slots) if bad else []
        drafts: list[tuple[Example, str]] = []
        out: list[Made] = []
        for (name, row, why), one in zip(bad, said, strict=True):
            query = statement(one.text)
            if one.fault or not query:
                unmended = f"{why} ({one.fault or say('sent back, and no query came', '退回后没有得到查询')})"
                parents = (*row.parents, one.key) if one.key else row.parents
                out.append(
                    Reject(row.task, f"{self.maker}+repair", "dropped", unmended, text=row.output, parents=parents)
                )
            else:
                question = row.input.rpartition("问题：" if self.made.lang == "zh" else "Question: ")[2]
                maker, parents = f"{self.maker}+repair", (*row.parents, one.key)
                drafts.append((self.made.row(question, query, f"asked:{name}", maker, parents), query))
        return out + self.made.checked(drafts)
