"""What of a score is left when the length of the answer is taken out of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FEWEST = 20  # rows of a group: among fewer, length and quality cannot be told apart
DEGREE = 3
SMALLEST = 0.02  # of a spread of residuals that is divided by

Floats = NDArray[np.float64]


def neutral(said: Floats, lengths: Sequence[int], groups: Sequence[str]) -> Floats:
    """Each value's standing within its group (rows of a task in one language) once output length is partialled out.

    From 0, the lowest, to 1, the highest; NaN stays NaN.
    Ranks of the values are regressed on a cubic in the ranks of the output's length, and the residuals, in units of what residuals of
    that length are, are ranked again (Spearman's partial correlation, with curves for lines). Groups with fewer than 20 values keep
    their plain ranks. It depends on the rows that are shown, not on their order.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for at in np.flatnonzero(~np.isnan(said)).tolist():
        members[groups[at]].append(at)
    sizes = np.array(lengths, dtype=float)
    out = np.full(len(said), np.nan)
    for group in members.values():
        standing = ranks(said[group])
        if len(group) >= FEWEST:
            by = ranks(sizes[group])
            apart = standing - _expected(standing, by)
            # Where rows of a length differ more among themselves, more of them would come out on top: so in units of their spread.
            # Rounded, so that the order in which rows come cannot part equal rows by the last bit.
            standing = ranks(np.round(apart / np.maximum(_expected(np.abs(apart), by), SMALLEST), 9))
        out[group] = np.round(standing, 6)
    return out


def _expected(values: Floats, lengths: Floats) -> Floats:
    """The cubic in `lengths` that lies nearest to the values; sums are taken in sorted order, so that row order changes nothing."""
    order = np.lexsort((values, lengths))
    powers = np.vander(lengths - 0.5, DEGREE + 1)
    fitted, *_ = np.linalg.lstsq(powers[order], values[order], rcond=None)
    return np.asarray(powers @ fitted)


def ranks(values: Floats) -> Floats:
    """Ranks from 0 (lowest) to 1 (highest); equal values share the mean of their ranks; a single value ranks 0.5."""
    if len(values) < 2:
        return np.full(len(values), 0.5)
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    before = np.cumsum(counts) - counts
    return np.asarray((before + (counts - 1) / 2)[at] / (len(values) - 1))
