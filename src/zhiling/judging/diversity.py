"""How varied a data set is as a whole: its words, its meanings, and what it asks for. No single row can tell.

Everything is counted on one seeded sample, so that figures of sets of different size can be compared: shares of distinct n-grams fall
with the amount of text, and are therefore taken over the same number of tokens.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from zhiling import text
from zhiling.embed import Embedder
from zhiling.errors import say
from zhiling.types import Example, row_seed

ROWS = 2000  # looked at; their similarities are 2,000 x 2,000
TOKENS = 20_000  # over which distinct n-grams are counted
TWIN = 0.9  # cosine from which two instructions ask for nearly the same
SHOWN = 8

_polite = re.compile(
    r"^\W*(?:please|kindly|can you|could you|would you|i want you to|i need you to|help me"
    r"|请你?|麻烦你?|帮我|给我|为我|帮忙|能否|能不能|可以)[\s,，]*",
    re.IGNORECASE,
)
_zh_verbs = re.compile(
    "写|创作|创建|生成|编写|编|给出|提供|描述|解释|列出|列举|翻译|总结|概括|分类|改写|重写|设计|计算|比较|介绍|说明|推荐|分析|找出|识别|判断|确定"
    "|回答|构建|构造|制定|制作|提取|修改|编辑|转换|选择|预测|评估|讨论|建议|想象|画|造句|续写|扩写|润色|排序|检查|证明|求|什么|怎么|如何|为什么|谁|哪|多少|几|是否|吗"
)


@dataclass(frozen=True, slots=True)
class Diversity:
    """What was counted on `looked` of `rows` rows; None where too few rows were given.

    distinct_1, distinct_2: share of distinct tokens and pairs among the first 20,000 tokens of the prompts (Li et al. 2016), words or
    characters; comparable only between sets that have as many (`tokens`). vendi: how many wholly different prompts would be as varied
    (Friedman & Dieng 2023), at most the embedder's dimensions. nearest: mean of 1 - cosine to the most similar other prompt; twins: share of
    rows that have one at cosine 0.9 or more. asks: what is asked for, by its first verb or question word; asks_effective: how many
    equally frequent ones would be as varied (the exponential of the entropy).
    """

    rows: int
    looked: int
    tokens: int
    distinct_1: float | None
    distinct_2: float | None
    vendi: float | None
    nearest: float | None
    twins: float | None
    asks_effective: float | None
    asks: dict[str, int]

    def told(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


class Sample:
    """At most `most` distinct rows of a stream, those with the smallest seeds: the same whatever order the rows come in."""

    def __init__(self, most: int = ROWS, seed: int = 0) -> None:
        self.most, self.seed, self.seen = most, seed, 0
        self._heap: list[tuple[int, str]] = []
        self._rows: dict[str, Example] = {}

    def add(self, row: Example) -> None:
        """Look at a row."""
        self.seen += 1
        if row.id in self._rows:
            return
        heapq.heappush(self._heap, (-row_seed(self.seed, row.id), row.id))
        self._rows[row.id] = row
        if len(self._heap) > self.most:
            del self._rows[heapq.heappop(self._heap)[1]]

    def rows(self) -> list[Example]:
        """The rows, by seed."""
        return [self._rows[key] for _, key in sorted(self._heap, reverse=True)]


def diversity(rows: Iterable[Example], embedder: Embedder, *, most: int = ROWS, seed: int = 0) -> Diversity:
    """Count everything on a seeded sample of at most `most` rows. Equal rows count once. The rows may be a stream."""
    sample = Sample(most, seed)
    for row in rows:
        sample.add(row)
    return of_sample(sample, embedder)


def beside(samples: Sequence[Sample], embedder: Embedder) -> list[Diversity]:
    """Several samples, their n-grams counted over as many tokens each, so that the figures can be compared where the rows are as many."""
    least = min((len(_tokens(_prompts(sample.rows()))) for sample in samples), default=TOKENS)
    return [of_sample(sample, embedder, least) for sample in samples]


def of_sample(sample: Sample, embedder: Embedder, most: int = TOKENS) -> Diversity:
    """The same for a sample that was gathered elsewhere; n-grams are counted over at most so many tokens."""
    rows = sample.rows()
    prompts = _prompts(rows)
    tokens = _tokens(prompts)[:most]
    asks = Counter(filter(None, (asked(row.instruction) for row in rows)))
    vendi = nearest = twins = None
    if len(prompts) >= 2:
        vendi, nearest, twins = _spread(prompts, embedder)
    return Diversity(
        sample.seen, len(rows), len(tokens), _distinct(tokens, 1), _distinct(tokens, 2), vendi, nearest, twins,
        round(_effective(asks), 1) if asks else None, dict(asks.most_common(SHOWN)),
    )  # fmt: skip


def _prompts(rows: Sequence[Example]) -> list[str]:
    return [row.prompt for row in rows if row.prompt.strip()]


def _tokens(prompts: Sequence[str]) -> list[str]:
    found: list[str] = []
    for prompt in prompts:
        found += text.tokens(prompt[:4000])
        if len(found) >= TOKENS:
            break
    return found[:TOKENS]


def _distinct(tokens: Sequence[str], n: int) -> float | None:
    grams = list(zip(*(tokens[at:] for at in range(n)), strict=False))
    return round(len(set(grams)) / len(grams), 4) if grams else None


def _spread(prompts: Sequence[str], embedder: Embedder) -> tuple[float, float, float]:
    """Vendi score, mean distance to the nearest other prompt, share of rows with a twin.

    The eigenvalues of the n x n similarities are those of the dim x dim second moments, which cost nothing.
    """
    import numpy as np

    vectors = embedder([prompt[:600] for prompt in prompts])
    values = np.linalg.eigvalsh((vectors.T @ vectors).astype(np.float64) / len(prompts))
    kept = values[values > 1e-12]
    vendi = float(np.exp(-(kept * np.log(kept)).sum()))
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    best = cosines.max(axis=1)
    return round(vendi, 1), round(float(np.mean(1 - best)), 3), round(float(np.mean(best >= TWIN)), 4)


def asked(instruction: str) -> str:
    """What an instruction asks for: its first word but for politeness (write, how), or the first asking verb of a Chinese one; "" for none."""
    plain = instruction[:200]
    while (short := _polite.sub("", plain, count=1)) != plain:
        plain = short
    if text.lang(plain) == "zh":
        found = _zh_verbs.search(plain)
        return found.group() if found else ""
    words = text.tokens(plain)
    return words[0] if words and words[0].isalpha() else ""


def _effective(counts: Counter[str]) -> float:
    total = counts.total()
    return math.exp(-sum(count / total * math.log(count / total) for count in counts.values()))


def lines(found: Diversity) -> list[str]:
    """For people."""

    def shown(value: float | None, form: str = "{:g}") -> str:
        return "-" if value is None else form.format(value)

    out = [
        say(
            f"diversity, on {found.looked} of {found.rows} rows:",
            f"多样性（{found.rows} 行中取 {found.looked} 行）：",
        ),
        say(
            f"  distinct tokens {shown(found.distinct_1)}, pairs {shown(found.distinct_2)} (of {found.tokens} tokens of the prompts)",
            f"  不同的词 {shown(found.distinct_1)}，不同的二元组 {shown(found.distinct_2)}（题面的前 {found.tokens} 个词或字）",
        ),
        say(
            f"  Vendi score {shown(found.vendi)}; distance to the nearest prompt {shown(found.nearest)}, "
            f"rows with a near twin {shown(found.twins, '{:.1%}')}",
            f"  Vendi 得分 {shown(found.vendi)}；与最近题面的平均距离 {shown(found.nearest)}，有近似题面的行 {shown(found.twins, '{:.1%}')}",
        ),
    ]
    if found.asks:
        listed = ", ".join(f"{name} {count}" for name, count in found.asks.items())
        out.append(
            say(
                f"  asks for: {listed} (as varied as {shown(found.asks_effective)} equally frequent)",
                f"  所问所求：{listed}（相当于 {shown(found.asks_effective)} 种均匀分布）",
            )
        )
    return out
