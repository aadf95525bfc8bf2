"""metrics.jsonl: one line per step, whole lines only, no step twice however often the run was killed."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zhiling.errors import boundary, say
from zhiling.tune.listen import Listener

Progress = Callable[[Mapping[str, Any]], None]


class Log:
    """The history of a run, in memory and on disk. `progress` and `listeners` are shown each line; their trouble never stops the training.

    Opening a log drops the lines after step `last`: they were written by a run that was killed before its next checkpoint.
    """

    def __init__(self, file: Path, last: int, progress: Progress | None = None) -> None:
        self.file, self.progress, self.warned = file, progress, False
        self.listeners: list[Listener] = []
        self.history = [line for line in read(file) if line["step"] <= last] if last else []
        partial = file.with_name(f".{file.name}.partial")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text("".join(map(_line, self.history)), encoding="utf-8")
            partial.replace(file)
        except OSError as error:
            raise boundary(error, where=str(file)) from error

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a line. Raises EngineError when the disk is full."""
        self.history.append(dict(row))
        try:
            with self.file.open("a", encoding="utf-8") as handle:
                handle.write(_line(row))
        except OSError as error:
            raise boundary(error, where=str(self.file)) from error
        for listener in self.listeners:
            listener.write(dict(row))
        if self.progress is None:
            return
        try:
            self.progress(row)
        except Exception as error:
            if not self.warned:
                warnings.warn(
                    say(f"showing progress failed, training goes on: {error!r}", f"进度显示出错，训练继续：{error!r}"),
                    stacklevel=2,
                )
            self.warned = True

    def sync(self) -> None:
        """Put all lines on the disk, before a checkpoint relies on them."""
        try:
            with self.file.open("rb") as handle:
                os.fsync(handle.fileno())
        except OSError as error:
            raise boundary(error, where=str(self.file)) from error

    def close(self) -> None:
        """Let the listeners finish."""
        for listener in self.listeners:
            listener.close()


class Quiet:
    """The log of a rank that is not the first: it writes nothing."""

    history: Sequence[dict[str, Any]] = ()

    def write(self, row: Mapping[str, Any]) -> None:
        """Nothing: the first rank writes the line."""

    def sync(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def read(file: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file; none where there is no file. A last line cut short by a kill is not one."""
    if not file.exists():
        return []
    out = []
    for line in file.read_bytes().splitlines():
        try:
            out.append(json.loads(line))
        except ValueError:
            break
    return out


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
