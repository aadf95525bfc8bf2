"""Does the output answer this prompt, or another one?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from zhiling import text
from zhiling.embed import Embedder
from zhiling.errors import say
from zhiling.registry import scorer
from zhiling.score.signals import content
from zhiling.types import Example, Score

SHORT = 8  # tokens: below this, an answer may share nothing with its question
PROMPT, OUTPUT = 600, 600  # characters that are embedded
MOST = 8000  # characters whose words are looked at
BATCH = 2048


@scorer(
    "answers",
    low=0,
    high=1,
    better="high",
    langs=("zh", "en"),
    tier="embedding",
    paper="Yang et al. 2020 (multilingual USE)",
)
def answers(examples: Sequence[Example], *, embedder: Embedder) -> Iterator[Score]:
    """How near the output is to its prompt: the larger cosine to the prompt or the input, and half of what is left for shared content words.

    0 to 1, high is meant; an answer that belongs to another row lies near 0.1. `why` gives both parts. None for an empty prompt or
    output, and for an answer of fewer than eight tokens that shares no word with its prompt: a label or a number tells nothing.
    """
    for start in range(0, len(examples), BATCH):
        yield from _batch(examples[start : start + BATCH], embedder)


def _batch(examples: Sequence[Example], embedder: Embedder) -> Iterator[Score]:
    sides = [(row.prompt.strip()[:PROMPT], row.input.strip()[:PROMPT], row.output.strip()[:OUTPUT]) for row in examples]
    texts = list(dict.fromkeys(part for side in sides for part in side if part))
    vectors = embedder(texts) if texts else np.zeros((0, embedder.dim), dtype=np.float32)
    at = {item: i for i, item in enumerate(texts)}
    for row, (prompt, given, output) in zip(examples, sides, strict=True):
        if not prompt or not output:
            yield Score(row.id, "answers", None, say("the prompt or the output is empty", "题面或输出为空"))
            continue
        said = vectors[at[output]]
        near = max(float(vectors[at[part]] @ said) for part in (prompt, given) if part)
        asked, told = content(row.prompt[:MOST]), content(row.output[:MOST])
        shared = len(asked & told) / min(len(asked), len(told)) if asked and told else 0.0
        if not shared and text.length(output) < SHORT:
            yield Score(row.id, "answers", None, say("the answer is too short to tell", "答案太短，无法判断"))
            continue
        near = min(1.0, max(0.0, near))
        value = near + (1 - near) * 0.5 * shared
        why = say(f"cosine {near:.2f}, shared words {shared:.2f}", f"余弦 {near:.2f}，共有词 {shared:.2f}")
        yield Score(row.id, "answers", round(value, 3), why)
