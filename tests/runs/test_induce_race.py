"""The race: a hard budget, the same rows for everybody, and nobody called worse by chance."""

import asyncio
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.induce import seats
from zhiling.induce.race import LEAST, Race, interval, lower, paired, rungs, student


class Field:
    """Candidates with a fixed value on each row, and a count of what was executed."""

    def __init__(self, table, calls):
        self.table, self.calls, self.asked = table, calls, []
        self.race = Race(self.execute, len(table[0]), lambda: self.calls - len(self.asked))

    async def execute(self, i, rows):
        self.asked += [(i, row) for row in rows]
        return [self.table[i][row] for row in rows]

    def run(self, candidates=None, late=0):
        async def work():
            for _ in range((candidates or len(self.table)) - late):
                self.race.enter()
            total = rungs(len(self.race.runners))
            for left in range(total, 0, -1):
                if not await self.race.rung(left):
                    break
                if left == total:
                    for _ in range(late):
                        self.race.enter()
            while not self.race.decided and await self.race.rung(2):
                pass

        asyncio.run(work())
        return self.race.standing()


def noisy(means, rows=80, spread=0.3, seed=1):
    """Values around each candidate's mean, with a difficulty that a row has for everybody."""
    dice = random.Random(seed)
    hard = [dice.gauss(0, 1) for _ in range(rows)]
    return [[mean + hard[row] + dice.gauss(0, spread) for row in range(rows)] for mean in means]


def test_the_best_wins_and_the_calls_go_to_those_in_front():
    field = Field(noisy([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.9, 0.6]), 200)
    standing = field.run()
    assert standing.order[0] == 6 and len(field.asked) <= 200
    rows = [len(standing.runners[i].values) for i in standing.order]
    assert rows == sorted(rows, reverse=True) and rows[0] > 3 * rows[-1]
    fates = {runner.fate for runner in standing.runners}
    assert "worse" in fates and standing.runners[6].fate == "running"


@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 300), st.integers(0, 3), st.integers(0, 99))
def test_never_more_calls_than_there_are_and_the_same_rows_for_all(candidates, rows, calls, late, seed):
    table = noisy([0.1 * i for i in range(candidates + late)], rows, seed=seed)
    field = Field(table, calls)
    standing = field.run(candidates + late, late)
    assert len(field.asked) <= calls and len(set(field.asked)) == len(field.asked)
    for runner in standing.runners:
        assert sorted(runner.values) == list(range(len(runner.values)))  # the first rows, none left out
        assert runner.fate != "worse" or (runner.met >= LEAST and runner.sure > 0 and runner.lead > 0)
    assert sorted(standing.order) == list(range(len(standing.runners)))


def test_equals_are_seldom_called_worse():
    wrong = 0
    for seed in range(200):
        standing = Field(noisy([0.0] * 6, seed=seed), 240).run()
        wrong += any(runner.fate == "worse" for runner in standing.runners)
    assert wrong <= 20  # 5% of 200, and chance


def test_who_enters_late_catches_up():
    table = noisy([0, 0.1, 0.2, 0.3, 2.0])
    standing = Field(table, 200).run(5, late=1)
    assert standing.order[0] == 4
    assert set(standing.runners[4].values) >= set(standing.runners[0].values)


def test_rows_that_could_not_be_scored_decide_nothing():
    table = [[None] * 30, [0.5] * 30, [1.0 if row % 2 else None for row in range(30)]]
    standing = Field(table, 90).run()
    assert standing.runners[0].fate == "failed" and standing.order[0] == 2
    assert all(x == 0.5 for x in paired(standing.runners[2], standing.runners[1]))


def test_ties_go_to_who_entered_first():
    assert Field([[1.0] * 20, [1.0] * 20, [1.0] * 20], 60).run().order[0] == 0


@pytest.mark.parametrize(("v", "t"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (10, 2.228), (30, 2.042)])
def test_students_quantile(v, t):
    assert student(0.975, v) == pytest.approx(t, rel=0.02)


def test_intervals_of_right_and_wrong_are_wilsons():
    mean, low, high = interval([1.0] * 8 + [0.0] * 2)
    assert (mean, round(low, 3), round(high, 3)) == (0.8, 0.49, 0.943)
    assert interval([0.0] * 20)[1:] == pytest.approx((0.0, 0.161), abs=1e-3)  # all wrong is not sure to stay so
    assert interval([1.0]) is None and interval([]) is None


@pytest.mark.parametrize("size", [12, 30])
def test_intervals_hold_the_truth_as_often_as_they_say(size):
    dice = random.Random(5)
    hits = sum(
        span[1] <= -2.0 <= span[2]
        for _ in range(600)
        if (span := interval([-2.0 + dice.gauss(0, 1) for _ in range(size)]))
    )
    assert 0.92 <= hits / 600 <= 0.98


def test_a_lower_bound_lies_below_the_mean_and_knows_few_values_tell_nothing():
    assert lower([1.0], 0.95) == -math.inf
    assert lower([1.0, 2.0, 3.0], 0.95) < 2.0 < lower([2.0, 2.1, 2.2] * 30, 0.95) + 0.1


@given(st.integers(0, 2000))
def test_seats_leave_each_candidate_rows_to_show_itself(calls):
    found = seats(calls)
    assert 2 <= found <= 48 and (found == 2 or found * 3 * rungs(found) <= calls)
