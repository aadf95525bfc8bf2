"""Which of two rows is better: the order that every selector walks in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from zhiling import registry
from zhiling.errors import RecipeError, say
from zhiling.select.neutral import neutral, ranks
from zhiling.text import lang, length
from zhiling.types import Example, Score, Verdict, row_seed

HEAD = 500  # characters of an output that tell its language

Scores = Mapping[tuple[str, str], Score]


def value(scores: Scores, row: str, scorer: str) -> float | None:
    """What the scorer said of the row: a finite number, or None where it said nothing that is one."""
    score = scores.get((row, scorer))
    return None if score is None or score.value is None or not math.isfinite(score.value) else score.value


def ids(rows: Sequence[Example]) -> Sequence[str]:
    """The rows' ids. A pool of millions (`zhiling.pool`) knows them, and what `labels` gives, without reading a row."""
    known: Sequence[str] | None = getattr(rows, "ids", None)
    return [row.id for row in rows] if known is None else known


def labels(rows: Sequence[Example], name: str) -> list[str]:
    """Each row's task, lang or maker."""
    column: Callable[[str], list[str]] | None = getattr(rows, "column", None)
    return [getattr(row, name) for row in rows] if column is None else column(name)


def fields(rows: Sequence[Example], names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """These fields of each row in turn, two or more; of a pool no others are read."""
    read: Callable[..., Iterator[tuple[Any, ...]]] | None = getattr(rows, "fields", None)
    if read is not None:
        return read(names)
    return map(attrgetter(*names), rows)


def among(rows: Sequence[Example], places: np.ndarray) -> Iterator[Example]:
    """The rows at these places, which ascend; a pool is gone through once, and parts without one of them are not read."""
    those: Callable[[np.ndarray], Sequence[Example]] | None = getattr(rows, "those", None)
    if those is None:
        return (rows[at] for at in places.tolist())
    mask = np.zeros(len(rows), dtype=bool)
    mask[places] = True
    return iter(those(mask))


def values(rows: Sequence[Example], scores: Scores, scorer: str) -> np.ndarray:
    """What the scorer said of each row, as `value` has it, with NaN for None."""
    column: Callable[..., np.ndarray] | None = getattr(scores, "column", None)
    if column is not None and hasattr(rows, "at"):
        said = column(scorer, rows)
        return np.where(np.isfinite(said), said, np.nan)
    found = (value(scores, row, scorer) for row in ids(rows))
    return np.array([np.nan if said is None else said for said in found], dtype=float)


def standing(rows: Sequence[Example], scores: Scores, scorer: str) -> np.ndarray:
    """What rows are ranked by: the scorer's `values`; of one that grows with length (the fact `length_neutral`), what length leaves."""
    said = values(rows, scores, scorer)
    if not registry.get("scorer", scorer).facts.get("length_neutral"):
        return said
    # Lengths are in characters or in words: a Chinese answer is compared with Chinese ones.
    groups, lengths, named = list[str](), list[int](), dict[str, str]()
    for task, output in fields(rows, ("task", "output")):
        group = f"{task}\n{'latin' if output.isascii() else lang(output[:HEAD])}"
        groups.append(named.setdefault(group, group))
        lengths.append(length(output))
    return neutral(said, lengths, groups)


def each(
    examples: Sequence[Example], rows: Sequence[Example], verdict: Callable[[int, str], Verdict]
) -> Iterator[Verdict]:
    """Of each example the verdict(i, id) of the row `rows[i]` that has its id."""
    known = ids(rows)
    if rows is examples:
        yield from (verdict(at, row) for at, row in enumerate(known))
        return
    places = {row: at for at, row in enumerate(known)}
    yield from (verdict(places[row], row) for row in ids(examples))


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
    if len(examples) and not any((row, scorer) in scores for row in ids(examples)):
        known = sorted(getattr(scores, "scorers", None) or {name for _, name in scores})
        raise RecipeError(
            say(f"no row has a score by '{scorer}'", f"没有任何行有“{scorer}”的分数"),
            where=where,
            mend=say(
                f"add '{scorer}' under score: (there are scores by: {', '.join(known) or 'none'})",
                f"请在 score: 下加入“{scorer}”（现有分数来自：{'、'.join(known) or '无'}）",
            ),
        )


def distinct(examples: Sequence[Example]) -> Sequence[Example]:
    """Each row once, by id: whatever order the rows came in, this one is the same.

    Of rows with one id, which may differ in language and maker, the first by these stands. A pool is so already.
    """
    if hasattr(examples, "at"):
        return examples
    once: dict[str, Example] = {}
    for row in sorted(examples, key=lambda row: (row.id, row.lang, row.maker, row.parents)):
        once.setdefault(row.id, row)
    return list(once.values())


def seeded(pool: Sequence[Example], seed: int) -> np.ndarray:
    """The places of the rows in an order that depends on seed and ids alone."""
    known = ids(pool)
    drawn = np.fromiter((row_seed(seed, row) for row in known), dtype=np.int64, count=len(known))
    return np.argsort(drawn, kind="stable")  # the pool lies in the order of ids, which settles ties


def best_first(examples: Sequence[Example], scores: Scores, by: str | None, where: str) -> Sequence[Example]:
    """Each row once, the better ones first: by the scorer named, unscored rows last, and ties by the smaller id."""
    rows = distinct(examples)
    if by is None:
        return rows
    every = list(rows)
    return [every[at] for at in best_order(rows, scores, by, where).tolist()]


def best_order(rows: Sequence[Example], scores: Scores, by: str, where: str) -> np.ndarray:
    """The places of the rows, the better ones first: by the scorer named, unscored rows last, and ties in the rows' own order."""
    direction = sign(by, where)
    scored(rows, scores, by, where)
    said = np.array(standing(rows, scores, by), dtype=float)  # None becomes NaN, which sorts last
    return np.argsort(-direction * said, kind="stable")


def weights_of(by: str | list[str] | dict[str, float], where: str) -> dict[str, float]:
    """`by` as {scorer: weight}. Raises RecipeError when it names none, or a weight is not above 0."""
    weights = {by: 1.0} if isinstance(by, str) else dict(by) if isinstance(by, dict) else dict.fromkeys(by, 1.0)
    if not weights or not all(weight > 0 for weight in weights.values()):
        raise RecipeError(say("'by' needs scorers with weights above 0", "“by”须列出评分器，权重大于 0"), where=where)
    return weights


def task_ranks(pool: Sequence[Example], scores: Scores, weights: Mapping[str, float], where: str) -> np.ndarray:
    """Weighted mean rank within the task, in [0, 1]; -1 for a row that none of the scorers could score."""
    total, weight = np.zeros(len(pool)), np.zeros(len(pool))
    numbers: dict[str, int] = {}
    codes = (numbers.setdefault(task, len(numbers)) for task in labels(pool, "task"))
    tasks = np.fromiter(codes, dtype=np.int32, count=len(pool))
    members = np.split(np.argsort(tasks, kind="stable"), np.cumsum(np.bincount(tasks))[:-1])
    for scorer, share in weights.items():
        direction = sign(scorer, where)
        scored(pool, scores, scorer, where)
        said = np.array(standing(pool, scores, scorer), dtype=float) * direction
        for of_task in members:
            known = of_task[~np.isnan(said[of_task])]
            total[known] += share * ranks(said[known])
            weight[known] += share
    return np.where(weight > 0, np.round(total / np.maximum(weight, 1e-9), 9), -1.0)
