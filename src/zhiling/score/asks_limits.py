"""Asks that cannot all be met: the limits that an instruction sets, and where they leave no room."""

from __future__ import annotations

import re

from zhiling.numerals import number
from zhiling.text import cut

_WORDS = {
    word: at
    for at, word in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])
} | {
    "a": 1,
    "single": 1,
}
_NUMBER = r"(\d{1,6}|one|two|three|four|five|six|seven|eight|nine|ten)"
_UNIT = r"(words?|sentences?|paragraphs?|characters?|lines?|items?|bullet points?|examples?)"
_ZH_NUMBER = r"(\d{1,6}|[一二两三四五六七八九十百])"
_ZH_UNIT = r"个?(字|词|句话?|句|段|行|点|条|例子)"
_least = re.compile(
    rf"\b(?:at least|no (?:fewer|less) than|not less than|a minimum of|minimum|more than|over|exceed(?:ing)?) {_NUMBER} {_UNIT}\b"
    rf"|(?<!不)(?:不少于|至少|不低于|超过|多于)\s*{_ZH_NUMBER}\s*{_ZH_UNIT}",
    re.IGNORECASE,
)
_most = re.compile(
    rf"\b(?:at most|no (?:more|longer) than|not more than|not exceed(?:ing)?|a maximum of|maximum|fewer than|less than|under|within"
    rf"|up to|in|using(?: only)?|with(?: only)?) "
    rf"(?:only |just |exactly |a )?(\d{{1,6}}|one|two|three|four|five|six|seven|eight|nine|ten|single) {_UNIT}(?: or (?:less|fewer))?\b"
    rf"|(?:不超过|不多于|最多|少于|控制在|限)\s*{_ZH_NUMBER}\s*{_ZH_UNIT}|(?:用|以)(一)个?(字|词|句话)(?=回答|概括|总结|描述|说明|介绍"
    rf"|解释|说|形容)"
    rf"|{_ZH_NUMBER}\s*{_ZH_UNIT}(?:以内|之内|以下)",
    re.IGNORECASE,
)
_SIZE = {"word": 1, "sentence": 15, "paragraph": 60, "字": 1, "词": 2, "句": 15, "句话": 15, "段": 60}
_only_json = re.compile(
    r"\b(?:only|just|nothing but) (?:\w+ ){0,3}(?:valid )?(?:json|a number|yes or no)\b|\b(?:json|yes or no|number) only\b"
    r"|\bno (?:explanation|other text|additional text|commentary)\b|(?:只|仅)(?:需|要|能|用|返回|输出|回答|给出){1,3}(?:json|是或否"
    r"|“是”或“否”|数字|答案|一个数字)|不要(?:任何)?解释",
    re.IGNORECASE,
)
_explain = re.compile(
    r"\b(?:and|then|also|followed by)(?: \w+){0,2} (?:an? )?(?:explain|explanation|justify|describe in detail|discuss|elaborate)\b"
    r"|\bexplain (?:your|the) (?:reasoning|answer|choice)\b"
    r"|(?:并|然后|同时|再|还要)(?:请)?(?:详细)?(?:解释|说明|阐述|论述)(?:理由|原因|你的|为什么|一下)?",
    re.IGNORECASE,
)
_negated = re.compile(r"\b(?:don't|do not|without|no|never)\b[^.;]*$|不(?:要|需|用|必)[^。；，]*$", re.IGNORECASE)
_tongues = {
    "en": re.compile(
        r"\bonly in english\b|\bin english only\b|(?:只|仅)(?:能|可以?|许)?(?:使?用|以)(?:英文|英语)", re.IGNORECASE
    ),
    "zh": re.compile(
        r"\bonly in chinese\b|\bin chinese only\b|(?:只|仅)(?:能|可以?|许)?(?:使?用|以)(?:中文|汉语)", re.IGNORECASE
    ),
}
_answers_in = {
    "en": re.compile(
        r"\b(?:answer|respond|reply|write)\b[^.\n]{0,30} in english\b|用(?:英文|英语)(?:回答|写|作答|回复)",
        re.IGNORECASE,
    ),
    "zh": re.compile(
        r"\b(?:answer|respond|reply|write)\b[^.\n]{0,30} in chinese\b|用(?:中文|汉语)(?:回答|写|作答|回复)",
        re.IGNORECASE,
    ),
}
_banned = re.compile(
    r"\b(?:without (?:using|mentioning)|do not (?:use|mention|include)|don't (?:use|mention|include)|avoid(?: using)?) (?:the (?:words?"
    r"|term|phrase) )?[\"'“]([^\"'”]{1,30})[\"'”]"
    r"|(?:不要|不能|不得|避免)(?:使用|出现|提到|包含)(?:词语?|单词|字)?[“\"「]([^”\"」]{1,15})[”\"」]",
    re.IGNORECASE,
)
_demanded = re.compile(
    r"(?<!not )(?<!don't )\b(?:must (?:use|mention|include|contain)|be sure to (?:use|include|mention)|using|include|includes"
    r"|mention) (?:the (?:words?|term|phrase) )?[\"'“]([^\"'”]{1,30})[\"'”]"
    r"|(?<!不要)(?:必须|一定要|需要|要)(?:使用|出现|提到|包含)(?:词语?|单词|字)?[“\"「]([^”\"」]{1,15})[”\"」]",
    re.IGNORECASE,
)


