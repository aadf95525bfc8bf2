"""Bounds, quotas, and the best rows that differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from select_rows import kept, scores

from zhiling import registry
from zhiling.embed import Use
from zhiling.errors import RecipeError
from zhiling.select import diverse
from zhiling.select.pick import quota, top
from zhiling.select.threshold import threshold
from zhiling.types import Example, Task

TASKS = {
    "情感": Task("情感", family="classification"),
    "qa": Task("qa", family="qa"),
    "nli": Task("nli", family="classification"),
}


class Fixed:
    """An embedder with one vector per text."""

    name, dim = "fixed", 2

    def __init__(self, vectors):
        self.vectors = vectors

    def __call__(self, texts):
        return np.array([self.vectors[item] for item in texts], dtype=np.float32)


def test_threshold_bounds_and_missing():
    rows = [Example("t", str(number)) for number in range(4)]
    said = scores("relevance", dict(zip((row.id for row in rows), (0.1, 0.5, 0.9, None), strict=True)))
    verdicts = list(threshold(rows, scores=said, scorer="relevance", min=0.5, max=0.8))
    assert [verdict.kept for verdict in verdicts] == [False, True, False, True]
    assert "0.1 < 0.5" in verdicts[0].why
    assert "0.9 > 0.8" in verdicts[2].why
    assert "could not be scored" in verdicts[3].why
    dropped = threshold(rows, scores=said, scorer="relevance", min=0.0, missing="drop")
    assert [verdict.kept for verdict in dropped] == [True, True, True, False]


def test_threshold_takes_no_number_that_is_none():
    row = Example("t", "x")
    said = scores("relevance", {row.id: float("nan")})
    assert [verdict.kept for verdict in threshold([row], scores=said, scorer="relevance", min=0.5)] == [True]


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({}, "needs min, max or both"),
        ({"min": 2, "max": 1}, "above max"),
        ({"min": 1, "scorer": "echo"}, "no row has a score by 'echo'"),
    ],
)
def test_threshold_mistakes(given_, words):
    row = Example("t", "x")
    with pytest.raises(RecipeError, match=words):
        list(threshold([row], scores=scores("relevance", {row.id: 1.0}), **{"scorer": "relevance", **given_}))


def rows_of(task, count):
    return [Example(task, f"{task} {number}", lang="zh" if number % 2 else "en") for number in range(count)]


def test_quota_per_group_takes_the_best():
    rows = [*rows_of("情感", 6), *rows_of("qa", 3), *rows_of("nli", 2)]
    values = {row.id: None if place == 5 else place / 10 for place, row in enumerate(rows)}
    picked = kept(quota(rows, scores=scores("relevance", values), tasks=TASKS, seed=1, rows=2, by="relevance"))
    assert picked == {rows[i].id for i in (4, 3, 8, 7, 10, 9)}
    verdicts = {
        v.example: v
        for v in quota(rows, scores=scores("relevance", values), tasks=TASKS, seed=1, rows={"qa": 1}, by="relevance")
    }
    assert {row for row, verdict in verdicts.items() if not verdict.kept} == {rows[6].id, rows[7].id}
    assert verdicts[rows[6].id].rival == rows[8].id


@pytest.mark.parametrize(("per", "sizes"), [("task", 3 + 2 + 2), ("lang", 4), ("maker", 2), ("family", 4)])
def test_quota_groups(per, sizes):
    rows = [*rows_of("情感", 6), *rows_of("qa", 3), *rows_of("nli", 2)]
    limit = {"情感": 3, "qa": 2, "nli": 2} if per == "task" else 2
    assert len(kept(quota(rows, scores={}, tasks=TASKS, seed=1, rows=limit, per=per))) == sizes


def test_quota_without_a_scorer_is_a_seeded_choice():
    rows = rows_of("qa", 40)
    one, again, other = (kept(quota(rows, scores={}, tasks=TASKS, seed=seed, rows=10)) for seed in (1, 1, 2))
    assert one == again != other
    assert len(one) == len(other) == 10


def test_quota_mistakes():
    with pytest.raises(RecipeError, match="negative"):
        list(quota([], scores={}, tasks=TASKS, seed=1, rows=-1))
    with pytest.raises(RecipeError, match="no task 'nlj'.*did you mean 'nli'"):
        list(quota([], scores={}, tasks=TASKS, seed=1, rows={"nlj": 1}))


def test_top_ranks_within_the_task():
    """A task whose scores are all low competes with one whose scores are all high."""
    rows = [*rows_of("情感", 4), *rows_of("qa", 4)]
    values = {row.id: (0.9 if place < 4 else 0.1) + place % 4 / 100 for place, row in enumerate(rows)}
    picked = kept(top(rows, scores=scores("relevance", values), seed=1, embedder=Fixed({}), rows=4, by="relevance"))
    assert picked == {rows[i].id for i in (2, 3, 6, 7)}


def test_top_weighs_scorers_and_ranks_the_unscored_last():
    rows = rows_of("qa", 4)
    said = {
        **scores("relevance", dict(zip((row.id for row in rows), (0.1, 0.2, 0.3, None), strict=True))),
        **scores("echo", dict(zip((row.id for row in rows), (0.0, 0.1, 0.9, None), strict=True))),
    }
    settings_ = {"scores": said, "seed": 1, "embedder": Fixed({}), "rows": 1}
    assert kept(top(rows, **settings_, by="relevance")) == {rows[2].id}
    assert kept(top(rows, **settings_, by={"relevance": 1, "echo": 3})) == {rows[0].id}
    assert kept(top(rows, **{**settings_, "rows": 3}, by=["relevance", "echo"])) == {row.id for row in rows[:3]}


def test_top_prefers_what_differs_and_names_what_it_resembles():
    rows = [Example("t", name) for name in ("one", "same", "far")]
    vectors = {"one": (1, 0), "same": (0.9998, 0.02), "far": (0, 1)}
    said = scores("relevance", dict(zip((row.id for row in rows), (0.9, 0.8, 0.1), strict=True)))
    settings_ = {"scores": said, "seed": 1, "embedder": Fixed(vectors), "rows": 2, "by": "relevance"}
    assert kept(top(rows, **settings_)) == {rows[0].id, rows[1].id}
    assert kept(top(rows, **settings_, diversity=0.6)) == {rows[0].id, rows[2].id}
    verdicts = {verdict.example: verdict for verdict in top(rows, **{**settings_, "rows": 3}, similar=0.95)}
    assert not verdicts[rows[1].id].kept
    assert verdicts[rows[1].id].rival == rows[0].id
    assert "1.00" in verdicts[rows[1].id].why


def test_top_in_two_languages():
    """The default vectors see that a sentence and its translation are one, and keep different ones."""
    pairs = [
        ("Translate the sentence into French.", "把这句话翻译成法语。"),
        ("Is this review positive or negative?", "这条评论是正面的还是负面的？"),
        ("Write a poem about the sea.", "写一首关于大海的诗。"),
    ]
    rows = [Example("t", wording) for pair in pairs for wording in pair]
    said = scores("relevance", {row.id: 0.5 for row in rows})
    picked = kept(top(rows, scores=said, seed=3, embedder=Use(), rows=3, by="relevance", diversity=0.9))
    assert [sum(Example("t", wording).id in picked for wording in pair) for pair in pairs] == [1, 1, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": 0},
        {"rows": 1, "diversity": 2},
        {"rows": 1, "similar": -1},
        {"rows": 1, "by": {"echo": 0}},
        {"rows": 1, "by": []},
    ],
)
def test_top_mistakes(wrong):
    with pytest.raises(RecipeError, match=r"^top\."):
        list(top([], scores={}, seed=1, embedder=Fixed({}), **{"by": "relevance", **wrong}))


@pytest.mark.parametrize("block", [4, 1024])
@settings(max_examples=60, deadline=None)
@given(
    data=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 11)), min_size=1, max_size=40),
    share=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    similar=st.sampled_from([0.8, 1.0]),
)
def test_greedy_is_greedy(block, data, share, similar):
    """The lazy, blocked choice is the one that looks at every row at each step; equal gains and equal vectors included."""
    quality = np.array([first / 3 for first, _ in data])
    angles = np.array([second * 0.3 for _, second in data])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    rows = max(1, len(data) // 2)
    closest, taken = np.zeros(len(data)), []
    while len(taken) < rows:
        gain = np.where(closest <= similar, (1 - share) * quality + share - share * closest, -np.inf)
        gain[taken] = -np.inf
        if gain.max() == -np.inf:
            break
        taken.append(int(np.argmax(gain)))
        closest = np.maximum(closest, np.round((vectors @ vectors[taken[-1]]).astype(np.float64), 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diverse, "BLOCK", block)
        picks = diverse.greedy(quality, lambda rows: vectors[rows], rows, share, similar)
    assert picks.taken.tolist() == taken
    over = [row for row in range(len(data)) if picks.near[row] >= 0]
    assert over == [row for row in np.flatnonzero(closest > similar) if row not in taken]
    assert all(picks.cosine[row] > similar and picks.near[row] in taken for row in over)


def test_rows_that_cannot_lead_are_never_looked_at(monkeypatch):
    monkeypatch.setattr(diverse, "BLOCK", 16)
    dice = np.random.default_rng(1)
    vectors = dice.normal(size=(2000, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    quality, looked = dice.random(2000), []

    def look(rows):
        looked.extend(rows.tolist())
        return vectors[rows]

    few = diverse.greedy(quality, look, 40, 0.2, 1.0)
    assert len(looked) == len(set(looked)) < 1000
    monkeypatch.setattr(diverse, "BLOCK", 1024)
    whole = diverse.greedy(quality, lambda rows: vectors[rows], 40, 0.2, 1.0)
    assert few.taken.tolist() == whole.taken.tolist()


def test_more_rows_than_can_be_compared_are_refused(monkeypatch):
    rows = rows_of("qa", 60)
    said = scores("relevance", {row.id: place / 60 for place, row in enumerate(rows)})
    how = {"scores": said, "seed": 1, "by": "relevance", "similar": 0.99}
    vectors = Fixed({row.prompt: vector for row, vector in zip(rows, np.eye(60), strict=True)})
    monkeypatch.setattr(diverse, "BLOCK", 4)
    monkeypatch.setattr(diverse, "MOST", 20)
    assert len(kept(top(rows, embedder=vectors, rows=20, **how))) == 20
    with pytest.raises(RecipeError, match=r"^top: .*21 are too many.*ask for 20 rows or fewer"):
        list(top(rows, embedder=None, rows=21, **how))
    monkeypatch.setattr(diverse, "LOOKED", 30)
    alike = Fixed({row.prompt: [1.0, 0.0] for row in rows})
    with pytest.raises(RecipeError, match=r"^top: top looked at 30 rows, and too few"):
        list(top(rows, embedder=alike, rows=2, **how))


def test_every_selector_is_registered_with_settings_a_recipe_can_give():
    for name in ("heldout", "exact", "near", "threshold", "quota", "top"):
        plugin = registry.get("selector", name)
        assert plugin.name == name
        assert plugin.doc
    settled = registry.settle(registry.get("selector", "quota"), {"rows": {"qa": 3}, "per": "lang"})
    assert settled["rows"] == {"qa": 3}
    assert registry.settle(registry.get("selector", "top"), {"rows": 5, "by": ["echo"]})["by"] == ["echo"]


@pytest.mark.parametrize("diversity", [0.0, 0.3])
def test_top_within_a_budget_of_tokens(diversity):
    """The best rows come first; one that no longer fits is passed over for a shorter one."""
    rows = [Example("任务", f"字{at}", "", "字" * size) for at, size in enumerate((10, 50, 8, 5))]
    said = scores("echo", dict(zip((row.id for row in rows), (0.0, 0.1, 0.2, 0.3), strict=True)))
    vectors = Fixed({row.prompt: vector for row, vector in zip(rows, np.eye(4), strict=True)})
    verdicts = list(top(rows, scores=said, seed=1, embedder=vectors, by="echo", tokens=32, diversity=diversity))
    assert [verdict.kept for verdict in verdicts] == [True, False, True, True]
    assert "does not fit" in verdicts[1].why and verdicts[1].rival
    both = list(top(rows, scores=said, seed=1, embedder=vectors, by="echo", tokens=32, rows=1, diversity=diversity))
    assert [verdict.kept for verdict in both] == [True, False, False, False]


def test_top_needs_a_budget():
    row = Example("t", "x")
    with pytest.raises(RecipeError, match="top needs rows or tokens"):
        list(top([row], scores=scores("echo", {row.id: 0.1}), seed=0, embedder=None, by="echo"))
    with pytest.raises(RecipeError, match="tokens must be at least 1"):
        list(top([row], scores=scores("echo", {row.id: 0.1}), seed=0, embedder=None, by="echo", tokens=0))


def test_quota_per_constructor_counts_its_templates_together():
    rows = [
        Example("t", f"{maker} {at}", maker=f"{maker}:{at}") for maker in ("template", "retrieve") for at in range(4)
    ]
    verdicts = list(quota(rows, scores={}, tasks={"t": Task("t")}, seed=1, rows={"template": 1}, per="constructor"))
    assert [verdict.kept for verdict in verdicts].count(True) == 5
    assert sum(verdict.kept for verdict in verdicts[:4]) == 1 and all(verdict.kept for verdict in verdicts[4:])
