"""How hard an answer is to read, and how formally it speaks: two scores from counts, in English and Chinese.

Neither has a good end: a text for children and a contract are both right in their place. They are for describing a data set and for
keeping to a register, not for telling good rows from bad ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from zhiling import text
from zhiling.errors import say
from zhiling.registry import scorer
from zhiling.types import Example, Score

MOST = 8000  # characters of an output that are looked at
SHORT = {"en": 25, "zh": 40}  # words or characters: below this a mean says nothing
_fenced = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
_code = re.compile(
    r"^\s*(?:def |class |import |from \w+ import|#include|SELECT\b|<\w+[ >]|public |function\b|return\b|print\("
    r"|(?:for|if|while|elif|else|try)\b.*:\s*$)"
    r"|[;{}]\s*$",
    re.MULTILINE,
)
_word = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)*")
_vowels = re.compile(r"[aeiouy]+")
_han = re.compile(f"[{text.HAN}]")
_item = re.compile(r"^\s*(?:[-*•#>]+|\d+[.)、])\s*", re.MULTILINE)


@scorer("readability", low=0, high=1, better="none", langs=("zh", "en"), paper="Flesch 1948")
def readability(examples: Sequence[Example]) -> Iterator[Score]:
    """How easily the output reads, from 0 (a law) to 1 (a picture book): Flesch's reading ease / 100, kept within 0 and 1.

    English: 206.8 - 1.015 words per sentence - 84.6 syllables per word, syllables counted as groups of vowels. Chinese has no syllables
    to count: 68 - 0.6 characters per sentence + 3 per casual mark and - 1.2 per formal mark in a hundred characters (`register`), fitted to
    the ease of the English side of translated passages (NTREX and XQuAD; r .65 on passages not fitted), so that both languages share the
    scale. `why` gives the counts. None for fewer than 25 words or 40 characters, for code and for other languages.
    """
    yield from _each("readability", examples, {"en": _flesch, "zh": _ease})


@scorer("register", low=0, high=1, better="none", langs=("zh", "en"), paper="Biber 1988 (kinds of marks)")
def register(examples: Sequence[Example]) -> Iterator[Score]:
    """How formal the output's words are: 0 chatty, 0.5 neither, 1 as in an official letter.

    The formal marks' share of all marks found: connectives, nominal endings and official words (furthermore, -tion, 鉴于, 进行) against
    contractions, slang, "you" and "I", exclamation marks, emoji and particles (gonna, 啦, 咱们). Two marks of each kind are assumed, so that
    few marks say little. `why` gives both counts. None where `readability` is None.
    """
    yield from _each("register", examples, {"en": _formal_en, "zh": _formal_zh})


Judge = Callable[[str], tuple[float, str]]


def _each(name: str, examples: Sequence[Example], judges: dict[str, Judge]) -> Iterator[Score]:
    for row in examples:
        lang, prose, why = _prose(row.output[:MOST])
        if not lang:
            yield Score(row.id, name, None, why)
            continue
        value, why = judges[lang](prose)
        yield Score(row.id, name, round(min(1.0, max(0.0, value)), 4), why)


def _prose(output: str) -> tuple[str, str, str]:
    """Language, the text without code and addresses, and where nothing can be said, why."""
    prose = _item.sub("", _fenced.sub(" ", output))
    spoken = {"latin": "en", "zh": "zh"}.get(text.lang(prose), "")
    if not prose.strip():
        return "", "", say("the output has no prose", "输出没有正文")
    if not spoken:
        return "", "", say("neither English nor Chinese", "既非英文也非中文")
    lines = [line for line in prose.splitlines() if line.strip()]
    if 2 * sum(bool(_code.search(line)) for line in lines) > len(lines):
        return "", "", say("the output is code", "输出是代码")
    size = len(_word.findall(prose)) if spoken == "en" else len(_han.findall(prose))
    if size < SHORT[spoken]:
        return "", "", say(f"too short to tell ({size})", f"太短，无法判断（{size}）")
    return spoken, prose, ""


def _flesch(prose: str) -> tuple[float, str]:
    words = _word.findall(prose)
    per = len(words) / max(1, sum(bool(_word.search(part)) for part in text.sentences(prose)))
    beats = sum(map(syllables, words)) / len(words)
    why = say(
        f"{per:.1f} words a sentence, {beats:.2f} syllables a word", f"每句 {per:.1f} 词，每词 {beats:.2f} 个音节"
    )
    return (206.835 - 1.015 * per - 84.6 * beats) / 100, why


def syllables(word: str) -> int:
    """Groups of vowels, less a silent e; at least 1."""
    folded = word.lower()
    count = len(_vowels.findall(folded))
    if folded.endswith("e") and not folded.endswith(("ee", "ye", "oe")):
        count -= not (folded.endswith("le") and folded[-3:-2] not in "aeiouy")
    elif folded.endswith("ed") and folded[-3:-2] not in "td":
        count -= 1
    return max(1, count)


def _ease(prose: str) -> tuple[float, str]:
    signs = len(_han.findall(prose))
    per = signs / max(1, sum(bool(_han.search(part)) for part in text.sentences(prose)))
    casual, formal = (100 * len(marks.findall(prose)) / signs for marks in (_casual_han, _formal_han))
    why = say(
        f"{per:.1f} characters a sentence; {casual:.1f} casual and {formal:.1f} formal marks in 100",
        f"每句 {per:.1f} 字；每百字口语标记 {casual:.1f} 处，正式标记 {formal:.1f} 处",
    )
    return (68 - 0.6 * per + 3 * casual - 1.2 * formal) / 100, why


_formal = re.compile(
    r"\b(?:furthermore|moreover|therefore|thus|hence|consequently|accordingly|nevertheless|nonetheless|whereas|notwithstanding|hereby|herein"
    r"|thereof|pursuant|regarding|concerning|respectively|aforementioned|shall|upon|subsequently|additionally|sincerely|significantly"
    r"|facilitate|utili[sz]e|constitute|demonstrate|obtain|require|provided that|in accordance with|with respect to|in order to"
    r"|\w{4,}(?:tion|sion|ment|ance|ence|ity|ism)s?)\b",
    re.IGNORECASE,
)
_casual = re.compile(
    r"\b\w+['’](?:m|re|ve|ll|d|t|s (?:a|the|not|so|just|really|been|gonna))\b|\b(?:I|you|your|my|me|we|us|hey|hi|yeah|yep|yup|nope|ok|okay"
    r"|gonna|wanna|gotta|kinda|sorta|lol|omg|btw|wow|oops|cool|awesome|guys?|stuff|kids?|super|pretty|really|totally|actually|basically"
    r"|lots?|a bit|thanks|folks|dude|yummy|crap|damn)\b|!|[\U0001f300-\U0001faff]|[:;]-?[)(DP]",
    re.IGNORECASE,
)
_formal_han = re.compile(
    "因此|此外|综上|鉴于|基于|予以|进行|具有|以及|及其|从而|兹|特此|敬请|由于|尽管|其中|上述|该(?!不|怎)|本(?=文|公司|人|研究|条|法|次)|亦|即(?!使|便)|则(?!子)"
    "|其(?!实|他)|均|且(?!慢)|之(?!后|前|类)|所(?!以|有)|于(?!是)|并(?!不|没)|采用|提供|实现|通过|有效|相关|显著|旨在|较为|若|倘若|贵(?=公司|方|司)|您"
)
_casual_han = re.compile(
    "[啊呢吧嘛哦哈呀啦呗哟喔噢嗯呵嘿咯]|咱|俺|挺|超(?=[好级爱喜难贵便])|特别|真的|好吃|搞|弄|啥|咋|哪儿|这儿|那儿|东西|老是|干嘛|没事|有点|一点|觉得|我|你|咧|嘞"
    "|[!！~～]|[\U0001f300-\U0001faff]"
)


def _marks(formal: int, casual: int) -> tuple[float, str]:
    why = say(f"{formal} formal marks, {casual} casual", f"正式标记 {formal} 处，口语标记 {casual} 处")
    return (formal + 2) / (formal + casual + 4), why


def _formal_en(prose: str) -> tuple[float, str]:
    return _marks(len(_formal.findall(prose)), len(_casual.findall(prose)))


def _formal_zh(prose: str) -> tuple[float, str]:
    return _marks(len(_formal_han.findall(prose)), len(_casual_han.findall(prose)))
