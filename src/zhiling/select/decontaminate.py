"""No training row may show what an evaluation set asks: not word for word, not reworded, not translated."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from zhiling.embed import Embedder
from zhiling.errors import DataError, RecipeError, say
from zhiling.registry import selector
from zhiling.select.heldout import COMMON, content, contexts
from zhiling.select.rank import distinct
from zhiling.select.semantic_pairs import FUNCTION, Floats, numbers, probability
from zhiling.text import lang, normalise, shingles, tokens, valid
from zhiling.types import Example, Verdict

WEIGHTS = Path(__file__).with_name("decontaminate_weights.yaml")
FEATURES = ("cosine", "words", "numbers", "shared", "names", "length")
FLOOR, NEAREST, HIGH = 0.4, 4, 1024
GRAM = 8  # tokens in a row: what two texts share of that length, they share by no chance
COPIED = 0.5  # share of an item's runs of GRAM tokens from which on it counts as copied
LEAST = 5  # tokens: a shorter item says too little to be recognised in other words
PER_TOKEN = 1.6  # Chinese characters for one English word
_names = re.compile(r"[a-z]{2,}")
QUESTION = ("question", "problem", "prompt", "query", "text", "sentence", "sentence1", "context")


@selector("decontaminate", paper="Yang et al. 2023 (rephrased samples); Brown et al. 2020 (n-gram overlap)")
def decontaminate(
    examples: Sequence[Example],
    *,
    heldout: Sequence[Example],
    embedder: Embedder,
    here: Path,
    against: list[str] | None = None,
    threshold: float = 0.5,
) -> Iterator[Verdict]:
    """Drop the rows that show an item of an evaluation set, copied, reworded or translated between zh and en.

    The items are the run's held-out rows and the rows of the files in `against` (paths from the recipe's folder; any format that
    `zhiling convert` reads, else the first field called question, problem, prompt, text or the like). Compared is the content: the
    input, or the instruction where there is none; where three or more items share an input, the whole prompt. A row goes when it holds
    half of an item's runs of 8 tokens, or when one of its 4 nearest items by cosine (>= 0.4) is the same with a probability >=
    threshold by a logistic model over six features: one model for rewordings, whose names and numerals may change, and one for
    translations. Items of fewer than 5 tokens are passed over here; `heldout` finds them where they are equal. The rival is the item.
    Raises RecipeError for a threshold outside (0, 1], DataError for a file that cannot be read.
    """
    if not 0 < threshold <= 1:
        what = say(
            f"a probability to reach lies above 0 and at most at 1, not {threshold}",
            f"概率阈值须大于 0 且不超过 1，不能是 {threshold}",
        )
        raise RecipeError(what, where="decontaminate.threshold")
    items = distinct([*heldout, *(item for path in against or [] for item in read(here / path))])
    shared = contexts(items)
    rows = distinct(examples)
    asked, shown = [_view(item, shared) for item in items], [_view(row, shared) for row in rows]
    known = [at for at, text in enumerate(asked) if len(tokens(text)) >= LEAST]
    items, asked = [items[at] for at in known], [asked[at] for at in known]
    found: dict[int, tuple[int, str]] = {}
    if items and rows:
        for at, item, chance in reworded(shown, asked, embedder, threshold):
            why = say(
                f"shows an evaluation item in other words, probability {chance:.2f}",
                f"换用其他说法展示了评测题，概率 {chance:.2f}",
            )
            found[at] = item, why
        for at, item, share in copied(shown, asked):
            found[at] = (
                item,
                say(f"holds {share:.0%} of an evaluation item's wording", f"含有评测题 {share:.0%} 的原文"),
            )
    said = {}
    for at, row in enumerate(rows):
        which, why = found.get(at, (-1, ""))
        said[row.id] = Verdict(row.id, "decontaminate", which < 0, why, items[which].id if which >= 0 else "")
    for row in examples:
        yield said[row.id]


def read(path: Path) -> Iterator[Example]:
    """The items of an evaluation file. Raises DataError where none can be read."""
    from zhiling.data.sets import examples, form_of, raw

    try:
        form = form_of(path)
    except DataError:
        texts = [valid(text) for _, row in raw(path) if not isinstance(row, str) and (text := _question(row))]
        if not texts:
            raise
        yield from (Example("evaluation", text, maker="file", parents=(str(path.name),)) for text in texts)
        return
    yield from (item for _, item in examples(path, form, "evaluation") if isinstance(item, Example))


def _question(row: object) -> str:
    fields = row if isinstance(row, dict) else {}
    return next((fields[name] for name in QUESTION if isinstance(fields.get(name), str) and fields[name].strip()), "")


def _view(row: Example, shared: set[str]) -> str:
    return valid(row.prompt if normalise(row.input) in shared else content(row))


def copied(rows: Sequence[str], items: Sequence[str]) -> Iterator[tuple[int, int, float]]:
    """(row, item, share) for rows that hold at least half of an item's runs of GRAM tokens; the item most copied, ties the first.

    Runs that three or more items share are a template's wording and do not count.
    """
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for at, item in enumerate(items):
        for gram in shingles(item, GRAM):
            if len(gram) == GRAM:
                holders[gram].append(at)
    own = Counter(at for held in holders.values() if len(held) < COMMON for at in held)
    for at, row in enumerate(rows):
        hits = Counter(
            item for gram in shingles(row, GRAM) if len(held := holders.get(gram, ())) < COMMON for item in held
        )
        best = max(hits, key=lambda item: (hits[item] / own[item], -item), default=-1)
        if best >= 0 and hits[best] >= COPIED * own[best]:
            yield at, best, hits[best] / own[best]


def reworded(
    rows: Sequence[str], items: Sequence[str], embedder: Embedder, threshold: float
) -> Iterator[tuple[int, int, float]]:
    """(row, item, probability) for rows that say what an item says; the likeliest item, ties the first."""
    looker = Looker(items)
    best: dict[int, tuple[float, int]] = {}
    texts = [row if len(row) < 20_000 else row[:20_000] for row in rows]  # an embedder reads no further either
    for at, item, cosine in candidates(texts, items, embedder):
        crossing, values = looker.features(texts[at], item, cosine)
        chance = probability(float(np.dot(weights()[crossing][1], values)) + weights()[crossing][0])
        if chance >= threshold:
            best[at] = max(best.get(at, (0.0, 0)), (chance, -item))
    for at, (chance, item) in sorted(best.items()):
        yield at, -item, chance


def candidates(rows: Sequence[str], items: Sequence[str], embedder: Embedder) -> Iterator[tuple[int, int, float]]:
    """(row, item, cosine): each row's NEAREST items with a cosine of FLOOR or more."""
    from threadpoolctl import threadpool_limits

    there = embedder(items)
    for top in range(0, len(rows), HIGH):
        here: Floats = embedder(rows[top : top + HIGH])
        with threadpool_limits(1, user_api="blas"):  # the sums' last bits must not depend on the machine's threads
            cosines = np.round(here @ there.T, 4)
        for at, near in enumerate(cosines):
            few = np.flatnonzero(near >= FLOOR)
            for item in few[np.lexsort((few, -near[few]))][:NEAREST].tolist():
                yield top + at, item, float(near[item])


