"""Whether an answer keeps the conditions that its instruction sets and that can be counted: length, terms, language, form."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from zhiling.errors import say
from zhiling.numerals import number
from zhiling.registry import verifier
from zhiling.text import HAN, lang, normalise, sentences
from zhiling.types import Example, Score

_words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_EN = {word: at for at, word in enumerate(_words, 1)} | {"single": 1, "fifteen": 15, "twenty": 20, "fifty": 50}
_n = r"(\d{1,5}|" + "|".join(sorted(_EN, key=len, reverse=True)) + r")"
_z = r"(\d{1,5}|[一二两三四五六七八九十百]{1,4})"
_unit = r"(words?|sentences?|paragraphs?|characters?|lines?|bullet points?|bullets|items?|points?|stanzas?)"
_zunit = r"个?\s*(字|词|句话?|段话?|行|条|点|项|个要点)"
_quote = r"[\"'“‘「『《]([^\"'”’」』》\n]{1,40})[\"'”’」』》]"
ABOUT = 0.2
"""How far "about 100 words" may be missed, as a share."""


class Check(NamedTuple):
    """One condition: what it is called, and what is wrong with an answer under it ("" where nothing is)."""

    name: str
    fault: Callable[[str], str]


@verifier(
    "constraints", families=("news", "novel", "poetry", "other"), langs=("zh", "en"), paper="IFEval (Zhou et al. 2023)"
)
def constraints(examples: Sequence[Example], *, least: int = 1) -> Iterator[Score]:
    """Every condition of the instruction that can be counted holds in the answer.

    Read are, in zh and en: at least / at most / exactly / between / about N words, characters (字), sentences, lines, paragraphs or points;
    words that must or must not come up (in quotes); what it begins or ends with; the language; all in capitals or lower case; JSON. Words
    are counted as people count them: 字 are Chinese characters and words of other scripts. None where an instruction sets fewer than `least`.
    """
    for row in examples:
        checks = conditions(row.instruction)
        if len(checks) < least:
            why = say("the instruction sets no condition that can be counted", "指令没有可以核对的条件")
            yield Score(row.id, "constraints", None, why)
            continue
        faults = [f"{check.name}: {fault}" for check in checks if (fault := check.fault(row.output))]
        if not row.output.strip():
            faults = [say("the answer is empty", "回答为空")]
        why = "; ".join(faults) or say(f"{len(checks)} conditions hold", f"满足 {len(checks)} 个条件")
        yield Score(row.id, "constraints", float(not faults), why)


def conditions(instruction: str) -> list[Check]:
    """The conditions of an instruction, in the order of the kinds; none of a kind that it does not mention."""
    return [
        *_lengths(instruction),
        *_terms(instruction),
        *_edges(instruction),
        *_language(instruction),
        *_shape(instruction),
    ]


def _lengths(text: str) -> Iterator[Check]:
    rest = text
    for pattern, low, high in _RANGES:
        for found in re.finditer(pattern, rest, re.IGNORECASE):
            parts = [part for part in found.groups() if part]
            numbers = [value for part in parts[:-1] if (value := _number(part))]
            if not numbers or len(parts) < 2:
                continue
            unit = _UNITS[re.sub(r"[话个要s]+$|^个要", "", parts[-1].lower().replace("bullet ", "")) or "点"]
            yield _length(found.group(), unit, low(numbers), high(numbers))
        rest = re.sub(pattern, lambda m: " " * len(m.group()), rest, flags=re.IGNORECASE)


_UNITS = {
    "word": "word", "sentence": "sentence", "paragraph": "paragraph", "character": "char", "line": "line", "bullet": "item", "item": "item",
    "point": "item", "stanza": "paragraph",
    "字": "word", "词": "word", "句": "sentence", "段": "paragraph", "行": "line", "条": "item", "点": "item", "项": "item",
}  # fmt: skip
_Bound = Callable[[list[int]], float]
_least: _Bound = min
_most: _Bound = max
_none: _Bound = lambda _: 0.0  # noqa: E731
_any: _Bound = lambda _: float("inf")  # noqa: E731
_RANGES: tuple[tuple[str, _Bound, _Bound], ...] = (
    (rf"\b(?:between\s+)?{_n}\s*(?:and|to|-|–)\s*{_n}\s+{_unit}\b", _least, _most),
    (rf"{_z}\s*(?:到|至|-|–|—|~|～)\s*{_z}\s*{_zunit}", _least, _most),
    (rf"\b(?:about|around|approximately|roughly)\s+{_n}\s+{_unit}\b", lambda n: n[0] * (1 - ABOUT), lambda n: n[0] * (1 + ABOUT)),
    (rf"(?:大约|约|左右)\s*{_z}\s*{_zunit}|{_z}\s*{_zunit}左右", lambda n: n[0] * (1 - ABOUT), lambda n: n[0] * (1 + ABOUT)),
    (rf"\b(?:at least|no (?:fewer|less) than|a minimum of|more than|over)\s+{_n}\s+{_unit}\b|\b{_n}\s+{_unit}\s+or more\b", _least, _any),
    (rf"(?:至少|不少于|不低于|超过(?<!不超过))\s*{_z}\s*{_zunit}|{_z}\s*{_zunit}以上", _least, _any),
    (r"\b(?:at most|no (?:more|longer) than|not exceed(?:ing)?|a maximum of|fewer than|less than|under|within|up to|limited to)"
     rf"\s+{_n}\s+{_unit}\b|\b{_n}\s+{_unit}\s+or (?:less|fewer)\b", _none, _most),
    (rf"(?:不超过|不多于|最多|少于|控制在|限)\s*{_z}\s*{_zunit}(?:以内|之内)?|{_z}\s*{_zunit}(?:以内|之内|以下)", _none, _most),
    (rf"\b(?:exactly|in|using|with|of|write|give|list)\s+(?:exactly\s+)?{_n}\s+(?:short\s+)?{_unit}\b", _least, _most),
    (rf"(?:恰好|正好|刚好|用|以|写|列出|给出|分成|共)\s*{_z}\s*{_zunit}(?!左右|以)", _least, _most),
)  # fmt: skip


def _length(name: str, unit: str, low: float, high: float) -> Check:
    def fault(text: str) -> str:
        count = counted(text, unit)
        if low <= count <= high:
            return ""
        return say(f"it has {count}", f"实际为 {count}")

    return Check(" ".join(name.split()), fault)


def counted(text: str, unit: str) -> int:
    """How many of a unit a text has. A word is a Chinese character or a run of other letters and digits; a character is no white space."""
    if unit == "word":
        return len(re.findall(rf"[{HAN}]|[^\W_{HAN}]+(?:['’-][^\W_{HAN}]+)*", text))
    if unit == "char":
        return len(re.sub(r"\s", "", text))
    if unit == "sentence":
        return len(sentences(text))
    lines = [line for line in text.splitlines() if line.strip()]
    if unit == "item":
        marked = [
            line
            for line in lines
            if re.match(r"\s*(?:[-*•·]|\d{1,2}[.)、．]|[（(]?[一二三四五六七八九十\d]+[)）、])\s*\S", line)
        ]
        return len(marked or lines)
    return len(lines) if unit == "line" else len([part for part in re.split(r"\n\s*\n", text) if part.strip()])


def _number(text: str) -> int:
    return _EN[text.lower()] if text.lower() in _EN else number(text) or 0


_must = re.compile(
    r"(?<!not )(?<!n't )(?<!avoid )(?<!without )\b(?:includ(?:e|es|ing)|mention(?:ing)?|contain(?:s|ing)?|using|use) (?:the )?"
    rf"(?:words?|terms?|phrases?|names?|keywords?)\s*:?\s*((?:{_quote}(?:\s*(?:,|and|、)\s*)*)+)"
    r"|(?<!不)(?<!不[要得能可])(?<!避免)(?<!禁止)(?:包含|包括|含有|出现|使用|用上|提到)(?:词语|关键词|词|字)?\s*[:：]?"
    rf"\s*((?:{_quote}(?:\s*[、,，和与]\s*)*)+)",
    re.IGNORECASE,
)
_ban = re.compile(
    r"\b(?:without (?:using|mentioning)|(?:do not|don't|never) (?:use|mention|include)|avoid(?: using)?) (?:the )?"
    r"(?:words?|terms?|phrases?)?\s*"
    rf"((?:{_quote}(?:\s*(?:,|and|or|、)\s*)*)+)"
    rf"|(?:不要|不能|不得|禁止|避免|不可)(?:使用|出现|提到|包含|用)(?:词语|词|字)?\s*((?:{_quote}(?:\s*[、,，和或]\s*)*)+)",
    re.IGNORECASE,
)


def _terms(text: str) -> Iterator[Check]:
    for pattern, wanted in ((_must, True), (_ban, False)):
        for found in pattern.finditer(text):
            for term in re.findall(_quote, found.group()):
                yield _term(term, wanted)


def _term(term: str, wanted: bool) -> Check:
    def fault(text: str) -> str:
        there = normalise(term) in normalise(text)
        return "" if there == wanted else say("missing", "缺失") if wanted else say("it is there", "出现了")

    return Check(f'"{term}"' if wanted else say(f'no "{term}"', f"不含“{term}”"), fault)


def _edges(text: str) -> Iterator[Check]:
    for pattern, at_end in (
        (
            rf"\b(?:begin|start)(?:s|ning|ing)? with (?:the (?:words?|phrase|sentence) )?{_quote}|以{_quote}(?:开头|开始)",
            False,
        ),
        (
            rf"\b(?:end|finish|conclude)(?:s|ing)? with (?:the (?:words?|phrase|sentence) )?{_quote}|以{_quote}(?:结尾|结束|收尾)",
            True,
        ),
    ):
        for found in re.finditer(pattern, text, re.IGNORECASE):
            yield _edge(found.group(), next(part for part in found.groups() if part), at_end)


def _edge(name: str, part: str, at_end: bool) -> Check:
    def fault(text: str) -> str:
        body, wanted = (re.sub(r"^\W+|\W+$", "", normalise(one)) for one in (text, part))
        fine = body.endswith(wanted) if at_end else body.startswith(wanted)
        return "" if fine else say("it does not", "不是")

    return Check(name, fault)


def _language(text: str) -> Iterator[Check]:
    for pattern, code in (
        (
            r"\b(?:write|answer|reply|respond)\b[^.\n]{0,30}\bin english\b|(?:用|以)(?:英文|英语)(?:写|回答|作答|回复|撰写)",
            "latin",
        ),
        (
            r"\b(?:write|answer|reply|respond)\b[^.\n]{0,30}\bin chinese\b|(?:用|以)(?:中文|汉语)(?:写|回答|作答|回复|撰写)",
            "zh",
        ),
    ):
        if found := re.search(pattern, text, re.IGNORECASE):
            yield Check(found.group(), _spoken(code))


def _spoken(code: str) -> Callable[[str], str]:
    return lambda text: (
        "" if lang(text) == code else say(f"it is in {lang(text) or '-'}", f"实际语言：{lang(text) or '-'}")
    )


def _shape(text: str) -> Iterator[Check]:
    for pattern, holds in _SHAPES:
        if found := re.search(pattern, text, re.IGNORECASE):
            yield Check(found.group(), _shaped(holds))


def _shaped(holds: Callable[[str], bool]) -> Callable[[str], str]:
    return lambda text: "" if holds(text) else say("it does not", "不符合")


def _is_json(text: str) -> bool:
    fenced = re.search(r"```(?:json)?\s*\n(.*?)```", text, re.DOTALL)
    try:
        return isinstance(json.loads(fenced[1] if fenced else text), (dict, list))
    except (ValueError, RecursionError):
        return False


_SHAPES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    (r"\b(?:all|entirely|only) in (?:capital letters|capitals|uppercase)\b|\ball capital letters\b|全部(?:使?用)?大写",
     lambda t: t.upper() == t),
    (r"\b(?:all|entirely|only) in (?:lower ?case|lowercase letters)\b|\ball lowercase\b|全部(?:使?用)?小写", lambda t: t.lower() == t),
    (r"\b(?:as|in|return|valid) (?:a |an )?(?:valid )?json\b|(?:以|用|返回|输出)\s*JSON", _is_json),
    (r"\b(?:no|without) commas?\b|不(?:要|得|能)?(?:使)?用逗号", lambda t: "," not in t and "，" not in t),
)  # fmt: skip
