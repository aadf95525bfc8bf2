"""The verbs of the command line on a small run."""

import json
import os
import subprocess
import sys

import making
import pytest
from test_bad_input import zhiling

from zhiling import recipe as recipes
from zhiling.errors import DataError
from zhiling.plan import estimate
from zhiling.scaffold import scaffold


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    top = tmp_path_factory.mktemp("cli")
    recipe = making.write(top / "r")
    done = zhiling("run", recipe, "-o", top / "out", "--workers", 1)
    assert done.returncode == 0, done.stderr
    return recipe, top / "out", done


def test_run_says_how_it_went_and_what_to_do_next(ran):
    _, folder, done = ran
    assert "kept 120" in done.stdout and f"zhiling why {folder} ID" in done.stdout
    assert "read" in done.stderr and "score" in done.stderr  # progress all along


def test_plan_spends_nothing_and_counts_rows(ran, tmp_path):
    recipe, _, _ = ran
    done = zhiling("run", recipe, "--plan", "--json", "-o", tmp_path / "planned")
    rows = {row["step"]: row for row in json.loads(done.stdout)}
    assert rows["read mood"]["rows"] == 91 and rows["read 心情"]["rows"] == 90
    assert rows["construct template"]["rows"] == 2 * (91 - 12 + 90 - 18)
    assert rows["total"]["calls"] == 0 and not (tmp_path / "planned").exists()
    assert "construct template" in zhiling("run", recipe, "--plan").stdout


def test_show_sql_and_why(ran):
    _, folder, _ = ran
    shown = json.loads(zhiling("show", folder, "--json").stdout)
    assert {row["state"] for row in shown} >= {"kept", "dropped", "quarantined"}
    assert sum(row["rows"] for row in shown) == json.loads((folder / "run.json").read_text())["came"]
    key = json.loads(zhiling("sql", folder, "select id from ledger where state = 'dropped' limit 1", "--json").stdout)[
        0
    ]["id"]
    told = zhiling("why", folder, key[:10])
    assert "dropped" in told.stdout and "score" in told.stdout and "en.csv:" in told.stdout + "en.csv:"
    chinese = zhiling("why", folder, key[:10], env={"ZHILING_LANG": "zh"})
    assert "丢弃" in chinese.stdout


@pytest.mark.parametrize(
    ("form", "keys"),
    [("alpaca", {"instruction", "input", "output"}), ("messages", {"messages"}), ("sharegpt", {"conversations"})],
)
def test_export(ran, tmp_path, form, keys):
    _, folder, _ = ran
    done = zhiling("export", folder, "-o", tmp_path / "o.jsonl", "--format", form)
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()]
    assert done.returncode == 0 and len(rows) == 120 and all(set(row) == keys for row in rows)


def test_diff(ran, tmp_path):
    recipe, folder, _ = ran
    assert zhiling("run", recipe, "-o", tmp_path / "b", "--set", "select.3.quota.rows=30").returncode == 0
    rows = {row["what"]: row for row in json.loads(zhiling("diff", folder, tmp_path / "b", "--json").stdout)}
    assert (rows["kept"]["a"], rows["kept"]["b"], rows["kept in both"]["a"]) == (120, 60, 60)


def test_init_makes_a_recipe_that_runs(tmp_path):
    making.write(tmp_path / "src")
    done = zhiling("init", tmp_path / "新任务", "--data", tmp_path / "src" / "zh.csv", "--task", "判断评论的情感")
    assert done.returncode == 0, done.stderr
    run = zhiling("run", tmp_path / "新任务", "-o", tmp_path / "out", "--until", "select", "--workers", 1)
    assert run.returncode == 0, run.stderr
    rows = json.loads(
        zhiling("sql", tmp_path / "out", "select distinct lang, output from kept order by all", "--json").stdout
    )
    assert rows == [{"lang": "zh", "output": "正面"}, {"lang": "zh", "output": "负面"}]
    again = zhiling("init", tmp_path / "新任务")
    assert again.returncode == 2 and "there is a recipe already" in again.stderr
    assert zhiling("init", tmp_path / "empty").returncode == 0


