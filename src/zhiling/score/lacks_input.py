"""Does the instruction speak of an input that the row has not?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from zhiling import text
from zhiling.embed import Embedder
from zhiling.errors import say
from zhiling.registry import scorer
from zhiling.score.asks import matter_here
from zhiling.score.pairs import Matrix, load
from zhiling.types import Example, Score

MOST = 600  # characters that are embedded
BATCH = 2048

refers = re.compile(
    r"\b(?:following|given|provided|below|above|this|these|those|attached|supplied)\b|\bthe (?:two |\w+ )?(?:sentences?|text|passage|paragraph"
    r"|article|words?|list|numbers?|phrases?|statements?|poem|story|quote|code|email|letter|review|data|table|input|question|document"
    r"|conversation|dialogue|context|equation|expression|items?)\b"
    r"|以下|下面|下列|如下|给定|所给|给出的|提供的|这[个段些篇句首组份种两条张位本家]|该|此|上述|本文|文中|输入",
    re.IGNORECASE,
)
"""An instruction that points to something: "the following text", 以下句子. Many that lack nothing do so too ("summarise this: ...")."""


@scorer(
    "lacks_input",
    low=0,
    high=1,
    better="low",
    langs=("zh", "en"),
    tier="embedding",
    paper="Yang et al. 2020 (multilingual USE)",
)
def lacks_input(examples: Sequence[Example], *, embedder: Embedder) -> Iterator[Score]:
    """How likely the row had an input that is gone: 0 to 1, low is meant.

    A small network over the vectors of instruction and output and the instruction's words, which learned which of Alpaca's instructions,
    English and translated, come with an input. A question that may stand without its passage is not told. None where the row has an
    input or earlier turns, and for an empty instruction or output.
    """
    for start in range(0, len(examples), BATCH):
        part = examples[start : start + BATCH]
        judged = [row for row in part if not _why_not(row)]
        values = iter(_values(judged, embedder))
        for row in part:
            why = _why_not(row)
            yield Score(row.id, "lacks_input", None if why else round(next(values), 3), why)


def _values(rows: Sequence[Example], embedder: Embedder) -> list[float]:
    if not rows:
        return []
    sides = [(row.instruction.strip()[:MOST], row.output.strip()[:MOST]) for row in rows]
    texts = list(dict.fromkeys(part for side in sides for part in side))
    at = {item: i for i, item in enumerate(texts)}
    vectors = embedder(texts)
    asked, said = vectors[[at[one] for one, _ in sides]], vectors[[at[one] for _, one in sides]]
    net = load("lacks_input")
    worded = np.array([net.worded(row.instruction) for row in rows], dtype=np.float32)
    return [float(value) for value in 1 / (1 + np.exp(-(net.logits(asked, said, extras(asked, said, rows)) + worded)))]


def extras(asked: Matrix, said: Matrix, rows: Sequence[Example]) -> Matrix:
    """The plain figures: cosine, lengths of output and instruction, whether it points to something, whether it brings something itself."""
    plain = [
        (
            np.log1p(text.length(row.output[:50_000])) / 5,
            np.log1p(text.length(row.instruction[:50_000])) / 4,
            bool(refers.search(row.instruction[:MOST])),
            bool(matter_here(row.instruction[:MOST])),
        )
        for row in rows
    ]
    return np.column_stack([np.einsum("ij,ij->i", asked, said), np.array(plain).reshape(-1, 4)]).astype(np.float32)


def _why_not(row: Example) -> str:
    if text.blank(row.instruction) or not row.output.strip():
        return say("the instruction or the output is empty", "指令或输出为空")
    if not text.blank(row.input) or row.history:
        return say("the row brings an input or earlier turns", "该行带有输入或前文")
    return ""
