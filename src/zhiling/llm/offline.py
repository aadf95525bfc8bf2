"""Batch mode: requests gathered into jobs that the provider works off within a day, at a share of the price.

    models: {cheap: {provider: openai, model: gpt-4o-mini, batch: true}}

Requests are gathered until no more arrive, submitted as few jobs, and waited for. The process may be killed or stopped at any moment:
the same command finds the jobs under way (`jobs.Jobs`) and goes on. Replies go into the reply cache like all others, under the same
keys, so that what a batch answered serves ordinary calls and the other way round.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zhiling.errors import EngineError, ProviderError, ZhilingError, boundary, say
from zhiling.llm import offline_faults
from zhiling.llm.base import Look
from zhiling.llm.budget import NOTHING, Hold
from zhiling.llm.jobs import Job, Jobs
from zhiling.llm.settings import Batch
from zhiling.types import Reply, Request, content_id

if TYPE_CHECKING:
    from zhiling.llm.wrap import Model, Outcome

GATHER_SECONDS = 1.0
"""A job is submitted when nothing was added for so long."""
SETTLE_SECONDS = 10.0
"""A submission that broke off may still be on its way for so long: before then its absence at the provider proves nothing."""
TRIES = 3
"""In how many jobs a row is asked before it fails."""
_unsure = frozenset({"network", "timeout", "protocol", "server"})


@dataclass(slots=True)
class _Row:
    """A request that waits for its reply, and everybody who wants it; in a job of this process (`ours`) or of an earlier one (`adopted`)."""

    sent: Request
    wanted: list[tuple[Request, Callable[[Outcome], None]]]
    hold: Hold
    ours: bool = False
    adopted: bool = False
    tries: int = 0


@dataclass(slots=True)
class _Open:
    """A job under way in this process's eyes: when to look next, and the trouble there was."""

    job: Job
    due: float
    said: str = ""
    errors: dict[str, ProviderError] = field(default_factory=dict)


