"""Scores that need no model: a pass over the text, right in zh and en alike.

This is also the door to the rules that have files of their own: importing it registers `refusal`, `placeholder` and `format`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from zhiling import text
from zhiling.errors import say
from zhiling.registry import scorer
from zhiling.score.format import format
from zhiling.score.placeholder import placeholder
from zhiling.score.refusal import refusal
from zhiling.score.sieve import Sieve, parts
from zhiling.types import Example, Score

if TYPE_CHECKING:
    from zhiling.text import Hashes, Ints

__all__ = ["echo", "format", "language", "length", "placeholder", "refusal"]

RUN = {"zh": 14, "ja": 14, "ko": 14}  # tokens in a row that are a repetition and no coincidence: characters ...
RUN_WORDS = 8  # ... or words
LONGEST_RUN = max(RUN_WORDS, *RUN.values())
SLOTS = 2048  # bits of a row's prompt


@scorer("length", low=0, high=math.inf, better="none", langs=("zh", "en"))
def length(examples: Sequence[Example]) -> Iterator[Score]:
    """The output's length in what a reader counts: characters in Chinese, words elsewhere."""
    for part in parts(examples):
        for row, size in zip(part, text.lengths([row.output for row in part]), strict=True):
            yield Score(row.id, "length", float(size))


@scorer("echo", low=0, high=1, better="low", langs=("zh", "en"))
def echo(examples: Sequence[Example]) -> Iterator[Score]:
    """Share of the output's tokens that repeat the prompt in long runs: 8 words, or 14 characters in Chinese, and more.

    A short answer taken from the prompt is no echo, unless it is the whole instruction. None for an output without words.
    """
    for part in parts(examples):
        for row, size, may_echo in zip(part, *_echoing(part), strict=True):
            if size:
                yield Score(row.id, "echo", _echoed(row) if may_echo else 0.0)
            else:
                yield Score(row.id, "echo", None, say("the output has no words", "输出没有文字"))


def _echoed(row: Example) -> float:
    said = text.tokens(row.output)
    run = RUN_WORDS if row.output.isascii() else RUN.get(text.lang(row.output), RUN_WORDS)
    if len(said) < run:
        return float(len(said) > 2 and said == text.tokens(row.instruction))
    return round(_repeated(said, text.tokens(row.prompt), run) / len(said), 4)


def _echoing(rows: Sequence[Example]) -> tuple[list[int], list[bool]]:
    """How many tokens each output has, and whether it may echo: most do not, and are done.

    It may where RUN_WORDS tokens in a row may stand in the prompt, by their hashes, or where a short one begins with the same token. A
    prompt is a line of SLOTS bits, those of its runs of four tokens set, so that now and then a run is taken for one of the prompt.
    """
    import numpy as np

    mine, many = _hashes([row.output for row in rows])
    theirs, asked = _hashes([row.prompt for row in rows])
    place, owner = np.arange(len(rows)), np.repeat(np.arange(len(rows)), many)
    slots = np.zeros(len(rows) * SLOTS, dtype=bool)
    slots[np.repeat(place, asked)[3:] * SLOTS + _slots(theirs)] = True
    hits = np.cumsum(slots[owner[3:] * SLOTS + _slots(mine)], dtype=np.int64)
    hits = np.concatenate([[0], hits])
    last = RUN_WORDS - 1
    at = np.flatnonzero(hits[RUN_WORDS - 3 :] - hits[: 3 - RUN_WORDS] == RUN_WORDS - 3)
    may = np.zeros(len(rows), dtype=bool)
    may[owner[at[owner[at] == owner[at + last]]]] = True
    short = np.flatnonzero((many > 2) & (many < LONGEST_RUN) & (asked > 0))
    may[short] |= mine[(np.cumsum(many) - many)[short]] == theirs[(np.cumsum(asked) - asked)[short]]
    return many.tolist(), may.tolist()


def _hashes(texts: Sequence[str]) -> tuple[Hashes, Ints]:
    import numpy as np

    hashes, counts = zip(*text.hashed(texts), strict=True)
    return np.concatenate(hashes), np.concatenate(counts)


