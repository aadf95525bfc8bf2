"""Exact set-similarity join: every pair of texts whose shingle sets reach a Jaccard threshold, and nothing else.

Prefix filtering (Chaudhuri et al. 2006, "A primitive operator for set similarity joins"; Bayardo et al. 2007): two sets with
Jaccard >= t share one of their |x| - ceil(t|x|) + 1 rarest shingles, and their sizes lie within a factor t. Since most
shingles of a text occur nowhere else, few candidates remain, and each is verified by its true overlap: at the thresholds that
mean "near-duplicate" this is faster than MinHash and has no misses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zhiling.select.shingles import LOW, Ints, Sets

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SIZE = 20  # bits of an entry's key that hold its set's size; larger sets count as the largest that fits
MOST = (1 << SIZE) - 1
CANDIDATES = 1 << 20  # candidate pairs handled at once: bounds the memory
PER_ROW = 64  # candidates per row from which on rows count as a crowd
SLACK = 1e-9  # 0.7 * 10 is 7.000000000000001 in floats


@dataclass(frozen=True, slots=True)
class Entries:
    """One entry for each shingle in a row's prefix, sorted by `key` = shingle << SIZE | size of the row's set.

    `room` is how many shingles of the row come at or after this one: no pair that meets here first can share more.
    """

    key: Ints
    row: Ints
    room: Ints
    size: Ints


@dataclass(frozen=True, slots=True)
class Windows:
    """For each entry of `mine` the run `begin:end` of entries in `theirs` that it must be compared with."""

    mine: Entries
    theirs: Entries
    begin: Ints
    end: Ints

    @property
    def cost(self) -> int:
        """How many candidate pairs that makes, a pair counted once per shared prefix shingle."""
        return int((self.end - self.begin).sum())

    def costs(self, rows: int) -> Floats:
        """The same for each row of `mine`, of so many rows."""
        return np.bincount(self.mine.row, weights=self.end - self.begin, minlength=rows).astype(np.float64)

    def only(self, rows: Bools) -> Windows:
        """The same for those rows of `mine` alone."""
        those = rows[self.mine.row]
        key, row, room, size = (
            column[those] for column in (self.mine.key, self.mine.row, self.mine.room, self.mine.size)
        )
        return Windows(Entries(key, row, room, size), self.theirs, self.begin[those], self.end[those])


@dataclass(frozen=True, slots=True)
class Way:
    """What pairs are found by: sets in which all those that are looked for have a Jaccard of `threshold` or more."""

    sets: Sets
    threshold: float

    def entries(self, rows: Ints) -> Entries:
        """What the rows are found by; see `entries`."""
        return entries(self.sets, self.threshold, rows)


@dataclass(frozen=True, slots=True)
class Kind:
    """Pairs of a row that is `one` and a row that is `other`, and the ways in which all of them that are looked for can be found."""

    one: Bools
    other: Bools
    ways: list[Way]


class Agree(Protocol):
    """A test that pairs of rows must pass besides; `kinds` part all pairs of rows, each of them being in one."""

    def __call__(self, a: Ints, b: Ints) -> Bools: ...

    @property
    def kinds(self) -> Sequence[Kind]: ...


def pairs(
    sets: Sets, threshold: float, left: Ints | None = None, right: Ints | None = None
) -> tuple[Ints, Ints, Floats]:
    """All pairs (a, b) of rows with Jaccard >= threshold, and their Jaccard, sorted by b, then a.

    Pairs are within `left` (default: all rows), a < b; or, with `right`, a from left and b from right. Rows without any token
    are in no pair. The threshold lies in (0, 1].
    """
    rows = np.arange(len(sets), dtype=np.int64) if left is None else left
    mine = entries(sets, threshold, rows)
    theirs = None if right is None else entries(sets, threshold, right)
    return _compare(sets, threshold, windows(threshold, mine, theirs), ordered=right is not None)


def leaders(sets: Sets, threshold: float, agree: Agree | None = None, rows: Ints | None = None) -> tuple[Ints, Floats]:
    """Walk the rows (default: all) in order; a row is dropped when it reaches the threshold with a row kept before it.

    Returns for each row its rival, the first such kept row (-1: the row itself is kept), and their Jaccard. So no two kept rows
    are near-duplicates and every dropped row has a kept rival that it truly resembles; with connected components a chain of
    small steps may join rows that have nothing in common. `agree` may veto pairs.
    """
    rival, value = np.full(len(sets), -1, dtype=np.int64), np.zeros(len(sets))
    _Walk(Way(sets, threshold), agree, rival, value).settle(np.arange(len(sets)) if rows is None else rows)
    return rival, value


@dataclass(frozen=True, slots=True)
class _Walk:
    whole: Way
    agree: Agree | None
    rival: Ints
    value: Floats

    def settle(self, rows: Ints) -> None:
        rival, value = self.rival, self.value
        if len(rows) < 2:
            return
        most = max(CANDIDATES, PER_ROW * len(rows))
        met = [(self.whole.threshold, windows(self.whole.threshold, self.whole.entries(rows), None))]
        if self.agree is not None and met[0][1].cost > most:
            met = cheapest(self.agree.kinds, rows, rows, self.whole)
        if sum(part.cost for _, part in met) <= most:
            for a, b, j in zip(*(column.tolist() for column in self._found(met)), strict=True):
                if rival[b] < 0 and rival[a] < 0:
                    rival[b], value[b] = a, j
            return
        # A crowd of rows that resemble each other: its second half meets the survivors of the first only, so that the
        # work does not grow with the square of the crowd.
        first, second = rows[: len(rows) // 2], rows[len(rows) // 2 :]
        self.settle(first)
        every = np.ones(len(rival), dtype=bool)
        kinds = [Kind(every, every, [])] if self.agree is None else self.agree.kinds
        left, right, jaccard = self._found(cheapest(kinds, first[rival[first] < 0], second, self.whole))
        beaten, earliest = np.unique(right, return_index=True)
        rival[beaten], value[beaten] = left[earliest], jaccard[earliest]
        self.settle(second[rival[second] < 0])

    def _found(self, met: Iterable[tuple[float, Windows]]) -> tuple[Ints, Ints, Floats]:
        """The pairs (a, b) that reach the threshold and pass the test, and their Jaccard, sorted by b, then a."""
        found = []
        for threshold, part in met:
            for some in candidates(threshold, part, ordered=False):
                others = some[some >> 32 != some & LOW]  # a row that meets its own like meets itself
                keys, jaccard = verify(self.whole.sets, self.whole.threshold, others)
                if self.agree is not None and len(keys):
                    fair = self.agree(keys & LOW, keys >> 32)
                    keys, jaccard = keys[fair], jaccard[fair]
                found.append((keys, jaccard))
        return _sorted(found)


def cheapest(kinds: Iterable[Kind], left: Ints, right: Ints, whole: Way | None = None) -> list[tuple[float, Windows]]:
    """Where the partners, of `left`, of each row of `right` lie by the way that makes the fewest candidates of it: (threshold, windows).

    Ways are those of the kind and the `whole`. A row without tokens is found by no way.
    """
    met = []
    for kind in kinds:
        theirs, mine = left[kind.one[left]], right[kind.other[right]]
        if not len(theirs) or not len(mine):
            continue
        ways = [*kind.ways, *([] if whole is None else [whole])]
        near = [windows(way.threshold, way.entries(mine), way.entries(theirs)) for way in ways]
        costs = [
            np.where(way.sets.sizes > 0, part.costs(len(way.sets)), np.inf)
            for way, part in zip(ways, near, strict=True)
        ]
        best = np.argmin(costs, axis=0)
        met += [(way.threshold, part.only(best == at)) for at, (way, part) in enumerate(zip(ways, near, strict=True))]
    return met


def entries(sets: Sets, threshold: float, rows: Ints) -> Entries:
    """What the rows are found by: their rarest shingles, as many as a row that reaches the threshold must share one of."""
    sizes, shared = sets.sizes[rows], sets.shared[rows]
    prefix = sizes - np.ceil(threshold * sizes - SLACK).astype(np.int64) + 1
    # Shingles that no other text has are the rarest of all: they come first, and can be skipped.
    many = np.clip(prefix - (sizes - shared), 0, shared)
    place = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
    size = np.repeat(sizes, many)
    key = ((sets.keys[np.repeat(sets.starts[rows], many) + place] & LOW) << SIZE) | np.minimum(size, MOST)
    order = np.argsort(key, kind="stable")
    return Entries(key[order], np.repeat(rows, many)[order], (np.repeat(shared, many) - place)[order], size[order])


def windows(threshold: float, mine: Entries, theirs: Entries | None) -> Windows:
    """Partners have the same shingle, and a size at which the threshold can still be reached from here (positional filter).

    Without `theirs` the partners are among mine.
    """
    other = mine if theirs is None else theirs
    size, item = mine.size, mine.key & ~MOST
    longest = np.minimum(size / threshold, mine.room * ((1 + threshold) / threshold) - size)
    longest = np.clip(np.floor(longest + SLACK), 0, MOST).astype(np.int64)
    end = np.searchsorted(other.key, item | longest, side="right")
    if theirs is None:  # the shorter of the two finds the longer
        begin = np.arange(1, len(size) + 1)
    else:
        shortest = np.clip(np.ceil(size * threshold - SLACK), 0, MOST).astype(np.int64)
        begin = np.searchsorted(other.key, item | shortest)
    return Windows(mine, other, begin, np.maximum(begin, end))


def _compare(sets: Sets, threshold: float, met: Windows, *, ordered: bool) -> tuple[Ints, Ints, Floats]:
    return _sorted([verify(sets, threshold, keys) for keys in candidates(threshold, met, ordered)])


def _sorted(found: Sequence[tuple[Ints, Floats]]) -> tuple[Ints, Ints, Floats]:
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros(0)
    keys, index = np.unique(np.concatenate([part[0] for part in found]), return_index=True)
    return keys & LOW, keys >> 32, np.concatenate([part[1] for part in found])[index]


def candidates(threshold: float, met: Windows, ordered: bool) -> Iterator[Ints]:
    """Distinct candidate pairs as b << 32 | a, in blocks, a being of mine. Unless `ordered`, the lower row of a pair becomes a."""
    mine, theirs = met.mine, met.theirs
    many = met.end - met.begin
    total = np.cumsum(many)
    cuts = np.searchsorted(total, np.arange(CANDIDATES, int(total[-1]) if len(total) else 0, CANDIDATES)) + 1
    for start, stop in zip([0, *cuts], [*cuts, len(many)], strict=True):
        part = many[start:stop]
        at = np.repeat(met.begin[start:stop] - np.cumsum(part) + part, part) + np.arange(part.sum())
        a, b = np.repeat(mine.row[start:stop], part), theirs.row[at]
        room = np.minimum(np.repeat(mine.room[start:stop], part), theirs.room[at])
        both = np.repeat(mine.size[start:stop], part) + theirs.size[at]
        possible = room * (1 + threshold) >= threshold * both - SLACK
        a, b = a[possible], b[possible]
        if not ordered:
            a, b = np.minimum(a, b), np.maximum(a, b)
        if len(a):
            yield np.unique((b << 32) | a)


def jaccards(sets: Sets, a: Ints, b: Ints) -> Floats:
    """The Jaccard of each pair (a[i], b[i]) of rows; two rows without tokens are equal."""
    both = sets.sizes[a] + sets.sizes[b]
    overlap = _overlaps(sets, a, b)
    return np.where(both > 0, overlap / np.maximum(both - overlap, 1), 1.0)


def verify(sets: Sets, threshold: float, keys: Ints) -> tuple[Ints, Floats]:
    """Those of the candidates that reach the threshold, and their Jaccard."""
    a, b = keys & LOW, keys >> 32
    both = sets.sizes[a] + sets.sizes[b]
    needed = threshold / (1 + threshold) * both - SLACK
    possible = np.minimum(sets.shared[a], sets.shared[b]) >= needed
    keys, both, needed = keys[possible], both[possible], needed[possible]
    overlap = _overlaps(sets, a[possible], b[possible])
    good = overlap >= needed
    return keys[good], overlap[good] / (both[good] - overlap[good])


def _overlaps(sets: Sets, a: Ints, b: Ints) -> Floats:
    """|set a ∩ set b| for each pair: the shared shingles of the one with fewer are looked up in the other."""
    if not len(a) or not len(sets.keys):
        return np.zeros(len(a))
    shared = sets.shared
    few, more = np.where(shared[a] <= shared[b], (a, b), (b, a))
    many = shared[few]
    at = np.repeat(sets.starts[few] - np.cumsum(many) + many, many) + np.arange(many.sum())
    wanted = (np.repeat(more, many) << 32) | (sets.keys[at] & LOW)
    place = np.minimum(np.searchsorted(sets.keys, wanted), len(sets.keys) - 1)
    hits = np.bincount(np.repeat(np.arange(len(few)), many), weights=sets.keys[place] == wanted, minlength=len(few))
    return hits.astype(np.float64)
