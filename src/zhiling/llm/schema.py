"""A JSON value against a JSON schema: the subset that constrained decoding and pydantic's models use.

Covered: type, enum, const, properties, required, additionalProperties, items, prefixItems, minItems, maxItems, uniqueItems,
minLength, maxLength, pattern, minimum, maximum, exclusiveMinimum, exclusiveMaximum, anyOf, oneOf, allOf, $ref within the schema.
Other keywords (format, title, description, ...) describe and do not constrain, as the standard allows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from zhiling.errors import RecipeError, say
from zhiling.llm.pattern import searching
from zhiling.text import cut

Schema = Mapping[str, Any]
SEARCHED = 1000

_types: dict[str, Any] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
    "integer": lambda v: (isinstance(v, int) or (isinstance(v, float) and v.is_integer())) and not isinstance(v, bool),
}


def fault(value: Any, schema: Schema) -> str | None:
    """The first way in which the value breaks the schema, as "path: what"; None when it holds."""
    return next(_faults(value, schema, schema, "$"), None)


def strict(schema: Schema) -> bool:
    """Whether every object of the schema is closed and requires all its keys, as OpenAI's strict mode demands."""
    for part in _parts(schema):
        if part.get("type") == "object" or "properties" in part:
            if part.get("additionalProperties") is not False:
                return False
            if set(part.get("required", ())) != set(part.get("properties", {})):
                return False
    return True


def _parts(schema: Any) -> Iterator[Schema]:
    if isinstance(schema, Mapping):
        yield schema
        for key, inner in schema.items():
            if key in ("properties", "$defs", "definitions") and isinstance(inner, Mapping):
                for named in inner.values():
                    yield from _parts(named)
            elif key not in ("enum", "const", "default", "examples"):
                yield from _parts(inner)
    elif isinstance(schema, (list, tuple)):
        for inner in schema:
            yield from _parts(inner)


def _faults(value: Any, schema: Schema | bool, root: Schema, path: str) -> Iterator[str]:
    if isinstance(schema, bool):
        if not schema:
            yield _at(path, "not allowed", "不允许出现")
        return
    if "$ref" in schema:
        yield from _faults(value, _resolve(schema["$ref"], root), root, path)
    kinds = schema.get("type")
    if kinds is not None:
        named = [kinds] if isinstance(kinds, str) else list(kinds)
        if not any(_types[kind](value) for kind in named if kind in _types):
            wanted = "/".join(named)
            yield _at(path, f"{_shown(value)} is not {wanted}", f"{_shown(value)} 不是 {wanted}")
            return
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        allowed = _shown(list(schema["enum"]))
        yield _at(path, f"{_shown(value)} is not one of {allowed}", f"{_shown(value)} 不在允许的取值 {allowed} 中")
    if "const" in schema and not _same(value, schema["const"]):
        only = _shown(schema["const"])
        yield _at(path, f"{_shown(value)} is not {only}", f"{_shown(value)} 不是 {only}")
    if isinstance(value, dict):
        yield from _object(value, schema, root, path)
    elif isinstance(value, list):
        yield from _array(value, schema, root, path)
    elif isinstance(value, str):
        yield from _string(value, schema, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _number(value, schema, path)
    yield from _combined(value, schema, root, path)


def _object(value: dict[str, Any], schema: Schema, root: Schema, path: str) -> Iterator[str]:
    properties: Mapping[str, Any] = schema.get("properties", {})
    for key in schema.get("required", ()):
        if key not in value:
            yield _at(path, f"the key '{key}' is missing", f"缺少键“{key}”")
    for key, inner in value.items():
        yield from _faults(inner, properties.get(key, schema.get("additionalProperties", True)), root, f"{path}.{key}")


def _array(value: list[Any], schema: Schema, root: Schema, path: str) -> Iterator[str]:
    first = schema.get("prefixItems", ())
    for i, inner in enumerate(value):
        yield from _faults(inner, first[i] if i < len(first) else schema.get("items", True), root, f"{path}[{i}]")
    yield from _limits(len(value), schema.get("minItems"), schema.get("maxItems"), path, say("items", "项"))
    if schema.get("uniqueItems") and len({json.dumps(one, sort_keys=True) for one in value}) < len(value):
        yield _at(path, "has equal items", "有重复的项")


def _string(value: str, schema: Schema, path: str) -> Iterator[str]:
    yield from _limits(len(value), schema.get("minLength"), schema.get("maxLength"), path, say("characters", "个字符"))
    if "pattern" in schema and not _found(schema["pattern"], value):
        pattern = schema["pattern"]
        yield _at(path, f"{_shown(value)} does not match {pattern}", f"{_shown(value)} 不匹配 {pattern}")


def _found(regex: str, value: str) -> bool:
    """Whether the expression is found in the text: in linear time, or (look-around and the like) by `re` in the first SEARCHED characters."""
    try:
        return searching(regex).matches(value)
    except RecipeError as ours:
        try:
            return re.search(regex, value[:SEARCHED]) is not None
        except (re.error, OverflowError, RecursionError):
            raise ours from None


def _number(value: float, schema: Schema, path: str) -> Iterator[str]:
    yield from _limits(value, schema.get("minimum"), schema.get("maximum"), path, "")
    low, high = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if (low is not None and value <= low) or (high is not None and value >= high):
        yield _at(path, f"{value} is outside its open range", f"{value} 超出开区间")


def _limits(size: float, low: float | None, high: float | None, path: str, unit: str) -> Iterator[str]:
    shown = f"{size} {unit}" if unit else str(size)
    if low is not None and size < low:
        yield _at(path, f"{shown} where at least {low} are needed", f"{shown}，至少需要 {low}")
    if high is not None and size > high:
        yield _at(path, f"{shown} where at most {high} are allowed", f"{shown}，最多允许 {high}")


def _combined(value: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    for part in schema.get("allOf", ()):
        yield from _faults(value, part, root, path)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            count = sum(next(_faults(value, part, root, path), None) is None for part in schema[word])
            if count == 0 or (word == "oneOf" and count > 1):
                fits_en = f"{_shown(value)} fits {count} of the alternatives in {word}"
                yield _at(path, fits_en, f"{_shown(value)} 符合 {word} 中的 {count} 个选项")


def _resolve(ref: str, root: Schema) -> Schema:
    found: Any = root
    for part in ref.removeprefix("#").strip("/").split("/"):
        part = part.replace("~1", "/").replace("~0", "~")
        if not part:
            continue
        if not isinstance(found, Mapping) or part not in found:
            raise RecipeError(
                say(f"the schema refers to '{ref}', which it does not hold", f"schema 引用了不存在的“{ref}”"),
                where="schema",
            )
        found = found[part]
    if not isinstance(found, Mapping):
        raise RecipeError(say(f"'{ref}' is not a schema", f"“{ref}”不是 schema"), where="schema")
    return found


def _at(path: str, en: str, zh: str) -> str:
    return f"{path}: {say(en, zh)}"


def _same(a: Any, b: Any) -> bool:
    """JSON equality: 1 equals 1.0, but true is not 1."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _shown(value: Any) -> str:
    return cut(json.dumps(value, ensure_ascii=False, default=str), 60)
