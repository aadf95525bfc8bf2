"""Is a new instruction unlike every one before it? Self-Instruct's filter (Wang et al. 2022, arXiv:2212.10560), exact and fast.

The measure is ROUGE-L's F (Lin 2004): 2pr / (p + r) with p and r the longest common subsequence as a share of each text's tokens. Tokens
of Latin-script text are those of the package rouge_score, whose whitespace-and-ASCII rule sees nothing in Chinese; there each character
is one. Nothing is estimated: the subsequence cannot be longer than the shorter text, nor than what the two bags of tokens have in common,
and a bound on the latter comes from one AND and one population count over hashed bags. Only pairs that these bounds let pass are compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zhiling.errors import RecipeError, say
from zhiling.text import CJK, cut

WORDS = 3
BITS = 64 * WORDS
NEVER = 0xFFFF
"""More common tokens than any text is compared by: no pair of these lengths can reach the threshold."""
FRESH = 2048
"""Texts that wait at the end of the pool before they are sorted in by length."""

_wide = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_latin = "\x00-\u024f\u1e00-\u1eff\u2070-\u218f"
_token = re.compile(rf"[a-z0-9]+|[{CJK}]|[^\W_{_latin}{CJK}]+")


def tokens(text: str) -> list[str]:
    """rouge_score's tokens (no stemming) where the script is Latin; one per character in Chinese; whole words of other scripts."""
    return _token.findall(text.translate(_wide).lower() if not text.isascii() else text.lower())


class Rival(NamedTuple):
    """The text of a pool that is most like another one: its place, its ROUGE-L F in [0, 1], and itself."""

    place: int
    f: float
    text: str


