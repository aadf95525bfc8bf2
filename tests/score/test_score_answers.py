"""Does the output belong to its prompt: on rows and on the same rows with their answers changed round."""

from __future__ import annotations

import numpy as np
import pytest
from score_rows import HOSTILE, alpaca, row

from zhiling.embed import Use
from zhiling.score.answers import answers
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
