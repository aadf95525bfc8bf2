"""Shingle sets of many texts at once: what `text.shingles` says, as numpy arrays of 64-bit hashes.

A whole block of texts is one array of code points; a table tells separators, word characters and CJK characters apart, and
the hashes of all tokens come from one running sum of c * BASE**i (mod 2**64), scaled back by the inverse power at each token's
start (Karp & Rabin 1987). The n-grams are then sums over neighbouring tokens. No Python runs per token, which makes this
some five times faster than building sets of tuples; the sets are the same, up to the chance that two 64-bit hashes collide.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from zhiling.text import CJK

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Often = Callable[[Hashes], Ints]

BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse mod 2**64
BLOCK = 1 << 20  # characters handled at once: the arrays stay in the processor's cache
LOW = 0xFFFFFFFF
SEPARATOR, WORD, SINGLE, APOSTROPHE = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Sets:
    """The shingle sets of n texts. `sizes[i]` is |set i|.

    Only shingles that can occur in more than one text can be shared, so only those are kept: `keys[starts[i]:starts[i+1]]` are
    the shared shingles of text i as i << 32 | number; numbers grow with frequency (ties in the order of the hashes). `hashes` are
    those of the kept shingles, ascending, and `numbers` their numbers.
    """

    sizes: Ints
    starts: Ints
    keys: Ints
    hashes: Hashes
    numbers: Ints

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def shared(self) -> Ints:
        """How many shingles of each text occur in other texts too."""
        return np.diff(self.starts)


def build(texts: Iterable[str], n: int = 3) -> Sets:
    """The shingle sets of the texts: n words, or n characters in scripts without spaces; see `text.shingles`."""
    parts = [ngrams(*block, n) for block in tokens(texts)]
    hashes = np.concatenate([part[0] for part in parts]) if parts else np.zeros(0, dtype=np.uint64)
    return gather(hashes, np.concatenate([part[1] for part in parts]) if parts else np.zeros(0, dtype=np.int64))


def gather(hashes: Hashes, counts: Ints, often: Often | None = None) -> Sets:
    """The sets of texts by the hashes of their shingles, with repeats, text after text, and how many each text has.

    `often` says how often shingles occur, where that is known of more texts than these: one that it gives 1 occurs nowhere else.
    """
    size = len(counts)
    rows = np.repeat(np.arange(size, dtype=np.int64), counts)
    order = np.argsort(hashes)
    ordered = hashes[order]
    new = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    values = ordered[new]
    groups = np.cumsum(new) - 1
    many = often(values) if often is not None else np.bincount(groups) if len(groups) else np.zeros(0, dtype=np.int64)
    common = many > 1
    again = common[groups]
    keys = _distinct((rows[order[again]] << 32) | (np.cumsum(common) - 1)[groups[again]])
    repeats = np.bincount(rows[order[again]], minlength=size) - np.bincount(keys >> 32, minlength=size)
    rarity = many[common] if often is not None else np.bincount(keys & LOW, minlength=int(common.sum()))
    rarest = np.argsort(rarity, kind="stable")
    number = np.empty_like(rarest)
    number[rarest] = np.arange(len(rarest))
    keys = np.sort((keys & ~LOW) | number[keys & LOW])
    starts = np.zeros(size + 1, dtype=np.int64)
    np.cumsum(np.bincount(keys >> 32, minlength=size), out=starts[1:])
    return Sets(counts - repeats, starts, keys, values[common], number)


def _distinct(keys: Ints) -> Ints:
    keys = np.sort(keys)
    return keys[np.r_[True, keys[1:] != keys[:-1]]] if len(keys) else keys


def tokens(texts: Iterable[str]) -> Iterator[tuple[Hashes, Ints]]:
    """The hashes of the tokens of all texts, text after text, and how many each text has, for some thousand texts at a time."""
    block: list[str] = []
    size = 0
    for text in texts:
        block.append(text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).lower())
        size += len(block[-1]) + 1
        if size >= BLOCK:
            yield _tokens(block)
            block, size = [], 0
    if block:
        yield _tokens(block)


@cache
def _kinds() -> NDArray[np.uint8]:
    """For each code point: separator, part of a word, a token of its own, or apostrophe (a separator unless inside a word)."""
    every = np.arange(0x110000, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    table = np.zeros(0x110000, dtype=np.uint8)
    for found in re.finditer(r"[^\W_]+", every):
        table[found.start() : found.end()] = WORD
    for found in re.finditer(f"[{CJK}]+", every):
        table[found.start() : found.end()] = SINGLE
    table[[ord("'"), ord("’")]] = APOSTROPHE
    return table


@cache
def _powers(size: int) -> tuple[Hashes, Hashes]:
    up, down = np.full(size, BASE, dtype=np.uint64), np.full(size, pow(BASE, -1, 1 << 64), dtype=np.uint64)
    up[0] = down[0] = 1
    return np.multiply.accumulate(up), np.multiply.accumulate(down)


def _mix(x: Hashes) -> Hashes:
    """The splitmix64 finaliser: every input bit reaches every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _tokens(block: Sequence[str]) -> tuple[Hashes, Ints]:
    """The hashes of the tokens of all texts, and how many each text has."""
    joined = "\n".join(block) + "\n"
    ends = np.cumsum(np.fromiter(map(len, block), dtype=np.int64, count=len(block)) + 1)
    codes: NDArray[np.unsignedinteger]
    if joined.isascii():
        codes = np.frombuffer(joined.encode("ascii"), dtype=np.uint8)
    else:
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kinds = _kinds()[codes]
    inside = kinds == WORD
    quotes = np.flatnonzero(kinds[1:] == APOSTROPHE) + 1  # the text's last character is a line break: quotes + 1 exists
    inside[quotes[inside[quotes - 1] & inside[quotes + 1]]] = True
    steps = np.diff(inside.view(np.int8), prepend=np.int8(0))
    first, last = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    single = np.flatnonzero(kinds == SINGLE)
    if len(single):
        first, last = np.sort(np.concatenate([first, single])), np.sort(np.concatenate([last, single + 1]))
    up, down = _powers(max(2 * BLOCK, 1 << len(codes).bit_length()))
    running = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum(codes * up[: len(codes)], out=running[1:])
    counts = np.diff(np.searchsorted(first, ends), prepend=0)
    return _mix((running[last] - running[first]) * down[first]), counts


def ngrams(tokens: Hashes, counts: Ints, n: int) -> tuple[Hashes, Ints]:
    """The hashes of the n-grams of each text; a text shorter than n has one gram, all of it, and an empty one none."""
    many = np.where(counts >= n, counts - n + 1, np.minimum(counts, 1))
    ends = np.cumsum(counts)
    at = np.arange(many.sum()) + np.repeat(ends - counts - np.cumsum(many) + many, many)
    left = np.repeat(ends, many) - at  # tokens from here to the end of the text
    padded = np.concatenate([tokens, np.zeros(n, dtype=np.uint64)])
    hashes = np.zeros(len(at), dtype=np.uint64)
    for j in range(n):
        hashes = hashes * np.uint64(BASE) + np.where(left > j, padded[at + j], np.uint64(0))
    return _mix(hashes), many
