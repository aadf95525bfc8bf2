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


@metric("exact_match", families=("classification", "nli", "extraction", "sql", "arithmetic"))
def exact_match(prediction: str, reference: str, *, lang: str = "") -> float:
    """1 when the answer is the reference, apart from case, width, spaces, quotes and the punctuation around it; else 0.

    Where the reference is one line, the answer's first line that says something counts: for a classification task this is the
    accuracy of its labels, also for a model that goes on to explain itself.
    """
    expected = lines(reference)
    if len(expected) <= 1:
        prediction, reference = "".join(lines(prediction)[:1]), "".join(expected)
    return float(bare(prediction) == bare(reference))


@metric("f1", families=("qa", "faq"))
def f1(prediction: str, reference: str, *, lang: str = "") -> float:
    """F1 of the bags of tokens: words in English, characters in Chinese (as SQuAD and CMRC do, but articles count).

    Where neither holds a token (say "+" and "-"), equality decides.
    """
    a, b = Counter(text.tokens(prediction)), Counter(text.tokens(reference))
    if not a or not b:
        return float(text.normalise(prediction) == text.normalise(reference))
    return _harmonic((a & b).total(), a.total(), b.total())


@metric("rouge_1", families=("summarisation", "news"), paper="Lin 2004")
def rouge_1(prediction: str, reference: str, *, lang: str = "") -> float:
    """ROUGE-1 F1: the tokens that both have, words in English and characters in Chinese, each as often as in the other."""
    return _rouge(prediction, reference, 1)


@metric("rouge_2", families=("summarisation", "news"), paper="Lin 2004")
def rouge_2(prediction: str, reference: str, *, lang: str = "") -> float:
    """ROUGE-2 F1: the pairs of neighbouring tokens that both have. Where either is a single token, equality decides."""
    return _rouge(prediction, reference, 2)


def _rouge(prediction: str, reference: str, n: int) -> float:
    a, b = text.tokens(prediction), text.tokens(reference)
    if len(a) < n or len(b) < n:
        return float(text.normalise(prediction) == text.normalise(reference) if not a or not b else a == b)
    one, other = Counter(text.ngrams(a, n)), Counter(text.ngrams(b, n))
    return _harmonic((one & other).total(), one.total(), other.total())


@metric("rouge_l", families=("summarisation", "news"))
def rouge_l(prediction: str, reference: str, *, lang: str = "") -> float:
    """ROUGE-L F1: the longest common subsequence of tokens, words in English and characters in Chinese (Lin 2004, beta 1)."""
    a, b = text.tokens(prediction), text.tokens(reference)
    if not a or not b:
        return float(text.normalise(prediction) == text.normalise(reference))
    return _harmonic(_subsequence(a, b), len(a), len(b))


@metric("chrf", families=("translation", "subtitles", "dialogue", "poetry"))
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


def lines(string: str) -> list[str]:
    """The lines that say something."""
    return [line for line in string.splitlines() if bare(line)]


def bare(string: str) -> str:
    """The text normalised, without the quotes and the punctuation around it."""
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
