"""Is one way of tuning better than another? The same rows under models tuned several times each, with an interval over both.

Rows differ, and so do tunings from seed to seed: an interval over rows alone takes the luck of one tuning for a finding. Every row is
scored in every seed, so the two are crossed random effects, and the variance of the mean difference is theirs added up less what
their interaction makes both count (Owen 2007, "The pigeonhole bootstrap"; Searle, Casella & McCulloch 1992 for the moments).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from zhiling.evaluate.compare import Verdict

Floats = NDArray[np.float64]
Scores = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Crossed:
    """`rows` scored in all of `seeds` pairs of tunings; `first` and `second` are the means over groups, seeds and rows.

    `difference` is first - second with its interval `low`..`high`; `each` the difference in every seed. All are None (`each` empty)
    where no row was scored everywhere, low and high also where there is too little to tell a spread from. `more` is about how many more
    rows it would take to tell the difference seen (power 0.8) with these seeds; None where it is told, where there is none, or where the seeds
    alone differ so much that only more of them would help. `words` says it all by language: "en" and "zh".
    """

    rows: int
    seeds: int
    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    each: tuple[float, ...]
    verdict: Verdict
    more: int | None = None
    words: Mapping[str, str] = field(default_factory=dict)


def crossed(
    first: Sequence[Scores], second: Sequence[Scores], groups: Mapping[str, str], *, confidence: float = 0.95
) -> Crossed:
    """Compare two ways by their scores of the same rows, a mapping {row: score} for each seed; None is a row without a score.

    `groups` names each row's task: every task weighs the same, whatever its size. A verdict needs an interval that leaves zero out.
    Raises ValueError unless both ways have the same number of seeds, two at least.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"two ways with the same two or more seeds are compared, not {len(first)} and {len(second)}")
    rows = sorted(row for row in groups if all(side.get(row) is not None for side in (*first, *second)))
    if not rows:
        words = {"en": "cannot tell: no row was scored everywhere", "zh": "无法判断：没有在所有模型下都得分的数据"}
        return Crossed(0, len(first), None, None, None, None, None, (), "cannot tell", None, words)
    values = np.array([[[side[row] for row in rows] for side in way] for way in (first, second)], dtype=np.float64)
    names = sorted({groups[row] for row in rows})
    members = [np.array([groups[row] == name for row in rows]) for name in names]
    means = np.mean([values[:, :, mine].mean(axis=2) for mine in members], axis=0)  # (way, seed)
    each = means[0] - means[1]
    difference = float(each.mean())
    parts = [(values[0] - values[1])[:, mine] for mine in members]
    low, high = _interval(parts, each, confidence)
    sure = low is not None and high is not None and (low > 0 or high < 0)
    verdict: Verdict = ("better" if difference > 0 else "worse") if sure else "cannot tell"
    one, other = float(means[0].mean()), float(means[1].mean())
    more = None if sure else _more(parts, each, confidence)
    words = dict(
        zip(("en", "zh"), _words(verdict, difference, low, high, len(rows), each, more, confidence), strict=True)
    )
    return Crossed(len(rows), len(first), one, other, difference, low, high, tuple(each.tolist()), verdict, more, words)


def _interval(groups: Sequence[Floats], each: Floats, confidence: float) -> tuple[float | None, float | None]:
    """Student's interval of the mean of groups' means; a group is (seeds, rows) of differences."""
    n, seeds = sum(group.shape[1] for group in groups), len(each)
    if not any(group.any() for group in groups):  # nothing changed anywhere: so much could still have gone unseen
        unseen = 1 - (1 - confidence) ** (1 / n)
        return -unseen, unseen
    free = n - len(groups)
    if free < 1:
        return None, None
    spread = [(group.mean(axis=0) - group.mean()) for group in groups]
    pooled = sum(float((row**2).sum()) for row in spread) / free  # stands in for a group of a single row
    by_rows = sum((float(row.var(ddof=1)) if len(row) > 1 else pooled) / len(row) for row in spread) / len(groups) ** 2
    by_seeds = float(each.var(ddof=1)) / seeds
    both = sum(_interaction(group) / group.size for group in groups) / len(groups) ** 2
    variance = max(by_rows, by_seeds, by_rows + by_seeds - both)
    parts = by_rows**2 / free + by_seeds**2 / (seeds - 1)
    if variance <= 0 or parts <= 0:
        return None, None
    reach = student(0.5 + confidence / 2, max(1.0, variance**2 / parts)) * math.sqrt(variance)
    return float(each.mean()) - reach, float(each.mean()) + reach


def _more(groups: Sequence[Floats], each: Floats, confidence: float) -> int | None:
    """Rows to add so that a difference as large as the one seen would be told, the spread between seeds staying what it is."""
    n, change = sum(group.shape[1] for group in groups), float(each.mean())
    if abs(change) < 1e-9:
        return None
    normal = NormalDist()
    allowed: float = (change / (normal.inv_cdf(0.5 + confidence / 2) + normal.inv_cdf(0.8))) ** 2
    by_rows: float = sum(float(group.mean(axis=0).var(ddof=1)) if group.shape[1] > 1 else 0.25 for group in groups)
    left = allowed - float(each.var(ddof=1)) / len(each)
    if left <= 0:
        return None
    needed: float = by_rows / len(groups) / left - n
    return max(1, math.ceil(needed))


def _words(
    verdict: Verdict,
    change: float,
    low: float | None,
    high: float | None,
    rows: int,
    each: Floats,
    more: int | None,
    confidence: float,
) -> tuple[str, str]:
    span = "?" if low is None or high is None else f"{100 * low:+.1f} … {100 * high:+.1f}"
    level, seeds = f"{100 * confidence:g}%", len(each)
    en = f"{100 * change:+.1f} points ({level} interval over rows and seeds {span}, {rows} rows, {seeds} seeds)"
    zh = f"{100 * change:+.1f} 分（行与种子的 {level} 区间 {span}，{rows} 行，{seeds} 个种子）"
    if verdict != "cannot tell":
        return f"{verdict}: {en}", f"{'更好' if verdict == 'better' else '更差'}：{zh}"
    if abs(change) < 1e-9:
        return f"cannot tell: no difference seen, {en}", f"无法判断：未见差别，{zh}"
    if more is None:
        return (
            f"cannot tell: {en}; more tunings with other seeds would be needed",
            f"无法判断：{zh}；需要更多种子的调优",
        )
    en += f"; about {more} more row{'s' if more > 1 else ''} would be needed to tell"
    return f"cannot tell: {en}", f"无法判断：{zh}；大约还需 {more} 行才能判断"


def _interaction(group: Floats) -> float:
    """The mean square of what neither the row nor the seed explains."""
    seeds, rows = group.shape
    if rows < 2:
        return 0.0
    rest: Floats = group - group.mean(axis=0) - group.mean(axis=1, keepdims=True) + group.mean()
    return float(np.square(rest).sum() / ((seeds - 1) * (rows - 1)))


def student(probability: float, freedom: float) -> float:
    """The quantile of Student's t, to about 1e-4, for probabilities above 0.5 and 1 or more (also broken) degrees of freedom.

    With t = sqrt(v) tan(a) the density of a is proportional to cos(a)^(v - 1), which is summed up on a grid.
    """
    angles = np.linspace(0.0, math.pi / 2, 200_001)
    density = np.cos(angles) ** (freedom - 1)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    angle = float(np.interp((probability - 0.5) * 2, below / below[-1], angles))
    return math.sqrt(freedom) * math.tan(angle)
