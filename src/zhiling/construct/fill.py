"""Filling: Templates from any of the three ways, and records, become Examples. The one place where rows are made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import nsmallest
from itertools import islice
from math import gcd, log
from random import Random

from zhiling import text
from zhiling.construct.bind import default_slots
from zhiling.construct.demos import Demos, example_block
from zhiling.construct.sandbox import compiled
from zhiling.errors import RecipeError, say
from zhiling.types import Demo, Example, Record, Reject, Task, Template, Turn, content_id, row_seed

BLOCK = 64  # records that are looked up together
SPARE = 4  # records drawn for each row that caps allow: some fail, some speak another language

__all__ = ["default_slots", "fill"]

_letter = re.compile("[A-Za-z]")
_han = re.compile("[\u4e00-\u9fff]+")
_kana = re.compile("[\u3040-\u30ff]")
_OTHER_SCRIPTS = frozenset({"zh", "ja", "ko", "ru", "ar"})


class _Ready:
    """A Template, compiled: its renderers, the fields they need, and how many rows it may still make."""

    __slots__ = (
        "answer",
        "asked",
        "instruction",
        "left",
        "needs",
        "output",
        "source",
        "system",
        "task_named",
        "template",
        "turns",
    )

    def __init__(self, template: Template) -> None:
        asking = [compiled(said) for said in (template.instruction, template.input, template.system)]
        output = compiled(template.output)
        said = [(role, compiled(turn) if role != "field" else None, turn) for role, turn in template.turns]
        texts = [*asking, output, *(ready for _, ready, _ in said if ready)]
        names = frozenset[str]().union(*(one.names for one in texts))
        self.template = template
        self.instruction, self.source, self.system = (one.render for one in asking)
        self.output = output.render
        self.turns = [(role, ready.render if ready else None, turn) for role, ready, turn in said]
        self.needs = sorted(frozenset[str]().union(*(one.needs for one in texts)) - {"task", "demos"})
        self.task_named = bool(names & {"task", "demos"})
        self.answer = output.names - {"task"}
        self.asked = frozenset[str]().union(*(one.names for one in asking)) - {"task", "demos"}
        self.left = template.cap


def fill(
    records: Iterable[Record],
    templates: Sequence[Template],
    *,
    task: Task,
    seed: int,
    per_record: int = 1,
    match_lang: bool = True,
    max_chars: int = 20_000,
    demos: Demos | None = None,
) -> Iterator[Example | Reject]:
    """Each record through `per_record` of the templates: streaming, deterministic, whatever order records come in.

    Which templates a record gets depends on the seed and the record alone, every template being as likely as its weight says and
    none taken twice. With `match_lang` a record gets templates of its own language (`record.lang`, or told from its inputs by
    script) where there are any. A record with a missing, empty or over-long (`max_chars`) field that the template needs becomes a
    Reject. `demos` serves the templates that ask for worked examples.

    A template with a cap makes no more rows than that, from records drawn evenly over all; a record that finds it full gets the
    next one, and those for which none is left are told in one Reject at the end.

    Raises RecipeError when a template's text is not valid.
    """
    ready = [_Ready(one) for one in sorted(templates, key=lambda one: one.id) if one.weight > 0]
    similar = any(one.template.demos and one.template.choose == "similar" for one in ready)
    pools: dict[str, list[_Ready]] = {}
    over = _Over()
    if any(one.left is not None for one in ready):
        records = over.even(records, ready, seed)
    for record in _looked_up(records, demos) if demos and similar else records:
        lang = _lang(record, task) if match_lang else ""
        if lang not in pools:
            pools[lang] = _pool(ready, lang)
        full = True
        for one in _chosen(pools[lang], row_seed(seed, record.id), per_record):
            full = False
            made = _made(one, record, task.name, max_chars, demos)
            if one.left is not None and isinstance(made, Example):
                one.left -= 1
            yield made
        over.count += full
    if over.count and ready:
        why = say(
            f"{over.count} records more than the templates' caps allow", f"有 {over.count} 条数据超出模板的上限（cap）"
        )
        yield Reject(task.name, ready[0].template.maker.partition(":")[0], "dropped", why)


class _Over:
    """How many records the caps leave without a template."""

    count = 0

    def even(self, records: Iterable[Record], ready: Sequence[_Ready], seed: int) -> Iterable[Record]:
        """As many records as the caps could need, and more, drawn evenly; all where some template has no cap."""
        caps = [one.left for one in ready if one.left is not None]
        if len(caps) < len(ready):
            return records
        seen = 0

        def counted() -> Iterator[Record]:
            nonlocal seen
            for record in records:
                seen += 1
                yield record

        drawn = nsmallest(SPARE * sum(caps), counted(), key=lambda record: content_id("cap", seed, record.id))
        self.count = seen - len(drawn)
        return drawn


def _looked_up(records: Iterable[Record], demos: Demos) -> Iterator[Record]:
    stream = iter(records)
    while block := list(islice(stream, BLOCK)):
        demos.look_up(block)
        yield from block


def _lang(record: Record, task: Task) -> str:
    if record.lang:
        return record.lang.lower().replace("_", "-").split("-")[0]
    sample = max((record.fields.get(name, "") for name in task.inputs), key=len, default="")[:120]
    if sample.isascii():  # the two common cases, told cheaply and as text.lang would
        return "latin" if _letter.search(sample) else ""
    if 2 * len("".join(_han.findall(sample))) > len(sample) and not _kana.search(sample):
        return "zh"
    return text.lang(sample)


def _pool(ready: list[_Ready], lang: str) -> list[_Ready]:
    """The templates that speak the language; all of them where none does, or where the record has no letters to tell by."""
    if lang == "latin":
        same = [one for one in ready if one.template.lang not in _OTHER_SCRIPTS]
    else:
        same = [one for one in ready if one.template.lang.lower().replace("_", "-").split("-")[0] == lang]
    return same or ready


def _chosen(pool: list[_Ready], seed: int, count: int) -> Iterator[_Ready]:
    """`count` different ones that are not full yet, in the seed's order."""
    for one in _order(pool, seed, count):
        if count and (one.left is None or one.left > 0):
            count -= 1
            yield one


