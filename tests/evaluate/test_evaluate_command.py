"""`zhiling evaluate` and `compare` as a user types them: verdicts, contamination, the reply cache, and every mistake as one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from zhiling.cli import app
from zhiling.errors import DataError, RecipeError
from zhiling.proof.evaluation import Asked, contaminated, paper
from zhiling.proof.sides import base_of, side, sides
from zhiling.types import Example, Task

THINGS = ["soup", "lamp", "hotel", "train", "ferry", "pillow"]
东西 = ["书包", "手机", "博物馆", "键盘", "公园", "耳机"]
ASK, 问 = "Is this review positive or negative?", "这条评论是正面还是负面？"
ROWS = [
    *({"instruction": ASK, "input": f"The {thing} was {word}.", "output": label} for thing in THINGS for word, label in (("lovely", "positive"), ("awful", "negative"))),
    *({"instruction": 问, "input": f"这个{thing}{word}。", "output": label} for thing in 东西 for word, label in (("很好", "正面"), ("很差", "负面"))),
]  # fmt: skip
WEAK = "provider: fake, script: {lovely: positive, '.': 'I cannot say'}"
GOOD = "provider: fake, script: {lovely: It is positive., awful: negative, 好: 正面, 差: 这是负面的。}"

SURE = "provider: fake, script: {'.': 'Sure, here it is.'}"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZHILING_LANG", "en")
    write(tmp_path / "mood.jsonl", ROWS)
    return tmp_path


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def call(*words, code=0):
    found = CliRunner().invoke(app, [*words], catch_exceptions=True)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        if code:
            return found.exception
        raise found.exception
    assert found.exit_code == code, found.output
    return found.stdout


def test_one_model_by_task_and_language_with_intervals(place):
    found = json.loads(call("evaluate", WEAK, "mood.jsonl", "--json"))
    mood = found["tasks"]["mood"]
    assert (mood["metric"], mood["n"], mood["failed"], mood["score"]) == ("accuracy", 24, 0, 0.25)
    assert mood["low"] < 0.25 < mood["high"]
    assert (
        found["langs"]["zh"]["score"] == 0.0 and 0.0 < found["langs"]["zh"]["high"] < 0.3
    )  # twelve zeros are no proof of zero
    assert found["contamination"] == {
        "checked": False, "training_rows": None, "unknown": [], "rows": 0, "counted_in": 0,
    }  # fmt: skip
    assert "contamination not checked" in call("evaluate", WEAK, "mood.jsonl")


def test_two_models_are_paired_and_the_verdict_is_said_in_both_languages(place, monkeypatch):
    told = call("compare", WEAK, GOOD, "mood.jsonl", "-o", "answers.jsonl")
    assert "better: +75.0 points" in told and "18 rows gained, 0 lost (McNemar, exact)" in told
    rows = [json.loads(line) for line in (place / "answers.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 48 and {row["model"] for row in rows} == {WEAK, GOOD}
    assert all(row["value"] == 1.0 for row in rows if row["model"] == GOOD)
    monkeypatch.setenv("ZHILING_LANG", "zh")
    told = call("compare", GOOD, WEAK, "mood.jsonl")
    assert "更差：-75.0 分" in told and "18 行转错" in told and "未检查污染" in told


def test_a_second_call_asks_nothing_again(place, monkeypatch):
    call("evaluate", WEAK, "mood.jsonl", "--cache", "kept.sqlite")
    first = json.loads(call("evaluate", WEAK, "mood.jsonl", "--cache", "kept.sqlite", "--json"))
    assert first["spent"][WEAK] == {"calls": 0, "cached": 24, "failed": 0, "usd": 0.0}

    async def never(self, request):
        raise AssertionError("asked again")

    monkeypatch.setattr("zhiling.llm.fake.Fake.reply", never)
    assert json.loads(call("evaluate", WEAK, "mood.jsonl", "--cache", "kept.sqlite", "--json")) == first


def test_a_killed_call_goes_on_where_it_stopped(place):
    slow = WEAK.replace("script", "delay_ms: 100, lanes: 1, script")
    command = [sys.executable, "-m", "zhiling.cli", "evaluate", slow, "mood.jsonl", "--json"]
    work = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    file = place / "runs" / "evaluate.sqlite"
    for _ in range(600):
        if file.exists() and replies(file) > 0:
            break
        time.sleep(0.05)
    os.kill(work.pid, signal.SIGKILL)
    work.communicate()
    known = replies(file)
    assert 0 < known < 24
    assert json.loads(call("evaluate", slow, "mood.jsonl", "--json"))["tasks"]["mood"]["n"] == 24
    assert replies(file) == 24


def replies(file):
    import sqlite3

    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as base:
        try:
            return base.execute("select count(*) from replies").fetchone()[0]
        except sqlite3.OperationalError:
            return 0


def test_rows_that_the_training_shows_are_refused_left_out_or_marked(place):
    write(place / "train.jsonl", [ROWS[0], {**ROWS[-1], "instruction": "评价如何？"}])
    words = ("compare", WEAK, GOOD, "mood.jsonl", "--trained-on", "train.jsonl")
    error = call(*words, code=2)
    assert isinstance(error, DataError) and "2 of 24 rows are contaminated" in str(error) and "--clean" in str(error)
    clean = json.loads(call(*words, "--clean", "--json"))
    assert (
        clean["overall"]["n"] == 22
        and clean["contamination"]["rows"] == 2
        and clean["contamination"]["counted_in"] == 0
    )
    assert "CONTAMINATED: the training rows show 2 of these rows" in call(*words, "--force", "-o", "answers.jsonl")
    rows = [json.loads(line) for line in (place / "answers.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 48 and sum(bool(row["contaminated"]) for row in rows) == 4


def test_every_row_that_a_training_row_shows_is_found_and_rewordings_too():
    tasks = {"qa": Task("qa")}
    first = Example(
        "qa",
        "Name the river that flows through the old harbour town of Bremen in the north of Germany.",
        output="Weser",
    )
    second = Example(
        "qa", "请写出流经德国北部古老港口城市不来梅的那条大河的名称，并说明它流入哪个海。", output="威悉河"
    )
    both = Example("file", f"{first.instruction} {second.instruction}", output="Weser")
    other = Example("qa", "How many legs has a spider, counted on both sides of its body?", output="eight")
    found = contaminated([first, second, other], [both], tasks)
    assert set(found) == {first.id, second.id}


def test_a_runs_heldout_rows_are_asked_with_its_own_metrics_and_its_kept_rows_are_looked_at(place):
    from zhiling import api

    (place / "mood.csv").write_text(
        "text,label\n" + "".join(f"{row['input']},{row['output']}\n" for row in ROWS), "utf-8"
    )
    task = {
        "description": 问,
        "family": "classification",
        "inputs": ["text"],
        "target": "label",
        "langs": ["zh"],
        "data": "mood.csv",
    }
    task |= {"labels": ["正面", "负面", "positive", "negative"], "heldout": 6, "metric": "choice"}
    folder = place / "run"
    api.run({"tasks": {"mood": task}, "report": False}, folder, here=place, workers=1)
    found = json.loads(call("evaluate", WEAK, str(folder), "--json", "--trained-on", str(folder)))
    assert found["tasks"]["mood"]["n"] == 6 and found["tasks"]["mood"]["metric"] == "choice"
    assert list(found["families"]) == ["classification"]
    assert found["contamination"]["checked"] and found["contamination"]["rows"] == 0  # its own guards saw to that
    assert found["contamination"]["training_rows"] > 5
    error = call("evaluate", str(folder), code=2)
    assert isinstance(error, RecipeError) and "tuned no model" in str(error)


def test_what_a_tuning_left_is_told_with_its_base_and_its_run(place):
    first, second, third = (tuned(place / f"seed{k}", place / f"run{k}" if k == 1 else None) for k in range(3))
    assert second.run == place / "run1" and first.run is None
    assert [one.label for one in sides(f"{first.label},{third.label}")] == [first.label, third.label]
    assert base_of([first, third]).entry["model"] == "embedded" and first.entry["adapter"].endswith("model")
    with pytest.raises(RecipeError, match="several bases"):
        base_of([first, replace(third, base="other")])
    write(place / "other.jsonl", [{"instruction": "Count to three.", "output": "One, two, three."}])
    assert paper(Asked([place / "mood.jsonl"]), [first, third], print).told()["unknown"] == [first.label, third.label]
    known = paper(Asked([place / "mood.jsonl"], trained_on=[place / "other.jsonl"]), [first], lambda event: None)
    assert known.unknown == [] and known.training == 1 and known.leaked == {}


def tuned(folder, run):
    """What a tuning leaves, as far as names go."""
    folder = run / "tune" if run else folder
    (folder / "model").mkdir(parents=True)
    (folder / "done.json").write_text(json.dumps({"base": "embedded"}))
    (folder / "model" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "embedded"}))
    if run:
        (run / "journal.sqlite").touch()
    return side(str(folder))


def test_seeds_are_crossed_with_rows(place, monkeypatch):
    from zhiling.proof import evaluation
    from zhiling.proof.sides import Side

    def fake(name, script):
        return Side(name, {"provider": "fake", "script": script})

    base = fake("base", {"lovely": "positive"})
    seeds = [
        fake(f"s{k}", {"lovely": "positive", "awful": "negative", "好": "正面", "差": "负面" if k else "正面"})
        for k in range(3)
    ]
    asked = Asked([place / "mood.jsonl"])
    found, answers = evaluation.compare([base], seeds, asked, lambda event: None)
    overall = found["overall"]
    assert overall["seeds"] == 3 and len(overall["each"]) == 3 and overall["each"][0] < overall["each"][1]
    assert overall["tuned"] > overall["base"] == 0.25 and overall["low"] < overall["difference"] < overall["high"]
    assert "3 seeds" in overall["words"]["en"] and "3 个种子" in overall["words"]["zh"] and len(answers) == 4 * 24
    with pytest.raises(RecipeError, match="2 tunings against 3"):
        evaluation.compare(seeds[:2], [base, *seeds[1:]], asked, lambda event: None)


def test_drift_is_looked_for_where_b_was_tuned_here_or_when_asked_for(place, monkeypatch):
    from zhiling.proof import evaluation
    from zhiling.proof.sides import Side

    plain = json.loads(call("compare", WEAK, GOOD, "mood.jsonl", "--json"))
    assert "drift" not in plain and plain["spent"][WEAK]["calls"] == 24
    asked = json.loads(call("compare", WEAK, GOOD, "mood.jsonl", "--json", "--drift"))
    assert asked["spent"][WEAK] == {"calls": 224, "cached": 24, "failed": 0, "usd": 0.0}
    assert asked["drift"]["forgetting"]["how"] == "likelihood"
    unlike = json.loads(call("compare", WEAK, SURE + ", without: [score]", "mood.jsonl", "--drift", "--json"))
    assert unlike["drift"]["forgetting"]["how"] == "written"  # for both: they are measured alike or not at all
    told = call("compare", WEAK, SURE, "mood.jsonl", "--drift")
    assert "general knowledge: " in told and "refuses too much? " in told and "of 32 harmful asks" in told
    monkeypatch.setenv("ZHILING_LANG", "zh")
    assert "通用能力：" in call("compare", WEAK, SURE, "mood.jsonl", "--drift")
    tuned = Side("tuned", {"provider": "fake", "script": {"lovely": "positive"}}, None, "some base")
    for wanted, found in ((None, True), (False, False)):
        how = Asked([place / "mood.jsonl"], drift=wanted)
        result, _ = evaluation.compare([side_of("base")], [tuned], how, lambda event: None)
        assert ("drift" in result) == found
    result, _ = evaluation.compare([side_of("base")], [tuned, side_of("other")], replace(how, drift=True), print_not)
    assert result["drift"]["forgetting"]["knows"]["p"] is None  # over rows and seeds


def side_of(name):
    from zhiling.proof.sides import Side

    return Side(name, {"provider": "fake", "script": {"awful": "negative", "x": name}})


def print_not(event):
    """Progress that nobody looks at."""


FIRST = 'provider: fake, script: {\'.\': \'{"reason": "r", "better": "A"}\'}'
FAIR = (
    'provider: fake, script: {\'(?s)I cannot say.*It is positive|I cannot say.*这是负面\': \'{"reason": "b", "better": "B"}\', '
    '\'(?s)(It is positive|这是负面).*I cannot say\': \'{"reason": "a", "better": "A"}\', '
    '\'.\': \'{"reason": "same", "better": "tie"}\'}'
)


def test_a_judge_sees_both_orders_and_one_that_prefers_a_place_decides_nothing(place):
    found = json.loads(call("compare", WEAK, GOOD, "mood.jsonl", "--judge", FIRST, "--json"))["judge"]
    assert (found["win_rate"], found["contradicted"], found["tied"]) == (0.5, 24, 24) and found["first_place"] == 1.0
    assert found["verdict"] == "cannot tell" and found["low"] < 0.5 < found["high"]
    result = json.loads(call("compare", WEAK, GOOD, "mood.jsonl", "--judge", FAIR, "--json", "-o", "answers.jsonl"))
    fair = result["judge"]
    assert fair["won"] > 0 and fair["lost"] == 0 and fair["first_place"] == 0.5 and fair["win_rate"] > 0.5
    assert fair["verdict"] == "better" and fair["low"] > 0.5 and result["spent"][FAIR]["calls"] == 48
    rows = [json.loads(line) for line in (place / "answers.jsonl").read_text("utf-8").splitlines()]
    judged = [row for row in rows if row["model"] == GOOD]
    assert {row["judge"] for row in judged} == {1.0, 0.5} and all(row["judge"] is None for row in rows if row["model"] == WEAK)  # fmt: skip
    told = call("compare", WEAK, GOOD, "mood.jsonl", "--judge", FAIR)
    assert "judge " in told and "wins" in told and "won," in told
    error = call("compare", WEAK, GOOD, "mood.jsonl", "--judge", "a,b", code=2)
    assert isinstance(error, RecipeError) and "one model" in str(error)


def test_equal_answers_tie_unasked_and_unanswered_rows_are_not_judged():
    import asyncio

    from zhiling.evaluate.predict import Prediction
    from zhiling.proof.duel import judged, rulings

    rows = [Example("t", f"q{k}", output="x") for k in range(3)]
    first = [Prediction(row.id, text, "stop", error) for row, text, error in zip(rows, "aab", ("", "", "down"), strict=True)]  # fmt: skip
    second = [Prediction(row.id, text, "stop") for row, text in zip(rows, ("a ", "c", "c"), strict=True)]

    async def unreadable():
        from zhiling.llm import open_model

        async with open_model({"provider": "fake", "script": {".": "hm"}}, cache=None) as judge:
            return await rulings(rows, first, second, judge, print_not)

    said = asyncio.run(unreadable())
    assert [said[row.id].sort for row in rows] == ["equal", "unreadable", "unanswered"]
    found = judged(rows, [said], "j", seed=0, confidence=0.95)
    assert (found["n"], found["failed"], found["tied"], found["win_rate"]) == (1, 2, 1, 0.5)
    seeds = judged(rows, [said, said], "j", seed=0, confidence=0.95)
    assert seeds["n"] == 1 and seeds["p"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate", "./nowhere", "mood.jsonl"), "no such model"), (("evaluate", "embedded", "nowhere.jsonl"), "nowhere.jsonl"),
        (("evaluate", "embedded"), "no rows to ask"), (("evaluate", WEAK, "mood.jsonl", "--metric", "blue"), "bleu"),
        (("evaluate", "model: x", "mood.jsonl"), "is no model"), (("evaluate", "a,b", "mood.jsonl"), "compare"),
        (("compare", "base", "embedded", "mood.jsonl"), "base is not known"), (("compare", WEAK, WEAK, "mood.jsonl"), "itself"),
        (("evaluate", WEAK, "empty.jsonl"), "empty.jsonl"), (("evaluate", WEAK, "mood.jsonl", "mood.jsonl"), "two tasks named"), (("evaluate", WEAK + ", without: [score]", "mood.jsonl", "--metric", "choice"), "score"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_in_both_languages(place, monkeypatch, words, said):
    write(place / "empty.jsonl", [{"instruction": "Say it.", "output": " "}])
    error = call(*words, code=2)
    assert said in str(error) and error.exit_code == 2 and "\n" not in str(error)
    monkeypatch.setenv("ZHILING_LANG", "zh")
    assert any("\u4e00" <= sign <= "\u9fff" for sign in str(call(*words, code=2)))


def test_rows_without_a_reference_are_counted_and_in_no_score(place):
    write(place / "some.jsonl", [*ROWS, {"instruction": ASK, "input": "The desk was fine.", "output": ""}])
    found = paper(Asked([place / "some.jsonl"]), [], lambda event: None)
    assert len(found.rows) == 24 and found.unusable == 1 and found.training is None
