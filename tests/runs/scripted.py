"""A model whose replies are a function of the request, and a constructor run with it as the house would run it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zhiling import registry, steps
from zhiling.errors import ProviderError
from zhiling.llm import Model
from zhiling.types import Example, Reject, Reply, Request, Score

Answer = Callable[[Request], str | Reply | ProviderError]


class Scripted:
    """A provider that answers with what a function says; `asked` keeps the requests."""

    name = "fake"

    def __init__(self, answer: Answer, label: str = "scripted-70b", without: Sequence[str] = ()) -> None:
        self.model, self.lanes, self.asked = f"{label}#1", 8, list[Request]()
        self.can = frozenset({"chat", "complete", "schema", "choices", "seed"}) - set(without)
        self._answer = answer

    async def reply(self, request: Request) -> Reply:
        await asyncio.sleep((hash(request.seed) % 7) / 5000)  # replies come in another order than they were asked for
        self.asked.append(request)
        said = self._answer(request)
        if isinstance(said, ProviderError):
            raise said
        return said if isinstance(said, Reply) else Reply(said)

    async def close(self) -> None:
        """Nothing is open."""


def last(request: Request) -> str:
    """What the request says last."""
    return request.prompt if request.prompt is not None else request.messages[-1][1]


async def unverified(rows: Sequence[Example]) -> list[Score]:
    return [Score(row.id, "verify", None, "no verifier") for row in rows]


def construct(
    name: str, provider: Any, *, cache: Any = None, verify: Any = unverified, **settings: Any
) -> list[Example | Reject]:
    """What a constructor yields with this model."""
    plugin = registry.get("constructor", name)
    handed = {key: settings.pop(key) for key in ("task", "records") if key in settings}
    hand = {
        "scorers": steps.Scorers({}, lambda step: {}),
        "verify": verify,
        "seed": 3,
        "here": settings.pop("here", Path()),
        **handed,
    }

    async def work() -> list[Any]:
        async with Model(provider, cache, retries=0) as model:
            return await steps.propose(name, registry.settle(plugin, settings), {**hand, "model": model})

    return asyncio.run(work())