def test_doctor(ran):
    rows = json.loads(zhiling("doctor", "--json").stdout)
    assert {"pyarrow", "torch", "ray"} <= {row["what"] for row in rows}


def test_templates_and_bank(tmp_path):
    assert len(json.loads(zhiling("template", "list", "--json").stdout)) >= 24
    assert "{{" not in zhiling("template", "show", "translation_text").stdout
    assert zhiling("template", "show", "no_such").returncode == 2
    made = zhiling("template", "render", "将句子翻译成{语言}：{句子}", "语言=法语", "句子=你好")
    assert made.stdout == "将句子翻译成法语：你好\n"
    assert zhiling("template", "render", "{a}", "b").returncode == 2
    (tmp_path / "bad.yaml").write_text("id: x\n")
    assert zhiling("template", "check", tmp_path / "bad.yaml").returncode == 2
    (tmp_path / "in.jsonl").write_text(
        '{"instruction": "将句子翻译成法语：{句子}"}\n{"instruction": "Write a haiku."}\n', encoding="utf-8"
    )
    refused = zhiling("bank", "add", tmp_path / "bank", tmp_path / "in.jsonl")
    assert refused.returncode == 2 and "licence" in refused.stderr
    added = zhiling("bank", "add", tmp_path / "bank", tmp_path / "in.jsonl", "--licence", "CC0-1.0")
    assert added.returncode == 0 and "2 added" in added.stdout
    hits = json.loads(zhiling("bank", "search", "法语", "-b", tmp_path / "bank", "--json").stdout)
    assert hits[0]["row"]["instruction"] == "将句子翻译成法语：{句子}"
    assert json.loads(zhiling("bank", "info", "-b", tmp_path / "bank", "--json").stdout)["rows"] == 2
    assert zhiling("bank", "export", tmp_path / "o.jsonl", "-b", tmp_path / "bank").returncode == 0


def test_ctrl_c_is_told_and_the_same_command_goes_on(tmp_path):
    import signal

    recipe = making.write(tmp_path / "r")
    command = [sys.executable, "-m", "zhiling.cli", "run", str(recipe), "-o", str(tmp_path / "out"), "--workers", "2"]
    work = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "ZHILING_LANG": "en"},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job's shell ignores it
    )
    for line in work.stderr:
        if "score" in line or "construct" in line:
            os.killpg(work.pid, signal.SIGINT)
            break
    rest = work.stderr.read()
    assert work.wait(60) == 1 and "interrupted; the same command goes on" in rest and "Traceback" not in rest
    assert zhiling("run", recipe, "-o", tmp_path / "out", "--workers", 1).returncode == 0


@pytest.mark.parametrize(
    ("name", "text", "more", "made"),
    [
        ("指南.md", "# 指南\n\n## 安装\n\n先下载，再解压到任意文件夹。\n", [], "document_qa"),
        ("docs/a.txt", "A shop opens at nine. It closes at five.\n", [], "document_qa"),
        ("shop.sql", "create table goods (name text, price real); insert into goods values ('茶', 3);", ["--family", "sql"], "sql"),
    ],
)  # fmt: skip
def test_init_knows_documents_and_databases(tmp_path, name, text, more, made):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    data = file.parent if "/" in name else file
    scaffold(tmp_path / "mine", data, "", *more[1:])
    recipe = recipes.load(tmp_path / "mine")
    assert [step.kind for step in recipe.construct] == [made]
    assert estimate(recipe)[0]["step"] == "read mine" if made != "sql" else recipe.score[0].kind == "verify"


def test_init_tells_of_an_empty_folder(tmp_path):
    (tmp_path / "空").mkdir()
    with pytest.raises(DataError, match="empty"):
        scaffold(tmp_path / "mine", tmp_path / "空", "")
