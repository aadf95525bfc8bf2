"""Which of two rows is better: the order that every selector walks in."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

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


def weights_of(by: str | list[str] | dict[str, float], where: str) -> dict[str, float]:
    """`by` as {scorer: weight}. Raises RecipeError when it names none, or a weight is not above 0."""
    weights = {by: 1.0} if isinstance(by, str) else dict(by) if isinstance(by, dict) else dict.fromkeys(by, 1.0)
    if not weights or not all(weight > 0 for weight in weights.values()):
        raise RecipeError(say("'by' needs scorers with weights above 0", "“by”须列出评分器，权重大于 0"), where=where)
    return weights


def task_ranks(pool: Sequence[Example], scores: Scores, weights: Mapping[str, float], where: str) -> np.ndarray:
    """Weighted mean rank within the task, in [0, 1]; -1 for a row that none of the scorers could score."""
    total, weight = np.zeros(len(pool)), np.zeros(len(pool))
    members: dict[str, list[int]] = defaultdict(list)
    for at, row in enumerate(pool):
        members[row.task].append(at)
    for scorer, share in weights.items():
        direction = sign(scorer, where)
        scored(pool, scores, scorer, where)
        said = [value(scores, row.id, scorer) for row in pool]
        for task in members.values():
            known = np.array([at for at in task if said[at] is not None], dtype=np.int64)
            values = np.array([said[at] for at in known], dtype=float) * direction
            total[known] += share * _ranks(values)
            weight[known] += share
    return np.where(weight > 0, np.round(total / np.maximum(weight, 1e-9), 9), -1.0)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0 (lowest) to 1 (highest); equal values share the mean of their ranks; a single value ranks 0.5."""
    if len(values) < 2:
        return np.full(len(values), 0.5)
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    before = np.cumsum(counts) - counts
    return np.asarray((before + (counts - 1) / 2)[at] / (len(values) - 1))
