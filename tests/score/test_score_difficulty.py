"""Difficulty by a model's probabilities, and the conditions that an instruction sets."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict

import numpy as np
import pytest
from score_rows import HOSTILE, alpaca, read, row

from zhiling.errors import ProviderError
from zhiling.llm.wrap import Model
from zhiling.score.constraints import constraints
from zhiling.score.difficulty import FEW, difficulty
from zhiling.types import Reply


class Scripted:
    """After a prompt each token costs `after` nats, alone it costs `alone`; "broken" fails, "dead" fails for good."""

    name, model, lanes = "scripted", "scripted#1", 4

    def __init__(self, after=1.0, alone=2.0, can=("chat", "complete", "score")):
        self.after, self.alone, self.can, self.asked = after, alone, frozenset(can), []

    async def reply(self, request):
        return Reply("")

    async def score(self, request, continuation):
        self.asked.append((request, continuation))
        if "broken" in continuation:
            raise ProviderError("broken", kind="server")
        if "dead" in continuation:
            raise ProviderError("dead", kind="auth")
        return [-self.after if request.messages or request.prompt else -self.alone] * len(continuation.split())

    async def close(self):
        pass


def graded(rows, provider, **settings):
    async def work():
        return [score async for score in difficulty(rows, model=Model(provider), **settings)]

    return asyncio.run(work())


def test_it_is_the_ratio_of_two_perplexities():
    scores = graded([row("Name a colour.", "blue like the sky at noon")], Scripted())
    assert scores[0].value == round(math.exp(1 - 2), 4)
    assert graded([row("a b", "one two three four five")], Scripted(after=9, alone=1))[0].value == 5


def test_a_long_answer_is_judged_by_its_beginning_alone():
    provider = Scripted()
    graded([row("Tell a story.", "word " * 5000)], provider)
    assert {len(said) for _, said in provider.asked} == {399}


def test_it_abstains_with_a_reason():
    rows = [
        row("Name one.", "blue"),
        row("", "one two three four five six"),
        row("A", "broken one two three four five"),
        row("说。", "蓝色的天空很好看"),
    ]
    scores = graded(rows, Scripted())
    assert [score.value for score in scores] == [None] * 4
    assert all(score.why for score in scores)
    spoken = [row("说一种颜色。", "蓝 色 的 天 空 很 好 看")]
    assert graded(spoken, Scripted(), langs=("zh",))[0].value == round(math.exp(-1), 4)
    assert FEW == 5
    assert len(graded(HOSTILE, Scripted())) == len(HOSTILE)


def test_a_model_that_cannot_score_or_is_shut_off_stops_the_work():
    for rows, provider, kind in (
        ([], Scripted(can=("chat",)), "capability"),
        ([row("a", "dead one two three four")], Scripted(), "auth"),
    ):
        with pytest.raises(ProviderError) as caught:
            graded(rows, provider)
        assert caught.value.kind == kind


@pytest.mark.model
def test_a_prompt_helps_with_its_own_answer(shared):
    """The embedded model: after its own prompt an answer is more expected than after another's."""
    pytest.importorskip("torch")
    from zhiling.llm.transformers import transformers

    rows = [item for item in alpaca(shared / "02_alpaca/alpaca_52k_original.jsonl.gz", 400) if len(item.output) > 80][
        :16
    ]
    moved = [
        row(other.instruction, item.output, other.input) for item, other in zip(rows, rows[1:] + rows[:1], strict=True)
    ]
    scores = graded([*rows, *moved], transformers(model="embedded", threads=1))
    wins = sum(a.value < b.value for a, b in zip(scores[:16], scores[16:], strict=True))
    assert wins >= 14


@pytest.mark.parametrize(
    ("plain", "bound"),
    [
        ("Write about bees.", "Write about bees in at most 50 words, in a formal tone, without using lists."),
        ("写一篇关于蜜蜂的文章。", "写一篇关于蜜蜂的文章，不超过500字，语气正式，不要使用列表，最后给出三条建议。"),
    ],
)
def test_conditions_are_counted_in_both_languages(plain, bound):
    less, more = (score.value for score in constraints([row(plain), row(bound)]))
    assert more >= less + 3


def test_no_words_no_count():
    for instruction in ("", "123", "Напишите рассказ"):
        score = next(constraints([row(instruction)]))
        assert score.value is None
        assert score.why
    assert len(list(constraints(HOSTILE))) == len(HOSTILE)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_count_rises_with_the_level_of_followbench(shared, lang):
    """Within one instruction that is made harder level by level, the count follows."""
    items = [item for item in read(shared / "07_constraints/followbench.jsonl.gz") if item["lang"] == lang]
    counts = [score.value for score in constraints([row(item["instruction"]) for item in items])]
    by_base = defaultdict(list)
    for item, count in zip(items, counts, strict=True):
        by_base[item["constraint_file"], item["example_id"], item["source"]].append((item["level"], count))
    for file, floor in (("format", 0.9), ("style", 0.8), ("situation", 0.6)):
        found = [
            np.corrcoef(*zip(*levels, strict=True))[0, 1]
            for key, levels in by_base.items()
            if file in key[0] and len({c for _, c in levels}) > 1
        ]
        assert len(found) >= 8
        assert np.mean(found) > floor
