"""YAML whose every key remembers its line, so that a mistake can be named by file, line and key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import yaml

from zhiling.errors import RecipeError, say

Keys: TypeAlias = tuple[str | int, ...]
"""The way to a value: keys of mappings and indices of lists."""


class Where:
    """Turns a path of keys into "file:line key.path"."""

    def __init__(self, file: str, lines: Mapping[Keys, int]) -> None:
        self.file, self.lines = file, lines

    def at(self, path: Keys) -> str:
        known: Keys = path
        while known and known not in self.lines:
            known = known[:-1]
        line = f":{self.lines[known]}" if known in self.lines else ""
        return f"{self.file}{line} {'.'.join(str(part) for part in path)}".strip()


def parse(text: str, file: str) -> tuple[Any, dict[Keys, int]]:
    """YAML as plain data, and the line of every key.

    Raises RecipeError for bad syntax, and for duplicate keys: the second would silently win.
    """
    lines: dict[Keys, int] = {}

    def walk(node: yaml.Node | None, path: Keys) -> None:
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                name = str(key.value)
                line = key.start_mark.line + 1
                if name in seen:
                    where = f"{file}:{line} {'.'.join(str(part) for part in (*path, name))}"
                    raise RecipeError(say(f"the key '{name}' appears twice", f"键“{name}”重复出现"), where=where)
                seen.add(name)
                lines[(*path, name)] = line
                walk(value, (*path, name))
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                lines[(*path, index)] = item.start_mark.line + 1
                walk(item, (*path, index))

    try:
        walk(yaml.compose(text, Loader=yaml.SafeLoader), ())
        return yaml.safe_load(text), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f"{file}:{mark.line + 1}" if mark else file
        raise RecipeError(
            say(f"not valid YAML: {error.problem}", f"YAML 语法错误：{error.problem}"), where=at
        ) from None
    except yaml.YAMLError as error:
        raise RecipeError(say(f"not valid YAML: {error}", f"YAML 语法错误：{error}"), where=file) from None


def assign(data: dict[str, Any], assignment: str) -> None:
    """Apply one "a.b.0.c=value" override to the raw data."""
    key, equals, value = assignment.partition("=")
    if not equals or not key:
        raise RecipeError(
            say(f"--set takes key=value, got '{assignment}'", f"--set 的形式是 key=value，得到“{assignment}”")
        )
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(
            say(f"not a YAML value: {value}", f"不是有效的 YAML 值：{value}"), where=f"--set {key}"
        ) from error
    node: Any = data
    *parents, last = key.split(".")
    for part in parents:
        if isinstance(node, list) and part.isdigit() and int(part) < len(node):
            if isinstance(node[int(part)], str):
                node[int(part)] = {node[int(part)]: {}}
            node = node[int(part)]
        elif isinstance(node, dict):
            if not isinstance(node.get(part), dict | list):
                node[part] = {}
            node = node[part]
        else:
            raise RecipeError(say(f"no such key: {key}", f"没有这个键：{key}"), where="--set")
    if isinstance(node, list):
        if not last.isdigit() or int(last) >= len(node):
            raise RecipeError(say(f"no such key: {key}", f"没有这个键：{key}"), where="--set")
        node[int(last)] = parsed
    else:
        node[last] = parsed


def as_text(data: Mapping[str, Any]) -> str:
    """Plain data as the YAML that a run keeps, so that what it tells of itself is what was done."""
    plain = json.loads(json.dumps(data, default=str))  # tuples and paths, which a recipe made in Python may hold
    return yaml.safe_dump(plain, allow_unicode=True, sort_keys=False)
