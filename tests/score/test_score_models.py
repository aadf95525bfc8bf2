"""Clarity and relevance: the scores that ask a model."""

from __future__ import annotations

import asyncio
import math
import random

import numpy as np
import pytest
from score_rows import HOSTILE, alpaca, read, row

from zhiling.embed import Use
from zhiling.errors import ProviderError
from zhiling.llm.wrap import Model
from zhiling.score.clarity import FLOOR, clarity
from zhiling.score.relevance import relevance
from zhiling.types import Demo, Example, Reply, Task


class Scripted:
    """A provider that gives each word a log-probability by a rule; "broken" fails, "dead" fails for good."""

    name, model, lanes = "scripted", "scripted#1", 4

    def __init__(self, can=("chat", "complete", "score")):
        self.can, self.asked = frozenset(can), []

    async def reply(self, request):
        return Reply("")

    async def score(self, request, continuation):
        assert request.prompt == ""
        self.asked.append(continuation)
        if "broken" in continuation:
            raise ProviderError("broken", kind="server")
        if "dead" in continuation:
            raise ProviderError("dead", kind="auth")
        return [-float(len(word)) for word in continuation.split()]

    async def close(self):
        pass


def clear(rows, provider, **settings):
    async def work():
        return [score async for score in clarity(rows, model=Model(provider), **settings)]

    return asyncio.run(work())


def test_clarity_is_the_mean_log_probability():
    scores = clear([row("aaa bbbbb"), row("a a a a"), row("x" * 40)], Scripted())
    assert [score.value for score in scores] == [round(1 - 4 / FLOOR, 4), round(1 - 1 / FLOOR, 4), 0]
    assert f"{math.exp(4):.4g}" in scores[0].why


def test_clarity_abstains_for_languages_the_model_does_not_speak():
    rows = [row("Name a colour."), row("说一种颜色。"), row("")]
    provider = Scripted()
    values = clear(rows, provider)
    assert [score.value is None for score in values] == [False, True, True]
    assert "zh" in values[1].why
    assert provider.asked == ["Name a colour."]
    both = clear(rows, Scripted(), langs=("latin", "zh"))
    assert [score.value is None for score in both] == [False, False, True]


def test_clarity_asks_once_per_text_and_survives_a_failed_one():
    provider = Scripted()
    scores = clear([row("one", str(number)) for number in range(5)] + [row("broken"), row("two")], provider)
    assert sorted(provider.asked).count("one") == 1
    assert [score.value is None for score in scores] == [False] * 5 + [True, False]
    assert "broken" in scores[5].why
    assert len(clear(HOSTILE, Scripted(), langs=("latin", "zh", "ar"))) == len(HOSTILE)


def test_clarity_needs_a_model_that_can_score():
    with pytest.raises(ProviderError) as caught:
        clear([], Scripted(can=("chat", "complete")))
    assert caught.value.kind == "capability"
    with pytest.raises(ProviderError) as caught:
        clear([row("dead")], Scripted())
    assert caught.value.kind == "auth"


@pytest.mark.model
def test_clarity_of_real_instructions(shared):
    """The embedded model finds a wording clearer than the same words shuffled."""
    pytest.importorskip("torch")
    from zhiling.llm.transformers import transformers

    rng = random.Random(3)
    plain = [item.instruction for item in alpaca(shared / "02_alpaca/alpaca_52k_original.jsonl.gz", 2000)[::80]]
    shuffled = [" ".join(rng.sample(words := item.split(), len(words))) for item in plain]
    scores = clear([row(item) for item in [*plain, *shuffled]], transformers(model="embedded", threads=1))
    half = len(plain)
    wins = sum(a.value > b.value for a, b in zip(scores[:half], scores[half:], strict=True))
    assert wins >= 0.9 * half


TASKS = {
    "translate": Task("translate", description="Translate a sentence into French.\n把句子翻译成法语。"),
    "mood": Task("mood", demos=(Demo("这家酒店很干净，下次还来。", "正面"), Demo("Terrible service.", "negative"))),
    "mute": Task("mute"),
}


def test_relevance_across_languages():
    rows = [
        Example(task, instruction)
        for instruction in ("将下面的句子译为法语", "Put this into French, please", "这条酒店评价是好评还是差评？")
        for task in ("translate", "mood")
    ]
    values = [score.value for score in relevance(rows, tasks=TASKS, embedder=Use())]
    assert values[0] > values[1] + 0.3
    assert values[2] > values[3] + 0.3
    assert values[5] > values[4]


def test_relevance_of_people_s_wordings(shared):
    """Wordings that people gave for a task are nearer to another wording of it than to other tasks'."""
    wordings = {
        item["task"]: item["annotations"]["annotations"][:4]
        for item in read(shared / "06_instruction_induction/tasks.jsonl.gz")
    }
    tasks = {name: Task(name, description=said[0]) for name, said in wordings.items()}
    rows = [Example(other, wording) for said in wordings.values() for wording in said[1:] for other in tasks]
    own = [name == other for name, said in wordings.items() for _ in said[1:] for other in tasks]
    values = np.array([score.value for score in relevance(rows, tasks=tasks, embedder=Use())])
    right = values[np.array(own)]
    wrong = values[~np.array(own)]
    assert (right[:, None] > wrong[None, :]).mean() > 0.93


def test_relevance_abstains_and_embeds_once():
    asked = []

    class Counting:
        name, dim = "counting", 3

        def __call__(self, texts):
            asked.extend(texts)
            return np.tile(np.array([0.6, 0.8, 0], dtype=np.float32), (len(texts), 1))

    rows = [
        Example("mute", "a"),
        Example("nobody", "a"),
        Example("mood", " "),
        *[Example("mood", "a", str(i)) for i in range(4)],
    ]
    scores = list(relevance(rows, tasks=TASKS, embedder=Counting()))
    assert [score.value for score in scores] == [None, None, None, 1, 1, 1, 1]
    assert all(score.why for score in scores[:3])
    assert len(asked) == len(set(asked))
    asked.clear()
    assert list(relevance([], tasks=TASKS, embedder=Counting())) == []
    assert not asked
