"""Grammar with a second view: the model confirms or dismisses what the rules suspect, and finds wrong particles in Chinese."""

from __future__ import annotations

import asyncio

import pytest
from score_rows import HOSTILE, row

from zhiling.errors import ProviderError
from zhiling.llm.wrap import Model
from zhiling.score.grammar_lm import grammar_lm


class Liking:
    """A provider that finds texts likelier the more of `liked` they hold; "broken" fails, "dead" fails for good."""

    name, model, lanes = "liking", "liking#1", 4

    def __init__(self, *liked, can=("chat", "complete", "score")):
        self.can, self.liked, self.asked = frozenset(can), liked, []

    async def score(self, request, continuation):
        self.asked.append(continuation)
        if "broken" in continuation:
            raise ProviderError("broken", kind="server")
        if "dead" in continuation:
            raise ProviderError("dead", kind="auth")
        return [-20.0 + 5.0 * sum(one in continuation for one in self.liked)]

    async def close(self):
        pass


def graded(rows, provider, **settings):
    async def work():
        return [score async for score in grammar_lm(rows, model=Model(provider), **settings)]

    return asyncio.run(work())


def test_the_model_confirms_or_dismisses_what_harper_suspects():
    rows = [row("He go to school every day.")]
    confirmed, dismissed = graded(rows, Liking("He goes"))[0], graded(rows, Liking("He go to"))[0]
    assert confirmed.value == 0.5 and "+5.0" in confirmed.why
    assert dismissed.value == 1 and dismissed.why == ""


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("他高兴的跳了起来。", "高兴地跳"), ("她唱的很好听。", "唱得很好"), ("这是我得书包。", "我的书")],
)
def test_a_particle_is_wrong_where_another_is_likelier(wrong, right):
    found = graded([row(wrong)], Liking(right))[0]
    assert found.value == 0.5 and "->" in found.why
    assert graded([row(wrong)], Liking())[0].value == 1


def test_words_that_hold_a_particle_and_certain_rules_need_no_model():
    provider = Liking()
    assert graded([row("请说明获得目的地信息的方法")], provider)[0].value == 1
    assert not any("目地" in text or "获的" in text for text in provider.asked)
    unpaired = graded([row("请解释“光合作用。")], provider)[0]
    assert unpaired.value == 0.5 and "pairs" in unpaired.why


def test_texts_without_suspicion_are_not_asked_about():
    provider = Liking()
    assert graded([row("Name a colour."), row("说一种颜色。")], provider)[1].value == 1
    assert provider.asked == []


def test_it_abstains_and_survives_a_failed_call():
    rows = [row(""), row("Напишите рассказ"), row("She go to the broken house."), row("import os\nimport sys")]
    scores = graded(rows, Liking())
    assert [score.value for score in scores] == [None] * 4
    assert all(score.why for score in scores)
    assert graded([row("她唱的很好听。")], Liking(), langs=("latin",))[0].value is None
    with pytest.raises(ProviderError):
        graded([row("She go to the dead house.")], Liking())
    with pytest.raises(ProviderError, match="score|likelihood|given text"):
        graded([row("She go.")], Liking(can=("chat",)))


def test_hostile_rows():
    scores = graded(HOSTILE, Liking())
    assert [score.example for score in scores] == [item.id for item in HOSTILE]
    assert all(score.value is None or 0 <= score.value <= 1 for score in scores)
