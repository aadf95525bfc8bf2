"""Numbers that need not be in memory: the tokens of all rows, in a file without a name once they are many."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zhiling.select.shingles import Hashes, Ints, Sets, gather, ngrams
from zhiling.text import hashed

RESIDENT = 1 << 22  # tokens of which shingle sets are made at once: some 100 bytes of memory each at the peak
AT_ONCE = 1 << 18  # numbers looked up between two sweeps of the memory

Words = NDArray[np.int64]


class Spill:
    """Arrays of 64-bit numbers, written one after the other to a file that has no name: it is gone with the process, killed or not."""

    def __init__(self, folder: Path | None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `close`
        self._size = 0
        self._map: mmap.mmap | None = None

    def put(self, words: Words) -> int:
        """Write the numbers at the end; returns the place of the first."""
        place = self._size
        self._file.seek(8 * place)
        self._file.write(words.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        self._size += words.size
        return place

    def get(self, place: int, size: int) -> Words:
        """So many numbers from a place on."""
        words = np.empty(size, dtype=np.int64)
        self._file.seek(8 * place)
        self._file.readinto(words.view(np.uint8))  # type: ignore[arg-type]
        return words

    def at(self, places: Ints) -> Words:
        """The numbers at these places, wherever they lie."""
        if self._map is None:
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        every, words = np.frombuffer(self._map, dtype=np.int64), np.empty(len(places), dtype=np.int64)
        for start in range(0, len(places), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            words[part] = every[places[part]]
            if hasattr(self._map, "madvise"):
                # What was looked at, and what the system laid beside it, stays in its cache and leaves our memory.
                self._map.madvise(mmap.MADV_DONTNEED)
        return words

    def close(self) -> None:
        """Let go of the file."""
        if self._map is not None:
            self._map.close()
        self._file.close()


class Tokens:
    """The tokens of n rows, each of several texts in turn, as hashes. Tokens do not run over from one text into the next.

    `counts[i, k]` is how many tokens the k-th text of row i has. Up to RESIDENT tokens are held in memory, more lie in a file in `folder`.
    """

    def __init__(self, rows: Iterable[Iterable[str]], texts: int, folder: Path | None = None) -> None:
        held, counts, size = list[Hashes](), list[Ints](), 0
        self._spill: Spill | None = None
        for hashes, many in hashed(chain.from_iterable(rows)):
            size += len(hashes)
            counts.append(many.astype(np.int32))
            held.append(hashes)
            if size > RESIDENT:
                self._spill = self._spill or Spill(folder)
                while held:
                    self._spill.put(held.pop(0).view(np.int64))
        self._held = np.concatenate(held) if held else np.zeros(0, dtype=np.uint64)
        self.counts = (np.concatenate(counts) if counts else np.zeros(0, dtype=np.int32)).reshape(-1, texts)
        self._starts = np.concatenate([[0], np.cumsum(self.counts.sum(axis=1, dtype=np.int64))])

    def __len__(self) -> int:
        return len(self.counts)

    def take(self, rows: Ints, texts: slice) -> tuple[Hashes, Ints]:
        """The tokens of some neighbouring texts of each row, row after row, and how many each row has."""
        whole = texts == slice(0, self.counts.shape[1])
        if whole and len(rows) and np.array_equal(rows, np.arange(rows[0], rows[-1] + 1)):
            starts = self._starts[rows[0] : rows[-1] + 2]
            return self._run(int(starts[0]), int(starts[-1])), np.diff(starts)
        before = self.counts[rows, : texts.start].sum(axis=1, dtype=np.int64)
        many = self.counts[rows, texts].sum(axis=1, dtype=np.int64)
        at = np.repeat(self._starts[rows] + before - np.cumsum(many) + many, many) + np.arange(many.sum())
        return (self._held[at] if self._spill is None else self._spill.at(at).view(np.uint64)), many

    def _run(self, start: int, stop: int) -> Hashes:
        if self._spill is None:
            return self._held[start:stop]
        return self._spill.get(start, stop - start).view(np.uint64)

    def sets(self, rows: Ints, texts: slice, n: int) -> Sets:
        """The sets of n-token shingles of these texts of the rows."""
        return gather(*ngrams(*self.take(rows, texts), n))

    def close(self) -> None:
        """Let go of the file."""
        if self._spill is not None:
            self._spill.close()


def cut(sizes: Ints, most: int) -> Iterator[slice]:
    """Runs of rows with at most so many tokens each, one row at least."""
    total, start = np.cumsum(sizes), 0
    while start < len(sizes):
        before = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, before + most, side="right")), start + 1)
        yield slice(start, stop)
        start = stop
