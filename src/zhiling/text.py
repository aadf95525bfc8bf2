"""The one door for zh/en text: every metric, filter and index normalises, tokenises and measures here.

A whitespace tokeniser sees one token in a Chinese sentence; ours sees one token per Han character (and per kana or Hangul
syllable), one per word or number in other scripts, and keeps no punctuation. That is right for overlap measures in both
languages; where real words matter, use a segmenter on top.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise

# Scripts written without spaces: each character is a token of its own.
CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\uac00-\ud7af\U00020000-\U0002fa1f"
HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
_token = re.compile(rf"[{CJK}]|[^\W_]+(?:['’][^\W_]+)*", re.UNICODE)
_ascii_token = re.compile(r"[a-z0-9]+(?:'[a-z0-9]+)*")
_plain = {code: chr(code).lower() if chr(code).isalnum() or chr(code) == "'" else " " for code in range(128)}
_cjk_split = re.compile(rf"[{CJK}]|[^{CJK}]+")
_han = re.compile(f"[{HAN}]")
_kana = re.compile("[\u3040-\u30ff]")
_hangul = re.compile("[\uac00-\ud7af]")
_latin = re.compile("[A-Za-z\u00c0-\u024f]")
_cyrillic = re.compile("[\u0400-\u04ff]")
_arabic = re.compile("[\u0600-\u06ff]")
_space = re.compile(r"\s+")
_sentence_end = re.compile(r"(?<=[。！？!?；;])\s*|(?<=[.])\s+(?=[A-Z\"'“(])|\n+")


def normalise(text: str) -> str:
    """NFKC (full-width letters and digits become ordinary ones), lower case, white space folded to single spaces, ends stripped."""
    return " ".join((text if text.isascii() else unicodedata.normalize("NFKC", text)).split()).lower()


def valid(text: str) -> str:
    """The text with what is no valid Unicode (lone surrogates) as "?": what files, tokenizers and checkers can take."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def tokens(text: str) -> list[str]:
    """Normalised tokens: one per CJK character, one per word or number elsewhere; punctuation dropped."""
    if (
        text.isascii()
    ):  # without an apostrophe, splitting at what is no letter or digit says the same in a third of the time
        plain = text.translate(_plain)
        return plain.split() if "'" not in plain else _ascii_token.findall(plain)
    folded = normalise(text)
    if folded.isascii():
        return _ascii_token.findall(folded)
    out: list[str] = []
    for found in _token.findall(folded):
        if len(found) == 1:
            out.append(found)
        else:  # a word regex can run from Latin into Han ("GPT模型"): split at the border, where an apostrophe belongs to neither
            out.extend(part for piece in _cjk_split.findall(found) if (part := piece.strip("'’")))
    return out


_edge = r"[\s<>\[\](){}\"'`\\.:,?!*_。：，？！（）【】《》“”-]*"
_nothing = re.compile(
    _edge + r"(?:no[\s_-]?(?:further |additional |extra )?(?:in|out)put[es]?"
    r"(?: (?:is |was )?(?:required|needed|provided|given|necessary|available|specified|applicable))?"
    r"|not (?:applicable|provided|required|available|needed)|none|n\s?/\s?a|null|nil"
    r"|(?:这里|此处)?(?:无|没有|无需|不需要)(?:任何|额外)?的?(?:输入|输出)(?:内容|数据|信息)?|不适用|暂无|无)" + _edge,
    re.IGNORECASE,
)


def blank(text: str) -> bool:
    """True for a text with nothing in it, and for what people write instead of nothing: "<noinput>", "N/A", "无输入"."""
    return not text.strip() or (len(text) < 80 and _nothing.fullmatch(text) is not None)


def ngrams(items: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """All runs of n items; the whole sequence once where it is shorter than n."""
    if 0 < len(items) < n:
        yield tuple(items)
    for i in range(len(items) - n + 1):
        yield tuple(items[i : i + n])


def shingles(text: str, n: int = 3) -> set[tuple[str, ...]]:
    """The set of token n-grams, for Jaccard measures: character n-grams in Chinese, word n-grams in English."""
    return set(ngrams(tokens(text), n))


def bigrams(text: str) -> list[str]:
    """Index terms: words as they are; runs of CJK as overlapping character pairs (and single characters when alone)."""
    out: list[str] = []
    run: list[str] = []
    for token in [*tokens(text), ""]:
        if token and re.match(f"[{CJK}]", token):
            run.append(token)
            continue
        out.extend(a + b for a, b in pairwise(run)) if len(run) > 1 else out.extend(run)
        run = []
        if token:
            out.append(token)
    return out


def lang(text: str) -> str:
    """The language by script: "zh", "ja", "ko", "ru", "ar", "latin", or "" when there are no letters.

    Chinese wins over embedded Latin names from a quarter of the letters on, since one Han character says as much as a word of
    four or five letters. Latin-script languages are not told apart here.
    """
    han, latin = len(_han.findall(text)), len(_latin.findall(text))
    kana, hangul = len(_kana.findall(text)), len(_hangul.findall(text))
    cyrillic, arabic = len(_cyrillic.findall(text)), len(_arabic.findall(text))
    if not han + latin + kana + hangul + cyrillic + arabic:
        return ""
    if kana > 0.1 * (han + kana) and kana * 4 > latin:
        return "ja"
    weights = {"zh": 4 * han, "ko": 4 * hangul, "ru": cyrillic, "ar": arabic, "latin": latin}
    return max(weights, key=lambda key: weights[key])


def length(text: str) -> int:
    """Length in the unit a reader would count: characters for CJK scripts, words elsewhere."""
    return len(tokens(text))


def sentences(text: str) -> list[str]:
    """Sentences of zh or en text, by their end marks and line breaks."""
    return [part.strip() for part in _sentence_end.split(text) if part and part.strip()]


def jaccard(a: set[tuple[str, ...]], b: set[tuple[str, ...]]) -> float:
    """|a ∩ b| / |a ∪ b|; two empty sets are equal."""
    if not a and not b:
        return 1.0
    both = len(a & b)
    return both / (len(a) + len(b) - both)


def cut(text: str, size: int = 80) -> str:
    """One line of at most `size` characters, for messages and tables."""
    line = _space.sub(" ", text).strip()
    return line if len(line) <= size else line[: size - 1] + "…"
