"""Who only looks on, such as a progress line or a trace, may break: no reply is lost to it, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import Loopback

from zhiling.errors import EngineError
from zhiling.llm import open_model
from zhiling.progress import Meter
from zhiling.types import Request


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    with Loopback() as running:
        yield running


def say(i: int) -> Request:
    return Request(messages=(("user", f"question {i}"),))


def test_a_listener_that_fails_ends_the_run_and_leaves_nobody_waiting(server: Loopback, tmp_path: Path) -> None:
    """Fifty replies share few commits: those after the one whose listener failed must hear of theirs, too."""
    server.done.clear()
    model = open_model({"provider": "openai", "model": "m", "base_url": server.url}, cache=tmp_path / "c")
    heard = 0

    def breaks() -> None:
        nonlocal heard
        heard += 1
        if heard == 3:
            raise BrokenPipeError(32, "Broken pipe")

    async def main() -> None:
        model.heard = breaks
        with pytest.raises(EngineError, match="Broken pipe"):
            await asyncio.wait_for(model.ask_all(map(say, range(50))), 20)
        model.heard = None
        replies = await asyncio.wait_for(model.ask_all(map(say, range(50))), 20)
        assert len(replies) == 50
        await model.close()

    asyncio.run(main())
    assert len(server.done) == 50 and set(server.done.values()) == {1}  # what was answered was kept


def test_a_trace_on_a_full_disk_stops_the_run_before_the_next_call_and_loses_no_reply(
    server: Loopback, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.done.clear()
    spec = {"provider": "openai", "model": "m", "base_url": server.url}

    async def full() -> None:
        model = open_model(spec, cache=tmp_path / "c", trace=Path("/dev/full"))
        with pytest.raises(EngineError, match="disk is full"):
            await asyncio.wait_for(model.ask_all(map(say, range(400))), 20)
        with pytest.raises(EngineError, match="disk is full"):
            await model.close()

    async def again() -> int:
        async with open_model(spec, cache=tmp_path / "c", trace=tmp_path / "t") as model:
            await model.ask_all(map(say, range(400)))
            return model.spent.cached

    asyncio.run(full())
    answered = len(server.done)
    assert 64 <= answered < 400 and "Traceback" not in caplog.text
    assert asyncio.run(again()) == answered and len(server.done) == 400 and set(server.done.values()) == {1}


def test_progress_whose_reader_has_gone_falls_silent() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    meter = Meter(Gone(), every=0.0)
    for done in (1, 2):
        meter({"stage": "construct/0-generate", "done": done, "total": 2})
    meter.close()
