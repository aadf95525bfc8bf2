"""Whether labels can be told from hypotheses alone, and which rows give them away.

Writers fall into habits: what contradicts has a "not" in it, what may be true has a reason. A model tuned on such rows learns the habit and
never reads the premise (Gururangan et al. 2018, Poliak et al. 2018). So a small classifier is shown hypotheses without premises; where it does
better than always saying the commonest label, the set gives labels away. Rows that it is surest of can be dropped until it does no better
(after AFLite, Le Bras et al. 2020).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Annotated, Any, TypeAlias

import numpy as np
from annotated_types import Gt, Le
from numpy.typing import NDArray

from zhiling.errors import say
from zhiling.nli import LABELS, Pair, pair_of
from zhiling.registry import selector
from zhiling.text import lang, length, normalise, shingles, tokens
from zhiling.types import Example, Verdict, row_seed

FOLDS, LEAST = 5, 60
"""Parts of a set, whole premises each, of which one is told by what was learnt of the others; fewest rows of which anything is said."""
GRAMS, STEPS, WEIGHT = 4096, 60, 1.0
"""Most words and word pairs that the classifier knows, its steps, and how strongly its weights are held small."""
MOST = 20_000
"""Rows of a task and language that the classifier learns from at most: from there on more change nothing that is told."""
SLICE = 20
"""A slice that is dropped before the rest is looked at again is one in so many of the rows."""

Doubles: TypeAlias = NDArray[np.float64]
Told: TypeAlias = tuple[str, Pair]


@dataclass(frozen=True, slots=True)
class Alone:
    """How well labels of a task's rows in one language are told from their hypotheses alone.

    `accuracy` in [0, 1] is cross-validated, `low` and `high` its 95% interval (Wilson 1927), `commonest` the accuracy of always saying
    the commonest label.
    """

    task: str
    lang: str
    rows: int
    accuracy: float
    low: float
    high: float
    commonest: float

    @property
    def gives_away(self) -> bool:
        """Whether it is more than chance."""
        return self.low > self.commonest

    def told(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "gives_away": self.gives_away}

    def said(self) -> str:
        """One line for people."""
        name = f"{self.task} ({self.lang})"
        figures = f"{self.accuracy:.2f} [{self.low:.2f}, {self.high:.2f}]"
        if self.gives_away:
            return say(
                f"{name}: hypotheses alone give labels away: {figures} of {self.rows} are told without the premise, {self.commonest:.2f} by"
                " always saying the commonest label; add the selector `hypothesis_only`, or let hypotheses be written otherwise",
                f"{name}：只看假设就能猜出标签：不看前提猜对 {figures}（{self.rows} 行），总猜最常见标签为 {self.commonest:.2f}；"
                "可加选择器 hypothesis_only，或换一种写假设的方式",
            )
        return say(
            f"{name}: hypotheses alone do not give labels away: {figures} of {self.rows} against {self.commonest:.2f}",
            f"{name}：只看假设猜不出标签：{figures}（{self.rows} 行），总猜最常见标签为 {self.commonest:.2f}",
        )


def alone(rows: Iterable[Example], gone: Iterable[Example] = (), seed: int = 0) -> list[Alone]:
    """What rows teach of labels by their hypotheses alone, by task and language; nothing of those with fewer than LEAST.

    Rows count that name premise and hypothesis and answer with one of the LABELS. `gone` are rows that the selector dropped: nothing is learnt
    of them, but they are told like the others, since a set without its easiest rows looks better than what it teaches.
    """
    taught, dropped = _grouped(rows), _grouped(gone)
    out = []
    for name, mine in taught.items():
        if len(mine) >= LEAST:
            every = [*mine, *dropped.get(name, ())]
            out.append(_measured(name, every, np.arange(len(every)) < len(mine), seed)[0])
    return out


@selector(
    "hypothesis_only", paper="Gururangan et al. 2018; filtering after AFLite: Le Bras et al. 2020 (arXiv:2002.04108)"
)
def hypothesis_only(
    examples: Sequence[Example], *, seed: int, least: Annotated[float, Gt(0), Le(1)] = 0.5
) -> Iterator[Verdict]:
    """Of rows for natural language inference, drop those whose hypothesis alone gives the label away.

    By task and language: while a classifier that learns from the hypotheses that are left tells the labels of all the rows better than the
    commonest label does (cross-validated, by the lower end of its 95% interval), the rows of each label that it is surest of go, a twentieth
    at a time and in proportion, so that the balance of labels stays; at least the share `least` of rows is kept. Rows that show no premise,
    hypothesis and label, and sets of fewer than LEAST rows, are kept.
    """
    fell: dict[str, str] = {}
    for name, mine in _grouped(examples).items():
        if len(mine) >= LEAST:
            fell |= _fallen(name, mine, seed, least)
    for row in examples:
        yield Verdict(row.id, "hypothesis_only", row.id not in fell, fell.get(row.id, ""))


def _grouped(rows: Iterable[Example]) -> dict[tuple[str, str], list[Told]]:
    """(id, pair) of the rows that can be told of, by task and language, each group by ascending id."""
    found: dict[tuple[str, str], list[Told]] = {}
    for row in rows:
        pair = pair_of(row)
        if pair is not None and pair.named and pair.label and tokens(pair.hypothesis):
            code = "zh" if lang(pair.hypothesis) == "zh" else "en"
            found.setdefault((row.task, code), []).append((row.id, pair))
    return {name: sorted(found[name], key=lambda one: one[0]) for name in sorted(found)}


def _measured(
    name: tuple[str, str], mine: Sequence[Told], taught: NDArray[np.bool_], seed: int
) -> tuple[Alone, Doubles]:
    """What is told of the rows by those `taught`, and the probability that each row's own label was given."""
    truth = np.array([LABELS.index(pair.label) for _, pair in mine])
    chances = _chances([pair for _, pair in mine], truth, taught, seed)
    total, right = len(mine), int((chances.argmax(axis=1) == truth).sum())
    low, high = _wilson(right, total)
    commonest = max(Counter(truth.tolist()).values()) / total
    found = Alone(*name, total, round(right / total, 4), round(low, 4), round(high, 4), round(commonest, 4))
    return found, np.round(chances[np.arange(total), truth], 6)


