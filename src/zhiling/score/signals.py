"""What the quality model looks at: each signal is one small function of a row, with its range and the direction that is meant.

A signal says nothing of truth. It says whether the answer takes up what was asked (`answering`, `names`, `count`), whether it
adds something of its own (`richness`, `variety`), how it is written out, and what is plainly wrong with it (`refusal`, `defects`,
`repetition`). Content words are words without function words, crudely stemmed, in English and its like; in Chinese pairs of
neighbouring characters that hold no function character, which needs no segmenter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from zhiling import text
from zhiling.embed import Embedder
from zhiling.numerals import number
from zhiling.score.format import format
from zhiling.score.quality_model import Signal
from zhiling.score.refusal import refusal as refuses
from zhiling.types import Example

PROMPT, OUTPUT = 1000, 1000  # characters that are embedded
MOST = 8000  # characters of a field whose words are looked at

_FUNCTION = frozenset({
    "a", "an", "the", "of", "to", "in", "on", "for", "and", "or", "is", "are", "was", "were", "be", "been", "being", "with", "as", "by",
    "at", "from", "that", "this", "these", "those", "it", "its", "their", "his", "her", "your", "you", "i", "we", "they", "he", "she",
    "not", "no", "do", "does", "did", "can", "could", "should", "would", "will", "may", "might", "must", "have", "has", "had", "if",
    "then", "than", "so", "such", "which", "who", "whom", "what", "when", "where", "why", "how", "there", "here", "into", "about", "over",
    "more", "most", "some", "any", "each", "other", "also", "only", "just", "very", "please", "given", "following", "write", "create",
    "generate", "give", "provide", "describe", "explain", "list", "make", "find", "use", "using", "include", "includes",
})  # fmt: skip
_FUNCTION_ZH = frozenset(
    "的了着和与及或是在我你您他她它们这那个些一不也都就还又很更最被把为以对从到向其之于而且并但则因所如若将使让得等请吗呢吧啊呀么怎哪谁几每各该此"
)
_ASKING_ZH = frozenset({
    "写出", "写下", "生成", "创建", "创作", "描述", "解释", "列出", "列举", "提供", "根据", "给出", "给定", "以下", "下列", "下面",
    "编写", "说明", "什么", "如何", "为什", "可以", "需要", "使用", "包括", "进行", "关于",
})  # fmt: skip
_word = re.compile(rf"[^\W\d_{text.CJK}][^\W\d_{text.CJK}'’]*(?:-[^\W\d_{text.CJK}'’]+)*|\d[\d.,]*\d|\d")
_runs = re.compile(rf"[{text.CJK}]+")
_quoted = re.compile(r"《([^》\n]{1,40})》|“([^”\n]{1,30})”|「([^」\n]{1,30})」")
_name = re.compile(r"(?<=[^\s.!?:\"“(])\s+([A-Z][a-z]{2,})")
_latin_in_han = re.compile(r"[A-Za-z][A-Za-z0-9+#.-]{2,}")
_item = re.compile(r"^\s*(?:[-*•·]|\d{1,2}[.)、．]|[（(]\d{1,2}[)）]|[一二三四五六七八九十]{1,2}、)\s*\S", re.MULTILINE)
_COUNTED = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: at for at, word in enumerate(_COUNTED, 1)}
_asked = re.compile(
    r"\b(two|three|four|five|six|seven|eight|nine|ten|\d{1,2}) (?!words?\b|sentences?\b|letters?\b|years?\b|minutes?\b|hours?\b|days?\b"
    r"|paragraphs?\b|lines?\b|characters?\b|times\b|%|percent)(?:[a-z-]+ ){0,3}?[a-z]+s\b",
    re.IGNORECASE,
)
_asked_zh = re.compile(
    r"([两二三四五六七八九十]|\d{1,2})\s*(?:个|条|种|项|点|件|本|部|首|位|款|道|样)(?!字|词|月|小时|人)"
)


@dataclass(frozen=True)
class Sides:
    """The two sides of a row as the signals see them; what is costly is worked out once, when first asked for."""

    row: Example
    cosine: float
    declined: float
    broken: float

    @cached_property
    def output(self) -> str:
        return self.row.output.strip()

    @cached_property
    def prompt(self) -> str:
        return f"{self.row.instruction[:MOST]}\n{self.row.input[:MOST]}"

    @cached_property
    def asked(self) -> frozenset[str]:
        return content(self.prompt)

    @cached_property
    def said(self) -> frozenset[str]:
        return content(self.output[:MOST])

    @cached_property
    def tokens(self) -> list[str]:
        return text.tokens(self.output[:MOST])

    @cached_property
    def covered(self) -> float:
        return len(self.asked & self.said) / len(self.asked) if self.asked else 0.0

    @cached_property
    def added(self) -> float:
        return math.log1p(len(self.said - self.asked))


def content(passage: str) -> frozenset[str]:
    """The distinct content words of a text: stems in scripts with spaces, pairs of characters in those without."""
    folded = passage.lower()
    words = {
        _stem(word) for word in _word.findall(folded) if word not in _FUNCTION and (len(word) > 2 or word.isdigit())
    }
    if not folded.isascii():
        for run in _runs.findall(folded):
            neighbours = {a + b for a, b in pairwise(run) if not (a in _FUNCTION_ZH or b in _FUNCTION_ZH)}
            words |= neighbours - _ASKING_ZH
    return frozenset(words)


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s", "ly"):
        if word.endswith(ending) and len(word) > len(ending) + 3:
            return word[: -len(ending)]
    return word


def richness(row: Sides) -> float:
    """Cover times the logarithm of the number of content words that the output adds. 0 up, high is meant."""
    return row.covered * row.added


def answering(row: Sides) -> float:
    """Richness times cosine: much said, and to the point. 0 up, high is meant."""
    return row.covered * row.cosine * row.added


def ordered(row: Sides) -> float:
    """Cover times the logarithm of the number of line breaks: lines that are about what was asked. 0 up, high is meant."""
    return row.covered * math.log1p(row.output.count("\n"))


def paragraphs(row: Sides) -> float:
    """Logarithm of the number of paragraphs, which empty lines part. 0 up, high is meant."""
    return math.log1p(sum(bool(part.strip()) for part in row.output.split("\n\n")))


def sentence(row: Sides) -> float:
    """Logarithm of the mean length of the output's sentences and lines, in words or characters: no bare keywords. 0 up, high is meant."""
    return math.log1p(len(row.tokens) / max(1, len(text.sentences(row.output[:MOST]))))


