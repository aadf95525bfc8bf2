"""Greedy choice of rows that are good and unlike each other, a block of candidates at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zhiling.errors import RecipeError, say
from zhiling.select.shingles import Ints

BLOCK = 1024
MOST = 300_000  # rows taken: each is compared with those before it
LOOKED = 1_000_000  # rows looked at: 2 GB of vectors

Floats = NDArray[np.float64]
Look = Callable[[Ints], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Picks:
    """What became of n rows: `taken` are those taken, in turn; of the others `near` is the row taken that it resembles too much (-1: none).

    `cosine` says how much; `full` that a row's turn came, but no room was left for it.
    """

    taken: Ints
    near: Ints
    cosine: Floats
    full: NDArray[np.bool_]


def fill(order: Ints, rows: int, sizes: Ints | None, tokens: int | None) -> Picks:
    """Take the first `rows` rows of the order; with `tokens` only such as still fit, a row counting for its size."""
    count = len(order)
    near, cosine, full = np.full(count, -1, dtype=np.int64), np.zeros(count), np.zeros(count, dtype=bool)
    if sizes is None or tokens is None:
        return Picks(order[:rows], near, cosine, full)
    used, taken = 0, list[int]()
    for start in range(0, count, BLOCK):
        part = order[start : start + BLOCK]
        for row, size in zip(part.tolist(), sizes[part].tolist(), strict=True):
            if len(taken) < rows and used + size <= tokens:
                used += size
                taken.append(row)
            else:
                full[row] = len(taken) < rows
    return Picks(np.array(taken, dtype=np.int64), near, cosine, full)


def greedy(
    quality: Floats,
    look: Look,
    rows: int,
    diversity: float,
    similar: float,
    sizes: Ints | None = None,
    tokens: int | None = None,
) -> Picks:
    """Take up to `rows` rows, each time the one with the highest gain; ties go to the earlier row.

    gain = (1 - diversity) * quality + diversity * (1 - c), where c is the row's highest cosine with the rows taken so far, at
    least 0; rows whose c is above `similar` are passed over. `look` gives some rows' vectors, of length 1; cosines are rounded to 4
    decimals. Gains can only fall as rows are taken, so an old gain is an upper bound, and only rows whose bound still leads need a
    fresh one (lazy greedy, Minoux 1978): the vectors of the others are never asked for. With `tokens`, a row whose size no longer fits
    when its turn comes is passed over. Raises RecipeError for more than MOST rows to take, and once LOOKED rows have been looked at.
    """
    from threadpoolctl import threadpool_limits

    if tokens is None and min(rows, len(quality)) > MOST:
        raise _too_many(min(rows, len(quality)))
    state = _State(quality, look, rows, diversity, sizes, tokens)
    with threadpool_limits(1, user_api="blas"):  # the products are small: more threads cost ten times what they bring
        while len(state.taken) < rows and state.open.any():
            if len(state.taken) > MOST:
                raise _too_many(len(state.taken))
            block, bound, rival = state.leaders()
            state.catch_up(block)
            state.take(block, bound, rival, rows, similar)
    over = (state.closest > similar) & ~state.full
    over[state.taken] = False
    return Picks(np.array(state.taken, dtype=np.int64), np.where(over, state.nearest, -1), state.closest, state.full)


def _many(what: str) -> RecipeError:
    mend = (
        f"ask for {MOST} rows or fewer, thin them out first with threshold or quota, or leave out diversity and similar",
        f"请把数量减到 {MOST} 行以内，或先用 threshold、quota 筛减，或去掉 diversity 与 similar",
    )
    return RecipeError(what, where="top", mend=say(*mend))


def _too_many(count: int) -> RecipeError:
    return _many(
        say(
            f"top compares the rows it takes with each other: {count} are too many",
            f"top 需对选取的行两两比较，{count} 行过多",
        )
    )


class _Seen:
    """The vectors of the rows looked at. `order` are all rows, those that can gain most first: they are looked at in this order."""

    def __init__(self, look: Look, order: Ints, first: int) -> None:
        self._look, self._order, self._first = look, order, first
        self._place = np.full(len(order), -1, dtype=np.int32)
        self._count = 0
        self._vectors = np.zeros((0, 1), dtype=np.float32)

    def __call__(self, rows: Ints) -> NDArray[np.float32]:
        while (self._place[rows] < 0).any():
            # a quarter more each time: who reads rows from a file goes through it whole
            stop = min(max(self._first, self._count + max(self._count // 4, BLOCK)), len(self._order), LOOKED)
            if stop == self._count:
                what = (
                    f"top looked at {LOOKED} rows, and too few of them differ",
                    f"top 已查看 {LOOKED} 行，其中互不相似的太少",
                )
                raise _many(say(*what))
            new = np.sort(self._order[self._count : stop])
            self._place[new] = np.arange(self._count, stop)
            vectors = self._look(new)
            self._vectors = np.concatenate([self._vectors, vectors]) if self._count else vectors
            self._count = stop
        return self._vectors[self._place[rows]]


class _State:
    """What is known of every row: its highest cosine with the rows taken, with which one, and with how many it was compared."""

    def __init__(
        self,
        quality: Floats,
        look: Look,
        rows: int,
        diversity: float,
        sizes: Ints | None,
        tokens: int | None,
    ) -> None:
        self.sizes: Ints | None = None if tokens is None else sizes
        self.left = tokens or 0
        self.full = np.zeros(len(quality), dtype=bool)
        self.diversity = diversity
        self.most = (1 - diversity) * quality + diversity  # the gain of a row unlike all others
        self.vectors = _Seen(look, np.argsort(-self.most, kind="stable"), max(4 * BLOCK, rows + rows // 4))
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
            cosines = self.vectors(block) @ self.vectors(new).T
            best = np.argmax(cosines, axis=1)
            self._see(block, np.round(cosines[np.arange(len(block)), best].astype(np.float64), 4), new[best])

    def take(self, block: Ints, bound: float, rival: int, rows: int, similar: float) -> None:
        """Take from the block as long as its best row beats the best that any row outside can offer."""
        vectors, most, closest, nearest = (
            self.vectors(block),
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

    def _see(self, block: Ints, cosines: Floats, rows: Ints) -> None:
        closer = cosines > self.closest[block]
        self.closest[block[closer]] = cosines[closer]
        self.nearest[block[closer]] = rows[closer]
