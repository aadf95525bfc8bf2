"""How fast an endpoint may be asked: lanes that find its limit, a pace per minute, and a breaker that pauses instead of failing rows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from zhiling.errors import ProviderError, say

MUCH = 0.3
"""A share of refusals ("429") above this in a window means that we ask too fast; below it they are noise that a retry absorbs."""
WINDOW = 20
CUT, LONGEST_PAUSE = 0.7, 30.0
BURST_SECONDS = 5.0
PATIENCE = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 60.0, 60.0, 60.0)
"""Pauses between probes of an endpoint that has answered before: five minutes, time enough for a server to be restarted."""
IMPATIENCE = (0.5, 1.0, 2.0)
"""The same for an endpoint that never answered: most likely the address is wrong."""
COLD = 8
"""So many failures in a row are enough when there was never an answer."""


class Lanes:
    """At most `most` calls in flight, fewer while the endpoint refuses much.

    Additive increase, multiplicative decrease (Chiu and Jain 1989), driven by the share of refusals in a window rather than by
    single ones: a stray 429 costs one call its retry and nobody else anything. A window that refuses much cuts the limit to 0.7
    and makes everyone wait for what Retry-After says. Refusals of calls that were sent before a cut say nothing of the new limit and
    are not counted against it. Only where one lane is still too many does a pause follow, which doubles while it does not help:
    then it is the calls per minute that are limited, and not those at once.
    """

    def __init__(self, most: int, rpm: float | None = None, tpm: float | None = None) -> None:
        self.most = most
        self._requests, self._tokens = _Pace(rpm), _Pace(tpm)
        self.limit = float(most)
        self._gate, self._cuts, self._seen, self._refused, self._pauses = 0.0, 0, 0, 0, 0
        self.reset()

    def reset(self) -> None:
        """Forget the calls of an ended event loop. What was found out about the endpoint stays."""
        self.busy = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    async def enter(self, tokens: int) -> int:
        """Wait for a free lane, an open gate and the pace; `tokens` is the call's estimated size. Returns how many cuts there were."""
        if self.busy < int(self.limit) and not self._queue:
            self.busy += 1
        else:
            await self._turn()
        try:
            while (wait := self._gate - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            wait = max(self._requests.take(1), self._tokens.take(tokens))
            if wait > 0:
                await asyncio.sleep(wait)
        except BaseException:
            self.leave()
            raise
        return self._cuts

    def leave(self) -> None:
        """Give the lane to whoever waits."""
        self.busy -= 1
        while self._queue and self.busy < int(self.limit):
            turn = self._queue.popleft()
            if not turn.done():
                self.busy += 1
                turn.set_result(None)

    def answered(self) -> None:
        """A call was answered: one lane more per round of answers."""
        if self.limit < self.most:
            self.limit = min(float(self.most), self.limit + 1 / self.limit)
        self._count()

    def refused(self, after: float | None, sent: int) -> None:
        """A call was refused for asking too fast; `after` is what Retry-After said, `sent` what `enter` returned."""
        if sent < self._cuts:
            return
        self._refused += 1
        if self._refused <= MUCH * max(WINDOW, int(self.limit)):
            self._count()
            return
        pause = after or 0.0
        if self.limit <= 1:
            pause = max(pause, min(LONGEST_PAUSE, 0.1 * 2.0**self._pauses))
            self._pauses += 1
        if pause:
            self._gate = max(self._gate, time.monotonic() + pause)
        self.limit = max(1.0, self.limit * CUT)
        self._cuts += 1
        self._seen, self._refused = 0, 0

    def _count(self) -> None:
        self._seen += 1
        if self._seen >= max(WINDOW, int(self.limit)):  # a whole window without a cut
            self._pauses, self._seen, self._refused = 0, 0, 0

    async def _turn(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the lane was handed over as we were cancelled
                self.leave()
            raise


class _Pace:
    """A leaky bucket: `per_minute` units, of which those of BURST_SECONDS may come at once."""

    def __init__(self, per_minute: float | None) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0

    def take(self, units: int) -> float:
        """Take so many units and say how many seconds to wait for them."""
        if not self._interval:
            return 0.0
        now = time.monotonic()
        at = max(self._next, now - BURST_SECONDS)
        self._next = at + units * self._interval
        return max(0.0, at - now)


class Breaker:
    """Stops asking an endpoint that only fails, says so, tries it now and then, and gives up with one error.

    It opens after `threshold` failures without an answer between them, or COLD when there never was an answer. While it is open one
    call at a time goes through as a probe and all others wait. It gives up after PATIENCE (IMPATIENCE for an endpoint never heard
    of); then `dead` is the last error.
    """

    def __init__(self, threshold: int, notice: Callable[[str], None] | None = None) -> None:
        self.threshold = threshold
        self.notice = notice or logging.getLogger("zhiling.llm").warning
        self.heard = False
        self.dead: ProviderError | None = None
        self._refusals = 0
        self.reset()

    def reset(self) -> None:
        """Close; for a new event loop. What is known of the endpoint stays."""
        self.open, self._failures, self._step, self._probe_at, self._probing = False, 0, 0, 0.0, False
        self._changed: asyncio.Event | None = None

    async def ready(self) -> bool:
        """Return when this call may be made: at once while closed; while open, as the next probe (True) or when it closes."""
        while self.open and self.dead is None:
            wait = self._probe_at - time.monotonic()
            if wait <= 0 and not self._probing:
                self._probing = True
                return True
            self._changed = self._changed or asyncio.Event()
            try:
                await asyncio.wait_for(self._changed.wait(), max(wait, 0.01) if not self._probing else None)
            except TimeoutError:
                continue
        if self.dead is not None:
            raise self.dead.with_traceback(None)
        return False

    def answered(self) -> None:
        """The endpoint answered: all is well."""
        self.heard, self._failures = True, 0
        if self.open:
            self.notice(say("the endpoint answers again", "接口已恢复"))
            self.open, self._step = False, 0
            self._change()

    def failed(self, error: ProviderError, probe: bool) -> None:
        """A call failed for a reason that lies with the endpoint or the way to it."""
        self._failures += 1
        self.heard = self.heard or error.kind in ("rate", "server")
        if probe and self.open:
            self._step += 1
        elif self.open:
            return
        elif self._failures >= (self.threshold if self.heard else min(self.threshold, COLD)):
            self.open = True
        else:
            return
        pauses = PATIENCE if self.heard else IMPATIENCE
        if self._step >= len(pauses) or not (error.retryable or self.heard):
            self.dead = error
        else:
            pause = pauses[self._step]
            self._probe_at = time.monotonic() + pause
            self.notice(say(f"paused for {pause:g} s: {error}", f"暂停 {pause:g} 秒：{error}"))
        self._change()

    def refused(self, error: ProviderError) -> None:
        """A call was refused for what it asks. That is the row's fault, unless nothing was ever answered and all are refused."""
        self._refusals += 1
        if not self.heard and self._refusals >= 4 * min(self.threshold, COLD):
            self.dead = error
            self._change()

    def abandoned(self, probe: bool) -> None:
        """A call ended without telling anything about the endpoint (it was cancelled): another may probe."""
        if probe:
            self._change()

    def _change(self) -> None:
        self._probing = False
        if self._changed is not None:
            self._changed.set()
            self._changed = None
