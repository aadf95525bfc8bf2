"""A tuning at an endpoint of OpenAI's protocol: from rows to a model that is evaluated like any other, through everyday trouble."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from loopback_tuning import TuningServer
from typer.testing import CliRunner

from zhiling.cli import app
from zhiling.errors import DataError, EngineError, ProviderError, RecipeError
from zhiling.proof import tuning
from zhiling.proof.sides import base_of, side
from zhiling.tune.log import read
from zhiling.tune.remote import job, state
from zhiling.tune.remote.base import Base

KEY = "sk-secret-0123456789"
MODEL = "gpt-4.1-mini-2025-04-14"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(job, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(job, "BACKOFF", 0.001)


@pytest.fixture
def server() -> Iterator[TuningServer]:
    with TuningServer(key=KEY) as running:
        yield running


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Reviews in Chinese and English; a file's name is its task."""
    said = [(f"第{at}家店的面{('很好吃', '太咸了')[at % 2]}。", ("正面", "负面")[at % 2]) for at in range(12)]
    said += [
        (f"Shop {at}: {('lovely soup', 'cold soup')[at % 2]}.", ("positive", "negative")[at % 2]) for at in range(12)
    ]
    return alpaca(tmp_path / "评论.jsonl", said)


def alpaca(path: Path, said: list[tuple[str, str]]) -> Path:
    rows = [{"instruction": "正面还是负面？", "input": text, "output": label} for text, label in said]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


Tune = Callable[..., dict[str, Any]]


@pytest.fixture
def tune(server: TuningServer, data: Path, tmp_path: Path) -> Tune:
    """Tune on the reviews; what is heard goes to `heard`."""

    def run(
        out: str = "out", rows: Path = data, heard: list[str] | None = None, again: bool = False,
        watch: Callable[[Mapping[str, Any]], None] | None = None, **given: Any,
    ) -> dict[str, Any]:  # fmt: skip
        told = {"base_url": server.url, "key_env": "OPENAI_API_KEY", "poll_seconds": 0.002, "timeout": 5, **given}

        def hear(event: Mapping[str, Any]) -> None:
            if heard is not None:
                heard.append(str(event.get("note")))

        lines = partial(tuning.lines_of, [rows], "")
        return tuning.elsewhere(Base("openai", MODEL), lines, tmp_path / out, told, watch or hear, again=again)

    return run


def test_from_rows_to_the_models_name(tune: Tune, server: TuningServer, tmp_path: Path) -> None:
    heard: list[str] = []
    facts = tune(
        heard=heard, validation=0.25, epochs=2, batch_size=4, learning_rate_multiplier=1.5, suffix="reviews", seed=7
    )
    assert server.made == {"file": 2, "job": 1}
    (made,) = server.jobs.values()
    body = made["body"]
    assert body["method"]["supervised"]["hyperparameters"] == {
        "n_epochs": 2,
        "batch_size": 4,
        "learning_rate_multiplier": 1.5,
    }
    assert (body["model"], body["suffix"], body["seed"], body["validation_file"]) == (MODEL, "reviews", 7, "file-1")
    assert facts["model"] == made["model"] == f"ft:{MODEL}:org:reviews:0" and facts["rows"] == made["rows"] == 18
    done = json.loads((tmp_path / "out" / "done.json").read_text(encoding="utf-8"))
    assert (
        done["base"] == f"openai:{MODEL}" and done["counts"] == {"trained": 18, "validation": 6} and done["steps"] == 5
    )
    (came,) = done["sources"]  # what an evaluation looks for leaks in: the very file that was sent
    assert (Path(came["path"]).name, came["form"], came["rows"]) == ("training.jsonl", "messages", 18)
    lines = read(tmp_path / "out" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5] and lines[0]["tasks"] == {"评论": 2.0}
    assert (
        lines[-1]["loss"] == done["total"] == 0.4 and lines[-1]["validation_loss"] == 0.5
    )  # over all validation rows: 2.5 / 5
    assert "Created fine-tuning job: ftjob-0" in heard and heard.count("Step 3/5: training loss=0.67") == 1
    assert facts["trained_tokens"] == 18_000 and facts["usd"] == 0  # this machine
    asked = sum(server.calls.values())
    assert (
        tune(validation=0.25, epochs=2, batch_size=4, learning_rate_multiplier=1.5, suffix="reviews", seed=7) == facts
    )
    assert sum(server.calls.values()) == asked  # a finished one asks nothing


