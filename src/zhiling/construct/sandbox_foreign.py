"""What templates of other collections expect of Jinja: their helpers, lists and mappings as values, and text captured in a block.

Rows of ours are text. `nested` and `typed` give such a template the list, mapping or number that its text stands for. Whatever a
template builds is weighed as it is built, all the way down: ten lists of ten lists of ten lists are small to hold and endless to show.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Undefined

from zhiling.errors import say
from zhiling.types import content_id, row_seed

SEPARATOR = "|||"
"""What stands between prompt, answer and answer choices in promptsource."""
TRIM = "{#- trim -#}"
"""A template text that begins with this comment is stripped after it was rendered, as promptsource strips every part."""
MUTATING = frozenset(["append", "extend", "update"])
METHODS = frozenset(
    ["join", "replace", "rsplit", "rfind", "islower", "isupper", "isalpha", "isalnum", "isnumeric", "swapcase",
     "items", "keys", "values", "get", "index", *MUTATING]
)  # fmt: skip
_WORDS = {"true": True, "false": False, "none": None, "null": None}


def nested(value: Any) -> Any:
    """The list or mapping that a text is the JSON of; anything else as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def typed(value: Any) -> Any:
    """The list, mapping, number or truth value that a text is the JSON of (True and None in Python's spelling too)."""
    if not isinstance(value, str) or len(value) > 40:
        return nested(value)
    word = value.strip()
    if word.casefold() in _WORDS:
        return _WORDS[word.casefold()]
    if word[:1].isdigit() or word[:1] == "-":
        try:
            return json.loads(word)
        except ValueError:
            return value
    return nested(value)


def parts(value: Any) -> list[str]:
    """The stripped texts between the separators."""
    return [part.strip() for part in str(value).split(SEPARATOR)]


def drawn(items: Iterable[Any], row: Iterable[tuple[str, Any]]) -> Any:
    """One of the items, by the content of the items and of the row: the same row draws the same, whatever was drawn before."""
    listed = list(items)
    if not listed:
        raise SecurityError(say("nothing to choose from", "没有可选的内容"))
    said = sorted((name, str(value)) for name, value in row if isinstance(value, str | int | float))
    return listed[row_seed(0, content_id("choice", [str(item) for item in listed], said)) % len(listed)]


def most_frequent(items: Iterable[Any]) -> list[Any]:
    """All items that occur most often, in the order they first came."""
    counts = Counter(items)
    most = max(counts.values(), default=0)
    return [item for item, count in counts.items() if count == most]


def _picked(items: Iterable[Any], test: str, than: tuple[Any, ...], keep: bool) -> list[Any]:
    known: dict[str, Callable[[Any], bool]] = {
        "truth": bool, "none": lambda item: item is None, "defined": lambda item: not isinstance(item, Undefined),
        "equalto": lambda item: bool(item == than[0]), "ne": lambda item: bool(item != than[0]), "in": lambda item: item in than[0],
        "gt": lambda item: bool(item > than[0]), "lt": lambda item: bool(item < than[0]), "string": lambda item: isinstance(item, str),
    }  # fmt: skip
    known |= {"eq": known["equalto"], "==": known["equalto"], "!=": known["ne"], "sameas": known["equalto"]}
    if test not in known or (test in ("equalto", "eq", "==", "ne", "!=", "in", "gt", "lt", "sameas") and not than):
        raise SecurityError(say(f"no such test to select by: {test}", f"没有这样的筛选条件：{test}"))
    return [item for item in items if known[test](item) == keep]


def _rounded(value: Any, precision: int = 0, method: str = "common") -> float:
    import math

    number = float(value)
    if method == "common":
        return round(number, precision)
    step: Callable[[float], int] = math.ceil if method == "ceil" else math.floor
    return float(step(number * 10.0**precision)) / 10.0**precision


def _float(value: Any, default: float = 0.0) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return default


def _folded(item: Any) -> Any:
    return item.casefold() if isinstance(item, str) else item


def _unique(items: Iterable[Any]) -> list[Any]:
    seen: dict[Any, Any] = {}
    for item in items:
        seen.setdefault(_folded(item), item)
    return list(seen.values())


