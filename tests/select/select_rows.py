"""Rows for the selectors' tests: real ones from the shared data, and ways to look at verdicts."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zhiling.types import Example, Score, Verdict


def read(path: Path, most: int | None = None) -> list[dict[str, Any]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in content.split(b"\n")[:most] if line.strip()]


def alpaca(path: Path, most: int | None = None) -> list[Example]:
    return [
        Example("alpaca", row["instruction"] or "", row.get("input") or "", row.get("output") or "")
        for row in read(path, most)
    ]


def scores(scorer: str, values: dict[str, float | None]) -> dict[tuple[str, str], Score]:
    return {(row, scorer): Score(row, scorer, value, "" if value is not None else "?") for row, value in values.items()}


def kept(verdicts: Iterable[Verdict]) -> set[str]:
    return {verdict.example for verdict in verdicts if verdict.kept}
