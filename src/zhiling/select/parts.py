"""The test that no part of two rows differs altogether, and what the pairs that pass it can be found by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from zhiling.select import spill
from zhiling.select.join import Kind, Way, jaccards
from zhiling.select.shingles import Ints
from zhiling.select.spill import Tokens

PARTS = ("history", "instruction", "input", "output")
OVER = {"prompt+output": slice(0, 4), "prompt": slice(0, 3), "output": slice(3, 4)}
HISTORY, INSTRUCTION, INPUT, OUTPUT = (slice(at, at + 1) for at in range(len(PARTS)))


@dataclass(frozen=True, eq=False)
class Parts:
    """Whether two rows reach a Jaccard of `least` in each of their parts: earlier turns, instruction, input, and output unless it is let be.

    Where one of the two has no input (`given`), instruction and input are one part. Rows are numbered by their places in `order`.
    """

    tokens: Tokens
    order: Ints
    given: NDArray[np.bool_]
    n: int
    least: float
    output: bool

    def of(self, places: Ints) -> Parts:
        """The same test, where row i is the one at places[i] here."""
        return Parts(self.tokens, self.order[places], self.given, self.n, self.least, self.output)

    def __call__(self, a: Ints, b: Ints) -> NDArray[np.bool_]:
        """Of the pairs (a[i], b[i]) those that pass."""
        a, b = self.order[a], self.order[b]
        sizes = self.tokens.counts[a].sum(axis=1, dtype=np.int64) + self.tokens.counts[b].sum(axis=1, dtype=np.int64)
        good = [self._alike(a[part], b[part]) for part in spill.cut(sizes, spill.RESIDENT // 2)]
        return np.concatenate(good) if good else np.zeros(0, dtype=bool)

    def _alike(self, a: Ints, b: Ints) -> NDArray[np.bool_]:
        used, at = np.unique(np.concatenate([a, b]), return_inverse=True)
        one, other = at[: len(a)], at[len(a) :]

        def alike(part: slice) -> NDArray[np.bool_]:
            found: NDArray[np.bool_] = jaccards(self.tokens.sets(used, part, self.n), one, other) >= self.least
            return found

        both = self.given[a] & self.given[b]
        good = np.where(both, alike(INSTRUCTION) & alike(INPUT), alike(OVER["prompt"])) & alike(HISTORY)
        return good & alike(OUTPUT) if self.output else good

    @cached_property
    def kinds(self) -> list[Kind]:
        """The kinds of pairs that there are, and what those of each that pass can be found by: any part that one of the two has."""
        given = self.given[self.order]
        every, bare = np.ones_like(given), ~given
        both = [self._way(part) for part in ([HISTORY, OUTPUT] if self.output else [HISTORY])]
        kinds = list[Kind]()
        if given.any():
            kinds.append(Kind(given, given, [self._way(INSTRUCTION), self._way(INPUT), *both]))
        if bare.any():
            ways = [self._way(OVER["prompt"]), *both]
            kinds += [Kind(every, bare, ways), Kind(bare, given, ways)]
        return kinds

    def _way(self, part: slice) -> Way:
        return Way(self.tokens.sets(self.order, part, self.n), self.least)
