"""What was spent, and a stop that holds: no call is made that could pass the budget."""

from __future__ import annotations

import asyncio
import math
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
    endpoint may have billed them all the same. `unanswered` are those of `failed` that lie with the endpoint, not with the request:
    asking again later may help.
    """

    calls: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = 0.0
    failed: int = 0
    retries: int = 0
    unsure: int = 0
    unanswered: int = 0

    def answered(self, reply: Reply) -> None:
        """Count a reply that was paid for."""
        self.calls += 1
        self.prompt_tokens += reply.usage.prompt or 0
        self.completion_tokens += reply.usage.completion or 0
        self.usd = None if self.usd is None or reply.usd is None else self.usd + reply.usd

    def plus(self, other: Spent) -> Spent:
        """The sum of two bills; its dollars are unknown when either's are."""
        usd = None if self.usd is None or other.usd is None else self.usd + other.usd
        return Spent(
            self.calls + other.calls,
            self.cached + other.cached,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            usd,
            self.failed + other.failed,
            self.retries + other.retries,
            self.unsure + other.unsure,
        )


class Hold(NamedTuple):
    """The most that one call may take from the budget."""

    calls: int
    tokens: int
    usd: float


NOTHING = Hold(0, 0, 0.0)


class Pot:
    """Limits on calls, tokens and dollars, what is used of them (from `used` on: earlier executions count) and what is held."""

    def __init__(self, limits: Mapping[str, Any] | None, where: str = "", used: Hold = NOTHING) -> None:
        known = ("usd", "calls", "tokens")
        self.where = where
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
        if "usd" in self.limits and math.isnan(used.usd):
            raise RecipeError(
                say(
                    "what this run has spent so far is not known in usd, so no budget in usd can be held",
                    "此运行已花费的金额未知，无法执行以 usd 计的预算",
                ),
                where=where,
                mend=say("start afresh in another folder, with the price given", "请给出单价，并换一个文件夹重新开始"),
            )
        self.used, self.held, self.under_way = used, NOTHING, 0
        self._settled: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def reset(self) -> None:
        """Release what an ended event loop still held; once per loop, however many models share the pot."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self.held, self.under_way, self._settled = loop, NOTHING, 0, None

    def passed(self, hold: Hold) -> str:
        """The name of the limit that this would pass, or ""."""
        total = _plus(_plus(self.used, self.held), hold)
        return next((name for name, limit in self.limits.items() if getattr(total, name) > limit * (1 + 1e-12)), "")

    async def wait(self, passed: str) -> None:
        """Wait until a call under way settles. Raises ProviderError(kind="budget") when none is."""
        if not self.under_way:
            raise self._refusal(passed)
        self._settled = self._settled or asyncio.Event()
        await self._settled.wait()

    def take(self, hold: Hold) -> None:
        """Hold this much for a call that begins."""
        self.held = _plus(self.held, hold)
        self.under_way += 1

    def give(self, hold: Hold, used: Hold) -> None:
        """Replace what was held for a call by what it used."""
        self.under_way -= 1
        self.held = _minus(self.held, hold)
        self.used = _plus(self.used, used)
        if self._settled is not None:
            self._settled.set()
            self._settled = None

    def _refusal(self, name: str) -> ProviderError:
        used, limit = getattr(self.used, name), self.limits[name]
        return ProviderError(
            say(
                f"the budget of {limit:g} {name} does not suffice for the next call ({used:g} spent)"
                if used < limit
                else f"the budget of {limit:g} {name} is used up ({used:g} spent)",
                f"预算不够下一次调用：{name} 上限 {limit:g}，已用 {used:g}"
                if used < limit
                else f"预算已用完：{name} 上限 {limit:g}，已用 {used:g}",
            ),
            where=self.where,
            mend=say(
                "raise the budget and run again; what was answered is kept", "请提高预算后重新运行；已有的回答都会保留"
            ),
            kind="budget",
        )


class Budget:
    """Hard limits: each attempt reserves the most it could cost before it is made, from its own pot and from the run's.

    An attempt that would pass a limit waits while others are under way, as they mostly give back part of what they reserved; when
    none is, it is refused. Attempts that broke off unanswered stay charged in full, since they may have been billed.
    """

    def __init__(
        self,
        limits: Mapping[str, Any] | None,
        price: Price | None,
        where: str = "",
        used: Hold = NOTHING,
        shared: Pot | None = None,
    ) -> None:
        own = Pot(limits, where, used)
        self.pots = [pot for pot in (own, shared) if pot is not None and pot.limits]
        for pot in self.pots:
            if "usd" in pot.limits and price is None:
                raise RecipeError(
                    say(
                        "a budget in usd needs a price, and this model's is not known",
                        "以 usd 计的预算需要单价，而该模型的单价未知",
                    ),
                    where=where or pot.where,
                    mend=say(
                        "add price: {prompt: ..., completion: ...} in USD per million tokens",
                        "请补上 price: {prompt: ..., completion: ...}（美元/百万 token）",
                    ),
                )
        self._price = price
        self._mine = Hold(0, 0, 0.0)

    @property
    def charged(self) -> Hold | None:
        """What this execution's calls count for, those under way in full; None without limits, as nothing is counted then."""
        return self._mine if self.pots else None

    def reset(self) -> None:
        """Release what an ended event loop still held."""
        for pot in self.pots:
            pot.reset()

    async def reserve(self, request: Request) -> Hold:
        """Set aside the most that this call can cost. Raises ProviderError(kind="budget") when that would pass a limit."""
        if not self.pots:
            return NOTHING
        hold = self._most(request)
        while full := next(((pot, name) for pot in self.pots if (name := pot.passed(hold))), None):
            await full[0].wait(full[1])
        for pot in self.pots:
            pot.take(hold)
        self._mine = _plus(self._mine, hold)
        return hold

    def adopt(self, request: Request) -> Hold:
        """Take over a call that an earlier execution reserved and left under way: it is charged already, and only held from now on."""
        if not self.pots:
            return NOTHING
        hold = self._most(request)
        for pot in self.pots:
            pot.used = _minus(pot.used, hold)
            pot.take(hold)
        return hold

    def _most(self, request: Request) -> Hold:
        tokens = prompt_tokens(request) + request.max_tokens
        return Hold(1, tokens, self._price.most(request) if self._price else 0.0)

    def settle(self, hold: Hold, reply: Reply | None, billed: bool) -> None:
        """Replace a reservation by what the call took: a reply's count, nothing, or (`billed` without a reply) all of it."""
        if hold is NOTHING:
            return
        if reply is not None and reply.usage.prompt is not None and reply.usage.completion is not None:
            cost = hold.usd if reply.usd is None else reply.usd
            used = Hold(1, reply.usage.prompt + reply.usage.completion, cost)
        elif reply is not None or billed:
            used = hold
        else:
            used = Hold(1, 0, 0.0)
        for pot in self.pots:
            pot.give(hold, used)
        self._mine = _plus(_minus(self._mine, hold), used)


def _plus(a: Hold, b: Hold) -> Hold:
    return Hold(a.calls + b.calls, a.tokens + b.tokens, a.usd + b.usd)


def _minus(a: Hold, b: Hold) -> Hold:
    return Hold(a.calls - b.calls, a.tokens - b.tokens, a.usd - b.usd)


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
