"""Attention over rows that share their beginnings: each row's own tokens look at that row's tokens and at nothing else.

Registered with transformers as one more implementation, on top of its own scaled-dot-product attention, and used for models that
use that one. It costs what the rows would cost alone: no token of one row is ever multiplied with a token of another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from zhiling.tune.batch import Span

NAME = "zhiling_tree"


@dataclass(frozen=True, slots=True)
class _Look:
    """What tokens start..stop attend to: the tokens `path` in order, under `mask` (None: it is an ordinary causal row)."""

    start: int
    stop: int
    path: Any
    mask: Any


_now: list[tuple[_Look, ...]] = []
"""The tree of the pass that is being made, innermost last. No context variable: blocks that are recomputed on a GPU are so in a thread of
autograd's own, which must see it too. One process tunes one model at a time."""


def install(model: Any) -> bool:
    """Make a model attend over trees where `over` says so. False, nothing changed, where its attention cannot be replaced."""
    from transformers import AttentionInterface

    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, _attend)
        model.set_attn_implementation(NAME)
    return bool(model.config._attn_implementation == NAME)


def remove(model: Any) -> None:
    """Give a model its own attention back."""
    if model.config._attn_implementation == NAME:
        model.set_attn_implementation("sdpa")


@contextmanager
def over(spans: Sequence[Span], device: Any) -> Iterator[None]:
    """Within it, a pass over one sequence of tokens, forward and (where blocks are recomputed) back, is one over the spans' tree."""
    import torch

    looks = []
    for span in spans:
        fresh = len(span.path) - span.shared
        if fresh:
            mask = None
            if span.shared:
                mask = torch.ones(1, 1, fresh, len(span.path), dtype=torch.bool, device=device).tril(span.shared)
            start = int(span.path[span.shared])
            looks.append(_Look(start, start + fresh, torch.from_numpy(span.path).to(device), mask))
    _now.append(tuple(looks))
    try:
        yield
    finally:
        _now.pop()


def _attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **more: Any) -> tuple[Any, None]:
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if not _now:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)[0], None
    parts = []
    for look in _now[-1]:
        own = query[:, :, look.start : look.stop]
        keys, values = key.index_select(2, look.path), value.index_select(2, look.path)
        parts.append(sdpa_attention_forward(module, own, keys, values, look.mask, **more)[0])
    return torch.cat(parts, dim=1), None
