"""Processes on this machine. One worker means this process: no pool, no pickling, easy to debug."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from zhiling.engine import Job
from zhiling.errors import EngineError, say


def _settle_in() -> None:
    """In a worker: Ctrl-C is the parent's business, and a parent that was killed takes its workers along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C reaches this process a moment later. A worker that is started meanwhile inherits the block, so that the
    same Ctrl-C cannot end it with a traceback while it still imports, before `_settle_in` could ignore it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Local:
    """`workers` processes, started on the first batch of more than one job and kept until `close`."""

    name = "local"

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._pool: ProcessPoolExecutor | None = None

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[str, Any]]:
        """Results as they come. At most two jobs per worker wait in the pool, so a long list of jobs costs no memory."""
        if self.workers == 1:
            for job in jobs:
                yield job.key, job()
            return
        pool = self._started()
        waiting: dict[Future[Any], str] = {}
        try:
            for job in jobs:
                with _interrupts_wait():
                    waiting[pool.submit(job)] = job.key
                if len(waiting) >= 2 * self.workers:
                    yield from self._finished(waiting)
            while waiting:
                yield from self._finished(waiting)
        except BrokenProcessPool as error:
            self._pool = None
            mend = say(
                "it was killed, perhaps for memory: use fewer --workers or a smaller shard_rows, and run again",
                "它可能因内存不足被终止：请减少 --workers 或调小 shard_rows 后重新运行",
            )
            raise EngineError(say("a worker process died", "一个工作进程意外退出"), mend=mend) from error
        finally:
            for future in waiting:
                future.cancel()

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # spawn, not fork: a forked child of a process with threads (asyncio, BLAS, SQLite) can deadlock
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_settle_in)
        return self._pool

    @staticmethod
    def _finished(waiting: dict[Future[Any], str]) -> Iterator[tuple[str, Any]]:
        done, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            yield waiting.pop(future), future.result()

    def close(self) -> None:
        """End the workers; jobs not begun are forgotten."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
