"""Does the output belong to its prompt: on rows and on the same rows with their answers changed round."""

from __future__ import annotations

import numpy as np
import pytest
from score_rows import HOSTILE, alpaca, row

from zhiling.embed import Use
from zhiling.score.answers import answers, margins
from zhiling.score.lacks_input import lacks_input
from zhiling.score.shared import Shared
from zhiling.types import Example


def test_an_answer_is_nearer_to_its_own_question():
    rows = [
        row("Why is the sky blue?", "Sunlight is scattered by the air, and blue light is scattered most."),
        row("Why is the sky blue?", "Boil the rice for ten minutes, then add salt and a little butter."),
        row("天为什么是蓝色的？", "阳光被空气散射，蓝色的光散射得最多。"),
        row("天为什么是蓝色的？", "米饭煮十分钟，然后加盐和一点黄油。"),
        row(
            "Translate into Chinese.",
            "阳光被空气散射，蓝色的光散射得最多。",
            "Sunlight is scattered by the air, blue light most of all.",
        ),
    ]
    values = [score.value for score in answers(rows, embedder=Use())]
    assert values[0] > values[1] + 0.3
    assert values[2] > values[3] + 0.3
    assert values[4] > 0.5
    assert min(values[0], values[2], values[4]) > 0.8


def test_it_abstains_where_words_tell_nothing():
    rows = [row("Is it good or bad?", "Yes"), row("", "A colour."), row("Name a colour.", ""), row("3+4=?", "7")]
    scores = list(answers(rows, embedder=Use()))
    assert [score.value for score in scores] == [None] * 4
    assert all(score.why for score in scores)
    assert list(answers([], embedder=Use())) == []


def test_hostile_rows_and_batches():
    rows = HOSTILE[:-1]
    together = list(answers(rows, embedder=Use()))
    assert [score.example for score in together] == [item.id for item in rows]
    assert together == [score for item in rows for score in answers([item], embedder=Use())]
    assert all(score.value is None or 0 <= score.value <= 1 for score in together)


def test_another_row_s_answer_lies_far_below():
    rows = [
        row("Why is the sky blue?", "Sunlight is scattered by the air, and blue light is scattered most."),
        row("How long does rice boil?", "Boil the rice for ten minutes, then add salt and a little butter."),
        row("天为什么是蓝色的？", "阳光被空气散射，蓝色的光散射得最多。"),
        row("米饭要煮多久？", "米饭煮十分钟，然后加盐和一点黄油。"),
        row("Is it good?", "Yes"),
    ]
    moved = [Example("t", a.instruction, "", b.output) for a, b in ((rows[0], rows[1]), (rows[2], rows[3]))]
    own, other = margins(rows, rows, Use()), margins(moved, rows, Use())
    assert own[4] is None
    assert min(own[:4]) > 0 > max(other) + 5
    alone = [score.value for score in answers(rows[:1], embedder=Use())]
    assert alone[0] > 0.8 and margins(rows[:1], [], Use())[0] == pytest.approx(
        np.log(alone[0] / (1 - alone[0])), abs=0.5
    )
    assert margins([], rows, Use()) == []


def test_an_input_that_is_gone():
    gone = [
        row("Classify the following sentence as positive or negative.", "Negative"),
        row("Rewrite this sentence in the passive voice.", "The cake was eaten by the children."),
        row("将以下句子翻译成英文。", "I like to walk by the river in the evening."),
        row("找出给定段落的主题。", "这段话的主题是保护环境的重要性。"),
    ]
    sound = [
        row("Name three primary colours.", "Red, yellow and blue."),
        row(
            "Rewrite this sentence in the passive voice: 'The children ate the cake.'",
            "The cake was eaten by the children.",
        ),
        row("写一首关于秋天的诗。", "秋风吹过山林，红叶落在水边。"),
        row("天为什么是蓝色的？", "阳光被空气散射，蓝色的光散射得最多。"),
    ]
    bad, good = ([score.value for score in lacks_input(part, embedder=Use())] for part in (gone, sound))
    assert min(bad) > 0.85 > 0.5 > max(good)
    silent = [row("Sum up the text.", "It is short.", "A text."), row("", "x"), row("Name one.", "")]
    scores = list(lacks_input(silent, embedder=Use()))
    assert [score.value for score in scores] == [None] * 3
    assert all(score.why for score in scores)
    assert list(lacks_input([], embedder=Use())) == []


def test_hostile_rows_and_lost_inputs():
    together = list(lacks_input(HOSTILE, embedder=Use()))
    assert [score.example for score in together] == [item.id for item in HOSTILE]
    assert together == [score for item in HOSTILE for score in lacks_input([item], embedder=Use())]


@pytest.mark.model
@pytest.mark.parametrize("file", ["alpaca_52k_original", "llamafactory_alpaca_zh_demo"])
def test_swapped_answers_of_real_rows_lie_lower(shared, file):
    rows = [item for item in alpaca(shared / f"02_alpaca/{file}.jsonl.gz", 900)[::3] if item.output.strip()]
    moved = [Example("t", a.instruction, a.input, b.output) for a, b in zip(rows, rows[1:] + rows[:1], strict=True)]
    own, other = (
        np.array([score.value for score in answers(part, embedder=Use()) if score.value is not None])
        for part in (rows, moved)
    )
    assert (own[:, None] > other[None, :]).mean() > 0.96


@pytest.mark.parametrize(
    ("prompts", "outputs"),
    [
        (
            ["Describe the harbour of Marseille.", "Describe the market of Marrakesh.", "Describe a bridge."],
            ["Marseille looks out to sea.", "Marrakesh sells spices.", "It spans water."],
        ),
        (
            ["介绍一下敦煌莫高窟。", "介绍一下平遥古城。", "介绍一座桥。"],
            ["莫高窟有许多壁画。", "平遥有古老的城墙。", "它跨过河流。"],
        ),
    ],
    ids=["en", "zh"],
)
def test_rare_words_tell_an_answer_from_anothers(prompts, outputs):
    """Where sentence vectors see three descriptions of places, the place's name tells; an answer without a name of its own tells nothing."""
    words = Shared(prompts, outputs)
    for own, other in ((0, 1), (1, 0)):
        assert words.gap(prompts[own], outputs[own]) > 0.1
        assert words.gap(prompts[own], outputs[other]) < -0.1
    assert words.gap(prompts[0], "") == 0.0
    again = Shared(prompts[::-1], outputs[::-1])
    assert again.gap(prompts[0], outputs[0]) == pytest.approx(words.gap(prompts[0], outputs[0]), abs=1e-9)
    assert Shared([prompts[0]], outputs[:1]).gap(prompts[0], outputs[0]) == 0.0, "there is no other to be nearer to"