FILTERS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "count": len,
    "float": _float,
    "items": lambda value: list(value.items()),
    "max": lambda items: max(items, key=_folded),
    "min": lambda items: min(items, key=_folded),
    "most_frequent": most_frequent,
    "nested": nested,
    "parts": parts,
    "reject": lambda items, test="truth", *than: _picked(items, test, than, keep=False),
    "reverse": lambda value: value[::-1] if isinstance(value, str) else list(value)[::-1],
    "round": _rounded,
    "safe": str,
    "select": lambda items, test="truth", *than: _picked(items, test, than, keep=True),
    "sort": lambda items, reverse=False: sorted(items, key=_folded, reverse=reverse),
    "sum": lambda items, start=0: sum(items, start),
    "typed": typed,
    "unique": _unique,
    "wordcount": lambda value: len(str(value).split()),
}
"""Jinja's own names and meanings, but for `most_frequent` (promptsource's), `nested`, `typed` and `parts` (ours)."""


def weigh(value: Any, limit: int) -> int:
    """Characters and items of a value all the way down, shared parts counted as often as they would show.

    Raises SecurityError beyond the limit, after at most that many steps.
    """
    total, open_ = 0, [value]
    while open_:
        one = open_.pop()
        total += 1 + (len(one) if isinstance(one, str) else 0)
        if isinstance(one, dict):
            open_ += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple):
            open_ += one
        if total + len(open_) > limit:
            raise SecurityError(say(f"a value grows beyond {limit:,} characters", f"内容超过 {limit:,} 个字符"))
    return total


def as_filters(tree: nodes.Template) -> None:
    """`x.replace(a, b)` as `x | replace(a, b)` and `by.join(xs)` as `xs | join(by)`: the filters look before they build."""

    def turned(node: Any) -> Any:
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) and not node.kwargs:
            holder, args = node.node.node, node.args
            if node.node.attr == "replace" and len(args) in (2, 3):
                return nodes.Filter(holder, "replace", args, [], None, None, lineno=node.lineno)
            if node.node.attr == "join" and len(args) == 1:
                return nodes.Filter(args[0], "join", [holder], [], None, None, lineno=node.lineno)
        return node

    replace(tree, turned)


def weigh_built(tree: nodes.Template) -> None:
    """Weigh lists, tuples and mappings written in the template; and, where it changes any, every variable as often as it is read.

    What was light when it was put into a list may have grown since.
    """
    grows = any(node.attr in MUTATING for node in tree.find_all(nodes.Getattr))

    def turned(node: Any) -> Any:
        literal = isinstance(node, nodes.List | nodes.Tuple | nodes.Dict) and any(node.find_all(nodes.Name))
        name = grows and isinstance(node, nodes.Name) and node.name not in ("loop", "range", "zip")
        if (literal or name) and getattr(node, "ctx", "load") == "load":
            return nodes.Filter(node, "_weighed", [], [], None, None, lineno=node.lineno)
        return node

    replace(tree, turned)


def pay_for_captured(tree: nodes.Template) -> None:
    """What a block captures is paid for piece by piece: it is held in memory before anybody sees how long it grew."""
    for block in tree.find_all(nodes.AssignBlock):
        for output in block.find_all(nodes.Output):
            output.nodes = [
                nodes.Filter(
                    nodes.Const(piece.data, lineno=piece.lineno) if isinstance(piece, nodes.TemplateData) else piece,
                    "string", [], [], None, None, lineno=piece.lineno,
                )
                for piece in output.nodes
            ]  # fmt: skip


def replace(tree: nodes.Node, turned: Callable[[Any], Any]) -> None:
    """Put `turned(node)` in the place of every node, innermost first."""
    for name, value in list(tree.iter_fields()):
        if isinstance(value, nodes.Node):
            replace(value, turned)
            setattr(tree, name, turned(value))
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, nodes.Node):
                    replace(item, turned)
            value[:] = [turned(item) if isinstance(item, nodes.Node) else item for item in value]
