"""Which of the hits to keep: near the task, and unlike each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from zhiling.embed import Embedder
from zhiling.text import jaccard, shingles

RELEVANCE = 0.7
"""What relevance counts against difference from those already kept (maximal marginal relevance, Carbonell and Goldstein 1998)."""
NEAR = 0.8
"""Shingle Jaccard above which one text is a copy of another."""

Fate: TypeAlias = Literal["kept", "copy", "beyond"]


def differing(
    said: Sequence[str], relevance: Sequence[float], keep: int, embedder: Embedder
) -> Iterator[tuple[int, Fate, int]]:
    """(text, what became of it, of which kept one it is a copy or -1), in the order of their worth; ties go to the earlier text.

    A text's worth is RELEVANCE x its relevance - (1 - RELEVANCE) x its highest cosine with those kept so far. At most `keep` are kept.
    """
    import numpy as np

    if not said:
        return
    vectors, grams = embedder(said), [shingles(one) for one in said]
    nearest, kept, left = np.zeros(len(said)), list[int](), list(range(len(said)))
    while left:
        worth = RELEVANCE * np.asarray(relevance) - (1 - RELEVANCE) * nearest
        best = max(left, key=lambda i: (round(float(worth[i]), 6), -i))
        left.remove(best)
        copy = next((k for k in kept if jaccard(grams[best], grams[k]) > NEAR), -1)
        if copy >= 0:
            yield best, "copy", copy
        elif len(kept) < keep:
            kept.append(best)
            nearest = np.maximum(nearest, vectors @ vectors[best])
            yield best, "kept", -1
        else:
            yield best, "beyond", -1
