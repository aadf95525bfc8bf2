"""The kept rows in the formats that other tuners read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zhiling.errors import DataError, boundary, say
from zhiling.store import current, read
from zhiling.types import Example


def alpaca(row: Example) -> dict[str, Any]:
    """{"instruction", "input", "output"}, with "system" and "history" pairs where there are any (as LLaMA-Factory reads them)."""
    out: dict[str, Any] = {"instruction": row.instruction, "input": row.input, "output": row.output}
    if row.system:
        out["system"] = row.system
    if row.history:
        turns = [content for _, content in row.history]
        out["history"] = [list(pair) for pair in zip(turns[::2], turns[1::2], strict=False)]
    return out


def messages(row: Example) -> dict[str, Any]:
    """{"messages": [{"role", "content"}]}, as the OpenAI tuning API and TRL read it."""
    return {"messages": row.messages()}


def sharegpt(row: Example) -> dict[str, Any]:
    """{"conversations": [{"from", "value"}]}."""
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return {"conversations": [{"from": names[m["role"]], "value": m["content"]} for m in row.messages()]}


FORMATS: dict[str, Callable[[Example], dict[str, Any]]] = {"alpaca": alpaca, "messages": messages, "sharegpt": sharegpt}


def export(folder: Path, out: Path, form: str = "messages") -> int:
    """Write the rows that a run kept as JSON lines; returns how many. Raises DataError for an unknown format or a run without any."""
    if form not in FORMATS:
        raise DataError(
            say(f"unknown format '{form}'", f"未知的格式“{form}”"), where="--format", mend=", ".join(FORMATS)
        )
    files = [output for done in current(folder) for output in done.of("kept")]
    if not files:
        mend = say("run it at least until select", "请至少运行到 select 阶段")
        raise DataError(say("this run has kept no rows yet", "该运行尚无保留的数据"), where=str(folder), mend=mend)
    count, temporary = 0, out.with_name(f".{out.name}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            for row in read(folder, files):
                count += 1
                file.write(json.dumps(FORMATS[form](row), ensure_ascii=False) + "\n")
        os.replace(temporary, out)
    except OSError as error:
        raise boundary(error, str(out)) from error
    return count
