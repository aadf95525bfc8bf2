"""Words that an answer shares with its own prompt, and with no other prompt of the set so many: what sentence vectors blur."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from zhiling import text

LONG = 600  # characters that are read


class Shared:
    """A set of prompts, and how rare each word is in them and in their answers. Chinese is read in pairs of characters."""

    def __init__(self, prompts: Sequence[str], outputs: Iterable[str]) -> None:
        self.at = {prompt: place for place, prompt in enumerate(prompts)}
        held = [grams(prompt) for prompt in prompts]
        self._seen = Counter(gram for each in held for gram in each)
        self._seen.update(gram for output in outputs for gram in grams(output))
        self._texts = 2 * len(prompts)
        places = defaultdict[str, list[int]](list)
        for place, each in enumerate(held):
            for gram in each:
                places[gram].append(place)
        self._places = {gram: np.array(found) for gram, found in places.items()}
        self._size = np.array([self._length(each) for each in held])

    def gap(self, prompt: str, output: str) -> float:
        """How much more rare words the output shares with its prompt than with the best of the others: the sum of idf squared over the
        prompt's length in idf (Salton & Buckley 1988); 0 where there are no others."""
        said, asked = grams(output), grams(prompt)
        own = math.fsum(self._rare(gram) ** 2 for gram in said & asked) / self._length(asked)
        totals = np.zeros(len(self.at))
        for gram in sorted(said & self._places.keys()):
            totals[self._places[gram]] += self._rare(gram) ** 2
        totals /= self._size
        if prompt in self.at:
            totals[self.at[prompt]] = -np.inf
        best = float(totals.max(initial=-np.inf))
        return float(own - best) if math.isfinite(best) else 0.0

    def _rare(self, gram: str) -> float:
        return math.log((self._texts + 1) / (self._seen[gram] + 1)) if self._seen[gram] <= self._texts else 0.0

    def _length(self, held: set[str]) -> float:
        return 1 + math.sqrt(math.fsum(self._rare(gram) ** 2 for gram in held))


def grams(passage: str) -> set[str]:
    """Pairs of neighbouring tokens, and words of three letters and more alone."""
    tokens = text.tokens(text.normalise(passage[:LONG]))
    pairs = {f"{one} {two}" for one, two in itertools.pairwise(tokens)}
    return pairs | {token for token in tokens if len(token) > 2}