class Offline:
    """What stands between a Model in batch mode and its provider."""

    def __init__(self, model: Model, batch: Batch, notice: Callable[[str], None] | None) -> None:
        self.model, self.batch = model, batch
        self.notice = notice or logging.getLogger("zhiling.llm").warning
        self.window, self.where = 2 * batch.rows, model.provider.name
        self._jobs: Jobs | None = None
        self.reset()

    def reset(self) -> None:
        """For a new event loop: what the ended one waited for is forgotten here, though not in the file."""
        self._rows: dict[str, _Row] = {}
        self._lines: dict[str, bytes] = {}
        self._open: dict[int, _Open] = {}
        self._added = 0.0
        self._changed = asyncio.Event()
        self._recovery: asyncio.Task[Jobs] | None = None
        self._driver: asyncio.Task[None] | None = None
        self._reserving: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Let go of the list of jobs."""
        if self._jobs is not None:
            self._jobs.close()
            self._jobs = None

    async def obtain(self, request: Request, sent: Request, key: str, then: Callable[[Outcome], None]) -> None:
        """Have the request asked in a job; `then` is called with its outcome, long after this returns.

        Raises ProviderError when the model has stopped, or the budget is used up and nothing under way could free some of it.
        """
        model = self.model
        if self._served(request, key, then):
            return
        if model.stopped is not None:
            raise model.stopped.with_traceback(None)
        line = self.batch.provider.line(key, sent)
        self._recovery = self._recovery or asyncio.ensure_future(self._recover())
        jobs = await asyncio.shield(self._recovery)
        if self._served(request, key, then):  # by a job that ended in the meantime
            return
        row = self._rows[key] = _Row(sent, [(request, then)], NOTHING)
        at = jobs.holder(key)
        self._start()
        if at is not None:
            if at in self._open and self._open[at].job.payer == self._payer():
                row.hold, row.adopted = model._budget.adopt(sent), True
            return
        try:
            row.hold = await model._budget.reserve(sent)
        except ProviderError as error:
            model.stopped = model.stopped or error
            del self._rows[key]
            for _, other in row.wanted[1:]:
                other(model.stopped)
            raise
        if self._rows.get(key) is row:
            self._collect(key, line)
        else:  # everything was stopped meanwhile, and this row's askers told
            model._budget.settle(row.hold, None, billed=False)

    def _served(self, request: Request, key: str, then: Callable[[Outcome], None]) -> bool:
        """Whether the reply is there already, or somebody waits for it with whom this request can wait."""
        model = self.model
        if (row := self._rows.get(key)) is not None:
            row.wanted.append((request, then))
            return True
        reply = model.cache.get(key) if model.cache is not None else None
        if reply is None:
            return False
        model.spent.cached += 1
        then(model._held(request, reply))
        model._tell()
        return True

    def _collect(self, key: str, line: bytes) -> None:
        self._lines[key] = line
        self._added = time.monotonic()
        if len(self._lines) in (1, self.batch.rows):
            self._changed.set()

    def _payer(self) -> str:
        bill = self.model._bill
        return str(bill.path.absolute()) if bill is not None else ""

    async def _recover(self) -> Jobs:
        """Find out what earlier processes left: jobs to wait for, and submissions of which nobody knows whether they arrived."""
        cache = self.model.cache
        if cache is None:
            raise EngineError(say("batches need a reply cache", "批处理需要回复缓存"))
        if self._jobs is None:
            name = f"{Path(cache.path).stem}.batches-{content_id(self.model.provider.model)[:8]}.sqlite"
            self._jobs = Jobs(cache.path.with_name(name))
        jobs = self._jobs.open()
        if any(job.remote is None for job in jobs):
            await asyncio.sleep(SETTLE_SECONDS)
        for job in jobs:
            if job.remote is None:
                remote = await self._find(job.name)
                if remote is None:
                    self._jobs.end(job)
                    continue
                self._jobs.submitted(job, remote)
            self._open[job.id] = _Open(job, time.monotonic())
            self.notice(
                say(
                    f"batch {job.remote} of {job.rows} requests is under way",
                    f"批处理 {job.remote}（{job.rows} 个请求）正在进行",
                )
            )
        return self._jobs

    async def _find(self, name: str) -> str | None:
        """The id of a job that may have been submitted under this name. When that cannot be told, nothing may be submitted."""
        tries = 0
        while True:
            try:
                return await self.batch.provider.find(name)
            except ProviderError as error:
                tries += 1
                if not error.retryable or tries > self.model.retries:
                    self.model.stopped = self.model.stopped or error
                    raise
                await asyncio.sleep(self.model._backoff(error, tries))

    # -- the driver ------------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._driver is None or self._driver.done():
            self._driver = asyncio.ensure_future(self._drive())

    async def _drive(self) -> None:
        """Submit what is gathered and look at what is under way, until nobody waits for anything."""
        try:
            while self._rows:
                now = time.monotonic()
                if self._lines and (len(self._lines) >= self.batch.rows or now >= self._added + GATHER_SECONDS):
                    await self._submit()
                for opened in [item for item in self._open.values() if item.due <= time.monotonic()]:
                    await self._visit(opened)
                await self._pause()
        except asyncio.CancelledError:  # the jobs go on without us: charged in full, until somebody takes them over
            for row in self._rows.values():
                self.model._budget.settle(row.hold, None, billed=row.ours or row.adopted)
                self.model._asking -= row.ours
                self.model.spent.unsure += row.ours
            raise
        except ZhilingError as error:
            self._stop(error)
        except Exception as error:
            failure = boundary(error)
            failure.__cause__ = error
            self._stop(failure)

    async def _pause(self) -> None:
        moments = [item.due for item in self._open.values()]
        if self._lines:
            moments.append(self._added + GATHER_SECONDS)
        # Rows that still wait for the budget have no moment of their own: look again soon.
        wait = min(moments, default=time.monotonic() + GATHER_SECONDS) - time.monotonic()
        self._changed.clear()
        if self._rows and wait > 0 and len(self._lines) < self.batch.rows:
            try:
                await asyncio.wait_for(self._changed.wait(), wait)
            except TimeoutError:
                return

    def _stop(self, error: ZhilingError) -> None:
        """No job can be got on with: whoever waits is told. What is under way stays so, for the next run to find."""
        if isinstance(error, ProviderError):
            self.model.stopped = self.model.stopped or error
            error = self.model.stopped
        rows, self._rows, self._lines = self._rows, {}, {}
        for key, row in rows.items():
            if self._jobs is not None and self._jobs.holder(key) is not None:
                self.model._budget.settle(row.hold, None, billed=True)
            else:
                self._settle(row, None)
            self.model.spent.failed += 1
            for _, then in row.wanted:
                then(error)
        self.model._write_bill()
        self.model._tell()

    # -- submitting ------------------------------------------------------------------------------------------------------------

    async def _submit(self) -> None:
        """Make a job of what is gathered, as much as the provider takes at once."""
        assert self._jobs is not None
        lines: dict[str, bytes] = {}
        size = 0
        for key, line in self._lines.items():
            size += len(line) + 1
            if lines and (size > self.batch.provider.size or len(lines) >= self.batch.rows):
                break
            lines[key] = line
        for key in lines:
            del self._lines[key]
            self._rows[key].ours = True
        job = self._jobs.plan(f"zhiling-{secrets.token_hex(8)}", self._payer(), list(lines))
        self.model._asking += len(lines)
        self.model._write_bill()
        remote = await self._send(job, list(lines.values()))
        self._jobs.submitted(job, remote)
        self._open[job.id] = _Open(job, time.monotonic() + self.batch.poll_seconds)
        self.notice(
            say(
                f"submitted {job.rows} requests as batch {remote}; waiting, or stop now and run the same command again later",
                f"已将 {job.rows} 个请求提交为批处理 {remote}；正在等待，也可现在停止，稍后运行同一命令",
            )
        )

    async def _send(self, job: Job, lines: list[bytes]) -> str:
        """Submit once, whatever happens on the way: where it is not clear whether a submission arrived, the provider is asked first."""
        assert self._jobs is not None
        tries = 0
        sent = False
        while True:
            try:
                remote = await self.batch.provider.find(job.name) if sent else None
                if remote is None:
                    remote = await self.batch.provider.submit(job.name, lines)
                return remote
            except ProviderError as error:
                sent = sent or error.kind in _unsure
                tries += 1
                if not error.retryable or tries > self.model.retries:
                    if not sent:
                        self._jobs.end(job)
                    raise
                self.model.spent.retries += 1
                settle = SETTLE_SECONDS if error.kind in _unsure else 0.0  # it may still be on its way
                await asyncio.sleep(max(settle, self.model._backoff(error, tries)))

    # -- results ---------------------------------------------------------------------------------------------------------------

    async def _visit(self, opened: _Open) -> None:
        """Look at a job, and take its results when it has ended. Passing trouble means looking again later."""
        job, side = opened.job, self.batch.provider
        assert job.remote is not None
        opened.due = time.monotonic() + self.batch.poll_seconds
        fatal: ProviderError | None = None
        try:
            look = await side.look(job.remote)
            if look.ended:
                fatal = await self._merge(opened, look)
            said = f"{look.done}/{look.total}" if look.total else look.state
            note = say(f"batch {job.remote}: {said}", f"批处理 {job.remote}：{said}")
        except ProviderError as error:
            if not error.retryable:
                forget = f"{error.mend}; " if error.mend else ""
                assert self._jobs is not None
                error.mend = forget + say(
                    f"if the batch is gone for good, delete {self._jobs.path}",
                    f"若该批处理已不存在，请删除 {self._jobs.path}",
                )
                raise
            note = str(error)
        if fatal is not None:
            raise fatal
        if job.id in self._open and note != opened.said:
            opened.said = note
            self.notice(note)

    async def _merge(self, opened: _Open, look: Look) -> ProviderError | None:
        """Put a job's replies into the cache, end the job, and only then hand them out: who has them may end the process.

        Returns the error that ends the run, where there is one.
        """
        assert self._jobs is not None and opened.job.remote is not None
        job = opened.job
        missing = dict.fromkeys(self._jobs.keys(job))
        kept: list[asyncio.Future[tuple[str, Reply]]] = []
        async for key, outcome in self.batch.provider.results(opened.job.remote):
            if isinstance(outcome, ProviderError):
                opened.errors.setdefault(key, outcome)
            elif key in missing:  # a second reply to the same question is not wanted
                del missing[key]
                kept.append(self._keep(key, outcome))
        assert self.model.cache is not None
        self.model.cache.hurry()
        replies = await asyncio.gather(*kept)
        self._jobs.end(job)
        del self._open[job.id]
        self.notice(
            say(
                f"batch {job.remote} {look.state}: {job.rows - len(missing)} of {job.rows} answered",
                f"批处理 {job.remote} {look.state}：{job.rows} 个请求中有 {job.rows - len(missing)} 个得到回答",
            )
        )
        for key, reply in replies:
            row = self._rows.pop(key, None)
            for request, then in row.wanted if row is not None else ():
                then(self.model._held(request, reply))
            self.model._tell()
        fatal = offline_faults.fatal(
            self.where, job, look, [opened.errors[key] for key in missing if key in opened.errors], bool(missing)
        )
        for key in missing:
            if fatal is not None:
                self._unsent(key)
            else:
                self._again(key, opened.errors.get(key) or offline_faults.absent(self.where, job))
        self.model._write_bill()
        return fatal

    def _keep(self, key: str, reply: Reply) -> asyncio.Future[tuple[str, Reply]]:
        """Begin to keep a reply; the future is done when it is on disk."""
        done: asyncio.Future[tuple[str, Reply]] = asyncio.get_running_loop().create_future()
        model, row = self.model, self._rows.get(key)
        assert model.cache is not None
        known = model.cache.get(key)  # from before a kill, or a download that broke off
        reply = known or model._completed(reply, key)
        if known is None:
            model.spent.answered(reply)
        elif row is not None:
            model.spent.cached += 1
        if row is not None:
            model._note(key, row.sent, reply, None, 0.0, row.tries)
            self._settle(row, reply)
        model.cache.put_soon(key, model.provider.model, reply, partial(_told, done, (key, reply)))
        return done

    def _unsent(self, key: str) -> None:
        """A row is in no job any more, and was not billed."""
        if (row := self._rows.get(key)) is not None:
            self._settle(row, None)

    def _settle(self, row: _Row, reply: Reply | None) -> None:
        """The row's call is over, with a reply or unbilled without one."""
        self.model._budget.settle(row.hold, reply, billed=reply is not None)
        self.model._asking -= row.ours
        row.hold, row.ours, row.adopted = NOTHING, False, False

    def _again(self, key: str, error: ProviderError) -> None:
        """A row without a reply goes into the next job, or has failed."""
        row = self._rows.get(key)
        if row is None:
            return
        row.tries += 1
        self.model._note(key, row.sent, None, error, 0.0, row.tries)
        if error.retryable and row.tries < TRIES:
            self.model.spent.retries += 1
            self._settle(row, None)
            task = asyncio.ensure_future(self._reserve_again(key, row))
            self._reserving.add(task)
            task.add_done_callback(self._reserving.discard)
            return
        self._settle(row, None)
        del self._rows[key]
        self.model.spent.failed += 1
        for _, then in row.wanted:
            then(error)
        self.model._tell()

    async def _reserve_again(self, key: str, row: _Row) -> None:
        try:
            row.hold = await self.model._budget.reserve(row.sent)
        except ProviderError as error:
            self._stop(error)
            return
        if self._rows.get(key) is row:
            self._collect(key, self.batch.provider.line(key, row.sent))
        else:
            self.model._budget.settle(row.hold, None, billed=False)


def _told(done: asyncio.Future[tuple[str, Reply]], kept: tuple[str, Reply], error: ZhilingError | None) -> None:
    if not done.done():
        done.set_result(kept) if error is None else done.set_exception(error)
