"""A promptsource template as two of ours: its Jinja source, cut at `|||` and with values that are text made what they stand for.

The source is kept as it was written wherever it can be: it is read as a tree of text, shown expressions, statements and blocks, and
written again. What stands before the separator becomes the instruction, what stands after it the output, in each branch of each
`{% if %}` of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from jinja2 import Environment, TemplateSyntaxError
from jinja2.meta import find_undeclared_variables

from zhiling.construct.importing.jinja_values import Token, free_of, valued
from zhiling.construct.sandbox import compiled, literal
from zhiling.construct.sandbox_foreign import MUTATING, SEPARATOR, TRIM
from zhiling.errors import RecipeError, say

ENV = Environment(autoescape=False)  # for reading only: nothing is ever rendered with it
ENV.filters |= {name: str for name in ("choice", "most_frequent")}
_mutates = re.compile(rf"\.\s*(?:{'|'.join(MUTATING)})\s*\(")


@dataclass(slots=True)
class Piece:
    """Text, a shown expression `{{ }}` or a statement `{% %}`, as source."""

    kind: str
    source: str


@dataclass(slots=True)
class Block:
    """A block with its branches: (opening tag, what stands in it), and its closing tag."""

    kind: str
    branches: list[tuple[str, list[Part]]] = field(default_factory=list)
    end: str = ""


Part: TypeAlias = Piece | Block


def halves(jinja: str, answer_choices: str = "") -> tuple[str, str]:
    """The instruction and the output of a promptsource template, in our Jinja.

    Rendered and stripped they are what promptsource's own `apply` gives, but for what the sandbox refuses: RecipeError then.
    """
    tree, names = _read(jinja)
    if not _has_separator(tree):
        raise RecipeError(
            say(f"no {SEPARATOR} between prompt and answer", f"提示与答案之间没有 {SEPARATOR}"),
            mend=say("promptsource separates them so", "promptsource 用它分隔两者"),
        )
    before, after = _split(tree)
    choices = _choices(answer_choices) if answer_choices and "answer_choices" in names else ""
    return _finished(before, choices), _finished(_without_idle(after), choices)


def _read(jinja: str) -> tuple[list[Part], set[str]]:
    try:
        names = set(find_undeclared_variables(ENV.parse(jinja)))
        tokens = list(ENV.lex(jinja))
    except TemplateSyntaxError as error:
        raise RecipeError(say(f"not valid Jinja: {error.message}", f"Jinja 语法有误：{error.message}")) from error
    except RecursionError as error:
        raise RecipeError(say("nested too deeply", "嵌套过深")) from error
    free = free_of(names)
    root: list[Part] = []
    stack: list[tuple[Block | None, list[Part]]] = [(None, root)]
    for kind, source in _pieces([(kind, value) for _, kind, value in tokens], free):
        _placed(kind, source, stack)
    return root, names


def _pieces(tokens: Sequence[Token], free: frozenset[str]) -> Iterable[tuple[str, str]]:
    """(kind, source) of each piece, kind being "text", "show" or a statement's first word."""
    inner: list[Token] = []
    opening = ""
    for kind, value in tokens:
        if kind == "data":
            yield "text", literal(value) if opening == "raw" else value
        elif kind in ("variable_begin", "block_begin"):
            opening, inner = value, []
        elif kind == "variable_end":
            yield "show", opening + valued(inner, free) + value
            opening = ""
        elif kind == "block_end":
            word = next((text for sort, text in inner if sort == "name"), "")
            yield word, opening + valued(inner, free) + value
            opening = ""
        elif kind in ("raw_begin", "raw_end"):
            opening = "raw" if kind == "raw_begin" else ""
        elif opening and not kind.startswith("comment"):
            inner.append((kind, value))


def _placed(kind: str, source: str, stack: list[tuple[Block | None, list[Part]]]) -> None:
    block, here = stack[-1]
    if kind in ("if", "for") or (kind == "set" and "=" not in source):
        made = Block(kind, [(source, [])])
        here.append(made)
        stack.append((made, made.branches[0][1]))
    elif kind in ("elif", "else") and block is not None:
        block.branches.append((source, []))
        stack[-1] = (block, block.branches[-1][1])
    elif kind in ("endif", "endfor", "endset") and block is not None:
        block.end = source
        stack.pop()
    else:
        here.append(Piece(kind, source))


