"""Do two texts say the same? A small logistic model over named features, beside differences that no model may overlook.

Sentence vectors see what two texts are about, not what they claim of it: "from A to B" and "from B to A", 2019 and 2020, allowed
and not allowed lie close together. So what differs in a number, in a "not" or in a name is told apart by rule (`difference`), and the
rest is weighed: eight features by name, and how the two vectors agree in each dimension. The weights are data
(`semantic_weights.yaml`), trained by `benchmarks/dedup.py --train`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhiling.numerals import SIGNS, han_value
from zhiling.text import HAN, normalise, tokens

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

FEATURES = ("cosine", "bigrams", "content", "length", "numbers", "negation", "asks", "order")
WEIGHTS = Path(__file__).with_name("semantic_weights.yaml")
LONG = 64  # tokens: what the weights were trained on is shorter

FUNCTION = frozenset(
    str.split(
        "的 了 吗 呢 啊 吧 呀 么 嘛 得 地 着 是 有 在 我 你 您 请 问 一 下 个 就 都 也 还 又 这 那 会 能 要 想 可 以 去 给 把 被 和 与"
        " the a an is are was were do does did to of in on for i my me you your it this that and or be can will would should have"
        " has please"
    )
)
ASKS: dict[str, str] = {
    "why": "为什么|为何|为啥|怎么会|咋会|\\bwhy\\b",
    "when": "什么时候|何时|几点|哪年|哪天|多久|\\bwhen\\b",
    "many": "多少|几|多[大长高远重]|\\bhow (?:many|much|long|old|far)\\b",
    "where": "哪里|哪儿|何处|在哪|\\bwhere\\b",
    "who": "谁|\\bwho\\b|\\bwhom\\b|\\bwhose\\b",
    "how": "怎么|如何|怎样|咋|\\bhow\\b",
    "what": "什么|啥|哪|\\bwhat\\b|\\bwhich\\b",
    "whether": "吗|是否|有没有|(?P<twice>.)不(?P=twice)",
}
_asks = re.compile("|".join(f"(?P<{kind}>{words})" for kind, words in ASKS.items()))
_whether = re.compile(
    r"(.{1,2})[不没]\1|是否|有没有|能否|可否|要不要|没有?(?=[呢啊]?\s*(?:[?？。,，!！]|$))|whether or not",
    re.IGNORECASE,
)
_idioms = re.compile("统一|唯一|万一|独一无二|十分(?!钟)|百分|千万(?=[别不要])|三国|一[样下些点起直定般种个]")
_not = re.compile(
    r"不(?![同过但断仅错少管论如久妨])|没|未(?![来])|无(?![线锡论数限])|别(?![的人名墅])|\b(?:not|no|never|without|none|cannot|nor)\b|n['’]t\b"
)
_digits = re.compile(r"\d+(?:[.,:]\d+)*")
_units = "年月日号天岁元块斤米次倍时分秒层楼级届期章节条名位人只"
_numerals = re.compile(f"[{SIGNS}]{{2,}}|[二两三四五六七八九十](?=[{_units}个])|一(?=[年月日号岁])")
_quoted = re.compile(r"《([^》]{1,40})》|“([^”]{1,40})”|\"([^\"]{1,40})\"")
_capital = re.compile(r"(?<![.!?:\n\"“])(?<!^)\s([A-Z][\w'’-]+)")
_latin = re.compile(r"[a-z][a-z0-9.+#-]*[a-z0-9+#]|[a-z]")
_chinese = re.compile(f"[{HAN}]")
_small = str.split(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
)
_tens = str.split("twenty thirty forty fifty sixty seventy eighty ninety")
WORDS = {word: value for value, word in enumerate(_small)} | {word: 10 * at for at, word in enumerate(_tens, 2)}
_words = re.compile(rf"\b(?:(?:{'|'.join(_tens)})(?:[- ](?:{'|'.join(_small[1:10])}))?|{'|'.join(_small[2:])})\b")


def numbers(folded: str) -> list[str]:
    """The numbers of a normalised text in order, as digits, whether written as digits, English words or Chinese numerals."""
    found = [(match.start(), match[0].replace(",", "")) for match in _digits.finditer(folded)]
    found += [(match.start(), str(han_value(match[0]))) for match in _numerals.finditer(_idioms.sub("  ", folded))]
    for match in _words.finditer(folded):
        found.append((match.start(), str(sum(WORDS[word] for word in re.split("[- ]", match[0])))))
    return [value for _, value in sorted(found)]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a text's features are made of. `negated` is the parity of its negations, `asks` the kinds of question in it."""

    folded: str
    tokens: tuple[str, ...]
    bigrams: frozenset[tuple[str, str]]
    content: frozenset[str]
    numbers: frozenset[str]
    negated: bool
    asks: frozenset[str]
    names: frozenset[str]


