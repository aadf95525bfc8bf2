"""Ranking by what length does not explain."""

from __future__ import annotations

import random

import numpy as np
import pytest
from select_rows import scores

from zhiling import registry
from zhiling.select.neutral import neutral, ranks
from zhiling.select.pick import top
from zhiling.select.rank import best_first, standing
from zhiling.text import length
from zhiling.types import Example

WORDS = {"en": "word ", "zh": "字"}


def rows(count=300, lang="en", task="t"):
    """Rows whose value grows with their length, and within equal length with a hidden worth."""
    draw = random.Random(3)
    made, value, worth = [], {}, {}
    for at in range(count):
        size = draw.randint(1, 200)
        row = Example(task, f"{task} {at}", "", WORDS[lang] * size)
        made.append(row)
        worth[row.id] = draw.random()
        value[row.id] = size / 100 + 0.3 * worth[row.id]
    return made, value, worth


def left(made, said):
    """`neutral`, with None for NaN."""
    tasks, sizes = [row.task for row in made], [length(row.output) for row in made]
    found = neutral(np.array([np.nan if one is None else one for one in said], dtype=float), sizes, tasks)
    return [None if np.isnan(one) else one for one in found.tolist()]


def spearman(a, b):
    return np.corrcoef(ranks(np.array(a, dtype=float)), ranks(np.array(b, dtype=float)))[0, 1]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_length_is_taken_out_and_worth_stays(lang):
    made, value, worth = rows(lang=lang)
    raw = [value[row.id] for row in made]
    said = left(made, raw)
    sizes = [len(row.output) for row in made]
    assert spearman(raw, sizes) > 0.9
    assert abs(spearman(said, sizes)) < 0.1
    assert spearman(said, [worth[row.id] for row in made]) > 0.8 > spearman(raw, [worth[row.id] for row in made])
    assert min(said) == 0 and max(said) == 1


def test_tasks_are_taken_apart_and_order_changes_nothing():
    one, value, _ = rows(60, task="a")
    two, more, _ = rows(60, "zh", "b")
    both = [*one, *two]
    value |= more
    said = dict(zip(both, left(both, [value[row.id] for row in both]), strict=True))
    assert [said[row] for row in two] == left(two, [value[row.id] for row in two])
    random.Random(1).shuffle(both)
    assert dict(zip(both, left(both, [value[row.id] for row in both]), strict=True)) == said


def test_unscored_few_and_equal_rows():
    made, value, _ = rows(30)
    said = left(made, [None if at % 3 == 0 else value[row.id] for at, row in enumerate(made)])
    assert [number is None for number in said] == [at % 3 == 0 for at in range(30)]
    assert left(made[:3], [0.2, 0.9, 0.4]) == [0.0, 1.0, 0.5]
    assert left([], []) == []
    assert left(made, [1.0] * 30) == [0.5] * 30


def test_selectors_rank_a_length_neutral_scorer_by_what_is_left():
    registry.get("scorer", "quality")
    made, value, _ = rows()
    by_quality, by_grammar = scores("quality", value), scores("grammar", value)
    assert standing(made, by_grammar, "grammar").tolist() == [value[row.id] for row in made]
    plain = best_first(made, by_grammar, "grammar", "")[:60]
    fair = best_first(made, by_quality, "quality", "")[:60]
    pool = np.mean([len(row.output) for row in made])
    assert np.mean([len(row.output) for row in plain]) > 1.6 * pool
    assert abs(np.mean([len(row.output) for row in fair]) / pool - 1) < 0.25
    kept = [v.example for v in top(made, scores=by_quality, seed=1, embedder=None, rows=60, by="quality") if v.kept]
    assert len(set(kept) & {row.id for row in fair}) >= 58  # ties alone may fall otherwise


def test_in_one_task_chinese_answers_are_compared_with_chinese_ones():
    """Their lengths are in characters: beside English ones they would all pass for long, and be held to more."""
    en, value, _ = rows(200)
    zh, more, _ = rows(200, "zh")
    zh = [Example("t", row.instruction, "x", row.output * 2) for row in zh]  # a language that needs twice the tokens
    value |= dict(zip((row.id for row in zh), more.values(), strict=True))
    said = standing([*en, *zh], scores("quality", value), "quality")
    assert abs(np.mean(said[:200]) - np.mean(said[200:])) < 0.01
