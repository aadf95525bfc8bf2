"""A provider made fit for work: cached, limited, budgeted, retried, traced. The only thing the other rooms ever ask."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from zhiling.errors import EngineError, ProviderError, ZhilingError, boundary, say
from zhiling.llm import words
from zhiling.llm.base import Provider, require
from zhiling.llm.base import label as short
from zhiling.llm.bill import Bill
from zhiling.llm.budget import NOTHING, Budget, Hold, Pot, Spent
from zhiling.llm.cache import ReplyCache
from zhiling.llm.flow import Flow
from zhiling.llm.likelihood import Per, answer, likelihood
from zhiling.llm.limit import Breaker, Lanes
from zhiling.llm.offline import Offline
from zhiling.llm.price import Price, find, prompt_tokens
from zhiling.llm.settings import Batch
from zhiling.llm.trace import Trace
from zhiling.text import valid
from zhiling.types import Reply, Request

STOPPING = frozenset({"auth", "model", "quota", "budget"})
"""Errors that every further call would meet again: the Model stops at the first."""
_endpoint = frozenset({"network", "server", "timeout", "protocol", "rate"})
Outcome: TypeAlias = Reply | ZhilingError
BACKOFF, LONGEST_BACKOFF = 0.5, 60.0


class Model:
    """One model as the rooms see it.

    A request passes the cache, then the lanes (adaptive concurrency, pace), the breaker, the budget, the provider, and its reply goes into
    the cache before anybody sees it. Equal requests under way are asked once. After an error that would meet every further call
    (`stopped`: wrong key, unknown model, quota, budget, endpoint gone) only cached replies are served.
    """

    def __init__(
        self,
        provider: Provider,
        cache: ReplyCache | None = None,
        *,
        lanes: int | None = None,
        budget: Mapping[str, Any] | None = None,
        trace: Trace | None = None,
        retries: int = 6,
        rpm: float | None = None,
        tpm: float | None = None,
        price: Price | None = None,
        notice: Callable[[str], None] | None = None,
        where: str = "",
        bill: Bill | None = None,
        used: Hold = NOTHING,
        shared: Pot | None = None,
        batch: Batch | None = None,
    ) -> None:
        """`price` None looks it up; `notice` is told when the endpoint is paused (default: the log).

        `bill` is written before each call leaves and after it ended; `used` is what earlier executions took of the budget, and `shared` a
        budget that several models draw on; `batch` has everything asked in the provider's batch jobs. Raises RecipeError for a bad budget.
        """
        self.provider, self.cache, self.trace, self.retries = provider, cache, trace, retries
        self.price = price or find(provider.name, provider.model)
        self.spent = Spent()
        self.stopped: ProviderError | None = None
        self.lanes = min(lanes or provider.lanes, provider.lanes)
        self._lanes, self._paced = Lanes(self.lanes, rpm, tpm), tpm is not None
        self._breaker = Breaker(max(8, self.lanes), notice)
        self._budget = Budget(budget, self.price, where, used, shared)
        self.heard: Callable[[], None] | None = None  # told of each outcome: answered, cached or failed
        self._bill, self._asking = bill, 0
        self._latency = 0.0
        self._under_way: dict[str, list[asyncio.Future[Reply | None]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._offline = Offline(self, batch, notice) if batch is not None else None

    def __repr__(self) -> str:
        return f"Model({self.provider!r})"

    @property
    def label(self) -> str:
        """The model's short name, for reports and lineage."""
        return short(self.provider.model)

    @property
    def can(self) -> frozenset[str]:
        """What the model can do, natively or asked in words."""
        by_words = {"schema", "choices", "regex"} if "chat" in self.provider.can else set()
        return self.provider.can | by_words

    def capabilities(self, request: Request) -> None:
        """Raise ProviderError(kind="capability") when the model cannot do what the request asks; without asking it."""
        require(self.provider, request)
        words.asked(request, self.provider)

    async def ask(self, request: Request) -> Reply:
        """The reply, from the cache or the model. Raises ProviderError when there is none, or none of the asked form."""
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        await self._obtain(request, lambda outcome: None if done.done() else done.set_result(outcome))
        if self.cache is not None and not done.done():
            self.cache.hurry()
        outcome = await done
        if isinstance(outcome, ZhilingError):
            raise outcome
        return outcome

    def map(
        self, requests: Iterable[Request] | AsyncIterable[Request], *, window: int | None = None
    ) -> AsyncIterator[tuple[int, Reply | ProviderError]]:
        """(index, reply or error) as they come, not in order. Memory holds at most `window` requests (default: eight per lane).

        Requests are taken one by one, so they may be a generator of any length. When the model stops (see `stopped`), calls under way
        are finished and yielded, then that error is raised; whatever else goes wrong is raised too.
        """
        flow: Flow[Request, Reply | ProviderError] = Flow(
            requests, window or (self._offline.window if self._offline else 8 * self.lanes)
        )
        return flow.results(partial(self._work, flow), self.lanes)

    async def ask_all(self, requests: Iterable[Request]) -> list[Reply | ProviderError]:
        """All replies in order, an error in the place of each request that has none. Raises when the model stops."""
        found = [pair async for pair in self.map(requests)]
        return [result for _, result in sorted(found, key=lambda pair: pair[0])]

    async def score(self, request: Request, continuation: str) -> list[float]:
        """The log-probability of each token of a given continuation (see the provider), from the cache or the model.

        Cached, traced, counted and budgeted like a reply. Raises ProviderError where it cannot be had.
        """
        question = Request(request.messages, request.prompt, max_tokens=0, continuation=continuation)
        return [value for _, value in (await self.ask(question)).logprobs]

    async def rank(self, request: Request, choices: Sequence[str], *, per: Per = "text") -> list[float]:
        """The log-likelihood of each choice as the continuation of the request, in nats: of the whole text, per token or per UTF-8 byte.

        The likeliest choice has the highest value (accuracy by likelihood; "byte" is what lm-evaluation-harness calls acc_norm). An
        empty choice gets -inf. For a base model write the space before a choice into it. Raises ProviderError like `score`.
        """
        found = await asyncio.gather(*(self.score(request, choice) for choice in choices))
        return [likelihood(choice, values, per) for choice, values in zip(choices, found, strict=True)]

    def _tell(self) -> None:
        if self.heard is not None:
            self.heard()

    def _write_bill(self) -> None:
        if self._bill is not None:
            self._bill.write(self.spent, self._asking, self._budget.charged)

    async def close(self) -> None:
        """Close the provider, the cache, the bill and the trace. The Model may be used again, except for its trace."""
        if self._bill is not None and self.spent != Spent():
            self._write_bill()
            self._bill.close()
        if self._offline is not None:
            self._offline.close()
        await self.provider.close()
        if self.cache is not None:
            await asyncio.to_thread(self.cache.close)
        if self.trace is not None:
            self.trace.close()

    async def __aenter__(self) -> Model:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _enter(self) -> None:
        """Notice a new event loop: what belonged to the ended one is forgotten."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        if self._loop is not None and self._loop.is_running():
            raise EngineError(
                say("one Model cannot be used from two event loops at once", "同一个 Model 不能同时用于两个事件循环")
            )
        self._loop = loop
        self._under_way.clear()
        self._lanes.reset()
        self._breaker.reset()
        self._budget.reset()
        if self._offline is not None:
            self._offline.reset()

    async def _work(self, flow: Flow[Request, Reply | ProviderError]) -> None:
        """Take requests and answer them, one after the other. A lane does not wait for its reply to be on disk."""
        while True:
            try:
                index, request = await flow.take()
            except StopAsyncIteration:
                return
            try:
                await self._obtain(request, partial(self._deliver, flow, index))
            except ProviderError as error:
                if self.stopped is None or error.kind != self.stopped.kind:
                    flow.give(index, error)
                    continue
                flow.drop()
                flow.fail(self.stopped)
                return
            except BaseException:
                flow.drop()
                raise

    async def _obtain(self, request: Request, then: Callable[[Outcome], None]) -> None:
        """Get the reply from the cache or the model and call `then` with it as soon as it is safe on disk; that may be after this returns.

        Raises ProviderError when the model gave none; `then` gets one when the reply is not of the asked form.
        """
        self._enter()
        require(self.provider, request)
        sent = words.asked(request, self.provider)
        key = sent.key(self.provider.model)
        if self._offline is not None:
            await self._offline.obtain(request, sent, key, then)
            return
        reply = await self._known(key)
        if reply is not None:
            self.spent.cached += 1
            then(self._held(request, reply))
            self._tell()
            return
        if self.stopped is not None:
            raise self.stopped.with_traceback(None)
        self._under_way[key] = []
        try:
            reply = await self._retrying(sent, key)
        except BaseException as error:
            self._over(key, None)
            if isinstance(error, ProviderError):
                self.spent.failed += 1
                self.spent.unanswered += error.kind in _endpoint
                if error.kind in STOPPING or error is self._breaker.dead:
                    self.stopped = self.stopped or error
                self._tell()
            raise
        if self.cache is not None:
            self.cache.put_soon(key, self.provider.model, reply, partial(self._kept, key, request, reply, then))
        else:
            self._kept(key, request, reply, then, None)

    def _kept(
        self, key: str, request: Request, reply: Reply, then: Callable[[Outcome], None], error: ZhilingError | None
    ) -> None:
        self._over(key, reply if error is None else None)
        outcome: Outcome = self._held(request, reply) if error is None else error
        try:
            self._tell()
        except Exception as trouble:  # whoever listens must not keep anybody from their reply: the asker is told
            outcome = boundary(trouble)
        then(outcome)

    def _held(self, request: Request, reply: Reply) -> Reply | ProviderError:
        """The reply if it has the asked form, else the error that says why not; the cache keeps it all the same, as it was paid for."""
        if request.schema is None and not request.choices and not request.regex:
            return reply
        try:
            return words.held(request, reply)
        except ProviderError as error:
            self.spent.failed += 1
            return error

    async def _known(self, key: str) -> Reply | None:
        """The reply that the same question already has, or is about to get from a call under way."""
        while (waiting := self._under_way.get(key)) is not None:
            turn: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
            waiting.append(turn)
            if (reply := await turn) is not None:
                return replace(reply, cached=True)
        return self.cache.get(key) if self.cache is not None else None

    def _over(self, key: str, reply: Reply | None) -> None:
        """A call has ended: those who asked the same get its reply, or go on to ask themselves."""
        for turn in self._under_way.pop(key, ()):
            if not turn.done():
                turn.set_result(reply)

    async def _retrying(self, request: Request, key: str) -> Reply:
        """Ask until there is an answer, at most `retries` times more. Refusals for speed only count while nobody is answered."""
        attempt = tries = 0
        answered = self.spent.calls
        while True:
            try:
                return await self._attempt(request, key, attempt)
            except ProviderError as error:
                if not error.retryable or self.stopped is not None or error is self._breaker.dead:
                    raise
                if not self._breaker.open:  # while it is open, waiting is the breaker's business and costs no tries
                    tries = 1 if error.kind == "rate" and self.spent.calls > answered else tries + 1
                    answered = self.spent.calls
                    if tries > self.retries:
                        raise
                    await asyncio.sleep(self._backoff(error, tries))
                attempt += 1
                self.spent.retries += 1

    async def _attempt(self, request: Request, key: str, attempt: int) -> Reply:
        sent = await self._lanes.enter(prompt_tokens(request) + request.max_tokens if self._paced else 0)
        probe, hold, settled = False, None, False
        start = time.perf_counter()
        try:
            probe = await self._breaker.ready()
            if self.trace is not None:
                self.trace.check()
            hold = await self._budget.reserve(request)
            self._asking += 1
            self._write_bill()
            start = time.perf_counter()
            reply = await answer(self.provider, request)
            reply = self._completed(reply, key)
            self._budget.settle(hold, reply, billed=True)
            settled = True
            self._lanes.answered()
            self._breaker.answered()
            self.spent.answered(reply)
            self._note(key, request, reply, None, time.perf_counter() - start, attempt)
            return reply
        except ProviderError as error:
            if hold is not None:
                self._failed(error, probe, hold, sent)
                settled = True
                self._note(key, request, None, error, time.perf_counter() - start, attempt)
            raise
        finally:
            if not settled:  # cancelled, or a fault that is not the provider's
                self._breaker.abandoned(probe)
                if hold is not None:
                    self._budget.settle(hold, None, billed=True)
                    self.spent.unsure += 1
            if hold is not None:
                self._asking -= 1
                # A full disk is told before the next call leaves: the reply of this one must not be lost to it.
                with suppress(EngineError):
                    self._write_bill()
            self._lanes.leave()

    def _completed(self, reply: Reply, key: str) -> Reply:
        """The reply with its key and price, its text as the cache will give it back."""
        self._latency += 0.1 * (reply.seconds - self._latency)
        text = valid(reply.text)
        usd = self.price.usd(reply.usage) if self.price is not None else None
        return Reply(text, reply.finish, reply.model, reply.usage, reply.logprobs, reply.seconds, usd, key=key)

    def _failed(self, error: ProviderError, probe: bool, hold: Hold, sent: int) -> None:
        unsure = error.kind in ("timeout", "network", "protocol")
        self.spent.unsure += unsure
        self._budget.settle(hold, None, billed=unsure)
        if error.kind == "rate":
            self._lanes.refused(error.retry_after, sent)
        if error.kind in _endpoint:
            self._breaker.failed(error, probe)
            return
        if (
            error.kind == "refused" and not self.spent.cached
        ):  # a rerun asks the refused rows first: no sign of a wrong address
            self._breaker.refused(error)
        self._breaker.abandoned(probe)

    def _backoff(self, error: ProviderError, tries: int) -> float:
        """Seconds until the next try: what the endpoint asks; about one call's time after a 429; else exponential with jitter."""
        if error.retry_after is not None:
            return error.retry_after * random.uniform(1.0, 1.1)
        base = min(BACKOFF, max(0.02, self._latency)) if error.kind == "rate" else BACKOFF
        return random.uniform(0.5, 1.0) * min(LONGEST_BACKOFF, base * 2.0 ** (tries - 1))

    def _note(
        self, key: str, request: Request, reply: Reply | None, error: ProviderError | None, seconds: float, attempt: int
    ) -> None:
        if self.trace is not None:
            self.trace.call(key, request, reply, error, seconds, attempt)

    def _deliver(self, flow: Flow[Request, Reply | ProviderError], index: int, outcome: Outcome) -> None:
        """A result for its consumer; what stopped the model, or is no provider's fault, ends the flow instead."""
        if isinstance(outcome, Reply) or (isinstance(outcome, ProviderError) and outcome is not self.stopped):
            flow.give(index, outcome)
        else:
            flow.drop()
            flow.fail(outcome)
