"""Loggers beside metrics.jsonl, each in a thread of its own: one that raises, hangs or fills its disk is reported once and dropped.

metrics.jsonl stays the truth. Each logger has a folder to itself, which is emptied when a run begins or goes on, and is then told the
whole history from the first step: no step is missing and none is there twice, whatever a kill left half-written.
"""

from __future__ import annotations

import math
import queue
import shutil
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from zhiling.errors import say
from zhiling.registry import Plugin

Chosen: TypeAlias = tuple[Plugin, Mapping[str, Any]]
"""A logger and its settings."""

BEHIND = 1000
"""Lines that a logger may be behind before it is dropped: it hangs, and the training does not wait for it."""
GRACE = 10.0
"""Seconds that a logger has to finish when the run ends."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a logger knows of a run before its first line.

    `id` stays the same when the run goes on after a kill, and is new when it starts afresh. `folder` is the logger's own, and empty.
    `settings` are the tuning's, as plain values, with its "base".
    """

    id: str
    name: str
    folder: Path
    settings: Mapping[str, Any]


class Listener:
    """One logger at work."""

    def __init__(self, chosen: Chosen, told: Told, history: Sequence[Mapping[str, Any]]) -> None:
        self.plugin, self.settings = chosen
        self.told = told
        self.lines: queue.Queue[Mapping[str, Any] | None] = queue.Queue(BEHIND)
        self.fault: BaseException | None = None
        self.dropped = False
        self.thread = threading.Thread(target=self._work, args=(list(history),), name=self.plugin.name, daemon=True)
        self.thread.start()

    def write(self, line: Mapping[str, Any]) -> None:
        """Hand a line over, without waiting."""
        if self._failed():
            return
        try:
            self.lines.put_nowait(line)
        except queue.Full:
            self._drop(say(f"it is {BEHIND} steps behind", f"已落后 {BEHIND} 步"))

    def close(self, grace: float = GRACE) -> None:
        """Let it finish, for `grace` seconds at most."""
        if self._failed():
            return
        until = time.monotonic() + grace
        with suppress(queue.Full):  # it hangs: said below, as of one that takes too long to end
            self.lines.put(None, timeout=grace)
        self.thread.join(max(0.0, until - time.monotonic()))
        if not self._failed() and self.thread.is_alive():
            self._drop(say(f"it did not finish in {grace:g} seconds", f"{grace:g} 秒内未能结束"))

    def _failed(self) -> bool:
        """Whether it is out; a fault not yet reported is reported."""
        if self.fault is not None and not self.dropped:
            self._drop(f"{type(self.fault).__name__}: {self.fault}")
        return self.dropped

    def _drop(self, why: str) -> None:
        self.dropped = True
        name = self.plugin.name
        warnings.warn(
            say(
                f"the logger '{name}' is dropped, training goes on, metrics.jsonl has every step: {why}",
                f"已停用日志“{name}”，训练继续，metrics.jsonl 保留每一步：{why}",
            ),
            stacklevel=4,
        )

    def _work(self, history: list[Mapping[str, Any]]) -> None:
        """The thread. Whatever escapes is kept for the training's thread to report."""
        try:
            shutil.rmtree(self.told.folder, ignore_errors=True)
            self.told.folder.mkdir(parents=True)
            with self.plugin.fn(self.told, **self.settings) as log:
                for line, at in zip(history, times(history, time.time()), strict=True):
                    log(line["step"], numbers(line), at)
                history.clear()
                while (more := self.lines.get()) is not None:
                    log(more["step"], numbers(more), time.time())
        except (Exception, SystemExit) as error:
            self.fault = error


def numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """A line of the metrics as numbers by name: "train/loss", "train/loss/TASK", "validation/loss", "train/lr", and so on."""
    found: dict[str, float] = {}
    for place, total, tasks in (("train", "loss", "tasks"), ("validation", "validation_loss", "validation")):
        if total in line:
            found[f"{place}/loss"] = float(line[total])
            found |= {f"{place}/loss/{task}": float(value) for task, value in line[tasks].items()}
    names = {"rate": "tokens_per_second"}
    for key in ("epoch", "lr", "norm", "rows", "tokens", "rate"):
        if key in line:
            found[f"train/{names.get(key, key)}"] = float(line[key])
    return found


def times(history: Sequence[Mapping[str, Any]], now: float) -> Iterator[float]:
    """When each line would have been measured (unix seconds), had the run not been interrupted and its last line been written `now`."""
    took = [line["tokens"] / line["rate"] if line.get("rate") else 0.0 for line in history]
    left = math.fsum(took)
    for seconds in took:
        left -= seconds
        yield now - max(0.0, left)