def _slots(hashes: Hashes) -> Ints:
    """For each run of four tokens, by its last one, a number below SLOTS."""
    pairs = hashes[:-1] * text.BASE + hashes[1:]
    slots: Ints = (text.mix(pairs[:-2] * text.BASE + pairs[2:]) % SLOTS).astype("int64")
    return slots


def _repeated(said: Sequence[str], asked: Sequence[str], run: int) -> int:
    """How many of the tokens said lie in a run of at least `run` tokens that also stands in what was asked."""
    if len(asked) < run or not _shares_a_run(said, set(asked), run):
        return 0
    known = set(zip(*(asked[i:] for i in range(run)), strict=False))
    end = count = 0
    for start, gram in enumerate(zip(*(said[i:] for i in range(run)), strict=False)):
        if gram in known:
            count += start + run - max(start, end)
            end = start + run
    return count


def _shares_a_run(said: Sequence[str], asked: set[str], run: int) -> bool:
    """Whether `run` tokens in a row are all among those asked: without that there is nothing to compare. It takes a tenth of the time."""
    length = 0
    for token in said:
        length = length + 1 if token in asked else 0
        if length == run:
            return True
    return False


SHARE = 0.15  # of the tokens: from here on a script belongs to the text, below it is a name or two

_named = {
    "zh": r"chinese|mandarin|cantonese|中文|汉语|华语|普通话|国语|简体|繁体|文言文|白话文|粤语",
    "ja": r"japanese|日语|日文",
    "ko": r"korean|韩语|韩文|朝鲜语",
    "ru": r"russian|ukrainian|bulgarian|serbian|俄语|俄文|乌克兰语",
    "ar": r"arabic|persian|farsi|urdu|阿拉伯语|波斯语",
    "latin": r"english|french|german|spanish|italian|portuguese|dutch|latin|swedish|polish|turkish|vietnamese|indonesian|malay|swahili"
    r"|finnish|danish|norwegian|czech|hungarian|romanian|esperanto|pinyin|romaji|英语|英文|法语|法文|德语|德文|西班牙语|意大利语|葡萄牙语"
    r"|荷兰语|拉丁语|瑞典语|波兰语|土耳其语|越南语|印尼语|拼音",
    "": r"hindi|greek|hebrew|thai|bengali|tamil|sanskrit|印地语|希腊语|希伯来语|泰语|梵语",
}
_ascii_names = [name for names in _named.values() for name in names.split("|") if name.isascii()]
_languages = {script: re.compile(names, re.IGNORECASE) for script, names in _named.items()}
# Asking for one of these, a row may rightly be answered in another script.
_elsewhere = re.compile(
    r"translat|interpret|language|foreign|word for|loan ?word|transliterat|code|program|function|script|sql|query|regex|regular expression|html"
    r"|css|json|xml|python|java|c\+\+|formula|equation|emoji|morse|binary|hexadecimal|encrypt|decrypt|cipher|acronym|abbreviat|hashtag|url|address"
    r"|翻译|译成|译为|外语|外文|语言|代码|程序|函数|脚本|正则|公式|方程|表情|密码|加密|缩写|网址|网站|命令|算法|查询|循环|数组|字典|化学式|符号|随机",
    re.IGNORECASE,
)
_letter = re.compile("[A-Za-z]")
_words = re.compile("[a-z]+")
_far = re.compile("[\u2e80-\U0010ffff]")  # no letter before is written as a Chinese character, folded or not
_han = re.compile(f"[{text.HAN}]+")
_code = re.compile(
    r"```|!\[|^\s*(?:def|class|for|while|if|import|from|select|create|insert|update|public|function|var|let|const|#include)\b|[;{}]\s*$|\w\(.*\)\s*$",
    re.MULTILINE | re.IGNORECASE,
)
_into = re.compile(
    r"\b(?:translat\w*|render\w*|put|convert\w*|rewrite|say|write|answer|respond|reply|explain|summari[sz]e|describe)\b[^.!?\n]{0,120}?"
    r"\b(?:in|into|to) (?:simplified |traditional |modern |classical |standard |plain |the )?([A-Za-z]+)(?: language)?"
    r"(?=\s*(?:$|[.,:;!?\"'“”()\n-]|(?:and|or|for|with|using|then)\b))"
    r"|(?:翻译|译|翻|转换|改写|转写|写)(?:成|为|到|至)\s*(?:简体|繁体|现代)?([\u4e00-\u9fff]{1,6})"
    r"|(?<!不)(?<!不要)(?<!别)(?:(?<!使)用|使用)([\u4e00-\u9fff]{1,4}(?:语|文|话))(?=回答|写|说|编|描述|总结|概括|表达|解释|介绍|创作|翻译|复述|来|给|[，。：:,\s]|$)",
    re.IGNORECASE | re.MULTILINE,
)

