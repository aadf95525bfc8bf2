"""Single questions gathered into batches for a model that answers many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

from zhiling.errors import ProviderError

Item = TypeVar("Item")
Result = TypeVar("Result")

GATHER_SECONDS = 0.005


class Batcher(Generic[Item, Result]):
    """Runs `work` on batches of what callers ask for one by one. Where `work` gives a ProviderError for an item, its caller gets it raised.

    A round begins when nothing has arrived for a moment or a batch is full. It takes all that waits, sorts it by size so that rows
    of a batch are of like length, and runs it in batches of at most `most`; what arrives meanwhile is the next round.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result | ProviderError]],
        size: Callable[[Item], int],
        most: int,
        executor: Executor,
    ) -> None:
        self._work, self._size, self._most, self._executor = work, size, most, executor
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._round: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Result:
        """The result for one item. Raises what `work` raised for its batch."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        if self._round is None or self._round.done() or self._round.get_loop() is not loop:
            self._waiting = []  # whatever an ended event loop left behind has no one waiting for it
            self._round = loop.create_task(self._rounds())
        self._waiting.append((item, future))
        return await future

    async def _rounds(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            seen = -1
            while seen != len(self._waiting) and len(self._waiting) < self._most:
                seen = len(self._waiting)
                await asyncio.sleep(GATHER_SECONDS)
            if not self._waiting:
                return
            taken, self._waiting = self._waiting, []
            taken = sorted(
                (pair for pair in taken if not pair[1].done()), key=lambda pair: self._size(pair[0]), reverse=True
            )
            for start in range(0, len(taken), self._most):
                batch = taken[start : start + self._most]
                try:
                    results = await loop.run_in_executor(self._executor, self._work, [item for item, _ in batch])
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                else:
                    for (_, future), result in zip(batch, results, strict=True):
                        if future.done():
                            continue
                        if isinstance(result, ProviderError):
                            future.set_exception(result)
                        else:
                            future.set_result(result)
