"""The leak guard: no training row may show what the evaluation will ask."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeAlias

import numpy as np

from zhiling.errors import RecipeError, say
from zhiling.registry import selector
from zhiling.select.join import pairs
from zhiling.select.rank import distinct, each
from zhiling.select.shingles import LOW, Ints, Sets, build
from zhiling.text import blank, jaccard, normalise, shingles
from zhiling.types import Example, Verdict

View: TypeAlias = Callable[[Example], str]
Match: TypeAlias = tuple[Example, Example]

AT_ONCE = 20_000  # rows in memory
COMMON = 3  # what so many held-out rows have in common is a task's wording, not anyone's content
LEAST = 8  # shingles of content from which on a near match means something
N = 3


@selector("heldout")
def heldout(examples: Sequence[Example], *, heldout: Sequence[Example], threshold: float = 0.8) -> Iterator[Verdict]:
    """Drop the rows that leak a held-out row: the same content, or content that shares most of its wording.

    The content of a row is its input, or its instruction where it has none. Dropped are, with the held-out row as rival: rows
    of the same task with equal content; rows of any task with equal content and output; and, for longer texts, both again with
    a Jaccard of 3-token shingles >= threshold instead of equality. Two things are not content: shingles that three or more
    held-out rows share (a template's wording, its worked examples), and an input that three or more held-out rows
    share under different instructions and outputs (a passage they ask about, a list of labels); there the whole
    prompt is compared. Raises RecipeError for a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        what = say(
            f"a Jaccard threshold lies above 0 and at most at 1, not {threshold}",
            f"Jaccard 阈值须大于 0 且不超过 1，不能是 {threshold}",
        )
        raise RecipeError(what, where="heldout.threshold")
    rows, held = distinct(examples), distinct(heldout)
    shared = contexts(held)
    groups: list[tuple[View, list[Example]]] = [
        (content, [row for row in held if normalise(row.input) not in shared]),
        (_prompt, [row for row in held if normalise(row.input) in shared]),
    ]
    leaks: dict[str, tuple[str, str]] = {}
    stream = iter(rows) if held else iter(())
    while some := list(
        islice(stream, max(AT_ONCE, 4 * len(held)))
    ):  # what held-out rows cost is paid once for each part
        leaks |= _leaks(some, groups, threshold)

    def verdict(_: int, row: str) -> Verdict:
        why, rival = leaks.get(row, ("", ""))
        return Verdict(row, "heldout", row not in leaks, why, rival)

    yield from each(examples, rows, verdict)


def _leaks(
    rows: Sequence[Example], groups: Sequence[tuple[View, Sequence[Example]]], threshold: float
) -> dict[str, tuple[str, str]]:
    """{row: (why, the held-out row)} for those of the rows that leak one."""
    found: dict[str, tuple[str, str]] = {}
    for why, find in (
        (say("its wording and output are nearly a held-out row's", "内容与输出几乎与留出行相同"), _near_with_output),
        (say("its wording is nearly a held-out row's", "内容与留出行几乎相同"), _near),
        (say("equals a held-out row", "与留出行相同"), _equal),
    ):  # the plainest reason comes last and stands
        for view, group in groups:
            found |= {row.id: (why, rival.id) for row, rival in find(rows, group, view, threshold)}
    return found


def content(row: Example) -> str:
    return row.instruction if blank(row.input) else row.input


def _prompt(row: Example) -> str:
    return row.prompt


def contexts(held: Sequence[Example]) -> set[str]:
    """The inputs, normalised, that COMMON or more held-out rows share under different instructions and outputs."""
    asked, answers = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for row in held:
        if not blank(row.input):
            asked[normalise(row.input)].add(normalise(row.instruction))
            answers[normalise(row.input)].add(normalise(row.output))
    return {given for given, instructions in asked.items() if len(instructions) >= COMMON and len(answers[given]) > 1}


def _equal(rows: Sequence[Example], held: Sequence[Example], view: View, threshold: float) -> Iterator[Match]:
    """Rows with equal content in one task, or equal content and output in any two."""
    known: dict[tuple[str, str], Example] = {}
    for row in reversed(held):  # so that the smallest id stands
        if said := normalise(view(row)):
            known[f"task {row.task}", said] = known["any", f"{said}\0{normalise(row.output)}"] = row
    for row in rows:
        said = normalise(view(row))
        rival = known.get((f"task {row.task}", said)) or known.get(("any", f"{said}\0{normalise(row.output)}"))
        if rival:
            yield row, rival


def _near(rows: Sequence[Example], held: Sequence[Example], view: View, threshold: float) -> Iterator[Match]:
    """Rows of one task whose content reaches the threshold."""
    for task in sorted({row.task for row in held}):
        mine, theirs = ([row for row in side if row.task == task] for side in (rows, held))
        yield from _alike(mine, theirs, view, threshold)


def _near_with_output(
    rows: Sequence[Example], held: Sequence[Example], view: View, threshold: float
) -> Iterator[Match]:
    """Rows of any task whose content and output together reach the threshold, and whose outputs alone do."""
    for row, rival in _alike(rows, held, lambda row: f"{view(row)}\n{row.output}", threshold):
        if jaccard(shingles(row.output, N), shingles(rival.output, N)) >= threshold:
            yield row, rival


def _alike(rows: Sequence[Example], held: Sequence[Example], view: View, threshold: float) -> Iterator[Match]:
    held = list({normalise(view(row)): row for row in reversed(held)}.values())[::-1]
    if not rows or not held:
        return
    sets = _without_wording(build([view(row) for row in (*held, *rows)], N), len(held))
    long = np.flatnonzero(sets.sizes >= LEAST)
    left, right, _ = pairs(sets, threshold, long[long < len(held)], long[long >= len(held)])
    for a, b in zip(reversed(left.tolist()), reversed(right.tolist()), strict=True):  # so that the smallest id stands
        yield rows[b - len(held)], held[a]


def _without_wording(sets: Sets, held: int) -> Sets:
    """The sets without the shingles that COMMON or more of the first `held` of them share."""
    owner, shingle = sets.keys >> 32, sets.keys & LOW
    common = np.bincount(shingle[owner < held], minlength=int(shingle.max(initial=0)) + 1) >= COMMON
    stays = ~common[shingle]
    shared: Ints = np.bincount(owner[stays], minlength=len(sets))
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(shared)])
    return replace(sets, sizes=sets.sizes - sets.shared + shared, starts=starts, keys=sets.keys[stays])
