"""What a selector says depends on the rows, not on their order, and is said once of each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from select_rows import scores

from zhiling.select.duplicates import exact, near
from zhiling.select.heldout import heldout
from zhiling.select.pick import quota, top
from zhiling.select.threshold import threshold
from zhiling.types import Example, Task

words = st.lists(st.sampled_from(["a", "b", "c", "一", "个", "书", "。", "\ud800"]), max_size=10).map(" ".join)
example = st.builds(
    Example,
    task=st.sampled_from(["t", "任务"]),
    instruction=words,
    input=st.sampled_from(["", "a b c", "一 个 书"]),
    output=words,
    lang=st.sampled_from(["zh", "en"]),
)
TASKS = {"t": Task("t"), "任务": Task("任务", family="qa")}


class Hashed:
    """Vectors that depend on the text alone."""

    name, dim = "hashed", 4

    def __call__(self, texts):
        made = [np.random.default_rng(list(item.encode("utf-8", "replace"))).normal(size=4) for item in texts]
        return np.stack([vector / np.linalg.norm(vector) for vector in made]).astype(np.float32)


def select(name, rows, said, held):
    if name == "heldout":
        return heldout(rows, heldout=held, threshold=0.5)
    if name == "exact":
        return exact(rows, scores=said, keep="echo")
    if name == "near":
        return near(rows, scores=said, threshold=0.5, n=1)
    if name == "threshold":
        return threshold(rows, scores=said, scorer="echo", max=0.5)
    if name == "quota":
        return quota(rows, scores=said, tasks=TASKS, seed=3, rows=2, per="lang", by="echo")
    return top(rows, scores=said, seed=3, embedder=Hashed(), rows=3, by="echo", diversity=0.4, similar=0.9)


@pytest.mark.parametrize("name", ["heldout", "exact", "near", "threshold", "quota", "top"])
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_order_does_not_matter(name, data):
    rows = data.draw(st.lists(example, min_size=1, max_size=12))
    held = data.draw(st.lists(example, max_size=4))
    values = st.sampled_from([None, 0.0, 0.5, 1.0])
    said = scores("echo", {row.id: data.draw(values) for row in {row.id: row for row in rows}.values()})
    shuffled = data.draw(st.permutations(rows))
    one = list(select(name, rows, said, held))
    other = list(select(name, shuffled, said, held[::-1]))
    assert [verdict.example for verdict in one] == [row.id for row in rows]
    assert [verdict.example for verdict in other] == [row.id for row in shuffled]
    assert set(one) == set(other)
    assert {verdict.selector for verdict in one} == {name}
    known = {row.id for row in [*rows, *held]}
    assert all(verdict.why and verdict.rival in known | {""} for verdict in one if not verdict.kept)
