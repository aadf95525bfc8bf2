"""Which of two rows is better: the order that every selector walks in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from zhiling import registry
from zhiling.errors import RecipeError, say
from zhiling.types import Example, Score

Scores = Mapping[tuple[str, str], Score]


def value(scores: Scores, row: str, scorer: str) -> float | None:
    """What the scorer said of the row: a finite number, or None where it said nothing that is one."""
    score = scores.get((row, scorer))
    return None if score is None or score.value is None or not math.isfinite(score.value) else score.value


def sign(scorer: str, where: str) -> int:
    """1 where a high value of this scorer is better, -1 where a low one is. Raises RecipeError where neither is."""
    better = registry.get("scorer", scorer, where).facts.get("better", "none")
    if better not in ("high", "low"):
        raise RecipeError(
            say(f"'{scorer}' is neither better high nor low", f"“{scorer}”无所谓高低优劣"),
            where=where,
            mend=say(
                "rank by another scorer, or bound it with 'threshold'", "请改用其他评分器排序，或用 threshold 设界"
            ),
        )
    return 1 if better == "high" else -1


def scored(examples: Sequence[Example], scores: Scores, scorer: str, where: str) -> None:
    """Raise RecipeError when there are rows and the scorer has said nothing about any of them."""
    if examples and not any((row.id, scorer) in scores for row in examples):
        known = sorted({name for _, name in scores})
        raise RecipeError(
            say(f"no row has a score by '{scorer}'", f"没有任何行有“{scorer}”的分数"),
            where=where,
            mend=say(
                f"add '{scorer}' under score: (there are scores by: {', '.join(known) or 'none'})",
                f"请在 score: 下加入“{scorer}”（现有分数来自：{'、'.join(known) or '无'}）",
            ),
        )


def distinct(examples: Sequence[Example]) -> list[Example]:
    """Each row once, by id: whatever order the rows came in, this one is the same.

    Of rows with one id, which may differ in language and maker, the first by these stands.
    """
    once: dict[str, Example] = {}
    for row in sorted(examples, key=lambda row: (row.id, row.lang, row.maker, row.parents)):
        once.setdefault(row.id, row)
    return list(once.values())


def best_first(examples: Sequence[Example], scores: Scores, by: str | None, where: str) -> list[Example]:
    """Each row once, the better ones first: by the scorer named, unscored rows last, and ties by the smaller id."""
    rows = distinct(examples)
    if by is None:
        return rows
    direction = sign(by, where)
    scored(rows, scores, by, where)

    def place(row: Example) -> tuple[bool, float]:
        said = value(scores, row.id, by)
        return said is None, 0.0 if said is None else -direction * said

    return sorted(rows, key=place)