@dataclass(frozen=True, slots=True)
class _Look:
    lang: str
    words: frozenset[str]
    numbers: Counter[str]
    names: frozenset[str]
    length: int


def _look(text: str) -> _Look:
    folded, found = normalise(text), tokens(text)
    words = frozenset(found) - FUNCTION
    return _Look(lang(text), words, Counter(numbers(folded)), frozenset(_names.findall(folded)), len(found))


class Looker:
    """What the items say, and how rare each of their words is among them."""

    def __init__(self, items: Sequence[str]) -> None:
        self.items = [_look(item) for item in items]
        often = Counter(word for item in self.items for word in item.words)
        self.rarity = {word: math.log((len(items) + 1) / count) for word, count in often.items()}

    def features(self, row: str, item: int, cosine: float) -> tuple[str, tuple[float, ...]]:
        """("reworded" or "translated", the features).

        `words`: the share of the item's words, by rarity, that the row has; `numbers` and `shared`: the Jaccard and (up to 3, over 3)
        the count of their common numbers; `names`: the share of the Latin words of the text with fewer that the other has;
        `length`: |log ratio| of their lengths, a Chinese character counting for 1/1.6 words.
        """
        mine, its = _look(row), self.items[item]
        crossing = (mine.lang == "zh") != (its.lang == "zh")
        total = sum(self.rarity[word] for word in its.words)
        words = sum(self.rarity[word] for word in its.words & mine.words) / total if total else 0.0
        both, either = (mine.numbers & its.numbers).total(), (mine.numbers | its.numbers).total()
        few, many = sorted((mine.names, its.names), key=len)
        names = len(few & many) / len(few) if few else 0.5
        sizes = [max(1, look.length) / (PER_TOKEN if look.lang == "zh" else 1.0) for look in (mine, its)]
        length = min(2.0, abs(math.log(sizes[0] / sizes[1])))
        values = (cosine, words, both / either if either else 0.5, min(both, 3) / 3, names, length)
        return "translated" if crossing else "reworded", values


@cache
def weights() -> dict[str, tuple[float, np.ndarray]]:
    """Bias and weights of the two models, as shipped."""
    import yaml

    data = yaml.safe_load(WEIGHTS.read_text(encoding="utf-8"))
    return {name: (float(part["bias"]), np.array([part[key] for key in FEATURES])) for name, part in data.items()}
