"""Filling: Templates from any of the three ways, and records, become Examples. The one place where rows are made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import gcd

from zhiling import text
from zhiling.construct.bind import default_slots
from zhiling.construct.sandbox import compiled
from zhiling.errors import RecipeError, say
from zhiling.types import Example, Record, Reject, Task, Template, row_seed

__all__ = ["default_slots", "fill"]

_letter = re.compile("[A-Za-z]")
_han = re.compile("[\u4e00-\u9fff]+")
_kana = re.compile("[\u3040-\u30ff]")
_OTHER_SCRIPTS = frozenset({"zh", "ja", "ko", "ru", "ar"})


class _Ready:
    """A Template, compiled: the four renderers and the fields they need."""

    __slots__ = ("instruction", "needs", "output", "source", "system", "task_named", "template")

    def __init__(self, template: Template) -> None:
        texts = [compiled(part) for part in (template.instruction, template.input, template.output, template.system)]
        names = frozenset[str]().union(*(part.names for part in texts))
        self.template = template
        self.instruction, self.source, self.output, self.system = (part.render for part in texts)
        self.needs = sorted(frozenset[str]().union(*(part.needs for part in texts)) - {"task"})
        self.task_named = "task" in names


def fill(
    records: Iterable[Record],
    templates: Sequence[Template],
    *,
    task: Task,
    seed: int,
    per_record: int = 1,
    match_lang: bool = True,
    max_chars: int = 20_000,
) -> Iterator[Example | Reject]:
    """Each record through `per_record` of the templates: streaming, deterministic, whatever order records come in.

    Which templates a record gets depends on the seed and the record alone, every template being equally likely and none taken
    twice. With `match_lang` a record gets templates of its own language (`record.lang`, or told from its inputs by script) where
    there are any. A record with a missing, empty or over-long (`max_chars`) field that the template needs becomes a Reject.

    Raises RecipeError when a template's text is not valid.
    """
    ready = [_Ready(one) for one in sorted(templates, key=lambda one: one.id)]
    pools: dict[str, list[_Ready]] = {}
    for record in records:
        lang = _lang(record, task) if match_lang else ""
        if lang not in pools:
            pools[lang] = _pool(ready, lang)
        for one in _chosen(pools[lang], row_seed(seed, record.id), per_record):
            yield _made(one, record, task.name, max_chars)


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
    """`count` different ones: a seeded start and a seeded stride that has no common divisor with the pool's size."""
    size = len(pool)
    if not size:
        return
    start, rest = seed % size, seed // size
    stride = 1
    if count > 1 and size > 2:
        strides = [step for step in range(1, size) if gcd(step, size) == 1]
        stride = strides[rest % len(strides)]
    for turn in range(min(count, size)):
        yield pool[(start + turn * stride) % size]


def _made(one: _Ready, record: Record, task: str, max_chars: int) -> Example | Reject:
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
    values: Mapping[str, str] = {"task": task, **fields} if one.task_named else fields
    try:
        instruction, source, output, system = (
            one.instruction(values),
            one.source(values),
            one.output(values),
            one.system(values),
        )
    except RecipeError as error:
        return _failed(one, record, task, str(error))
    if not instruction or instruction.isspace() or not output or output.isspace():
        return _failed(one, record, task, say("the instruction or the output comes out empty", "填充后指令或输出为空"))
    return Example(
        task=task,
        instruction=instruction,
        input=source,
        output=output,
        system=system,
        lang=template.lang,
        maker=template.maker,
        parents=(template.id, record.id),
    )


def _lacking(name: str, value: str | None) -> str:
    if value is None:
        return say(f"the field '{name}' is missing", f"缺少字段“{name}”")
    return say(f"the field '{name}' is empty", f"字段“{name}”为空")


def _failed(one: _Ready, record: Record, task: str, why: str, value: str = "") -> Reject:
    where = f"{record.file}:{record.line}" if record.file else ""
    said = value or next(iter(record.fields.values()), "")
    return Reject(task, one.template.maker, "failed", why, where=where, text=said, parents=(one.template.id, record.id))
