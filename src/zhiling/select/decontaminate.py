"""No training row may show what an evaluation set asks: not word for word, not reworded, not translated."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import numpy as np

from zhiling.embed import Embedder
from zhiling.errors import DataError, RecipeError, say
from zhiling.registry import selector
from zhiling.select.heldout import COMMON, content, contexts
from zhiling.select.rank import distinct, each
from zhiling.select.semantic_pairs import FUNCTION, Floats, numbers, probability
from zhiling.text import CJK, blank, lang, normalise, shingles, tokens, valid
from zhiling.types import Example, Verdict

WEIGHTS = Path(__file__).with_name("decontaminate_weights.yaml")
FEATURES = ("cosine", "words", "numbers", "shared", "names", "length")
FLOOR, NEAREST, HIGH = 0.4, 4, 1024
GRAM = 8  # tokens in a row: what two texts share of that length, they share by no chance
COPIED = 0.5  # share of an item's runs of GRAM tokens from which on it counts as copied
MOST_SEEN = 200_000  # texts remembered, so that a row's content in other instructions costs nothing
LEAST = 5  # tokens: a shorter item says too little to be recognised in other words
ENOUGH = 8  # words and numbers in common: short texts that differ in one word ask different things
PER_TOKEN = 1.6  # Chinese characters for one English word
_names = re.compile(r"[a-z]{2,}")
_unspaced = re.compile(f"(?<=[{CJK}]) (?=[{CJK}])")
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
    translations. A rewording must have 8 words or numbers in common with the item. Items of fewer than 5 tokens are passed over here;
    `heldout` finds them where they are equal. The rival is the item.
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
    asked = [_view(item, shared) for item in items]
    known = [at for at, text in enumerate(asked) if len(tokens(text)) >= LEAST]
    items, asked = [items[at] for at in known], [asked[at] for at in known]
    rows = distinct(examples)
    found = dict(_hits(rows, items, shared, Looker(asked, embedder), threshold)) if items else {}

    def verdict(at: int, row: str) -> Verdict:
        which, why = found.get(at, (-1, ""))
        return Verdict(row, "decontaminate", which < 0, why, items[which].id if which >= 0 else "")

    yield from each(examples, rows, verdict)


def _hits(
    rows: Iterable[Example], items: Sequence[Example], shared: set[str], looker: Looker, threshold: float
) -> Iterator[tuple[int, tuple[int, str]]]:
    """(row, (item, why)) for the rows that show an item; HIGH rows in memory at a time, and what is said again is not looked at again."""
    copies = Copies(looker.texts)
    stream, start = iter(rows), 0
    seen: dict[bytes, tuple[int, str] | None] = {}
    while part := list(islice(stream, HIGH)):
        views = [_view(row, shared) for row in part]
        keys = [blake2b(text.encode(), digest_size=16).digest() for text in views]
        if len(seen) > MOST_SEEN:
            seen.clear()
        new = {key: at for at, key in reversed(list(enumerate(keys))) if key not in seen}
        texts = [views[at] for at in new.values()]
        whose = [part[at] for at in new.values()]
        said: dict[int, tuple[int, str]] = {}
        for at, item, chance in reworded(texts, looker, threshold, partial(_one_wording, whose, items)):
            said[at] = (
                item,
                say(
                    f"shows an evaluation item in other words, probability {chance:.2f}",
                    f"换用其他说法展示了评测题，概率 {chance:.2f}",
                ),
            )
        for at, item, share in copies.of(texts):
            if not _one_wording(whose, items, at, item) or looker.copied_apart(texts[at], item):
                said[at] = (
                    item,
                    say(f"holds {share:.0%} of an evaluation item's wording", f"含有评测题 {share:.0%} 的原文"),
                )
        seen |= {key: said.get(at) for at, key in enumerate(new)}
        for at, key in enumerate(keys, start):
            if (hit := seen[key]) is not None:
                yield at, hit
        start += len(part)


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


def _one_wording(rows: Sequence[Example], items: Sequence[Example], at: int, which: int) -> bool:
    """Whether a row and an item are filled into the same template, and show its wording."""
    row, item = rows[at], items[which]
    return blank(row.input) and blank(item.input) and not set(row.parents).isdisjoint(item.parents)


def _view(row: Example, shared: set[str]) -> str:
    return valid(row.prompt if normalise(row.input) in shared else content(row))


class Copies:
    """The runs of GRAM tokens that items have; runs that three or more of them share are a template's wording and do not count."""

    def __init__(self, items: Sequence[str]) -> None:
        held = defaultdict[tuple[str, ...], list[int]](list)
        for at, item in enumerate(items):
            for gram in shingles(item, GRAM):
                if len(gram) == GRAM:
                    held[gram].append(at)
        self.holders = {gram: ats for gram, ats in held.items() if len(ats) < COMMON}
        self.own = Counter(at for ats in self.holders.values() for at in ats)

    def of(self, rows: Iterable[str]) -> Iterator[tuple[int, int, float]]:
        """(row, item, share) for rows that hold at least half of an item's runs; the item most copied, ties the first."""
        for at, row in enumerate(rows):
            hits = Counter(item for gram in shingles(row, GRAM) for item in self.holders.get(gram, ()))
            best = max(hits, key=lambda item: (hits[item] / self.own[item], -item), default=-1)
            if best >= 0 and hits[best] >= COPIED * self.own[best]:
                yield at, best, hits[best] / self.own[best]


