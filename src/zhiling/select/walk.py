"""The walk of `join.leaders` over more rows than memory holds the shingles of.

Rows are walked in blocks. Of earlier blocks only what their kept rows are found by is known: the entries of `join.entries`, in sorted
runs in a file. A block's rows first meet these; the candidates' own shingles are made again from their tokens, so that each pair is
verified by its true Jaccard as it is in memory; what is still kept then walks among itself. Runs of one order of shingles, by how often
they occur in all rows, make the prefix filter exact across blocks: any order does, if it is the same for all. How often is counted in a
table by a part of the hash, so that some shingles pass for more frequent than they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from zhiling.select import spill
from zhiling.select.join import (
    CANDIDATES,
    MOST,
    PER_ROW,
    SIZE,
    Entries,
    Floats,
    Way,
    Windows,
    candidates,
    cheapest,
    entries,
    leaders,
    verify,
    windows,
)
from zhiling.select.parts import Parts
from zhiling.select.shingles import LOW, Hashes, Ints, Sets, gather, ngrams
from zhiling.select.spill import Spill, Tokens, cut

BUCKETS = 1 << 26  # of the table of frequencies: 256 MB at most
RUN = 1 << 23  # entries up to which two runs are made one
AT_ONCE = 1 << 20  # tokens counted at once

Crowd = Callable[[Ints, Ints], Iterator[Ints]]


def walk(
    tokens: Tokens, order: Ints, texts: slice, n: int, threshold: float, agree: Parts | None, folder: Path | None = None
) -> tuple[Ints, Floats]:
    """`join.leaders` over the rows in the order given, by the shingles of some neighbouring texts of each: (rivals, Jaccards).

    Rivals are places in the order, -1 for a row that is kept, and `agree` is asked for places in the order.
    """
    sizes = tokens.counts[:, texts].sum(axis=1, dtype=np.int64)[order]
    blocks = list(cut(sizes, spill.RESIDENT))
    if len(blocks) < 2:
        return leaders(tokens.sets(order, texts, n), threshold, agree)
    often = Often(tokens, texts, n)
    rival, value = np.full(len(order), -1, dtype=np.int64), np.zeros(len(order))
    known = Known(folder, np.zeros(len(order), dtype=np.int64))
    try:
        for block in blocks:
            start = block.start
            own = None if agree is None else agree.of(np.arange(block.start, block.stop))
            sets = gather(*ngrams(*tokens.take(order[block], texts), n), often)
            mine = by_hash(entries(sets, threshold, np.arange(len(sets))), sets)
            crowd = None if agree is None else partial(_crowd, agree, sizes, texts, threshold, start)
            for keys in _met(known, mine, len(sets), threshold, crowd):
                for part in cut(sizes[keys >> 32], spill.RESIDENT // 8):
                    a, b = keys[part] >> 32, keys[part] & LOW
                    rows, at = np.unique(a, return_inverse=True)
                    both = joined(sets, *ngrams(*tokens.take(order[rows], texts), n))
                    good, jaccard = verify(both, threshold, ((at + len(sets)) << 32) | b)
                    a, b = rows[(good >> 32) - len(sets)], (good & LOW) + start
                    fair = agree(a, b) if agree is not None and len(a) else np.ones(len(a), dtype=bool)
                    _beat(rival, value, a[fair], b[fair], jaccard[fair])
            local, jaccard = leaders(sets, threshold, own, np.flatnonzero(rival[block] < 0))
            fell = np.flatnonzero(local >= 0)
            rival[fell + start], value[fell + start] = local[fell] + start, jaccard[fell]
            known.add(mine, rival[block] < 0, start)
    finally:
        known.close()
    return rival, value


def _beat(rival: Ints, value: Floats, a: Ints, b: Ints, jaccard: Floats) -> None:
    """The earliest of its rivals beats a row."""
    order = np.lexsort((a, b))
    a, b, jaccard = a[order], b[order], jaccard[order]
    first = np.ones(len(b), dtype=bool)
    first[1:] = b[1:] != b[:-1]
    a, b, jaccard = a[first], b[first], jaccard[first]
    better = (rival[b] < 0) | (a < rival[b])
    rival[b[better]], value[b[better]] = a[better], jaccard[better]


class Often:
    """How often shingles occur in all rows: exactly, or more where several shingles share a bucket."""

    def __init__(self, tokens: Tokens, texts: slice, n: int) -> None:
        many = tokens.counts[:, texts].sum(axis=1, dtype=np.int64)
        buckets = min(BUCKETS, 1 << max(int(many.sum()) - 1, 1).bit_length())
        self._mask = np.uint64(buckets - 1)
        self._table = np.zeros(buckets, dtype=np.uint32)
        for part in cut(many, AT_ONCE):
            hashes, _ = ngrams(*tokens.take(np.arange(part.start, part.stop), texts), n)
            np.add.at(self._table, hashes & self._mask, np.uint32(1))

    def __call__(self, hashes: Hashes) -> Ints:
        many: Ints = self._table[hashes & self._mask].astype(np.int64)
        return many


class Known:
    """What the kept rows of earlier blocks are found by, as sorted runs in a file; shingles are here their hashes, less SIZE bits."""

    def __init__(self, folder: Path | None, sizes: Ints) -> None:
        self._spill, self._sizes = Spill(folder), sizes
        self._runs: list[tuple[int, int]] = []

    def add(self, mine: Entries, kept: np.ndarray, start: int) -> None:
        """The entries of a block's kept rows, whose places begin at `start`."""
        those = kept[mine.row]
        row, room, key = mine.row[those] + start, mine.room[those], mine.key[those]
        self._sizes[row] = mine.size[those]
        run = np.stack([key, row << 32 | room])
        while self._runs and self._runs[-1][1] + run.shape[1] <= RUN:
            run = np.concatenate([self._read(*self._runs.pop()), run], axis=1)
            run = run[:, np.argsort(run[0], kind="stable")]
        if run.size:
            self._runs.append((self._spill.put(run), run.shape[1]))

    def _read(self, place: int, size: int) -> Ints:
        return self._spill.get(place, 2 * size).reshape(2, size)

    def __iter__(self) -> Iterator[Entries]:
        for run in self._runs:
            key, place = self._read(*run)
            row = place >> 32
            yield Entries(key, row, place & LOW, self._sizes[row])

    def close(self) -> None:
        """Let go of the file."""
        self._spill.close()


