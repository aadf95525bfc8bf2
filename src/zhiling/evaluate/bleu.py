"""BLEU of one answer against its reference, with tokens that are right in Chinese and in English."""

from __future__ import annotations

import math
import re
from collections import Counter

from zhiling.registry import metric
from zhiling.text import CJK, ngrams, normalise

ORDER = 4
_alone = re.compile(rf"([{CJK}\u3000-\u303f\uff00-\uffef])")
_marks = re.compile(
    r"([!-&(-+:-@\[-`{-~/])"
)  # ASCII punctuation but for ' , - . which may be inside a word or a number
_after = re.compile(r"([^0-9])([.,])")
_before = re.compile(r"([.,])([^0-9])")
_dash = re.compile(r"([0-9])(-)")


@metric(
    "bleu",
    families=("translation", "subtitles", "code"),
    paper="Papineni et al. 2002; Chen & Cherry 2014 (smoothing 3)",
)
def bleu(prediction: str, reference: str, *, lang: str = "") -> float:
    """Sentence BLEU-4, punctuation counted; sacrebleu's number / 100 with tokens "13a" (English) and "zh" (Chinese), lower-cased.

    Orders that the answer is too short for are left out, and those without a match count half of the one before (smoothing "exp").
    A mean of these over rows is not the BLEU of a corpus, which adds up counts before it divides; it is what rows can be compared by.
    """
    ours, theirs = tokens(prediction), tokens(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    logs, halved = list[float](), 1.0
    for n in range(1, min(ORDER, len(ours)) + 1):
        mine = Counter(ngrams(ours, n))
        right = (mine & Counter(ngrams(theirs, n) if n <= len(theirs) else ())).total()
        if n == 1 and not right:
            return 0.0
        if not right:
            halved *= 2
        logs.append(math.log((right or 1 / halved) / mine.total()))
    short = min(0.0, 1 - len(theirs) / len(ours))
    return math.exp(short + sum(logs) / len(logs))


def tokens(string: str) -> list[str]:
    """Words, numbers and marks; each Chinese character and mark by itself."""
    line = _alone.sub(r" \1 ", f" {normalise(string)} ")
    line = _marks.sub(r" \1 ", line)
    line = _before.sub(r" \1 \2", _after.sub(r"\1 \2 ", line))
    return _dash.sub(r"\1 \2 ", line).split()
