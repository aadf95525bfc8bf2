"""Jinja that cannot hurt: a small, checked subset of the language, compiled once per text and rendered under a work budget.

Templates come from files, banks and models, so they are hostile until proven otherwise. Three fences, outermost first:

* **the grammar**: a template is parsed, and only the node kinds, filters, tests and string methods listed here pass. No imports,
  includes, macros, attributes, no calls but `range` and a few string methods.
* **the budget**: every loop step, filter, method and joined character spends from one budget per rendering, so that neither time
  nor memory can run away, whatever is nested in what. The count is of work, never of seconds: the result is the same everywhere.
* **the sandbox**: what is left runs in Jinja's ImmutableSandboxedEnvironment with StrictUndefined and no loader.

Values are passed as variables and never parsed, so braces in data are data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.sandbox import safe_range as jinja_range

from zhiling.construct import sandbox_foreign as foreign
from zhiling.construct.languages import language
from zhiling.construct.sandbox_plain import plain
from zhiling.errors import RecipeError, say
from zhiling.text import cut

MAX_TEXT = 100_000
"""Longest template text, in characters."""
MAX_OUTPUT = 1_000_000
"""Longest rendering, in characters."""
MAX_BUILT = 100_000
"""Longest text that an expression may build, in characters, and longest list."""
STRIDE = 64
"""Characters that are read (compared, searched, sliced) at the price of one that is made."""
MAX_WORK = 500_000
"""What one rendering may spend: a loop step costs the size of its body, a filter or method the length of its text."""

# fmt: off
_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.If, nodes.For, nodes.Assign, nodes.CondExpr,
    nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Filter, nodes.Test, nodes.Getattr, nodes.Getitem, nodes.Slice,
    nodes.Call, nodes.Keyword, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div,
    nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos, nodes.Concat, nodes.AssignBlock,
)
_METHODS = frozenset([
    "strip", "lstrip", "rstrip", "lower", "upper", "title", "capitalize", "startswith", "endswith", "split", "splitlines",
    "removeprefix", "removesuffix", "find", "count", "isdigit", *foreign.METHODS,
])
_CALLED = frozenset(["range", "zip"])
_LOOP = frozenset(["index", "index0", "revindex", "revindex0", "first", "last", "length"])
_TESTS = frozenset([
    "defined", "undefined", "none", "string", "number", "integer", "mapping", "sequence", "even", "odd", "divisibleby", "in",
    "eq", "ne", "lt", "le", "gt", "ge", "==", "!=", "<", "<=", ">", ">=",
])
# fmt: on


class _Context(Context):
    """A rendering's variables and what is left of its budget."""

    left: int = MAX_WORK

    def spend(self, work: int) -> None:
        self.left -= work
        if self.left < 0:
            raise SecurityError(say("the template does too much work", "模板的计算量过大"))


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox without its conveniences: items are items (never attributes), `*` and `%` are for numbers."""

    intercepted_binops = frozenset(["+", "*", "%"])
    context_class = _Context

    def getitem(self, obj: Any, argument: Any) -> Any:
        try:
            return obj[argument]
        except (LookupError, TypeError):
            return self.undefined(obj=obj, name=argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        assert isinstance(context, _Context)
        if operator == "+" and isinstance(left, str | list | tuple):
            size = len(left) + (len(right) if isinstance(right, str | list | tuple) else 0)
            _check_size(size)
            context.spend(size)
            if not isinstance(left, str):
                context.spend(foreign.weigh([left, right], MAX_BUILT))
        elif not (isinstance(left, int | float) and isinstance(right, int | float)):
            raise SecurityError(say(f"'{operator}' is for numbers only", f"“{operator}”只能用于数字"))
        elif isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > 4096:
            raise SecurityError(say("a number grows too large", "数字过大"))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        assert isinstance(context, _Context)
        holder = getattr(obj, "__self__", "")
        context.spend(1 + _size(holder) + sum(_size(arg) for arg in args))
        if getattr(obj, "__name__", "").endswith("strip") and args:
            context.spend(_size(holder) * _size(args[0]) // STRIDE)  # each character is looked up among those to strip
        changed = isinstance(holder, list | dict) and getattr(obj, "__name__", "") in foreign.MUTATING
        if changed:
            context.spend(foreign.weigh([holder, *args], MAX_BUILT))
        return super().call(context, obj, *args, **kwargs)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        # lists and mappings are the template's own: rows are text, and what `nested` makes of one is new
        own = isinstance(obj, list | dict) and attr in foreign.MUTATING
        return own or super().is_safe_attribute(obj, attr, value)


def _size(value: object) -> int:
    return len(value) if isinstance(value, str | list | tuple | dict | range) else 1


def _joined(items: Iterable[Any], by: str = "") -> str:
    parts = [str(item) for item in items]
    _check_size(sum(map(len, parts)) + len(by) * len(parts))
    return str(by).join(parts)


def _replaced(text: str, old: str, new: str, count: int = -1) -> str:
    text, old, new = str(text), str(old), str(new)
    _check_size(len(text) + text.count(old) * len(new))
    return text.replace(old, new, count)


def _trimmed(value: Any, chars: str | None = None) -> str:
    _check_size(len(chars or ""), STRIDE)
    return str(value).strip(chars)


def _check_size(size: int, limit: int = MAX_BUILT) -> None:
    if size > limit:
        raise SecurityError(say(f"a text grows beyond {limit:,} characters", f"文本超过 {limit:,} 个字符"))


def _default(value: Any, otherwise: Any = "", boolean: bool = False) -> Any:
    return otherwise if isinstance(value, Undefined) or (boolean and not value) else value


def _number(value: Any, default: int = 0) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return default


_FILTERS: dict[str, Callable[..., Any]] = {
    "capitalize": lambda value: str(value).capitalize(),
    "default": _default,
    "first": lambda items: items[0],
    "int": _number,
    "join": _joined,
    "language": lambda value, lang: language(str(value), lang),
    "last": lambda items: items[-1],
    "length": len,
    "list": lambda items: list(items),
    "lower": lambda value: str(value).lower(),
    "replace": _replaced,
    "string": str,
    "title": lambda value: str(value).title(),
    "tojson": lambda value: json.dumps(value, ensure_ascii=False),
    "trim": _trimmed,
    "upper": lambda value: str(value).upper(),
    **foreign.FILTERS,
}
"""Jinja's own names and meanings; only `language` is ours: a language code or name as its name in the given language."""


