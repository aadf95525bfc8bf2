"""How likely a model finds a given text: asked and kept like a reply, and turned into a ranking of choices."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Literal, TypeAlias

from zhiling.llm.base import Provider, Scoring, label, lacks
from zhiling.types import Reply, Request

Per: TypeAlias = Literal["text", "token", "byte"]


async def answer(provider: Provider, request: Request) -> Reply:
    """The provider's reply; to a request with a continuation one without text that holds the log-probabilities of its tokens.

    The tokens themselves are left out: scoring asks for numbers, and the cache holds no texts of prompts.
    """
    if request.continuation is None:
        return await provider.reply(request)
    if not isinstance(provider, Scoring):
        raise lacks(provider, "score")
    start = time.perf_counter()
    values = await provider.score(request, request.continuation)
    pairs = tuple(("", value) for value in values)
    return Reply("", "stop", label(provider.model), logprobs=pairs, seconds=time.perf_counter() - start)


def likelihood(choice: str, values: Sequence[float], per: Per) -> float:
    """The sum of a choice's token log-probabilities, or its mean per token or per UTF-8 byte; -inf for a choice of no tokens."""
    if not values:
        return -math.inf
    size = {"text": 1, "token": len(values), "byte": len(choice.encode("utf-8", "replace"))}[per]
    return math.fsum(values) / size
