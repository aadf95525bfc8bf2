"""`zhiling run --plan`: rows, calls, tokens, minutes and money of each step, counted on the real data, without spending any.

Rows are exact up to what selection will drop. Calls are exact or an upper bound. Tokens are estimates from the texts' lengths.
Minutes are only given for the embedded model, from speeds measured on two quiet cores; what is not known is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from zhiling import registry
from zhiling.data import Source, expand, read
from zhiling.recipe import Recipe, Step
from zhiling.text import length
from zhiling.types import Record

DECODE, PREFILL, TRAIN = 60.0, 400.0, 180.0
"""Tokens per second of the embedded 135M model on two quiet cores: decoded one by one, read at once, and trained with LoRA."""
CALL = (160, 40)
"""Prompt and completion tokens of a typical construction call."""


def estimate(recipe: Recipe) -> list[dict[str, Any]]:
    """One row per step: {"step", "rows", "calls", "tokens", "minutes", "usd"}; None = not known. Reads the data files."""
    records, size = _records(recipe)
    out, made, held = [], 0, 0
    for name, count in records.items():
        spec = recipe.tasks[name]
        away = int(spec.heldout) if spec.heldout >= 1 else round(spec.heldout * count)
        held += away
        out.append(_row(f"read {name}", rows=count))
    for step in recipe.construct:
        names = step.tasks or tuple(recipe.tasks)
        rows = sum((records[n] - _away(recipe, n, records[n])) * step.per_record for n in names)
        made += rows
        calls = sum(_calls(step, recipe, name) for name in names)
        out.append(_asked(f"construct {step.kind}", recipe, step, rows, calls))
    for step in recipe.score:
        out.append(_row(f"score {step.kind}", rows=made, calls=0))
    limit = _quota(recipe)
    kept = min(made, limit) if limit else made
    out.append(_row("select", rows=kept))
    if recipe.tune is not None:
        epochs = float(recipe.tune.settings.get("epochs", 2))
        tokens = int(kept * (size + 30) * epochs)
        out.append(_row("tune", rows=kept, tokens=tokens, minutes=_minutes(recipe.tune.model, tokens, TRAIN), usd=0.0))
    if recipe.evaluate is not None and recipe.tune is not None:
        rows = min(held, (recipe.evaluate.rows or held) * len(recipe.tasks))
        tokens = int(2 * rows * (size + 30 + 12))
        out.append(
            _row(
                "evaluate",
                rows=rows,
                calls=2 * rows,
                tokens=tokens,
                minutes=_minutes(recipe.tune.model, tokens, PREFILL),
                usd=0.0,
            )
        )
    out.append(_total(out))
    return out


def _records(recipe: Recipe) -> tuple[dict[str, int], float]:
    """Usable records by task, and the mean length of a record's text in tokens (from the first 200 of each file)."""
    counts, sizes = dict[str, int](), list[int]()
    for name, spec in recipe.tasks.items():
        counts[name], task = 0, spec.task(name)
        for item in spec.sources():
            where = {key: str(value) for key, value in item.where.items()} if item.where else None
            source = Source(expand(item.path, recipe.here), item.format, item.columns, where, item.limit, item.table)
            usable = (row for row in read(source, task) if isinstance(row, Record))
            for row in islice(usable, 200):
                counts[name] += 1
                sizes.append(sum(length(row.fields.get(key, "")) for key in (*task.inputs, task.target)))
            counts[name] += sum(1 for _ in usable)
    return counts, (sum(sizes) / len(sizes) * 1.4 if sizes else 0.0)


def _away(recipe: Recipe, name: str, count: int) -> int:
    share = recipe.tasks[name].heldout
    return int(share) if share >= 1 else round(share * count)


def _calls(step: Step, recipe: Recipe, name: str) -> int:
    count = registry.get("constructor", step.kind).facts.get("calls")
    return int(count(step.settings, recipe.tasks[name].task(name))) if count else 0


def _asked(label: str, recipe: Recipe, step: Step, rows: int, calls: int) -> dict[str, Any]:
    if not calls:
        return _row(label, rows=rows, calls=0)
    from zhiling.llm import open_model

    spec = recipe.models[step.model]
    model = open_model(spec, cache=None, where=f"models.{step.model}")
    tokens = calls * sum(CALL)
    local = spec["provider"] in ("gguf", "transformers")
    minutes = calls * (CALL[0] / PREFILL + CALL[1] / DECODE) / 60 if local else None
    return _row(label, rows=rows, calls=calls, tokens=tokens, minutes=minutes, usd=_money(model, calls))


def _money(model: Any, calls: int) -> float | None:
    from zhiling.types import Usage

    if model.price is None:
        return None
    each = model.price.usd(Usage(*CALL))
    return None if each is None else each * calls


def _quota(recipe: Recipe) -> int | None:
    for step in recipe.select:
        rows: Any = step.settings.get("rows")
        if step.kind == "quota" and isinstance(rows, int):
            return rows * len(recipe.tasks)
        if step.kind == "top" and isinstance(rows, int):
            return rows
    return None


def _minutes(model: str, tokens: int, speed: float) -> float | None:
    return tokens / speed / 60 if model == "embedded" else None


def _row(step: str, **known: Any) -> dict[str, Any]:
    return {"step": step, "rows": None, "calls": None, "tokens": None, "minutes": None, "usd": None, **known}


def _total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    def add(key: str) -> Any:
        given = [row[key] for row in rows if row[key] is not None]
        return sum(given) if given else None

    unknown = any(row["calls"] and row["usd"] is None for row in rows)
    last: Mapping[str, Any] = {
        "calls": add("calls"),
        "tokens": add("tokens"),
        "minutes": add("minutes"),
        "usd": None if unknown else add("usd"),
    }
    return _row("total", **last)
