"""The plan: the calls that a run will make, what they will cost, and what cannot work, before anything is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from loopback import Loopback
from test_bad_input import error_of, zhiling
from test_bill import recipe

from zhiling.errors import ProviderError
from zhiling.llm import Model, dry, guess, open_model
from zhiling.plan import estimate, table
from zhiling.recipe import load
from zhiling.registry import scorer
from zhiling.types import Example, Request, Score

ASK = "construct.1.generate"


@scorer("told_twice", low=0, high=1, better="high", langs=("zh", "en"))
async def told_twice(examples: Sequence[Example], *, model: Model) -> AsyncIterator[Score]:
    """Asks two questions about each row, one of them with choices."""
    for row in examples:
        await model.ask(
            Request(messages=(("user", f"Is it good?\n{row.prompt}"),), choices=("yes", "no"), max_tokens=4)
        )
        await model.ask(Request(messages=(("user", f"Why is it good?\n{row.prompt}"),), max_tokens=40))
        yield Score(row.id, "told_twice", 1.0)


@scorer("needs_logprobs", low=0, high=1, better="high", langs=("zh", "en"), needs=("score",))
async def needs_logprobs(examples: Sequence[Example], *, model: Model) -> AsyncIterator[Score]:
    """Needs what few endpoints can."""
    for row in examples:
        yield Score(row.id, "needs_logprobs", (await model.score(Request(prompt=""), row.prompt))[0])


def row_of(rows: list[dict], step: str) -> dict:
    return next(row for row in rows if row["step"] == step)


def test_calls_are_the_calls_and_the_cost_is_near_the_bill_once_a_run_was_seen(tmp_path: Path) -> None:
    """A pilot of six candidates teaches how this model counts; the plan for 24 others is then within 15% of their bill."""
    with Loopback() as server:
        path, runs = recipe(tmp_path / "r", server.url), tmp_path / "runs"
        first = json.loads(zhiling("run", path, "-o", runs / "a", "--plan", "--json").stdout)
        assert row_of(first, "construct generate")["calls"] == 24 and not server.tries and not runs.exists()
        pilot = ["--set", f"{ASK}.candidates=6", "--set", "seed=9", "--until", "construct", "--workers", 1]
        assert zhiling("run", path, "-o", runs / "pilot", *pilot).returncode == 0
        asked = sum(server.tries.values())
        planned = row_of(json.loads(zhiling("run", path, "-o", runs / "b", "--plan", "--json").stdout), "total")
        assert sum(server.tries.values()) == asked == 12 and not (runs / "b").exists()
        assert zhiling("run", path, "-o", runs / "b", "--until", "construct", "--workers", 1).returncode == 0
        bill = json.loads((runs / "b" / "run.json").read_text())["spent"]["strong"]
        assert planned["calls"] == bill["calls"] == 24
        assert planned["usd"] == pytest.approx(bill["usd"], rel=0.15)
        assert planned["tokens"] == pytest.approx(bill["prompt_tokens"] + bill["completion_tokens"], rel=0.15)
        left = row_of(json.loads(zhiling("run", path, "-o", runs / "b", "--plan", "--json").stdout), "total")
        assert (left["calls"], left["cached"], left["usd"]) == (0, 24, 0.0)  # all is paid
        more = ["--plan", "--json", "--set", f"{ASK}.candidates=15"]
        wider = row_of(json.loads(zhiling("run", path, "-o", runs / "b", *more).stdout), "total")
        assert (wider["calls"], wider["cached"]) == (6, 24)


def test_an_unknown_price_is_said_and_is_never_nothing(tmp_path: Path) -> None:
    path = recipe(tmp_path / "r", "https://endpoint.example/v1", model={"price": None, "key_env": "SOME_KEY"})
    env = {"SOME_KEY": "sk-none"}
    rows = json.loads(zhiling("run", path, "--plan", "--json", env=env).stdout)
    assert row_of(rows, "construct generate")["usd"] is None and row_of(rows, "total")["usd"] is None
    assert row_of(rows, "total")["tokens"] > 0
    assert zhiling("run", path, "--plan", env=env).stdout.count("unknown") == 2
    assert zhiling("run", path, "--plan", env={**env, "ZHILING_LANG": "zh"}).stdout.count("未知") == 2


def test_scorers_that_ask_are_planned_by_their_own_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe(tmp_path / "r", "http://127.0.0.1:9/v1")
    rows = estimate(load(path, ["score=[told_twice]", "construct=[{template: {per_record: 2}}]"]))
    row = row_of(rows, "score told_twice")
    assert row["calls"] == 2 * row["rows"] == 2 * 302 and row["usd"] > 0
    assert row["completion_tokens"] == pytest.approx(302 * (40 * guess.SHARE + 2), rel=0.2)
    assert 302 * 2 * 15 < row["prompt_tokens"] < 302 * 2 * 90
    told = table([{**row, "usd": None}])[0]["usd"]
    assert told in ("unknown", "未知")


def test_what_a_model_cannot_do_is_one_line_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both `--plan` and the run itself; for a scorer of the recipe and for one that a constructor judges with."""
    from zhiling.run import Run

    monkeypatch.setenv("ZHILING_LANG", "en")
    with Loopback() as server:
        path = recipe(tmp_path / "r", server.url)
        sets = ["score=[needs_logprobs]"]
        said = r"recipe.yaml.*score.0 \(models.strong\): m cannot do 'score' — it can: chat, .*; choose another model"
        with pytest.raises(ProviderError, match=said) as caught:
            estimate(load(path, sets))
        assert caught.value.exit_code == 2
        with Run(load(path, sets), tmp_path / "out", workers=1) as run, pytest.raises(ProviderError, match=said):
            run.execute()
        assert not (tmp_path / "out" / "records").exists()
        for way in (["--plan"], ["-o", tmp_path / "out"]):
            done = zhiling("run", path, *way, "--set", f"{ASK}.weights.clarity=1")
            assert done.returncode == 2 and "construct.1.generate (models.strong): m cannot do 'score'" in error_of(
                done
            )
        assert not server.tries


