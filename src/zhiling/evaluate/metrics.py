"""How near an answer comes to its reference: each metric maps (prediction, reference) to [0, 1], in Chinese and English alike.

Both texts pass `text.normalise` first, so full-width letters, case and white space make no difference anywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from zhiling import text
from zhiling.registry import metric

# Marks around a short answer that are not part of it. Nothing that could belong to a number is taken from its front (-5, .5).
OPENING = " \"'“‘「『《〈([*_`"
CLOSING = " \"'”’」』》〉)]*_`.,;:!?。、…"


@metric("exact_match")
def exact_match(prediction: str, reference: str, *, lang: str = "") -> float:
    """1 when the answer is the reference, apart from case, width, spaces, quotes and the punctuation around it; else 0.

    Where the reference is one line, the answer's first line that says something counts: for a classification task this is the
    accuracy of its labels, also for a model that goes on to explain itself.
    """
    expected = _lines(reference)
    if len(expected) <= 1:
        prediction, reference = "".join(_lines(prediction)[:1]), "".join(expected)
    return float(_bare(prediction) == _bare(reference))


@metric("f1")
def f1(prediction: str, reference: str, *, lang: str = "") -> float:
    """F1 of the bags of tokens: words in English, characters in Chinese (as SQuAD and CMRC do, but articles count).

    Where neither holds a token (say "+" and "-"), equality decides.
    """
    a, b = Counter(text.tokens(prediction)), Counter(text.tokens(reference))
    if not a or not b:
        return float(text.normalise(prediction) == text.normalise(reference))
    return _harmonic((a & b).total(), a.total(), b.total())


@metric("rouge_l")
def rouge_l(prediction: str, reference: str, *, lang: str = "") -> float:
    """ROUGE-L F1: the longest common subsequence of tokens, words in English and characters in Chinese (Lin 2004, beta 1)."""
    a, b = text.tokens(prediction), text.tokens(reference)
    if not a or not b:
        return float(text.normalise(prediction) == text.normalise(reference))
    return _harmonic(_subsequence(a, b), len(a), len(b))


@metric("chrf")
def chrf(prediction: str, reference: str, *, lang: str = "") -> float:
    """Sentence chrF2: character n-grams of orders 1 to 6, recall weighted twice (Popović 2015); sacrebleu's number / 100.

    White space is not counted. Orders longer than either text are left out of the mean, as sacrebleu does.
    """
    a, b = "".join(text.normalise(prediction).split()), "".join(text.normalise(reference).split())
    if not a or not b:
        return float(a == b)
    precisions, recalls = [], []
    for n in range(1, min(6, len(a), len(b)) + 1):
        x = Counter(a[i : i + n] for i in range(len(a) - n + 1))
        y = Counter(b[i : i + n] for i in range(len(b) - n + 1))
        both = (x & y).total()
        precisions.append(both / x.total())
        recalls.append(both / y.total())
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return 5 * precision * recall / (4 * precision + recall) if precision + recall else 0.0


def _lines(string: str) -> list[str]:
    return [line for line in string.splitlines() if _bare(line)]


def _bare(string: str) -> str:
    return text.normalise(string).lstrip(OPENING).rstrip(CLOSING)


def _harmonic(both: int, a: int, b: int) -> float:
    return 2 * both / (a + b)


def _subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence, a row of the table at a time as the bits of one integer (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for k, token in enumerate(a):
        places[token] = places.get(token, 0) | 1 << k
    row = everything = (1 << len(a)) - 1
    for token in b:
        hits = row & places.get(token, 0)
        row = (row + hits | row - hits) & everything
    return len(a) - row.bit_count()
