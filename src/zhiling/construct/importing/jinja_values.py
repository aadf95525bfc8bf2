"""Where a foreign template takes a variable for a list, a mapping, a number or a truth value: our rows are text, so it is told.

`label == 1` becomes `(label | typed) == 1`, `answers.text[0]` becomes `(answers | nested)["text"][0]`; `{{ question }}` stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

Token: TypeAlias = tuple[str, str]
"""(kind, source), as Jinja's lexer gives them."""

_LISTS = frozenset(
    ["join", "list", "choice", "random", "most_frequent", "first", "last", "length", "count", "reject", "select", "sort", "unique",
     "sum", "max", "min", "reverse", "map", "items", "dictsort"]
)  # fmt: skip
_NUMBERS = frozenset(["round", "abs", "int", "float", "tojson"])
_OF_LISTS = frozenset(["items", "keys", "values", "get", "index", "append", "extend", "update", "count"])
_COMPARE = frozenset(["==", "!=", "<", ">", "<=", ">="])
_COUNT = frozenset(["-", "*", "/", "//", "%", "+"])
_KEYWORDS = frozenset(
    [
        "if",
        "elif",
        "else",
        "and",
        "or",
        "not",
        "in",
        "is",
        "for",
        "set",
        "true",
        "false",
        "none",
        "True",
        "False",
        "None",
    ]
)


def free_of(names: Iterable[str]) -> frozenset[str]:
    """The variables that rows bring, of all that a template does not set itself."""
    return frozenset(names) - {"answer_choices", "range", "zip", "loop", "namespace"}


def valued(tokens: Sequence[Token], free: frozenset[str]) -> str:
    """The source of an expression or statement, its free variables made what they are used as and `x.name` written `x["name"]`."""
    solid = [i for i, (kind, _) in enumerate(tokens) if kind != "whitespace"]
    out = [value for _, value in tokens]
    words = [tokens[i][1] for i in solid]
    kinds = [tokens[i][0] for i in solid]
    inside = _inside(words)
    for at, i in enumerate(solid):
        if kinds[at] == "name" and words[at] in free and _is_variable(words, kinds, at):
            how = _use(words, kinds, at, inside[at], free)
            if how:
                out[i] = f"({words[at]} | {how})"
        elif words[at] == "." and kinds[at] == "operator" and _is_item(words, kinds, at):
            key = words[at + 1]
            out[i] = ""
            out[solid[at + 1]] = f"[{key}]" if key.isdigit() else f'["{key}"]'
    return "".join(out)


def _word(words: Sequence[str], at: int) -> str:
    return words[at] if 0 <= at < len(words) else ""


def _is_item(words: Sequence[str], kinds: Sequence[str], at: int) -> bool:
    """Whether the dot asks for an item: `answers.text`, and neither `text.lower()` nor `loop.index`."""
    if at + 1 >= len(words) or kinds[at + 1] not in ("name", "integer"):
        return False
    called = _word(words, at + 2) == "("
    return not called and not words[at + 1].startswith("_") and _word(words, at - 1) != "loop"


def _is_variable(words: Sequence[str], kinds: Sequence[str], at: int) -> bool:
    before, after = _word(words, at - 1), _word(words, at + 1)
    if before in (".", "|", "is") or (before == "not" and _word(words, at - 2) == "is"):
        return False
    return after not in ("(", "=")


def _inside(words: Sequence[str]) -> list[str]:
    """For each token what it stands directly inside of: "index", the name of the function called, or ""."""
    out, open_ = list[str](), [""]
    for at, word in enumerate(words):
        if word in (")", "]", "}") and len(open_) > 1:
            open_.pop()
        out.append(open_[-1])
        before = _word(words, at - 1)
        if word == "[":
            indexes = (
                before in (")", "]") or (before[-1:].isalnum() and before not in _KEYWORDS) or before[-1:] in "_\"'"
            )
            open_.append("index" if before and indexes else "list")
        elif word == "(":
            open_.append(before if before in ("range", "zip") else "")
        elif word == "{":
            open_.append("")
    return out


def _use(words: Sequence[str], kinds: Sequence[str], at: int, inside: str, free: frozenset[str]) -> str:
    """ "typed", "nested", or "" where the variable can stay text."""
    before, after = _word(words, at - 1), _word(words, at + 1)
    if after == "." and _word(words, at + 3) == "(":
        return "nested" if _word(words, at + 2) in _OF_LISTS else ""
    if after in (".", "["):
        return "nested"
    if after == "|":
        return "nested" if _word(words, at + 2) in _LISTS else "typed" if _word(words, at + 2) in _NUMBERS else ""
    if inside == "index" or inside == "range":
        return "typed"
    if before == "in" or inside == "zip":
        return "nested"
    if _beside(words, kinds, at, at + 1, at + 2, free) or _beside(words, kinds, at, at - 1, at - 2, free):
        return "typed"
    if after in ("", "and", "or", "else", ")") and (before in ("if", "elif", "not") or words[0] in ("if", "elif")):
        return "typed"  # asked whether it is true
    return "nested" if words[0] == "set" and before == "=" and not after else ""


def _beside(
    words: Sequence[str], kinds: Sequence[str], at: int, operator: int, other: int, free: frozenset[str]
) -> bool:
    """Whether the variable is compared or reckoned with something that is not text."""
    sign, against = _word(words, operator), _word(words, other)
    if sign in _COMPARE:
        if (
            operator < other
            and _word(words, other + 1) == "|"
            and _word(words, other + 2) in ("string", "lower", "upper", "trim")
        ):
            return False
        return bool(against) and kinds[other] != "string" and against not in free
    if sign == "+":
        return bool(against) and kinds[other] in ("integer", "float")
    return sign in _COUNT
