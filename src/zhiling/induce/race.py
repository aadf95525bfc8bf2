"""The race: candidates run over the same rows, the worst leave early, and calls go where they decide. No model is known here.

Successive halving (Karnin et al. 2013) under a budget of calls, with the stopping rule of Hoeffding races (Maron and Moore 1994) on
paired differences: all candidates see the same rows, so what makes a row hard for everybody cancels out, and a candidate that is
behind the leader beyond chance leaves before its half is up. Whoever leaves for the budget's sake is told so, not called worse.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, fmean, stdev
from typing import Literal, TypeAlias

Fate: TypeAlias = Literal["running", "worse", "halved", "failed"]
Execute: TypeAlias = Callable[[int, Sequence[int]], Awaitable[Sequence[float | None]]]
"""(candidate, rows) -> a value per row, higher better, None where the row could not be scored."""
Left: TypeAlias = Callable[[], int]
"""How many (candidate, row) pairs may still be executed."""

LEAST = 6
"""Rows on which two candidates must have met before one is called worse: fewer can hardly tell."""


@dataclass(slots=True)
class Runner:
    """A candidate in the race: its values by row, and how it came to leave. `lead` is the leader's mean advantage over it at
    that moment, at least `sure` with the race's confidence, over `met` rows that both had run."""

    values: dict[int, float | None] = field(default_factory=dict)
    fate: Fate = "running"
    place: int = 0
    of: int = 0
    lead: float = 0.0
    sure: float = 0.0
    met: int = 0
    rival: int | None = None

    @property
    def scored(self) -> list[float]:
        """The values that there are."""
        return [value for value in self.values.values() if value is not None]

    @property
    def mean(self) -> float:
        """The mean of its values; -inf without any."""
        return fmean(self.scored) if self.scored else -math.inf


@dataclass(slots=True)
class Standing:
    """How the race ended: the runners, and their numbers from best to worst (those who ran further first)."""

    runners: list[Runner]
    order: list[int]
    rows: int
    stopped: str = ""


class Race:
    """A race under way; candidates may still `enter` between rungs, and catch up on the rows that the others have run."""

    def __init__(self, execute: Execute, rows: int, left: Left, confidence: float = 0.95) -> None:
        self.execute, self.rows, self.left, self.confidence = execute, rows, left, confidence
        self.runners: list[Runner] = []
        self.seen = 0
        self._tests = 1

    def enter(self) -> int:
        """A new candidate's number."""
        self.runners.append(Runner())
        return len(self.runners) - 1

    @property
    def running(self) -> list[int]:
        """Those still in the race, best first; ties go to who entered first."""
        still = [i for i, runner in enumerate(self.runners) if runner.fate == "running"]
        return sorted(still, key=lambda i: (-self.runners[i].mean, i))

    async def rung(self, rungs_left: int, floor: int = 2) -> bool:
        """One rung: everybody still running takes as many new rows as this rung's share of the calls pays for; then the field is cut.

        `rungs_left` counts this one; the field is never cut below `floor`. False when there was nothing left to run.
        """
        field_ = self.running
        share = self.left() // max(1, rungs_left)
        behind = sum(self.seen - len(self.runners[i].values) for i in field_)
        more = min(self.rows - self.seen, (share - behind) // max(1, len(field_)))
        if behind > self.left() or (more <= 0 and not behind):
            return False
        upto = self.seen + max(0, more)
        for i in field_:
            await self._run(i, upto)
        self.seen = upto
        self._cut(floor)
        return True

    async def _run(self, i: int, upto: int) -> None:
        runner = self.runners[i]
        todo = [row for row in range(upto) if row not in runner.values]
        if todo:
            runner.values.update(zip(todo, await self.execute(i, todo), strict=True))
        if not runner.scored:
            runner.fate = "failed"

    def _cut(self, floor: int) -> None:
        """Who is worse beyond chance leaves; then the lower half, as the budget is for those in front."""
        field_ = self.running
        if not field_:
            return
        best, self._tests = field_[0], max(self._tests, 2 * len(self.runners))
        for place, i in enumerate(field_, 1):
            runner = self.runners[i]
            runner.place, runner.of, runner.rival = place, len(field_), best
            pairs = paired(self.runners[best], runner)
            runner.met = len(pairs)
            runner.lead = fmean(pairs) if pairs else 0.0
            runner.sure = lower(pairs, 1 - (1 - self.confidence) / self._tests) if i != best else 0.0
        for i in reversed(field_[floor:]):
            if self.runners[i].met >= LEAST and self.runners[i].sure > 0:
                self.runners[i].fate = "worse"
        still = self.running
        for i in still[max(floor, math.ceil(len(field_) / 2)) :]:
            self.runners[i].fate = "halved"

    @property
    def decided(self) -> bool:
        """Whether the leader is beyond chance ahead of the one behind it."""
        field_ = self.running
        if len(field_) < 2:
            return True
        second = self.runners[field_[1]]
        return second.met >= LEAST and second.sure > 0

    def standing(self) -> Standing:
        """Everybody from best to worst: those still running by mean, then the others by how many rows they lasted and their mean."""
        rest = [i for i, runner in enumerate(self.runners) if runner.fate != "running"]
        rest.sort(key=lambda i: (-len(self.runners[i].values), -self.runners[i].mean, i))
        return Standing(self.runners, [*self.running, *rest], self.seen)


def rungs(candidates: int) -> int:
    """How many halvings bring the field down to two."""
    return max(1, math.ceil(math.log2(max(2, candidates))))


def paired(a: Runner, b: Runner) -> list[float]:
    """a - b on every row that both have a value for."""
    both = sorted(a.values.keys() & b.values.keys())
    return [x - y for row in both if (x := a.values[row]) is not None and (y := b.values[row]) is not None]


def lower(values: Sequence[float], confidence: float) -> float:
    """A one-sided lower bound of the mean, by Student's t; -inf for fewer than two values, 0 where none differs from 0."""
    n = len(values)
    if n < 2:
        return -math.inf
    return fmean(values) - student(confidence, n - 1) * stdev(values) / math.sqrt(n)


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float] | None:
    """(mean, low, high) of the mean of these values; None for fewer than two.

    Right-or-wrong values by Wilson's score interval (1927), which stays honest where all are right or all wrong; others by Student's t.
    """
    n = len(values)
    if n < 2:
        return None
    mean = fmean(values)
    if all(value in (0.0, 1.0) for value in values):
        z = NormalDist().inv_cdf(0.5 + confidence / 2)
        middle, wide = mean + z * z / (2 * n), z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
        return mean, (middle - wide) / (1 + z * z / n), (middle + wide) / (1 + z * z / n)
    reach = student(0.5 + confidence / 2, n - 1) * stdev(values) / math.sqrt(n)
    return mean, mean - reach, mean + reach


def student(p: float, v: int) -> float:
    """Student's quantile with v degrees of freedom: exact for 1 and 2, by Cornish and Fisher's expansion from 3 on (within 2%)."""
    if v == 1:
        return math.tan(math.pi * (p - 0.5))
    if v == 2:
        return (2 * p - 1) * math.sqrt(2 / max(1e-300, 4 * p * (1 - p)))
    z = NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / float(v) ** k for k, term in enumerate(terms, 1))
