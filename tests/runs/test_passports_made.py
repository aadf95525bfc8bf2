"""How passports are measured: pairs in order, ties, areas, fair comparisons. The benchmark's own arithmetic, on cases counted by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.types import Example

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def made():
    """The benchmark's modules; the folder stands last, since it holds a select.py that must not hide Python's own."""
    sys.path.append(str(BENCHMARKS))
    import passports_data
    import passports_fair
    import passports_labels
    import passports_measure

    yield passports_measure, passports_fair, passports_labels, passports_data
    sys.path.remove(str(BENCHMARKS))


def test_pairs_in_order_ties_and_abstentions(made):
    measure = made[0]
    values = np.array([0.9, 0.1, 0.1, 0.9, 0.5, 0.5, np.nan, 0.7])
    assert measure.ordered(values).tolist() == [1, 0, 0.5, 0.5]
    assert measure.auc(np.array([3.0, 2.0]), np.array([1.0, 0.0])) == 1
    assert measure.auc(np.array([1.0]), np.array([1.0])) == 0.5
    assert measure.auc(np.array([np.nan, np.nan]), np.array([np.nan])) == 0.5
    low, high = measure.interval(np.ones(50), lambda at: float(np.ones(50)[at].mean()))
    assert (low, high) == (1, 1)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_the_area_is_the_share_of_pairs_won(made, good, bad):
    won = np.mean([(a > b) + (a == b) / 2 for a in good for b in bad])
    assert made[0].auc(np.array(good, float), np.array(bad, float)) == pytest.approx(won)


def test_what_two_answers_do_not_share_is_the_groups_name(made):
    fair = made[1]
    assert fair.unshared("来自低产阶层的家庭", "来自富人阶层的家庭") == ["低产", "富人"]
    assert fair.unshared("四川人", "辽宁人") == ["四川", "辽宁"]
    assert fair.unshared("老人", "老人") == []
    one = {"context": "A grandson met a grandfather.", "question": "Who is old?", "ans2": "The grandfather", "label": 2}
    ((first, second),) = fair.exchanged(one, ["grandson", "grandfather"], r"\b")
    assert (first.input, second.input) == ("A grandson met a grandfather.", "A grandfather met a grandson.")
    assert second.output == "The grandson"


def test_a_metric_that_dislikes_chinese_or_a_group_is_found_out(made):
    fair = made[1]
    zh, en = Example("t", "说说春天。", "", "春天来了。"), Example("t", "Tell of spring.", "", "Spring has come.")
    gap = fair.translated(
        "any", {"set": [(zh, en)] * 20}, lambda _, rows: np.array([float(row.output.isascii()) for row in rows])
    )
    assert (gap["value"], gap["low"], gap["high"], gap["n"], gap["spread"]) == (-1, -1, -1, 20, 0.5)
    silent = fair.translated("any", {"set": [(zh, en)]}, lambda _, rows: np.full(len(rows), np.nan))
    assert silent["value"] is None and silent["sets"][0]["scored_zh"] == 0
    (moved,) = fair.swapped(
        "any", {"set": [(zh, en)] * 4}, lambda _, rows: np.array([0.9 if row == zh else 0.2 for row in rows])
    )
    assert (moved["moved"], moved["share"], moved["flipped"], moved["value"]) == (0.7, 1.0, 1.0, 0.7)


def test_real_pairs_say_the_same_and_swapped_rows_differ_in_a_name(made, shared):
    fair = made[1]
    pairs = fair.gather({"XQuAD": fair.xquad, "NTREX": fair.ntrex}, shared, 30)
    assert {name: len(found) for name, found in pairs.items()} == {"XQuAD": 30, "NTREX": 30}
    assert all(
        not zh.prompt.isascii() and any(c.isascii() for c in en.prompt) for found in pairs.values() for zh, en in found
    )
    for name, found in fair.gather(fair.GROUPS, shared, 60).items():
        assert len(found) == 60, name
        assert all(one.prompt != other.prompt and abs(len(one.prompt) - len(other.prompt)) < 40 for one, other in found)


def test_evidence_has_its_sides_and_says_who_judged(made, shared):
    labels = made[2]
    for make, lang in ((labels.unsafe, "en"), (labels.insults, "zh"), (labels.flask, "en")):
        found = make(shared, lang)
        assert len(found.good) >= 60 and len(found.bad) >= 60 and found.kind in ("human", "model")
    for make, lang in ((labels.passages, "en"), (labels.passages, "zh"), (labels.cmrc, "zh"), (labels.harmless, "en")):
        pairs = make(shared, lang).pairs
        assert len(pairs) > 200 and all(a.prompt == b.prompt and a.output != b.output for a, b in pairs)
    assert all(good.output in good.input for good, _ in labels.passages(shared, "zh").pairs)
