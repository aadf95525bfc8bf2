from __future__ import annotations

import asyncio

import pytest

from zhiling import registry
from zhiling.errors import ProviderError, RecipeError
from zhiling.evaluate.conditions import constraints
from zhiling.evaluate.labels import accuracy, choice, named
from zhiling.evaluate.predict import Prediction, predict
from zhiling.evaluate.suite import score
from zhiling.types import Example, Reply, Task

EN = Task("mood", family="classification", labels=("positive", "negative"), metric="accuracy")
ZH = Task("mood", family="classification", labels=("正面", "负面", "不相关"), metric="accuracy")
ABC = Task("quiz", labels=("A", "B", "C"), metric="accuracy")


@pytest.mark.parametrize(
    ("answer", "task", "label"),
    [
        ("positive", EN, "positive"), ("The sentiment is **Positive**.", EN, "positive"), ("It is not positive, it is negative.", EN, "negative"),
        ("not positive", EN, None), ("It isn't a negative review: positive!", EN, "positive"), ("positive or negative", EN, None), ("", EN, None),
        ("这条评论是正面的。", ZH, "正面"), ("不是正面，而是负面", ZH, "负面"), ("不相关", ZH, "不相关"), ("与主题不相关。", ZH, "不相关"),
        ("不错，正面", ZH, "正面"), ("正面或负面", ZH, None), ("（Ｂ）", ABC, "B"), ("B. Paris", ABC, "B"), ("The answer is C", ABC, "C"),
        ("答案：B", ABC, "B"), ("我选C。", ABC, "C"), ("A dog barks", ABC, None), ("It is a dog", ABC, None), ("positive\nnegative", EN, "positive"),
    ],
)  # fmt: skip
def test_the_label_that_an_answer_names(answer, task, label):
    assert named(answer, task.labels) == label
    for other in task.labels:
        assert accuracy(answer, other, task=task) == float(other == label)


def test_without_labels_accuracy_is_an_exact_match():
    assert accuracy("Yes.", "yes") == 1.0 and accuracy("Oh yes", "yes") == 0.0
    assert accuracy("Oh maybe", "maybe", task=EN) == 0.0 and accuracy("maybe", "maybe", task=EN) == 1.0


def test_conditions_of_the_instruction_are_checked_in_both_languages_and_none_is_no_score():
    tasks = {"write": Task("write", metric="constraints")}
    rows = [
        Example("write", "Write at most 5 words about rain.", output="-", lang="en"),
        Example("write", "用不超过5个字写雨。", output="-", lang="zh"),
        Example("write", "Write about rain.", output="-", lang="en"),
    ]
    texts = ["Rain falls on every single roof.", "雨落。", "Rain."]
    found = [Prediction(row.id, text, "stop") for row, text in zip(rows, texts, strict=True)]
    assert list(score(rows, found, tasks).values()) == [0.0, 1.0, None]
    with pytest.raises(RecipeError, match="constraints"):
        constraints("Rain.", "Rain.")


class Said:
    """Stands in for a model: answers from a function of the request, and remembers what it was asked."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    async def ask_all(self, requests):
        self.asked = list(requests)
        return [self.answer(request) for request in self.asked]


ROWS = [
    Example("mood", "哪一种情感？", text, label, lang="zh") for text, label in (("很好吃", "正面"), ("太难吃", "负面"))
]
CHOICE = {"mood": Task("mood", labels=("正面", "负面"), metric="choice")}


def test_by_likelihood_the_model_scores_every_label_and_writes_nothing():
    def likes(request):
        good = "好" in request.messages[-1][1]
        return Reply("", logprobs=(("", -1.0 if good == (request.continuation == "正面") else -3.0), ("", -1.0)))

    model = Said(likes)
    found = asyncio.run(predict(model, ROWS, tasks=CHOICE))
    assert [answer.text for answer in found] == ["正面", "负面"] and set(score(ROWS, found, CHOICE).values()) == {1.0}
    assert [request.continuation for request in model.asked] == ["正面", "负面"] * 2
    assert choice("负面", "正面") == 0.0


def test_a_label_without_a_likelihood_leaves_the_row_without_an_answer():
    def broken(request):
        if "难" in request.messages[-1][1]:
            return Reply("") if request.continuation == "负面" else Reply("", logprobs=(("", -1.0),))
        return (
            ProviderError("down", kind="server")
            if request.continuation == "负面"
            else Reply("", logprobs=(("", -1.0),))
        )

    found = asyncio.run(predict(Said(broken), ROWS, tasks=CHOICE))
    assert "down" in found[0].error and "负面" in found[1].error and set(score(ROWS, found, CHOICE).values()) == {None}


def test_a_model_that_cannot_score_and_a_task_without_labels_are_one_clear_line():
    cannot = Said(lambda request: ProviderError("cannot do 'score'", kind="capability"))
    with pytest.raises(ProviderError, match="score"):
        asyncio.run(predict(cannot, ROWS, tasks=CHOICE))
    with pytest.raises(RecipeError, match=r"tasks\.mood\.labels"):
        asyncio.run(predict(cannot, ROWS, tasks={"mood": Task("mood", metric="choice")}))


def test_metrics_say_which_families_they_are_for():
    kinds = {name: registry.get("metric", name).facts["families"] for name in registry.BUILTIN["metric"]}
    assert (
        "classification" in kinds["accuracy"] and "translation" in kinds["bleu"] and "summarisation" in kinds["rouge_2"]
    )


def test_a_recipe_whose_metric_needs_labels_says_so_before_any_work(tmp_path):
    from zhiling.recipe import build

    task = {"data": "rows.csv", "metric": "choice", "labels": ["正面"]}
    with pytest.raises(RecipeError, match=r"tasks\.mood\.labels"):
        build({"tasks": {"mood": task}}, tmp_path)
    assert build({"tasks": {"mood": {**task, "labels": ["正面", "负面"]}}}, tmp_path).tasks["mood"].metric == "choice"
