"""Rows for programming: functions of a repository whose examples hold, and tasks that a model writes with solution and tests.

a folder of Python files -> functions with `>>>` examples -> run in the cage, with faults put in -> rows
topics -> a model's task, solution, tests -> run in the cage, with faults put in; once more with the reason -> rows
"""

from __future__ import annotations

import ast
import doctest
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from zhiling.construct.generate.asking import Asking, Book, Said, book, styled
from zhiling.construct.generate.floor import Made, in_waves
from zhiling.construct.generate.novelty import Pool
from zhiling.construct.generate.repair import failed
from zhiling.construct.verify.code import code as check
from zhiling.errors import DataError, say, speaking
from zhiling.registry import constructor
from zhiling.text import lang as language
from zhiling.types import Example, Reject, Task, row_seed

if TYPE_CHECKING:
    from zhiling.llm import Model

LARGEST = 400_000  # characters of a file that are read for functions
READ = "code:repository"  # the maker of rows that are read
_task = re.compile(
    r"^\s*(?:\*\*)?(?:task|任务)(?:\*\*)?\s*[:：]\s*(?:\*\*)?\s*(.+?)\s*(?=```|\Z)", re.IGNORECASE | re.DOTALL
)
_blocks = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL)


def asks(settings: Mapping[str, Any]) -> bool:
    """Whether a model is asked."""
    return int(settings["asked"]) > 0


def calls(settings: Mapping[str, Any], task: Task) -> int:
    """The most calls for one task: a row, and a repair of it, for each candidate."""
    return round(int(settings["asked"]) * float(settings["tries"])) * 2 * len(settings["langs"] or task.langs)


def ready(settings: Mapping[str, Any], task: Task, *, here: Path) -> int:
    """The most rows for one task: those asked for, and the functions that the repository really has."""
    found = _read(here / settings["repository"], settings["read"], task.name) if settings["repository"] else ()
    read = sum(isinstance(one, Function) for one in found)
    return (int(settings["asked"]) + read) * len(settings["langs"] or task.langs)


@constructor("code", makes="rows", asks=asks, calls=calls, ready=ready, needs=("chat",), paper="arXiv:2107.03374")
async def code(
    *,
    task: Task,
    seed: int,
    here: Path,
    model: Model | None = None,
    repository: str | None = None,
    read: Annotated[int, Ge(1)] = 100,
    asked: Annotated[int, Ge(0)] = 0,
    langs: list[str] | None = None,
    topics: list[str] | None = None,
    tries: Annotated[float, Ge(1)] = 3.0,
    mutations: Annotated[int, Ge(0)] = 6,
    killed: Annotated[float, Ge(0), Le(1)] = 0.5,
    seconds: Annotated[float, Gt(0)] = 5.0,
    style: Literal["auto", "small", "large"] = "auto",
    prompts: str | None = None,
    novelty: Annotated[float, Gt(0), Le(1)] = 0.7,
    temperature: Annotated[float, Ge(0)] = 0.8,
    max_tokens: Annotated[int, Ge(8)] = 400,
    wave: Annotated[int, Ge(1)] = 16,
    floor: Annotated[float, Ge(0), Le(1)] = 0.05,
) -> list[Made]:
    """Per language, up to `read` functions of a `repository` that bring examples, and `asked` tasks of a model.

    Every program was run in the cage: its tests pass, and notice the share `killed` of `mutations` faults put into it; what does not is a
    Reject with the reason, a model's row sent back once with it. A file that is no Python is quarantined with its line. `topics` are what a
    model's tasks are about, by default those of the prompts.
    A candidate whose ROUGE-L with an earlier one reaches `novelty` is refused. Raises DataError for a repository without such functions,
    EngineError where no cage holds, and ProviderError below `floor` usable candidates.
    """
    out: list[Made] = []
    words = book("code", prompts, here)
    limits = {"seed": seed, "mutations": mutations, "killed": killed, "seconds": seconds}
    found = _read(here / repository, read, task.name) if repository else []
    out += [one for one in found if isinstance(one, Reject)]
    for lang in langs or task.langs:
        out += _rows([one for one in found if isinstance(one, Function)], task.name, lang, words, limits)
        if asked and model is not None:
            asking = Asking(task, model, words, lang, styled(model, style), seed, temperature, max_tokens)
            loop = _Loop(asking, topics or words.more["topics"][lang], Pool((), novelty), limits)
            step = f"construct.code ({task.name}, {lang})"
            out += await in_waves(loop.wave, rows=asked, tries=tries, wave=wave, floor=floor, model=model, step=step)
    return out


