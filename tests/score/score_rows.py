"""Rows for the scorers' tests: real ones from the shared data, and hostile ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from zhiling.types import Example

HOSTILE = [
    Example("t", ""),
    Example("t", "", "", " \n\t"),
    Example("t", "\x00\x01\x02", "\x00", "\x00" * 50),
    Example("t", "\ud800 翻译 {\udfff}", "\udc80", "[your \ud800]```"),
    Example("t", "Name a colour.", "", "x" * 1_000_000),
    Example("t", "写一句话。", "", "很长" * 500_000),
    Example("t", "\\[" * 2000, "{" * 5000, "[your " * 20_000),
    Example("t", "(" * 3000 + "“" * 3000, "<" * 3000, "`" * 3000 + "```\n" * 999),
    Example("t", "ملاحظة قصيرة", "กรุงเทพ", "ねこ 고양이 кот"),
    Example("t", "🙂🙃", "😀", "👍🏽"),
    Example("t", 'Return JSON for "a".', "", "[" * 100_000),
]


def read(path: Path, most: int | None = None) -> list[dict[str, Any]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in content.split(b"\n")[:most] if line.strip()]


def alpaca(path: Path, most: int | None = None) -> list[Example]:
    return [
        Example("alpaca", row["instruction"] or "", row.get("input") or "", row.get("output") or "")
        for row in read(path, most)
    ]


def row(instruction: str = "", output: str = "", given: str = "") -> Example:
    return Example("t", instruction, given, output)
