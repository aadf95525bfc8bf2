"""The nearest rows as a training mixture: near, different, with parents, and nothing that is held out."""

import numpy as np
import pytest

from zhiling.construct.bank import Bank
from zhiling.construct.retrieve_rows import nearest_rows
from zhiling.errors import RecipeError
from zhiling.types import Demo, Example, Reject, Task


class Letters:
    """An embedder for plumbing: a unit vector of character counts."""

    name, dim = "letters", 64

    def __call__(self, texts):
        out = np.zeros((len(texts), self.dim), dtype=np.float32)
        for i, text in enumerate(texts):
            for char in text or " ":
                out[i, ord(char) % self.dim] += 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)


ROWS = [
    {"id": "a", "instruction": "判断这条评论的情感。", "input": "菜很好吃，下次还来。", "output": "正面"},
    {"id": "copy", "instruction": "判断这条评论的情感。", "input": "菜很好吃，下次还来！", "output": "正面"},
    {"id": "b", "instruction": "这条评论的情感是正面还是负面？", "input": "等了一个小时，太失望了。", "output": "负面"},
    {"id": "held", "instruction": "判断评论的情感。", "input": "房间干净，服务员热情周到。", "output": "正面"},
    {"id": "demo", "instruction": "判断评论的情感。", "input": "屏幕碎了，客服不理人。", "output": "负面"},
    {"id": "mute", "instruction": "判断评论的情感是好是坏。", "input": "还行吧。", "output": " "},
    {"id": "far", "instruction": "把温度从摄氏换成华氏。", "input": "20", "output": "68"},
    {"id": "en", "instruction": "Is the review positive or negative?", "input": "Great food.", "output": "positive"},
]
TASK = Task(
    "reviews", "判断评论的情感。\nDecide how a review feels: positive or negative.", "classification", ("text",), "label",
    langs=("zh", "en"), labels=("正面", "负面"), demos=(Demo("屏幕碎了，客服不理人。", "负面"),),
)  # fmt: skip
HELD = (Example("reviews", "请判断情感。", "房间干净，服务员热情周到。", "正面"),)


@pytest.fixture
def bank(tmp_path):
    made = Bank.create(tmp_path / "bank", Letters())
    made.add(ROWS, licence="MIT")
    return made


def test_rows_come_in_both_languages_with_their_parents_and_without_leaks(bank):
    made = list(nearest_rows(TASK, bank, embedder=Letters(), count=5, floor=0.3, heldout=HELD))
    kept = {one.parents[0]: one for one in made if isinstance(one, Example)}
    lost = {one.parents[0]: one.why for one in made if isinstance(one, Reject)}
    assert {"b", "en"} <= kept.keys() and len({"a", "copy"} & kept.keys()) == 1
    assert kept["en"].lang == "en" and kept["b"].output == "负面" and kept["b"].maker == "retrieve:rows:b"
    assert "held-out" in lost["held"] and "demo" in lost["demo"] and "no answer" in lost["mute"]
    assert "too far" in lost["far"] and "near copy" in (lost.get("copy") or lost["a"])
    assert len(made) == len(ROWS)  # every candidate is accounted for
    assert made == list(nearest_rows(TASK, bank, embedder=Letters(), count=5, floor=0.3, heldout=HELD))


def test_without_the_heldout_rows_it_would_have_been_taken(bank):
    made = list(nearest_rows(TASK, bank, embedder=Letters(), count=5, floor=0.0))
    assert "held" in {one.parents[0] for one in made if isinstance(one, Example)}


def test_no_more_than_asked_for(bank):
    made = list(nearest_rows(TASK, bank, embedder=Letters(), count=1, floor=0.0))
    assert sorted(one.lang for one in made if isinstance(one, Example)) == ["en", "zh"]
    assert any("not among the best 1" in one.why for one in made if isinstance(one, Reject))
    with pytest.raises(RecipeError, match="at least 1"):
        next(nearest_rows(TASK, bank, embedder=Letters(), count=0))
