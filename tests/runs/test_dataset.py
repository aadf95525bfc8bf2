"""score, select and audit on a data set that somebody already has: every row comes back, in its own format, with the reason."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zhiling.cli import app
from zhiling.errors import RecipeError, boundary
from zhiling.judging.dataset import SELECT, rethreshold

GOOD = [
    {"instruction": "把句子翻译成英语。", "input": "今天天气很好。", "output": "The weather is nice today."},
    {"instruction": "Name three primary colours.", "input": "", "output": "Red, yellow and blue are primary colours."},
    {"instruction": "写一句关于秋天的话。", "input": "", "output": "秋风吹过，满地金黄的落叶沙沙作响。"},
    {
        "instruction": "Explain what a noun is.",
        "input": "",
        "output": "A noun is a word that names a person, place or thing.",
    },
]
BAD = [
    {"instruction": "Explain rain.", "input": "<noinput>", "output": ""},
    {"instruction": "写一首诗。", "input": "", "output": "抱歉，作为一个人工智能语言模型，我无法写诗。"},
    {"instruction": "Write to the client.", "input": "", "output": "Hello, see {{ client_name }} for details of it."},
]
SAME = [GOOD[0], {**GOOD[1], "output": "Red, yellow and blue are  primary colours."}]


def lines(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def run(*args, code=0):
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def test_select_accounts_for_every_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = write(tmp_path / "rows.jsonl", [*GOOD, *BAD, *SAME, {"instruction": 3.5, "output": ["x"]}, {"x": 1}])
    said = json.loads(run("select", source, "-o", "kept.jsonl", "--json", "--workers", "1").splitlines()[-1])
    kept, dropped = lines("kept.jsonl"), lines("kept.dropped.jsonl")
    assert {row["instruction"] for row in kept} == {row["instruction"] for row in GOOD} | {3.5} and said["kept"] == len(
        kept
    ) == 5
    assert len(kept) + len(dropped) == said["rows"] == 11 == sum(said["states"].values())
    by = {row["zhiling_where"]: row for row in dropped}
    assert by["rows.jsonl:5"]["zhiling_by"] == "threshold" and "format" in by["rows.jsonl:5"]["zhiling_why"]
    assert "refusal" in by["rows.jsonl:6"]["zhiling_why"] and "placeholder" in by["rows.jsonl:7"]["zhiling_why"]
    assert by["rows.jsonl:8"]["zhiling_why"]  # the very same row again
    (twin,) = [row for row in dropped if row["zhiling_where"] in ("rows.jsonl:2", "rows.jsonl:9")]
    assert twin["zhiling_by"] == "exact"
    assert by["rows.jsonl:11"]["zhiling_by"] == "file"  # no instruction: unreadable, and told
    found = run("why", said["run"], twin["zhiling_rival"][:12])
    assert "kept" in found and "rows.jsonl:" in found


def test_a_line_in_another_encoding_is_unreadable_and_costs_itself_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "rows.jsonl", GOOD)
    with (tmp_path / "rows.jsonl").open("ab") as file:
        file.write(
            '{"instruction": "你好", "output": "世界"}\n'.encode("gbk") + b'{"instruction": "a", "output": "\\ud800"}\n'
        )
    run("score", "rows.jsonl", "-o", "scored.jsonl", "--with", "format", "--workers", "1")
    whole, broken = lines("scored.jsonl")[: len(GOOD)], lines("scored.jsonl")[len(GOOD) :]
    assert all(row["zhiling_format"] == 1.0 for row in whole)
    assert [row["zhiling_format"] for row in broken] == [None, None] and "Unicode" in json.dumps(broken[0])


def test_another_threshold_computes_no_score_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    near = [
        {
            **GOOD[3],
            "output": "A noun is a word that names a person, place or a feeling, or many other things that people think about.",
        }
    ]
    source = write(tmp_path / "rows.jsonl", [*GOOD, *near])
    run("select", source, "-o", "kept.jsonl", "--workers", "1")
    first = len(lines("kept.jsonl"))
    shards = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("scores/**/*.parquet")}
    run("select", source, "-o", "kept.jsonl", "--workers", "1", "--rethreshold", "near=0.3")
    assert (first, len(lines("kept.jsonl"))) == (5, 4)
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("scores/**/*.parquet")} == shards and shards


def test_rethreshold_finds_the_bound_that_is_meant():
    assert rethreshold(SELECT, ["near=0.86"])[-1] == {"near": {"threshold": 0.86}}
    assert rethreshold(SELECT, ["format=0.5"])[0] == {"threshold": {"scorer": "format", "min": 0.5}}
    assert rethreshold(SELECT, ["refusal.max=0.5"])[1] == {"threshold": {"scorer": "refusal", "max": 0.5}}
    for wrong in ("near", "near=x", "nothing=1", "format.middle=1"):
        with pytest.raises(RecipeError, match="rethreshold"):
            rethreshold(SELECT, [wrong])


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_scores_come_back_as_columns_of_the_same_rows(tmp_path, monkeypatch, ending):
    monkeypatch.chdir(tmp_path)
    source, out = write(tmp_path / "rows.jsonl", [*GOOD, *BAD]), tmp_path / f"scored.{ending}"
    run("score", source, "-o", out, "--workers", "1", "--with", "length", "--with", "format", "--with", "grammar")
    if ending == "jsonl":
        rows = lines(out)
    elif ending == "json":
        rows = json.loads(out.read_text(encoding="utf-8"))
    elif ending == "parquet":
        import pyarrow.parquet as pq

        rows = pq.read_table(out).to_pylist()
    else:
        with out.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t" if ending == "tsv" else ","))
    assert [row["output"] for row in rows] == [row["output"] for row in [*GOOD, *BAD]]
    assert [float(row["zhiling_format"]) for row in rows] == [1, 1, 1, 1, 0, 1, 1]
    assert float(rows[0]["zhiling_length"]) == 5 and "empty_output" in str(rows[4]["zhiling_why"])
    assert "zhiling_echo" not in rows[0]


@pytest.mark.parametrize("form", ["sharegpt", "messages"])
def test_chats_are_judged_and_given_back_as_chats(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    plain = write(tmp_path / "rows.jsonl", [*GOOD, *BAD])
    run("convert", plain, "-o", "chats.jsonl", "--format", form)
    run("select", "chats.jsonl", "-o", "kept.jsonl", "--workers", "1")
    assert lines("kept.jsonl") == lines("chats.jsonl")[: len(GOOD)]


def test_columns_of_a_foreign_csv(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Path("faq.csv").open("w", encoding="gb18030", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [["问题", "答案"], ["什么是名词？", "名词是表示人、事物或地点名称的词。"], ["什么是动词？", ""]]
        )
    wrong = CliRunner().invoke(app, ["score", "faq.csv", "-o", "out.csv"])
    assert wrong.exit_code and "--column" in str(boundary(wrong.exception))
    run(
        "select",
        "faq.csv",
        "-o",
        "kept.csv",
        "--workers",
        "1",
        "--column",
        "instruction=问题",
        "--column",
        "output=答案",
    )
    assert "名词" in Path("kept.csv").read_text(encoding="utf-8") and "动词" not in Path("kept.csv").read_text(
        encoding="utf-8"
    )
    assert "动词" in Path("kept.dropped.csv").read_text(encoding="utf-8")


def test_audit_counts_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    leaked = {**GOOD[2], "output": "秋天来了。"}
    private = {"instruction": "记下电话。", "input": "", "output": "好的，电话是 13812345678，已经记下。"}
    source = write(tmp_path / "rows.jsonl", [*GOOD, *BAD, *SAME, private])
    source.write_text(source.read_text(encoding="utf-8") + "{not json\n", encoding="utf-8")
    exam = write(tmp_path / "exam.jsonl", [leaked])
    said = json.loads(run("audit", source, "--against", exam, "--json", "--workers", "1").splitlines()[-1])
    counts = {item["code"]: item["rows"] for item in said["findings"]}
    assert said["rows"] == 11 and counts["unreadable"] == 1 and counts["leak"] == 1 and counts["duplicate_exact"] == 2
    assert counts["empty_output"] == counts["refusal"] == counts["placeholder"] == counts["pii_zh_mobile"] == 1
    shown = run("audit", source, "--workers", "1")
    assert "rows.jsonl:5" in shown and "138" not in shown


def test_wrong_files_are_one_line(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    for name, words in (
        ("none.jsonl", "no such file"),
        ("empty.jsonl", "no readable row"),
        ("other.jsonl", "--column"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "zhiling.cli", "score", name, "-o", "o.jsonl"], cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 2 and words in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "zhiling.cli", "score", "other.jsonl", "-o", "o.xlsx"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2


def test_a_threshold_that_drops_everything_says_which(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = write(tmp_path / "rows.jsonl", GOOD)
    done = CliRunner().invoke(
        app,
        ["select", str(source), "-o", "k.jsonl", "--with", "threshold: {scorer: length, min: 900}", "--workers", "1"],
    )
    assert done.exit_code and "kept no row" in str(boundary(done.exception))
    assert not Path("k.jsonl").exists()


def test_ctrl_c_is_told_and_the_same_command_goes_on(tmp_path):
    rows = [{**row, "output": f"{row['output']} {n}"} for n in range(1500) for row in GOOD]
    write(tmp_path / "rows.jsonl", rows)
    command = [sys.executable, "-m", "zhiling.cli", "select", "rows.jsonl", "-o", "kept.jsonl", "--workers", "2"]
    work = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job's shell ignores it
    )  # fmt: skip
    for line in work.stderr:
        if "score" in line:
            os.killpg(work.pid, signal.SIGINT)
            break
    rest = work.stderr.read()
    assert work.wait(60) == 1 and "the same command goes on" in rest and "Traceback" not in rest
    assert not (tmp_path / "kept.jsonl").exists()
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    kept, dropped = lines(tmp_path / "kept.jsonl"), lines(tmp_path / "kept.dropped.jsonl")
    assert len(kept) + len(dropped) == len(rows)