def test_what_was_paid_is_what_the_provider_trained_on(tune: Tune) -> None:
    assert tune(price=5.0)["usd"] == pytest.approx(24_000 * 5 / 1e6)


def test_a_budget_refuses_before_anything_is_sent(tune: Tune, server: TuningServer, tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="nothing was sent") as caught:
        tune(price=5000.0, budget=0.5)
    assert caught.value.kind == "budget" and not server.calls
    model = tune(price=5000.0, budget=500)["model"]
    with pytest.raises(ProviderError, match="nothing was sent"):
        tune(price=5000.0, budget=0.5, epochs=1)
    assert tune(price=5000.0, budget=500)["model"] == model  # what was paid for is still there
    assert tune(price=5000.0, budget=500, epochs=1)["model"] != model
    held = json.loads((tmp_path / "out" / "tuning.json").read_text(encoding="utf-8"))
    assert held["earlier"] == [{"job": "ftjob-0", "model": model}]


def test_bad_rows_are_refused_before_anything_is_sent(tune: Tune, server: TuningServer, tmp_path: Path) -> None:
    rows = tmp_path / "bad.jsonl"
    rows.write_text('{"messages": [{"role": "user", "content": "问"}]}\n' * 12, encoding="utf-8")
    with pytest.raises(
        DataError, match=r"12 rows would not be taken: bad.jsonl:1: the last message is of 'user'.*and 7 more"
    ):
        tune(rows=rows)
    assert not server.calls


def test_the_calls_are_those_of_openais_own_client(tune: Tune, server: TuningServer) -> None:
    """Its SDK makes the same request of the same wishes, and reads what the server of these tests answers."""
    openai = pytest.importorskip("openai")
    facts = tune(epochs=2, batch_size=4, suffix="reviews", seed=7, validation=0.25)
    ours = server.jobs["ftjob-0"]["body"]
    with openai.OpenAI(api_key=KEY, base_url=server.url) as client:
        ids = []
        for name in ("training", "validation"):
            with (Path(facts["folder"]) / f"{name}.jsonl").open("rb") as rows:
                ids.append(client.files.create(file=rows, purpose="fine-tune").id)
        assert [server.files[at]["raw"] for at in ids] == [server.files[at]["raw"] for at in ("file-0", "file-1")]
        method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}}}
        made = client.fine_tuning.jobs.create(
            model=MODEL, training_file=ids[0], validation_file=ids[1], suffix="reviews", seed=7, method=method, metadata=ours["metadata"]
        )  # fmt: skip
        theirs = server.jobs[made.id]["body"]
        assert {**theirs, "training_file": "file-0", "validation_file": "file-1"} == ours
        read_back = client.fine_tuning.jobs.retrieve("ftjob-0")
        assert (read_back.status, read_back.fine_tuned_model, read_back.trained_tokens) == (
            "succeeded",
            facts["model"],
            18_000,
        )
        assert [job.id for job in client.fine_tuning.jobs.list()] == [made.id, "ftjob-0"]
        events = list(client.fine_tuning.jobs.list_events("ftjob-0"))
        assert len(events) == 6 and events[0].data["full_valid_loss"] == 0.5
        assert {file.filename for file in client.files.list(purpose="fine-tune")} > {"training.jsonl"}