class Pool:
    """Texts that new ones must differ from. A text is novel when its ROUGE-L F with each of them is below `threshold`.

    Takes some 200 bytes a text beside the text itself. Raises RecipeError for a threshold outside (0, 1].
    """

    def __init__(self, texts: Iterable[str] = (), threshold: float = 0.7) -> None:
        if not 0 < threshold <= 1:
            raise RecipeError(
                say(f"the novelty threshold must lie in (0, 1], got {threshold}", f"新颖度阈值须在 (0, 1] 内，实际为 {threshold}"),
                where="novelty",
            )  # fmt: skip
        self.threshold = threshold
        self.texts: list[str] = []
        self._known: dict[str, int] = {}
        self._needs: dict[int, NDArray[np.uint16]] = {}
        self._longest = 64
        self._coded: list[str] = []
        self._sorted = 0  # how many places are in order of length; those behind came since
        self._place = np.zeros(FRESH, np.int64)
        self._length = np.zeros(FRESH, np.int64)
        self._bags = np.zeros((WORDS, FRESH), np.uint64)
        for text in texts:
            self.add(text)

    def __len__(self) -> int:
        return len(self.texts)

    def add(self, text: str) -> None:
        """Put a text into the pool, whether it is novel or not."""
        coded = self._code(tokens(text))
        at = len(self.texts)
        if at == len(self._place):
            self._grow()
        self.texts.append(text)
        self._coded.append(coded)
        self._place[at], self._length[at] = at, len(coded)
        self._bags[:, at] = _bag(coded)
        if len(coded) > self._longest:
            self._longest = 2 * len(coded)
            self._needs.clear()
        if len(self.texts) - self._sorted >= max(FRESH, self._sorted // 8):
            self._sort()

    def rival(self, text: str) -> Rival | None:
        """The text of the pool that is most like this one (of equals the first), if that is too like; None when this one is novel."""
        coded = self._code(tokens(text))
        near = self._near(coded)
        if not len(near):
            return None
        from rapidfuzz.distance import LCSseq
        from rapidfuzz.process import cdist

        common = cdist([coded], [self._coded[i] for i in near], scorer=LCSseq.similarity, dtype=np.int32)[0]
        lengths = np.fromiter((len(self._coded[i]) for i in near), np.float64, len(near))
        with np.errstate(divide="ignore", invalid="ignore"):
            f = np.where(common > 0, _f(common, len(coded), lengths), 0.0)
        best = int(np.argmax(f))
        return Rival(int(near[best]), float(f[best]), self.texts[near[best]]) if f[best] >= self.threshold else None

    def why(self, text: str) -> str:
        """Why a text is not novel, in words; "" when it is."""
        rival = self.rival(text)
        if rival is None:
            return ""
        return say(
            f"ROUGE-L {rival.f:.2f} with: {cut(rival.text, 80)}", f"与已有指令的 ROUGE-L 为 {rival.f:.2f}：{cut(rival.text, 80)}"
        )  # fmt: skip

    def _near(self, coded: str) -> NDArray[np.int64]:
        """The places, ascending, of the texts that could reach the threshold."""
        size = len(coded)
        if not size or not self.texts:
            return np.zeros(0, np.int64)
        need = self._need(size)
        able = np.flatnonzero(need < NEVER)
        if not len(able):
            return able
        ends = self._length[: self._sorted]
        low, high = np.searchsorted(ends, able[0]), np.searchsorted(ends, able[-1], "right")
        bag = _bag(coded)
        spare = size - int(np.bitwise_count(bag).sum())
        found = [self._common(bag, spare, need, int(low), int(high))]
        if self._sorted < len(self.texts):
            found.append(self._common(bag, spare, need, self._sorted, len(self.texts)))
        return np.sort(np.concatenate(found))

    def _common(
        self, bag: NDArray[np.uint64], spare: int, need: NDArray[np.uint16], low: int, high: int
    ) -> NDArray[np.int64]:
        """The places among [low, high) whose bag may have enough in common; `spare` tokens of the new text share a bit with others."""
        shared = np.bitwise_count(self._bags[0, low:high] & bag[0])
        for word in range(1, WORDS):
            shared += np.bitwise_count(
                self._bags[word, low:high] & bag[word]
            )  # at most 64 * WORDS = 192: bytes suffice
        floor = need.astype(np.int32) - spare
        least = max(int(floor.min()), 0)
        hits = np.flatnonzero(shared >= least) + low
        found: NDArray[np.int64] = self._place[hits[shared[hits - low] >= floor[self._length[hits]]]]
        return found

    def _need(self, size: int) -> NDArray[np.uint16]:
        """For each length of the other text, how many tokens must be common for F to reach the threshold; NEVER where it cannot."""
        if size > self._longest:
            self._longest = 2 * size
            self._needs.clear()
        if size not in self._needs:
            other = np.arange(self._longest + 1, dtype=np.float64)
            most = np.minimum(other, size)
            least = np.floor(self.threshold * (size + other) / 2)  # F = 2 common / (size + other), up to rounding
            need = np.full(len(other), NEVER, np.uint16)
            with np.errstate(divide="ignore", invalid="ignore"):
                for common in (least + 2, least + 1, least, least - 1):
                    fits = (common > 0) & (common <= most) & (_f(common, size, other) >= self.threshold)
                    need[fits] = np.minimum(common[fits], NEVER - 1).astype(np.uint16)
            self._needs[size] = need
        return self._needs[size]

    def _code(self, found: list[str]) -> str:
        """Tokens as one character each, numbered as they come. Raises RecipeError when there are more kinds than characters."""
        known = self._known
        try:
            return "".join([chr(known.setdefault(token, len(known))) for token in found])
        except ValueError as error:
            raise RecipeError(
                say(f"more than {len(known) - 1} different tokens in one pool", f"一个池中的不同词超过 {len(known) - 1} 个"),
                where="novelty",
            ) from error  # fmt: skip

    def _grow(self) -> None:
        extra = len(self._place)
        self._place = np.concatenate([self._place, np.zeros(extra, np.int64)])
        self._length = np.concatenate([self._length, np.zeros(extra, np.int64)])
        self._bags = np.concatenate([self._bags, np.zeros((WORDS, extra), np.uint64)], axis=1)

    def _sort(self) -> None:
        count = len(self.texts)
        order = np.argsort(self._length[:count], kind="stable")
        self._place[:count] = self._place[:count][order]
        self._length[:count] = self._length[:count][order]
        self._bags[:, :count] = self._bags[:, :count][:, order]
        self._sorted = count


def _f(common: NDArray[np.float64], size: int, other: NDArray[np.float64]) -> NDArray[np.float64]:
    """F from the number of common tokens, in rouge_score's order of operations, as the last bit decides at the threshold."""
    p, r = common / size, common / other
    return 2 * p * r / (p + r)


def _bag(coded: str) -> NDArray[np.uint64]:
    """A bag of tokens as bits: the k-th occurrence of a token has a bit of its own. Frequent tokens come early and get different ones."""
    bits, seen = 0, dict[str, int]()
    for token in coded:
        again = seen[token] = seen.get(token, -1) + 1
        bits |= 1 << (ord(token) + 89 * again) % BITS
    return np.frombuffer(bits.to_bytes(8 * WORDS, "little"), np.uint64)
