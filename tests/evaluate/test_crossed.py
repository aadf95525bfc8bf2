"""Two ways of tuning over seeds and rows: the interval keeps its promise, and nothing is made of nothing."""

from __future__ import annotations

import random

import numpy as np
import pytest

from zhiling.evaluate.crossed import crossed, student


def scores(values):
    return [{str(row): float(value) for row, value in enumerate(seed)} for seed in values]


def told(differences, groups=None, **how):
    rows = differences.shape[1]
    names = groups or {str(row): "t" for row in range(rows)}
    return crossed(scores(0.5 + differences), scores(np.full(differences.shape, 0.5)), names, **how)


@pytest.mark.parametrize(
    ("freedom", "value"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (10, 2.22814), (100, 1.98397), (1e6, 1.95997)]
)
def test_the_quantile_is_the_tables(freedom, value):
    assert student(0.975, freedom) == pytest.approx(value, abs=2e-3)


@pytest.mark.parametrize(("of_seeds", "of_rows"), [(0.0, 0.2), (0.05, 0.2), (0.2, 0.05), (0.0, 0.0)])
def test_the_interval_holds_the_truth_as_often_as_it_says(of_seeds, of_rows):
    rng, held = np.random.default_rng(3), 0
    for _ in range(300):
        noise = rng.normal(0, 0.1, (3, 40)) + rng.normal(0, of_rows, 40) + rng.normal(0, of_seeds, (3, 1))
        found = told(noise)
        held += found.low <= 0 <= found.high
    assert held >= 0.92 * 300


def test_one_lucky_seed_is_no_finding_but_rows_alone_would_call_it_one():
    rng = np.random.default_rng(1)
    lucky = rng.normal(0, 0.01, (3, 60)) + np.array([[0.30], [-0.02], [0.01]])
    found = told(lucky)
    assert found.verdict == "cannot tell" and found.low < 0 < found.high
    by_rows = lucky.mean(axis=0)
    assert by_rows.mean() - 3 * by_rows.std() / len(by_rows) ** 0.5 > 0


@pytest.mark.parametrize(("shift", "verdict"), [(0.1, "better"), (-0.1, "worse"), (0.0, "cannot tell")])
def test_a_real_difference_is_told_with_its_sign(shift, verdict):
    found = told(np.random.default_rng(2).normal(shift, 0.05, (3, 80)))
    assert found.verdict == verdict
    assert found.difference == pytest.approx(found.first - found.second)
    assert np.mean(found.each) == pytest.approx(found.difference)


def test_tasks_weigh_the_same_whatever_their_size():
    differences = np.concatenate([np.full((3, 90), 0.0), np.full((3, 10), 0.2)], axis=1)
    groups = {str(row): "大" if row < 90 else "小" for row in range(100)}
    assert told(differences, groups).difference == pytest.approx(0.1)
    assert told(differences).difference == pytest.approx(0.02)


def test_no_change_anywhere_is_not_certainty():
    found = told(np.zeros((3, 30)))
    assert found.verdict == "cannot tell" and 0.09 < found.high < 0.11 and found.low == -found.high


def test_rows_without_a_score_somewhere_are_left_out_and_order_means_nothing():
    first = scores(np.random.default_rng(5).random((3, 20)))
    second = scores(np.random.default_rng(6).random((3, 20)))
    groups = {str(row): "t" for row in range(20)}
    whole = crossed(first, second, groups)
    first[1]["7"] = None
    assert crossed(first, second, groups).rows == whole.rows - 1
    names = list(groups)
    random.Random(1).shuffle(names)
    assert crossed(first, second, {name: "t" for name in names}) == crossed(first, second, groups)
    assert crossed([{}, {}], [{}, {}], {"a": "t"}).difference is None
    one = crossed([{"a": 1.0}] * 2, [{"a": 0.0}] * 2, {"a": "t"})
    assert one.low is None and one.verdict == "cannot tell"
    with pytest.raises(ValueError, match="seeds"):
        crossed([{}], [{}], {})


def test_the_verdict_is_in_words_and_says_what_more_would_tell():
    rng = np.random.default_rng(5)
    sure = told(0.2 + rng.normal(0, 0.02, (3, 40)))
    assert sure.words["en"].startswith("better: +") and sure.words["zh"].startswith("更好：") and sure.more is None
    by_rows = told(0.05 + np.tile(rng.normal(0, 0.5, 20), (3, 1)))
    assert by_rows.verdict == "cannot tell" and by_rows.more > 20
    assert f"about {by_rows.more} more rows" in by_rows.words["en"] and f"还需 {by_rows.more} 行" in by_rows.words["zh"]
    by_seeds = told(np.array([[0.4], [-0.3], [0.05]]) + np.zeros((3, 30)))
    assert by_seeds.more is None and "other seeds" in by_seeds.words["en"] and "更多种子" in by_seeds.words["zh"]
    assert "no difference" in told(np.zeros((2, 9))).words["en"]


def test_so_many_more_rows_do_tell():
    """What `more` promises is tried: with that many rows, about four of five trials come to a verdict."""
    rng, found = np.random.default_rng(11), []
    first = told(0.1 + np.tile(rng.normal(0, 0.5, 40), (2, 1)))
    change = first.difference
    for _ in range(100):
        rows = rng.normal(change, 0.5, 40 + first.more)
        found.append(told(np.tile(rows, (2, 1))).verdict)
    assert first.verdict == "cannot tell" and 65 <= found.count("better") <= 95
