"""Whether an answer can be a translation of its text: language, length, numbers, and what is never translated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Annotated

from annotated_types import Gt

from zhiling.errors import say
from zhiling.numerals import SIGNS, han_value
from zhiling.registry import verifier
from zhiling.text import CJK, lang, length, normalise
from zhiling.types import Example, Score

RATIO = (0.45, 2.2)
"""Least and most length of a translation, measured in the text's own, once one English word is taken for 1.7 Chinese characters."""
_PER = {"zh": 1.0, "ja": 1.0, "ko": 1.0}
WORD = 1.7  # Chinese characters that say what one word of another language does: the mean of news translated by people
SHORT = 6  # up to so many characters' worth, one word more or less is half the length: no limits; up to four times that, wider ones

_fixed = re.compile(
    r"https?://[^\s\u3000-\u9fff，。）)\"']+|[\w.+-]+@[\w-]+\.[\w.]+|`[^`\n]+`|\{\{?\w+\}?\}|%[sd]|<[a-zA-Z/][^<>]*>"
)
_number = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
_zh_number = re.compile(r"(\d+(?:\.\d+)?)\s*(百万|千万|亿|万|千|百)(?!\d)")
_en_number = re.compile(r"(\d+(?:\.\d+)?)\s*(hundred|thousand|million|billion|trillion|k|m|bn)\b", re.IGNORECASE)
_SCALE = {
    "百": 100, "千": 1000, "万": 10**4, "百万": 10**6, "千万": 10**7, "亿": 10**8, "hundred": 100, "thousand": 1000, "million": 10**6,
    "billion": 10**9, "trillion": 10**12, "k": 1000, "m": 10**6, "bn": 10**9,
}  # fmt: skip
_asked_for = {
    "zh": r"(?:into|to) (?:simplified |traditional )?chinese|(?:译|翻译|翻)(?:成|为|作)(?:简体|繁体)?(?:中文|汉语)"
    r"|english (?:to|-) ?chinese|英译中|英译汉",
    "latin": r"(?:into|to) english|(?:译|翻译|翻)(?:成|为|作)(?:英文|英语)|chinese (?:to|-) ?english|中译英|汉译英",
    "ja": r"(?:into|to) japanese|(?:译|翻译|翻)(?:成|为|作)(?:日文|日语)",
}


@verifier(
    "translation",
    families=("translation",),
    langs=("zh", "en"),
    paper="parallel corpus filters: Koehn et al. 2020 (WMT)",
)
def translation(
    examples: Sequence[Example],
    *,
    to: str = "",
    least: Annotated[float, Gt(0)] = RATIO[0],
    most: Annotated[float, Gt(0)] = RATIO[1],
) -> Iterator[Score]:
    """The answer is in the language asked for, of a length a translation has, and keeps numbers, addresses, code and marks as they are.

    `to` ("zh", "en", "ja", ...) or the instruction names the language; else it must be another script than the text's. Length is compared
    between `least` and `most` once 1 English word counts as 1.7 Chinese characters. Numbers may change their form (1.2 million, 120万) and
    small ones may become words. 0.0 for a copy of the text. None where the row has no text to translate. Meaning is not checked.
    """
    for row in examples:
        text = row.input or _quoted(row.instruction)
        if not length(text):
            yield Score(row.id, "translation", None, say("there is no text to translate", "没有待译文本"))
            continue
        fault = judged(text, row.output, _target(row, to), least, most)
        yield Score(row.id, "translation", float(not fault), fault)


def _quoted(text: str) -> str:
    """The text within an instruction: what follows its colon or stands in quotes."""
    found = re.search(r"[“\"「]([^”\"」]{2,})[”\"」]|[:：]\s*(\S.*)\Z", text, re.DOTALL)
    return (found[1] or found[2]) if found else ""


def _target(row: Example, to: str) -> str:
    if to:
        return {"en": "latin"}.get(to, to)
    return next((code for code, words in _asked_for.items() if re.search(words, row.instruction, re.IGNORECASE)), "")


def judged(text: str, answer: str, target: str = "", least: float = RATIO[0], most: float = RATIO[1]) -> str:
    """What speaks against an answer as a translation of a text; "" where nothing does. `target` is a code of `text.lang`, "" for any other."""
    if not length(answer):
        return say("there is no translation", "没有译文")
    was, now = lang(text), lang(answer)
    if normalise(text) == normalise(answer) and length(text) > 2:
        return say("it is the text itself", "与原文相同")
    if was and now and ((target and now != target) or (not target and now == was and was != "latin")):
        wanted = target or say("another language", "其他语言")
        return say(f"it is in {now}, not {wanted}", f"语言为 {now}，应为 {wanted}")
    size, other = _size(text), _size(answer)
    slack = 1.0 if max(size, other) > 4 * SHORT else 1.5 if max(size, other) > SHORT else float("inf")
    if not least / slack <= other / size <= most * slack:
        return say(f"its length is {other / size:.1f} of the text's", f"长度为原文的 {other / size:.1f} 倍")
    if lost := [part for part in _fixed.findall(text) if part not in answer]:
        return say(f"lost: {lost[0]}", f"丢失：{lost[0]}")
    if lost_number := missing_numbers(text, answer):
        return say(f"the number {lost_number} is lost", f"丢失数字 {lost_number}")
    if new := missing_numbers(answer, text):
        return say(f"the number {new} is not in the text", f"原文没有数字 {new}")
    return ""


def _size(text: str) -> float:
    """Length in Chinese characters' worth."""
    cjk = len(re.findall(f"[{CJK}]", text))
    return cjk + WORD * (length(text) - cjk)


def missing_numbers(text: str, other: str) -> str:
    """A number of a text that another text does not have in any form, as written; "" where all are there. Those up to twelve may be words."""
    known = _values(other) | _worded(other)
    for written, forms in _numbers(text):
        if not forms & known and max(forms) > 12:
            return written
    return ""


def _numbers(text: str) -> Iterator[tuple[str, set[Fraction]]]:
    """Each number as written with the values that it may mean: as it stands, and with the word of scale behind it."""
    scaled = {found.start(1): found for pattern in (_zh_number, _en_number) for found in pattern.finditer(text)}
    for found in _number.finditer(text):
        value = Fraction(found.group().replace(",", ""))
        forms = {value}
        if (more := scaled.get(found.start())) is not None:
            forms = {value * _SCALE[more[2].lower()], value}
        yield found.group(), forms


def _values(text: str) -> set[Fraction]:
    return {value for _, forms in _numbers(text) for value in forms}


_UNITS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty
"""
_WORDS = {word: at for at, word in enumerate(_UNITS.split())}
_WORDS |= {
    word: 10 * at
    for at, word in enumerate(("thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred"), 3)
}
_han_number = re.compile(f"[{SIGNS}]+")


def _worded(text: str) -> set[Fraction]:
    """Values that a text says in words: "fifty-three", 五十三, 二〇一九."""
    out = set()
    for found in re.findall(r"[a-z]+(?:-[a-z]+)?", text.lower()):
        parts = [_WORDS[part] for part in found.split("-") if part in _WORDS]
        if parts:
            out.add(Fraction(sum(parts)))
    for said in _han_number.findall(text):
        out.add(Fraction(han_value(said)))
    return out
