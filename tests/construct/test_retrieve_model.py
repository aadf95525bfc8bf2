"""Adapting by a model (a scripted one: plumbing): what the rules refuse is asked, checked, paid once, and never let through on trust."""

import asyncio

import making
import numpy as np
import pytest
import yaml

from zhiling import api
from zhiling import recipe as recipes
from zhiling.construct.bank import Bank, Row
from zhiling.construct.bank_view import Hit
from zhiling.construct.retrieve import retrieve
from zhiling.construct.retrieve_adapt import Adapted, proved
from zhiling.construct.retrieve_model import prompts, request
from zhiling.embed import Use
from zhiling.errors import ProviderError
from zhiling.llm import open_model
from zhiling.plan import estimate
from zhiling.store import current, read
from zhiling.types import Demo, Reject, Task, Template

FRENCH = Task(
    "to_french",
    "把中文句子翻译成法语。\nTranslate Chinese sentences into French.",
    "translation",
    ("句子",),
    "译文",
    langs=("zh", "en"),
)
MOOD = Task(
    "mood", "判断评论的情感。\nDecide how a review feels.", "classification", ("text",), "label", langs=("zh", "en"), labels=("positive", "negative"),
    demos=(Demo("屏幕碎了。", "negative"),),
)  # fmt: skip
ROWS = [
    {"id": "rules", "instruction": "将句子翻译成西班牙语：{句子}", "family": "translation"},
    {"id": "asked", "instruction": "把这两行台词改得通顺些，共20个字。", "family": "translation"},
    {"id": "english", "instruction": "Polish these 20 words.", "family": "translation"},
]


class Letters:
    """An embedder for plumbing: a unit vector of character counts."""

    name, dim = "letters", 64

    def __call__(self, texts):
        out = np.zeros((len(texts), self.dim), dtype=np.float32)
        for i, text in enumerate(texts):
            for char in text or " ":
                out[i, ord(char) % self.dim] += 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def asked(folder, script, **fake):
    """{row id: Template or Reject} of the French task, a scripted model answering."""
    Bank.create(folder / "bank", Letters()).add(ROWS, licence="MIT")

    async def work():
        model = open_model({"provider": "fake", "script": script, **fake}, cache=None)
        try:
            settings = {"adapt": "model", "bank": "bank", "floor": 0.0, "keep": 3}
            return await retrieve(task=FRENCH, embedder=Letters(), here=folder, seed=1, model=model, **settings)
        finally:
            await model.close()

    return {one.parents[0]: one for one in asyncio.run(work())}


def test_what_the_rules_refuse_is_reworded_in_both_languages_and_names_its_reply(tmp_path):
    made = asked(tmp_path, {"台词": "“把这句台词译成通顺的法语。”", "Polish": "Render this into polished French."})
    assert all(isinstance(one, Template) for one in made.values())
    assert made["rules"].instruction == "将句子翻译成法语。" and made["rules"].parents == ("rules",)
    assert made["asked"].instruction == "把这句台词译成通顺的法语。" and made["asked"].input == "{{ 句子 }}"
    assert len(made["asked"].parents) == 2 and made["asked"].parents[1]  # the reply's key
    assert made["english"].instruction == "Render this into polished French."


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("把这句台词译成西班牙语。", "still speaks of 西班牙语"),
        ("把这句台词译成法语，共20个字。", "'20'"),
        ("把这句台词改得通顺些。", "does not name the language"),
        ("把{句子}译成法语。", "slot open"),
        ("Translate the line into French.", "another language"),
        ("", "no whole reply"),
        ("译成法语" * 300, "too long"),
    ],
)
def test_a_reply_that_still_speaks_of_something_else_is_refused_in_words(tmp_path, reply, why):
    lost = asked(tmp_path, {"台词": reply, "Polish": "Translate it into French."})["asked"]
    assert isinstance(lost, Reject) and lost.state == "dropped" and why in lost.why
    assert "does not name the language" in lost.why  # what the rules had said of it comes first


def test_a_call_that_fails_is_a_row_and_an_endpoint_that_is_gone_is_a_stop(tmp_path):
    made = asked(tmp_path, {"台词": "x", "Polish": "y"}, fail={"refused": 1.0})
    assert made["asked"].state == made["english"].state == "failed" and isinstance(made["rules"], Template)
    with pytest.raises(ProviderError):
        asked(tmp_path / "other", {"x": "y"}, fail={"auth": 0.0, "protocol": 1.0})


@pytest.mark.parametrize(
    ("said", "lang", "why"),
    [
        ("判断这条评论的感受。", "zh", ""),
        ("说出评论是正面还是负面。", "zh", ""),
        ("说出评论是不是正面。", "zh", "only some"),
        ("Is the review positive or negative?", "en", ""),
        ("Is it spam or ham?", "en", "still offers spam or ham"),
    ],
)
def test_labels_are_named_all_or_not_at_all(said, lang, why):
    source = "Is it spam or ham?" if lang == "en" else "是垃圾短信还是正常短信？"
    made = proved(said, Row("r", source, output="ham" if lang == "en" else "正常短信", lang=lang), MOOD, lang)
    assert why in made if why else isinstance(made, Adapted)


def test_the_question_speaks_the_language_and_is_not_filled_twice():
    assert {one["lang"] for one in prompts()} == {"zh", "en"}
    hit = Hit(Row("r", "{task} {answers}\n翻译", lang="zh"), 1.0, 1.0, None, ())
    said = request(hit, MOOD, "zh", 1).messages[-1][1]
    assert said.endswith("任务：判断评论的情感。\n答案：正面、负面\n指令：{task} {answers} 翻译\n改写：")
    said = request(hit, FRENCH, "en", 1).messages[-1][1]
    assert "Task: Translate Chinese sentences into French.\nInstruction: {task}" in said and "Answers" not in said
    assert request(hit, MOOD, "zh", 1) == request(hit, MOOD, "zh", 1) != request(hit, MOOD, "zh", 2)


def test_through_a_run_it_is_planned_billed_and_paid_once(tmp_path):
    path = making.write(tmp_path)
    rows = [
        {"instruction": "给这条评论打一到五分。", "output": "3", "family": "classification"},
        {"instruction": "Give the review 1 to 5 stars.", "output": "3", "family": "classification"},
    ]
    Bank.create(tmp_path / "bank", Use()).add(rows, licence="MIT")
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    script = {
        "指令：给这条": "判断这条评论是正面还是负面。",
        "Instruction: Give the": "Decide whether the review is positive or negative.",
    }
    raw |= {
        "models": {"far": {"provider": "fake", "script": script}}, "score": ["length"], "select": ["exact"],
        "construct": [{"retrieve": {"adapt": "model", "bank": "bank", "floor": 0.0}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    (row,) = (row for row in estimate(recipes.load(path), tmp_path / "run") if row["step"] == "construct retrieve")
    assert row["calls"] == 2
    summary = api.run(path, tmp_path / "run")
    assert summary.balance is not None and summary.balance.came == summary.balance.went
    assert summary.spent["far"]["calls"] == 2
    made = [one for done in current(tmp_path / "run") for one in read(tmp_path / "run", done.of("templates"))]
    assert {one.instruction for one in made} == set(script.values())
    raw["construct"][0]["retrieve"]["keep"] = 2  # another setting: the step runs again, on replies that are paid
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    again = api.run(path, tmp_path / "run")
    assert again.spent["far"]["calls"] == 2 and again.kept == summary.kept
    raw["models"]["far"]["without"] = ["chat"]
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    with pytest.raises(ProviderError, match="chat"):
        api.run(path, tmp_path / "other")
