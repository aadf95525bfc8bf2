"""Which of the rows found are of the same kind as the question: what many near rows resemble is more likely to be wanted.

A row that shares no word with the question may share many with rows that do. So the hits are joined into a graph, each with its
few nearest, and the question's scores are spread over it to their fixed point (Zhou et al. 2003, "Ranking on data manifolds").
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POOL = 120
"""How many hits take part."""
NEIGHBOURS, SPREAD, SHARPNESS, VECTOR = 5, 0.8, 3, 0.4
"""Edges per row, the part of a score that comes from neighbours, the power that favours the best hits, the vectors' part in an edge.
Chosen on half of Natural Instructions' categories; `benchmarks/bank.py` measures all."""


def kinship(
    scores: Sequence[float], terms: Sequence[frozenset[str]], vectors: NDArray[np.float32] | None
) -> NDArray[np.float64]:
    """The spread scores of n hits, highest 1, from their search scores, index terms and (n, dim) unit vectors."""
    import numpy as np

    n = len(scores)
    direct = np.asarray(scores, dtype=np.float64)
    if n < 3 or direct.max() <= 0:
        return direct / max(direct.max(), 1e-9) if n else direct
    near = _scaled(_shared(terms))
    if vectors is not None:
        near = (1 - VECTOR) * near + VECTOR * _scaled(vectors.astype(np.float64) @ vectors.T)
    near = (near + near.T) / 2
    np.fill_diagonal(near, 0)
    k = min(NEIGHBOURS, n - 1)
    edges = np.where(near >= np.partition(near, n - k, axis=1)[:, [n - k]], near, 0)
    edges = np.maximum(edges, edges.T)
    degree = np.sqrt(edges.sum(1) + 1e-9)
    flow = edges / np.outer(degree, degree)
    spread = np.linalg.solve(np.eye(n) - SPREAD * flow, (direct / direct.max()) ** SHARPNESS)
    return np.asarray(spread / spread.max())


def _shared(terms: Sequence[frozenset[str]]) -> NDArray[np.float64]:
    """(n, n): the part of each text's terms, weighted by their rarity among these texts, that the other text has too."""
    import numpy as np

    seen = Counter(term for own in terms for term in own)
    common = {term: i for i, term in enumerate(term for term, count in seen.items() if count > 1)}
    n = len(terms)
    rarity = {term: math.log(1 + (n - count + 0.5) / (count + 0.5)) for term, count in seen.items()}
    weight = np.sqrt(np.array([rarity[term] for term in common], dtype=np.float32))
    held = np.zeros((n, len(common)), dtype=np.float32)
    for i, own in enumerate(terms):
        held[i, [common[term] for term in own if term in common]] = 1
    held *= weight
    total = np.array([sum(rarity[term] for term in own) for own in terms], dtype=np.float64)
    return np.asarray(held @ held.T, dtype=np.float64) / np.maximum(total, 1e-9)[:, None]


def _scaled(near: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each row's values, but its own, put between 0 and 1: how near is near differs from text to text."""
    import numpy as np

    other = ~np.eye(len(near), dtype=bool)
    low = np.where(other, near, np.inf).min(1, keepdims=True)
    high = np.where(other, near, -np.inf).max(1, keepdims=True)
    return np.asarray((near - low) / np.maximum(high - low, 1e-9))