# In ASCII no language is asked for without a name of one after such a word.
_names_one = Sieve(
    r"(?:translat|render|put|convert|rewrite|say|write|answer|respond|reply|explain|summari|describe).*\b(?:in|into|to) "
    rf"(?:(?:simplified|traditional|modern|classical|standard|plain|the) )?[A-Za-z]*(?:{'|'.join(_ascii_names)})",
    "",
)


@scorer("language", low=0, high=1, better="high", langs=("zh", "en"))
def language(examples: Sequence[Example]) -> Iterator[Score]:
    """1 where the output is in a language that the row asks for, 0 where it is not, told apart by script.

    Asked for is the language that the instruction names ("translate into French", 用中文回答), else any that the instruction
    or the input is written in. None where that cannot be decided: no letters, code, a short label or name in another script, a
    translation that does not say into what, scripts that `text.lang` does not know.
    """
    for row, names_one in _names_one.sift(examples, attrgetter("instruction")):
        value, why = _speaks(row, _target(row.instruction) if names_one else None)
        yield Score(row.id, "language", value, why)


def _speaks(row: Example, asked: str | None) -> tuple[float | None, str]:
    """What the scorer says, where the instruction says to answer in the script `asked`."""
    said = _scripts(row.output)
    wanted = {asked} if asked is not None else _scripts(row.instruction) | _scripts(row.input)
    if not said:
        return None, say("the output has no letters that tell a language", "输出中没有可判断语言的文字")
    if not wanted or "" in wanted:
        return None, say("what language is asked for cannot be told", "无法判断要求的是哪种语言")
    if said & wanted:
        return 1.0, ""
    if asked is None and (
        _elsewhere.search(row.instruction) or any(p.search(row.instruction) for p in _languages.values())
    ):
        return None, say("another language, or code, may be what it asks for", "所要求的可能是其他语言或代码")
    if text.length(row.output) < 8 or _code.search(row.output) or said | wanted == {"zh", "ja"}:
        return None, say("a short answer or code may be in another script", "简短答案或代码可以使用其他文字")
    spoken, other = "/".join(sorted(said)), "/".join(sorted(wanted))
    return 0.0, say(f"the output is {spoken}, asked for is {other}", f"输出为 {spoken}，要求的是 {other}")


def _scripts(passage: str) -> set[str]:
    """The languages, by script, that a share of the text is written in: Chinese prose full of Latin names is Chinese too."""
    if passage.isascii():
        return {"latin"} if _letter.search(passage) else set()
    main = text.lang(passage)
    if main not in ("zh", "latin"):
        return {main} - {""}
    if main == "latin" and not _far.search(passage):
        return {main}
    folded = text.normalise(passage)
    if main == "zh" and len(_words.findall(folded)) < SHARE * sum(map(len, _han.findall(folded))):
        return {main}  # fewer words than so many of the characters alone are few among all tokens
    heads = [piece[0] for piece in text.tokens(folded)]
    han = sum("\u3400" <= head <= "\u9fff" for head in heads)
    latin = sum(head.isascii() and head.isalpha() for head in heads)
    return {main} | {name for name, count in (("zh", han), ("latin", latin)) if count >= SHARE * len(heads)}


def _target(instruction: str) -> str | None:
    """The script of the language that the instruction says to answer in; None where it says none."""
    target = None
    for found in _into.finditer(instruction):
        name = next(filter(None, found.groups()))
        target = next((script for script, pattern in _languages.items() if pattern.search(name)), target)
    return target
