"""Which keys of a recipe's model entry are the Model's own, and what they may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Ge, Gt

from zhiling.errors import RecipeError, say

OURS: dict[str, Any] = {
    "lanes": Annotated[int, Ge(1)],
    "retries": Annotated[int, Ge(0)],
    "rpm": Annotated[float, Gt(0)],
    "tpm": Annotated[float, Gt(0)],
    "budget": dict[str, float],
    "price": dict[str, float],
    "trace_content": bool,
}


def split(entry: Mapping[str, Any], theirs: frozenset[str], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the Model's settings, the provider's). A key that both have, such as `lanes`, goes to both.

    Raises RecipeError naming the key when one of the Model's is of the wrong type; the provider's are checked by the registry.
    """
    from pydantic import TypeAdapter, ValidationError

    ours: dict[str, Any] = {}
    for key in entry.keys() & OURS.keys():
        if entry[key] is None:
            continue
        try:
            ours[key] = TypeAdapter(OURS[key]).validate_python(entry[key])
        except ValidationError as error:
            first = error.errors()[0]["msg"]
            what = say(f"'{key}': {first}, got {entry[key]!r}", f"“{key}”：{first}，实际为 {entry[key]!r}")
            raise RecipeError(what, where=f"{where}.{key}" if where else key) from error
    return ours, {key: value for key, value in entry.items() if key in theirs or key not in OURS}
