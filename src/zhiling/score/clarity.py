"""Semantic clarity of the instruction, as far as a language model can tell: how expected its wording is."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence

from zhiling import text
from zhiling.errors import ProviderError, say
from zhiling.llm.base import lacks
from zhiling.llm.wrap import STOPPING, Model
from zhiling.registry import scorer
from zhiling.types import Example, Request, Score

MOST = 4000  # characters of an instruction that are looked at
FLOOR = 12.0  # nats per token: about one in 160,000, what drawing tokens blindly from a vocabulary gives
BATCH = 512  # texts under way at once


@scorer(
    "clarity", low=0, high=1, better="high", langs=("en",), needs=("score",), paper="Jelinek et al. 1977 (perplexity)"
)
async def clarity(
    examples: Sequence[Example], *, model: Model, langs: tuple[str, ...] = ("latin",)
) -> AsyncIterator[Score]:
    """1 - (mean negative log-probability of the instruction's tokens, in nats) / 12, at least 0; `why` gives the perplexity.

    Unfluent, garbled and underspecified wordings are less expected than clear ones. `langs` are the languages, as
    `text.lang` names them, that the model speaks; others get None. Equal instructions are scored once. Raises ProviderError
    (kind "capability") before any row when the model cannot score given texts, and later when it can answer no more.
    """
    if "score" not in model.can:
        raise lacks(model.provider, "score")
    spoken = {row.instruction: text.lang(row.instruction[:MOST]) for row in examples}
    asked = [instruction for instruction, language in spoken.items() if language in langs]
    said: dict[str, tuple[float | None, str]] = {}
    for start in range(0, len(asked), BATCH):
        part = asked[start : start + BATCH]
        said.update(zip(part, await asyncio.gather(*(_ask(model, item) for item in part)), strict=True))
    for row in examples:
        language = spoken[row.instruction]
        if row.instruction in said:
            value, why = said[row.instruction]
        elif not language:
            value, why = None, say("the instruction has no words", "指令没有文字")
        else:
            listed = ", ".join(langs)
            why = say(f"the model speaks {listed}, not {language}", f"该模型的语言是 {listed}，不是 {language}")
            value = None
        yield Score(row.id, "clarity", value, why)


async def _ask(model: Model, instruction: str) -> tuple[float | None, str]:
    plain = text.valid(instruction[:MOST])
    try:
        tokens = await model.score(Request(prompt=""), plain)
    except ProviderError as error:
        if error.kind in STOPPING | {"capability"}:
            raise
        return None, str(error)
    if not tokens or not all(map(math.isfinite, tokens)):
        return None, say("the model gave no probabilities", "模型没有给出概率")
    loss = -math.fsum(tokens) / len(tokens)
    perplexity = say(f"perplexity {math.exp(min(loss, 50)):.4g}", f"困惑度 {math.exp(min(loss, 50)):.4g}")
    return round(min(1.0, max(0.0, 1 - loss / FLOOR)), 4), perplexity
