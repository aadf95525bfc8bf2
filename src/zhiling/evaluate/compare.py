"""Is the tuned model better than its base? The same rows under both, a paired bootstrap, and a verdict in words.

A verdict of "better" or "worse" needs both: an interval of the mean difference that leaves zero out, and a paired test (exact McNemar
for right-or-wrong scores, else a sign-flip randomisation test) below 1 - confidence. The bootstrap alone is too sure of
itself on a handful of rows that happen to agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["better", "worse", "cannot tell"]
Floats = NDArray[np.float64]
BLOCK = 4_000_000
TINY = 1e-9
MANY = 1_000_000
"""A need for more rows than this is not worth a number: the two are as good as equal."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """`n` rows scored under both; `failed` rows that were not, for want of an answer, and are in no other number.

    `base` and `tuned` are mean scores, `difference` tuned - base with its interval `low`..`high`, all None where n is 0. `p` is
    the test's two-sided p-value. `more` is about how many more rows like these it would take to tell the observed difference from
    none (power 0.8), None where there is nothing to tell or no number of rows is worth it. `words` says it all by language: "en" and "zh".
    `gained` and `lost` count the rows that scored higher and lower when tuned; `test` is what `p` is of: "mcnemar" (exact, one group of
    right-or-wrong scores) or "randomisation" (sign flips), "" where n is 0.
    """

    n: int
    failed: int
    base: float | None
    tuned: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    confidence: float
    verdict: Verdict
    more: int | None
    words: dict[str, str]
    gained: int = 0
    lost: int = 0
    test: Literal["", "mcnemar", "randomisation"] = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def compare(
    base: Mapping[str, float | None],
    tuned: Mapping[str, float | None],
    *,
    seed: int = 0,
    draws: int = 10_000,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two models' scores of the same rows, by row id; None is a row without a score.

    The interval is the bootstrap's expanded percentile interval over rows (Hesterberg 2015), which keeps its promise on small
    samples where the plain one is too narrow; where all rows changed alike, or not at all, it is what n such rows leave possible. The result
    depends on the scores and the seed, not on the order of the rows.
    """
    return stratified([(base, tuned)], seed=seed, draws=draws, confidence=confidence)


def stratified(
    groups: Sequence[tuple[Mapping[str, float | None], Mapping[str, float | None]]],
    *,
    seed: int = 0,
    draws: int = 10_000,
    confidence: float = 0.95,
) -> Comparison:
    """`compare` over the mean of groups (tasks), each weighing the same whatever its size; rows are drawn within their group.

    Groups without a pair of scores are left out.
    """
    pairs = [_paired(base, tuned) for base, tuned in groups]
    failed = sum(len(base.keys() | tuned.keys()) - len(x) for (base, tuned), (x, _) in zip(groups, pairs, strict=True))
    pairs = [(x, y) for x, y in pairs if len(x)]
    if not pairs:
        words = {"en": "cannot tell: no row was scored under both", "zh": "无法判断：没有同时得到两个分数的数据"}
        return Comparison(0, failed, None, None, None, None, None, None, confidence, "cannot tell", None, words)
    n = sum(len(x) for x, _ in pairs)
    before, after = (float(np.mean([np.mean(pair[side]) for pair in pairs])) for side in (0, 1))
    differences = [y - x for x, y in pairs]
    rng = np.random.default_rng(seed)
    low, high = _interval(differences, rng, draws, confidence)
    exact = len(pairs) == 1 and all(np.isin(side, (0.0, 1.0)).all() for side in pairs[0])
    gained, lost = (sum(int((sign * group > 0).sum()) for group in differences) for sign in (1, -1))
    p = mcnemar(gained, lost) if exact else _p(differences, rng, draws)
    change = after - before
    sure = p < 1 - confidence and (low > 0 or high < 0)
    verdict: Verdict = ("better" if change > 0 else "worse") if sure else "cannot tell"
    more = None if sure else _more(differences, change, n, confidence)
    en, zh = _words(verdict, change, low, high, n, more, confidence)
    words = {"en": en, "zh": zh}
    test: Literal["mcnemar", "randomisation"] = "mcnemar" if exact else "randomisation"
    return Comparison(
        n, failed, before, after, change, low, high, p, confidence, verdict, more, words, gained, lost, test
    )


def mean_interval(
    groups: Sequence[Mapping[str, float | None]], *, seed: int = 0, draws: int = 10_000, confidence: float = 0.95
) -> tuple[float, float, float] | None:
    """(mean, low, high) of one model's scores, the mean over groups as in `stratified`; None where nothing was scored."""
    values = [np.array([v for _, v in sorted(group.items()) if v is not None], dtype=np.float64) for group in groups]
    values = [group for group in values if len(group)]
    if not values:
        return None
    low, high = _interval(values, np.random.default_rng(seed), draws, confidence, least=0.0)
    return float(np.mean([group.mean() for group in values])), max(0.0, low), min(1.0, high)