def facts(text: str) -> Facts:
    """Look a text through, once."""
    folded = normalise(text)
    found = tuple(tokens(text))
    edges = ("", *found, "")
    return Facts(
        folded=folded,
        tokens=found,
        bigrams=frozenset(pairwise(edges)) if found else frozenset(),
        content=frozenset(found) - FUNCTION,
        numbers=frozenset(numbers(folded)),
        negated=len(_not.findall(_whether.sub(" ", folded))) % 2 == 1,
        asks=frozenset(kind for match in _asks.finditer(folded) if (kind := _kind(match))),
        names=names(text, folded),
    )


def _kind(match: re.Match[str]) -> str:
    return next((kind for kind in ASKS if match[kind] is not None), "")


def names(text: str, folded: str) -> frozenset[str]:
    """What a text names: quoted titles, places, Latin words in Chinese text, capitalised words within English sentences."""
    found = {normalise(next(filter(None, match))) for match in _quoted.findall(text)}
    if _chinese.search(folded):
        found |= set(_latin.findall(folded))
        found |= {place for place in weights().places if place in folded}
    else:
        found |= {word.lower() for word in _capital.findall(text)} - {"i", "i'm", "i'd", "i've"}
    return frozenset(found)


def difference(a: Facts, b: Facts) -> str:
    """"number", "negation" or "name" where two texts differ in one, else "": such texts ask different things.

    A name differs where each text has one that the other lacks.
    """  # fmt: skip
    if a.numbers != b.numbers:
        return "number"
    if a.negated != b.negated:
        return "negation"
    return "name" if a.names - b.names and b.names - a.names else ""


def features(a: Facts, b: Facts) -> tuple[float, ...]:
    """The named features but for the cosine; symmetric, each in [0, 1]."""
    sizes = sorted((len(a.tokens), len(b.tokens)))
    return (
        _jaccard(a.bigrams, b.bigrams),
        _jaccard(a.content, b.content),
        sizes[0] / max(1, sizes[1]),
        float(a.numbers != b.numbers),
        float(a.negated != b.negated),
        1 - _jaccard(a.asks, b.asks),
        _inversions(a.tokens, b.tokens),
    )


def _jaccard(a: frozenset[Any], b: frozenset[Any]) -> float:
    both = len(a & b)
    return both / (len(a) + len(b) - both) if a or b else 1.0


def _inversions(a: Sequence[str], b: Sequence[str]) -> float:
    """Of the tokens that both have once, the share of pairs that stand the other way round; 0 for long texts."""
    if max(len(a), len(b)) > LONG:
        return 0.0
    places = {token: at for at, token in enumerate(b) if b.count(token) == 1}
    order = np.array([places[token] for token in a if token in places and a.count(token) == 1])
    if len(order) < 2:
        return 0.0
    turned = int(np.triu(order[:, None] > order[None, :], 1).sum())
    return turned / (len(order) * (len(order) - 1) / 2)


@dataclass(frozen=True, slots=True)
class Weights:
    """The model: a bias, a weight per named feature, and per dimension of the vectors one for u*v and one for |u-v|."""

    embedder: str
    bias: float
    named: Doubles
    product: Doubles
    gap: Doubles
    places: tuple[str, ...]
    trained_on: dict[str, str]

    def by_vectors(self, u: Floats, v: Floats) -> Doubles:
        """What bias, cosine and vectors say of each pair of rows (n, dim): log-odds, without the features of the wording."""
        u64, v64 = u.astype(np.float64), v.astype(np.float64)
        products = u64 * v64
        said = products @ self.product + np.abs(u64 - v64) @ self.gap + self.named[0] * products.sum(axis=1)
        return np.asarray(said + self.bias)

    @property
    def room(self) -> float:
        """The most that the features of the wording can add."""
        return float(np.maximum(self.named[1:], 0).sum())

    def by_wording(self, a: Facts, b: Facts) -> float:
        """What the features of the wording add to the log-odds."""
        return float(np.dot(self.named[1:], features(a, b)))


@cache
def weights() -> Weights:
    """The weights as shipped."""
    import yaml

    data = yaml.safe_load(WEIGHTS.read_text(encoding="utf-8"))
    return Weights(
        embedder=data["embedder"],
        bias=float(data["bias"]),
        named=np.array([data["features"][name] for name in FEATURES]),
        product=np.array(data["product"]),
        gap=np.array(data["gap"]),
        places=tuple(data["places"]),
        trained_on=dict(data["trained_on"]),
    )


def probability(log_odds: float) -> float:
    """The logistic function, rounded to 4 decimals."""
    return round(float(1 / (1 + np.exp(-np.clip(log_odds, -50, 50)))), 4)