def by_hash(mine: Entries, sets: Sets) -> Entries:
    """A block's entries under keys that mean the same in all blocks."""
    hashes = np.empty_like(sets.hashes)
    hashes[sets.numbers] = sets.hashes
    key = (hashes[mine.key >> SIZE] << np.uint64(SIZE)).view(np.int64) | (mine.key & MOST)
    order = np.argsort(key, kind="stable")
    return Entries(key[order], mine.row[order], mine.room[order], mine.size[order])


def _met(known: Known, mine: Entries, size: int, threshold: float, crowd: Crowd | None) -> Iterator[Ints]:
    """Candidate pairs as (place of a kept row) << 32 | row of the block, which has so many, ascending, in parts.

    Rows that meet a crowd are looked for among those that they meet in another way.
    """
    waiting, held = list[Ints](), 0
    for keys in _met_in_turn(known, mine, size, threshold, crowd):
        waiting.append(keys)
        held += len(keys)
        if held >= CANDIDATES:
            yield np.unique(np.concatenate(waiting))
            waiting, held = [], 0
    if held:
        yield np.unique(np.concatenate(waiting))


def _met_in_turn(known: Known, mine: Entries, size: int, threshold: float, crowd: Crowd | None) -> Iterator[Ints]:
    for theirs in known:
        met = windows(threshold, mine, theirs)
        if crowd is not None and met.cost > max(CANDIDATES, PER_ROW * size):
            many = met.costs(size) > PER_ROW
            yield from crowd(_inside(met.only(many)), np.flatnonzero(many))
            met = met.only(~many)
        yield from candidates(threshold, met, ordered=True)


def _inside(met: Windows) -> Ints:
    """The rows of `theirs` that lie in a window."""
    edges = np.zeros(len(met.theirs.row) + 1, dtype=np.int64)
    np.add.at(edges, met.begin, 1)
    np.add.at(edges, met.end, -1)
    return np.unique(met.theirs.row[np.cumsum(edges)[:-1] > 0])


def _crowd(
    agree: Parts, sizes: Ints, texts: slice, threshold: float, start: int, them: Ints, those: Ints
) -> Iterator[Ints]:
    """Candidates among kept rows and rows of a block, which begins at `start`, by the cheapest way: their sets are made anew."""
    for part in cut(sizes[them], spill.RESIDENT // 2):
        a = them[part]
        both = agree.of(np.concatenate([a, those + start]))
        whole = Way(both.tokens.sets(both.order, texts, both.n), threshold)
        mine = np.arange(len(a), len(a) + len(those))
        for least, met in cheapest(both.kinds, np.arange(len(a)), mine, whole):
            for keys in candidates(least, met, ordered=False):
                yield (a[keys & LOW] << 32) | those[(keys >> 32) - len(a)]


def joined(sets: Sets, hashes: Hashes, counts: Ints) -> Sets:
    """The sets, and after them those of further texts by their shingles' hashes, of which only such are kept as the sets know."""
    rows = np.repeat(np.arange(len(counts), dtype=np.int64) + len(sets), counts)
    order = np.lexsort((hashes, rows))
    rows, hashes = rows[order], hashes[order]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (rows[1:] != rows[:-1]) | (hashes[1:] != hashes[:-1])
    rows, hashes = rows[new], hashes[new]
    sizes = np.bincount(rows - len(sets), minlength=len(counts))
    place = np.minimum(np.searchsorted(sets.hashes, hashes), max(len(sets.hashes) - 1, 0))
    there = sets.hashes[place] == hashes if len(sets.hashes) else np.zeros(len(hashes), dtype=bool)
    keys = np.sort((rows[there] << 32) | sets.numbers[place[there]])
    many = np.bincount(rows[there] - len(sets), minlength=len(counts))
    return Sets(
        np.concatenate([sets.sizes, sizes]),
        np.concatenate([sets.starts, sets.starts[-1] + np.cumsum(many)]),
        np.concatenate([sets.keys, keys]),
        sets.hashes,
        sets.numbers,
    )