def reworded(
    rows: Sequence[str], looker: Looker, threshold: float, worded: Callable[[int, int], bool] = lambda row, item: False
) -> Iterator[tuple[int, int, float]]:
    """(row, item, probability) for rows that say what an item says; the likeliest item, ties the first.

    Where `worded` says that a row and an item are worded by one template, what they begin and end with alike is no evidence.
    """
    texts = [row if len(row) < 20_000 else row[:20_000] for row in rows]  # an embedder reads no further either
    looks = [look(text) for text in texts]
    able = [at for at, look in enumerate(looks) if looker.possible(look, threshold)]
    best: dict[int, tuple[float, int]] = {}
    for near, item, cosine in candidates([texts[at] for at in able], looker):
        at = able[near]
        crossing, values = looker.features(looks[at], item, cosine)
        chance = probability(float(np.dot(weights()[crossing][1], values)) + weights()[crossing][0])
        if crossing == "reworded" and looker.common(looks[at], item) < ENOUGH:
            continue
        if chance >= threshold and crossing == "reworded" and worded(at, item):
            values = looker.apart(texts[at], item, cosine)
            chance = probability(float(np.dot(weights()[crossing][1], values)) + weights()[crossing][0])
        if chance >= threshold:
            best[at] = max(best.get(at, (0.0, 0)), (chance, -item))
    for at, (chance, item) in sorted(best.items()):
        yield at, -item, chance


def candidates(rows: Sequence[str], looker: Looker) -> Iterator[tuple[int, int, float]]:
    """(row, item, cosine): each row's NEAREST items with a cosine of FLOOR or more."""
    from threadpoolctl import threadpool_limits

    if not rows:
        return
    here: Floats = looker.embedder(rows)
    with threadpool_limits(1, user_api="blas"):  # the sums' last bits must not depend on the machine's threads
        cosines = np.round(here @ looker.vectors.T, 4)
    for at, near in enumerate(cosines):
        few = np.flatnonzero(near >= FLOOR)
        for item in few[np.lexsort((few, -near[few]))][:NEAREST].tolist():
            yield at, item, float(near[item])


@dataclass(frozen=True, slots=True)
class Look:
    """What a text says, as far as it is compared."""

    lang: str
    words: frozenset[str]
    numbers: Counter[str]
    names: frozenset[str]
    length: int


def look(text: str) -> Look:
    """What a text says."""
    folded, found = normalise(text), tokens(text)
    words = frozenset(found) - FUNCTION
    return Look(lang(text), words, Counter(numbers(folded)), frozenset(_names.findall(folded)), len(found))


def between(one: str, other: str) -> tuple[str, str]:
    """Both texts without the tokens that both begin with and those that both end with."""
    first, second = tokens(one), tokens(other)
    most = min(len(first), len(second))
    head = next((at for at in range(most) if first[at] != second[at]), most)
    tail = next((at for at in range(most - head) if first[-1 - at] != second[-1 - at]), most - head)
    one, other = (" ".join(words[head : len(words) - tail]) for words in (first, second))
    return _unspaced.sub("", one), _unspaced.sub("", other)


