"""What TASK may be, and that the three sides never meet."""

import json

import making
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling.errors import DataError, RecipeError
from zhiling.induce.task import Asked, Row, demos, split, subject


def lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_a_file_of_examples_is_understood(tmp_path):
    rows = [
        {"text": f"The {thing} is fine.", "label": "good" if at % 2 else "bad"}
        for at, thing in enumerate(making.THINGS)
    ]
    found = subject(lines(tmp_path / "mood.jsonl", rows))
    assert found.task.inputs == ("text",) and found.task.target == "label" and found.task.langs == ("en",)
    assert found.task.labels == ("bad", "good") and found.task.family == "classification"
    assert found.task.metric == "exact_match" and len(found.rows) == 15


def test_chinese_and_open_answers(tmp_path):
    rows = [
        {"文章": f"{thing}{said}。今天大家都在谈论它。", "摘要": f"大家都在谈论{thing}，说它{said}，很有意思"}
        for thing in making.东西
        for said in making.好
    ]
    found = subject(lines(tmp_path / "a.jsonl", rows))
    assert found.task.langs == ("zh",) and found.task.target == "摘要" and not found.task.labels
    assert found.task.metric == "rouge_l"


def test_several_right_answers_and_choices(tmp_path):
    rows = [
        {"input": "cat", "output": ["feline", "kitty"]},
        {"input": "dog", "output": '["hound"]', "choices": ["hound", "hen"]},
    ]
    found = subject(lines(tmp_path / "a.jsonl", rows))
    assert [row.answers for row in found.rows] == [("feline", "kitty"), ("hound",)]
    assert found.rows[1].choices == ("hound", "hen")


def test_what_cannot_be_used_is_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    lines(
        path,
        [
            {"input": "one", "output": "1"},
            {"input": "ONE ", "output": "1"},
            {"input": "two", "output": ""},
            {"input": "three", "output": "3"},
        ],
    )
    path.write_text(path.read_text() + "not json\n")
    found = subject(str(path))
    assert len(found.rows) == 2
    told = " ".join(found.notes)
    assert "1 unreadable" in told and "1 rows repeat" in told and "1 rows without" in told


def test_a_recipes_heldout_rows_stay_out(tmp_path):
    path = making.write(tmp_path / "r")
    found = subject(str(path), Asked(task="mood"))
    assert any("held-out rows are left alone" in note for note in found.notes)
    from zhiling.recipe import load
    from zhiling.run import Run
    from zhiling.store import read

    with Run(load(path), tmp_path / "run", workers=1, until="construct") as run:
        run.execute()
        held = [
            row
            for done in run.done
            if done.stage.startswith("heldout")
            for row in read(tmp_path / "run", done.of("heldout"))
        ]
    asked = {row.fields["text"] for row in found.rows}
    assert held and not [row for row in held if any(said in row.prompt for said in asked)]


def test_a_sentence_is_a_description_and_rows_may_come_with_it(tmp_path):
    alone = subject("Tell whether a review is kind.")
    assert alone.task.description and not alone.rows and alone.task.langs == ("en",)
    assert subject("判断评论是否友善。").task.langs == ("zh",)
    rows = lines(tmp_path / "a.jsonl", [{"input": "one", "output": "1"}])
    both = subject("Write the number in digits.", Asked(data=tmp_path / "a.jsonl"))
    assert rows and both.rows and both.task.description == "Write the number in digits."


@pytest.mark.parametrize(
    ("given_", "asked", "kind", "said"),
    [
        ("nothing.csv", Asked(), DataError, "no such file"), ("nothing.yaml", Asked(), RecipeError, "no such recipe"), ("hm", Asked(), RecipeError, "neither a file"),
        ("a.jsonl", Asked(target="answer"), DataError, "no column 'answer'"), ("a.jsonl", Asked(inputs=("q",)), DataError, "no column 'q'"),
        ("a.jsonl", Asked(metric="exct_match"), RecipeError, "did you mean 'exact_match'"), ("r/recipe.yaml", Asked(), RecipeError, "several tasks"),
        ("r/recipe.yaml", Asked(task="mod"), RecipeError, "no task 'mod'"), ("empty.csv", Asked(), DataError, ""),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(tmp_path, monkeypatch, given_, asked, kind, said):
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "a.jsonl", [{"input": "one", "output": "1"}])
    (tmp_path / "empty.csv").write_text("")
    making.write(tmp_path / "r")
    with pytest.raises(kind) as caught:
        subject(given_, asked)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@given(st.integers(0, 120), st.integers(0, 5), st.integers(0, 60), st.randoms())
def test_the_sides_never_meet_and_depend_on_nothing_but_rows_and_seed(count, seed, report, dice):
    rows = [Row({"input": f"row {number}"}, ("x",)) for number in range(count)]
    sides = split(rows, seed, report)
    parts = [{row.key for row in side} for side in (sides.propose, sides.race, sides.report)]
    assert sum(map(len, parts)) == count == len(set().union(*parts))
    assert len(sides.report) <= report and len(sides.propose) <= 20
    shuffled = list(rows)
    dice.shuffle(shuffled)
    assert split(shuffled, seed, report) == sides


def test_demos_name_their_fields_where_there_are_several(tmp_path):
    found = subject(lines(tmp_path / "a.jsonl", [{"a": "1", "b": "2", "output": "3"}]))
    assert demos(found.rows, found.task)[0].input == "a: 1\nb: 2"


def test_of_a_large_file_rows_are_drawn_evenly(tmp_path, monkeypatch):
    from zhiling.induce import task

    monkeypatch.setattr(task, "MOST_ROWS", 40)
    rows = [{"input": f"row {number}", "output": "early" if number < 500 else "late"} for number in range(1000)]
    found = subject(lines(tmp_path / "a.jsonl", rows))
    late = sum(row.answers == ("late",) for row in found.rows)
    assert len(found.rows) == 40 and 8 < late < 32 and any("40 of 1000" in note for note in found.notes)
    assert [row.fields["input"] for row in found.rows] == sorted(
        (row.fields["input"] for row in found.rows), key=lambda said: int(said[4:])
    )
