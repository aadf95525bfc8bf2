"""How much a prompt helps a model towards its answer: Instruction-Following Difficulty (IFD)."""

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

PROMPT, OUTPUT = 2000, 400  # characters; of every output the same stretch counts, so that long answers are not easier
FEW = 5  # tokens of an output from which on a mean means something
MOST = 5.0
BATCH = 256  # rows under way at once


@scorer(
    "difficulty",
    low=0,
    high=MOST,
    better="none",
    langs=("en",),
    tier="model",
    needs=("score",),
    paper="Li et al. 2024 (IFD, arXiv:2308.12032)",
)
async def difficulty(
    examples: Sequence[Example], *, model: Model, langs: tuple[str, ...] = ("latin",)
) -> AsyncIterator[Score]:
    """The output's perplexity after the prompt over its perplexity alone, at most 5.

    Near 0 the prompt gives the answer away, from 1 on it is no help.
    Only the first 400 characters of an output count, and the mean over tokens, so that length does not decide. `langs` are the
    languages, as `text.lang` names them, that the model speaks. None for others, for outputs of fewer than five tokens, and where the
    model gives no probabilities. Raises ProviderError (kind "capability") where it cannot score given texts.
    """
    if "score" not in model.can:
        raise lacks(model.provider, "score")
    for start in range(0, len(examples), BATCH):
        part = examples[start : start + BATCH]
        for row, (value, why) in zip(
            part, await asyncio.gather(*(_one(row, model, langs) for row in part)), strict=True
        ):
            yield Score(row.id, "difficulty", value, why)


async def _one(row: Example, model: Model, langs: tuple[str, ...]) -> tuple[float | None, str]:
    asked, said = (text.valid(side) for side in (row.prompt[:PROMPT], row.output[:OUTPUT].strip()))
    if not asked.strip() or not said:
        return None, say("the prompt or the output is empty", "题面或输出为空")
    if (language := text.lang(said)) not in langs:
        listed = ", ".join(langs)
        return None, say(
            f"the model speaks {listed}, not {language or '-'}", f"该模型的语言是 {listed}，不是 {language or '-'}"
        )
    given = Request(messages=(("user", asked),)) if "chat" in model.can else Request(prompt=f"{asked}\n\n")
    try:
        after, alone = await asyncio.gather(model.score(given, said), model.score(Request(prompt=""), said))
    except ProviderError as error:
        if error.kind in STOPPING | {"capability"}:
            raise
        return None, str(error)
    if min(len(after), len(alone)) < FEW:
        return None, say("the output is too short for a perplexity", "输出太短，无法计算困惑度")
    if not all(map(math.isfinite, [*after, *alone])):
        return None, say("the model gave no probabilities", "模型没有给出概率")
    with_it, without = (math.exp(min(50.0, -math.fsum(values) / len(values))) for values in (after, alone))
    why = say(
        f"perplexity {with_it:.4g} after the prompt, {without:.4g} alone",
        f"困惑度：有题面 {with_it:.4g}，无题面 {without:.4g}",
    )
    return round(min(MOST, with_it / without), 4), why
