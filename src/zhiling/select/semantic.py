"""Rows that ask the same in other words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np

from zhiling.embed import Embedder
from zhiling.errors import RecipeError, say
from zhiling.registry import selector
from zhiling.select.rank import Scores, best_first
from zhiling.select.semantic_pairs import LONG, Facts, Floats, difference, facts, probability, weights
from zhiling.select.shingles import Ints
from zhiling.text import lang, normalise, valid
from zhiling.types import Example, Verdict

FLOOR = 0.7  # cosine of two prompts below which nobody looks closer
NEAREST = 16  # kept rows looked at for each row within one block: a crowd costs no more than any other
HIGH, WIDE = 512, 8192  # the similarity matrix is made in blocks of this size
MOST = 300_000  # rows: the work grows with their square
OVERLAP = 0.5  # bigrams that two texts longer than the model knows must share besides

Pair: TypeAlias = tuple[int, int, float]


@selector(
    "semantic", paper="Abbas et al. 2023 (SemDeDup); pair model trained on LCQMC, AFQMC, PAWS-X, BUSTM, SimCLUE, QQP"
)
def semantic(
    examples: Sequence[Example],
    *,
    scores: Scores,
    embedder: Embedder,
    threshold: float = 0.7,
    keep: str | None = None,
) -> Iterator[Verdict]:
    """Of rows whose prompts say the same in other words, keep one.

    Rows are walked best first (by the scorer `keep`, else by id); a row is dropped when a row kept before asks the same, which
    becomes its rival. Candidates are the 16 nearest kept rows of each block with a cosine >= 0.7; each is verified: instruction and
    input must each be equal up to case and width, or say the same with a probability >= threshold by the pair model, and must not
    differ in a number, a negation or a name (`semantic_pairs.difference`). Texts of more than 64 tokens must share half their
    bigrams besides. Rows with another system prompt, other earlier turns or another language ask something else, as do rows without
    words. Outputs are not compared. Raises RecipeError for a threshold outside (0, 1], another embedder than the model's, and more
    than 300,000 distinct prompts.
    """
    if not 0 < threshold <= 1:
        what = say(
            f"a probability to reach lies above 0 and at most at 1, not {threshold}",
            f"概率阈值须大于 0 且不超过 1，不能是 {threshold}",
        )
        raise RecipeError(what, where="semantic.threshold")
    rows = best_first(examples, scores, keep, "semantic.keep")
    said = {row.id: Verdict(row.id, "semantic", True) for row in rows}
    first: dict[tuple[str, ...], Example] = {}
    same = say("the same prompt as a row that is kept", "与保留的一行提示相同")
    for row in rows:
        asked = _asked(row)
        if not asked[-1] and not asked[-2]:
            continue
        leader = first.setdefault(asked, row)
        if leader is not row:
            said[row.id] = Verdict(row.id, "semantic", False, same, leader.id)
    leaders = list(first.values())
    _check(len(leaders), embedder)
    beaten = _walk(leaders, embedder, threshold)
    for at, (rival, chance) in beaten.items():
        why = say(
            f"says the same as a row that is kept, probability {chance:.2f}", f"与保留的一行含义相同，概率 {chance:.2f}"
        )
        said[leaders[at].id] = Verdict(leaders[at].id, "semantic", False, why, leaders[rival].id)
    heads = {leaders[at].id: said[leaders[at].id] for at in beaten}
    for row in examples:
        verdict = said[row.id]
        if verdict.rival in heads:  # its leader fell itself, to a row that is kept
            verdict = Verdict(row.id, "semantic", False, heads[verdict.rival].why, heads[verdict.rival].rival)
        yield verdict


def _asked(row: Example) -> tuple[str, ...]:
    turns = (part for turn in row.history for part in turn)
    return (*map(normalise, (row.system, *turns)), normalise(row.instruction), normalise(row.input))


def _check(count: int, embedder: Embedder) -> None:
    if embedder.name != weights().embedder:
        raise RecipeError(
            say(
                f"the pair model knows the vectors of {weights().embedder}, not those of {embedder.name}",
                f"配对模型只适用于 {weights().embedder} 的向量，不适用于 {embedder.name}",
            ),
            where="semantic",
            mend=say("use the default embedder", "请使用默认的向量模型"),
        )
    if count > MOST:
        raise RecipeError(
            say(
                f"semantic compares every two prompts: {count} are too many", f"semantic 需两两比较，{count} 个提示过多"
            ),
            where="semantic",
            mend=say(
                f"thin them out first to {MOST} with near or threshold", f"请先用 near 或 threshold 筛到 {MOST} 行以内"
            ),
        )


class _Judge:
    """Whether two of the rows say the same: their parts' vectors, and what is known of the texts looked at so far."""

    def __init__(self, rows: Sequence[Example], embedder: Embedder, threshold: float) -> None:
        self.threshold = threshold
        self.texts = [[valid(row.instruction) for row in rows], [valid(row.input) for row in rows]]
        self.vectors = [embedder(part) for part in self.texts]
        for part, vectors in zip(self.texts, self.vectors, strict=True):
            vectors[[not text.strip() for text in part]] = 0.0
        self.context = [_asked(row)[:-2] for row in rows]
        self.seen: dict[str, Facts] = {}
        prompts = self.vectors[0] + self.vectors[1]
        self.prompts: Floats = prompts / np.maximum(np.linalg.norm(prompts, axis=1, keepdims=True), 1e-9)

    def __call__(self, a: Ints, b: Ints) -> list[Pair]:
        """Of the candidates (a[i], b[i]) those that say the same, with the lower of their parts' probabilities."""
        model = weights()
        by_part = [model.by_vectors(vectors[a], vectors[b]) for vectors in self.vectors]
        needed = np.log(self.threshold / (1 - self.threshold)) if self.threshold < 1 else 50.0
        out: list[Pair] = []
        for at, (i, j) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
            if self.context[i] != self.context[j]:
                continue
            chance = 1.0
            for texts, odds in zip(self.texts, by_part, strict=True):
                one, other = texts[i], texts[j]
                if one == other:
                    continue
                if odds[at] + model.room < needed or not one.strip() or not other.strip() or lang(one) != lang(other):
                    chance = 0.0
                else:
                    chance = min(chance, self._same(one, other, float(odds[at])))
                if chance < self.threshold:
                    break
            if chance >= self.threshold:
                out.append((i, j, chance))
        return out

    def _same(self, one: str, other: str, odds: float) -> float:
        a, b = self._facts(one), self._facts(other)
        if a.folded == b.folded:
            return 1.0
        if difference(a, b):
            return 0.0
        if max(len(a.tokens), len(b.tokens)) > LONG:
            shared = len(a.bigrams & b.bigrams)
            if shared < OVERLAP * (len(a.bigrams) + len(b.bigrams) - shared):
                return 0.0
        return probability(odds + weights().by_wording(a, b))

    def _facts(self, text: str) -> Facts:
        if text not in self.seen:
            if len(self.seen) >= 50_000:
                self.seen.clear()  # bounds the memory
            self.seen[text] = facts(text)
        return self.seen[text]