def test_a_request_that_the_model_cannot_take_is_found_by_the_dry_run(tmp_path: Path) -> None:
    """No fact says so, but the first request does: a base model that is asked for JSON."""
    path = recipe(tmp_path / "r", "http://127.0.0.1:9/v1", model={"without": ["chat", "schema"]})
    with pytest.raises(ProviderError) as caught:
        estimate(load(path, ["score=[told_twice]", "construct=[template]"]))
    assert caught.value.kind == "capability"


@pytest.mark.parametrize(
    ("text", "qwen", "deepseek"),
    [
        (
            "Say whether the review below is positive or negative, and name the words that decided it. Answer in one sentence.",
            23,
            23,
        ),
        ("请判断下面的评论是正面还是负面，并指出起决定作用的词语。请用一句话回答。", 22, 21),
        ("In 2024 the city had 1,250,000 inhabitants; by 2031 it may have 1.4 million.\nWhy?", 38, 30),
        ("把“2024年5月3日”改写成英文日期，例如 May 3, 2024。", 29, 24),
    ],
)
def test_guessed_tokens_are_near_those_of_two_tokenizers(text: str, qwen: int, deepseek: int) -> None:
    """The counts are those of the two tokenizers, run once."""
    assert min(qwen, deepseek) * 0.75 <= guess.tokens(text) <= max(qwen, deepseek) * 1.25


def test_dry_answers_have_the_asked_form_and_language() -> None:
    real = open_model({"provider": "fake"}, cache=None)
    asked: dict[str, Request] = {}
    stand_in = dry.dry(real, asked)
    schema = {
        "type": "object",
        "required": ["score"],
        "properties": {"score": {"type": "integer", "minimum": 1, "maximum": 5}},
    }

    async def ask() -> None:
        question = (("user", "请判断这条指令是否清楚，并说明理由。"),)
        assert json.loads((await stand_in.ask(Request(messages=question, schema=schema))).text) == {"score": 1}
        assert (await stand_in.ask(Request(messages=question, choices=("是", "否")))).text == "是"
        loose = {"type": "object", "required": ["name"]}  # a schema may ask for what it does not describe
        assert list(json.loads((await stand_in.ask(Request(messages=question, schema=loose))).text)) == ["name"]
        texts = {(await stand_in.ask(Request(messages=question, draw=draw))).text for draw in range(3)}
        assert len(texts) == 3 and all("\u4e00" <= text[0] <= "\u9fff" for text in texts)
        await stand_in.ask(Request(messages=question, draw=0))

    asyncio.run(ask())
    assert len(asked) == 6  # what is asked twice is one question
    assert real.spent.calls == 0


