"""The one door for zh/en text: every metric, filter and index normalises, tokenises and measures here.

A whitespace tokeniser sees one token in a Chinese sentence; ours sees one token per Han character (and per kana or Hangul
syllable), one per word or number in other scripts, and keeps no punctuation. That is right for overlap measures in both
languages; where real words matter, use a segmenter on top.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints: TypeAlias = NDArray[np.int64]
    Hashes: TypeAlias = NDArray[np.uint64]

# Scripts written without spaces: each character is a token of its own.
CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\uac00-\ud7af\U00020000-\U0002fa1f"
HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
_token = re.compile(rf"[{CJK}]|[^\W_{CJK}]+(?:['’][^\W_{CJK}]+)*", re.UNICODE)
_plain = bytes(code | 32 if chr(code).isalnum() else 39 if code == 39 else 32 for code in range(128)).ljust(256)
_han = re.compile(f"[{HAN}]+")
_kana = re.compile("[\u3040-\u30ff]+")
_hangul = re.compile("[\uac00-\ud7af]+")
_latin = re.compile("[A-Za-z\u00c0-\u024f]+")
_cyrillic = re.compile("[\u0400-\u04ff]+")
_arabic = re.compile("[\u0600-\u06ff]+")
_neither = re.compile(
    "[\u0400-\u04ff\u0600-\u06ff\u3040-\u30ff\uac00-\ud7af]"
)  # letters that are neither Han nor Latin
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
    if not text.isascii():
        text = normalise(text)
        if not text.isascii():
            return _token.findall(text)
    plain = text.encode().translate(_plain).decode()
    if "'" in plain:  # it stays where it stands inside a word
        plain = f" {plain} ".replace("''", "  ").replace(" '", "  ").replace("' ", "  ")
    return plain.split()


_edge = r"[\s<>\[\](){}\"'`\\.:,?!*_。：，？！（）【】《》“”-]*"
_spaces = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_marks = _spaces + "<>[](){}\"'`\\.:,?!*_。：，？！（）【】《》“”-"  # what `_edge` passes over
_nothing = re.compile(
    _edge + r"(?:no[\s_-]?(?:further |additional |extra )?(?:in|out)put[es]?"
    r"(?: (?:is |was )?(?:required|needed|provided|given|necessary|available|specified|applicable))?"
    r"|not (?:applicable|provided|required|available|needed)|none|n\s?/\s?a|null|nil"
    r"|(?:这里|此处)?(?:无|没有|无需|不需要)(?:任何|额外)?的?(?:输入|输出)(?:内容|数据|信息)?|不适用|暂无|无)" + _edge,
    re.IGNORECASE,
)
_FIRST = frozenset("nN这此无没不暂")  # what the words for nothing begin with


def blank(text: str) -> bool:
    """True for a text with nothing in it, and for what people write instead of nothing: "<noinput>", "N/A", "无输入"."""
    if not text:
        return True
    if len(text) >= 80 or (text[0].isalnum() and text[0] not in _FIRST):
        return text.isspace()
    said = text.lstrip(_marks)
    return said[0] in _FIRST and _nothing.fullmatch(text) is not None if said else text.isspace()


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
    if text.isascii():
        return "latin" if _latin.search(text) else ""
    han, latin = _many(_han, text), _many(_latin, text)
    others = (_kana, _hangul, _cyrillic, _arabic) if _neither.search(text) else ()
    kana, hangul, cyrillic, arabic = (_many(script, text) for script in others) if others else (0, 0, 0, 0)
    if not han + latin + kana + hangul + cyrillic + arabic:
        return ""
    if kana > 0.1 * (han + kana) and kana * 4 > latin:
        return "ja"
    weights = {"zh": 4 * han, "ko": 4 * hangul, "ru": cyrillic, "ar": arabic, "latin": latin}
    return max(weights, key=lambda key: weights[key])


def _many(runs: re.Pattern[str], text: str) -> int:
    return sum(map(len, runs.findall(text)))


def length(text: str) -> int:
    """Length in the unit a reader would count: characters for CJK scripts, words elsewhere."""
    return len(tokens(text))


def lengths(texts: Sequence[str]) -> list[int]:
    """The `length` of each text; of many at once, in a third of the time."""
    import numpy as np

    counts = [_starts(block)[1] for block in _blocks(texts)]
    found: list[int] = np.concatenate(counts).tolist() if counts else []
    return found


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


# Many texts at once: a whole block of them is one array of code points, a table tells separators, word characters and CJK characters
# apart, and the hashes of all tokens come from one running sum of c * BASE**i (mod 2**64), scaled back by the inverse power at each token's
# start (Karp & Rabin 1987). No Python runs per token.

BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse mod 2**64
BLOCK = 1 << 16  # characters handled at once: the arrays stay in the processor's cache
WORD, SINGLE, APOSTROPHE = 1, 2, 3


def hashed(texts: Iterable[str]) -> Iterator[tuple[Hashes, Ints]]:
    """64-bit hashes of the `tokens` of all texts, text after text, and how many each text has, for some hundred texts at a time."""
    import numpy as np

    for block in _blocks(texts):
        first, counts, last, codes = _starts(block)
        up, down = _powers(max(2 * BLOCK, 1 << len(codes).bit_length()))
        running = np.zeros(len(codes) + 1, dtype=np.uint64)
        np.cumsum(codes * up[: len(codes)], out=running[1:])
        yield mix((running[last] - running[first]) * down[first]), counts


def mix(x: Hashes) -> Hashes:
    """The splitmix64 finaliser: every input bit reaches every output bit."""
    import numpy as np

    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts as `normalise` folds them, but for their white space, BLOCK characters at a time."""
    block: list[str] = []
    size = 0
    for text in texts:
        block.append(text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).lower())
        size += len(block[-1]) + 1
        if size >= BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def _starts(block: Sequence[str]) -> tuple[Ints, Ints, Ints, NDArray[np.unsignedinteger]]:
    """Where the tokens of all texts begin, how many each text has, where they end, and the code points of all texts on lines of their own."""
    import numpy as np

    joined = "\n".join(block) + "\n"
    ends = np.cumsum(np.fromiter(map(len, block), dtype=np.int64, count=len(block)) + 1)
    codes: NDArray[np.unsignedinteger]
    if joined.isascii():
        codes = np.frombuffer(joined.encode("ascii"), dtype=np.uint8)
    else:
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kinds = _kinds()[codes]
    inside = kinds == WORD
    quotes = np.flatnonzero(kinds[1:] == APOSTROPHE) + 1  # the text's last character is a line break: quotes + 1 exists
    inside[quotes[inside[quotes - 1] & inside[quotes + 1]]] = True
    steps = np.diff(inside.view(np.int8), prepend=np.int8(0))
    first, last = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    single = np.flatnonzero(kinds == SINGLE)
    if len(single):
        first, last = np.sort(np.concatenate([first, single])), np.sort(np.concatenate([last, single + 1]))
    return first, np.diff(np.searchsorted(first, ends), prepend=0), last, codes


@cache
def _kinds() -> NDArray[np.uint8]:
    """For each code point: separator (0), part of a word, a token of its own, or apostrophe (a separator unless inside a word)."""
    import numpy as np

    every = np.arange(0x110000, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    table = np.zeros(0x110000, dtype=np.uint8)
    for found in re.finditer(r"[^\W_]+", every):
        table[found.start() : found.end()] = WORD
    for found in re.finditer(f"[{CJK}]+", every):
        table[found.start() : found.end()] = SINGLE
    table[[ord("'"), ord("’")]] = APOSTROPHE
    return table


@cache
def _powers(size: int) -> tuple[Hashes, Hashes]:
    import numpy as np

    up, down = np.full(size, BASE, dtype=np.uint64), np.full(size, pow(BASE, -1, 1 << 64), dtype=np.uint64)
    up[0] = down[0] = 1
    return np.multiply.accumulate(up), np.multiply.accumulate(down)
