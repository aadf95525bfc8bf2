"""What a user may get wrong, through the command line: one clear line, the right exit code, nothing lost."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import making
import pytest

COMMAND = [sys.executable, "-m", "zhiling.cli"]


def zhiling(*args, env=None, limit=None):
    """Run the command; `limit` is the largest file it may write, in bytes (what a full disk looks like from inside)."""

    def before():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    env = {**os.environ, "ZHILING_LANG": "en", **(env or {})}
    if limit:  # coverage would fail to write its own file
        env = {key: value for key, value in env.items() if not key.startswith("COVERAGE_")}
    done = subprocess.run(
        [*COMMAND, *map(str, args)], capture_output=True, text=True, env=env, timeout=300,
        preexec_fn=before if limit else None,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def error_of(done):
    """The one line that says what is wrong."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture
def recipe(tmp_path):
    return making.write(tmp_path / "r")


def edited(recipe: Path, old: str, new: str) -> Path:
    text = recipe.read_text(encoding="utf-8")
    assert old in text
    recipe.write_text(text.replace(old, new, 1), encoding="utf-8")
    return recipe


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("shard_rows:", "shard_row:", "recipe.yaml:3 shard_row: unknown key 'shard_row' — did you mean 'shard_rows'?"),
        ("- template:", "- templat:", "unknown constructor 'templat' — did you mean 'template'?"),
        ("- echo", "- eccho", "unknown scorer 'eccho' — did you mean 'echo'?"),
        ("data: en.csv\n", "data: none.csv\n", "none.csv: no such file"),
        ("- text\n", "- txt\n", "no column 'txt'; the file has: text, label"),
        ("per_record: 2", "templates: bad.yaml", "colour"),
    ],
)
def test_the_users_mistakes(recipe, tmp_path, old, new, said):
    (recipe.parent / "bad.yaml").write_text(
        "id: bad\nfamily: classification\nlangs: [en]\ndescription: {en: Say it.}\nfields: [text, label]\ntarget: label\n"
        "phrasings:\n  - {lang: en, instruction: 'What {{ colour }}?', input: '{{ text }}', output: '{{ label }}'}\n"
    )
    done = zhiling("run", edited(recipe, old, new), "-o", tmp_path / "out")
    assert said in error_of(done) and done.returncode == 2


def test_a_recipe_that_is_not_there(tmp_path):
    done = zhiling("run", tmp_path / "none.yaml")
    assert "no such recipe" in error_of(done) and done.returncode == 2


def test_chinese_users_read_chinese(recipe, tmp_path):
    done = zhiling(
        "run", edited(recipe, "shard_rows:", "shard_row:"), "-o", tmp_path / "out", env={"ZHILING_LANG": "zh"}
    )
    assert (
        "错误: " in done.stderr
        and "未知的键“shard_row” — 是否想写“shard_rows”？" in done.stderr
        and done.returncode == 2
    )


def test_broken_json_in_line_14007_costs_that_row(tmp_path):
    recipe = making.write(
        tmp_path / "r", select=["exact"], score=[], construct=[{"template": {"templates": "classification_sentiment"}}]
    )
    with (recipe.parent / "en.jsonl").open("w") as out:
        for i in range(1, 15_001):
            out.write(
                '{"text": "cut of\n'
                if i == 14_007
                else json.dumps({"text": f"It was fine, visit {i}.", "label": "positive"}) + "\n"
            )
    edited(recipe, "data: en.csv", "data: en.jsonl")
    done = zhiling("run", recipe, "-o", tmp_path / "out", "--set", "shard_rows=2000")
    assert done.returncode == 0, done.stderr
    found = zhiling(
        "sql", tmp_path / "out", "select state, \"where\", why from ledger where state = 'quarantined'", "--json"
    )
    assert json.loads(found.stdout) == [
        {"state": "quarantined", "where": "en.jsonl:14007", "why": "broken JSON: Invalid control character at"}
    ]
    kept = zhiling("sql", tmp_path / "out", "select count(*) as n from records where task = 'mood'", "--json")
    assert json.loads(kept.stdout) == [{"n": 14_999}]


def test_a_task_without_rows(recipe, tmp_path):
    (recipe.parent / "en.csv").write_text("text,label\n")
    done = zhiling("run", recipe, "-o", tmp_path / "out")
    assert "en.csv: the file has no rows" in error_of(done) and done.returncode == 2


ASKS = [{"generate": {"candidates": 4, "keep": 1, "tasks": ["mood"], "weights": {"relevance": 1.0}}}, {"template": {}}]


def test_an_endpoint_that_is_not_there(tmp_path):
    models = {"m": {"provider": "openai", "model": "x", "base_url": "http://127.0.0.1:9/v1", "retries": 1}}
    done = zhiling("run", making.write(tmp_path / "r", models=models, construct=ASKS), "-o", tmp_path / "out")
    assert "cannot connect" in error_of(done) and "127.0.0.1" in error_of(done) and done.returncode == 1
    # what was read before is kept, and the same command without the dead endpoint goes on from there
    mended = making.write(tmp_path / "r", construct=[{"template": {}}])
    assert zhiling("run", mended, "-o", tmp_path / "out").returncode == 0


def test_a_key_that_is_missing(tmp_path):
    models = {"m": {"provider": "openai", "model": "x", "key_env": "NO_SUCH_KEY_HERE"}}
    done = zhiling("run", making.write(tmp_path / "r", models=models, construct=ASKS), "-o", tmp_path / "out")
    assert "NO_SUCH_KEY_HERE" in error_of(done) and done.returncode in (1, 2)


@pytest.mark.slow
def test_a_model_folder_that_is_not_one(tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "empty").mkdir()
    recipe = making.write(tmp_path / "r", tune={"model": "empty", "max_steps": 1})
    done = zhiling("run", recipe, "-o", tmp_path / "out")
    assert "empty" in error_of(done) and done.returncode in (1, 2)


def test_a_full_disk_loses_nothing(recipe, tmp_path):
    assert zhiling("run", recipe, "-o", tmp_path / "whole", "--workers", 1).returncode == 0
    sizes = [len(content) for content in making.files(tmp_path / "whole").values()]
    full = zhiling("run", recipe, "-o", tmp_path / "out", "--workers", 1, limit=sorted(sizes)[-3])
    assert "the disk is full" in error_of(full) and full.returncode == 1
    assert zhiling("run", recipe, "-o", tmp_path / "out", "--workers", 1).returncode == 0
    assert making.files(tmp_path / "out") == making.files(tmp_path / "whole")


def test_wrong_folders_queries_and_ids(tmp_path, recipe):
    assert "not a run's folder" in error_of(zhiling("show", tmp_path))
    assert zhiling("run", recipe, "-o", tmp_path / "out", "--until", "select").returncode == 0
    wrong = zhiling("sql", tmp_path / "out", "selec 1")
    assert "Parser Error" in error_of(wrong) and wrong.returncode == 2
    assert "no row begins with 'zz'" in error_of(zhiling("why", tmp_path / "out", "zz"))
    assert "unknown format 'xml'" in error_of(
        zhiling("export", tmp_path / "out", "-o", tmp_path / "a", "--format", "xml")
    )
    assert zhiling("run", recipe, "--until", "dance").returncode == 2
    assert zhiling("frobnicate").returncode == 2


def test_two_runs_in_one_folder(recipe, tmp_path):
    from zhiling.store import Store

    held = Store(tmp_path / "out")
    done = zhiling("run", recipe, "-o", tmp_path / "out")
    held.close()
    assert "another process is at work in this run" in error_of(done) and done.returncode == 1
