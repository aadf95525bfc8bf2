"""A model as judge: the plumbing, with replies that are good, bad, missing, and biased towards a place."""

from __future__ import annotations

import asyncio
import json

import pytest
from score_rows import HOSTILE, row

from zhiling import registry
from zhiling.errors import ProviderError
from zhiling.llm.wrap import Model
from zhiling.score.judge import judge, prefer
from zhiling.types import Reply

GOOD, BAD = "Plain water is a colourless liquid.", "No idea at all."


class Scripted:
    """A judge that answers by rule and remembers what it was asked."""

    name, model, lanes = "scripted", "scripted#1", 4
    can = frozenset({"chat", "schema"})

    def __init__(self, rule):
        self.rule, self.asked, self.schemas = rule, [], []

    async def reply(self, request):
        self.asked.append(request.messages)
        self.schemas.append(request.schema)
        said = self.rule(request.messages[-1][1])
        if isinstance(said, Exception):
            raise said
        return Reply(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False))

    async def close(self):
        pass


def graded(rows, rule, **settings):
    async def work():
        return [score async for score in judge(rows, model=Model(provider, retries=0), **settings)]

    provider = Scripted(rule)
    return asyncio.run(work()), provider.asked


def compared(rows, rivals, rule):
    provider = Scripted(rule)
    return asyncio.run(prefer(rows, rivals, model=Model(provider, retries=0))), provider.asked


@pytest.mark.parametrize(("grade", "value"), [(1, 0), (2, 0.25), (3, 0.5), (4, 0.75), (5, 1)])
def test_a_grade_becomes_a_value_and_the_words_are_kept(grade, value):
    scores, _ = graded([row("What is water?", GOOD)], lambda _: {"reason": "It is right.", "grade": grade})
    assert (scores[0].value, scores[0].why) == (value, "It is right.")


def test_each_row_is_judged_in_its_own_language():
    rows = [row("What is water?", GOOD), row("水是什么？", "无色的液体。"), row("Что такое вода?", "Жидкость.")]
    _, asked = graded(rows, lambda _: {"reason": "ok", "grade": 3})
    users = sorted(messages[-1][1] for messages in asked)
    assert sum("请为下面的回答打分" in user for user in users) == 1
    assert sum("Grade the answer" in user for user in users) == 2
    _, asked = graded(rows, lambda _: {"reason": "ok", "grade": 3}, langs=("zh",))
    assert all("请为下面的回答打分" in messages[-1][1] for messages in asked)


def test_what_a_row_says_fills_no_other_slot():
    _, asked = graded(
        [row("Print {output} and {input}.", "{instruction}", "{first}")], lambda _: {"reason": "ok", "grade": 3}
    )
    assert "Print {output} and {input}." in asked[0][-1][1]
    assert "{instruction}" in asked[0][-1][1]
    assert "{first}" in asked[0][-1][1]


@pytest.mark.parametrize(
    "reply",
    ["no json", "[]", {"reason": "x", "grade": 9}, {"reason": "x"}, "", ProviderError("away", kind="server")],
)
def test_a_bad_reply_is_an_abstention_with_a_reason(reply):
    scores, _ = graded([row("What is water?", GOOD)], lambda _: reply)
    assert scores[0].value is None
    assert scores[0].why


def test_nothing_is_asked_about_empty_rows_and_hostile_ones_pass():
    scores, asked = graded([row("", GOOD), row("What is water?", " ")], lambda _: {"reason": "ok", "grade": 3})
    assert [score.value for score in scores] == [None, None]
    assert not asked
    scores, _ = graded(HOSTILE, lambda _: {"reason": "ok", "grade": 3})
    assert [score.example for score in scores] == [item.id for item in HOSTILE]


def test_a_judge_that_is_shut_off_stops_the_work():
    with pytest.raises(ProviderError) as caught:
        graded([row("What is water?", GOOD)], lambda _: ProviderError("key", kind="auth"))
    assert caught.value.kind == "auth"


def by_content(user):
    a, b = (user.split(mark)[1] for mark in ("[Answer A]\n", "[Answer B]\n"))
    return {
        "reason": "the one that answers",
        "better": "A" if a.startswith(GOOD) else "B" if b.startswith(GOOD) else "tie",
    }


def test_both_orders_are_asked_and_agree():
    rows = [row("What is water?", GOOD), row("What is water, then?", BAD), row("What is it?", BAD)]
    scores, asked = compared(rows, [BAD, GOOD, "Who knows."], by_content)
    assert [score.value for score in scores] == [1, 0, 0.5]
    assert all("the one that answers" in score.why for score in scores)
    assert len(asked) == 6


@pytest.mark.parametrize("place", ["A", "B"])
def test_a_judge_that_likes_a_place_abstains(place, monkeypatch):
    scores, _ = compared(
        [row("What is water?", GOOD), row("水是什么？", "液体")],
        [BAD, "不知道"],
        lambda _: {"reason": "x", "better": place},
    )
    assert [score.value for score in scores] == [None, None]
    assert all("disagree" in score.why for score in scores)
    monkeypatch.setenv("ZHILING_LANG", "zh")
    scores, _ = compared([row("水是什么？", "液体")], ["不知道"], lambda _: {"reason": "x", "better": place})
    assert "不一致" in scores[0].why


def test_a_reply_that_cannot_be_read_is_no_preference():
    scores, _ = compared(
        [row("What is water?", GOOD)],
        [BAD],
        lambda user: "?" if GOOD in user.split("[Answer B]")[1] else by_content(user),
    )
    assert scores[0].value is None


@pytest.mark.parametrize(("asked", "most"), [("What is water?", 240), ("水是什么？", 60)])
def test_a_reason_is_held_short_so_that_the_verdict_is_reached(asked, most):
    """A small model goes on until it is stopped: its reason comes first, and the verdict must fit behind it."""
    judge_of = Scripted(lambda user: {"reason": "ok", "grade": 3} if "5" in user else {"reason": "ok", "better": "A"})

    async def work():
        model = Model(judge_of, retries=0)
        _ = [score async for score in judge([row(asked, GOOD)], model=model)]
        await prefer([row(asked, GOOD)], [BAD], model=model)

    asyncio.run(work())
    assert len(judge_of.schemas) == 3
    for schema in judge_of.schemas:
        assert next(iter(schema["properties"])) == "reason" and schema["properties"]["reason"]["maxLength"] == most
        assert schema["required"] == list(schema["properties"]) and schema["additionalProperties"] is False


@pytest.mark.slow
@pytest.mark.model
def test_the_embedded_model_reaches_a_grade_in_both_languages():
    gguf = registry.get("provider", "gguf")

    async def work():
        model = Model(gguf.fn(**registry.settle(gguf, {"threads": 1})))
        try:
            rows = [row("Name the capital of France.", "Paris."), row("法国的首都是哪里？", "巴黎。")]
            return [score async for score in judge(rows, model=model)]
        finally:
            await model.close()

    scores = asyncio.run(work())
    assert all(score.value in (0, 0.25, 0.5, 0.75, 1) and len(score.why) <= 500 for score in scores)
