"""Mistakes in written Chinese that can be told for certain without a dictionary or a model.

Only what is wrong in every context is listed: "很好" after "跑的" shows that the 的 should be 得, but most uses of 的, 地 and 得
cannot be told apart by rule, and are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from zhiling.errors import say
from zhiling.text import HAN

_END = r"(?=[，。！？；：、,.!?;:\s”’」』）)]|了|吗|呢|吧|啊|$)"
_ADVERB = r"(?:慢慢|渐渐|悄悄|默默|偷偷|匆匆|纷纷|常常|频频|缓缓|牢牢|紧紧|狠狠|轻轻|静静|呆呆|白白|暗暗|大声|高兴|愉快|飞快|迅速|不断|不停)"
_VERB = (
    r"(?:走|跑|说|看|听|写|想|做|吃|喝|坐|站|笑|哭|叫|喊|读|唱|跳|飞|睡|拿|放|打开|关上|离开|靠近|消失|变化|增长|下降|上升|思考|等待"
    r"|回答|告诉)"
)
_RESULT = r"(?:跑|走|说|写|做|吃|唱|跳|玩|睡|长|变|听|学|干|飞|讲|考|画|笑|哭|活|过|表现|发展|进行|解释|回答|准备)"
_DEGREE = r"(?:很|非常|太|十分|特别|真|挺|更|比较|越来越|不太|最)"
_QUALITY = (
    r"(?:快|好|慢|高|远|早|晚|差|棒|清楚|开心|精彩|漂亮|努力|认真|详细|明白|辛苦|不错|顺利|完美|糟糕|高兴|流利|仔细|充分|出色|成功|激烈"
    r"|准确|清晰|困难)"
)
_COUNT = r"(?:[一两二三四五六七八九十几每这那某]|\d+)"
MEASURE = {
    noun: measure
    for measure, nouns in {
        "本": "书", "张": "纸 照片", "条": "河 裤子", "封": "信", "首": "诗 歌 歌曲", "篇": "文章 论文 作文 短文 日记", "件": "衣服 毛衣",
        "把": "伞 雨伞 刀 椅子", "匹": "马", "辆": "汽车 自行车", "架": "飞机 钢琴",
    }.items()
    for noun in nouns.split()
}  # fmt: skip
_PATTERNS = (
    (
        re.compile(r"([，、；：])\1+|[，、；：][。？！]|。[，、；：]|(?<!。)。{2,}"),
        "punctuation",
        "does not belong together",
        "标点不能连用",
    ),
    (re.compile(rf"{_RESULT}的{_DEGREE}{_QUALITY}{_END}"), "de", "得 is meant", "应用“得”"),
    (re.compile(rf"{_ADVERB}的{_VERB}(?:着|了|过|起来|下去|出来)(?!的)"), "de", "地 is meant", "应用“地”"),
    (re.compile(rf"(?<=[我你他她它们都总])觉的(?!好)|(?<![{HAN}])觉的{_DEGREE}"), "de", "觉得 is meant", "应为“觉得”"),
    (
        re.compile(r"(?<![目打])的的(?![确话])|(?<![不得])了了(?![解之结断然事])|被被(?![子褥])|与与"),
        "doubled",
        "a word twice",
        "虚词重复",
    ),
)
_measure = re.compile(
    rf"{_COUNT}个({'|'.join(sorted(MEASURE, key=len, reverse=True))})(?=[，。！？；：、,.!?;:\s]|的|是|吗|来|给|并|和|$)"
)
_half_width = re.compile(rf"[{HAN}]([,;:?!])(?=[{HAN}])")
_PAIRS = {"《": "》", "“": "”", "‘": "’", "（": "）", "【": "】", "「": "」", "『": "』", "(": "）"}
_CLOSING = frozenset("》”’）】」』)")


def mistakes(passage: str) -> Iterator[tuple[float, str]]:
    """(weight, what) of each mistake: 0.5, or 0.25 for a half-width mark between Han characters."""
    for pattern, code, en, zh in _PATTERNS:
        for found in pattern.finditer(passage):
            yield 0.5, f"{code}: {found.group()} ({say(en, zh)})"
    for found in _measure.finditer(passage):
        yield 0.5, f"measure: {found.group()} -> {found.group().replace('个', MEASURE[found.group(1)])}"
    for line in passage.splitlines():
        if not _table(line):
            for found in _half_width.finditer(line):
                yield 0.25, f"punctuation: {found.group(1)} ({say('half-width', '半角')})"
    if unpaired := _unpaired(passage):
        yield 0.5, f"pairs: {unpaired} ({say('without its partner', '不成对')})"


def _table(line: str) -> bool:
    """A row of comma-separated values, whose commas are no punctuation."""
    cells = line.split(",")
    return len(cells) > 2 and all(len(cell) <= 8 for cell in cells)


def _unpaired(passage: str) -> str:
    """The first quote or bracket without its partner.

    Half- and full-width parentheses pair with each other; half-width ones alone, apostrophes, "1）" and "：）" are let pass.
    """
    waiting: list[str] = []
    for at, mark in enumerate(passage):
        if mark in _PAIRS:
            waiting.append(mark)
        elif mark in _CLOSING:
            before = passage[at - 1] if at else " "
            if waiting and _PAIRS[waiting[-1]] == ("）" if mark == ")" else mark):
                waiting.pop()
            elif mark != ")" and not (mark == "’" and before.isascii()) and not (mark == "）" and before in _ITEM):
                return mark
    return next((mark for mark in waiting if mark != "("), "")


_ITEM = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ一二三四五六七八九十：:＝=；;")
