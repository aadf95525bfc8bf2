"""Rows laid out as one sequence in which every distinct prefix stands once.

The rows of a batch form a tree: rows that begin alike (system prompt, instruction, passage) share those tokens, and each token
attends to its own ancestors only (`tune.attention`). A causal model gives each row exactly what it would give it alone, but nothing
is computed twice and nothing is padded. With no common prefix this is packing with a block-diagonal mask. Models whose
attention cannot be told so get one row at a time (`shared=False`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zhiling.tune.render import Rendered

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Span:
    """One row's place in the sequence: its tokens' places in order (`path`), of which the first `shared` belong to earlier rows too."""

    path: Ints
    shared: int


@dataclass(frozen=True, slots=True)
class Batch:
    """N tokens to compute and T token losses to take from them.

    `ids` and `positions` are (N,); `spans` has one Span per row, each with its own tokens side by side, in the order of the rows. Loss
    k reads the logits of token `predict[pick[k]]`, expects `target[k]` and belongs to `rows[owner[k]]`.
    """

    rows: tuple[Rendered, ...]
    ids: Ints
    positions: Ints
    spans: tuple[Span, ...]
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
            yield tree(group)
            group, size = [], 0
            fresh = len(row.ids) - 1
        group.append(row)
        size += fresh
    if group:
        yield tree(group)


def tree(rows: Sequence[Rendered]) -> Batch:
    """Lay out rows that are sorted by their ids. The last token of a row is only ever a target, so it is not computed."""
    ids: list[int] = []
    positions: list[int] = []
    spans: list[Span] = []
    for row in rows:
        shared = _common(rows[len(spans) - 1], row) if spans else 0
        fresh = np.arange(len(ids), len(ids) + len(row.ids) - 1 - shared)
        spans.append(Span(np.concatenate([spans[-1].path[:shared], fresh]) if spans else fresh, shared))
        ids += row.ids[shared:-1]
        positions += range(shared, len(row.ids) - 1)
    nodes, targets, owners = [], [], []
    for number, (row, span) in enumerate(zip(rows, spans, strict=True)):
        seen = np.flatnonzero(row.trained[1:])
        nodes.append(span.path[seen])
        targets.append(np.asarray(row.ids, dtype=np.int64)[seen + 1])
        owners.append(np.full(len(seen), number, dtype=np.int64))
    predict, pick = np.unique(np.concatenate(nodes), return_inverse=True)
    return Batch(
        tuple(rows),
        np.asarray(ids, dtype=np.int64),
        np.asarray(positions, dtype=np.int64),
        tuple(spans),
        predict,
        pick.astype(np.int64),
        np.concatenate(targets),
        np.concatenate(owners),
    )


def _common(a: Rendered, b: Rendered) -> int:
    """How many computed tokens two rows share at the start."""
    n = 0
    for x, y in zip(a.ids[:-1], b.ids[:-1], strict=False):
        if x != y:
            break
        n += 1
    return n
