"""A regular expression read into nested parts; what no constrained decoder could hold a reply to is refused, with its place."""

from __future__ import annotations

import re
from typing import Any

from zhiling.errors import RecipeError, say
from zhiling.text import cut

MOST_REPEATS, DEEPEST = 1000, 40
Ranges = tuple[tuple[int, int], ...]

LAST = 0x10FFFF
ALL: Ranges = ((1, 0xD7FF), (0xE000, LAST))
"""All characters but NUL, which ends llama.cpp's texts, and halves of surrogate pairs, which UTF-8 does not have."""
_never: Ranges = ((0, 0), (0xD800, 0xDFFF))
_digit: Ranges = ((48, 57),)
_word: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_space: Ranges = ((9, 13), (32, 32))
_classes = {"d": _digit, "w": _word, "s": _space}
_letters = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11}
_hex = {"x": 2, "u": 4, "U": 8}
_repeat = re.compile(r"\{(\d{0,6})(,?)(\d{0,6})\}")


class Parser:
    """From the text of an expression to nested ("set", ranges), ("cat", nodes), ("alt", nodes), ("repeat", node, low, high or None)."""

    def __init__(self, regex: str) -> None:
        self.regex, self.at, self.depth = regex, 0, 0

    def branches(self) -> list[tuple[bool, Any, bool]]:
        """The alternatives of the whole expression: (begins with ^, node, ends with $)."""
        out = []
        while True:
            begins = self._take("^")
            node = self._sequence()
            out.append((begins, node, self._take("$")))
            if self.at == len(self.regex):
                return out
            if not self._take("|"):
                raise self._wrong("a parenthesis too many", "多了一个括号")

    def _sequence(self) -> Any:
        nodes = []
        while self.at < len(self.regex) and self.regex[self.at] not in "|)":
            if self.regex[self.at] == "$" and self.depth == 0 and self.regex[self.at + 1 : self.at + 2] in ("", "|"):
                break
            nodes.append(self._repeated(self._atom()))
        return ("cat", nodes)

    def _atom(self) -> Any:
        char = self.regex[self.at]
        self.at += 1
        if char == "(":
            return self._group()
        if char == "[":
            return ("set", self._class())
        if char == ".":
            return ("set", without(ALL, ((10, 10),)))
        if char == "\\":
            return ("set", self._escape())
        if char in "*+?":
            self.at -= 1
            raise self._wrong(f"nothing before '{char}'", f"“{char}”之前没有内容")
        if char in "^$":
            self.at -= 1
            raise self._wrong(
                f"'{char}' inside the expression (write \\{char})", f"表达式中间有“{char}”（请写 \\{char}）"
            )
        return ("set", _only(ord(char)))

    def _group(self) -> Any:
        if self._take("?") and not self._take(":"):
            named = re.compile(r"P?<[A-Za-z_]\w*>").match(self.regex, self.at)
            if not named:
                raise self._wrong("look-around, flags and the like", "不支持环视、标志等写法")
            self.at = named.end()
        self.depth += 1
        if self.depth > DEEPEST:
            raise self._wrong("parentheses nested too deep", "括号嵌套过深")
        nodes = [self._sequence()]
        while self._take("|"):
            nodes.append(self._sequence())
        self.depth -= 1
        if not self._take(")"):
            raise self._wrong("a parenthesis is not closed", "括号没有闭合")
        return ("alt", nodes)

    def _repeated(self, node: Any) -> Any:
        """The node with the quantifiers that follow it. Lazy ones say the same of a whole text."""
        while self.at < len(self.regex):
            char = self.regex[self.at]
            if char in "*+?":
                self.at += 1
                node = ("repeat", node, 1 if char == "+" else 0, 1 if char == "?" else None)
            elif char == "{" and (found := _repeat.match(self.regex, self.at)) and found.group() != "{}":
                low = int(found[1] or 0)
                high = low if not found[2] else int(found[3]) if found[3] else None
                if max(low, high or 0) > MOST_REPEATS or (high is not None and high < low):
                    en, zh = f"a repetition out of order or above {MOST_REPEATS}", f"重复次数颠倒或超过 {MOST_REPEATS}"
                    raise self._wrong(en, zh)
                self.at = found.end()
                node = ("repeat", node, low, high)
            else:
                return node
            self._take("?")
        return node

    def _escape(self) -> Ranges:
        if self.at == len(self.regex):
            raise self._wrong("a backslash at the end", "末尾有反斜杠")
        char = self.regex[self.at]
        self.at += 1
        if char in _classes:
            return _classes[char]
        if char.lower() in _classes:
            return without(ALL, _classes[char.lower()])
        code = _letters.get(char, ord(char))
        if char in _hex:
            digits = self.regex[self.at : self.at + _hex[char]]
            if not re.fullmatch(rf"[0-9A-Fa-f]{{{_hex[char]}}}", digits) or int(digits, 16) > LAST:
                raise self._wrong(f"\\{char} without its digits", f"\\{char} 后缺少十六进制数字")
            self.at += len(digits)
            code = int(digits, 16)
        elif char not in _letters and (char.isalnum() and char.isascii()):
            self.at -= 1
            raise self._wrong(f"'\\{char}'", f"不支持“\\{char}”")
        return _only(code)

    def _class(self) -> Ranges:
        negated, start = self._take("^"), self.at
        found: list[tuple[int, int]] = []
        while True:
            if self.at >= len(self.regex):
                raise self._wrong("a bracket is not closed", "方括号没有闭合")
            if self.regex[self.at] == "]" and self.at > start:
                self.at += 1
                break
            low = self._member()
            if self.regex[self.at : self.at + 1] == "-" and self.regex[self.at + 1 : self.at + 2] not in ("", "]"):
                self.at += 1
                high = self._member()
                if not (_single(low) and _single(high)) or high[0][1] < low[0][0]:
                    raise self._wrong("a range out of order", "字符范围颠倒")
                low = ((low[0][0], high[0][1]),)
            found += low
        return without(ALL, tuple(found)) if negated else without(tuple(found), _never)

    def _member(self) -> Ranges:
        char = self.regex[self.at]
        self.at += 1
        return self._escape() if char == "\\" else _only(ord(char))

    def _take(self, char: str) -> bool:
        if self.regex[self.at : self.at + 1] != char:
            return False
        self.at += 1
        return True

    def _wrong(self, en: str, zh: str) -> RecipeError:
        return refused(self.regex, f"{en}, at character {self.at + 1}", f"{zh}（第 {self.at + 1} 个字符）")


def refused(regex: str, en: str, zh: str) -> RecipeError:
    shown = cut(regex, 60)
    return RecipeError(
        say(f"a reply cannot be held to /{shown}/: {en}", f"无法用 /{shown}/ 约束回复：{zh}"),
        where="regex",
        mend=say(
            "use literals, [classes], groups, |, * + ? {n,m}, \\d \\w \\s",
            "可用：普通字符、[字符类]、分组、|、* + ? {n,m}、\\d \\w \\s",
        ),
    )


def _only(code: int) -> Ranges:
    return without(((code, code),), _never)


def _single(ranges: Ranges) -> bool:
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]


def without(whole: Ranges, gone: Ranges) -> Ranges:
    out = list(whole)
    for low, high in gone:
        out = [part for a, b in out for part in ((a, min(b, low - 1)), (max(a, high + 1), b)) if part[0] <= part[1]]
    return tuple(out)
