"""The contest from end to end, on a scripted model: three ways, three sides, a hard budget, and a winner that a recipe can use."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import making
import pytest
import yaml
from test_bad_input import error_of, zhiling

from zhiling.cli.induce import _held
from zhiling.construct.library import load_definition
from zhiling.errors import ProviderError
from zhiling.induce import Settings, plan
from zhiling.induce.execute import Executor
from zhiling.induce.report import facts, lines, template_text
from zhiling.induce.task import Asked, subject
from zhiling.llm.bill import NAME, charged

WORDS = [
    f"{a}{b}"
    for a in ("lamp", "harbour", "violin", "garden", "pepper", "window")
    for b in ("", "s", "man", "ing", "let", "ware")
]
GOOD, BAD = "Repeat the word exactly as it stands", "Count the letters of the word"
COPYIST = {
    "these answers went wrong": f"{GOOD}.", "higher scores are better": "Look at the word and think.", "one instruction|torn off|Reword": f"{BAD}.",
    rf"(?s){GOOD}.*\n\n(\w+)$": r"\1", r"(?s)Rewrite.*\n\n(\w+)$": r"\1", ".": "no",
}  # fmt: skip
"""A model that proposes a bad instruction, a good one only when it is shown mistakes, and copies the word only when told to."""


def copying(folder, rows=WORDS):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "copy.jsonl"
    path.write_text("".join(json.dumps({"input": word, "output": word}) + "\n" for word in rows), encoding="utf-8")
    return str(path)


def spec(script=None, **more):
    """A model as `--model` takes it; the order of the script counts."""
    return json.dumps({"provider": "fake", "script": script or COPYIST, **more}, ensure_ascii=False)[1:-1]


def hold(folder, given=None, *, model=None, proposer="", settings=None, watch=None):
    found = subject(given or copying(folder))
    done = _held(
        found,
        settings or Settings(calls=300),
        folder / "out",
        model or spec(),
        proposer,
        "seeds",
        watch or (lambda event: None),
    )
    return asyncio.run(done)


def test_reflection_finds_what_nobody_proposed_and_the_report_is_honest(tmp_path, monkeypatch):
    ran: list[tuple[str, frozenset[str]]] = []
    run = Executor.run

    async def noted(self, template, rows):
        ran.append((template.instruction, frozenset(row.key for row in rows)))
        return await run(self, template, rows)

    monkeypatch.setattr(Executor, "run", noted)
    out = hold(tmp_path)
    told = facts(out)
    winner = told["winner"]
    assert GOOD in winner["instruction"] and winner["way"] == "generate" and winner["how"].startswith("reflect")
    assert winner["score"] == 1.0 and winner["low"] < 0.9 and winner["high"] == 1.0  # all right on few rows is not sure
    sides = {name: {row.key for row in getattr(out.split, name)} for name in ("propose", "race", "report")}
    assert (
        not sides["propose"] & sides["race"]
        and not sides["race"] & sides["report"]
        and not sides["propose"] & sides["report"]
    )
    assert all(any(keys <= side for side in sides.values()) for _, keys in ran)  # nothing runs across sides
    reported = {said for said, keys in ran if keys & sides["report"]}
    assert reported == {
        out.entrants[i].template.instruction for i in out.order[:2]
    }  # and only the finalists are reported on
    assert told["calls"] <= 300 and told["usd"] == 0.0


def test_every_loser_says_why_and_every_way_is_told(tmp_path):
    out = hold(tmp_path)
    told = facts(out)
    assert {way["way"] for way in told["ways"]} >= {"generate", "retrieve"}
    assert all(one["why"] for one in told["candidates"]) and all(one["why"] for one in told["lost"])
    assert {one["fate"] for one in told["candidates"]} & {"worse", "halved"}
    assert all(one["scores"].keys() >= {"grammar", "relevance"} for one in told["candidates"])
    said = "\n".join(lines(out, told, tmp_path))
    assert "winner [generate/reflect" in said and "runner-up" in said and "templates: induced.yaml" in said


def test_chinese_is_an_equal(tmp_path, monkeypatch):
    monkeypatch.setenv("ZHILING_LANG", "zh")
    _, chinese = making.reviews()
    path = tmp_path / "心情.jsonl"
    path.write_text(
        "".join(json.dumps({"评论": said, "标签": label}, ensure_ascii=False) + "\n" for said, label in chinese)
    )
    script = {
        "同一条指令|撕掉了|换一种说法": "判断这条评论的语气是正面还是负面。",
        "(?s)语气.*(一年|更好|想象|轻松)": "正面",
        "语气": "负面",
        ".": "不知道",
    }
    out = hold(tmp_path, str(path), model=spec(script), settings=Settings(calls=200))
    told = facts(out)
    assert told["winner"]["lang"] == "zh" and "语气" in told["winner"]["instruction"] and told["winner"]["score"] == 1.0
    said = "\n".join(lines(out, told, tmp_path))
    assert "胜者" in said and "次调用" in said and "winner" not in said.replace("induced", "")
    (tmp_path / "w.yaml").write_text(template_text(out), encoding="utf-8")
    assert load_definition(tmp_path / "w.yaml").phrasings[0].lang == "zh"


def test_the_winner_is_one_line_of_a_recipe(tmp_path):
    out = hold(tmp_path)
    (tmp_path / "induced.yaml").write_text(template_text(out), encoding="utf-8")
    task = {"inputs": ["input"], "target": "output", "data": "copy.jsonl", "langs": ["en"]}
    recipe = {"tasks": {"copy": task}, "construct": [{"template": {"templates": "induced.yaml"}}], "select": ["exact"]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = zhiling("run", tmp_path, "-o", tmp_path / "run", "--workers", 1, "--until", "select")
    assert done.returncode == 0, done.stderr
    rows = json.loads(zhiling("sql", tmp_path / "run", "select instruction from kept", "--json").stdout)
    assert len(rows) == len(WORDS) and all(GOOD in row["instruction"] for row in rows)


@pytest.mark.parametrize("calls", [10, 40, 130])
def test_the_budget_is_hard(tmp_path, calls):
    out = hold(tmp_path, settings=Settings(calls=calls))
    assert out.purse.asked <= calls and charged(tmp_path / "out" / NAME).calls <= calls
    assert out.winner is not None and not out.stopped


def test_money_is_a_budget_too(tmp_path):
    free = hold(tmp_path / "a", model=spec(price={"prompt": 1.0, "completion": 1.0}))
    whole = free.purse.paid
    out = hold(
        tmp_path / "b",
        model=spec(price={"prompt": 1.0, "completion": 1.0}),
        settings=Settings(calls=300, usd=whole / 2),
    )
    assert 0 < out.purse.paid <= whole / 2 and charged(tmp_path / "b" / "out" / NAME).usd <= whole / 2
    assert out.winner is not None and (out.reported or out.stopped)


def test_the_same_contest_again_asks_nothing_and_says_the_same(tmp_path):
    first = facts(hold(tmp_path))
    paid = charged(tmp_path / "out" / NAME).calls
    again = facts(hold(tmp_path))
    assert again == first and charged(tmp_path / "out" / NAME).calls == paid > 0


def test_without_rows_quality_alone_decides_and_nothing_is_claimed(tmp_path):
    out = hold(tmp_path, "Copy the word that you are given.", settings=Settings(calls=40))
    told = facts(out)
    assert told["winner"]["score"] is None and told["winner"]["quality"] is not None and told["difference"] is None
    assert any("quality alone decides" in note for note in told["notes"])
    assert "not measured" in "\n".join(lines(out, told, None))


def test_what_the_user_wrote_takes_part_and_is_compared(tmp_path):
    found = subject(copying(tmp_path), Asked(describe="Say something about the word."))
    out = asyncio.run(_held(found, Settings(calls=300), tmp_path / "out", spec(), "", "seeds", lambda event: None))
    told = facts(out)
    assert told["given"]["instruction"].startswith("Say something") and told["given"]["score"] == 0.0
    assert told["over_given"]["verdict"] == "better" and GOOD in told["winner"]["instruction"]


def test_a_base_model_is_judged_by_likelihood(tmp_path):
    out = hold(tmp_path, model=spec(without=["chat"]), settings=Settings(calls=120, by="likelihood"))
    told = facts(out)
    assert (
        told["by"] == "likelihood" and told["winner"]["score"] < 0 and told["winner"]["low"] <= told["winner"]["score"]
    )


def test_a_model_that_cannot_do_it_says_so_at_once(tmp_path):
    with pytest.raises(ProviderError, match="score"):
        hold(tmp_path, model=spec(without=["score"]), settings=Settings(by="likelihood"))


def test_one_model_may_propose_and_another_execute_or_nobody_propose(tmp_path):
    other = spec({".": "Rewrite the word as it is."})
    out = hold(tmp_path / "a", proposer=other)
    assert any("Rewrite the word" in one.text for one in out.entrants)
    found = subject(copying(tmp_path), Asked(describe="Copy the word as it stands."))
    none = asyncio.run(_held(found, Settings(calls=100), tmp_path / "b", spec(), "none", "seeds", lambda event: None))
    assert not [one for one in none.entrants if one.way == "generate"] and none.winner is not None


def test_a_model_that_fails_or_refuses_is_counted_not_a_crash(tmp_path):
    out = hold(tmp_path, model=spec(fail={"refused": 0.2, "length": 0.1}))
    told = facts(out)
    assert (
        any(a.value is None and a.why for answers in out.reported.values() for a in answers)
        or told["winner"]["failed"] == 0
    )
    assert told["winner"]["rows"] + told["winner"]["failed"] == told["rows"]["report"]
    assert any(one["way"] == "generate" and one["why"] for one in told["lost"])


def test_three_examples_are_too_few_to_claim_anything(tmp_path):
    out = hold(tmp_path, copying(tmp_path, WORDS[:3]), settings=Settings(calls=60))
    assert facts(out)["winner"]["score"] is None and not out.reported


@pytest.mark.parametrize("calls", [10, 60, 300, 600])
def test_the_plan_leaves_something_to_race_with(calls):
    shares = plan(Settings(calls=calls), 200, described=True)
    assert shares.draws + shares.reflect + shares.reserve <= 0.7 * calls


def test_the_command_line(tmp_path):
    path = copying(tmp_path)
    done = zhiling("induce", path, "-o", tmp_path / "o", "--model", spec(), "--calls", "200", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0 and GOOD in told["winner"]["instruction"] and Path(told["file"]).exists()
    assert (
        "race" in done.stderr and json.loads((tmp_path / "o" / "contest.json").read_text())["winner"] == told["winner"]
    )
    checked = zhiling("template", "check", told["file"])
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nothing.csv",), "no such file"), (("Say it.", "--by", "luck"), "unknown value 'luck'"), (("a.jsonl", "--metric", "bleu5"), "unknown metric"),
        (("a.jsonl", "--model", "gpt"), "a model needs a provider"), (("a.jsonl", "--lang", "fr"), "unknown value 'fr'"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_exit_2(tmp_path, args, said):
    (tmp_path / "a.jsonl").write_text('{"input": "a", "output": "b"}\n')
    done = zhiling("induce", *[tmp_path / arg if arg == "a.jsonl" else arg for arg in args], "-o", tmp_path / "o")
    assert done.returncode == 2 and said in error_of(done)


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_stopped_or_killed_the_same_command_goes_on_and_asks_nothing_twice(tmp_path, blow):
    """Ctrl-C leaves quietly; after SIGKILL what was answered is not asked again: at most what was under way on the two lanes is."""
    path, out = copying(tmp_path), tmp_path / "o"
    command = [
        sys.executable,
        "-m",
        "zhiling.cli",
        "induce",
        path,
        "-o",
        str(out),
        "--calls",
        "200",
        "--model",
        spec(delay_ms=60, lanes=2),
    ]
    work = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=dict(os.environ, ZHILING_LANG="en"),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    until = time.monotonic() + 60
    while time.monotonic() < until and not (out / NAME).exists():
        time.sleep(0.05)
    time.sleep(1.0)
    os.killpg(work.pid, blow)
    _, said = work.communicate(timeout=60)
    if blow == signal.SIGINT:
        assert work.returncode == 1 and "goes on where this stopped" in said and "Traceback" not in said
    else:
        assert work.returncode == -signal.SIGKILL
    before = charged(out / NAME).calls
    done = zhiling("induce", path, "-o", out, "--calls", "200", "--model", spec(lanes=2))
    assert 0 < before < 200 and done.returncode == 0 and charged(out / NAME).calls <= 200
    if blow == signal.SIGKILL:
        assert zhiling("induce", path, "-o", tmp_path / "w", "--calls", "200", "--model", spec(lanes=2)).returncode == 0
        assert charged(out / NAME).calls <= charged(tmp_path / "w" / NAME).calls + 2


@pytest.mark.model
def test_the_embedded_model_proposes_and_is_executed(tmp_path):
    pytest.importorskip("torch")
    rows = [{"input": f"{a} {b}", "output": str(a + b)} for a in range(2, 7) for b in range(3, 8)]
    (tmp_path / "sum.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = json.dumps({"provider": "transformers", "batch": 32, "device": "cpu"})[1:-1]
    out = hold(tmp_path, str(tmp_path / "sum.jsonl"), model=model, settings=Settings(calls=40, by="likelihood"))
    told = facts(out)
    assert told["calls"] <= 40 and told["winner"]["low"] < told["winner"]["score"] < told["winner"]["high"] < 0
    assert any(one["way"] == "generate" for one in [*told["candidates"], *told["lost"]])
