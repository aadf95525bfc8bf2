"""A linter for template definitions, and a way to look at one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

from zhiling import text
from zhiling.construct.bind import bind
from zhiling.construct.fill import fill
from zhiling.construct.library import Definition, Fault, faults, parse_text, read_safely
from zhiling.construct.sandbox import compiled
from zhiling.errors import RecipeError, say
from zhiling.types import Example, Record, Task
from zhiling.yamlines import Where

NEAR = 0.8
"""Shingle Jaccard above which two phrasings of a language say the same."""
_jinja = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.S)
_format_slot = re.compile(r"(?<!\{)\{[^\W\d]\w*\}(?!\})")
_latin_run = re.compile(r"[A-Za-z]+(?:[ ,]+[A-Za-z]+){3,}")
_han = re.compile(f"[{text.HAN}]")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a definition: an "error" keeps it from being used, a "warning" makes its rows worse.

    `where` is "file:line key", or the key alone for a definition that came from no file.
    """

    level: Literal["error", "warning"]
    where: str
    what: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.level}: {self.what}" + (f" — {self.mend}" if self.mend else "")


def check(source: Definition | str | Path) -> list[Finding]:
    """Everything the linter has to say about a definition, or about the YAML file of one; empty when it is in order."""
    if isinstance(source, Definition):
        definition, where = source, Where(source.file, {})
    else:
        try:
            definition, where = parse_text(read_safely(source), str(source))
        except RecipeError as error:
            return [Finding("error", error.where, error.what, error.mend)]
    out = [Finding("error", where.at(key), what, mend) for key, what, mend in faults(definition)]
    if not out:  # a text that does not compile cannot be looked into
        checks = (_undescribed, _unused, _leaks, _said_twice, _near, _mixed, _unfilled, _examples, _wordless)
        out = [Finding("warning", where.at(key), what, mend) for one in checks for key, what, mend in one(definition)]
    return out


def show(definition: Definition) -> str:
    """The definition for reading: what it is for, its fields, and every phrasing, rendered with its first example."""
    names = ", ".join(definition.fields)
    lines = [f"{definition.id}  [{definition.family}]  {', '.join(definition.langs)}"]
    lines += [f"  {words}" for words in definition.description.values()]
    lines += [say(f"  fields: {names} -> {definition.target}", f"  字段：{names} → {definition.target}")]
    shown = {example.maker: example for example in rendered(definition)}
    for phrasing in definition.phrasings:
        name = definition.name(phrasing)
        lines.append(f"\n  {name}  ({phrasing.register})")
        example = shown.get(f"template:{name}")
        for part in (example.prompt, f"→ {example.output}") if example else (phrasing.instruction,):
            lines += [f"    {line}" for line in part.splitlines()]
    return "\n".join(lines)


def rendered(definition: Definition) -> Iterator[Example]:
    """Every phrasing filled with the definition's first example in its language."""
    for lang in definition.langs:
        task = sample_task(definition, lang)
        records = [Record(task.name, row, lang=lang) for row in (definition.examples or {}).get(lang, ())[:1]]
        for template in bind(definition, task):
            yield from (made for made in fill(records, [template], task=task, seed=0) if isinstance(made, Example))


def sample_task(definition: Definition, lang: str) -> Task:
    """A task in one language that the definition fits."""
    inputs = tuple(name for name in definition.fields if name != definition.target)
    answers = {row.get(definition.target, "") for row in (definition.examples or {}).get(lang, ())}
    return Task(
        name=definition.id,
        description=definition.description.get(lang, ""),
        family=definition.family,
        inputs=inputs or ("input",),
        target=definition.target or "output",
        langs=(lang,),
        labels=tuple(definition.labels or sorted(answers)),
    )


_Said = Iterator[Fault]


def _undescribed(definition: Definition) -> _Said:
    for lang in definition.langs:
        if not definition.description.get(lang):
            yield (
                ("description",),
                say(f"no task description in '{lang}'", f"缺少“{lang}”的任务描述"),
                say("say in one sentence what the task is", "用一句话说明任务"),
            )


