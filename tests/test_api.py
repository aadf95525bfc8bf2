"""The Python door: construct, score, select in a few lines, and results that show themselves."""

import asyncio
from pathlib import Path

import making
import pytest

import zhiling.api as zl
from zhiling.errors import DataError, RecipeError

TASK = zl.Task(
    "mood",
    "Decide whether a review is positive or negative.",
    "classification",
    ("text",),
    "label",
    labels=("positive", "negative"),
)


def reviews(count=40):
    english, _ = making.reviews()
    return [{"text": text, "label": label} for text, label in english[:count]]


@pytest.fixture(scope="module")
def rows():
    return zl.construct(TASK, reviews(), ["template", {"retrieve": {"keep": 1}}], heldout=8)


def test_rows_are_examples_from_both_ways(rows):
    assert len(rows) == 64 and set(rows.by_way()) == {"template", "retrieve"}
    assert len(rows.heldout) == 8 and not {row.id for row in rows.heldout} & {row.id for row in rows}
    texts = {parent for row in rows.heldout for parent in row.parents}
    assert not texts & {row.parents[1] for row in rows}  # no record on both sides


def test_scores_and_verdicts_are_carried_along(rows):
    kept = zl.select(
        zl.score(rows, ["format", "relevance"]),
        [{"threshold": {"scorer": "relevance", "min": 0.1}}, {"quota": {"rows": 20}}],
    )
    assert len(kept) == 20 and len(rows) == 64  # nothing changes in place
    told = kept.why(kept[0])
    assert any(line.startswith("format = ") for line in told) and any(line.startswith("quota: kept") for line in told)
    assert set(kept.score_of("relevance")) >= {row.id for row in kept}


def test_rows_show_themselves(rows):
    scored = zl.score(rows, ["format"])
    assert "64" in repr(rows) and "template" in repr(rows)
    page = scored._repr_html_()
    assert "<table>" in page and "format" in page
    hostile = zl.Rows((zl.Example("t", "<script>alert(1)</script>"),))
    assert "<script>" not in hostile._repr_html_()
    assert "Rows(0" in zl.Rows(())._repr_html_()


def test_the_same_call_gives_the_same_rows(rows):
    again = zl.construct(TASK, list(reversed(reviews())), ["template", {"retrieve": {"keep": 1}}], heldout=8)
    assert {row.id for row in again} == {row.id for row in rows}


def test_a_scripted_model_generates(monkeypatch):
    made = zl.construct(
        TASK, reviews(12), [{"generate": {"candidates": 6, "keep": 1, "weights": {"relevance": 1.0}}}],
        model={"provider": "fake", "script": ["Decide whether the review below is positive or negative in tone."]},
    )  # fmt: skip
    assert set(made.by_way()) == {"generate"} and len(made) == 12
    assert all("negative in tone" in row.instruction for row in made)


def test_files_with_columns_of_their_own(tmp_path):
    making.write(tmp_path)
    task = zl.Task(
        "心情", "判断评论是正面还是负面。", "classification", ("text",), "label", langs=("zh",), labels=("正面", "负面")
    )
    made = zl.construct(task, tmp_path / "zh.csv", columns={"text": "评论", "label": "标签"}, heldout=0.1)
    assert len(made) == 81 and len(made.heldout) == 9 and {row.lang for row in made} == {"zh"}


def test_it_works_inside_a_notebooks_running_loop(rows):
    async def cell():
        return zl.score(rows, ["format"])

    assert len(asyncio.run(cell()).scores) == 64


def test_tasks_join_into_one_mixture(rows):
    other = zl.construct(
        zl.Task("more", "Judge.", "classification", ("text",), "label", labels=("positive", "negative")), reviews(6)
    )
    both = zl.join(rows, other)
    assert len(both) == len(rows) + len(other) and set(both.tasks) == {"mood", "more"}


def test_mistakes_are_the_usual_ones(tmp_path):
    with pytest.raises(RecipeError, match="unknown constructor 'templat'"):
        zl.construct(TASK, reviews(), ["templat"])
    with pytest.raises(DataError, match="no such file"):
        zl.construct(TASK, tmp_path / "none.csv")
    with pytest.raises(RecipeError, match="to hold out of"):
        zl.construct(TASK, reviews(4), heldout=9)


def test_nouns_are_at_the_front_door_too():
    import zhiling

    assert zhiling.Task is zl.Task and zhiling.open_model is zl.open_model
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        zhiling.nothing_of_that_name  # noqa: B018


def test_a_recipe_runs_from_python(tmp_path):
    path = making.write(tmp_path / "r")
    summary = zl.run(path, tmp_path / "out", workers=1, until="select")
    assert summary.kept == 120 and Path(summary.folder) == tmp_path / "out"


@pytest.mark.slow
def test_tune_and_evaluate_on_a_tiny_model(rows, tmp_path):
    pytest.importorskip("torch")
    import sys

    sys.path.insert(0, str(Path(__file__).parent / "tune"))
    from tiny_models import tiny

    tuned = zl.tune(rows, tmp_path / "out", base=str(tiny(tmp_path / "m", "llama")), max_steps=3)
    proof = zl.evaluate(tuned, rows, max_tokens=4)
    assert tuned.folder.exists() and "mood" in str(proof) and "<pre>" in proof._repr_html_()
    assert len(proof.answers) == 2 * len(rows.heldout)
