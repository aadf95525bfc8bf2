"""What a run has paid its models, true at every moment: the figures outlive the process that paid, however it ends.

`bills.jsonl` holds one line per model and execution, of a fixed width, and the line is written again in place before a call leaves and
after it ended. The operating system keeps what was written when the process is killed (a power cut may cost the last seconds). A call
that was under way when its process died may have been billed: it is counted as `unsure`, and charged in full to a budget.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zhiling.errors import EngineError, boundary, say
from zhiling.llm.budget import NOTHING, Hold, Spent

NAME = "bills.jsonl"
WIDTH = 640
"""Bytes of a line, its end included: the figures take about 300, the rest is the model's name."""
FIGURES = ("calls", "cached", "prompt_tokens", "completion_tokens", "usd", "failed", "retries", "unsure")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: what one execution spent on one model, and what a budget counts for it (`charged`; its usd None where not known)."""

    model: str
    spent: Spent
    calls: int
    tokens: int
    usd: float | None


class Bill:
    """One model's line in this execution; it comes into being with the first call. Raises EngineError when it cannot be written."""

    def __init__(self, path: Path, model: str) -> None:
        self.path, self.model = path, model
        self._file, self._at = -1, 0
        self._head = '{"model": ' + json.dumps(model[:80])

    def write(self, spent: Spent, under_way: int, charged: Hold | None) -> None:
        """Put the line as it stands now; `charged` None when no budget counts."""
        usd = "null" if spent.usd is None else repr(spent.usd)
        if charged is None:
            charge = f"[{spent.calls}, {spent.prompt_tokens + spent.completion_tokens}, {usd}]"
        else:
            charge = f"[{charged.calls}, {charged.tokens}, {charged.usd!r}]"
        line = (
            f'{self._head}, "calls": {spent.calls}, "cached": {spent.cached}, "prompt_tokens": {spent.prompt_tokens}, '
            f'"completion_tokens": {spent.completion_tokens}, "usd": {usd}, "failed": {spent.failed}, "retries": {spent.retries}, '
            f'"unsure": {spent.unsure}, "under_way": {under_way}, "charged": {charge}}}'
        )
        try:
            if self._file < 0:
                self._open()
            os.pwrite(self._file, line.encode("ascii").ljust(WIDTH - 1) + b"\n", self._at)
        except OSError as error:
            raise boundary(error, str(self.path)) from error

    def close(self) -> None:
        """Let go of the file. Writing again begins another line."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._at = -(-os.fstat(self._file).st_size // WIDTH) * WIDTH


def entries(path: Path) -> Iterator[Entry]:
    """The lines of a bill, oldest first; none where there is no file. Raises EngineError for a damaged one."""
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise boundary(error, str(path)) from error
    for line in lines:
        if not line.strip(b" \0"):
            continue
        try:
            found = json.loads(line)
            spent = Spent(**{name: found[name] for name in FIGURES})
            spent.unsure += int(found["under_way"])
            calls, tokens, usd = found["charged"]
            yield Entry(str(found["model"]), spent, int(calls), int(tokens), None if usd is None else float(usd))
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError(
                say("the bill is damaged", "账单文件已损坏"),
                where=str(path),
                mend=say("move it away: spending is then counted anew", "请将其移走；此后的花费将重新计算"),
            ) from error


def spent(path: Path) -> dict[str, Spent]:
    """What a run has spent over all its executions, by model, in the order they were first asked."""
    total: dict[str, Spent] = {}
    for entry in entries(path):
        before = total.get(entry.model)
        total[entry.model] = entry.spent if before is None else before.plus(entry.spent)
    return total


def charged(path: Path, model: str | None = None) -> Hold:
    """What a budget has to count for the executions so far, of one model or of all; its usd is nan when they are not known."""
    total = NOTHING
    for entry in entries(path):
        if model is None or entry.model == model[:80]:
            usd = math.nan if entry.usd is None else entry.usd
            total = Hold(total.calls + entry.calls, total.tokens + entry.tokens, total.usd + usd)
    return total


def facts(bill: Mapping[str, Spent]) -> dict[str, dict[str, float | int | None]]:
    """A bill as plain values, for run.json."""
    return {name: {key: getattr(item, key) for key in FIGURES} for name, item in bill.items()}


def per_row(prices: Sequence[float | None], kept: int) -> float | None:
    """US dollars per kept row, of the models' bills; None where one is not known, or nothing was kept."""
    known = [usd for usd in prices if usd is not None]
    return sum(known) / kept if kept and len(known) == len(prices) else None