def _walk(rows: Sequence[Example], embedder: Embedder, threshold: float) -> dict[int, tuple[int, float]]:
    """For each row that falls, the earliest kept row that says the same, and how surely."""
    from threadpoolctl import threadpool_limits

    beaten: dict[int, tuple[int, float]] = {}
    if not rows:
        return beaten
    judge = _Judge(rows, embedder, threshold)
    kept: list[int] = []
    with threadpool_limits(1, user_api="blas"):  # the sums' last bits must not depend on the machine's threads
        for top in range(0, len(rows), HIGH):
            block = np.arange(top, min(top + HIGH, len(rows)))
            found = [nearest(judge.prompts, block, np.array(kept[at : at + WIDE])) for at in range(0, len(kept), WIDE)]
            found.append(nearest(judge.prompts, block, block))
            a, b = (np.concatenate(side) for side in zip(*found, strict=True))
            good = judge(a, b)
            for i, j, chance in sorted(good, key=lambda pair: (pair[1], pair[0])):
                if i not in beaten and j not in beaten:
                    beaten[j] = (i, chance)
            kept += [row for row in block.tolist() if row not in beaten]
    return beaten


def nearest(vectors: Floats, rows: Ints, others: Ints, floor: float = FLOOR, most: int = NEAREST) -> tuple[Ints, Ints]:
    """Pairs (earlier, row): for each of the rows its nearest earlier ones among the others, by cosines rounded to 4 decimals."""
    cosines = np.round(vectors[rows] @ vectors[others].T, 4)
    cosines[others[None, :] >= rows[:, None]] = -1.0
    at, other = np.nonzero(cosines >= floor)
    order = np.lexsort((other, -cosines[at, other], at))
    counts = np.bincount(at, minlength=len(rows))
    place = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)
    taken = order[place < most]
    return others[other[taken]], rows[at[taken]]
