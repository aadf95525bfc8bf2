"""Batch mode: jobs that are killed, late, incomplete or out of order, and no row asked twice that need not be."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback_batch import BatchServer, GeminiBatchServer

from zhiling.errors import EngineError, ProviderError, RecipeError
from zhiling.llm import Model, offline, open_model
from zhiling.llm.bill import Bill, charged
from zhiling.llm.jobs import Jobs
from zhiling.llm.price import Price, find, in_batch
from zhiling.types import Reply, Request, Usage

KINDS = {"openai": BatchServer, "gemini": GeminiBatchServer}


@pytest.fixture(params=["openai", "gemini"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "gemini":
        pytest.importorskip("google.genai", reason="pip install 'zhiling[gemini]'")
    return str(request.param)


@pytest.fixture()
def server(kind: str) -> Iterator[Any]:
    with KINDS[kind]() as running:
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "GATHER_SECONDS", 0.05)
    monkeypatch.setattr(offline, "SETTLE_SECONDS", 0.05)


def rows(*texts: str) -> list[Request]:
    return [Request(messages=(("user", text),), max_tokens=20) for text in texts]


def model(kind: str, url: str, folder: Path, **more: Any) -> Model:
    batch = more.pop("batch", {"poll_seconds": 0.05})
    spec = {"provider": kind, "model": "m", "base_url": url, "timeout": 5, "batch": batch, **more}
    opened = open_model(spec, cache=folder / "c.sqlite", trace=folder / "t")
    assert opened._offline is not None
    opened._offline.notice = NOTICES.append
    return opened


NOTICES: list[str] = []


def run(
    kind: str, url: str, folder: Path, requests: list[Request], **more: Any
) -> tuple[list[Reply | ProviderError], Model]:
    async def main() -> tuple[list[Reply | ProviderError], Model]:
        async with model(kind, url, folder, **more) as opened:
            return await asyncio.wait_for(opened.ask_all(requests), 60), opened

    NOTICES.clear()
    return asyncio.run(main())


def test_many_rows_are_few_jobs_and_a_rerun_asks_nothing(server: Any, kind: str, tmp_path: Path) -> None:
    requests = rows(*(f"row {i} 第{i}行" for i in range(250)))
    replies, opened = run(
        kind, server.url, tmp_path, [*requests, *requests[:5]], batch={"rows": 100, "poll_seconds": 0.05}
    )
    assert all(isinstance(reply, Reply) and reply.text for reply in replies)
    assert [len(job["rows"]) for job in server.jobs.values()] == [100, 100, 50] and set(server.rows.values()) == {1}
    assert opened.spent.calls == 250 and opened.spent.failed == 0
    assert sum(server.done.values()) == 0  # no ordinary call
    assert any("submitted 100 requests as batch" in said for said in NOTICES) and any(
        "100 of 100 answered" in s for s in NOTICES
    )
    live = {"provider": kind, "model": "m", "base_url": server.url}

    async def ordinary() -> list[Reply | ProviderError]:
        async with open_model(live, cache=tmp_path / "c.sqlite") as opened:  # the replies serve ordinary calls, too
            return await opened.ask_all(requests)

    again = asyncio.run(ordinary())
    assert all(isinstance(r, Reply) and r.cached for r in again) and sum(server.done.values()) == 0
    assert [r.text for r in again if isinstance(r, Reply)] == [r.text for r in replies[:250] if isinstance(r, Reply)]
    second, opened = run(kind, server.url, tmp_path, requests)
    assert len(server.jobs) == 3 and opened.spent.cached == 250 and len(second) == 250
    lines = [json.loads(line) for line in (tmp_path / "t").read_text().splitlines()]
    assert len(lines) == 250 and lines[0]["gen_ai.usage.output_tokens"] > 0


def test_rows_that_fail_are_asked_in_the_next_job_or_fail(server: Any, kind: str, tmp_path: Path) -> None:
    texts = [
        "good",
        "ROW=500:1 x",
        "ROW=missing:1 x",
        "ROW=expired:1 x",
        "ROW=garbage:2 x",
        "ROW=400 x",
        "ROW=missing x",
        "好",
    ]
    replies, opened = run(kind, server.url, tmp_path, rows(*texts))
    said = {text: reply for text, reply in zip(texts, replies, strict=True)}
    answered = {text for text, reply in said.items() if isinstance(reply, Reply)}
    assert answered == set(texts) - {"ROW=400 x", "ROW=missing x"}
    refused, missing = said["ROW=400 x"], said["ROW=missing x"]
    assert isinstance(refused, ProviderError) and refused.kind == "refused" and "400 on demand" in str(refused)
    assert isinstance(missing, ProviderError) and "brought no result for this row" in str(missing)
    assert {text: server.rows[text] for text in texts} == {
        "good": 1, "好": 1, "ROW=500:1 x": 2, "ROW=missing:1 x": 2, "ROW=expired:1 x": 2, "ROW=garbage:2 x": 3, "ROW=400 x": 1, "ROW=missing x": 3,
    }  # fmt: skip
    assert opened.spent.calls == 6 and opened.spent.failed == 2 and opened._asking == 0


def test_an_expired_job_gives_what_it_has_and_the_rest_is_asked_again(server: Any, kind: str, tmp_path: Path) -> None:
    server.ends = ["expired"]
    replies, _ = run(kind, server.url, tmp_path, rows(*(f"row {i}" for i in range(10))))
    assert all(isinstance(reply, Reply) for reply in replies)
    assert sorted(server.rows.values()) == [1] * 5 + [2] * 5 and len(server.jobs) == 2


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_job_that_failed_or_was_cancelled_ends_the_run_and_the_next_submits_it_again(
    server: Any, kind: str, tmp_path: Path, end: str
) -> None:
    server.ends = [end]
    with pytest.raises(ProviderError, match=f"batch .*batch0 .*{end}.*run again"):
        run(kind, server.url, tmp_path, rows("a", "b"))
    replies, _ = run(kind, server.url, tmp_path, rows("a", "b"))
    assert all(isinstance(reply, Reply) for reply in replies) and len(server.jobs) == 2


@pytest.mark.parametrize(
    "trouble",
    [
        {"create": ["500", "hang"]},
        {"create": ["reset"]},
        {"list": ["500"], "create": ["cut"]},
        {"look": ["503", "reset"]},
    ],
)
def test_trouble_on_the_way_never_submits_twice(
    server: Any, kind: str, tmp_path: Path, trouble: dict[str, list[str]]
) -> None:
    server.trouble = {name: list(faults) for name, faults in trouble.items()}
    replies, _ = run(kind, server.url, tmp_path, rows("a", "b", "c"), timeout=0.5)
    assert all(isinstance(reply, Reply) for reply in replies)
    assert set(server.rows.values()) == {1} and not any(server.trouble.values())


def test_openai_files_that_break_off_are_fetched_again(tmp_path: Path) -> None:
    with BatchServer() as server:
        server.trouble = {"file": ["500", "reset"], "content": ["cut", "500", "reset"]}
        replies, opened = run("openai", server.url, tmp_path, rows(*map(str, range(30))))
    assert all(isinstance(reply, Reply) for reply in replies) and opened.spent.calls == 30
    assert set(server.rows.values()) == {1}


def test_a_wrong_key_is_one_error_and_nothing_stays_noted(tmp_path: Path) -> None:
    with BatchServer() as server:
        server.trouble = {"file": ["401"]}
        with pytest.raises(ProviderError, match="refused the key"):
            run("openai", server.url, tmp_path, rows("a", "b"))
        replies, _ = run("openai", server.url, tmp_path, rows("a", "b"))
    assert all(isinstance(reply, Reply) for reply in replies) and set(server.rows.values()) == {1}


def test_one_question_asked_thrice_and_alone(server: Any, kind: str, tmp_path: Path) -> None:
    async def main() -> list[Reply]:
        async with model(kind, server.url, tmp_path) as opened:
            return list(await asyncio.gather(*(opened.ask(rows("same")[0]) for _ in range(3))))

    assert len({reply.text for reply in asyncio.run(main())}) == 1 and server.rows == {"same": 1}


def test_schemas_are_held_and_bare_prompts_refused(server: Any, kind: str, tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    asked = [Request(messages=(("user", "x"),), schema=schema), Request(prompt="bare")]
    (held, refused), _ = run(kind, server.url, tmp_path, asked)
    assert isinstance(held, Reply) and json.loads(held.text).keys() == {"a"}
    assert isinstance(refused, ProviderError) and refused.kind == "capability" and "complete" in str(refused)


# -- money -----------------------------------------------------------------------------------------------------------------


def test_a_batch_costs_half_where_that_is_known() -> None:
    usage = Usage(1_000_000, 1_000_000)
    for provider, identity in (
        ("openai", "gpt-4o-mini@https://api.openai.com/v1"), ("gemini", "gemini-2.5-flash@https://generativelanguage.googleapis.com"),
    ):  # fmt: skip
        price = find(provider, identity)
        half = in_batch(price, identity)
        assert price and half and half.usd(usage) == pytest.approx((price.usd(usage) or 0) / 2) and half.usd(usage)
    elsewhere = in_batch(Price(1, 2), "m@https://else.example/v1")
    assert elsewhere and (elsewhere.prompt, elsewhere.completion) == (1, 2)
    assert in_batch(None, "m@https://else.example/v1") is None


def test_the_plan_and_the_bill_know_the_price_of_a_batch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test0123456789")
    spec = {"provider": "openai", "model": "gpt-4o-mini"}
    whole, half = (open_model(entry, cache=None).price for entry in (spec, {**spec, "batch": True}))
    assert whole and half and (half.prompt, half.completion) == (whole.prompt / 2, whole.completion / 2)


def test_nothing_is_submitted_over_the_budget(server: Any, kind: str, tmp_path: Path) -> None:
    requests = rows(*(f"row {i}" for i in range(10)))
    with pytest.raises(ProviderError) as caught:
        run(kind, server.url, tmp_path, requests, budget={"calls": 6})
    assert caught.value.kind == "budget" and sum(server.rows.values()) == 6
    replies, opened = run(kind, server.url, tmp_path, requests, budget={"calls": 6})
    assert all(isinstance(reply, Reply) for reply in replies)
    assert opened.spent.calls == 4 and opened.spent.cached == 6 and set(server.rows.values()) == {1}


def test_the_budget_counts_a_job_of_an_earlier_process_once(tmp_path: Path) -> None:
    """A process that ends while its job is under way leaves it charged in full; whoever takes it over replaces that by what it cost."""
    price, requests = {"prompt": 1000.0, "completion": 1000.0}, rows("a", "b", "c")

    def execution(url: str, patient: bool) -> Model:
        spec = {
            "provider": "openai", "model": "m", "base_url": url, "batch": {"poll_seconds": 0.05}, "price": price, "budget": {"usd": 1},
        }  # fmt: skip
        opened = open_model(spec, cache=tmp_path / "c.sqlite", bill=Bill(tmp_path / "bill", "m"))
        if patient:
            asyncio.run(opened.ask_all(requests))
        else:
            with pytest.raises(TimeoutError):
                asyncio.run(asyncio.wait_for(opened.ask_all(requests), 0.5))
        asyncio.run(opened.close())
        return opened

    with BatchServer() as server:
        server.holding = True
        execution(server.url, False)
        held = charged(tmp_path / "bill")
        assert held is not None and held.calls == 3 and held.usd > 0.06
        execution(server.url, False)
        again = charged(tmp_path / "bill")
        assert again is not None and again.calls == 3 and again.usd == pytest.approx(held.usd)
        server.holding = False
        opened = execution(server.url, True)
        after = charged(tmp_path / "bill")
    assert after is not None and after.calls == 3 and opened.spent.usd
    assert after.usd == pytest.approx(opened.spent.usd) and after.usd < held.usd
    assert after.tokens == opened.spent.prompt_tokens + opened.spent.completion_tokens
    assert set(server.rows.values()) == {1}


# -- settings --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"provider": "fake", "batch": True}, r"m\.batch: .*has no batches"),
        ({"provider": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1", "batch": {"row": 5}}, r"m\.batch\.row: "),
        ({"provider": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1", "batch": {"rows": 0}}, r"m\.batch\.rows: "),
        ({"provider": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1", "batch": "yes please"}, r"m\.batch: "),
    ],
)  # fmt: skip
def test_wrong_settings_are_the_recipes_fault(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        open_model(entry, cache=None, where="m")


def test_vertex_has_no_batches_and_says_so() -> None:
    pytest.importorskip("google.genai")
    spec = {"provider": "gemini", "model": "m", "vertex": True, "project": "p", "batch": True}
    with pytest.raises(ProviderError, match="storage bucket") as caught:
        open_model(spec, cache=None)
    assert caught.value.kind == "capability"


def test_two_processes_do_not_share_a_list_of_jobs(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs.sqlite")
    with pytest.raises(EngineError, match="another run waits for the batches"):
        Jobs(tmp_path / "jobs.sqlite")
    jobs.close()
    Jobs(tmp_path / "jobs.sqlite").close()


def test_messages_speak_chinese(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHILING_LANG", "zh")
    with BatchServer() as server:
        run("openai", server.url, tmp_path, rows("请翻译"))
        assert any("已将 1 个请求提交为批处理 batch0" in said for said in NOTICES)
        server.ends = ["failed"]
        with pytest.raises(ProviderError, match="批处理 batch1 失败：Enqueued token limit reached"):
            run("openai", server.url, tmp_path, rows("请概括"))


# -- kills -----------------------------------------------------------------------------------------------------------------

RUN = """
    import asyncio, logging, sys
    from pathlib import Path
    from zhiling.llm import offline, open_model
    from zhiling.types import Reply, Request

    offline.GATHER_SECONDS, offline.SETTLE_SECONDS = 0.1, 1.0
    logging.basicConfig(level="WARNING", stream=sys.stderr, format="%(message)s")

    async def main():
        spec = {"provider": sys.argv[1], "model": "m", "base_url": sys.argv[2], "batch": {"poll_seconds": 0.1}}
        async with open_model(spec, cache=Path(sys.argv[3])) as model:
            replies = await model.ask_all(Request(messages=(("user", f"row {i}"),)) for i in range(40))
        assert all(isinstance(reply, Reply) for reply in replies)
        print(f"done {len(replies)} asked {model.spent.calls} cached {model.spent.cached}", flush=True)

    asyncio.run(main())
