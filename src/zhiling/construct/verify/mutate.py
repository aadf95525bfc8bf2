"""Small faults put into a program, to see whether its tests notice: mutation testing (DeMillo, Lipton and Sayward 1978)."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from random import Random

_SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn,
    ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.USub: ast.UAdd,
}  # fmt: skip
"""What stands in an operator's place. Comparisons are turned round whole (< to >=), not moved by one (< to <=), which often changes nothing."""


def mutants(source: str, count: int, seed: int) -> list[tuple[str, str]]:
    """Up to `count` faulty versions of a program, (what was changed, text), drawn with `seed`; the same for the same seed.

    Always among them: for each top-level function (in turn, as far as they fit) one whose body does nothing. Other faults: operators, numbers
    and truth values, turned conditions, left-out calls and assignments, `return None`. Docstrings, annotations and what stands under
    `if __name__ ==` are left alone. Raises SyntaxError for text that is no Python.
    """
    tree = ast.parse(source)
    own = ast.unparse(tree)
    bodies = [
        _emptied(tree, at)
        for at, node in enumerate(tree.body)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    other = [change for change in _sites(tree)]
    Random(seed).shuffle(other)
    out: list[tuple[str, str]] = []
    seen = {own}
    for what, make in (*bodies[: max(1, count // 4)], *other):
        if len(out) >= count:
            break
        text = make()
        if text not in seen:
            seen.add(text)
            out.append((what, text))
    return out


Change = tuple[str, Callable[[], str]]


def _emptied(tree: ast.Module, at: int) -> Change:
    def make() -> str:
        new = copy.deepcopy(tree)
        function = new.body[at]
        assert isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        function.body = [ast.Pass()]
        return ast.unparse(new)

    name = getattr(tree.body[at], "name", "")
    return f"{name}() does nothing", make


def _sites(tree: ast.Module) -> Iterator[Change]:
    """Each place where a fault can be put, with the fault; places are numbered in the order of the walk, so that a copy finds them again."""
    left = _left_alone(tree)
    for at, node in enumerate(ast.walk(tree)):
        if node in left:
            continue
        for what, fault in _faults(node):
            yield f"line {getattr(node, 'lineno', '?')}: {what}", _with(tree, at, fault)


def _left_alone(tree: ast.Module) -> set[ast.AST]:
    out: set[ast.AST] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            parts += [node.returns, *(a.annotation for a in ast.walk(node.args) if isinstance(a, ast.arg))]
        elif isinstance(node, ast.AnnAssign):
            parts.append(node.annotation)
        elif _asides(node):
            parts.append(node)
        elif isinstance(node, (ast.Raise, ast.Assert)):
            parts.append(node)  # what happens when something is wrong anyway is seldom tested
        out |= {inner for part in parts if part for inner in ast.walk(part)}
    return out


def _asides(node: ast.AST) -> bool:
    """Docstrings, what runs only as a script, and what happens when something is wrong anyway, which is seldom tested."""
    if isinstance(node, ast.If):
        return "__name__" in ast.unparse(node.test)
    return isinstance(node, (ast.Raise, ast.Assert)) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _faults(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], None]]]:
    """The faults that can be put into one node, each as a change of the node in place."""
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.UnaryOp, ast.AugAssign)) and type(node.op) in _SWAPPED:
        yield type(node.op).__name__, lambda n: setattr(n, "op", _SWAPPED[type(n.op)]())  # type: ignore[attr-defined]
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _SWAPPED:
        yield type(node.ops[0]).__name__, lambda n: n.ops.__setitem__(0, _SWAPPED[type(n.ops[0])]())  # type: ignore[attr-defined]
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        changed = not node.value if isinstance(node.value, bool) else node.value + 1
        yield f"{node.value!r} -> {changed!r}", lambda n: setattr(n, "value", changed)
    if isinstance(node, (ast.If, ast.While, ast.IfExp)) and not isinstance(node.test, (ast.Compare, ast.Constant)):
        yield "condition", lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))  # type: ignore[attr-defined]
    if isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield "return None", lambda n: setattr(n, "value", ast.Constant(None))
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "call left out", lambda n: setattr(n, "value", ast.Constant(None))


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _with(tree: ast.Module, at: int, fault: Callable[[ast.AST], None]) -> Callable[[], str]:
    def make() -> str:
        new = copy.deepcopy(tree)
        fault(next(node for place, node in enumerate(ast.walk(new)) if place == at))
        return ast.unparse(ast.fix_missing_locations(new))

    return make