def _rows(
    found: Sequence[Function], task: str, lang: str, words: Book, limits: Mapping[str, Any]
) -> Iterator[Example | Reject]:
    """Functions with examples as rows; those whose examples do not hold by themselves as Rejects."""
    wordings: Sequence[str] = words.more["docstring"][lang]
    rows = list[Example]()
    for one in found:
        wording = wordings[row_seed(int(limits["seed"]), one.where) % len(wordings)]
        rows.append(Example(task, wording, one.head, f"```python\n{one.whole}\n```", lang=lang, maker=READ))
    for row, one, score in zip(rows, found, check(rows, **limits), strict=True):
        yield row if score.value == 1.0 else _refused(row, score.why, one.where)


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a repository: its file and line, its signature with docstring, and its whole text, each with the imports it uses."""

    where: str
    head: str
    whole: str


def _read(folder: Path, most: int, task: str) -> list[Function | Reject]:
    """The first functions with examples, at most `most`, and what could not be read on the way. Raises DataError where there is none."""
    out, count = list[Function | Reject](), 0
    for one in functions(folder, task):
        out.append(one)
        count += isinstance(one, Function)
        if count == most:
            break
    if count:
        return out
    mend = say("functions need a docstring with >>> examples", "函数须带有含 >>> 示例的文档字符串")
    if unread := [one for one in out if isinstance(one, Reject)]:
        first = f"{unread[0].where}: {unread[0].why}"
        mend += say(f"; {len(unread)} could not be read: {first}", f"；有 {len(unread)} 处读不出：{first}")
    raise DataError(say("no function with examples was found", "没有找到带示例的函数"), where=str(folder), mend=mend)


def functions(folder: Path, task: str) -> Iterator[Function | Reject]:
    """Each top-level function whose docstring has examples, files by name; what is no Python of today is quarantined with file and line."""
    files = [one for one in sorted(folder.rglob("*.py")) if not one.is_dir()] if folder.is_dir() else [folder]
    for file in files if folder.exists() else []:
        name = file.relative_to(folder).as_posix() if folder.is_dir() else file.name
        tree = _tree(file)
        if isinstance(tree, ast.Module):
            yield from _of(tree, name, task)
        else:
            why, line, text = tree
            yield Reject(task, READ, "quarantined", why, f"{name}:{line}", text)


def _tree(file: Path) -> ast.Module | tuple[str, int, str]:
    """The file's syntax tree; or why there is none, in which line, and that line."""
    try:
        data = file.read_bytes()
    except OSError as error:
        return say(f"it cannot be read: {error.strerror}", f"无法读取：{error.strerror}"), 0, ""
    try:
        text = data.decode("utf-8")
        if len(text) > LARGEST:
            most = f"{LARGEST:,}"
            return say(f"it is longer than {most} characters", f"超过 {most} 个字符"), 0, text
        return ast.parse(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return say("it is not UTF-8", "不是 UTF-8 编码"), line, data.splitlines()[line - 1].decode("utf-8", "replace")
    except SyntaxError as error:
        return (
            say(f"no Python: {error.msg}", f"不是 Python：{error.msg}"),
            error.lineno or 0,
            (error.text or "").rstrip(),
        )
    except (ValueError, RecursionError, MemoryError) as error:  # a zero byte; brackets in brackets without end
        return say(f"no Python: {error}", f"不是 Python：{error}"), 0, ""


def _of(tree: ast.Module, name: str, task: str) -> Iterator[Function | Reject]:
    imports = [
        ast.unparse(node) for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom)) and _standard(node)
    ]
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or node.decorator_list or not (doc := ast.get_docstring(node)):
            continue
        try:
            examples = doctest.DocTestParser().get_examples(doc)
        except ValueError as error:
            why = say(f"its examples cannot be read: {error}", f"示例无法读取：{error}")
            yield Reject(task, READ, "quarantined", why, f"{name}:{node.lineno}", doc)
            continue
        if any(example.want for example in examples):
            used = [line for line in imports if _used(line, node)]
            head = ast.unparse(ast.FunctionDef(**{**vars(node), "body": node.body[:1]}))
            yield Function(f"{name}:{node.lineno}", "\n".join([*used, head]), "\n".join([*used, ast.unparse(node)]))