def _unused(definition: Definition) -> _Said:
    used: set[str] = set()
    for phrasing in definition.phrasings:
        slots = definition.slots(phrasing)
        used |= compiled(phrasing.instruction + phrasing.system).names
        used |= compiled(slots.input).names | compiled(slots.output).names if slots else set()
    for name in sorted(set(definition.fields) - used):
        yield (
            ("fields",),
            say(f"the field '{name}' is never used", f"字段“{name}”从未使用"),
            say("use it or remove it", "请使用或删去"),
        )


def _leaks(definition: Definition) -> _Said:
    for i, phrasing in enumerate(definition.phrasings):
        slots = definition.slots(phrasing)
        asked = compiled(phrasing.instruction).names | (compiled(slots.input).names if slots else set())
        asked |= {name for turn in phrasing.turns for said in turn.values() for name in compiled(said).names}
        target = phrasing.target or definition.target
        if target in asked:
            yield (
                ("phrasings", i),
                say(f"the answer '{target}' stands in the question", f"答案“{target}”出现在提问之中"),
                say("ask without it", "请从提问中去掉"),
            )


def _said_twice(definition: Definition) -> _Said:
    for i, phrasing in enumerate(definition.phrasings):
        slots = definition.slots(phrasing)
        repeated = compiled(phrasing.instruction).names & compiled(slots.input).names if slots else frozenset()
        for name in sorted(repeated):
            yield (
                ("phrasings", i),
                say(f"'{name}' stands in the instruction and again in the input", f"“{name}”在指令和输入中各出现一次"),
                say('write input: "" for this phrasing', '请为这条措辞写上 input: ""'),
            )


def _near(definition: Definition) -> _Said:
    grams = [text.shingles(phrasing.instruction) for phrasing in definition.phrasings]
    for i, k in combinations(range(len(grams)), 2):
        one, other = definition.phrasings[i], definition.phrasings[k]
        if one.lang == other.lang and text.jaccard(grams[i], grams[k]) > NEAR:
            name = definition.name(one)
            yield (
                ("phrasings", k),
                say(f"nearly the same as '{name}'", f"与“{name}”几乎相同"),
                say("reword it or drop it", "请改写或删去"),
            )


def _mixed(definition: Definition) -> _Said:
    for i, phrasing in enumerate(definition.phrasings):
        plain = _jinja.sub(" ", phrasing.instruction)
        foreign = (
            _latin_run.search(plain) if phrasing.lang == "zh" else _han.search(plain) if phrasing.lang == "en" else None
        )
        if foreign:
            quoted = text.cut(foreign[0], 30)
            yield (
                ("phrasings", i, "instruction"),
                say(
                    f"'{quoted}' is not in the phrasing's language '{phrasing.lang}'",
                    f"“{quoted}”不属于该措辞的语言“{phrasing.lang}”",
                ),
                say("keep one language to a phrasing", "每条措辞只用一种语言"),
            )


def _unfilled(definition: Definition) -> _Said:
    for i, phrasing in enumerate(definition.phrasings):
        slot = _format_slot.search(_jinja.sub(" ", phrasing.instruction))
        if slot:
            yield (
                ("phrasings", i, "instruction"),
                say(f"'{slot[0]}' stays as it is when rendered", f"“{slot[0]}”渲染后会原样保留"),
                say(f"a field is written {{{slot[0]}}}", f"字段应写作 {{{slot[0]}}}"),
            )


def _examples(definition: Definition) -> _Said:
    for lang, rows in (definition.examples or {}).items():
        for i, row in enumerate(rows):
            for name in sorted(set(row) ^ set(definition.fields)):
                yield (
                    ("examples", lang, i),
                    say(f"the example and the fields disagree about '{name}'", f"示例与字段声明不一致：“{name}”"),
                    say("give every declared field, and no other", "请给出且仅给出已声明的字段"),
                )


def _wordless(definition: Definition) -> _Said:
    for label, words in (definition.labels or {}).items():
        for lang in definition.langs:
            if not words.get(lang):
                yield (
                    ("labels", label),
                    say(f"no word for it in '{lang}'", f"缺少“{lang}”的说法"),
                    say("the raw label would be shown", "否则会直接显示原始标签"),
                )