def test_a_trace_teaches_and_a_torn_one_does_no_harm(tmp_path: Path) -> None:
    line = {
        "gen_ai.request.model": "m", "gen_ai.request.max_tokens": 64, "zhiling.key": "k", "gen_ai.usage.input_tokens": 300,
        "gen_ai.usage.output_tokens": 9, "zhiling.input_bytes": 1000,
    }  # fmt: skip
    other = {**line, "gen_ai.request.model": "n", "gen_ai.usage.output_tokens": 60}
    failed, scored = {**line, "error.type": "timeout"}, {**line, "gen_ai.operation.name": "score"}
    text = "\n".join(map(json.dumps, [line, line, other, failed, scored, line]))
    (tmp_path / "events.jsonl").write_text(text + '\n{"gen_ai.req', encoding="utf-8")
    seen = guess.learn([tmp_path / "events.jsonl"], "m")
    request = Request(messages=(("user", "x" * 100),), max_tokens=64)
    assert seen.completion(request) == 9.0 and seen.sorts == {64: guess.Sort(3000, 900, 3, 27)}
    longer = Request(messages=request.messages, max_tokens=65)  # of another sort: only how prompts are counted is known
    assert seen.prompt(request) == seen.prompt(longer) == pytest.approx(100 * 0.3)
    assert seen.completion(longer) == guess.completion(longer)
    nothing = guess.learn([tmp_path / "events.jsonl"], "unheard of")
    assert nothing.completion(request) == guess.completion(request) and nothing.prompt(request) == guess.prompt(request)


def test_steps_on_passages_and_cues_are_planned_by_what_they_will_ask(tmp_path: Path) -> None:
    """Many passages answer themselves and few are asked about: the plan counts those few, held-out ones too. Cues make rows by the run."""
    asked = [
        f"## 第{at}节\n\n学徒每年须完成{at}次安全培训，并由车间主任签字确认，逾期不得上机操作。\n" for at in range(3)
    ]
    own = [f"## How long is course {at}?\n\nCourse {at} takes {at + 2} weeks of evening lessons.\n" for at in range(60)]
    (tmp_path / "own.md").write_text("# Courses\n\n" + "\n".join(own), encoding="utf-8")
    (tmp_path / "问.md").write_text("# 守则\n\n" + "\n".join(asked), encoding="utf-8")
    cues = [f"{at}\n00:00:{at:02},000 --> 00:00:{at:02},900\n第{at}句。\nLine {at}.\n" for at in range(1, 9)]
    (tmp_path / "双语.srt").write_text("\n".join(cues), encoding="utf-8")
    task = {"description": "Answer.", "langs": ["en", "zh"], "inputs": ["passage", "question"], "target": "answer"}
    data = [{"path": name, "format": "passages"} for name in ("own.md", "问.md")]
    talk = {
        "description": "Translate.",
        "langs": ["en", "zh"],
        "inputs": ["text"],
        "target": "text",
        "data": "双语.srt",
    }
    made = {
        "name": "p", "seed": 1, "models": {"m": {"provider": "fake", "script": ["?"]}},
        "tasks": {"问答": {**task, "data": data, "group": "passage", "heldout": 0.5}, "字幕": talk},
        "construct": [{"document_qa": {"tasks": ["问答"], "questions": 1}}, {"subtitles": {"tasks": ["字幕"], "cues": 4}}],
    }  # fmt: skip
    (tmp_path / "r.yaml").write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")
    rows = estimate(load(tmp_path / "r.yaml"))
    assert row_of(rows, "read 问答")["rows"] == 63
    assert row_of(rows, "construct document_qa")["calls"] == 3
    assert row_of(rows, "construct subtitles")["rows"] == 2 * 3