class Looker:
    """What the items say, how rare each of their words is among them, and where they lie."""

    def __init__(self, items: Sequence[str], embedder: Embedder) -> None:
        self.items, self.texts, self.embedder = [look(item) for item in items], items, embedder
        often = Counter(word for item in self.items for word in item.words)
        self.rarity = {word: math.log((len(items) + 1) / count) for word, count in often.items()}
        self.total = np.array([sum(self.rarity[word] for word in sorted(item.words)) for item in self.items])
        self.chinese = np.array([item.lang == "zh" for item in self.items], dtype=bool)
        holders = defaultdict[str, list[int]](list)
        for at, item in enumerate(self.items):
            for word in sorted(item.words):
                holders[word].append(at)
        self.holders = {word: np.array(ats, dtype=np.int64) for word, ats in holders.items()}
        self.per_word = np.where(self.chinese, PER_TOKEN, 1.0)
        self.numerals = np.array([item.numbers.total() for item in self.items], dtype=float)

    @cached_property
    def vectors(self) -> Floats:
        """The items' unit vectors."""
        found: Floats = self.embedder(self.texts)
        return found

    def possible(self, row: Look, threshold: float) -> bool:
        """Whether a row might show an item, before its vector is known, which takes the time.

        It might show one in the other language. In its own it might show one that has as many words, all numbers that both could have in
        common among them, as are ENOUGH, and that the model of rewordings could find likely enough: the share of its words, by rarity, is
        known then, of their numbers at most the smaller count over the larger can be shared, and all other features are the best there are.
        """
        own = self.chinese == (row.lang == "zh")
        if not own.all():
            return True
        mine = row.numbers.total()
        common = np.minimum(self.numerals, mine)
        most = np.maximum(self.numerals, mine)
        shared = np.where(most > 0, common / np.maximum(most, 1.0), 0.5)
        held = [(self.holders[word], self.rarity[word]) for word in row.words if word in self.holders]
        at = np.concatenate([ats for ats, _ in held] or [np.zeros(0, dtype=np.int64)])
        worth = np.repeat([rarity for _, rarity in held], [len(ats) for ats, _ in held])
        have = np.bincount(at, weights=worth, minlength=len(self.items))
        common = common + np.bincount(at, minlength=len(self.items)) / self.per_word
        words = have / np.where(self.total > 0, self.total, 1.0)
        bias, slopes = weights()["reworded"]
        best = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 2.0])  # the features' upper ends, but for `words` and `numbers`
        odds = bias + float(np.maximum(slopes, 0.0) @ best) + slopes[1] * words + max(slopes[2], 0.0) * shared
        least = max(threshold - 5e-5, 1e-9)  # probabilities are rounded to 4 decimals
        needed = math.log(least / (1 - least)) - 1e-9
        return bool(((odds >= needed) & (common >= ENOUGH - 1e-9)).any())

    def apart(self, row: str, item: int, cosine: float) -> tuple[float, ...]:
        """The features of a row and an item without the words that both begin and end with."""
        parts = between(row, self.texts[item])
        own, other = map(look, parts)
        total = sum(self.rarity.get(word, 0.0) for word in sorted(other.words))
        words = sum(self.rarity.get(word, 0.0) for word in sorted(other.words & own.words)) / total if total else 0.0
        return self._values(own, other, words, cosine)

    def common(self, mine: Look, item: int) -> float:
        """How many words (Chinese characters count for 1/1.6) and numbers both have."""
        its = self.items[item]
        words = len(mine.words & its.words) / (PER_TOKEN if its.lang == "zh" else 1.0)
        return words + (mine.numbers & its.numbers).total()

    def copied_apart(self, row: str, item: int) -> bool:
        """Whether the row holds half of what the item says besides the words that both begin and end with."""
        middle = between(row, self.texts[item])[1]
        grams = shingles(middle, GRAM)
        return not grams or len(grams & shingles(row, len(next(iter(grams))))) >= COPIED * len(grams)

    def features(self, mine: Look, item: int, cosine: float) -> tuple[str, tuple[float, ...]]:
        """("reworded" or "translated", the features).

        `words`: the share of the item's words, by rarity, that the row has; `numbers` and `shared`: the Jaccard and (up to 3, over 3)
        the count of their common numbers; `names`: the share of the Latin words of the text with fewer that the other has;
        `length`: |log ratio| of their lengths, a Chinese character counting for 1/1.6 words.
        """
        its = self.items[item]
        crossing = (mine.lang == "zh") != (its.lang == "zh")
        total = float(self.total[item])
        words = sum(self.rarity[word] for word in sorted(its.words & mine.words)) / total if total else 0.0
        return "translated" if crossing else "reworded", self._values(mine, its, words, cosine)

    @staticmethod
    def _values(mine: Look, its: Look, words: float, cosine: float) -> tuple[float, ...]:
        both, either = (mine.numbers & its.numbers).total(), (mine.numbers | its.numbers).total()
        few, many = sorted((mine.names, its.names), key=len)
        names = len(few & many) / len(few) if few else 0.5
        sizes = [max(1, look.length) / (PER_TOKEN if look.lang == "zh" else 1.0) for look in (mine, its)]
        length = min(2.0, abs(math.log(sizes[0] / sizes[1])))
        return cosine, words, both / either if either else 0.5, min(both, 3) / 3, names, length


@cache
def weights() -> dict[str, tuple[float, np.ndarray]]:
    """Bias and weights of the two models, as shipped."""
    import yaml

    data = yaml.safe_load(WEIGHTS.read_text(encoding="utf-8"))
    return {name: (float(part["bias"]), np.array([part[key] for key in FEATURES])) for name, part in data.items()}
