from __future__ import annotations

import asyncio
import json

import pytest

from zhiling.errors import ProviderError, RecipeError
from zhiling.evaluate.predict import Prediction, predict
from zhiling.evaluate.suite import evaluate, score
from zhiling.types import Example, Reply, Task

TASKS = {
    "sentiment": Task("sentiment", labels=("正面", "负面", "positive", "negative")),
    "translation": Task("translation", metric="chrf"),
}
ROWS = [
    *(Example("sentiment", "正面还是负面？", f"第{k}家店很好。", "正面", lang="zh") for k in range(12)),
    *(Example("sentiment", "Positive or negative?", f"Shop {k} was bad.", "negative", lang="en") for k in range(12)),
    *(Example("translation", "Translate into Chinese.", f"Number {k}.", f"第{k}号。", lang="en") for k in range(12)),
]


class Scripted:
    """Stands in for a model: answers from a function of the request, and remembers what it was asked."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    async def ask_all(self, requests):
        self.asked = list(requests)
        return [self.answer(request) for request in self.asked]


def ask(model, rows=ROWS, **more):
    return asyncio.run(predict(model, rows, **more))


def test_the_model_is_asked_greedily_and_never_shown_the_answer():
    model = Scripted(lambda request: Reply("正面"))
    found = ask(model)
    assert [p.example for p in found] == [row.id for row in ROWS]
    assert found[0] == Prediction(ROWS[0].id, "正面", "stop")
    for row, request in zip(ROWS, model.asked, strict=True):
        assert request.temperature == 0.0 and request.messages == (("user", row.prompt),)


def test_shots_are_earlier_turns_of_the_same_task_but_never_the_row_itself():
    model = Scripted(lambda request: Reply(""))
    first = ROWS[0]
    system = Example("sentiment", "Positive or negative?", "Bad.", "negative", system="Be brief.")
    ask(model, [first, system], shots=[first, ROWS[1], ROWS[-1]])
    assert [role for role, _ in model.asked[0].messages] == ["user", "assistant", "user"]
    assert model.asked[0].messages[:2] == (("user", ROWS[1].prompt), ("assistant", "正面"))
    assert [role for role, _ in model.asked[1].messages] == ["system", "user", "assistant", "user", "assistant", "user"]


def test_the_limit_of_tokens_leaves_room_for_the_longest_answer_of_the_task():
    model = Scripted(lambda request: Reply(""))
    ask(model, [*ROWS, Example("essay", "Write.", "", "长" * 2000)])
    limits = {request.max_tokens for request in model.asked[:24]}
    assert limits == {16 + len("negative")} and model.asked[-1].max_tokens == 512
    ask(model, max_tokens=7)
    assert {request.max_tokens for request in model.asked} == {7}


def test_a_failed_row_is_counted_and_never_a_zero():
    replies = {
        ROWS[0].prompt: ProviderError("down", kind="server"), ROWS[1].prompt: Reply("x", finish="filter"),
        ROWS[2].prompt: Reply("", finish="stop"), ROWS[3].prompt: Reply("正面 而且", finish="length"),
    }  # fmt: skip
    found = ask(Scripted(lambda request: replies.get(request.messages[-1][1], Reply("正面"))), ROWS[:5])
    scores = score(ROWS[:5], found, TASKS)
    assert [scores[row.id] for row in ROWS[:5]] == [None, None, 0.0, 0.0, 1.0]
    assert "down" in found[0].error and found[1].error == "filter" and not found[2].error and not found[3].error
    assert score(ROWS[:1], [], TASKS) == {ROWS[0].id: None}


def said(rows, answer):
    return [Prediction(row.id, answer(row), "stop") for row in rows]


def test_per_task_per_language_and_overall():
    base, tuned = (
        said(ROWS, lambda row: "no idea"),
        said(ROWS, lambda row: row.output if row.lang == "zh" else "no idea"),
    )
    found = evaluate(ROWS, base, tuned, tasks=TASKS, draws=1000)
    assert found.tasks["sentiment"].difference == 0.5 and found.tasks["sentiment"].verdict == "better"
    assert found.tasks["translation"].verdict == "cannot tell" and found.tasks["translation"].difference == 0
    assert found.overall.difference == pytest.approx(0.25)  # the mean of the two tasks, though one has twice the rows
    assert (found.langs["zh"].difference, found.langs["en"].difference) == (1.0, 0.0)
    plain = json.loads(json.dumps(found.to_dict(), ensure_ascii=False, allow_nan=False))
    assert plain["tasks"]["translation"]["metric"] == "chrf" and plain["overall"]["words"]["zh"].startswith("更好")
    assert plain["tasks"]["sentiment"]["n"] == 24 and plain["tasks"]["sentiment"]["failed"] == 0


def test_failed_rows_leave_the_pairs_and_are_reported():
    base = said(ROWS, lambda row: row.output)
    tuned = [Prediction(p.example, "", "error", "down") if k < 3 else p for k, p in enumerate(base)]
    found = evaluate(ROWS, base, tuned, tasks=TASKS, draws=200)
    assert (found.tasks["sentiment"].n, found.tasks["sentiment"].failed) == (21, 3)
    assert found.tasks["sentiment"].tuned == 1.0 and found.values["tuned"][ROWS[0].id] is None
    nothing = evaluate(ROWS[:3], base, tuned, tasks=TASKS, draws=200)
    assert nothing.overall.base is None and nothing.overall.verdict == "cannot tell"


def test_the_order_of_rows_changes_nothing():
    base, tuned = said(ROWS, lambda row: "正面"), said(ROWS, lambda row: row.output)
    one = evaluate(ROWS, base, tuned, tasks=TASKS, draws=500)
    assert evaluate(ROWS[::-1], base[::-1], tuned[::-1], tasks=TASKS, draws=500).to_dict() == one.to_dict()


def test_an_unknown_metric_is_one_clear_line():
    with pytest.raises(RecipeError, match="exact_match"):
        evaluate(
            ROWS[:1],
            said(ROWS[:1], str),
            said(ROWS[:1], str),
            tasks={"sentiment": Task("sentiment", metric="exact_mtch")},
        )
