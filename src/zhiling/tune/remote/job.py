"""A job at a provider, from its files to the tuned model's name, so that no kill makes it send or start anything twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from zhiling.errors import ProviderError, say
from zhiling.llm.tuning import Event, Order, Standing, Tuning
from zhiling.tune.log import Log, read
from zhiling.tune.remote.rows import TRAINING, VALIDATION, File
from zhiling.tune.remote.state import Sent, State

T = TypeVar("T")
Watch = Callable[[Mapping[str, Any]], None]
SETTLE_SECONDS = 30.0
"""What broke off may still be on its way for so long: before then its absence at the provider proves nothing."""
TRIES = 6
"""How often a step is tried that fails in passing."""
PATIENCE = 40
"""How many looks in a row may fail in passing before waiting is given up."""
BACKOFF, LONGEST_BACKOFF, SLOWER = 1.0, 60.0, 4.0
_unsure = frozenset({"network", "timeout", "protocol", "server"})


@dataclass(slots=True)
class Job:
    """The steps of one job: `files` go up, `order` is started, and it is waited for. `out` is its folder, `watch` hears how it goes."""

    tuning: Tuning
    state: State
    out: Path
    watch: Watch
    poll_seconds: float = 15.0
    task: str = ""
    _known: dict[str, None] = field(default_factory=dict)
    _steps: set[int] = field(default_factory=set)
    _log: Log | None = None
    _deaf: bool = False

    async def run(self, files: Mapping[str, File], suffix: str, settings: Mapping[str, Any]) -> Standing:
        """Everything that is not done yet; returns how the job ended. Raises ProviderError when it cannot be got on with."""
        if not self.state.job.id:
            for name, file in files.items():
                await self.upload(name, file)
            await self.start(suffix, settings)
        return await self.wait()

    def order(self, suffix: str = "", settings: Mapping[str, Any] | None = None) -> Order:
        """What the job is made of."""
        ids = {name: sent.id for name, sent in self.state.files.items()}
        return Order(ids.get(TRAINING, ""), ids.get(VALIDATION, ""), self.state.mark, suffix, settings or {})

    async def upload(self, name: str, file: File) -> None:
        """Send a file up, unless it is there."""
        sent = self.state.files.get(name, Sent())
        if sent.name != file.name:
            sent = self.state.files[name] = Sent(file.name)
        if sent.id:
            return
        self._tell(say(f"sending {file.path.name}, {file.rows} rows", f"正在上传 {file.path.name}（{file.rows} 行）"))
        await self._once(
            sent,
            lambda: self.tuning.uploaded(file.name, file.size),
            lambda: self.tuning.upload(file.path, file.name),
        )

    async def start(self, suffix: str, settings: Mapping[str, Any]) -> None:
        """Start the job, unless it is under way."""
        order = self.order(suffix, settings)
        try:
            await self._once(self.state.job, lambda: self.tuning.find(order), lambda: self.tuning.start(order))
        except asyncio.CancelledError:
            if self.state.job.unsure:
                told = f"zhiling tune -o {self.out} --cancel"
                self._tell(
                    say(
                        f"the job was perhaps started: the same command finds out, {told} stops it",
                        f"任务可能已启动：重新运行同一命令可查明，运行 {told} 可停止它",
                    )
                )
            raise
        except ProviderError as error:
            if error.kind == "auth":  # the files went up with the same key
                error.mend = say(
                    "the key is good for files: may this account, project and model be tuned (still)?",
                    "该密钥可以上传文件：请确认该账户、项目与模型（仍）允许微调",
                )
            raise
        self._tell(say(f"job {self.state.job.id} is under way", f"任务 {self.state.job.id} 正在进行"))

    async def wait(self) -> Standing:
        """Look at the job until it has ended, further and further apart; its events are heard and its losses go to metrics.jsonl."""
        pause, failed, state = self.poll_seconds, 0, ""
        try:
            while True:
                try:
                    standing = await self.tuning.look(self.state.job.id)
                    await self._listen(last=standing.ended)
                except ProviderError as error:
                    failed += 1
                    if not error.retryable or failed > PATIENCE:
                        error.mend = "; ".join(part for part in (error.mend, self._goes_on()) if part)
                        raise
                    self._tell(str(error))
                    await asyncio.sleep(_backoff(error, failed))
                    continue
                failed = 0
                if standing.state != state:
                    state = standing.state
                    self._tell(say(f"job {self.state.job.id}: {state}", f"任务 {self.state.job.id}：{state}"))
                if standing.ended:
                    return standing
                await asyncio.sleep(pause)
                pause = min(pause * 1.25, SLOWER * self.poll_seconds)
        except asyncio.CancelledError:
            self._tell(self._goes_on())
            raise

    async def cancel(self) -> Standing | None:
        """Stop the job; returns how it stands then, None where there is none. One that was perhaps started is looked for first."""
        if self.state.job.unsure:
            await asyncio.sleep(SETTLE_SECONDS)
            id_ = await self._tried(lambda: self.tuning.find(self.order()))
            self.state.refused(self.state.job) if id_ is None else self.state.arrived(self.state.job, id_)
        if not self.state.job.id:
            return None
        standing = await self._tried(lambda: self.tuning.look(self.state.job.id))
        if not standing.ended:
            await self._tried(lambda: self.tuning.cancel(self.state.job.id))
        for _ in range(TRIES):
            if standing.ended:
                break
            await asyncio.sleep(min(self.poll_seconds, BACKOFF))
            standing = await self._tried(lambda: self.tuning.look(self.state.job.id))
        return standing

    async def _once(
        self, sent: Sent, find: Callable[[], Awaitable[str | None]], make: Callable[[], Awaitable[str]]
    ) -> None:
        """Make something at the provider once, whatever happens on the way: where nobody knows whether it was made, it is looked for first."""

        async def attempt() -> str:
            if sent.unsure:
                await asyncio.sleep(SETTLE_SECONDS)
                if (id_ := await find()) is not None:
                    return id_
            self.state.begin(sent)
            try:
                return await make()
            except ProviderError as error:
                if error.kind not in _unsure:
                    self.state.refused(sent)
                raise

        self.state.arrived(sent, await self._tried(attempt))

    async def _tried(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer, where asking again may help."""
        tries = 0
        while True:
            try:
                return await ask()
            except ProviderError as error:
                tries += 1
                if not error.retryable or tries >= TRIES:
                    raise
                self._tell(str(error))
                await asyncio.sleep(_backoff(error, tries))

    async def _listen(self, last: bool) -> None:
        """Hear what the job said. An endpoint that tells nothing is not asked again, and an ended job does not fail for want of a word."""
        if self._deaf:
            return
        try:
            events = await self.tuning.events(self.state.job.id, frozenset(self._known))
        except ProviderError as error:
            if error.retryable and not last:
                raise
            self._deaf = True
            self._tell(str(error))
        else:
            self._hear(events)

    def _hear(self, events: Sequence[Event]) -> None:
        if self._log is None:  # what an earlier process wrote is not written twice
            path = self.out / "metrics.jsonl"
            self._steps = {int(line["step"]) for line in read(path)}
            self._log = Log(path, max(self._steps, default=0))
        for event in events:
            self._known[event.id] = None
            step = event.metrics.get("step")
            line: dict[str, Any] = {key: value for key, value in event.metrics.items() if key != "step"}
            if step is not None and line and int(step) not in self._steps:
                self._steps.add(int(step))
                if "loss" in line:
                    line["tasks"] = {self.task or say("all tasks", "全部任务"): line["loss"]}
                self._log.write({"step": int(step), **line})
            self._tell(event.text, **({"loss": line["loss"]} if "loss" in line else {}))

    def _tell(self, note: str, **more: Any) -> None:
        self.watch({"stage": "tune", "note": note, **more})

    def _goes_on(self) -> str:
        return say(
            f"job {self.state.job.id} goes on at the provider, and is paid for: the same command goes on waiting, "
            f"zhiling tune -o {self.out} --cancel stops it",
            f"任务 {self.state.job.id} 仍在提供方继续进行并计费：重新运行同一命令可继续等待，运行 zhiling tune -o {self.out} --cancel 可停止它",
        )


def _backoff(error: ProviderError, tries: int) -> float:
    """Seconds until the next try: what the provider asks, else exponential with jitter."""
    if error.retry_after is not None:
        return error.retry_after * random.uniform(1.0, 1.1)
    return random.uniform(0.5, 1.0) * min(LONGEST_BACKOFF, BACKOFF * 2.0 ** (tries - 1))
