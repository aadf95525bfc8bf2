"""What long work looks like while it goes on: one live line on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any

from zhiling.errors import say

if TYPE_CHECKING:
    from zhiling.llm.budget import Spent

NAMES = {
    "read": ("read", "读取"), "construct": ("construct", "构造"), "heldout": ("hold out", "留出"), "score": ("score", "评分"),
    "select": ("select", "筛选"), "tune": ("tune", "调优"), "evaluate": ("evaluate", "评测"), "report": ("report", "报告"),
    "probe": ("probe", "探测"), "calibrate": ("measure this machine", "测量本机"),
}  # fmt: skip


class Meter:
    """Hears a run's events ({"stage", "done", "total", "rows", "calls", "usd", "loss", ...}) and says where the work stands:
    stage, share done, rate, time left, calls and money so far."""

    def __init__(self, out: IO[str] | None = None, every: float = 5.0) -> None:
        self.out = out or sys.stderr
        self.live, self.gone = self.out.isatty(), False
        self.every = 0.2 if self.live else every
        self.began = time.monotonic()
        self.stage, self.part, self.stage_began, self.last, self.width = "", "", self.began, 0.0, 0

    def __call__(self, event: Mapping[str, Any]) -> None:
        now = time.monotonic()
        stage = str(event.get("stage", ""))
        if stage.split("/")[0] != self.stage.split("/")[0]:
            self._end()
        part = str(event.get("task", ""))
        if (stage, part) != (self.stage, self.part):  # what is done counts from here, so the rate does too
            self.stage, self.part, self.stage_began, self.last = stage, part, now, 0.0
        if now - self.last < self.every and event.get("done") != event.get("total"):
            return
        self.last = now
        self._show(self._line(event, now))

    def _line(self, event: Mapping[str, Any], now: float) -> str:
        room, _, rest = self.stage.partition("/")
        name = say(*NAMES.get(room, (room, room)))
        parts = [f"[{_clock(now - self.began)}] {name}", rest, str(event.get("task", ""))]
        done, total = event.get("done"), event.get("total")
        if done is not None and (total or done):
            took = now - self.stage_began
            parts.append(f"{done}/{total}" if total else str(done))
            if done and took > 1:
                parts.append(f"{done / took:.1f}/s")
                if total and done < total:
                    parts.append(say("left ", "剩余 ") + _clock(took / done * (total - done)))
        if event.get("rows") is not None:
            parts.append(say(f"{event['rows']} rows", f"{event['rows']} 行"))
        if event.get("loss") is not None:
            parts.append(say("loss ", "损失 ") + f"{event['loss']:.3f}")
        parts += spending(event)
        if event.get("note"):
            parts.append(str(event["note"]))
        return "  ".join(part for part in parts if part)

    def _show(self, line: str) -> None:
        if self.live:
            self._write("\r" + line + " " * max(0, self.width - len(line)))
            self.width = len(line)
        else:
            self._write(line + "\n")

    def _write(self, text: str) -> None:
        """Work goes on when whoever looked on has gone: a closed terminal, a pipe without a reader."""
        if self.gone:
            return
        try:
            self.out.write(text)
            self.out.flush()
        except OSError:
            self.gone = True

    def _end(self) -> None:
        if self.live and self.width:
            self._write("\n")
            self.width = 0

    def close(self) -> None:
        """Leave the cursor on a line of its own."""
        self._end()


def spending(event: Mapping[str, Any]) -> list[str]:
    """What was asked and paid so far, in words; an unknown cost is said to be unknown, and one of nothing is not mentioned."""
    parts = []
    calls, usd = event.get("calls"), event.get("usd")
    if calls is not None:
        parts.append(say(f"{calls} calls", f"{calls} 次调用"))
    for key, en, zh in (("cached", "cached", "来自缓存"), ("failed", "failed", "失败")):
        if event.get(key):
            parts.append(say(f"{event[key]} {en}", f"{zh} {event[key]}"))
    if event.get("tokens"):
        parts.append(say(f"{event['tokens']:,} tokens", f"{event['tokens']:,} 词元"))
    if usd:
        parts.append(f"${usd:.4f}")
    elif usd is None and calls:
        parts.append(say("cost unknown", "花费未知"))
    return parts


class Asking:
    """Tells `watch` of calls as they end: {"done", "total", "calls", "cached", "failed", "tokens", "usd"}, ten times a second at most.

    `done` counts this stage's outcomes; calls, tokens and dollars are those that `spent` gives: the whole run's so far.
    """

    def __init__(self, spent: Callable[[], Spent], watch: Callable[[Mapping[str, Any]], None]) -> None:
        self._spent, self._watch = spent, watch
        self._stage, self._more = "", dict[str, Any]()
        self._total: int | None = None
        self.done, self._told, self._last = 0, 0, 0.0

    def begin(self, stage: str, total: int | None, more: Mapping[str, Any]) -> None:
        """Calls are for this stage from now on; `total` None: nobody knows how many."""
        self._stage, self._total, self._more = stage, total, dict(more)
        self.done, self._told, self._last = 0, 0, 0.0
        self._watch({"stage": stage, **more})

    def end(self) -> None:
        """The stage asks no more: tell where it came to."""
        if self.done > self._told:
            self._tell()
        self._stage = ""

    def heard(self) -> None:
        """One call was answered, served from the cache, or failed."""
        self.done += 1
        if self._stage and time.monotonic() - self._last >= 0.1:
            self._tell()

    def _tell(self) -> None:
        self._last, self._told = time.monotonic(), self.done
        spent = self._spent()
        tokens = spent.prompt_tokens + spent.completion_tokens
        figures = {
            "calls": spent.calls,
            "cached": spent.cached,
            "failed": spent.failed,
            "tokens": tokens,
            "usd": spent.usd,
        }
        total = None if self._total is None else max(self._total, self.done)
        self._watch({"stage": self._stage, "done": self.done, "total": total, **self._more, **figures})


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
