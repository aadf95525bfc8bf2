from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from zhiling.tune import attention
from zhiling.tune.attention import install
from zhiling.tune.batch import batches, tree
from zhiling.tune.loss import row_sums, share, token_losses
from zhiling.tune.render import Rendered

SMALL = st.integers(0, 3)
ROWS = st.lists(st.lists(SMALL, min_size=2, max_size=12), min_size=1, max_size=10)


def made(lists) -> list[Rendered]:
    return [
        Rendered(str(k), "t", tuple(ids), (False, *[j % 3 != 1 for j in range(1, len(ids) - 1)], True))
        for k, ids in enumerate(lists)
    ]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request):
    made = AutoModelForCausalLM.from_pretrained(request.getfixturevalue(request.param)).eval()
    assert install(made)
    return made


def alone(model, row: Rendered) -> list[float]:
    with torch.no_grad():
        logp = model(torch.tensor([row.ids])).logits[0].double().log_softmax(-1)
    return [-float(logp[k - 1, row.ids[k]]) for k in range(1, len(row.ids)) if row.trained[k]]


@settings(max_examples=40, deadline=None)
@example([[0, 1], [0, 0, 0]])  # the later row is predicted from the earlier token
@given(ROWS)
def test_a_tree_gives_every_row_what_it_gets_alone(model, lists):
    rows = sorted(made(lists), key=lambda row: row.ids)
    batch = tree(rows)
    with torch.no_grad():
        losses = token_losses(model, batch)
    for number, row in enumerate(batch.rows):
        own = losses[torch.from_numpy(batch.owner == number)].tolist()
        assert own == pytest.approx(alone(model, row), rel=1e-4, abs=1e-5)


@settings(max_examples=80, deadline=None)
@given(ROWS, st.integers(1, 40), st.booleans())
def test_no_row_is_lost_and_no_prefix_computed_twice(lists, limit, shared):
    rows = made(lists)
    out = list(batches(rows, limit, shared))
    assert sorted(row.id for batch in out for row in batch.rows) == sorted(row.id for row in rows)
    assert sum(len(batch.target) for batch in out) == sum(row.targets for row in rows)
    for batch in out:
        prefixes = {row.ids[:k] for row in batch.rows for k in range(1, len(row.ids))}
        assert len(batch.ids) == len(prefixes)
        assert len(batch.rows) == 1 or (shared and len(batch.ids) <= limit)
        for row, span in zip(batch.rows, batch.spans, strict=True):
            assert tuple(batch.ids[span.path]) == row.ids[:-1]
            assert list(batch.positions[span.path]) == list(range(len(row.ids) - 1))
        own = [node for span in batch.spans for node in span.path[span.shared :]]
        assert own == list(range(len(batch.ids)))


@pytest.mark.parametrize("shared", [True, False])
def test_the_batch_size_changes_no_loss(model, shared):
    rows = made([[1, 2, 3, 1, 2], [1, 2, 3, 2], [1, 2, 3, 2], [0, 1], [3, 3, 3, 3, 3, 3]])
    for limit in (1, 7, 1000):
        with torch.no_grad():
            sums = {
                row.id: s
                for b in batches(rows, limit, shared)
                for row, s in zip(b.rows, row_sums(b, token_losses(model, b)), strict=True)
            }
        assert sums == {row.id: pytest.approx(sum(alone(model, row)), rel=1e-5) for row in rows}


def test_a_model_that_cannot_attend_over_trees_is_found_out(model, monkeypatch):
    rows = made([[1, 2, 3, 1], [1, 2, 0, 3, 2]])
    assert share(model, rows, 1e-3)
    with monkeypatch.context() as patch:  # one that takes the name but not the tree
        patch.setattr(attention, "over", lambda *_: nullcontext())
        assert not share(model, rows, 1e-3)
    assert model.config._attn_implementation == "sdpa"
    eager = AutoModelForCausalLM.from_pretrained(model.name_or_path, attn_implementation="eager")
    assert not share(eager, rows, 1e-3) and eager.config._attn_implementation == "eager"
    assert share(model, rows, 1e-3)


def test_a_window_shorter_than_a_row_rules_the_tree_out(model):
    model.config.sliding_window = 3
    try:
        assert not share(model, made([[1, 2, 3, 1], [1, 2]]), 1e-3)
        assert share(model, made([[1, 2, 3], [1, 2]]), 1e-3)
    finally:
        del model.config.sliding_window
