"""Rows for arithmetic, drawn and computed: sums, and word problems whose steps and answer follow from their numbers. No model is asked.

The problems are data (library/prompts/arithmetic.yaml, or a file of your own): a text with numbered slots and the sums that solve it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Annotated, Any

from annotated_types import Ge, Le

from zhiling.construct.generate.asking import Book, book
from zhiling.construct.verify.arithmetic import evaluate
from zhiling.errors import RecipeError, say
from zhiling.registry import constructor
from zhiling.types import Example, Reject, Task, row_seed

_slot = re.compile(r"\{(\w+)\}")
TRIES = 40
"""How often numbers are drawn for one problem before it is given up: sums must come out whole and not below zero."""


def ready(settings: Mapping[str, Any], task: Task) -> int:
    """The most rows for one task."""
    return int(settings["rows"]) * len(settings["langs"] or task.langs)


@constructor(
    "arithmetic",
    makes="rows",
    asks=lambda _: False,
    ready=ready,
    paper="GSM8K (Cobbe et al. 2021), arXiv:2110.14168, for the form",
)
def arithmetic(
    *,
    task: Task,
    seed: int,
    here: Path,
    rows: Annotated[int, Ge(1)] = 100,
    plain: Annotated[float, Ge(0), Le(1)] = 0.4,
    largest: Annotated[int, Ge(5)] = 60,
    langs: list[str] | None = None,
    prompts: str | None = None,
) -> list[Example | Reject]:
    """Per language `rows` different problems with steps and answer: the share `plain` of them sums, the rest word problems.

    Numbers are drawn up to `largest`; results of word problems are whole and positive. Fewer rows come out where the numbers run out, which a
    Reject says. Raises RecipeError for a problem whose sums cannot be computed.
    """
    words = book("arithmetic", prompts, here)
    out: list[Example | Reject] = []
    for lang in langs or task.langs:
        seen: set[str] = set()
        for at in range(rows):
            random = Random(row_seed(seed, f"{lang}:{at}"))
            for _ in range(TRIES):
                make = _plain if at < plain * rows else _problem
                row = make(task.name, lang, words, largest, random)
                if row is not None and row.input not in seen:
                    seen.add(row.input)
                    out.append(row)
                    break
            else:
                why = say(f"draw: no new problem in {TRIES} tries", f"draw：{TRIES} 次都没有抽到新题")
                out.append(Reject(task.name, "arithmetic:drawn", "failed", why, text=f"{lang} {at}"))
    return out


def _row(task: str, lang: str, words: Book, question: str, steps: list[str], answer: str, random: Random) -> Example:
    wording = random.choice(words.more["instructions"][lang])
    mark = words.more["answer"][lang].replace("{answer}", answer)
    return Example(task, wording, question, "\n".join([*steps, mark]), lang=lang, maker="arithmetic:drawn")


def _plain(task: str, lang: str, words: Book, largest: int, random: Random) -> Example | None:
    """A sum of two to four numbers, its value computed step by step."""
    count = random.choice((2, 2, 3, 4))
    text = str(random.randint(2, largest))
    for _ in range(count - 1):
        text = f"{text} {random.choice('+-×')} {random.randint(2, largest)}"
    if count > 2 and random.random() < 0.5:
        first, rest = text.split(" ", 1)
        text = f"{first} {rest.split(' ', 1)[0]} ({rest.split(' ', 1)[1]})"
    value = evaluate(text)
    if value is None:
        return None
    ask = random.choice(words.more["sums"][lang]).replace("{sum}", text)
    return _row(task, lang, words, ask, [f"{text} = {value}"], str(value), random)


def _problem(task: str, lang: str, words: Book, largest: int, random: Random) -> Example | None:
    """A word problem with drawn numbers, names and things; None where a sum does not come out whole and positive."""
    problem = random.choice(words.more["problems"])
    values: dict[str, str] = {name: str(random.randint(2, largest)) for name in "abc"}
    texts = {name: random.choice(many) for name, many in words.more["things"][lang].items()}
    steps = []
    for name, sum_ in problem["steps"].items():
        written = _slot.sub(lambda found: values[found[1]], sum_)
        value = evaluate(written)
        if value is None:
            raise RecipeError(
                say(f"this sum cannot be computed: {sum_}", f"无法计算的算式：{sum_}"),
                where=f"prompts/{words.name}.yaml",
            )
        if value.denominator != 1 or value <= 0 or value > Fraction(10**6):
            return None
        values[name] = str(value)
        steps.append(f"{written} = {value}")
    question = _slot.sub(lambda found: {**texts, **values}.get(found[1], found[0]), problem[lang])
    return _row(task, lang, words, question, steps, list(values.values())[-1], random)
