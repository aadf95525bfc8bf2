"""JSON schemas: what holds, what does not, and how that is said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.errors import RecipeError
from zhiling.llm.schema import fault, strict

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
        "friend": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "value",
    [
        {"name": "Li", "age": 3},
        {"name": "李", "age": 3.0, "tags": ["a", "b"], "friend": {"name": "Wu", "age": 1, "friend": None}},
    ],
)
def test_what_holds(value: Any) -> None:
    assert fault(value, PERSON) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "$: [] is not object"),
        ({"name": "Li"}, "$: the key 'age' is missing"),
        ({"name": "", "age": 1}, "$.name: 0 characters where at least 1 are needed"),
        ({"name": "Li", "age": True}, "$.age: true is not integer"),
        ({"name": "Li", "age": 2.5}, "$.age: 2.5 is not integer"),
        ({"name": "Li", "age": -1}, "$.age: -1 where at least 0 are needed"),
        ({"name": "Li", "age": 1, "x": 1}, "$.x: not allowed"),
        ({"name": "Li", "age": 1, "tags": ["a", "c"]}, '$.tags[1]: "c" is not one of ["a", "b"]'),
        ({"name": "Li", "age": 1, "tags": ["a"] * 3}, "$.tags: 3 items where at most 2 are allowed"),
        ({"name": "Li", "age": 1, "friend": 5}, "$.friend: 5 fits 0 of the alternatives in anyOf"),
    ],
)
def test_what_does_not_is_said_with_its_place(value: Any, said: str) -> None:
    assert fault(value, PERSON) == said


def test_faults_are_said_in_chinese_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHILING_LANG", "zh")
    assert fault({"name": "Li"}, PERSON) == "$: 缺少键“age”"


@pytest.mark.parametrize(
    ("value", "schema", "holds"),
    [
        (1, {"const": 1}, True),
        (True, {"const": 1}, False),
        (1, {"enum": [True]}, False),
        ("ab12", {"type": "string", "pattern": r"^[a-z]+\d+$"}, True),
        ("12", {"type": "string", "pattern": r"^[a-z]+"}, False),
        (3, {"exclusiveMinimum": 3}, False),
        (3.5, {"type": ["integer", "number"]}, True),
        (None, {"type": ["string", "null"]}, True),
        ([1, "a", 2], {"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": {"type": "integer"}}, True),
        ([1, 1], {"uniqueItems": True}, False),
        (5, {"oneOf": [{"minimum": 3}, {"minimum": 4}]}, False),
        (3, {"oneOf": [{"minimum": 3}, {"minimum": 4}]}, True),
        (3, {"allOf": [{"minimum": 3}, {"maximum": 2}]}, False),
        ({"a": 1}, {"additionalProperties": {"type": "string"}}, False),
        ({"n": 1}, {"$defs": {"N": {"type": "integer"}}, "properties": {"n": {"$ref": "#/$defs/N"}}}, True),
        ({"n": "1"}, {"$defs": {"N": {"type": "integer"}}, "properties": {"n": {"$ref": "#/$defs/N"}}}, False),
        ("anything", {}, True),
        ("anything", {"format": "date", "description": "says, does not constrain"}, True),
    ],
)
def test_each_keyword(value: Any, schema: dict[str, Any], holds: bool) -> None:
    assert (fault(value, schema) is None) == holds


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_value_gets_a_verdict(value: Any) -> None:
    said = fault(value, PERSON)
    assert said is None or said.startswith("$")


def test_a_reference_to_nothing_is_the_recipes_fault() -> None:
    with pytest.raises(RecipeError, match="Missing"):
        fault(1, {"$ref": "#/$defs/Missing"})


def test_strict_means_closed_and_all_required() -> None:
    closed = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert strict(closed)
    assert strict({"type": "array", "items": closed})
    assert not strict(PERSON)
    assert not strict({"type": "object", "properties": {"a": closed}, "required": ["a"]})
    assert strict(
        {"type": "object", "properties": {"type": closed}, "required": ["type"], "additionalProperties": False}
    )
