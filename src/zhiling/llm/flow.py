"""A bounded stream of requests through many workers: results come out as they are ready, and memory holds one window of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Flow(Generic[Item, Result]):
    """Shared by the workers that take items and the one consumer that is given results.

    At most `window` items are out (taken, and their result not yet given to the consumer); a worker that would exceed it waits.
    """

    def __init__(self, items: Iterable[Item] | AsyncIterable[Item], window: int) -> None:
        self._window = window
        self._several: AsyncIterator[Item] | None = aiter(items) if isinstance(items, AsyncIterable) else None
        self._single: Iterator[Item] = iter(()) if isinstance(items, AsyncIterable) else iter(items)
        self._taking = asyncio.Lock()
        self._taken = self._out = 0
        self._ready: deque[tuple[int, Result]] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._consumer: asyncio.Future[None] | None = None
        self._workers: set[asyncio.Task[None]] = set()
        self._trouble: BaseException | None = None
        self._over = False

    async def take(self) -> tuple[int, Item]:
        """The next item and its index. Raises StopAsyncIteration when there is none, or something has gone wrong."""
        while self._out >= self._window and self._trouble is None and not self._over:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        if self._trouble is not None:
            raise StopAsyncIteration
        if self._several is None:
            try:
                item = next(self._single)
            except StopIteration:
                self._end()
                raise StopAsyncIteration from None
        else:
            async with self._taking:
                try:
                    item = await anext(self._several)
                except StopAsyncIteration:
                    self._end()
                    raise
        index = self._taken
        self._taken += 1
        self._out += 1
        return index, item

    def _end(self) -> None:
        """The items are over: workers still waiting for a place, of whom there may be more than places, need wait no longer."""
        self._over = True
        while self._waiting:
            self._release()

    def give(self, index: int, result: Result) -> None:
        """Hand an item's result to the consumer."""
        self._ready.append((index, result))
        self._wake()

    def drop(self) -> None:
        """An item that was taken will have no result."""
        self._out -= 1
        self._wake()

    def fail(self, trouble: BaseException) -> None:
        """Something happened that ends the flow: nothing more is taken, and the consumer gets it raised after the last result."""
        self._trouble = self._trouble or trouble
        while self._waiting:
            self._release()
        self._wake()

    async def results(
        self, work: Callable[[], Coroutine[Any, Any, None]], workers: int
    ) -> AsyncIterator[tuple[int, Result]]:
        """Start so many workers and give (index, result) as they come, until all have ended and every item taken has its result.

        Raises what `fail` was told, or what a worker raised. Cancels the workers when the consumer leaves early.
        """
        self._workers = {asyncio.ensure_future(work()) for _ in range(workers)}
        for worker in self._workers:
            worker.add_done_callback(self._ended)
        try:
            while True:
                while self._ready:
                    pair = self._ready.popleft()
                    self._out -= 1
                    self._release()
                    yield pair
                if not self._workers and self._out == 0:
                    break
                self._consumer = asyncio.get_running_loop().create_future()
                await self._consumer
        finally:
            for worker in (left := list(self._workers)):
                worker.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        if self._trouble is not None:
            raise self._trouble

    def _ended(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if not worker.cancelled() and (error := worker.exception()) is not None:
            self.fail(error)
        self._wake()

    def _release(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _wake(self) -> None:
        if self._consumer is not None and not self._consumer.done():
            self._consumer.set_result(None)
