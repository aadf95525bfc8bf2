"""From a model's prose to a value: JSON, numbered lists and choices, in Chinese and English. Nothing here asks a model anything."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from zhiling import text as texts
from zhiling.llm.pattern import Pattern

_fence = re.compile(r"```[\w+-]*[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_thinking = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
# "1." "1)" "(1)" "1、" "（一）" "一、" "第一，" "①" "-" "*" "•", at the start of a line.
_number = r"(?:\d{1,3}|[一二三四五六七八九十百]{1,4})"
_bullet = re.compile(
    rf"^\s*(?:[(（]\s*{_number}\s*[)）]|\d{{1,3}}\s*[.．)）:：、](?!\d)|[一二三四五六七八九十]{{1,3}}\s*[、.．)）:：]|"
    rf"第{_number}[条项个点步]?\s*[、,，:：]|[①-⑳]|[-*•·●◦]\s|[-•·●◦](?=\S))\s*"
)
_bold = re.compile(r"\A\*\*(.+?)\*\*\s*[:：]?\s*\Z")
_quotes = {'"': '"', "“": "”", "「": "」", "『": "』", "'": "'", "‘": "’", "`": "`"}


SEARCHED = 2000
"""Characters of a reply in which a match is looked for: the search may take the square of its length."""


class Parsed(NamedTuple):
    """A JSON value and whether the text had to be repaired to get it."""

    value: Any
    repaired: bool


def json_value(text: str) -> Parsed:
    """The JSON value in a reply: bare, fenced, with prose around it, or broken or cut off and then repaired.

    Raises ValueError when the reply holds no object or array at all (an empty repair is not an answer).
    """
    body = _thinking.sub("", text).strip()
    blocks = _fence.findall(body)
    for whole in (body, *blocks):
        with suppress(ValueError, RecursionError):
            return Parsed(json.loads(whole), False)
    start = min((i for i in (body.find("{"), body.find("[")) if i >= 0), default=-1)
    if start < 0:
        raise ValueError("no JSON object or array in the reply")
    with suppress(ValueError, RecursionError):
        return Parsed(json.JSONDecoder().raw_decode(body, start)[0], False)
    from json_repair import repair_json

    broken = next((block for block in blocks if "{" in block or "[" in block), body[start:])
    try:
        value = repair_json(broken, return_objects=True)
    except RecursionError:
        value = None
    if not isinstance(value, (dict, list)) or not value:
        raise ValueError("the reply's JSON is beyond repair")
    return Parsed(value, True)


def items(text: str) -> list[str]:
    """The items of a list a model wrote, one per numbered or bulleted line; continuation lines are joined to their item.

    Text before the first marker ("Here are five instructions:") is not an item. Where no line carries a marker, every
    non-empty line is one. Wrapping quotes and bold marks are taken off; order is kept, exact repeats are dropped.
    """
    lines = _thinking.sub("", text).strip().splitlines()
    marked = [bool(_bullet.match(line)) for line in lines]
    found: list[str] = []
    if not any(marked):
        found = [line.strip() for line in lines]
    else:
        for line, mark in zip(lines, marked, strict=True):
            if mark:
                found.append(_bullet.sub("", line, count=1).strip())
            elif found and line.strip() and line[:1].isspace():
                found[-1] = f"{found[-1]} {line.strip()}".strip()
    return list(dict.fromkeys(clean for item in found if (clean := unquote(item))))


def unquote(text: str) -> str:
    """The text without quotes or bold marks that wrap the whole of it."""
    text = text.strip()
    if bold := _bold.match(text):
        text = bold.group(1).strip()
    if len(text) >= 2 and _quotes.get(text[0]) == text[-1] and text[0] not in text[1:-1] and text[-1] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def choice(text: str, choices: Sequence[str]) -> str | None:
    """Which of the choices a reply names, or None when it names none or several.

    In order: the reply is the choice; its first line is; a letter or number that stands for it ("B", "(2)"), when the choices are
    not themselves of that form; exactly one choice occurs in the reply as whole words (in Chinese: as a substring).
    """
    said = _thinking.sub("", text)
    known = {texts.normalise(one): one for one in choices}
    for part in (said, said.strip().split("\n")[0]):
        bare = texts.normalise(unquote(_answer_prefix.sub("", part.strip()))).strip(" .。!！,，;；:：\"'“”")
        if bare in known:
            return known[bare]
    if pick := _pick.match(said.strip()):
        mark = pick.group(1)
        index = int(mark) - 1 if mark.isdigit() else ord(mark.upper()) - ord("A")
        if 0 <= index < len(choices) and texts.normalise(mark) not in known:
            return choices[index]
    whole = texts.normalise(said)
    named = [norm for norm in known if norm and re.search(_whole_word(norm), whole)]
    longest = [norm for norm in named if not any(norm != other and norm in other for other in named)]
    return known[longest[0]] if len(longest) == 1 else None


def matching(text: str, pattern: Pattern) -> str | None:
    """The text that matches the pattern as a whole, out of a reply; None when there is none, or several that differ.

    In order: the reply itself; without white space, quotes, a fence or "answer:" around it; its first line likewise; the one match
    within its first SEARCHED characters that stands alone, as a letter inside a longer word answers nothing.
    """
    said = _thinking.sub("", text).strip()
    bare = _answer_prefix.sub("", said)
    lines = [part.split("\n")[0].strip() for part in (said, bare)]
    for part in (text, said, *(block.strip() for block in _fence.findall(said)), bare, *lines):
        for one in (part, unquote(part)):
            if pattern.matches(one):
                return one
    found, at, cut_off = dict[str, None](), 0, len(said) > SEARCHED
    said = said[:SEARCHED]
    while at < len(said):
        end = pattern.longest(said, at)
        if cut_off and end == len(said):
            return None  # where the match ends is not known
        if end > at and not _glued(said, at) and not _glued(said, end):
            found[said[at:end]] = None
            at = end
        else:
            at += 1
    return next(iter(found)) if len(found) == 1 else None


def _glued(text: str, at: int) -> bool:
    """Whether this border lies inside an ASCII word or number."""
    return 0 < at < len(text) and all(char.isascii() and char.isalnum() for char in (text[at - 1], text[at]))


_answer_prefix = re.compile(
    r"\A(?:the\s+)?(?:answer|label|choice|category|答案|标签|选项|类别)\s*(?:is|是|为)?\s*[:：]?\s*", re.IGNORECASE
)
_pick = re.compile(r"\A[(（]?([A-Za-z]|\d{1,2})[)）.．、:：]?(?:\s|\Z)")


def _whole_word(norm: str) -> str:
    edge = r"[0-9a-z]"
    left = rf"(?<!{edge})" if re.match(edge, norm[0]) else ""
    right = rf"(?!{edge})" if re.match(edge, norm[-1]) else ""
    return left + re.escape(norm) + right
