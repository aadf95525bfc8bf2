"""Whether scorers agree on the best rows, against chance."""

import json
import random

import pytest
from typer.testing import CliRunner

from zhiling.cli import app
from zhiling.errors import DataError
from zhiling.judging.agreement import agreement, selectors
from zhiling.judging.dataset import Asked, select
from zhiling.store import Done, Store, write
from zhiling.types import Example, Score

ROWS = 1000


def folder_with(folder, values):
    """A run's folder with these scores, {scorer: function of a row's number}."""
    rows = sorted((Example("任务" if at % 2 else "t", f"{at}") for at in range(ROWS)), key=lambda row: row.id)
    store = Store(folder)
    store.begin()
    store.commit(
        Done("m", "merge", "all", (write(folder, "examples/a.parquet", "examples", rows),), {"firsts": [rows[0].id]})
    )
    for name, value in values.items():
        said = [Score(row.id, name, value(int(row.instruction))) for row in rows]
        store.commit(
            Done(name, f"score/{name}", "00000", (write(folder, f"scores/{name}.parquet", "scores", said),), {})
        )
    store.close()
    return folder


def test_the_same_opposite_and_unrelated_orders(tmp_path):
    lot = random.Random(1)
    drawn = [lot.random() for _ in range(ROWS)]
    told = agreement(
        folder_with(
            tmp_path,
            {
                "echo": lambda at: at / ROWS,
                "grammar": lambda at: 1 - at / ROWS,
                "relevance": lambda at: at / ROWS,
                "clarity": lambda at: drawn[at],
            },
        )
    )
    found = {(row["a"], row["b"]): row for row in told}
    assert len(told) == 6 and all(row["kept"] == 200 and row["chance"] == 40 for row in told)
    assert found["echo", "grammar"]["both"] == 200 and found["echo", "grammar"]["lift"] == 5  # a low echo is a good one
    assert found["echo", "relevance"]["both"] == 0 and found["grammar", "relevance"]["both"] == 0
    assert all(0.5 < found["clarity", other]["lift"] < 1.5 for other in ("echo", "grammar", "relevance"))


def test_ties_agree_by_chance_and_unscored_rows_do_not_count(tmp_path):
    told = agreement(folder_with(tmp_path, {"format": lambda at: 1.0, "language": lambda at: None if at % 2 else 1.0}))
    (row,) = told
    assert row["rows"] == 500 and row["kept"] == 100 and 0.5 < row["lift"] < 1.6


def test_one_scorer_has_nobody_to_agree_with(tmp_path):
    with pytest.raises(DataError, match="fewer than two scorers"):
        agreement(folder_with(tmp_path, {"echo": float, "length": float}))


def selection(folder, rows, *steps):
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    select(Asked([data], ["length", "echo"], list(steps)), folder / "kept.jsonl", folder / "run", workers=1)
    return folder / "run"


def worded(count):
    """Rows whose answers are 1 to 10 words long, zh and en by turns."""
    return [
        {
            "instruction": f"{at}号问题是什么？" if at % 2 else f"What is number {at}?",
            "input": "",
            "output": " ".join(["word"] * (at % 10 + 1)),
        }
        for at in range(count)
    ]


def bound(**ends):
    return {"threshold": {"scorer": "length", **ends}}


def test_selectors_are_compared_alone_on_the_whole_pool_whatever_their_order(tmp_path):
    told = selectors(selection(tmp_path, worded(400), bound(min=3), bound(min=6), bound(max=8), "exact"))
    found = {(row["a"], row["b"]): row for row in told}
    assert len(told) == 6 and all(row["rows"] == 400 for row in told)  # though the second saw only the first one's 320
    row = found["threshold length", "threshold length #2"]
    assert (row["a_keeps"], row["b_keeps"], row["both"], row["chance"]) == (320, 200, 200, 160.0)
    assert (
        row["kappa"] == pytest.approx((0.7 - 0.5) / 0.5)
        and row["low"] < row["kappa"] < row["high"]
        and row["verdict"] == "agree"
    )
    row = found["threshold length #2", "threshold length #3"]
    assert row["both"] == 120 and row["kappa"] == pytest.approx((0.3 - 0.5) / 0.5) and row["verdict"] == "contradict"
    assert (
        found["threshold length", "exact"]["kappa"] is None
        and found["threshold length", "exact"]["verdict"] == "one-sided"
    )


def test_blind_selectors_agree_by_chance(tmp_path):
    rows = [{**row, "output": row["output"] + (" word" if at % 7 < 3 else "")} for at, row in enumerate(worded(700))]
    told = selectors(selection(tmp_path, rows, {"quota": {"rows": 350}}, bound(min=6)))
    assert told[0]["low"] < 0 < told[0]["high"] and told[0]["verdict"] == "chance" and 0.85 < told[0]["lift"] < 1.15


def test_the_command_says_both_matrices_in_both_languages(tmp_path, monkeypatch):
    folder = selection(tmp_path, worded(100), bound(min=3), bound(min=6))
    args = ["show", str(folder), "--agreement"]
    done = CliRunner().invoke(app, args)
    assert (
        done.exit_code == 0 and "each alone on the whole pool" in done.output and "agree beyond chance" in done.output
    )
    told = json.loads(CliRunner().invoke(app, [*args, "--json"]).output)
    assert told["selectors"][0]["both"] == 50 and told["scorers"] == []
    monkeypatch.setenv("ZHILING_LANG", "zh")
    assert "超出随机的一致" in CliRunner().invoke(app, args).output
    monkeypatch.chdir(tmp_path)
    steps = ["--with", "threshold: {scorer: length, min: 3}", "--with", "threshold: {scorer: length, min: 6}"]
    done = CliRunner().invoke(
        app, ["select", "rows.jsonl", "-o", "again.jsonl", "--score", "length", *steps, "--workers", "1"]
    )
    assert done.exit_code == 0 and "各选择器单独面对全部数据" in done.output


def test_one_selector_has_nobody_to_agree_with(tmp_path):
    with pytest.raises(DataError, match="fewer than two selectors"):
        selectors(selection(tmp_path, worded(50), "exact"))