"""


def start(tmp_path: Path, kind: str, url: str) -> subprocess.Popen[str]:
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(RUN))
    command = [sys.executable, str(script), kind, url, str(tmp_path / "c.sqlite")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(true: Any) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("moment", ["waiting", "submitting", "uploaded"])
def test_killed_at_any_moment_a_job_is_found_and_nothing_asked_twice(
    server: Any, kind: str, tmp_path: Path, moment: str
) -> None:
    if moment == "uploaded" and kind == "gemini":
        pytest.skip("Gemini's requests travel in the call that makes the job")
    server.holding = True
    if moment != "waiting":
        server.trouble = {"create" if moment == "submitting" else "file": ["hang"]}
    with start(tmp_path, kind, server.url) as first:
        if moment == "waiting":
            until(lambda: server.calls["look"] >= 2)
        else:
            until(
                lambda: (server.jobs if moment == "submitting" else server.files) and not any(server.trouble.values())
            )
        first.send_signal(signal.SIGKILL)
        first.wait(10)
    if moment == "waiting":  # and once more, while the job found is waited for
        before = server.calls["look"]
        with start(tmp_path, kind, server.url) as second:
            until(lambda: server.calls["look"] >= before + 2)
            second.send_signal(signal.SIGKILL)
            second.wait(10)
    server.holding = False
    with start(tmp_path, kind, server.url) as last:
        out, told = last.communicate(timeout=60)
    assert out == "done 40 asked 40 cached 0\n", told
    assert len(server.jobs) == 1 and set(server.rows.values()) == {1}
    assert ("is under way" in told) == (moment != "uploaded") and "40 of 40 answered" in told


def test_replies_that_were_kept_before_their_job_was_ended_are_not_paid_again(
    server: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Jobs, job: object) -> None:
        raise EngineError("the disk is full")

    monkeypatch.setattr(Jobs, "end", full)
    with pytest.raises(EngineError, match="disk is full"):
        run(kind, server.url, tmp_path, rows("a", "b"))
    monkeypatch.undo()
    monkeypatch.setattr(offline, "GATHER_SECONDS", 0.05)
    replies, opened = run(kind, server.url, tmp_path, rows("a", "b", "c"))
    assert all(isinstance(reply, Reply) for reply in replies) and any("2 of 2 answered" in said for said in NOTICES)
    assert set(server.rows.values()) == {1} and opened.spent.calls == 1 and opened.spent.cached == 2
