"""The fast way through the sandbox: templates that are nothing but text, variables and label words become one %-format.

Most templates are so, and render several times as fast as through Jinja's own code, to the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, TypeAlias

from jinja2 import nodes

from zhiling.construct.languages import language
from zhiling.errors import RecipeError, say

MOST = 48
"""Slots of a template that goes this way. Nothing here counts characters: a long field in thousands of slots would fill the memory."""
_Slot: TypeAlias = tuple[str, Callable[[Any], Any] | None]
"""A variable, and what is done to its value."""


def plain(tree: nodes.Template) -> Callable[[Mapping[str, Any]], str] | None:
    """The renderer of such a template; None for any other."""
    parts: list[str] = []
    slots: list[_Slot] = []
    for statement in tree.body:
        for node in statement.nodes if isinstance(statement, nodes.Output) else [statement]:
            said = _said(node)
            slot = None if said is not None else _slot(node)
            if said is None and slot is None:
                return None
            parts.append("%s" if said is None else said.replace("%", "%%"))
            slots += [slot] if slot else []
    if len(slots) > MOST:
        return None
    return _formatter("".join(parts), slots)


def _said(node: nodes.Node) -> str | None:
    if isinstance(node, nodes.TemplateData):
        return node.data
    return node.value if isinstance(node, nodes.Const) and isinstance(node.value, str) else None


def _slot(node: nodes.Node) -> _Slot | None:
    """The variable that a node shows: as it is, as a language's name, or by a table of words (`if x == "a"` .. `else x`)."""
    if isinstance(node, nodes.Name):
        return node.name, None
    if (
        isinstance(node, nodes.Filter)
        and node.name == "language"
        and isinstance(node.node, nodes.Name)
        and len(node.args) == 1
    ):
        lang = _said(node.args[0])
        return None if lang is None or node.kwargs else (node.node.name, lambda value: language(str(value), lang))
    if isinstance(node, nodes.If) and len(node.else_) == 1:
        return _words(node)
    return None


def _words(chain: nodes.If) -> _Slot | None:
    shown = _only(chain.else_)
    if not isinstance(shown, nodes.Name):
        return None
    words = dict[Any, str]()
    for branch in [*reversed(chain.elif_), chain]:  # the first of two equal tests counts
        raw, word = _tested(branch.test, shown.name), _only(branch.body)
        said = None if word is None else _said(word)
        if raw is None or said is None:
            return None
        words[raw] = said
    return shown.name, lambda value: words.get(value, value)


def _tested(test: nodes.Node, name: str) -> str | None:
    """The text that a test compares the variable with."""
    if isinstance(test, nodes.Compare) and isinstance(test.expr, nodes.Name) and test.expr.name == name:
        return _said(test.ops[0].expr) if len(test.ops) == 1 and test.ops[0].op == "eq" else None
    return None


def _only(body: list[nodes.Node]) -> nodes.Node | None:
    """The single thing that a branch outputs."""
    inner = body[0].nodes if len(body) == 1 and isinstance(body[0], nodes.Output) else []
    return inner[0] if len(inner) == 1 else None


def _formatter(form: str, slots: list[_Slot]) -> Callable[[Mapping[str, Any]], str]:
    if not slots:
        constant = form % ()
        return lambda values: constant
    if any(change for _, change in slots):
        return _named(
            lambda values: form % tuple(change(values[name]) if change else values[name] for name, change in slots)
        )
    pick = itemgetter(*(name for name, _ in slots))
    if len(slots) == 1:
        return _named(lambda values: form % (pick(values),))
    return _named(lambda values: form % pick(values))


def _named(fill: Callable[[Mapping[str, Any]], str]) -> Callable[[Mapping[str, Any]], str]:
    def render(values: Mapping[str, Any]) -> str:
        try:
            return fill(values)
        except KeyError as error:
            what = say(f"unknown variable '{error.args[0]}'", f"未知的变量“{error.args[0]}”")
            raise RecipeError(what, mend=say("give a field of that name", "请提供同名字段")) from error
        except TypeError as error:
            raise RecipeError(say(f"cannot be rendered: {error}", f"渲染失败：{error}")) from error

    return render
