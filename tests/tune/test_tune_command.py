"""`zhiling tune` and `zhiling show --tokens`, as they are typed."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial

import pytest
from typer.testing import CliRunner

from zhiling.cli import app
from zhiling.errors import DataError, RecipeError
from zhiling.proof import evaluation
from zhiling.proof.sides import side
from zhiling.show import tokens
from zhiling.types import Example


@pytest.fixture
def files(tmp_path, rows):
    for task in ("qa", "sentiment"):
        lines = [json.dumps({"instruction": r.instruction, "input": r.input, "output": r.output}, ensure_ascii=False) for r in rows if r.task == task]  # fmt: skip
        (tmp_path / f"{task}.jsonl").write_text("\n".join([*lines, "not json"]) + "\n", encoding="utf-8")
    return [str(tmp_path / "qa.jsonl"), str(tmp_path / "sentiment.jsonl")]


QUICK = ["--set", "epochs=1", "--set", "batch_rows=7", "--set", "rank=4", "--set", "threads=1"]


def test_it_tunes_on_files_a_task_each(llama, files, tmp_path):
    command = ["tune", *files, "-o", str(tmp_path / "out"), "--model", str(llama), *QUICK, "--set", "weights={qa: 2}"]
    ran = CliRunner().invoke(app, [*command, "--json"])
    assert ran.exit_code == 0, ran.output
    facts = json.loads(ran.stdout)
    assert set(facts["loss"]) == {"qa", "sentiment"} and (tmp_path / "out" / "model" / "adapter_config.json").exists()
    assert "1 rows cannot be read" in ran.stderr
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0 and "qa  loss" in again.stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [(["--set", "epchs=3"], "epochs"), (["--set", "epochs"], "no setting"), (["--engine", "sprk"], "local | ray"), (["--set", "x={"], "--set x")],
)  # fmt: skip
def test_a_mistake_is_named(files, tmp_path, more, said):
    ran = CliRunner().invoke(app, ["tune", *files, "-o", str(tmp_path / "out"), *more])
    assert isinstance(ran.exception, RecipeError) and said in str(ran.exception)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_two_ranks_are_started(llama, files, tmp_path, engine):
    if engine == "ray":
        pytest.importorskip("ray")
    command = [
        sys.executable,
        "-m",
        "zhiling.cli",
        "tune",
        *files,
        "-o",
        str(tmp_path / "out"),
        "--model",
        str(llama),
        *QUICK,
    ]
    ran = subprocess.run(
        [*command, "--engine", engine, "--ranks=2", "--json"], capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["steps"] > 1 and (tmp_path / "out" / "done.json").exists()
    (tmp_path / "empty.jsonl").write_text('{"instruction": "a", "input": "", "output": ""}\n', encoding="utf-8")
    if engine == "local":
        command[4:6] = [str(tmp_path / "empty.jsonl")]
        bad = subprocess.run(
            [*command, "--ranks", "2", "-o", str(tmp_path / "no")], capture_output=True, text=True, timeout=300
        )
        assert bad.returncode == 2 and bad.stderr.count("error: ") == 1 and "Traceback" not in bad.stderr
        assert "exitcode" in (tmp_path / "no" / "ranks.log").read_text(encoding="utf-8")


def test_tokens_are_shown_whole_and_marked(llama, tmp_path):
    row = Example("t", "翻译成英文：", "你好，世界\x1b[31m", "Hello, world!")
    (shown,) = tokens.shown([row], str(llama))
    text = "".join(piece.text for piece in shown.pieces)
    assert "你好，世界" in text and "\ufffd" not in text
    trained = "".join(piece.text for piece in shown.pieces if piece.trained)
    assert trained.startswith("Hello, world!") and "你好" not in trained
    assert 0 < shown.trained < shown.tokens
    plain = "\n".join(tokens.lines([shown], colour=False))
    assert "[[Hello, world!" in plain and "\x1b" not in plain
    coloured = "\n".join(tokens.lines([shown]))
    assert "\x1b[31m" not in coloured.replace(tokens.BOLD, "").replace(tokens.DIM, "")


def test_tokens_as_a_page(llama, files, tmp_path):
    made = CliRunner().invoke(
        app, ["show", files[0], "--tokens", "--model", str(llama), "--html", str(tmp_path / "t.html")]
    )
    assert made.exit_code == 0, made.output
    page = (tmp_path / "t.html").read_text(encoding="utf-8")
    assert page.count("<section>") > 1 and "<span class=t>" in page and "http" not in page
    told = CliRunner().invoke(app, ["show", files[0], "--tokens", "--model", str(llama), "--json"])
    assert all(json.loads(line)["trained"] for line in told.stdout.splitlines())


def test_a_row_that_is_left_out_says_so(llama):
    shown = list(tokens.shown([Example("t", "a", "", "")], str(llama)))
    assert shown[0].why == "empty" and "empty" in next(tokens.lines(shown))


def test_what_it_was_tuned_on_is_refused_as_a_measure_of_it(llama, files, tmp_path):
    """Tune on files, measure on rows of which one was among them: refused, until the training file is another one, which is said."""
    out = tmp_path / "out"
    ran = CliRunner().invoke(
        app, ["tune", *files, "-o", str(out), "--model", str(llama), *QUICK, "--set", "max_steps=1"]
    )
    assert ran.exit_code == 0, ran.output
    noted = json.loads((out / "done.json").read_text(encoding="utf-8"))["sources"]
    assert [(one["path"], one["form"], one["rows"]) for one in noted] == [
        (files[0], "alpaca", 8),
        (files[1], "alpaca", 16),
    ]
    shown = json.loads((tmp_path / "qa.jsonl").read_text(encoding="utf-8").splitlines()[0])
    fresh = {"instruction": "写一句关于海的话。", "input": "", "output": "海很蓝。"}
    asked = tmp_path / "asked.jsonl"
    asked.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in (shown, fresh)), encoding="utf-8")
    on = partial(evaluation.paper, sides=[side(str(out))], watch=lambda event: None)
    with pytest.raises(DataError, match="1 of 2 rows are contaminated"):
        on(evaluation.Asked([asked]))
    clean = on(evaluation.Asked([asked], clean=True))
    assert [row.output for row in clean.rows] == ["海很蓝。"]
    assert (clean.training, len(clean.leaked), clean.unknown) == (24, 1, [])
    with open(files[0], "a", encoding="utf-8") as file:
        file.write(json.dumps(fresh) + "\n")
    changed = on(evaluation.Asked([asked]))  # what it was tuned on is not known any more, and that is said
    assert (changed.training, len(changed.leaked), changed.unknown) == (16, 0, [str(out)])
