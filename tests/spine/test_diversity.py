"""Set-level diversity: the figures know a varied set from a monotonous one, in both languages, whatever order the rows come in."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest

from zhiling.judging.diversity import Sample, asked, diversity, lines
from zhiling.types import Example


class Hashed:
    """A unit vector per text: its words' random directions, so that texts with the same words are near."""

    name, dim = "hashed", 64

    def __call__(self, texts):
        rows = [np.sum([self._of(word) for word in text.split() or [text]], axis=0) for text in texts]
        return np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32).reshape(len(texts), self.dim)

    def _of(self, word):
        return np.random.default_rng(int(hashlib.md5(word.encode()).hexdigest()[:8], 16)).normal(size=self.dim)


VERBS = ["Write", "Explain", "List", "Translate", "Compare", "Describe"]
VARIED = [Example("t", f"{VERBS[at % 6]} topic{at} word{at * 7} thing{at * 3}", "", "x") for at in range(60)]
SAME = [Example("t", f"Write about the same thing again number {at % 3} {'!' * at}", "", "x") for at in range(60)]


def test_a_varied_set_is_told_from_a_monotonous_one():
    varied, same = diversity(VARIED, Hashed()), diversity(SAME, Hashed())
    assert varied.vendi > 3 * same.vendi
    assert varied.nearest > same.nearest + 0.2
    assert varied.twins == 0 and same.twins > 0.9
    assert varied.distinct_2 > 2 * same.distinct_2
    assert varied.asks_effective == pytest.approx(6, abs=0.1) and same.asks_effective == 1
    assert same.asks == {"write": 60}


def test_vendi_is_the_number_of_wholly_different_prompts():
    class Axes:
        name, dim = "axes", 8

        def __call__(self, texts):
            return np.eye(8, dtype=np.float32)[[int(text) % 8 for text in texts]]

    assert diversity([Example("t", str(at), "", "x") for at in range(40)], Axes()).vendi == 8
    assert diversity([Example("t", str(8 * at), "", "x") for at in range(40)], Axes()).vendi == 1


def test_neither_order_nor_repetition_changes_anything():
    shuffled = [*VARIED, *VARIED[:20]]
    random.Random(3).shuffle(shuffled)
    one, other = diversity(VARIED, Hashed(), most=25), diversity(shuffled, Hashed(), most=25)
    assert one.looked == other.looked == 25
    assert (one.rows, other.rows) == (60, 80)
    assert {**one.told(), "rows": 0} == {**other.told(), "rows": 0}


def test_a_sample_holds_no_more_than_it_may():
    sample = Sample(most=5)
    for row in VARIED:
        sample.add(row)
    assert len(sample.rows()) == 5 == len(sample._rows)


@pytest.mark.parametrize(
    ("instruction", "what"),
    [
        ("Please write a poem.", "write"),
        ("Could you please explain it?", "explain"),
        ("How do plants grow?", "how"),
        ("请写一首诗。", "写"),
        ("请你帮我翻译下面的句子。", "翻译"),
        ("天空为什么是蓝色的？", "为什么"),
        ("将这句话改写成被动句。", "改写"),
        ("", ""),
        ("12 + 3", ""),
    ],
)
def test_what_is_asked_for(instruction, what):
    assert asked(instruction) == what


def test_few_rows_and_no_rows_say_nothing(monkeypatch):
    none = diversity([], Hashed())
    assert (none.rows, none.vendi, none.distinct_1, none.asks_effective) == (0, None, None, None)
    one = diversity(VARIED[:1], Hashed())
    assert one.vendi is None and one.distinct_1 == 1
    assert "diversity" in "\n".join(lines(none))
    monkeypatch.setenv("ZHILING_LANG", "zh")
    assert "多样性" in "\n".join(lines(diversity(VARIED, Hashed())))