def _wilson(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    share, wide = right / total, z * z / total
    half = z * sqrt(share * (1 - share) / total + wide / (4 * total))
    return (share + wide / 2 - half) / (1 + wide), (share + wide / 2 + half) / (1 + wide)


def _fallen(name: tuple[str, str], mine: Sequence[Told], seed: int, least: float) -> dict[str, str]:
    """Why rows of a group fall, by id."""
    left, out, slice_ = np.ones(len(mine), bool), dict[str, str](), max(1, len(mine) // SLICE)
    truth = np.array([LABELS.index(pair.label) for _, pair in mine])
    while left.sum() - slice_ >= least * len(mine):
        found, sure = _measured(name, mine, left, seed)
        if not found.gives_away:
            break
        gone = list[int]()
        for label in range(len(LABELS)):
            those = [int(at) for at in np.flatnonzero(left & (truth == label))]
            those.sort(key=lambda at: (-sure[at], mine[at][0]))
            gone += those[: round(slice_ * len(those) / int(left.sum()))]
        if not gone:
            break
        for at in gone:
            out[mine[at][0]] = say(
                f"its label can be told from the hypothesis alone, probability {sure[at]:.2f} ({found.accuracy:.2f} of such rows can, "
                f"{found.commonest:.2f} by chance)",
                f"只看假设就能猜出标签，概率 {sure[at]:.2f}（这类行中 {found.accuracy:.2f} 可猜出，碰巧为 {found.commonest:.2f}）",
            )
        left[gone] = False
    return out


def _chances(pairs: Sequence[Pair], truth: NDArray[np.int64], taught: NDArray[np.bool_], seed: int) -> Doubles:
    """Each row's probability of every label by what was learnt of the taught rows with other premises: (n, labels)."""
    folds = np.array([row_seed(seed, normalise(pair.premise)) % FOLDS for pair in pairs])
    bags = _bags(pairs)
    width = 1 + max(int(at[-1]) for at, _ in bags)
    out = np.full((len(pairs), len(LABELS)), 1 / len(LABELS))
    for fold in range(FOLDS):
        rest, held = np.flatnonzero((folds != fold) & taught), np.flatnonzero(folds == fold)
        if len(rest) and len(held):
            known = rest[:: -(-len(rest) // MOST)]
            weights = _learnt(_Bags([bags[at] for at in known], width), truth[known])
            out[held] = _softmax(_Bags([bags[at] for at in held]).times(weights))
    return out


def _bags(pairs: Sequence[Pair]) -> list[tuple[NDArray[np.int64], Doubles]]:
    """Per row the places of its features and their values: words and word pairs seen twice or more, its length, and a constant."""
    grams = [{*((one,) for one in tokens(pair.hypothesis)), *shingles(pair.hypothesis, 2)} for pair in pairs]
    counted = Counter(gram for bag in grams for gram in bag)
    often = sorted((gram for gram, count in counted.items() if count > 1), key=lambda gram: (-counted[gram], gram))
    places = {gram: at for at, gram in enumerate(often[:GRAMS], 2)}
    out = []
    for pair, bag in zip(pairs, grams, strict=True):
        at = sorted(places[gram] for gram in bag if gram in places)
        size = np.log1p(length(pair.hypothesis)) / 3
        values = np.concatenate([[1.0, size], np.full(len(at), 1 / sqrt(max(1, len(at))))])
        out.append((np.array([0, 1, *at]), values))
    return out


class _Bags:
    """Rows of few features as one sparse matrix."""

    def __init__(self, bags: Sequence[tuple[NDArray[np.int64], Doubles]], width: int = 2 + GRAMS) -> None:
        self.width = width
        self.at = np.concatenate([at for at, _ in bags])
        self.values = np.concatenate([values for _, values in bags])
        sizes = np.array([len(at) for at, _ in bags])
        self.starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self.rows = np.repeat(np.arange(len(bags)), sizes)

    def times(self, weights: Doubles) -> Doubles:
        """The matrix times weights (features, labels)."""
        return np.asarray(np.add.reduceat(weights[self.at] * self.values[:, None], self.starts, axis=0))

    def back(self, errors: Doubles) -> Doubles:
        """Its transpose times errors (rows, labels): (features, labels)."""
        parts = [np.bincount(self.at, self.values * column[self.rows], self.width) for column in errors.T]
        return np.stack(parts, axis=1)


def _softmax(said: Doubles) -> Doubles:
    raised = np.exp(said - said.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _learnt(bags: _Bags, truth: NDArray[np.int64]) -> Doubles:
    """Weights of a multinomial logistic regression with an L2 penalty, by accelerated gradient steps (Nesterov 1983)."""
    total, wanted = len(truth), np.eye(len(LABELS))[truth]
    weights: Any = np.zeros((bags.width, len(LABELS)))
    ahead, step = weights, 1 / (0.5 * 4 + WEIGHT / total)  # a row's squared norm is below 4
    for turn in range(STEPS):
        slope = bags.back(_softmax(bags.times(ahead)) - wanted) / total + WEIGHT / total * ahead
        after = ahead - step * slope
        ahead, weights = after + turn / (turn + 3) * (after - weights), after
    return np.asarray(weights)
