"""Rows laid out as one sequence in which every distinct prefix stands once.

The rows of a batch form a tree: rows that begin alike (system prompt, instruction, passage) share those tokens, and each token
attends to its own ancestors only. A causal model gives each row exactly what it would give it alone, but nothing is computed twice
and nothing is padded. With no common prefix this is packing with a block-diagonal mask. Models whose attention cannot
take such a mask get one row at a time (`shared=False`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhiling.tune.render import Rendered

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """N tokens to compute and T token losses to take from them.

    `ids` and `positions` are (N,); `allowed` is (N, N), row i saying which tokens i attends to, or None for an ordinary causal row.
    Loss k reads the logits of token `predict[pick[k]]`, expects `target[k]` and belongs to `rows[owner[k]]`.
    """

    rows: tuple[Rendered, ...]
    ids: Ints
    positions: Ints
    allowed: NDArray[np.bool_] | None
    predict: Ints
    pick: Ints
    target: Ints
    owner: Ints


def batches(rows: Sequence[Rendered], limit: int, shared: bool = True) -> Iterator[Batch]:
    """Trees of at most `limit` tokens (one row at least), over the rows in the order that shares most."""
    group: list[Rendered] = []
    size = 0
    for row in sorted(rows, key=lambda row: (row.ids, row.id)):
        fresh = len(row.ids) - 1 - (_common(group[-1], row) if group else 0)
        if group and (not shared or size + fresh > limit):
            yield tree(group, alone=not shared)
            group, size = [], 0
            fresh = len(row.ids) - 1
        group.append(row)
        size += fresh
    if group:
        yield tree(group, alone=not shared)


def tree(rows: Sequence[Rendered], alone: bool = False) -> Batch:
    """Lay out rows that are sorted by their ids. The last token of a row is only ever a target, so it is not computed."""
    ids: list[int] = []
    positions: list[int] = []
    spans: list[tuple[int, Ints]] = []  # (first fresh node, the row's path of nodes)
    path: Ints = np.zeros(0, dtype=np.int64)
    before: Rendered | None = None
    for row in rows:
        shared = _common(before, row) if before else 0
        fresh = np.arange(len(ids), len(ids) + len(row.ids) - 1 - shared)
        path = np.concatenate([path[:shared], fresh])
        ids += row.ids[shared:-1]
        positions += range(shared, len(row.ids) - 1)
        spans.append((len(path) - len(fresh), path))
        before = row
    nodes, targets, owners = [], [], []
    for number, (row, (_, path)) in enumerate(zip(rows, spans, strict=True)):
        seen = np.flatnonzero(row.trained[1:])
        nodes.append(path[seen])
        targets.append(np.asarray(row.ids, dtype=np.int64)[seen + 1])
        owners.append(np.full(len(seen), number, dtype=np.int64))
    predict, pick = np.unique(np.concatenate(nodes), return_inverse=True)
    return Batch(
        tuple(rows),
        np.asarray(ids, dtype=np.int64),
        np.asarray(positions, dtype=np.int64),
        None if alone else _allowed(len(ids), spans),
        predict,
        pick.astype(np.int64),
        np.concatenate(targets),
        np.concatenate(owners),
    )


def _allowed(size: int, spans: list[tuple[int, Ints]]) -> NDArray[np.bool_]:
    allowed = np.zeros((size, size), dtype=np.bool_)
    for shared, path in spans:
        fresh = path[shared:]
        if len(fresh):
            allowed[np.ix_(fresh, path[:shared])] = True
            allowed[np.ix_(fresh, fresh)] = np.tri(len(fresh), dtype=np.bool_)
    return allowed


def _common(a: Rendered, b: Rendered) -> int:
    """How many computed tokens two rows share at the start."""
    n = 0
    for x, y in zip(a.ids[:-1], b.ids[:-1], strict=False):
        if x != y:
            break
        n += 1
    return n


def tensors(batch: Batch, device: Any) -> dict[str, Any]:
    """The model's arguments: a batch of one sequence, the mask as 0 and -inf to add to the attention scores."""
    import torch

    mask = None
    if batch.allowed is not None:
        mask = torch.zeros(batch.allowed.shape, dtype=torch.float32).masked_fill_(
            ~torch.from_numpy(batch.allowed), -torch.inf
        )
        mask = mask[None, None].to(device)
    return {
        "input_ids": torch.from_numpy(batch.ids)[None].to(device),
        "position_ids": torch.from_numpy(batch.positions)[None].to(device),
        "attention_mask": mask,
        "logits_to_keep": torch.from_numpy(batch.predict).to(device),
        "use_cache": False,
    }
