"""Worked examples for a prompt, chosen from the task's own data: similar ones or random ones, and never one that gives the answer away."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import gcd
from typing import TYPE_CHECKING

from zhiling import text
from zhiling.types import Demo, Record, Task, content_id, row_seed

if TYPE_CHECKING:
    from zhiling.embed import Embedder

POOL = 512
"""How many of a task's records demos are chosen from."""
LONGEST = 2_000
"""Longest field of a demo, in characters: a prompt must stay readable."""
COMMON = 3
"""An answer that so many records of the pool share is one that many questions have: showing it gives nothing away."""


def pool(records: Iterable[Record], seed: int) -> list[Record]:
    """The records that demos are chosen from: an even sample that does not depend on their order. None may be held out."""
    distinct = {record.id: record for record in records}
    return heapq.nsmallest(POOL, distinct.values(), key=lambda record: content_id("demo", seed, record.id))


def example_block(examples: Iterable[Demo], lang: str) -> str:
    """Worked examples as the reader's language sets them: 示例 / 输入 / 输出, or Example / Input / Output."""
    head, source, target = ("示例：", "输入：", "输出：") if lang == "zh" else ("Example:", "Input: ", "Output: ")
    return "\n".join(f"{head}\n{source}{demo.input}\n{target}{demo.output}" for demo in examples)


class Demos:
    """Chooses demos for records of one task: the same ones whatever order records come in, and on whatever machine.

    `embedder` turns texts into unit vectors; without one, "similar" is the share of common token bigrams.
    """

    def __init__(self, records: Sequence[Record], task: Task, seed: int, embedder: Embedder | None = None) -> None:
        self.task, self.seed, self.embedder = task, seed, embedder
        self.records = sorted({record.id: record for record in records}.values(), key=lambda record: record.id)
        self._said = [text.normalise("\n".join(record.fields.values())) for record in self.records]
        self._counts: dict[frozenset[str], Counter[str]] = {}
        self._vectors: object = None
        self._grams: list[set[tuple[str, ...]]] = []
        self._near: dict[str, list[int]] = {}

    def look_up(self, records: Sequence[Record]) -> None:
        """Find out which demos are near to these records, all at once: embedding one by one is slow."""
        asked = [self._asked(record) for record in records]
        scores = self._embedded(asked) if self.embedder is not None else [self._overlap(said) for said in asked]
        self._near = {
            record.id: sorted(range(len(self.records)), key=lambda i, row=row: (-row[i], i))  # type: ignore[misc]
            for record, row in zip(records, scores, strict=True)
        }

    def choose(
        self, record: Record, count: int, how: str, *, asked: frozenset[str], answer: frozenset[str]
    ) -> list[Record]:
        """At most `count` demos, the most similar last. `asked` and `answer` are the fields that the template asks with and answers with.

        Never the record itself, nor one with the same question; never one that says the record's answer, unless the record's own
        question says it, the answer is one of the task's labels, or many records share it.
        """
        order = self._nearest(record) if how == "similar" else self._walk(record)
        found: list[Record] = []
        for i in order:
            if len(found) == count:
                break
            if self._fits(i, record, asked, answer):
                found.append(self.records[i])
        return found[::-1]

    def _fits(self, i: int, record: Record, asked: frozenset[str], answer: frozenset[str]) -> bool:
        demo = self.records[i]
        needed = [demo.fields.get(name, "") for name in asked | answer]
        if demo.id == record.id or not all(value.strip() and len(value) <= LONGEST for value in needed):
            return False
        if asked and all(_same(demo.fields.get(name, ""), record.fields.get(name, "")) for name in asked):
            return False
        said = text.normalise(_joined(record, answer))
        if not said or (self.task.labels and answer == {self.task.target}) or self._common(said, answer):
            return True
        return said not in self._said[i] or said in text.normalise(_joined(record, asked))

    def _common(self, said: str, answer: frozenset[str]) -> bool:
        if answer not in self._counts:
            self._counts[answer] = Counter(text.normalise(_joined(record, answer)) for record in self.records)
        return self._counts[answer][said] >= COMMON

    def _nearest(self, record: Record) -> list[int]:
        if record.id not in self._near:
            self.look_up([record])
        return self._near[record.id]

    def _walk(self, record: Record) -> Iterator[int]:
        """All of the pool from a seeded start with a seeded stride."""
        size = len(self.records)
        if not size:
            return
        start, rest = divmod(row_seed(self.seed, f"demos:{record.id}"), size)
        strides = [step for step in range(1, min(size, 64) + 1) if gcd(step, size) == 1] or [1]
        for turn in range(size):
            yield (rest + turn * strides[start % len(strides)]) % size

    def _asked(self, record: Record) -> str:
        return _joined(record, self.task.inputs)[:LONGEST]

    def _embedded(self, asked: Sequence[str]) -> list[list[float]]:
        import numpy as np

        assert self.embedder is not None
        if self._vectors is None:
            self._vectors = self.embedder([self._asked(record) for record in self.records])
        if not self.records:
            return [[] for _ in asked]
        found: list[list[float]] = np.round(self.embedder(asked) @ np.asarray(self._vectors).T, 4).tolist()
        return found

    def _overlap(self, asked: str) -> list[float]:
        if not self._grams:
            self._grams = [text.shingles(self._asked(record), 2) for record in self.records]
        here = text.shingles(asked, 2)
        return [round(text.jaccard(here, grams), 4) for grams in self._grams]


def _same(a: str, b: str) -> bool:
    """Whether two texts ask the same: letter case, width, spaces and punctuation make no other question."""
    return a == b or (text.tokens(a) or text.normalise(a)) == (text.tokens(b) or text.normalise(b))


def _joined(record: Record, names: Iterable[str]) -> str:
    fields: Mapping[str, str] = record.fields
    return "\n".join(fields.get(name, "") for name in sorted(names))
