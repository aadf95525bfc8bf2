"""Which keys of a recipe's model entry are the Model's own, and what they may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt

from zhiling.errors import RecipeError, say
from zhiling.llm.base import Batching, Provider

OURS: dict[str, Any] = {
    "lanes": Annotated[int, Ge(1)],
    "retries": Annotated[int, Ge(0)],
    "rpm": Annotated[float, Gt(0)],
    "tpm": Annotated[float, Gt(0)],
    "budget": dict[str, float],
    "price": dict[str, float],
    "trace_content": bool,
    "batch": bool | dict[str, float],
}


def split(entry: Mapping[str, Any], theirs: frozenset[str], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the Model's settings, the provider's). `lanes` goes to both where both have it; any other key that the provider has is its own:
    `batch` is how many rows a model in this process decodes at once, and batch jobs for an endpoint that offers them.

    Raises RecipeError naming the key when one of the Model's is of the wrong type; the provider's are checked by the registry.
    """
    from pydantic import TypeAdapter, ValidationError

    ours: dict[str, Any] = {}
    for key in entry.keys() & OURS.keys():
        if entry[key] is None or (key in theirs and key != "lanes"):
            continue
        try:
            ours[key] = TypeAdapter(OURS[key]).validate_python(entry[key])
        except ValidationError as error:
            first = error.errors()[0]["msg"]
            what = say(f"'{key}': {first}, got {entry[key]!r}", f"“{key}”：{first}，实际为 {entry[key]!r}")
            raise RecipeError(what, where=f"{where}.{key}" if where else key) from error
    return ours, {key: value for key, value in entry.items() if key in theirs or key not in OURS}


@dataclass(frozen=True, slots=True)
class Batch:
    """How a model is asked in batches: the provider's side, requests per job at most, seconds between looks at a job."""

    provider: Batching
    rows: int
    poll_seconds: float


def batch(provider: Provider, given: bool | Mapping[str, Any], where: str = "") -> Batch | None:
    """A recipe's `batch: true` or `batch: {rows, poll_seconds}`. Raises RecipeError for wrong settings or a provider without batches."""
    if given is False:
        return None
    settings = {} if given is True else dict(given)
    at = f"{where}.batch" if where else "batch"
    wrong = [k for k, v in settings.items() if k not in ("rows", "poll_seconds") or isinstance(v, bool) or not v > 0]
    if wrong or settings.get("rows", 1) < 1:
        raise RecipeError(
            say(
                "batch is true, or made of rows and poll_seconds, each above 0",
                "batch 为 true，或由正数 rows、poll_seconds 组成",
            ),
            where=f"{at}.{wrong[0]}" if wrong else f"{at}.rows",
        )
    opened = getattr(provider, "batches", None)
    if opened is None:
        raise RecipeError(
            say(f"the provider '{provider.name}' has no batches", f"provider“{provider.name}”没有批处理接口"),
            where=at,
            mend=say("take batch out, or use openai or gemini", "请去掉 batch，或改用 openai、gemini"),
        )
    side: Batching = opened()
    rows = min(int(settings.get("rows", side.rows)), side.rows)
    return Batch(side, rows, float(settings.get("poll_seconds", 60.0)))