# -- a kill at any step --------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What nothing catches."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_step_nothing_is_sent_or_started_twice(
    tune: Tune, server: TuningServer, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Each step is noted on disk, so a run is cut off before and after each note. What a kill takes away is only what is in memory."""
    commit = state.State.commit
    for at in range(1, 20):
        count = 0

        def cut(self: state.State, at: int = at) -> None:
            nonlocal count
            count += 1
            if after or count != at:
                commit(self)
            if count == at:
                raise Killed

        server.made.clear()
        server.files.clear()
        monkeypatch.setattr(state.State, "commit", cut)
        try:
            tune(f"out{at}", validation=0.25)
        except Killed:
            monkeypatch.setattr(state.State, "commit", commit)
            facts = tune(f"out{at}", validation=0.25)
            assert server.made["job"] == 1 and server.made["file"] == 2, f"step {at}"
            assert facts["model"].endswith(f":{at - 1}")
        else:
            assert at == 9  # a plan, twice two notes for the files, two for the job, one for its end
            return
    raise AssertionError("it never ran to its end")


def test_killed_by_the_system_and_interrupted_by_its_user(
    tune: Tune, server: TuningServer, data: Path, tmp_path: Path
) -> None:
    server.holding = True
    sets = [f"base_url={server.url}", "key_env=OPENAI_API_KEY", "poll_seconds=0.002", "timeout=5"]
    command = [
        sys.executable,
        "-m",
        "zhiling.cli",
        "tune",
        str(data),
        "--base",
        f"openai:{MODEL}",
        "-o",
        str(tmp_path / "out"),
    ]
    command += [part for item in sets for part in ("--set", item)]

    def until(told: str, end: signal.Signals) -> tuple[int, str]:
        heard = ""
        with subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"ZHILING_LANG": "en"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job's shell ignores it
        ) as running:
            assert running.stderr is not None
            for line in running.stderr:
                heard += line
                if told in line:
                    running.send_signal(end)
                    break
            heard += running.stderr.read()
        return running.returncode, heard

    code, _ = until("is under way", signal.SIGKILL)
    assert code == -signal.SIGKILL and server.made == {"file": 1, "job": 1}
    code, heard = until("running", signal.SIGINT)
    assert (
        code == 1 and "job ftjob-0 goes on at the provider, and is paid for" in heard and "--cancel stops it" in heard
    )
    server.holding = False
    assert tune()["model"] and server.made == {"file": 1, "job": 1}
    assert [line["step"] for line in read(tmp_path / "out" / "metrics.jsonl")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "trouble",
    [
        {"file": ["reset"]},
        {"create": ["reset"]},
        {"create": ["hang"]},
        {"file": ["500", "reset"], "files": ["500"]},
        {"create": ["500", "reset"], "list": ["503", "cut"]},
        {"create": ["429", "cut"], "file": ["429"]},
        {"look": ["503", "429", "cut"], "events": ["500", "cut"]},
    ],
    ids=str,
)  # fmt: skip
def test_everyday_trouble_makes_nothing_twice(tune: Tune, server: TuningServer, trouble: dict[str, list[str]]) -> None:
    server.trouble = trouble
    assert tune(timeout=0.4)["model"].startswith("ft:")
    assert server.made == {"file": 1, "job": 1} and not any(trouble.values())


def test_a_look_up_that_is_refused_does_not_forget_what_may_have_been_started(tune: Tune, server: TuningServer) -> None:
    server.trouble = {"create": ["reset"], "list": ["401"]}
    with pytest.raises(ProviderError):
        tune()
    assert tune()["model"] and server.made["job"] == 1


def test_waiting_is_given_up_after_long_trouble_and_goes_on_another_time(
    tune: Tune, server: TuningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "PATIENCE", 3)
    server.trouble = {"look": ["500"] * 4}
    with pytest.raises(
        ProviderError, match=r"status 500.*job ftjob-0 goes on at the provider.*the same command goes on waiting"
    ):
        tune()
    assert tune()["model"] and server.made["job"] == 1


# -- how a job may end ------------------------------------------------------------------------------------------------------


def test_a_failed_job_tells_the_providers_reason_and_is_not_started_again_unasked(
    tune: Tune, server: TuningServer, tmp_path: Path
) -> None:
    server.ends = ["failed"]
    for _ in range(2):
        with pytest.raises(
            ProviderError, match=r"job ftjob-0 failed: Line 3: .*moderation.*invalid_training_file.*--again"
        ):
            tune()
    assert server.made["job"] == 1 and not (tmp_path / "out" / "done.json").exists()
    assert tune(again=True)["model"] and server.made["job"] == 2
    assert json.loads((tmp_path / "out" / "tuning.json").read_text())["earlier"] == [{"job": "ftjob-0", "model": ""}]


def test_after_a_failure_other_rows_are_another_job(tune: Tune, server: TuningServer, tmp_path: Path) -> None:
    server.ends = ["failed"]
    with pytest.raises(ProviderError, match="failed"):
        tune()
    assert tune(rows=alpaca(tmp_path / "b.jsonl", [(f"文{at}", "好") for at in range(10)]))["rows"] == 10
    assert server.made == {"file": 2, "job": 2}
    assert tune(rows=tmp_path / "b.jsonl", epochs=1)["rows"] == 10
    assert server.made == {"file": 2, "job": 3}  # the same rows need not go up again


def test_a_refused_job_is_told_and_tried_again_by_the_same_command(tune: Tune, server: TuningServer) -> None:
    server.trouble = {"create": ["refuse:The model gpt-4.1-mini is not available for fine-tuning"]}
    with pytest.raises(
        ProviderError, match="status 400 .The model gpt-4.1-mini is not available for fine-tuning"
    ) as caught:
        tune()
    assert not caught.value.retryable
    assert tune()["model"] and server.made == {"file": 1, "job": 1}


def test_an_account_that_may_not_tune_is_not_told_that_its_key_is_bad(tune: Tune, server: TuningServer) -> None:
    server.trouble = {"create": ["403"]}
    with pytest.raises(ProviderError, match="the key is good for files: may this account"):
        tune()


def test_other_rows_do_not_take_the_place_of_a_job_under_way(
    tune: Tune, server: TuningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "PATIENCE", 0)
    server.trouble = {"look": ["500"]}
    with pytest.raises(ProviderError, match="goes on at the provider"):
        tune()
    with pytest.raises(RecipeError, match="the provider's job is not finished"):
        side(str(tmp_path / "out"))
    with pytest.raises(RecipeError, match=r"a job of other rows or settings \(ftjob-0\) is under way here"):
        tune(epochs=1)
    with pytest.raises(RecipeError, match="still under way"):
        tune(again=True)
    assert server.made["job"] == 1


def test_a_cancelled_job(tune: Tune, server: TuningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "PATIENCE", 0)
    server.trouble, server.holding = {"look": ["500"]}, True
    with pytest.raises(ProviderError):
        tune()
    server.trouble = {"cancel": ["503"], "look": ["503"]}
    told = CliRunner().invoke(app, ["tune", "-o", str(tmp_path / "out"), "--cancel", "--json"])
    assert told.exit_code == 0 and json.loads(told.stdout) == {"job": "ftjob-0", "state": "cancelled"}
    with pytest.raises(ProviderError, match="job ftjob-0 was cancelled"):
        tune()
    server.holding = False
    assert tune(again=True)["model"].endswith(":1")


def test_a_job_is_stopped_while_another_process_waits_for_it(tune: Tune, server: TuningServer, tmp_path: Path) -> None:
    server.holding = True
    stopped: list[tuple[str, str]] = []

    def watch(event: Mapping[str, Any]) -> None:
        if "running" in str(event.get("note")) and not stopped:  # in the midst of waiting, the folder being locked
            with ThreadPoolExecutor(1) as other:
                stopped.append(other.submit(tuning.cancel, tmp_path / "out", lambda event: None).result())

    with pytest.raises(ProviderError, match="job ftjob-0 was cancelled"):
        tune(watch=watch)
    assert stopped == [("ftjob-0", "cancelled")]


def test_a_job_that_ended_unseen_makes_room_for_another(
    tune: Tune, server: TuningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "PATIENCE", 0)
    server.trouble = {"look": ["500"]}
    with pytest.raises(ProviderError):
        tune()
    for _ in range(4):
        server.step(server.jobs["ftjob-0"])
    assert tuning.cancel(tmp_path / "out", lambda event: None) == ("ftjob-0", "succeeded")  # too late to stop
    assert tune()["model"].endswith(":0") and server.made["job"] == 1  # it is still fetched
    assert tune(epochs=1)["model"].endswith(":1")


def test_an_interrupted_start_says_that_the_job_may_run(tune: Tune, server: TuningServer, tmp_path: Path) -> None:
    server.trouble = {"create": ["hang"]}
    heard: list[str] = []

    def watch(event: Mapping[str, Any]) -> None:
        heard.append(str(event.get("note")))

    from zhiling.tune.remote import rows, run
    from zhiling.tune.remote.base import opened, settings_of

    async def interrupted() -> None:
        base = Base("openai", MODEL)
        settings = settings_of(base, {"base_url": server.url, "key_env": "OPENAI_API_KEY", "poll_seconds": 0.002})
        door = opened(base, settings)
        lines = rows.of_file(tmp_path / "评论.jsonl", "messages")
        task = asyncio.ensure_future(run.tune(base, lines, None, tmp_path / "out", settings, watch, tuning=door))
        while not server.made["job"]:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await door.close()

    asyncio.run(interrupted())
    assert any("the job was perhaps started: the same command finds out" in note for note in heard)
    assert tune()["model"] and server.made["job"] == 1


def test_cancelling_looks_for_a_job_that_was_perhaps_started(tune: Tune, server: TuningServer, tmp_path: Path) -> None:
    server.trouble, server.holding = {"create": ["reset"], "list": ["401"]}, True
    with pytest.raises(ProviderError):
        tune()
    assert tuning.cancel(tmp_path / "out", lambda event: None) == ("ftjob-0", "cancelled")
    with pytest.raises(DataError, match="no job was started"):
        tuning.cancel(tmp_path / "nothing", lambda event: None)


# -- keys, folders, endpoints ----------------------------------------------------------------------------------------------


def test_the_key_is_nowhere_to_be_seen(
    tune: Tune, server: TuningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-9876543210")
    heard: list[str] = []
    with pytest.raises(ProviderError, match="put a valid key into the environment variable OPENAI_API_KEY") as caught:
        tune(heard=heard)
    assert caught.value.kind == "auth" and "9876543210" not in str(caught.value) + repr(heard)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert tune(heard=heard)["model"]  # the right key goes on
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert b"sk-" not in written and KEY not in repr(heard)
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setattr("zhiling.llm.openai.is_loopback", lambda host: False)
    with pytest.raises(ProviderError, match="no key: the environment variable OPENAI_API_KEY is empty"):
        tune("other")
    with pytest.raises(ProviderError, match="never the key itself"):
        tune("other", key_env="sk-abc")


def test_an_endpoint_without_tuning_jobs_says_so(tune: Tune, server: TuningServer) -> None:
    with pytest.raises(ProviderError, match="this endpoint has no files: it offers no tuning jobs"):
        tune(base_url=server.url.removesuffix("/v1"))


def test_an_endpoint_that_keeps_no_metadata_is_searched_by_our_file(
    tune: Tune, server: TuningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = TuningServer.shown
    monkeypatch.setattr(TuningServer, "shown", lambda self, at: shown(self, at) | {"metadata": None})
    server.trouble = {"create": ["reset"]}
    assert tune()["model"] and server.made["job"] == 1


def test_an_endpoint_without_events_is_waited_for_all_the_same(
    tune: Tune, server: TuningServer, tmp_path: Path
) -> None:
    server.trouble = {"events": ["404"]}
    assert tune()["model"] and server.calls["events"] == 1 and not (tmp_path / "out" / "metrics.jsonl").exists()


def test_a_job_that_the_account_does_not_know(tune: Tune, server: TuningServer) -> None:
    server.holding = True
    server.trouble = {"look": ["404"]}
    with pytest.raises(ProviderError, match="this account has no tuning job 'ftjob-0'"):
        tune()


def test_one_folder_one_process_and_no_other_model(tune: Tune, tmp_path: Path) -> None:
    with state.alone(tmp_path / "out"), pytest.raises(EngineError, match="another process waits for this job"):
        tune()
    (tmp_path / "here" / "model").mkdir(parents=True)
    with pytest.raises(DataError, match="a model was tuned here on this machine"):
        tune("here")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "tuning.json").write_text('{"key": "x", "fil')
    with pytest.raises(EngineError, match="tuning.json: cannot be read"):
        tune("cut")


def test_a_full_disk_loses_nothing_that_was_started(
    tune: Tune, server: TuningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = state.State.arrived

    def full(self: state.State, sent: state.Sent, id_: str) -> None:
        if sent is self.job:
            monkeypatch.setattr(state.State, "arrived", arrived)
            raise OSError(28, "No space left on device")
        arrived(self, sent, id_)

    monkeypatch.setattr(state.State, "arrived", full)
    with pytest.raises(OSError, match="No space"):
        tune()
    assert tune()["model"] and server.made == {"file": 1, "job": 1}


# -- evaluated like any other ----------------------------------------------------------------------------------------------


def test_the_tuned_model_is_evaluated_and_compared_with_its_base(
    tune: Tune, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tune()
    # the server's tuned model knows what it was shown, so it is asked that
    ran = CliRunner().invoke(app, ["evaluate", "out", str(data), "--json", "--force"])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert found["overall"]["score"] == 1.0
    ran = CliRunner().invoke(app, ["compare", "base", "out", str(data), "--json", "--force"])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert (found["overall"]["base"], found["overall"]["tuned"]) == (0.0, 1.0) and found["spent"]["base"]["calls"] >= 24
    ran = CliRunner().invoke(app, ["evaluate", "out", str(data), "--trained-on", str(data)])
    assert isinstance(ran.exception, DataError) and "contaminated" in str(ran.exception)
    ran = CliRunner().invoke(app, ["export", "out", "--format", "merged", "-o", "m"])
    assert ran.exit_code != 0 and "lives at its provider" in str(ran.exception) + ran.output


def test_the_command_plans_tunes_and_speaks_chinese(
    server: TuningServer, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZHILING_LANG", "zh")
    sets = [f"base_url={server.url}", "key_env=OPENAI_API_KEY", "poll_seconds=0.002", "price=5", "validation=0.25"]
    command = [
        "tune",
        str(data),
        "--base",
        f"openai:{MODEL}",
        "-o",
        str(tmp_path / "输出"),
        *(part for item in sets for part in ("--set", item)),
    ]
    planned = CliRunner().invoke(app, [*command, "--plan"])
    assert (
        planned.exit_code == 0
        and "training 18, validation 6" in planned.stdout
        and "尚未发送任何内容" in planned.stdout
        and not server.calls
    )
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.output
    assert (
        f"已用 18 行数据微调，18,000 词元，$0.0900：ft:{MODEL}" in ran.stdout
        and "下一步：zhiling compare base" in ran.stdout
    )
    assert "正在上传 training.jsonl（18 行）" in ran.stderr and "任务 ftjob-0：succeeded" in ran.stderr
    facts = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert facts["usd"] == 0.09 and server.made["job"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tune", "-o", "x"], "no rows to tune on"),
        (["tune", "a.jsonl", "-o", "x", "--plan"], "for a base at a provider"),
        (["tune", "-o", "x", "--cancel"], "no job was started from this folder"),
        (["tune", "a.jsonl", "-o", "x", "--base", "opneai:gpt"], "did you mean 'openai:gpt'"),
        (["tune", "a.jsonl", "-o", "x", "--base", "openai:gpt", "--set", "epohcs=2"], "did you mean 'epochs'"),
        (["tune", "a.jsonl", "-o", "x", "--base", "openai:gpt"], "no such file"),
        (["tune", "a.jsonl", "-o", "x", "--base", "openai:gpt", "--ranks", "2"], "as it sees fit"),
    ],
)  # fmt: skip
def test_a_mistake_on_the_command_line_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, arguments)
    from zhiling.errors import boundary

    assert ran.exception is not None and said in str(boundary(ran.exception))


def test_a_plan_says_what_the_provider_will_ask(tmp_path: Path) -> None:
    from making import write

    from zhiling.plan import estimate
    from zhiling.recipe import load

    def planned(**told: Any) -> dict[str, dict[str, Any]]:
        asked = {"base": f"openai:{MODEL}", "epochs": 2, **told}
        few = {"score": [], "select": ["exact"], "evaluate": {"rows": 4}}
        return {row["step"]: row for row in estimate(load(write(tmp_path / "recipe", tune=asked, **few)))}

    rows = planned()
    assert rows["tune"]["usd"] == pytest.approx(rows["tune"]["tokens"] * 5 / 1e6) and rows["evaluate"]["usd"] > 0
    assert planned(price=1.0)["tune"]["usd"] == pytest.approx(rows["tune"]["tokens"] / 1e6)
    for unknown in (planned(base="openai:gpt-9"), planned(epochs="auto")):
        assert unknown["tune"]["usd"] is None and unknown["total"]["usd"] is None
    vertex = planned(base="vertex:gemini-3.5-flash", bucket="gs://b")
    assert vertex["tune"]["usd"] is None and vertex["evaluate"]["usd"] is None


def test_a_recipe_names_the_provider_and_proves_the_model(server: TuningServer, tmp_path: Path) -> None:
    from making import write

    from zhiling.recipe import load
    from zhiling.run import Run

    asked = {"base": f"openai:{MODEL}", "base_url": server.url, "key_env": "OPENAI_API_KEY", "poll_seconds": 0.002}
    mood = {
        "description": "判断评论是正面还是负面。",
        "family": "classification",
        "langs": ["zh"],
        "inputs": ["text"],
        "target": "label",
    }
    mood |= {"labels": ["正面", "负面"], "data": "zh.csv", "columns": {"text": "评论", "label": "标签"}, "heldout": 8}
    few = {
        "tasks": {"心情": mood},
        "score": [],
        "select": ["exact"],
        "evaluate": {"rows": 4},
        "report": {"langs": ["zh"]},
    }
    recipe = write(tmp_path / "recipe", tune=asked, **few)
    for _ in range(2):
        with Run(load(recipe), tmp_path / "run", workers=1) as work:
            summary = work.execute()
    assert server.made == {"file": 1, "job": 1}
    assert summary.tuned["model"].startswith("ft:") and summary.results["overall"]["n"] > 0
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert f"openai:{MODEL}" in page
    named = side(str(tmp_path / "run"))
    assert named.entry["model"] == summary.tuned["model"] and named.run == tmp_path / "run"
    assert base_of([named]).entry["model"] == MODEL
    assert tuning.settings_here(load(recipe).tune) == {}  # what advises on tuning here does not read them
    with pytest.raises(RecipeError, match="knows no 'rank'"):
        Run(load(write(tmp_path / "bad", tune={**asked, "rank": 8})), tmp_path / "bad-run", workers=1).execute()
