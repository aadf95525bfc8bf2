"""Does the output answer this prompt, or another one?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from zhiling import text
from zhiling.embed import Embedder
from zhiling.errors import say
from zhiling.registry import scorer
from zhiling.score.pairs import Matrix, load
from zhiling.score.shared import Shared
from zhiling.types import Example, Score

SHORT = 8  # tokens: below this, an answer may share nothing with its question
PROMPT, OUTPUT = 600, 600  # characters that are embedded
BATCH = 2048
WORDS = 0.5  # what the gap of shared words counts beside log-odds; chosen on rows that no figure is reported of
NEAR = 20  # of the other prompts, so many nearest to the answer are asked whether it is theirs


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
    """How likely the output was given to this prompt and not to another: 0 to 1, high is meant.

    A small network over the vectors of both, which learned from Alpaca's rows, English and translated, against rows with their answers
    changed round. It knows that "write a poem" may be answered by any poem, and "what is a star" may not. It says nothing of truth.
    `why` gives the cosine. None for an empty prompt or output and for an answer of fewer than eight tokens: a label tells nothing.
    """
    for start in range(0, len(examples), BATCH):
        part = examples[start : start + BATCH]
        known, prompts, outputs = _sides(part, embedder)
        logits = iter(_logits(prompts, outputs, [part[at] for at in known]))
        cosines = iter(np.einsum("ij,ij->i", prompts, outputs))
        for at, row in enumerate(part):
            if at not in known:
                yield Score(row.id, "answers", None, _why_not(row))
                continue
            value, near = float(1 / (1 + np.exp(-float(next(logits))))), next(cosines)
            yield Score(row.id, "answers", round(value, 3), say(f"cosine {near:.2f}", f"余弦 {near:.2f}"))


def margins(examples: Sequence[Example], among: Sequence[Example], embedder: Embedder) -> list[float | None]:
    """For each row, whether its output is its own prompt's, and not rather that of another row: log-odds, plus what they exceed those of
    the best other prompt by, plus half of what the rare words shared with it exceed those shared with the best other by (`shared.Shared`).

    The others are the prompts of `among`; of these the 20 nearest to the output are tried. So an answer that belongs to another row
    lies far below zero, and a poem that any row might have is judged beside other prompts for poems. None where `answers` is None.
    """
    others = {row.prompt.strip()[:PROMPT]: None for row in among if row.prompt.strip()}
    texts = list(others)
    pool = embedder(texts) if texts else np.zeros((0, embedder.dim), dtype=np.float32)
    words = Shared(texts, (row.output for row in among))
    found: list[float | None] = []
    for start in range(0, len(examples), BATCH):
        part = examples[start : start + BATCH]
        known, prompts, outputs = _sides(part, embedder)
        rows = [part[at] for at in known]
        own = _logits(prompts, outputs, rows)
        best = _best(texts, pool, rows, outputs)
        gaps = np.array([words.gap(row.prompt.strip()[:PROMPT], row.output) for row in rows])
        told = dict(zip(known, (2 * own - np.where(np.isfinite(best), best, own) + WORDS * gaps).tolist(), strict=True))
        found += [told.get(at) for at in range(len(part))]
    return found


def _best(texts: Sequence[str], pool: Matrix, rows: Sequence[Example], outputs: Matrix) -> Matrix:
    """The highest log-odds of each output with another row's prompt; minus infinity where there is none."""
    best = np.full(len(rows), -np.inf, dtype=np.float32)
    if not texts or not rows:
        return best
    near, lengths, net = pool @ outputs.T, _lengths(rows), load("answers")
    count = min(NEAR + 1, len(texts))
    nearest = np.argpartition(-near, count - 1, axis=0)[:count]
    for at, row in enumerate(rows):
        asked = row.prompt.strip()[:PROMPT]
        top = [other for other in nearest[:, at].tolist() if texts[other] != asked]
        if top:
            said = np.repeat(outputs[at : at + 1], len(top), axis=0)
            extra = np.stack([near[top, at], np.full(len(top), lengths[at])], axis=1).astype(np.float32)
            best[at] = net.logits(pool[top], said, extra).max()
    return best


def _sides(rows: Sequence[Example], embedder: Embedder) -> tuple[dict[int, None], Matrix, Matrix]:
    """Which rows can be judged, and the vectors of their prompts and outputs."""
    known = {at: None for at, row in enumerate(rows) if not _why_not(row)}
    sides = [(rows[at].prompt.strip()[:PROMPT], rows[at].output.strip()[:OUTPUT]) for at in known]
    texts = list(dict.fromkeys(part for side in sides for part in side))
    vectors = embedder(texts) if texts else np.zeros((0, embedder.dim), dtype=np.float32)
    at = {item: i for i, item in enumerate(texts)}
    return known, vectors[[at[asked] for asked, _ in sides]], vectors[[at[said] for _, said in sides]]


def _logits(prompts: Matrix, outputs: Matrix, rows: Sequence[Example]) -> Matrix:
    return load("answers").logits(prompts, outputs, extras(prompts, outputs, rows))


def extras(prompts: Matrix, outputs: Matrix, rows: Sequence[Example]) -> Matrix:
    """The plain figures beside the vectors: cosine, and the logarithm of the output's length over 5."""
    return np.stack([np.einsum("ij,ij->i", prompts, outputs), _lengths(rows)], axis=1).astype(np.float32)


def _lengths(rows: Sequence[Example]) -> Matrix:
    lengths: Matrix = (np.log1p([text.length(row.output[:50_000]) for row in rows]) / 5).astype(np.float32)
    return lengths


def _why_not(row: Example) -> str:
    if not row.prompt.strip() or not row.output.strip():
        return say("the prompt or the output is empty", "题面或输出为空")
    if len(row.output) < 200 and text.length(row.output) < SHORT:
        return say("the answer is too short to tell", "答案太短，无法判断")
    return ""
