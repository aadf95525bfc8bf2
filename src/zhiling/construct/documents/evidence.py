"""Where in a passage a quotation stands, and what an answer says that its evidence does not."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from zhiling import text
from zhiling.numerals import SIGNS, han_value

ALIGNED = 0.8
"""Least share of a quotation's tokens, in order, that a stretch of the passage must hold to be what was quoted."""
_number = re.compile(r"\d+(?:[.,:]\d+)*")
_name = re.compile(r"(?<![.!?:\"“(\n-] )(?<![.!?:\"“(\n])(?<!^)\b([A-Z][a-z]{2,}|[A-Z]{2,})\b")
_latin = re.compile(r"[A-Za-z][A-Za-z0-9.+#_-]{2,}")
_quoted = re.compile(r"《([^》\n]{1,30})》|“([^”\n]{1,20})”")
_word = re.compile(rf"[{text.CJK}]|[^\W_{text.CJK}]+")
_item = re.compile(r"^\s*\d{1,2}[.)、]\s*", re.MULTILINE)
_said = {
    word: str(at)
    for at, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    )
}
_han_number = re.compile(f"[{SIGNS}]+")


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a passage, and which share of the quotation it holds: 1 where it is the same letter for letter."""

    start: int
    end: int
    share: float


def locate(passage: str, quote: str) -> Span | None:
    """The stretch that a quotation is taken from: the same words, whatever their case, width, spaces and marks; else the one that holds
    at least ALIGNED of them in order. None where there is none."""
    letters, places = _letters(passage)
    wanted, _ = _letters(quote)
    if not wanted:
        return None
    at = letters.find(wanted)
    if at >= 0:
        return Span(places[at], places[at + len(wanted) - 1] + 1, 1.0)
    return _aligned(passage, quote)


def _letters(said: str) -> tuple[str, list[int]]:
    """Letters and figures alone, folded, and where each stands in the text."""
    out: list[str] = []
    places: list[int] = []
    for at, char in enumerate(said):
        for one in unicodedata.normalize("NFKC", char).lower():
            if one.isalnum():
                out.append(one)
                places.append(at)
    return "".join(out), places


def _aligned(passage: str, quote: str) -> Span | None:
    wanted = text.tokens(quote)
    found = list(_word.finditer(passage))
    have = [unicodedata.normalize("NFKC", one[0]).lower() for one in found]
    size = len(wanted)
    if size < 4 or len(have) < 0.7 * size:
        return None
    width, best, place = round(1.25 * size) + 1, 0, 0
    need, held, hits = Counter(wanted), Counter[str](), 0
    for at, word in enumerate(have):  # a window's tokens in common with the quotation, as a multiset
        held[word] += 1
        hits += held[word] <= need[word]
        if at >= width:
            old = have[at - width]
            hits -= held[old] <= need[old]
            held[old] -= 1
        if hits > best:
            best, place = hits, at
    if best < ALIGNED * size:
        return None
    first = max(0, place - width + 1)
    run = _common(wanted, have[first : place + 1])
    if len(run) < ALIGNED * size:
        return None
    return Span(found[first + run[0]].start(), found[first + run[-1]].end(), round(len(run) / size, 4))


def _common(a: list[str], b: list[str]) -> list[int]:
    """Places in `b` of a longest common subsequence."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a) - 1, -1, -1):
        for j in range(len(b) - 1, -1, -1):
            table[i][j] = table[i + 1][j + 1] + 1 if a[i] == b[j] else max(table[i + 1][j], table[i][j + 1])
    out, i, j = list[int](), 0, 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            out.append(j)
            i, j = i + 1, j + 1
        elif table[i + 1][j] >= table[i][j + 1]:
            i += 1
        else:
            j += 1
    return out


def figures(said: str) -> set[str]:
    """The numbers of a text, in figures: also those that Chinese writes in characters, and English ones up to twelve in words. List
    numbers are none."""
    plain = text.normalise(_item.sub("", said))
    found = {one.replace(",", "").rstrip(".:") for one in _number.findall(plain)}
    found |= {str(han_value(one)) for one in _han_number.findall(plain)}
    return found | {_said[word] for word in text.tokens(plain) if word in _said}


def digits(said: str) -> set[str]:
    """The numbers that a text gives in figures; list numbers are none."""
    return {one.replace(",", "").rstrip(".:") for one in _number.findall(text.normalise(_item.sub("", said)))}


def names(said: str) -> set[str]:
    """Capitalised words inside English sentences; quoted titles and Latin words in Chinese ones."""
    if text.lang(said) == "zh":
        return {next(filter(None, found)) for found in _quoted.findall(said)} | set(_latin.findall(said))
    return set(_name.findall(said))


def invented(said: str, source: str) -> list[str]:
    """The numbers and names of a text that its source does not hold."""
    plain = source.lower()
    strange = [name for name in names(said) if name.lower() not in plain]
    return sorted({*(digits(said) - figures(source)), *strange})


def covered(said: str, source: str) -> float:
    """Share of a text's words (in Chinese: pairs of characters) that its source holds; 1.0 for a text without any."""
    asked = text.bigrams(said)
    have = set(text.bigrams(source))
    return sum(one in have for one in asked) / len(asked) if asked else 1.0