def _paid(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, paying for the size of what it is given and of what it makes."""

    @pass_context
    @wraps(fn)
    def filtered(context: _Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, StrictUndefined) and fn is not _default:
            str(value)  # raises, naming the variable
        context.spend(1 + _size(value))
        made = fn(value, *args, **kwargs)
        context.spend(_size(made))
        return made

    return filtered


@pass_context
def _steps(context: _Context, items: Iterable[Any], cost: int) -> Iterator[Any]:
    for item in items:
        context.spend(cost)
        yield item


@pass_context
def _choice(context: _Context, items: Iterable[Any]) -> Any:
    context.spend(1 + _size(items))
    return foreign.drawn(items, ((name, value) for name, value in context.parent.items() if name != "task"))


@pass_context
def _read(context: _Context, value: Any) -> Any:
    context.spend(1 + _size(value) // STRIDE)
    return value


@pass_context
def _weighed(context: _Context, value: Any) -> Any:
    if not isinstance(value, str):
        context.spend(1 + foreign.weigh(value, MAX_BUILT) // 16)
    return value


@pass_context
def _zip(context: _Context, *lists: Any) -> list[Any]:
    context.spend(sum(1 + _size(one) for one in lists))
    made = [*zip(*lists, strict=False)]
    context.spend(1 + foreign.weigh(made, MAX_BUILT) // 16)  # pairs of pairs of pairs: as `_weighed`
    return made


@pass_context
def _range(context: _Context, *args: int) -> range:
    made: range = jinja_range(*args)  # OverflowError beyond jinja2.sandbox.MAX_RANGE
    context.spend(len(made))
    return made


def _environment() -> _Environment:
    env = _Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, cache_size=0)
    env.filters = {name: _paid(fn) for name, fn in _FILTERS.items()} | {
        "_steps": _steps,
        "_weighed": _weighed,
        "_read": _read,
        "choice": _choice,
    }
    env.tests = {name: test for name, test in env.tests.items() if name in _TESTS}
    env.globals = {"range": _range, "zip": _zip}
    return env


_env = _environment()


class _NotAllowed(TemplateSyntaxError):
    """Valid Jinja, but not ours."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A checked template text. `names` are all its variables, `needs` those that must be there for it to make sense.

    A variable that is only asked about (`{% if x %}`, `x is defined`, `x | default(..)`) is not needed.
    """

    text: str
    names: frozenset[str]
    needs: frozenset[str]
    render: Callable[[Mapping[str, Any]], str]
    """Renders over the variables. Raises RecipeError in words when that fails."""


@lru_cache(maxsize=8192)
def compiled(text: str) -> Compiled:
    """The text, parsed, checked and compiled, once per text.

    Raises RecipeError, with the line inside the template, for what is not Jinja or not allowed.
    """
    if len(text) > MAX_TEXT:
        raise RecipeError(
            say(f"the template is longer than {MAX_TEXT:,} characters", f"模板超过 {MAX_TEXT:,} 个字符"),
            where=cut(text, 40),
        )
    try:
        tree = _env.parse(text)
        foreign.as_filters(tree)
        _check(tree)
        names, soft, guarded = _names(tree)
        render = plain(tree)
        if render is None:
            _guard(tree)
            render = _full(_env.from_string(tree), soft - guarded, names)
        if text.startswith(foreign.TRIM):
            render = _stripped(render)
    except _NotAllowed as error:
        raise RecipeError(str(error.message), where=_line(text, error.lineno)) from error
    except TemplateSyntaxError as error:
        raise RecipeError(
            say(f"not a valid template: {error.message}", f"模板语法有误：{error.message}"),
            where=_line(text, error.lineno),
            mend=say("fields are written {{ name }}", "字段写作 {{ 字段名 }}"),
        ) from error
    except (RecursionError, SyntaxError) as error:  # of Jinja's parser; of Python, which compiles what Jinja writes
        raise RecipeError(say("the template is nested too deeply", "模板嵌套过深"), where=cut(text, 40)) from error
    except ValueError as error:
        raise RecipeError(say("a number is too large", "数字过大"), where=cut(text, 40)) from error
    return Compiled(text, names, names - soft - guarded, render)


def _stripped(render: Callable[[Mapping[str, Any]], str]) -> Callable[[Mapping[str, Any]], str]:
    return lambda values: render(values).strip()


def literal(text: str) -> str:
    """The text as template text that renders to itself, braces included."""
    return text.replace("{", '{{ "{" }}')


def _line(text: str, number: int) -> str:
    lines = text.splitlines() or [""]
    return say(f"line {number} of the template: ", f"模板第 {number} 行：") + cut(
        lines[min(number, len(lines)) - 1], 60
    )


def _check(tree: nodes.Template) -> None:
    """Raise _NotAllowed for whatever is not on the lists."""
    called = {id(call.node) for call in tree.find_all(nodes.Call)}
    for node in tree.find_all(nodes.Node):
        wrong = _wrong(node, id(node) in called)
        if wrong:
            raise _NotAllowed(wrong, node.lineno)


def _wrong(node: nodes.Node, called: bool) -> str:
    if isinstance(node, nodes.Call):
        known = isinstance(node.node, nodes.Getattr) or (
            isinstance(node.node, nodes.Name) and node.node.name in _CALLED
        )
        if not known or node.dyn_args or node.dyn_kwargs:
            return say(
                "only range(..), zip(..) and simple text methods can be called",
                "只能调用 range(..)、zip(..) 和简单的文本方法",
            )
    elif isinstance(node, nodes.Getattr):
        loop = isinstance(node.node, nodes.Name) and node.node.name == "loop" and node.attr in _LOOP
        if not loop and not (called and node.attr in _METHODS):
            return say(f"the attribute '{node.attr}' is not allowed", f"不允许使用属性“{node.attr}”")
    elif isinstance(node, nodes.Filter):
        if node.name not in (*_FILTERS, "choice") or node.node is None:
            return say(f"the filter '{node.name}' is not available", f"没有过滤器“{node.name}”")
    elif isinstance(node, nodes.Test):
        if node.name not in _TESTS:
            return say(f"the test '{node.name}' is not available", f"没有测试“{node.name}”")
    elif isinstance(node, nodes.For) and node.recursive:
        return say("recursive loops are not allowed", "不允许递归循环")
    elif not isinstance(node, _NODES):
        kind = type(node).__name__.lower()
        return say(f"'{kind}' is not allowed in a template", f"模板中不允许使用“{kind}”")
    return ""


def _names(tree: nodes.Template) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """All variables from outside; those asked for truth; those asked for being there."""
    from jinja2.meta import find_undeclared_variables

    names = frozenset(find_undeclared_variables(tree)) - {*_CALLED, "loop"}
    soft = {name for node in tree.find_all(nodes.If) for name in _asked(node.test)}
    soft |= {name for node in tree.find_all(nodes.CondExpr) for name in _asked(node.test)}
    asking = (*tree.find_all(nodes.Test), *tree.find_all(nodes.Filter))
    asked = (node.node for node in asking if node.name in ("defined", "undefined", "default"))
    return names, frozenset(soft), frozenset(node.name for node in asked if isinstance(node, nodes.Name))


def _asked(test: nodes.Node) -> set[str]:
    if isinstance(test, nodes.Name):
        return {test.name}
    if isinstance(test, nodes.Not) or (
        isinstance(test, nodes.Filter) and test.name in ("typed", "nested") and test.node
    ):
        return _asked(test.node)  # type: ignore[arg-type]
    if isinstance(test, nodes.And | nodes.Or):
        return _asked(test.left) | _asked(test.right)
    return set()


def _guard(tree: nodes.Template) -> None:
    """Make loops, `~`, built lists, captured blocks, comparisons and slices pay.

    The loop goes through a counting iterator, the joined text through `join`, what is read through a filter that takes its size.
    """
    for compared in list(tree.find_all(nodes.Compare)):
        sides: list[nodes.Compare | nodes.Operand] = [compared, *compared.ops]
        for side in sides:
            side.expr = _reading(side.expr)
    for part in list(tree.find_all(nodes.Getitem)):
        if isinstance(part.arg, nodes.Slice):
            part.node = _reading(part.node)
    foreign.weigh_built(tree)
    foreign.pay_for_captured(tree)
    for loop in tree.find_all(nodes.For):
        cost = nodes.Const(1 + sum(1 for part in loop.body for _ in part.find_all(nodes.Node)), lineno=loop.lineno)
        loop.iter = nodes.Filter(loop.iter, "_steps", [cost], [], None, None, lineno=loop.lineno)
    for node in tree.find_all(nodes.Node):
        for name, value in list(node.iter_fields()):
            if isinstance(value, nodes.Concat):
                setattr(node, name, _joining(value))
            elif isinstance(value, list):
                value[:] = [_joining(item) if isinstance(item, nodes.Concat) else item for item in value]


def _reading(node: nodes.Expr) -> nodes.Expr:
    return (
        node if isinstance(node, nodes.Const) else nodes.Filter(node, "_read", [], [], None, None, lineno=node.lineno)
    )


def _joining(node: nodes.Concat) -> nodes.Filter:
    listed = nodes.List(
        [_joining(item) if isinstance(item, nodes.Concat) else item for item in node.nodes], lineno=node.lineno
    )
    return nodes.Filter(listed, "join", [], [], None, None, lineno=node.lineno)


def _full(template: Any, soft: frozenset[str], names: frozenset[str]) -> Callable[[Mapping[str, Any]], str]:
    """The renderer of any other template: Jinja's own code, under the budget."""
    empty = dict.fromkeys(soft, "")
    root, shared = template.root_render_func, template.globals

    def render(values: Mapping[str, Any]) -> str:
        out: list[str] = []
        size = 0
        try:
            for name in names:
                _check_size(_size(values.get(name, "")), MAX_OUTPUT)
            for piece in root(_Context(_env, {**shared, **empty, **values}, None, {})):
                size += len(piece)
                _check_size(size, MAX_OUTPUT)
                out.append(piece)
        except UndefinedError as error:
            raise RecipeError(say(f"unknown variable: {error.message}", f"未知的变量：{error.message}")) from error
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise RecipeError(say(f"cannot be rendered: {reason}", f"渲染失败：{reason}")) from error
        return "".join(out)

    return render
