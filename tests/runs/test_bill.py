"""What a run paid, over all its executions: the bill is right after any end, and a budget counts it all."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import making
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import Loopback
from test_bad_input import COMMAND, error_of, zhiling

from zhiling.errors import EngineError
from zhiling.llm import bill
from zhiling.llm.budget import Hold, Spent
from zhiling.show import bill_lines

PRICE = {"prompt": 1.0, "completion": 2.0}
WAY = {"generate": {"candidates": 12, "keep": 2, "weights": {"relevance": 1.0}, "floor": 0.0}}


def recipe(folder: Path, url: str, *, model: dict | None = None, **changes) -> Path:
    entry = {"provider": "openai", "model": "m", "base_url": url, "price": PRICE, "retries": 0, **(model or {})}
    ways = [{"template": {"per_record": 1}}, WAY]
    return making.write(
        folder, models={"strong": entry}, construct=ways, score=[], select=["exact"], shard_rows=999, **changes
    )


def go(path: Path, out: Path, *args: str, env: dict | None = None) -> subprocess.CompletedProcess[str]:
    return zhiling("run", path, "-o", out, "--workers", 1, *args, env=env)


def bills(folder: Path) -> dict:
    return bill.facts(bill.spent(folder / bill.NAME))


counts = st.integers(0, 10**12)
bills_of_one = st.builds(Spent, counts, counts, counts, counts, st.none() | st.floats(0, 1e6), counts, counts, counts)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["strong", "裁判", '"\\\n', "x" * 300]), bills_of_one, st.integers(0, 99)),
        max_size=6,
    )
)
def test_what_was_written_last_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, lines) -> None:
    path = tmp_path_factory.mktemp("bill") / "bills.jsonl"
    for name, spent, under_way in lines:
        line = bill.Bill(path, name)
        line.write(Spent(), 7, None)
        line.write(spent, under_way, Hold(1, 2, 0.5))
        line.close()
    found = list(bill.entries(path))
    assert [(entry.model, entry.spent.usd, entry.spent.unsure) for entry in found] == [
        (name[:80], spent.usd, spent.unsure + under_way) for name, spent, under_way in lines
    ]
    assert sum(item.calls for item in bill.spent(path).values()) == sum(spent.calls for _, spent, _ in lines)
    charged = bill.charged(path)
    assert charged is not None and charged.calls == len(lines)


def test_an_unknown_price_makes_the_sum_unknown(tmp_path: Path) -> None:
    for usd in (0.25, None):
        line = bill.Bill(tmp_path / "b", "m")
        line.write(Spent(calls=1, usd=usd), 0, None)
        line.close()
    assert bill.spent(tmp_path / "b")["m"].usd is None and math.isnan(bill.charged(tmp_path / "b").usd)
    assert (
        bill.per_row([None, 1.0], 4) is None and bill.per_row([0.5, 1.5], 4) == 0.5 and bill.per_row([1.0], 0) is None
    )


def test_a_damaged_bill_is_said_to_be_damaged(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b'{"model": "m", "calls": 3')
    with pytest.raises(EngineError, match="the bill is damaged — move it away"):
        bill.spent(tmp_path / "b")


def test_a_run_tells_its_bill_and_the_price_of_a_row(tmp_path: Path) -> None:
    with Loopback() as server:
        path = recipe(tmp_path / "r", server.url)
        done = go(path, tmp_path / "out")
        assert done.returncode == 0, done.stderr
        asked = sum(server.done.values())
        told = json.loads((tmp_path / "out" / "run.json").read_text())
        strong = told["spent"]["strong"]
        assert strong["calls"] == asked == 24
        cost = (strong["prompt_tokens"] * 1.0 + strong["completion_tokens"] * 2.0) / 1e6
        assert strong["usd"] == pytest.approx(cost) and cost > 0
        assert told["usd_per_kept"] == pytest.approx(cost / told["kept"])
        each = f"price per kept row: ${cost / told['kept']:.2g}"
        assert each in done.stdout and each in zhiling("show", tmp_path / "out").stdout
        again = go(path, tmp_path / "out")  # nothing is left to ask: the bill stays
        assert json.loads((tmp_path / "out" / "run.json").read_text())["spent"]["strong"] == strong
        assert each in again.stdout and sum(server.done.values()) == asked
        chinese = zhiling("show", tmp_path / "out", env={"ZHILING_LANG": "zh"}).stdout
        assert "每保留一行的价格" in chinese


def test_an_unknown_price_is_said_and_never_nothing(tmp_path: Path) -> None:
    with Loopback() as server:
        path = recipe(tmp_path / "r", server.url)
        out = tmp_path / "out"
        assert go(path, out).returncode == 0
        for line in (out / bill.NAME).read_bytes().splitlines():
            facts = {**json.loads(line), "usd": None, "charged": [1, 2, None]}
            (out / bill.NAME).write_bytes(json.dumps(facts).encode().ljust(bill.WIDTH - 1) + b"\n")
        shown = zhiling("show", out).stdout
        assert "price unknown" in shown and "price per kept row: unknown" in shown
        done = go(path, out, "--set", "models.strong.budget.usd=5", "--set", "construct.1.generate.keep=3")
        assert done.returncode == 2 and "not known in usd" in error_of(done)
        done = go(path, out, "--set", "models.strong.budget.calls=60", "--set", "construct.1.generate.keep=3")
        assert done.returncode == 0, done.stderr  # calls can be counted all the same


@pytest.mark.parametrize("moment", [3])
def test_killed_and_resumed_the_bill_is_what_the_server_answered(tmp_path: Path, moment: int) -> None:
    """One call at a time, killed while the endpoint holds one back: what was answered is known to the call."""
    with Loopback(delay_ms=20) as server:
        path = recipe(tmp_path / "r", server.url, model={"lanes": 1})
        out = tmp_path / "out"
        with subprocess.Popen(
            [*COMMAND, "run", str(path), "-o", str(out), "--workers", "1"], stderr=subprocess.DEVNULL
        ) as run:
            while sum(server.done.values()) < moment and run.poll() is None:
                time.sleep(0.002)
            server.delay = 30.0  # calls from now on hang: what comes back is over
            time.sleep(0.3)
            answered, held_back = sum(server.done.values()), server.busy
            run.send_signal(signal.SIGKILL)
        killed = bills(out)["strong"]
        assert answered >= moment and held_back <= 1
        assert killed["calls"] == answered and killed["unsure"] == held_back and killed["usd"] > 0
        shown = "\n".join(bill_lines(bills(out), 0))
        assert f"{answered} calls" in shown and ("1 more broke off" in shown) == bool(held_back)
        server.delay = 0.0
        done = go(path, out)
        assert done.returncode == 0, done.stderr
        strong = json.loads((out / "run.json").read_text())["spent"]["strong"]
        assert strong["calls"] == sum(server.done.values()) == 24 and strong["unsure"] == held_back
        assert strong["cached"] == answered  # nothing paid was paid again
        cost = strong["prompt_tokens"] * 1e-6 + strong["completion_tokens"] * 2e-6
        assert strong["usd"] == pytest.approx(cost)


@pytest.mark.parametrize("wide", [False, True])
def test_a_budget_stops_the_run_and_goes_on_when_raised(tmp_path: Path, wide: bool) -> None:
    """The model's own budget and the recipe's for all models: 10 of 24 calls, not one more, also over several executions."""
    key = "budget" if wide else "models.strong.budget"
    with Loopback() as server:
        limits = {"calls": 10}
        path = recipe(tmp_path / "r", server.url, **({"budget": limits} if wide else {"model": {"budget": limits}}))
        out = tmp_path / "out"
        done = go(path, out)
        assert done.returncode == 1
        assert f"{key}: the budget of 10 calls is used up (10 spent) — raise the budget and run again" in error_of(done)
        chinese = go(path, out, env={"ZHILING_LANG": "zh"})  # the same command again has nothing left to spend
        assert chinese.returncode == 1 and "预算已用完：calls 上限 10，已用 10" in chinese.stderr
        assert sum(server.done.values()) == 10
        raised = go(path, out, "--until", "construct", "--set", f"{key}.calls=24")
        assert raised.returncode == 0, raised.stderr
        assert sum(server.done.values()) == len(server.done) == 24  # each question once
        strong = bills(out)["strong"]
        assert (strong["calls"], strong["unsure"]) == (24, 0)


def test_what_was_under_way_when_killed_counts_against_the_budget(tmp_path: Path) -> None:
    with Loopback(delay_ms=30_000) as server:
        path = recipe(tmp_path / "r", server.url, model={"lanes": 4, "budget": {"calls": 24}})
        out = tmp_path / "out"
        with subprocess.Popen(
            [*COMMAND, "run", str(path), "-o", str(out), "--workers", "1"], stderr=subprocess.DEVNULL
        ) as run:
            while server.busy < 4 and run.poll() is None:
                time.sleep(0.01)
            run.send_signal(signal.SIGKILL)
        server.delay = 0.0
        done = go(path, out)
        assert done.returncode == 1 and "budget of 24 calls" in error_of(done)  # 4 of the 24 may have been billed
        assert sum(server.done.values()) == 20


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"budget": {"dollars": 3}}, "budget: a budget is made of usd, calls and tokens"),
        ({"model": {"price": None}, "budget": {"usd": 3}}, "a budget in usd needs a price"),
    ],
)
def test_a_budget_that_cannot_be_held_is_one_line(tmp_path: Path, given: dict, said: str) -> None:
    path = recipe(tmp_path / "r", "https://endpoint.example/v1", **given)
    done = go(path, tmp_path / "out", env={"OPENAI_API_KEY": "k"})
    assert done.returncode == 2 and said in error_of(done)


@pytest.mark.slow
def test_killed_again_and_again_the_bill_holds_what_was_answered_between_its_bounds(tmp_path: Path) -> None:
    """Eight calls at once and three kills: each answer is either counted, or was under way and is counted as perhaps billed."""
    with Loopback(delay_ms=60) as server:
        path = recipe(tmp_path / "r", server.url, model={"lanes": 8})
        out, more = tmp_path / "out", ["--until", "construct", "--set", "construct.1.generate.candidates=40"]
        for blow in (5, 30, 55):
            command = [*COMMAND, "run", str(path), "-o", str(out), "--workers", "1", *more]
            with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as run:
                while sum(server.done.values()) < blow and run.poll() is None:
                    time.sleep(0.001)
                run.send_signal(signal.SIGKILL)
            while server.busy:  # what was under way is answered to nobody
                time.sleep(0.01)
            paid, answered = bills(out)["strong"], sum(server.done.values())
            assert paid["calls"] <= answered <= paid["calls"] + paid["unsure"] and paid["unsure"] <= 24
        done = go(path, out, *more)
        assert done.returncode == 0, done.stderr
        paid, answered = bills(out)["strong"], sum(server.done.values())
        assert len(server.done) == 80 and paid["calls"] <= answered <= paid["calls"] + paid["unsure"]
        assert paid["usd"] == pytest.approx(paid["prompt_tokens"] * 1e-6 + paid["completion_tokens"] * 2e-6)


def test_spending_is_told_while_it_happens(tmp_path: Path) -> None:
    from zhiling.recipe import load
    from zhiling.run import Run

    events: list[dict] = []
    with Loopback(delay_ms=20) as server:
        path = recipe(tmp_path / "r", server.url, model={"lanes": 2})
        with Run(
            load(path), tmp_path / "out", workers=1, until="construct", watch=lambda e: events.append(dict(e))
        ) as run:
            run.execute()
    told = [event for event in events if "usd" in event]
    assert len(told) > 3 and told[-1]["calls"] == 24 and told[-1]["tokens"] > 0 and told[-1]["usd"] > 0
    assert [event["usd"] for event in told] == sorted(event["usd"] for event in told)
    assert all(event["total"] == 12 and event["task"] in ("mood", "心情") for event in told)
    assert told[-1]["done"] == told[-1]["total"]


def test_the_progress_line_says_what_is_known_and_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from zhiling.progress import spending

    monkeypatch.setenv("ZHILING_LANG", "en")
    known = {"calls": 5, "cached": 2, "failed": 1, "tokens": 1200, "usd": 0.0123}
    assert spending(known) == ["5 calls", "2 cached", "1 failed", "1,200 tokens", "$0.0123"]
    assert spending({**known, "usd": None})[-1] == "cost unknown"
    assert spending({"calls": 5, "usd": 0.0}) == ["5 calls"] and spending({"rows": 3}) == []
    monkeypatch.setenv("ZHILING_LANG", "zh")
    assert spending({**known, "usd": None})[-1] == "花费未知"


def test_the_rate_of_the_second_task_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from zhiling import progress

    now = [0.0]
    monkeypatch.setenv("ZHILING_LANG", "en")
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    meter = progress.Meter(out)
    for task in ("mood", "心情"):
        meter({"stage": "construct/0-generate", "task": task})
        for done in (5, 10):
            now[0] += 5
            meter(
                {"stage": "construct/0-generate", "task": task, "done": done, "total": 20, "calls": done, "usd": None}
            )
        now[0] += 100
    lines = [line for line in out.getvalue().splitlines() if "10/20" in line]
    assert len(lines) == 2
    assert all("1.0/s" in line and "left 0:10" in line and "cost unknown" in line for line in lines)


def test_a_scorers_next_shard_knows_how_many_calls_to_expect(tmp_path: Path) -> None:
    from zhiling.recipe import load
    from zhiling.registry import scorer
    from zhiling.run import Run
    from zhiling.types import Request, Score

    @scorer("asks_twice", low=0, high=1, better="high")
    async def asks_twice(examples, *, model):
        """Two calls a row."""
        asked = [Request(messages=(("user", f"{i} {row.prompt}"),), max_tokens=4) for row in examples for i in range(2)]
        replies = await model.ask_all(asked)
        for index, row in enumerate(examples):
            yield Score(row.id, "asks_twice", float(len(replies[2 * index].text) > 0))

    events: list[dict] = []
    with Loopback() as server:
        path = recipe(tmp_path / "r", server.url)
        sets = ["construct=[{template: {per_record: 1}}]", "score=[asks_twice]", "shard_rows=60"]
        with Run(
            load(path, sets), tmp_path / "out", workers=1, until="score", watch=lambda e: events.append(dict(e))
        ) as run:
            run.execute()
    told = [(e["task"], e["done"], e["total"]) for e in events if e["stage"] == "score/asks_twice" and "done" in e]
    ends = {task: (done, total) for task, done, total in told}
    assert ends == {"1/3": (120, None), "2/3": (120, 120), "3/3": (60, 60)}


def test_a_disk_that_fills_up_while_a_call_is_under_way_loses_no_reply(tmp_path: Path) -> None:
    """The bill cannot be written when the reply comes: the reply is kept, and the next call does not leave."""
    import asyncio

    from zhiling.errors import disk_full
    from zhiling.llm import open_model
    from zhiling.types import Request

    class Full(bill.Bill):
        def write(self, spent: Spent, under_way: int, charged: Hold | None) -> None:
            if spent.calls:
                raise disk_full(str(self.path))
            super().write(spent, under_way, charged)

    async def main() -> None:
        model = open_model({"provider": "fake"}, cache=tmp_path / "c", bill=Full(tmp_path / "b", "m"))
        first = Request(messages=(("user", "one"),))
        assert (await model.ask(first)).text == "one"
        with pytest.raises(EngineError, match="disk is full"):
            await model.ask(Request(messages=(("user", "two"),)))
        assert (await model.ask(first)).cached and model.spent.calls == 1

    asyncio.run(main())


def test_import_of_the_bill_is_light() -> None:
    code = "import zhiling.llm.bill, sys; print([m for m in ('aiohttp', 'sqlite3', 'yaml') if m in sys.modules])"
    env = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "[]"
