"""Faithfulness: answers that keep to their input, and those that invent."""

from __future__ import annotations

import numpy as np
import pytest
from score_rows import HOSTILE, alpaca, row

from zhiling.score.faithful import faithful
from zhiling.types import Example

TEXT = (
    "The council of Marburg met on Monday and agreed to build a new library for 12 million euros. Work begins in March 2025, said mayor "
    "Anna Keller, and will take three years. The old library was closed in 2019 after a fire."
)
ZH = "马尔堡市议会周一开会，同意出资1200万欧元建一座新图书馆。市长表示，工程将于2025年3月开工，工期三年。旧图书馆在2019年的一场火灾后关闭。"


def judged(*fields):
    score = next(faithful([row(*fields)]))
    return score.value, score.why


@pytest.mark.parametrize(
    ("instruction", "given", "true", "invented", "what"),
    [
        (
            "Summarize the article.", TEXT,
            "Marburg will build a new library for 12 million euros. Work begins in March 2025 and takes 3 years.",
            "Marburg will build a new library for 45 million euros. Work begins in June 2031, said mayor Peter Schmidt.", "45",
        ),
        (
            "总结下面的文章。", ZH, "市议会同意出资1200万欧元建新图书馆，2025年开工，工期3年。", "市议会同意出资4500万欧元建新体育馆，2031年开工。", "4500",
        ),
    ],
)  # fmt: skip
def test_what_is_invented_is_named_and_lowers_the_score(instruction, given, true, invented, what):
    kept, _ = judged(instruction, true, given)
    made, why = judged(instruction, invented, given)
    assert kept > 0.85
    assert made < kept - 0.25
    assert what in why


def test_numbers_in_words_are_numbers():
    for fields in (("Summarize the text.", "Work takes 3 years.", TEXT), ("总结文章。", "工期3年。", ZH)):
        value, why = judged(*fields)
        assert value > 0.9
        assert "numbers" not in why


@pytest.mark.parametrize(
    "fields",
    [
        ("Summarize the article.", "A library is built.", "Too short."),
        ("Translate the article into German.", "Der Rat tagte am Montag.", TEXT),
        ("Write a story based on the text.", "Once upon a time a library burned.", TEXT),
        ("Classify the article.", "local news", TEXT),
        ("Summarize the article in Chinese.", "市议会同意建新图书馆。", TEXT),
        ("Summarize the article.", "", TEXT),
        ("总结文章。", "建图书馆。", "太短"),
        ("把文章翻译成英文。", "The council met.", ZH),
        ("根据文章写一个故事。", "从前有一座图书馆。", ZH),
    ],
)
def test_it_abstains_where_the_task_does_not_call_for_it(fields):
    value, why = judged(*fields)
    assert value is None
    assert why


def test_reasons_in_chinese(monkeypatch):
    monkeypatch.setenv("ZHILING_LANG", "zh")
    assert "输入中没有" in judged("总结下面的文章。", "市议会花4500万建体育馆。", ZH)[1]
    assert "没有可供对照" in judged("总结文章。", "好。", "短")[1]


def test_hostile_rows():
    scores = list(faithful(HOSTILE))
    assert [score.example for score in scores] == [item.id for item in HOSTILE]
    assert all(score.value is None or 0 <= score.value <= 1 for score in scores)


@pytest.mark.parametrize(
    ("file", "least", "floor"), [("alpagasus_dolly_3k", 150, 0.98), ("alpaca_zh_community_translated", 60, 0.95)]
)
def test_answers_that_people_took_from_the_text_lie_above_others(shared, file, least, floor):
    rows = alpaca(shared / f"02_alpaca/{file}.jsonl.gz")
    own = [(item, score.value) for item, score in zip(rows, faithful(rows), strict=True) if score.value is not None]
    assert len(own) >= least
    moved = [
        Example("t", a.instruction, a.input, b.output) for (a, _), (b, _) in zip(own, own[1:] + own[:1], strict=True)
    ]
    true = np.array([value for _, value in own])
    false = np.array([score.value for score in faithful(moved) if score.value is not None])
    assert ((true[:, None] > false[None, :]) + 0.5 * (true[:, None] == false[None, :])).mean() > floor