def _order(pool: list[_Ready], seed: int, count: int) -> Iterator[_Ready]:
    """All of them: a seeded start and a seeded stride that has no common divisor with the pool's size.

    Where weights differ: drawn one after the other in proportion to them (Efraimidis and Spirakis 2006, algorithm A).
    """
    size = len(pool)
    if not size:
        return
    if any(one.template.weight != pool[0].template.weight for one in pool):
        draw = Random(seed).random
        yield from sorted(pool, key=lambda one: log(1 - draw()) / one.template.weight, reverse=True)
        return
    start, rest = seed % size, seed // size
    stride = 1
    if count > 1 and size > 2:
        strides = [step for step in range(1, size) if gcd(step, size) == 1]
        stride = strides[rest % len(strides)]
    for turn in range(size):
        yield pool[(start + turn * stride) % size]


def _made(one: _Ready, record: Record, task: str, max_chars: int, demos: Demos | None) -> Example | Reject:
    fields, template = record.fields, one.template
    for name in one.needs:
        value = fields.get(name)
        if not value or value.isspace():
            return _failed(one, record, task, _lacking(name, value))
        if len(value) > max_chars:
            size = f"{len(value):,}", f"{max_chars:,}"
            why = say("the field '{}' has {} characters, more than {}", "字段“{}”有 {} 个字符，超过 {}").format(
                name, *size
            )
            return _failed(one, record, task, why, value)
    values: Mapping[str, str] = {"task": task, "demos": "", **fields} if one.task_named else fields
    shown: list[Record] = []
    if template.demos and demos:
        shown = demos.choose(record, template.demos, template.choose, asked=one.asked, answer=one.answer)
    try:
        block = _block(one, shown, task) if shown else ""
        if block and one.task_named:
            values = {**values, "demos": block}
        instruction, source, output, system = (
            one.instruction(values),
            one.source(values),
            one.output(values),
            one.system(values),
        )
        history = _history(one, values) if one.turns else ()
    except RecipeError as error:
        return _failed(one, record, task, str(error))
    if not instruction or instruction.isspace() or not output or output.isspace():
        return _failed(one, record, task, say("the instruction or the output comes out empty", "填充后指令或输出为空"))
    if block and block not in instruction + source + system:
        instruction = f"{instruction}\n\n{block}" if template.input else f"{block}\n\n{instruction}"
    return Example(
        task=task,
        instruction=instruction,
        input=source,
        output=output,
        system=system,
        history=history,
        lang=template.lang,
        maker=template.maker,
        parents=(template.id, record.id, *(demo.id for demo in shown)),
    )


def _block(one: _Ready, shown: Sequence[Record], task: str) -> str:
    """The demos as the template itself words its input and output; a template without an input shows the fields it asks with."""
    rows = [{"task": task, "demos": "", **demo.fields} for demo in shown]
    named = sorted(one.asked)
    asked = [one.source(row) if one.template.input else "\n".join(row.get(name, "") for name in named) for row in rows]
    pairs = zip(asked, (one.output(row) for row in rows), strict=True)
    return example_block([Demo(*pair) for pair in pairs], one.template.lang)


def _history(one: _Ready, values: Mapping[str, str]) -> tuple[Turn, ...]:
    """The earlier turns: those the template writes, and those the record brings. Raises RecipeError for what is none."""
    out: list[Turn] = []
    for role, render, name in one.turns:
        if render is not None:
            said = render(values)
            if not said or said.isspace():
                raise RecipeError(say("an earlier turn comes out empty", "填充后前面的某一轮对话为空"))
            out.append((role, said))
        elif values.get(name):
            out += _brought(values[name], name)
    return tuple(out)


def _brought(said: str, name: str) -> list[Turn]:
    try:
        turns = json.loads(said)
        return [(str(turn["role"]), _text(turn["content"])) for turn in turns]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        what = say(f"the field '{name}' holds no turns", f"字段“{name}”中没有对话")
        raise RecipeError(what, mend='[{"role": "user", "content": ".."}, ..]') from error


def _text(content: object) -> str:
    if not isinstance(content, str):
        raise TypeError("content")
    return content


def _lacking(name: str, value: str | None) -> str:
    if value is None:
        return say(f"the field '{name}' is missing", f"缺少字段“{name}”")
    return say(f"the field '{name}' is empty", f"字段“{name}”为空")


def _failed(one: _Ready, record: Record, task: str, why: str, value: str = "") -> Reject:
    where = f"{record.file}:{record.line}" if record.file else ""
    said = value or next(iter(record.fields.values()), "")
    return Reject(task, one.template.maker, "failed", why, where=where, text=said, parents=(one.template.id, record.id))
