"""Facility location: the lazy, sparse walk takes what the plain definition takes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling import registry
from zhiling.errors import RecipeError
from zhiling.select.cover import cover, facility, neighbours
from zhiling.types import Example, Score


def row(instruction, output):
    return Example("t", instruction, "", output)


class Fixed:
    """Vectors by the text's last word."""

    name, dim = "fixed", 8

    def __call__(self, texts):
        out = np.stack([np.random.default_rng(int(text.split()[-1]) // 3).normal(size=8) for text in texts])
        out += np.stack([np.random.default_rng(int(text.split()[-1])).normal(size=8) * 0.2 for text in texts])
        return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)


def plain(vectors, rank, share, rows, floor):
    """The definition, without a heap or a sparse graph."""
    s = np.round(vectors @ vectors.T, 4)
    s = np.where(s >= floor, s, 0.0)
    np.fill_diagonal(s, 1.0)
    taken, best = [], np.zeros(len(s))
    while len(taken) < rows:
        gains = [(1 - share) * np.maximum(s[:, j] - best, 0).sum() + share * rank[j] for j in range(len(s))]
        free = [j for j in range(len(s)) if j not in taken]
        j = max(free, key=lambda j: (round(gains[j], 6), -j))
        taken.append(j)
        best = np.maximum(best, s[:, j])
    return taken, best


@given(
    st.integers(2, 40),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.3, 0.8]),
    st.sampled_from([0.3, 0.5, 0.8]),
    st.integers(0, 99),
)
def test_the_lazy_walk_is_the_greedy_one(count, rows, share, floor, seed):
    rng = np.random.default_rng(seed)
    vectors = Fixed()([f"x {n}" for n in rng.integers(0, 30, count)])
    rank = np.round(rng.random(count), 2)
    taken, whom, best = facility(neighbours(vectors, floor), rank, share, min(rows, count), None, None)
    expected, cover_of = plain(vectors.astype(np.float64), rank, share, min(rows, count), floor)
    if taken != expected:  # only where two gains agree to six digits may the order of equals differ
        assert np.isclose(best.sum(), cover_of.sum(), atol=1e-3)
    assert all(whom[j] >= 0 for j in taken) and np.all(best <= 1.0)


def test_a_representative_of_each_cluster_and_whom_it_beat():
    pool = [row(f"question {n}", output=f"answer {n}") for n in range(12)]  # clusters of three
    said = list(cover(pool, scores={}, seed=1, embedder=Fixed(), rows=4))
    kept = {v.example for v in said if v.kept}
    clusters = {int(r.instruction.split()[-1]) // 3 for r in pool if r.id in kept}
    assert len(kept) == 4 and clusters == {0, 1, 2, 3}
    by_id = {r.id: r for r in pool}
    for verdict in said:
        if not verdict.kept:
            mine, rival = (int(by_id[i].instruction.split()[-1]) // 3 for i in (verdict.example, verdict.rival))
            assert mine == rival and "cosine" in verdict.why
    turned = {v.example: v for v in cover(pool[::-1], scores={}, seed=1, embedder=Fixed(), rows=4)}
    assert all(turned[v.example] == v for v in said)


def test_quality_decides_within_a_cluster():
    pool = [row(f"question {n}", output=f"answer {n}") for n in range(6)]
    best = {r.id for r in pool if r.instruction in ("question 1", "question 5")}
    registry.get("scorer", "grammar")
    scores = {(r.id, "grammar"): Score(r.id, "grammar", 1.0 if r.id in best else 0.2) for r in pool}
    said = cover(pool, scores=scores, seed=1, embedder=Fixed(), rows=2, by="grammar", quality=0.9)
    assert {v.example for v in said if v.kept} == best


def test_a_budget_of_tokens_is_never_exceeded():
    pool = [row(f"question {n}", output="word " * (n + 1)) for n in range(9)]
    said = list(cover(pool, scores={}, seed=1, embedder=Fixed(), tokens=20))
    kept = [r for r in pool if any(v.kept and v.example == r.id for v in said)]
    used = sum(2 + int(r.instruction.split()[-1]) + 1 for r in kept)
    assert kept and used <= 20


def test_a_crowd_of_equal_rows_stays_small():
    vectors = np.tile(Fixed()(["x 1"]), (3000, 1))
    graph = neighbours(vectors, 0.5)
    assert len(graph.ids) <= 3000 * 64 * 4
    taken, whom, _ = facility(graph, np.zeros(3000), 0.0, 3, None, None)
    assert len(taken) == 3 and whom[taken[0]] == taken[0]


@pytest.mark.parametrize(
    "wrong", [{}, {"rows": 0}, {"tokens": 0}, {"rows": 1, "floor": 1.0}, {"rows": 1, "quality": 1.0}]
)
def test_numbers_out_of_range_are_named(wrong):
    with pytest.raises(RecipeError, match="cover"):
        list(cover([row("a 1", output="b")], scores={}, seed=1, embedder=Fixed(), **wrong))


def test_no_rows_no_verdicts():
    assert list(cover([], scores={}, seed=1, embedder=Fixed(), rows=3)) == []


@given(st.integers(1, 60), st.integers(0, 99))
def test_the_graph_does_not_depend_on_the_blocks(count, seed):
    rng = np.random.default_rng(seed)
    vectors = Fixed()([f"x {n}" for n in rng.integers(0, 30, count)])
    s = np.round(vectors @ vectors.T, 4)
    np.fill_diagonal(s, 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zhiling.select.cover.WIDE", 16)
        patch.setattr("zhiling.select.cover.HIGH", 8)
        graph = neighbours(vectors, 0.5)
    for at in range(count):
        part = slice(graph.starts[at], graph.starts[at + 1])
        assert graph.ids[part].tolist() == np.flatnonzero(s[at] >= 0.5).tolist()
        assert np.allclose(graph.near[part], s[at][s[at] >= 0.5], atol=2e-4)


def test_too_many_rows_are_refused_before_any_is_read(monkeypatch):
    class Unread(list):
        at = ()

        def __iter__(self):
            raise AssertionError("read")

    monkeypatch.setattr("zhiling.select.cover.MOST", 3)
    with pytest.raises(RecipeError, match=r"^cover: .*4 are too many.*thin them out first to 3"):
        list(cover(Unread([None] * 4), scores={}, seed=1, embedder=Fixed(), rows=2))