def contradiction(instruction: str) -> str:
    """Two asks that exclude each other, quoted side by side; "" where there are none.

    Compared are lengths asked for at least and at most, "JSON only" beside an explanation, one language alone beside another, and a word
    that is both forbidden and demanded.
    """
    return _lengths(instruction) or _form(instruction) or _language(instruction) or _word(instruction)


def _lengths(said: str) -> str:
    least = [(found, *limit) for found in _least.finditer(said) if (limit := _limit(found))]
    most = [(found, *limit) for found in _most.finditer(said) if (limit := _limit(found))]
    for low, count, unit in least:
        for high, bound, other in most:
            if low.start() < high.end() and high.start() < low.end():
                continue
            same = unit == other and count > bound
            known = unit in _SIZE and other in _SIZE and bound * _SIZE[other] < 40
            # One word or one sentence has no room for two sentences or paragraphs more, nor for fifty words.
            if same or (known and unit != other and count * _SIZE[unit] > 3 * bound * _SIZE[other] and bound == 1):
                return f"{cut(low.group(), 40)} / {cut(high.group(), 40)}"
    return ""


def _limit(found: re.Match[str]) -> tuple[int, str] | None:
    parts = [part for part in found.groups() if part]
    if len(parts) != 2:
        return None
    said, unit = parts[0].lower(), parts[1].lower()
    value = _WORDS[said] if said in _WORDS else number(said)
    unit = unit.rstrip("s") if unit.isascii() else unit
    return (value, "句" if unit == "句话" else unit) if value else None


def _form(said: str) -> str:
    only = _only_json.search(said)
    for found in _explain.finditer(said) if only else ():
        apart = found.end() <= only.start() or found.start() >= only.end() if only else False
        if only and apart and not _negated.search(said[: found.start()]):
            return f"{cut(only.group(), 40)} / {cut(found.group(), 40)}"
    return ""


def _language(said: str) -> str:
    for one, other in (("en", "zh"), ("zh", "en")):
        alone, beside = _tongues[one].search(said), _answers_in[other].search(said)
        if alone and beside:
            return f"{alone.group()} / {cut(beside.group(), 40)}"
    return ""


def _word(said: str) -> str:
    banned = {found.span(): next(filter(None, found.groups())).lower() for found in _banned.finditer(said)}
    for found in _demanded.finditer(said) if banned else ():
        word = next(filter(None, found.groups())).lower()
        apart = all(found.end() <= start or end <= found.start() for start, end in banned)
        if apart and word in banned.values():
            return f'"{word}"'
    return ""
