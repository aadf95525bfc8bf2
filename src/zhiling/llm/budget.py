"""What was spent, and a stop that holds: no call is made that could pass the budget."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from zhiling.errors import ProviderError, RecipeError, say
from zhiling.llm.price import Price, prompt_tokens
from zhiling.types import Reply, Request


@dataclass(slots=True)
class Spent:
    """Counters of one Model. `calls` were answered, `cached` served from the cache, `failed` ended as errors after `retries`.

    `usd` is None as soon as the price of any answered call is not known. `unsure` counts attempts that broke off unanswered: the
    endpoint may have billed them all the same.
    """

    calls: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = 0.0
    failed: int = 0
    retries: int = 0
    unsure: int = 0

    def answered(self, reply: Reply) -> None:
        """Count a reply that was paid for."""
        self.calls += 1
        self.prompt_tokens += reply.usage.prompt or 0
        self.completion_tokens += reply.usage.completion or 0
        self.usd = None if self.usd is None or reply.usd is None else self.usd + reply.usd


class Hold(NamedTuple):
    """The most that one call may take from the budget."""

    calls: int
    tokens: int
    usd: float


NOTHING = Hold(0, 0, 0.0)


class Budget:
    """Hard limits on calls, tokens and dollars. Each attempt reserves the most it could cost before it is made.

    An attempt that would pass a limit waits while others are under way, as they mostly give back part of what they reserved; when
    none is, it is refused. Attempts that broke off unanswered stay charged in full, since they may have been billed.
    """

    def __init__(self, limits: Mapping[str, Any] | None, price: Price | None, where: str = "") -> None:
        known = ("usd", "calls", "tokens")
        self.limits = {
            name: float(value) for name, value in (limits or {}).items() if name in known and _positive(value)
        }
        if limits and len(self.limits) != len(limits):
            raise RecipeError(
                say(
                    "a budget is made of usd, calls and tokens, each a number above 0",
                    "budget 由 usd、calls、tokens 组成，且均为正数",
                ),
                where=where,
            )
        if "usd" in self.limits and price is None:
            raise RecipeError(
                say(
                    "a budget in usd needs a price, and this model's is not known",
                    "以 usd 计的预算需要单价，而该模型的单价未知",
                ),
                where=where,
                mend=say(
                    "add price: {prompt: ..., completion: ...} in USD per million tokens",
                    "请补上 price: {prompt: ..., completion: ...}（美元/百万 token）",
                ),
            )
        self._price = price
        self._used, self._held, self._under_way = NOTHING, NOTHING, 0
        self._settled: asyncio.Event | None = None

    def reset(self) -> None:
        """Release what an ended event loop still held."""
        self._held, self._under_way, self._settled = NOTHING, 0, None

    async def reserve(self, request: Request) -> Hold:
        """Set aside the most that this call can cost. Raises ProviderError(kind="budget") when that would pass a limit."""
        if not self.limits:
            return NOTHING
        tokens = prompt_tokens(request) + request.max_tokens
        hold = Hold(1, tokens, self._price.most(request) if self._price else 0.0)
        while passed := self._passed(hold):
            if not self._under_way:
                raise self._refusal(passed)
            self._settled = self._settled or asyncio.Event()
            await self._settled.wait()
        self._held = _plus(self._held, hold)
        self._under_way += 1
        return hold

    def settle(self, hold: Hold, reply: Reply | None, billed: bool) -> None:
        """Replace a reservation by what the call took: a reply's count, nothing, or (`billed` without a reply) all of it."""
        if hold is NOTHING:
            return
        self._under_way -= 1
        self._held = _minus(self._held, hold)
        if reply is not None and reply.usage.prompt is not None and reply.usage.completion is not None:
            cost = hold.usd if reply.usd is None else reply.usd
            self._used = _plus(self._used, Hold(1, reply.usage.prompt + reply.usage.completion, cost))
        elif reply is not None or billed:
            self._used = _plus(self._used, hold)
        else:
            self._used = _plus(self._used, Hold(1, 0, 0.0))
        if self._settled is not None:
            self._settled.set()
            self._settled = None

    def _passed(self, hold: Hold) -> str:
        total = _plus(_plus(self._used, self._held), hold)
        return next((name for name, limit in self.limits.items() if getattr(total, name) > limit * (1 + 1e-12)), "")

    def _refusal(self, name: str) -> ProviderError:
        used, limit = getattr(self._used, name), self.limits[name]
        return ProviderError(
            say(
                f"the budget of {limit:g} {name} is used up ({used:g} spent)",
                f"预算已用完：{name} 上限 {limit:g}，已用 {used:g}",
            ),
            mend=say(
                "raise the budget and run again; what was answered is kept", "请提高预算后重新运行；已有的回答都会保留"
            ),
            kind="budget",
        )


def _plus(a: Hold, b: Hold) -> Hold:
    return Hold(a.calls + b.calls, a.tokens + b.tokens, a.usd + b.usd)


def _minus(a: Hold, b: Hold) -> Hold:
    return Hold(a.calls - b.calls, a.tokens - b.tokens, max(0.0, a.usd - b.usd))


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
