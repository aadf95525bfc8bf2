"""Greedy choice of rows that are good and unlike each other, a block of candidates at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zhiling.select.shingles import Ints

BLOCK = 1024


class Pick(NamedTuple):
    """What became of a row: taken or not. `near` is the row taken that it resembles too much (-1: none), `cosine` how much.

    `full` says that its turn came, but no room was left for it.
    """

    row: int
    taken: bool
    near: int = -1
    cosine: float = 0.0
    full: bool = False


def fill(order: Ints, rows: int, sizes: Ints | None, tokens: int | None) -> list[Pick]:
    """Take the first `rows` rows of the order; with `tokens` only such as still fit, a row counting for its size."""
    if sizes is None or tokens is None:
        return [Pick(row, place < rows) for place, row in enumerate(order.tolist())]
    picks, used, taken = list[Pick](), 0, 0
    for row, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        good = taken < rows and used + size <= tokens
        used, taken = used + size * good, taken + good
        picks.append(Pick(row, good, full=taken < rows and not good))
    return picks


def greedy(
    quality: NDArray[np.float64],
    vectors: NDArray[np.float32],
    rows: int,
    diversity: float,
    similar: float,
    sizes: Ints | None = None,
    tokens: int | None = None,
) -> list[Pick]:
    """Take up to `rows` rows, each time the one with the highest gain; ties go to the earlier row.

    gain = (1 - diversity) * quality + diversity * (1 - c), where c is the row's highest cosine with the rows taken so far, at
    least 0; rows whose c is above `similar` are passed over. `vectors` are unit rows; cosines are rounded to 4 decimals. Gains
    can only fall as rows are taken, so an old gain is an upper bound, and only rows whose bound still leads need a fresh
    one (lazy greedy, Minoux 1978). With `tokens`, a row whose size no longer fits when its turn comes is passed over. The picks come
    first, in the order in which they were taken.
    """
    from threadpoolctl import threadpool_limits

    state = _State(quality, vectors, diversity, sizes, tokens)
    with threadpool_limits(1, user_api="blas"):  # the products are small: more threads cost ten times what they bring
        while len(state.taken) < rows and state.open.any():
            block, bound, rival = state.leaders()
            state.catch_up(block)
            state.take(block, bound, rival, rows, similar)
    taken = set(state.taken)
    picks = [Pick(row, True) for row in state.taken]
    for row in range(len(quality)):
        if row not in taken:
            over = state.closest[row] > similar and not state.full[row]
            near = int(state.nearest[row]) if over else -1
            picks.append(Pick(row, False, near, float(state.closest[row]), bool(state.full[row])))
    return picks


class _State:
    """What is known of every row: its highest cosine with the rows taken, with which one, and with how many it was compared."""

    def __init__(
        self,
        quality: NDArray[np.float64],
        vectors: NDArray[np.float32],
        diversity: float,
        sizes: Ints | None,
        tokens: int | None,
    ) -> None:
        self.sizes: Ints | None = None if tokens is None else sizes
        self.left = tokens or 0
        self.full = np.zeros(len(quality), dtype=bool)
        self.vectors, self.diversity = vectors, diversity
        self.most = (1 - diversity) * quality + diversity  # the gain of a row unlike all others
        self.closest = np.zeros(len(quality))
        self.nearest = np.full(len(quality), -1, dtype=np.int64)
        self.compared = np.zeros(len(quality), dtype=np.int64)
        self.open = np.ones(len(quality), dtype=bool)
        self.taken: list[int] = []

    def leaders(self) -> tuple[Ints, float, int]:
        """The rows with the highest bounds, ascending; and the highest bound among the others, with its first row."""
        gain = np.where(self.open, self.most - self.diversity * self.closest, -np.inf)
        if self.open.sum() <= BLOCK:
            return np.flatnonzero(self.open), -np.inf, len(gain)
        least = np.partition(gain, -BLOCK)[-BLOCK]
        above, level = np.flatnonzero(gain > least), np.flatnonzero(gain == least)
        block = np.sort(np.concatenate([above, level[: BLOCK - len(above)]]))
        gain[block] = -np.inf
        rival = int(np.argmax(gain))
        return block, float(gain[rival]), rival

    def catch_up(self, block: Ints) -> None:
        """Compare the rows of the block with those taken since they were last compared."""
        since = int(self.compared[block].min())
        for start in range(since, len(self.taken), BLOCK):
            new = np.array(self.taken[start : start + BLOCK], dtype=np.int64)
            cosines = self.vectors[block] @ self.vectors[new].T
            best = np.argmax(cosines, axis=1)
            self._see(block, np.round(cosines[np.arange(len(block)), best].astype(np.float64), 4), new[best])

    def take(self, block: Ints, bound: float, rival: int, rows: int, similar: float) -> None:
        """Take from the block as long as its best row beats the best that any row outside can offer."""
        vectors, most, closest, nearest = (
            self.vectors[block],
            self.most[block],
            self.closest[block],
            self.nearest[block],
        )
        gain = np.where(closest <= similar, most - self.diversity * closest, -np.inf)
        while len(self.taken) < rows:
            at = int(np.argmax(gain))
            if gain[at] == -np.inf or gain[at] < bound or (gain[at] == bound and block[at] > rival):
                break
            if self.sizes is not None:
                if self.sizes[block[at]] > self.left:
                    gain[at], self.full[block[at]] = -np.inf, True
                    continue
                self.left -= int(self.sizes[block[at]])
            self.taken.append(int(block[at]))
            cosines = np.round((vectors @ vectors[at]).astype(np.float64), 4)
            closer = np.flatnonzero(cosines > closest)
            closest[closer], nearest[closer] = cosines[closer], block[at]
            fresh = np.where(closest[closer] <= similar, most[closer] - self.diversity * closest[closer], -np.inf)
            gain[closer] = np.minimum(gain[closer], fresh)
            gain[at] = -np.inf
        self.open[block] = gain > -np.inf
        self.closest[block], self.nearest[block], self.compared[block] = closest, nearest, len(self.taken)

    def _see(self, block: Ints, cosines: NDArray[np.float64], rows: Ints) -> None:
        closer = cosines > self.closest[block]
        self.closest[block[closer]] = cosines[closer]
        self.nearest[block[closer]] = rows[closer]
