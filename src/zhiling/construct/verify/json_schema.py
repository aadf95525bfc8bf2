"""Whether an answer is the JSON that a schema describes, with values that the text really holds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from zhiling.errors import RecipeError, say
from zhiling.llm.schema import fault
from zhiling.registry import verifier
from zhiling.text import cut, normalise
from zhiling.types import Example, Score

_fence = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL)
_digits = re.compile(r"\d+(?:\.\d+)?")


@verifier(
    "json_schema", families=("extraction",), langs=("zh", "en"), paper="JSON Schema 2020-12, the parts of llm/schema.py"
)
def json_schema(
    examples: Sequence[Example],
    *,
    here: Path,
    schema: dict[str, Any] | str = "",
    grounded: bool = True,
    free: list[str] | None = None,
) -> Iterator[Score]:
    """The answer is JSON, valid under `schema` (a mapping, or a file of one), and its texts and numbers stand in the row's input.

    `grounded: false` leaves the values alone; `free` names fields whose values are made (a category, a summary), and values of an enum are
    free as well. Compared are normalised texts; of a number or date its digits. Raises RecipeError for a schema that cannot be read.
    """
    rule: Mapping[str, Any] = (
        _read(str(here / schema)) if isinstance(schema, str) and schema else schema if isinstance(schema, dict) else {}
    )
    chosen = _chosen(rule)
    for row in examples:
        value, why = _judged(row, rule, {*(free or ()), *chosen} if grounded else None)
        yield Score(row.id, "json_schema", value, why)


@lru_cache(maxsize=8)
def _read(path: str) -> Mapping[str, Any]:
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(
            say(f"the schema cannot be read: {error}", f"无法读取 JSON 模式：{error}"), where=path
        ) from error
    if not isinstance(found, dict):
        raise RecipeError(say("a JSON schema is an object", "JSON 模式应为对象"), where=path)
    return found


def _judged(row: Example, rule: Mapping[str, Any], free: set[str] | None) -> tuple[float | None, str]:
    fenced = _fence.search(row.output)
    try:
        value = json.loads(fenced[1] if fenced else row.output)
    except (ValueError, RecursionError) as error:
        return 0.0, say(f"no JSON: {error}", f"不是 JSON：{error}")
    if not isinstance(value, (dict, list)):
        return 0.0, say("neither an object nor a list", "既不是对象也不是列表")
    if wrong := fault(value, rule):
        return 0.0, wrong
    if free is None:
        return 1.0, say("valid", "符合模式")
    text = normalise(row.input or row.prompt)
    leaves = [(path, leaf) for path, leaf in _leaves(value, "$") if not free & set(re.split(r"[.\[\]]+", path))]
    missing = [(path, leaf) for path, leaf in leaves if not _stands(leaf, text)]
    if missing:
        path, leaf = missing[0]
        return 0.0, say(f"{path}: not in the text: {cut(str(leaf), 60)}", f"{path}：文本中没有：{cut(str(leaf), 60)}")
    if not leaves and value:
        return None, say("no value that could be looked for in the text", "没有可以在文本中核对的值")
    return 1.0, say(f"valid, {len(leaves)} values found in the text", f"符合模式，{len(leaves)} 个值见于文本")


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str | float]]:
    """The texts and numbers of a value with their paths; truth, null and empty texts say nothing that could stand in a text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{at}]")
    elif (isinstance(value, str) and value.strip()) or (
        isinstance(value, (int, float)) and not isinstance(value, bool)
    ):
        yield path, value


def _stands(leaf: str | float, text: str) -> bool:
    if not isinstance(leaf, str):
        plain = text.replace(",", "")
        return any(abs(float(found) - abs(leaf)) < 1e-9 for found in _digits.findall(plain))
    said = normalise(leaf)
    if said in text or said.replace(" ", "") in text.replace(" ", ""):
        return True
    # A date or an amount written another way: all of its digits are there, and it has no words of its own.
    figures = [found.lstrip("0") for found in _digits.findall(said)]
    words = re.findall(r"[^\W\d_]{3,}", said)
    known = {found.lstrip("0") for found in _digits.findall(text)}
    return bool(figures) and not words and all(figure in known for figure in figures)


def _chosen(rule: Any) -> set[str]:
    """The names of properties whose values are picked from a list that the schema gives."""
    out: set[str] = set()
    if isinstance(rule, dict):
        for name, inner in (rule.get("properties") or {}).items():
            items = inner.get("items") if isinstance(inner, dict) else None
            if isinstance(inner, dict) and (
                {"enum", "const"} & inner.keys() or (isinstance(items, dict) and "enum" in items)
            ):
                out.add(name)
        for inner in rule.values():
            out |= _chosen(inner)
    elif isinstance(rule, list):
        out |= {name for inner in rule for name in _chosen(inner)}
    return out