def variety(row: Sides) -> float:
    """Share of the output's tokens that are distinct; 0 without tokens. 0 to 1, high is meant."""
    said = row.tokens
    return len(set(said)) / len(said) if said else 0.0


def refusal(row: Sides) -> float:
    """1 where the output declines to answer, as the scorer `refusal` sees it. Low is meant."""
    return row.declined


def defects(row: Sides) -> float:
    """1 where the scorer `format` finds a structural defect. Low is meant."""
    return row.broken


def repetition(row: Sides) -> float:
    """Share of the output's runs of four tokens that stand in it before. 0 to 1, low is meant."""
    said = row.tokens
    runs = list(zip(said, said[1:], said[2:], said[3:], strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def names(row: Sides) -> float:
    """Share of the prompt's names, of quoted titles and of Latin words in Chinese, that the output lacks. 0 to 1, low is meant."""
    wanted = set(_name.findall(row.prompt)) if row.prompt.isascii() else set()
    if not wanted and not row.prompt.isascii():
        wanted = {next(filter(None, found)) for found in _quoted.findall(row.prompt)}
        wanted |= set(_latin_in_han.findall(row.prompt) if text.lang(row.prompt) == "zh" else _name.findall(row.prompt))
    said = row.output.lower()
    return sum(name.lower() not in said for name in wanted) / len(wanted) if wanted else 0.0


def count(row: Sides) -> float:
    """How far the number of items is from the number asked for ("five tips", 三个例子), in thirds, at most 1. 0 to 1, low is meant."""
    wanted = _wanted(row.row.instruction)
    if wanted < 2:
        return 0.0
    have = (
        len(_item.findall(row.output)) or max(row.output.count(","), row.output.count("，"), row.output.count("、")) + 1
    )
    return min(3, abs(have - wanted)) / 3


def _wanted(instruction: str) -> int:
    if found := _asked.search(instruction):
        said = found.group(1).lower()
        return _NUMBERS.get(said) or int(said)
    if found := _asked_zh.search(instruction):
        return number(found.group(1)) or 0
    return 0


SIGNALS: Mapping[str, Signal] = {
    "richness": Signal(richness, 1, "内容充实"),
    "answering": Signal(answering, 1, "充实且切题"),
    "ordered": Signal(ordered, 1, "切题分行"),
    "paragraphs": Signal(paragraphs, 1, "分段"),
    "sentence": Signal(sentence, 1, "成句"),
    "variety": Signal(variety, 1, "用词多样"),
    "refusal": Signal(refusal, -1, "拒答"),
    "defects": Signal(defects, -1, "结构缺陷"),
    "repetition": Signal(repetition, -1, "重复"),
    "names": Signal(names, -1, "遗漏名称"),
    "count": Signal(count, -1, "数量不符"),
}


def measure(examples: Sequence[Example], embedder: Embedder) -> list[dict[str, float]]:
    """Every signal of every row; all texts are embedded in one call. Cosines are rounded, so that no batch changes a value."""
    if not examples:
        return []
    prompts = [row.prompt.strip()[:PROMPT] for row in examples]
    outputs = [row.output.strip()[:OUTPUT] for row in examples]
    texts = list(dict.fromkeys([*prompts, *outputs]))
    at = {item: i for i, item in enumerate(texts)}
    vectors = embedder(texts)
    asked, said = vectors[[at[item] for item in prompts]], vectors[[at[item] for item in outputs]]
    near = np.round(np.clip(np.einsum("ij,ij->i", asked, said), 0, 1), 3)
    declined = [score.value or 0.0 for score in refuses(examples)]
    broken = [float(score.value == 0) for score in format(examples)]
    sides = [Sides(*each) for each in zip(examples, near.tolist(), declined, broken, strict=True)]
    return [{name: signal.of(row) for name, signal in SIGNALS.items()} for row in sides]
