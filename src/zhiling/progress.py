"""What long work looks like while it goes on: one live line on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import IO, Any

from zhiling.errors import say

NAMES = {
    "read": ("read", "读取"), "construct": ("construct", "构造"), "heldout": ("hold out", "留出"), "score": ("score", "评分"),
    "select": ("select", "筛选"), "tune": ("tune", "调优"), "evaluate": ("evaluate", "评测"), "report": ("report", "报告"),
}  # fmt: skip


class Meter:
    """Hears a run's events ({"stage", "done", "total", "rows", "calls", "usd", "loss", ...}) and says where the work stands:
    stage, share done, rate, time left, calls and money so far."""

    def __init__(self, out: IO[str] | None = None, every: float = 5.0) -> None:
        self.out = out or sys.stderr
        self.every = 0.2 if self.out.isatty() else every
        self.began = time.monotonic()
        self.stage, self.stage_began, self.last, self.width = "", self.began, 0.0, 0

    def __call__(self, event: Mapping[str, Any]) -> None:
        now = time.monotonic()
        stage = str(event.get("stage", ""))
        if stage.split("/")[0] != self.stage.split("/")[0]:
            self._end()
        if stage != self.stage:
            self.stage, self.stage_began, self.last = stage, now, 0.0
        if now - self.last < self.every and event.get("done") != event.get("total"):
            return
        self.last = now
        self._show(self._line(event, now))

    def _line(self, event: Mapping[str, Any], now: float) -> str:
        room, _, rest = self.stage.partition("/")
        name = say(*NAMES.get(room, (room, room)))
        parts = [f"[{_clock(now - self.began)}] {name}", rest, str(event.get("task", ""))]
        done, total = event.get("done"), event.get("total")
        if done is not None and total:
            took = now - self.stage_began
            parts.append(f"{done}/{total}")
            if done and took > 1:
                parts.append(f"{done / took:.1f}/s")
                if done < total:
                    parts.append(say("left ", "剩余 ") + _clock(took / done * (total - done)))
        if event.get("rows") is not None:
            parts.append(say(f"{event['rows']} rows", f"{event['rows']} 行"))
        if event.get("loss") is not None:
            parts.append(say("loss ", "损失 ") + f"{event['loss']:.3f}")
        if event.get("calls") is not None:
            parts.append(say(f"{event['calls']} calls", f"{event['calls']} 次调用"))
        if event.get("usd"):
            parts.append(f"${event['usd']:.4f}")
        if event.get("note"):
            parts.append(str(event["note"]))
        return "  ".join(part for part in parts if part)

    def _show(self, line: str) -> None:
        if self.out.isatty():
            self.out.write("\r" + line + " " * max(0, self.width - len(line)))
            self.width = len(line)
        else:
            self.out.write(line + "\n")
        self.out.flush()

    def _end(self) -> None:
        if self.out.isatty() and self.width:
            self.out.write("\n")
            self.width = 0

    def close(self) -> None:
        """Leave the cursor on a line of its own."""
        self._end()
        self.out.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
