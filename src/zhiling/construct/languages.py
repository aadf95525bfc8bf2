"""Names of human languages: a code or a name in either language becomes the name in the language of the instruction."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

# code: (Chinese names, English names), the customary one first.
_NAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "zh": (("中文", "汉语", "华语", "普通话", "现代汉语"), ("Chinese", "Mandarin Chinese", "Mandarin")),
    "zh-hans": (("简体中文",), ("Simplified Chinese",)),
    "zh-hant": (("繁体中文",), ("Traditional Chinese",)),
    "lzh": (("文言文", "古文", "文言"), ("Classical Chinese", "Literary Chinese")),
    "yue": (("粤语", "广东话"), ("Cantonese",)),
    "en": (("英语", "英文"), ("English",)),
    "fr": (("法语", "法文"), ("French",)),
    "de": (("德语", "德文"), ("German",)),
    "es": (("西班牙语", "西班牙文"), ("Spanish",)),
    "pt": (("葡萄牙语", "葡萄牙文", "葡语"), ("Portuguese",)),
    "it": (("意大利语", "意大利文"), ("Italian",)),
    "nl": (("荷兰语", "荷兰文"), ("Dutch",)),
    "ru": (("俄语", "俄文"), ("Russian",)),
    "uk": (("乌克兰语",), ("Ukrainian",)),
    "pl": (("波兰语",), ("Polish",)),
    "cs": (("捷克语",), ("Czech",)),
    "hu": (("匈牙利语",), ("Hungarian",)),
    "ro": (("罗马尼亚语",), ("Romanian",)),
    "el": (("希腊语", "希腊文"), ("Greek",)),
    "la": (("拉丁语", "拉丁文"), ("Latin",)),
    "sv": (("瑞典语",), ("Swedish",)),
    "no": (("挪威语",), ("Norwegian",)),
    "da": (("丹麦语",), ("Danish",)),
    "fi": (("芬兰语",), ("Finnish",)),
    "ja": (("日语", "日文"), ("Japanese",)),
    "ko": (("韩语", "韩文", "朝鲜语"), ("Korean",)),
    "ar": (("阿拉伯语", "阿拉伯文"), ("Arabic",)),
    "he": (("希伯来语",), ("Hebrew",)),
    "fa": (("波斯语",), ("Persian", "Farsi")),
    "tr": (("土耳其语",), ("Turkish",)),
    "hi": (("印地语",), ("Hindi",)),
    "bn": (("孟加拉语",), ("Bengali",)),
    "ur": (("乌尔都语",), ("Urdu",)),
    "ta": (("泰米尔语",), ("Tamil",)),
    "th": (("泰语", "泰文"), ("Thai",)),
    "vi": (("越南语", "越南文"), ("Vietnamese",)),
    "id": (("印度尼西亚语", "印尼语"), ("Indonesian",)),
    "ms": (("马来语",), ("Malay",)),
    "sw": (("斯瓦希里语",), ("Swahili",)),
    "mn": (("蒙古语", "蒙文"), ("Mongolian",)),
    "bo": (("藏语", "藏文"), ("Tibetan",)),
    "ug": (("维吾尔语",), ("Uyghur",)),
}

# One-character names, as in 中译英 or 英汉互译.
_SHORT = {"中": "zh", "汉": "zh", "英": "en", "法": "fr", "德": "de", "日": "ja", "韩": "ko", "俄": "ru", "西": "es"}

# English words that are also ordinary words when written small ("polish the text").
_CAPITAL_ONLY = frozenset({"Polish", "Latin", "Greek", "Thai", "Mandarin"})


class Mention(NamedTuple):
    """A language named in a text."""

    start: int
    end: int
    code: str


@cache
def _index() -> dict[str, str]:
    index = {code: code for code in _NAMES}
    index |= {"zh-cn": "zh", "zh-tw": "zh-hant", "zh-hk": "zh-hant", "zho": "zh", "eng": "en", "jp": "ja", "kr": "ko"}
    for code, (zh, en) in _NAMES.items():
        index |= {name.lower(): code for name in (*zh, *en)}
    return index


def code(name: str) -> str:
    """The code of a language given by code or by name in Chinese or English; "" when unknown."""
    key = name.strip().lower().replace("_", "-")
    index = _index()
    return index.get(key) or index.get(key.split("-")[0], "")


def language(name: str, lang: str) -> str:
    """The language's name in the language `lang`: `language("fr", "zh")` is 法语. An unknown name stays as it is."""
    known = code(name)
    if not known:
        return name
    zh, en = _NAMES[known]
    return zh[0] if lang == "zh" else en[0]


@cache
def _pattern() -> re.Pattern[str]:
    zh = sorted((name for names, _ in _NAMES.values() for name in names), key=len, reverse=True)
    en = sorted((name for _, names in _NAMES.values() for name in names), key=len, reverse=True)
    small = [f"[{name[0]}{name[0].lower()}]{name[1:]}" if name not in _CAPITAL_ONLY else name for name in en]
    short = "".join(_SHORT)
    return re.compile(
        rf"{'|'.join(zh)}|\b(?:{'|'.join(small)})\b|[{short}](?=译[{short}])|(?<=译)[{short}](?![国个些])"
    )


def mentions(text: str) -> list[Mention]:
    """Every language named in a zh or en text, in order."""
    return [
        Mention(found.start(), found.end(), _SHORT.get(found[0]) or code(found[0]))
        for found in _pattern().finditer(text)
    ]