def _standard(node: ast.Import | ast.ImportFrom) -> bool:
    import sys

    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    relative = isinstance(node, ast.ImportFrom) and node.level > 0
    return not relative and all(name.partition(".")[0] in sys.stdlib_module_names for name in names)


def _used(line: str, node: ast.AST) -> bool:
    """Whether a function uses a name that an import line brings."""
    brings = ast.parse(line).body[0]
    assert isinstance(brings, (ast.Import, ast.ImportFrom))
    names = {alias.asname or alias.name.partition(".")[0] for alias in brings.names}
    return any(isinstance(inner, ast.Name) and inner.id in names for inner in ast.walk(node))


def _refused(row: Example, why: str, where: str = "") -> Reject:
    return Reject(row.task, row.maker, "dropped", f"code: {why}", where, f"{row.prompt}\n→ {row.output}", row.parents)


class _Loop:
    """Tasks of a model, a wave at a time."""

    def __init__(self, asking: Asking, topics: Sequence[str], pool: Pool, limits: Mapping[str, Any]) -> None:
        self.asking, self.topics, self.pool, self.limits = asking, topics, pool, limits
        self.maker = f"code:{asking.model.label}"

    async def wave(self, numbers: range) -> list[Made]:
        """Candidates of these numbers, as rows and Rejects."""
        names = [str(number) for number in numbers]
        said = await self.asking.ask(
            "write", [(name, {"topic": self.topics[int(name) % len(self.topics)]}) for name in names]
        )
        out: list[Made] = []
        drafts: list[tuple[str, Example]] = []
        for name, one in zip(names, said, strict=True):
            row, why = self._row(one)
            if row is None:
                out.append(failed(self.asking.task.name, self.maker, one._replace(fault=why), f"write {name}"))
            elif known := self.pool.why(row.instruction):
                out.append(
                    Reject(
                        row.task, self.maker, "dropped", f"novelty: {known}", text=row.instruction, parents=row.parents
                    )
                )
            else:
                self.pool.add(row.instruction)
                drafts.append((name, row))
        with speaking(self.asking.lang):  # the model is told of it
            scores = check([row for _, row in drafts], **self.limits)
        out += [row for (_, row), score in zip(drafts, scores, strict=True) if score.value == 1.0]
        bad = [(name, row, score.why) for (name, row), score in zip(drafts, scores, strict=True) if score.value != 1.0]
        return out + await self._mended(bad)

    def _row(self, said: Said) -> tuple[Example | None, str]:
        found = _task.match(said.text)
        blocks = [block.strip() for block in _blocks.findall(said.text)]
        if said.fault or not found or not blocks:
            return None, said.fault or f"form: {say('no task, or no program', '没有任务或程序')}"
        if (language(found[1]) == "zh") != (self.asking.lang == "zh"):
            return None, f"language: {say(f'asked for {self.asking.lang}', f'要求 {self.asking.lang}')}"
        asked = " ".join(found[1].split())
        instruction = (
            f"{asked}{'' if self.asking.lang == 'zh' else ' '}{self.asking.book.more['tests'][self.asking.lang]}"
        )
        return self._made(instruction, blocks, self.maker, (said.key,)), ""

    def _made(self, instruction: str, blocks: Sequence[str], maker: str, parents: tuple[str, ...]) -> Example:
        output = "\n".join(f"```python\n{block}\n```" for block in blocks)
        return Example(
            self.asking.task.name, instruction, "", output, lang=self.asking.lang, maker=maker, parents=parents
        )

    async def _mended(self, bad: Sequence[tuple[str, Example, str]]) -> list[Made]:
        """The rows that failed, sent back once with the reason."""
        slots = [(name, {"task": row.instruction, "answer": row.output, "reason": why}) for name, row, why in bad]
        said = await self.asking.ask("mend", slots) if bad else []
        out: list[Made] = []
        drafts: list[Example] = []
        for (_, row, why), one in zip(bad, said, strict=True):
            blocks = [block.strip() for block in _blocks.findall(one.text)]
            maker = f"{self.maker}+repair"
            if one.fault or not blocks:
                unmended = f"{why} ({one.fault or say('sent back, and no program came', '退回后没有得到程序')})"
                out.append(_refused(replace(row, maker=maker), unmended))
            else:
                drafts.append(self._made(row.instruction, blocks, maker, (*row.parents, one.key)))
        scores = check(drafts, **self.limits)
        return out + [
            row if score.value == 1.0 else _refused(row, score.why) for row, score in zip(drafts, scores, strict=True)
        ]
