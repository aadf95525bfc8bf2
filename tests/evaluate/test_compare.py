from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling.evaluate.compare import compare, mcnemar, mean_interval, stratified

score = st.one_of(st.none(), st.sampled_from([0.0, 1.0]), st.floats(0, 1))
scores = st.dictionaries(st.sampled_from([f"row-{k}" for k in range(12)]), score, max_size=12)


def named(values):
    return {f"{k:05d}": float(value) for k, value in enumerate(values)}


@settings(max_examples=80, deadline=None)
@given(scores, scores)
def test_a_comparison_is_consistent_and_symmetric(base, tuned):
    found = compare(base, tuned, draws=300)
    both = [key for key in base.keys() & tuned.keys() if base[key] is not None and tuned[key] is not None]
    assert found.n == len(both) and found.n + found.failed == len(base.keys() | tuned.keys())
    json.dumps(found.to_dict(), allow_nan=False)
    if not both:
        assert found.difference is None and found.verdict == "cannot tell"
        return
    assert found.difference == pytest.approx(found.tuned - found.base, abs=1e-12)
    assert found.low <= found.high and 0 < found.p <= 1
    assert (found.verdict == "better") <= (found.low > 0) and (found.verdict == "worse") <= (found.high < 0)
    assert found == compare(dict(reversed(base.items())), dict(reversed(tuned.items())), draws=300)
    other = compare(tuned, base, draws=300)
    assert other.difference == pytest.approx(-found.difference, abs=1e-12)
    assert {found.verdict, other.verdict} in ({"better", "worse"}, {"cannot tell"})


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_identical_scores_cannot_be_told_apart(values):
    found = compare(named(values), named(values), draws=200)
    assert found.verdict == "cannot tell" and found.difference == 0 and found.more is None and found.p == 1
    assert found.low < 0 < found.high  # n equal rows do not prove equality


def paired(rng, n, kind, effect):
    """Base and tuned scores of n rows with a true mean difference of `effect`."""
    if kind == "right or wrong":
        gain, loss = 0.15 + effect, 0.15
        u = rng.random(n)
        change = np.where(u < gain, 1, np.where(u < gain + loss, -1, 0))
        base = np.where(change == 1, 0, np.where(change == -1, 1, rng.integers(0, 2, n)))
        return base, base + change
    base = rng.beta(2, 3, n)
    return base, base + effect + rng.normal(0, 0.2, n)


@pytest.mark.parametrize("kind", ["right or wrong", "graded"])
@pytest.mark.parametrize(("n", "groups"), [(25, 1), (100, 1), (12, 4)])
@pytest.mark.parametrize("effect", [0.0, 0.1])
def test_the_interval_holds_the_truth_as_often_as_it_says(kind, n, groups, effect):
    rng = np.random.default_rng(1)
    held, false_alarms, runs = 0, 0, 400
    for run in range(runs):
        pairs = [tuple(map(named, paired(rng, n, kind, effect))) for _ in range(groups)]
        found = stratified(pairs, seed=run, draws=600)
        held += found.low <= effect <= found.high
        false_alarms += effect == 0 and found.verdict != "cannot tell"
    assert held / runs >= 0.93
    assert false_alarms / runs <= 0.07


def test_the_verdict_is_said_in_both_languages():
    better = compare(named([0] * 40), named([1] * 20 + [0] * 20), draws=2000)
    assert better.verdict == "better" and better.low > 0
    assert better.words["en"].startswith("better: +50.0 points") and better.words["zh"].startswith("更好：+50.0 分")
    worse = compare(named([1] * 20 + [0] * 20), named([0] * 40), draws=2000)
    assert worse.verdict == "worse" and worse.words["en"].startswith("worse") and worse.words["zh"].startswith("更差")


def test_cannot_tell_says_how_many_rows_it_would_take_and_that_is_about_right():
    base, tuned = [0] * 60, [1] * 6 + [0] * 54
    tuned[-1], base[-1] = 0, 1
    base[-2] = base[-3] = 1
    unsure = compare(named(base), named(tuned), draws=2000)
    assert (
        unsure.verdict == "cannot tell"
        and f"about {unsure.more} more rows" in unsure.words["en"]
        and f"还需 {unsure.more} 行" in unsure.words["zh"]
    )
    times = round((60 + unsure.more) / 60) + 1
    assert compare(named(base * times), named(tuned * times), draws=2000).verdict == "better"


def test_a_handful_of_rows_is_never_enough():
    for n in range(1, 6):
        assert compare(named([0] * n), named([1] * n), draws=500).verdict == "cannot tell"
    assert compare(named([0] * 5), named([1] * 5), draws=500).more == 1
    assert compare(named([0] * 6), named([1] * 6), draws=500).verdict == "better"
    for n in (1, 3, 5):
        assert compare(named([0.2] * n), named([0.7] * n), draws=5000).verdict == "cannot tell"


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [(0, 0, 1.0), (5, 0, 0.0625), (6, 0, 0.03125), (1, 1, 1.0), (10, 2, 0.03857421875), (0, 1, 1.0)],
)
def test_mcnemar_is_the_exact_binomial_test(gained, lost, p):
    assert mcnemar(gained, lost) == pytest.approx(p)
    assert mcnemar(lost, gained) == mcnemar(gained, lost)


def test_rows_without_a_score_are_counted_and_in_no_number():
    found = compare({"a": 1.0, "b": None, "c": 0.0, "d": 0.0}, {"a": 1.0, "b": 1.0, "c": None, "e": 1.0}, draws=100)
    assert (found.n, found.failed, found.base, found.tuned) == (1, 4, 1.0, 1.0)


def test_every_group_weighs_the_same():
    small, large = (named([0, 0]), named([1, 1])), (named([0] * 98), named([0] * 98))
    assert stratified([small, large], draws=100).difference == pytest.approx(0.5)
    assert stratified([small, ({}, {})], draws=100).difference == pytest.approx(1.0)


def test_a_mean_with_its_interval():
    mean, low, high = mean_interval([named([0, 1] * 50), {"x": None}], draws=2000)
    assert mean == 0.5 and 0.35 < low < 0.45 and 0.55 < high < 0.65
    assert mean_interval([{"x": None}]) is None


def test_what_was_gained_and_lost_is_counted_and_the_test_named():
    rows = {str(k): float(k % 2) for k in range(20)}
    tuned = {key: 1.0 if int(key) < 12 else 0.0 for key in rows}
    found = compare(rows, tuned)
    assert (found.gained, found.lost, found.test) == (6, 4, "mcnemar") and found.p == mcnemar(6, 4)
    assert compare(rows, {key: 0.5 for key in rows}).test == "randomisation"
    assert stratified([(rows, tuned), (rows, tuned)]).test == "randomisation"
    assert compare({}, {}).test == ""