def _paired(base: Mapping[str, float | None], tuned: Mapping[str, float | None]) -> tuple[Floats, Floats]:
    both = [
        (x, y)
        for key in sorted(base.keys() & tuned.keys())
        if (x := base[key]) is not None and (y := tuned[key]) is not None
    ]
    return np.array([x for x, _ in both], dtype=np.float64), np.array([y for _, y in both], dtype=np.float64)


def _interval(
    groups: Sequence[Floats], rng: np.random.Generator, draws: int, confidence: float, least: float = -1.0
) -> tuple[float, float]:
    """The expanded percentile interval of the mean of the groups' means, of values from `least` to 1.

    Where all rows of each group agree there is no spread to draw on: so many others could still have gone unseen, each as far off as
    values can be (the "rule of three", about 3 / n).
    """
    if all((group == group[0]).all() for group in groups):
        mean, unseen = (
            float(np.mean([group[0] for group in groups])),
            1 - (1 - confidence) ** (1 / sum(map(len, groups))),
        )
        return mean - unseen * (mean - least), mean + unseen * (1 - mean)
    means = np.zeros(draws)
    for group in groups:
        means += np.concatenate(list(_resampled(group, rng, draws))) / len(groups)
    tail = _tail(len(groups), sum(map(len, groups)), confidence)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _resampled(values: Floats, rng: np.random.Generator, draws: int) -> Iterator[Floats]:
    """Means of `draws` resamples of the values, in blocks that fit the memory."""
    size = max(1, BLOCK // len(values))
    for start in range(0, draws, size):
        picks = rng.integers(0, len(values), (min(size, draws - start), len(values)), dtype=np.int32)
        yield values[picks].mean(axis=1)


def _tail(groups: int, n: int, confidence: float) -> float:
    """The percentile at which a bootstrap of n rows is as wide as Student's t would be: Φ(-t √(n / (n - 1))) for one group."""
    normal, v = NormalDist(), n - groups
    if v < 1:
        return 0.0
    z = normal.inv_cdf(0.5 + confidence / 2)
    # Student's quantile by Cornish-Fisher: exact enough from 4 degrees of freedom on, and no verdict comes from fewer rows.
    t = z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    return normal.cdf(-t * math.sqrt(n / v))


def _p(differences: Sequence[Floats], rng: np.random.Generator, draws: int) -> float:
    """Two-sided p-value of the mean of the groups' means by random signs."""
    observed = abs(float(np.mean([group.mean() for group in differences])))
    sums = np.zeros(draws)
    for group in differences:
        values = group[group != 0] / len(group) / len(differences)
        if len(values):
            sums += np.concatenate(list(_flipped(values, rng, draws)))
    return float((1 + (np.abs(sums) >= observed - 1e-12).sum()) / (1 + draws))


def _flipped(values: Floats, rng: np.random.Generator, draws: int) -> Iterator[Floats]:
    """Sums of the values under random signs: what the difference would be if the two models were exchangeable on each row."""
    size = max(1, BLOCK // len(values))
    for start in range(0, draws, size):
        signs = rng.integers(0, 2, (min(size, draws - start), len(values)), dtype=np.int8) * 2 - 1
        yield signs @ values


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided McNemar test: the probability of a split at least this uneven of the rows that changed, if by a fair coin."""
    n, k = gained + lost, min(gained, lost)
    if n == 0:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2) for i in range(k + 1)]
    return min(1.0, 2 * math.fsum(map(math.exp, logs)))


def _more(differences: Sequence[Floats], change: float, n: int, confidence: float) -> int | None:
    """Rows to add so that a true difference as large as the observed one would be told with power 0.8."""
    if abs(change) < TINY:
        return None
    normal = NormalDist()
    z = normal.inv_cdf(0.5 + confidence / 2) + normal.inv_cdf(0.8)
    share = np.mean([group.var(ddof=1) if len(group) > 1 else 0.25 for group in differences])
    needed = max(z * z * float(share) / change**2, 6)  # fewer than 6 rows can never reach p < 0.05
    more = math.ceil(needed - n)
    return max(1, more) if more < MANY else None


def _words(
    verdict: Verdict, change: float, low: float, high: float, n: int, more: int | None, confidence: float
) -> tuple[str, str]:
    points, span = f"{100 * change:+.1f}", f"{100 * low:+.1f} … {100 * high:+.1f}"
    level = f"{100 * confidence:g}%"
    en = f"{points} points ({level} interval {span}, {n} rows)"
    zh = f"{points} 分（{level} 区间 {span}，{n} 行）"
    if verdict == "better":
        return f"better: {en}", f"更好：{zh}"
    if verdict == "worse":
        return f"worse: {en}", f"更差：{zh}"
    if abs(change) < TINY:
        return f"cannot tell: no difference seen, {en}", f"无法判断：未见差别，{zh}"
    if more is None:
        return f"cannot tell: {en}; the two are as good as equal", f"无法判断：{zh}；两者几乎相同"
    en += f"; about {more} more row{'s' if more > 1 else ''} would be needed to tell"
    return f"cannot tell: {en}", f"无法判断：{zh}；大约还需 {more} 行才能判断"