def _has_separator(parts: Iterable[Part]) -> bool:
    return any(
        SEPARATOR in part.source if isinstance(part, Piece) and part.kind == "text"
        else isinstance(part, Block) and any(_has_separator(body) for _, body in part.branches)
        for part in parts
    )  # fmt: skip


def _split(parts: list[Part]) -> tuple[list[Part], list[Part]]:
    """What stands before and after the separator. Statements that the second half may need stand in both."""
    for i, part in enumerate(parts):
        if not _has_separator([part]):
            continue
        rest = parts[i + 1 :]
        if isinstance(part, Piece):
            left, _, right = part.source.partition(SEPARATOR)
            if SEPARATOR in right or _has_separator(rest):
                raise RecipeError(
                    say(f"{SEPARATOR} stands more than once", f"{SEPARATOR} 出现多次"),
                    mend=say("one prompt, one answer", "应为一个提示、一个答案"),
                )
            return [*parts[:i], Piece("text", left)], [*_silent(parts[:i]), Piece("text", right), *rest]
        if part.kind != "if":
            what = say(f"{SEPARATOR} inside a '{part.kind}' block", f"{SEPARATOR} 位于“{part.kind}”块之中")
            raise RecipeError(what, mend=say("move it out of the block", "请移到块外"))
        asked, answered = _split_branches(part)
        later = _split(rest) if _has_separator(rest) else ([], rest)
        return [*parts[:i], asked, *later[0]], [*_silent(parts[:i]), answered, *later[1]]
    return parts, []


def _split_branches(block: Block) -> tuple[Block, Block]:
    asked, answered = Block("if", end=block.end), Block("if", end=block.end)
    for head, body in block.branches:
        before, after = _split(body)
        asked.branches.append((head, before))
        answered.branches.append((head, after))
    return asked, answered


def _silent(parts: Iterable[Part]) -> list[Part]:
    """Only what leaves something behind: assignments, and expressions that change a list."""
    kept: list[Part] = []
    for part in parts:
        if isinstance(part, Piece):
            if part.kind == "set" or _mutates.search(part.source):
                kept.append(part)
        elif part.kind == "set":
            kept.append(part)
        else:
            bodies = [(head, _silent(body)) for head, body in part.branches]
            if any(body for _, body in bodies):
                kept.append(Block(part.kind, bodies, part.end))
    return kept


def _without_idle(parts: list[Part]) -> list[Part]:
    """The parts without the leading assignments, where nothing after them uses any."""
    first = next((i for i, part in enumerate(parts) if isinstance(part, Piece) and part.kind == "text"), 0)
    lead, rest = parts[:first], parts[first:]
    if _silent(lead) != lead:
        return parts
    set_ = set(re.findall(r"\{%[-+]?\s*set\s+(\w+)", _source(lead)))
    used = set(re.findall(r"[^\W\d]\w*", _source([part for part in rest if not _is_text(part)])))
    return parts if set_ & used else rest


def _is_text(part: Part) -> bool:
    return isinstance(part, Piece) and part.kind == "text"


def _source(parts: Iterable[Part]) -> str:
    return "".join(
        part.source if isinstance(part, Piece)
        else "".join(head + _source(body) for head, body in part.branches) + part.end
        for part in parts
    )  # fmt: skip


def _finished(parts: list[Part], choices: str) -> str:
    text = _source(parts).strip()
    if choices and re.search(r"\banswer_choices\b", text):
        text = choices + text
    if text.startswith("{") or text.endswith("}"):
        text = TRIM + text
    compiled(text)
    return text


def _choices(expression: str) -> str:
    """The statement that sets `answer_choices` as promptsource makes it: rendered, cut at the separator, stripped."""
    tree, _ = _read(expression)
    if all(_is_text(part) for part in tree):
        words = (word.strip() for word in _source(tree).split(SEPARATOR))
        listed = ", ".join(_quoted(word) for word in words)
        return f"{{% set answer_choices = [{listed}] %}}"
    return f"{{% set answer_choices %}}{_source(tree)}{{% endset %}}{{% set answer_choices = answer_choices | parts %}}"


def _quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
