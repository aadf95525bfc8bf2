"""What a tuning cost elsewhere: the two sets, what is made of a model's replies, and verdicts that say when nobody can tell."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter

import pytest

from zhiling import text
from zhiling.errors import ProviderError
from zhiling.evaluate import drift
from zhiling.evaluate.drift_verdict import told
from zhiling.types import Reply

ITEMS, ASKS = drift.general(), drift.asks()
SORRY = "I'm sorry, but I can't help with that."


class Scripted:
    """Replies by the request: `likely` gives the log-probabilities of a continuation, `says` a text, a Reply or an error."""

    def __init__(self, likely=None, says=lambda ask: "Sure, here is how."):
        self.likely, self.says, self.asked = likely, says, []

    async def ask_all(self, requests):
        self.asked = list(requests)
        return [self.answer(request) for request in self.asked]

    def answer(self, request):
        ask = request.messages[-1][1]
        if request.continuation is not None:
            return Reply("", logprobs=tuple(("", value) for value in self.likely(ask, request.continuation)))
        said = self.says(ask)
        return Reply(said) if isinstance(said, str) else said


def seen(right, nats=1.0, says=lambda ask: "Sure, here is how."):
    """What a model does that finds each answer right with the probability right(i), and needs so many nats per token to say it."""
    chances = {item.ask: right(at) for at, item in enumerate(ITEMS)}
    answers = {item.ask: item.answer for item in ITEMS}

    def likely(ask, said):
        odds = math.log(chances[ask] / (1 - chances[ask]))
        return [-nats] if said == answers[ask] else [-nats - odds]

    return asyncio.run(drift.look(Scripted(likely, says), scores=True))


def test_the_sets_hold_as_much_in_chinese_as_in_english():
    assert set(Counter((item.lang, item.kind) for item in ITEMS).values()) == {10} and len(ITEMS) == 80
    assert set(Counter((row.task, row.lang) for row in ASKS).values()) == {16} and len(ASKS) == 64
    assert len({item.id for item in ITEMS}) == 80 and len({row.prompt for row in ASKS}) == 64
    assert all(item.answer and item.rival and item.answer != item.rival for item in ITEMS)
    shown = [(item.lang, item.ask) for item in ITEMS] + [(row.lang, row.prompt) for row in ASKS]
    assert all(text.lang(ask) == {"zh": "zh", "en": "latin"}[lang] for lang, ask in shown)


def test_likelihoods_become_a_probability_against_the_rival_and_nats_per_token():
    model = Scripted(lambda ask, said: [-1.0, -0.5] if said == said_right[ask] else [-2.0, -1.5])
    said_right = {item.ask: item.answer for item in ITEMS}
    found = asyncio.run(drift.look(model, scores=True))
    assert list(found.knows.values()) == pytest.approx([1 / (1 + math.exp(-2.0))] * 80)
    assert set(found.nats.values()) == {0.75}
    calls, prompt, written = drift.cost(scores=True)
    assert calls == len(model.asked) == 224 and written == sum(request.max_tokens for request in model.asked) == 64 * 32
    assert prompt > 160 * 30


def test_a_hopeless_answer_is_no_overflow_and_a_missing_one_no_score():
    first, right = ITEMS[0], {item.ask: item.answer for item in ITEMS}
    found = asyncio.run(
        drift.look(
            Scripted(lambda ask, said: [] if ask == first.ask else [-9000.0 if said == right[ask] else -1.0]),
            scores=True,
        )
    )
    assert found.knows[first.id] is None and found.nats[first.id] is None
    assert max(value for value in found.knows.values() if value is not None) < 1e-300
    with pytest.raises(ProviderError, match="cannot"):
        asyncio.run(drift.look(Unable(), scores=True))


class Unable(Scripted):
    def answer(self, request):
        return ProviderError("cannot", kind="capability")


def test_who_declines_is_told_by_the_refusal_scorer_and_by_the_endpoint():
    strange = {
        ASKS[0].prompt: ProviderError("no", kind="refused"),
        ASKS[1].prompt: Reply("Half a th", finish="filter"),
        ASKS[2].prompt: ProviderError("down", kind="server"),
        ASKS[3].prompt: "",
        ASKS[4].prompt: SORRY,
        ASKS[20].prompt: "很抱歉，我无法提供这方面的帮助。",
    }
    found = seen(lambda at: 0.5, says=lambda ask: strange.get(ask, "当然可以，方法如下。"))
    assert [found.refused[row.id] for row in ASKS[:6]] == [1.0, 1.0, None, None, 1.0, 0.0]
    assert found.refused[ASKS[20].id] == 1.0 and sum(value == 1.0 for value in found.refused.values()) == 4


def test_a_model_that_cannot_score_texts_writes_and_is_right_or_wrong():
    said = {item.ask: f"The answer is {item.answer}." if at % 2 else item.rival for at, item in enumerate(ITEMS)}
    found = asyncio.run(drift.look(Scripted(says=lambda ask: said.get(ask, "Sure.")), scores=False))
    assert not found.nats and [found.knows[item.id] for item in ITEMS] == [float(at % 2) for at in range(80)]
    result = told([found], [found])
    assert result["forgetting"]["how"] == "written" and "says" not in result["forgetting"]


def test_no_change_forgetting_and_doubt_are_told_apart_in_both_languages():
    base = seen(lambda at: 0.6 + at % 5 / 20)
    same = told([base], [base])["forgetting"]
    assert same["verdict"] == "no change seen" and same["more"] is None
    slight = told([base], [seen(lambda at: 0.59 + at % 5 / 20)])["forgetting"]
    assert (
        slight["verdict"] == "no change seen"
    )  # sure, and too little to mind: all of the interval is within the margin
    lost = told([base], [seen(lambda at: 0.35 + at % 7 / 20)])["forgetting"]
    assert lost["verdict"] == "forgot" and lost["knows"]["high"] < 0 and "forgot:" in lost["words"]["en"]
    assert "遗忘：" in lost["words"]["zh"] and set(lost["langs"]) == {"en", "zh"} and len(lost["kinds"]) == 4
    doubt = told([base], [seen(lambda at: 0.9 if at % 2 else 0.36)])["forgetting"]
    assert doubt["verdict"] == "cannot tell" and doubt["more"] > 0
    assert f"about {doubt['more']} more rows would be needed" in doubt["words"]["en"]
    assert f"大约还需 {doubt['more']} 行" in doubt["words"]["zh"]
    assert told([base], [seen(lambda at: 0.9)])["forgetting"]["verdict"] == "gained"


def test_a_model_that_only_says_one_thing_any_more_has_forgotten_though_it_ranks_as_before():
    base = seen(lambda at: 0.8, nats=1.0)
    found = told([base], [seen(lambda at: 0.8, nats=6.0)])["forgetting"]
    assert found["knows"]["verdict"] == "no change seen" and found["verdict"] == found["says"]["verdict"] == "forgot"
    assert found["nats"]["tuned"] == 6.0 and "6.00 nats per token (before 1.00)" in found["words"]["en"]


def test_refusing_too_much_and_too_little_are_two_numbers():
    prudent = seen(lambda at: 0.5, says=lambda ask: SORRY if ask in HARMFUL else "Sure.")
    timid, reckless = seen(lambda at: 0.5, says=lambda ask: SORRY), seen(lambda at: 0.5)
    found = told([prudent], [timid])["refusals"]
    assert found["too_much"]["verdict"] == "refuses more" and found["too_little"]["verdict"] == "no change seen"
    assert found["too_much"]["tuned"]["value"] == 1.0 and found["too_much"]["base"] == {"value": 0.0, "low": 0.0, "high": 0.0894}  # fmt: skip
    assert found["too_much"]["examples"][0]["tuned"] == SORRY and "听似危险" in found["too_much"]["words"]["zh"]
    found = told([prudent], [reckless])["refusals"]
    assert found["too_little"]["verdict"] == "refuses less" and found["too_little"]["difference"] == 1.0
    assert found["too_much"]["verdict"] == "no change seen" and found["too_much"]["examples"] == []


HARMFUL = {row.prompt for row in ASKS if row.task == "harmful"}


def test_nothing_answered_is_no_finding():
    none = seen(lambda at: 0.5, says=lambda ask: ProviderError("down", kind="server"))
    found = told([none], [none])["refusals"]["too_much"]
    assert found["n"] == 0 and found["base"] == {"value": None, "low": None, "high": None}
    assert found["verdict"] == "cannot tell" and found["failed"] == 32
    json.dumps(told([none], [none]))


def test_seeds_are_averaged_and_told_with_an_interval_over_both():
    base, seeds = seen(lambda at: 0.8), [seen(lambda at, k=k: 0.3 + (at + k) % 4 / 20) for k in range(3)]
    found = told([base], seeds)["forgetting"]
    assert found["verdict"] == "forgot" and found["knows"]["p"] is None and found["knows"]["n"] == 80
