"""The vectorised shingle sets and the set join against their plain definitions."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling import text
from zhiling.select import join
from zhiling.select.shingles import build

# Letters that change under NFKC or lower(), both apostrophes, both widths, CJK of several planes, a lone surrogate, NUL.
SIGNS = "ab c'’_-.\n。，的一書か한éİΣß１ＡﬁA9\x00\ud800\U00020000ﷺ"
hostile = st.text(alphabet=st.sampled_from(SIGNS), max_size=24)
words = st.lists(st.sampled_from(["a", "b", "c", "d", "一", "个", "书"]), max_size=14).map(" ".join)


def jaccard(a: str, b: str, n: int) -> float:
    one, other = text.shingles(a, n), text.shingles(b, n)
    return len(one & other) / len(one | other) if one and other else 0.0


@settings(deadline=None)
@given(st.lists(hostile, max_size=8), st.integers(1, 4))
def test_sets_are_those_of_the_text_module(texts, n):
    sets = build(texts, n)
    assert sets.sizes.tolist() == [len(text.shingles(item, n)) for item in texts]
    everything = np.array(list(combinations(range(len(texts)), 2)), dtype=np.int64).reshape(-1, 2)
    measured = join.jaccards(sets, everything[:, 0], everything[:, 1])
    expected = [text.jaccard(text.shingles(texts[a], n), text.shingles(texts[b], n)) for a, b in everything]
    assert measured.tolist() == pytest.approx(expected)


def test_blocks_do_not_matter(monkeypatch):
    texts = ["one two three four", "一二三四五六", "one two three", ""] * 5
    whole = build(texts, 2)
    monkeypatch.setattr("zhiling.text.BLOCK", 8)
    assert [part.tolist() for part in (build(texts, 2).sizes, build(texts, 2).keys)] == [
        part.tolist() for part in (whole.sizes, whole.keys)
    ]


@settings(max_examples=200, deadline=None)
@given(st.lists(words, max_size=16), st.sampled_from([0.3, 0.5, 0.7, 0.8, 1.0]), st.integers(1, 3))
def test_pairs_are_exactly_those_that_reach_the_threshold(texts, threshold, n):
    a, b, measured = join.pairs(build(texts, n), threshold)
    expected = {
        (i, j): jaccard(texts[i], texts[j], n)
        for i, j in combinations(range(len(texts)), 2)
        if jaccard(texts[i], texts[j], n) >= threshold - 1e-9
    }
    assert dict(zip(zip(a.tolist(), b.tolist(), strict=True), measured.tolist(), strict=True)) == pytest.approx(
        expected
    )


@settings(deadline=None)
@given(st.lists(words, max_size=14), st.integers(0, 14), st.sampled_from([0.4, 0.7, 0.9]))
def test_pairs_between_two_sides(texts, cut, threshold):
    sides = np.arange(min(cut, len(texts))), np.arange(min(cut, len(texts)), len(texts))
    a, b, _ = join.pairs(build(texts, 2), threshold, *sides)
    expected = {(i, j) for i in sides[0] for j in sides[1] if jaccard(texts[i], texts[j], 2) >= threshold - 1e-9}
    assert set(zip(a.tolist(), b.tolist(), strict=True)) == expected


@pytest.mark.parametrize("candidates", [1 << 20, 3], ids=["at once", "in halves and blocks"])
@settings(max_examples=100, deadline=None)
@given(texts=st.lists(words, max_size=40), threshold=st.sampled_from([0.4, 0.6, 0.8]))
def test_leaders_walk_in_order(candidates, texts, threshold):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(join, "CANDIDATES", candidates)
        patch.setattr(join, "PER_ROW", candidates)
        rival, measured = join.leaders(build(texts, 2), threshold)
    expected = []
    for at, item in enumerate(texts):
        near = [b for b in range(at) if expected[b] < 0 and jaccard(texts[b], item, 2) >= threshold - 1e-9]
        expected.append(near[0] if near else -1)
    assert rival.tolist() == expected
    for at, best in enumerate(expected):
        assert measured[at] == pytest.approx(jaccard(texts[best], texts[at], 2) if best >= 0 else 0)


def test_a_crowd_of_equals_does_not_grow_with_its_square():
    sets = build(["the quick brown fox jumps over the lazy dog"] * 20_000, 3)
    rival, _ = join.leaders(sets, 0.8)
    assert rival.tolist() == [-1] + [0] * 19_999
