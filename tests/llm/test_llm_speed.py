"""The speed of a local model: measured once, remembered, measured again when what was remembered is of no use."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from zhiling.errors import ProviderError
from zhiling.llm import Model, open_model
from zhiling.llm.speed import PROMPT_WORDS, Speed, speed
from zhiling.types import Reply, Request, Usage


class Local:
    """A provider that passes for a local one: one prompt token per word, and as many completion tokens as asked."""

    name, model, lanes = "gguf", "local#1", 6
    can = frozenset({"chat", "complete"})

    def __init__(self, context: int = 1000, mute: bool = False, lag: float = 0.0) -> None:
        self.context, self.mute, self.lag, self.asked = context, mute, lag, list[Request]()

    def __repr__(self) -> str:
        return f"Local({self.model})"

    async def reply(self, request: Request) -> Reply:
        await asyncio.sleep(self.lag)
        self.asked.append(request)
        words = len((request.prompt or "").split())
        if words > self.context:
            raise ProviderError("too long", kind="refused")
        return Reply("x", usage=Usage(words, 0 if self.mute else request.max_tokens))

    async def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZHILING_CACHE", str(tmp_path))
    return tmp_path / "speed"


def test_it_is_measured_with_all_lanes_and_then_remembered(home: Path) -> None:
    provider = Local()
    first = asyncio.run(speed(Model(provider)))
    assert first is not None and first.prefill > 0 and first.decode > 0
    assert len(provider.asked) == 1 + 1 + 6 + 1 + 6 and len({r.prompt for r in provider.asked}) > 12  # no prefix helps
    count = len(provider.asked)
    assert asyncio.run(speed(Model(provider))) == first and len(provider.asked) == count
    other = Local()
    assert asyncio.run(speed(Model(other, lanes=2))) is not None and other.asked  # other lanes, another speed
    assert len(list(home.glob("*.json"))) == 2 and not list(home.glob(".*"))


def test_what_is_kept_is_not_trusted_when_damaged_or_old(home: Path) -> None:
    provider = Local()
    asyncio.run(speed(Model(provider)))
    (file,) = home.glob("*.json")
    for spoil in ("", "{}", '{"prefill": "x", "decode": 1}', '{"prefill": 0, "decode": 1}', "[1]"):
        file.write_text(spoil)
        count = len(provider.asked)
        assert asyncio.run(speed(Model(provider))) is not None and len(provider.asked) > count
        assert json.loads(file.read_text())["decode"] > 0
    os.utime(file, (0, 0))
    count = len(provider.asked)
    asyncio.run(speed(Model(provider)))
    assert len(provider.asked) > count


def test_a_slow_model_is_measured_on_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zhiling.llm.speed.SECONDS", 0.0)
    provider = Local(lag=0.001)
    assert asyncio.run(speed(Model(provider))) is not None and len(provider.asked) == 3


def test_a_small_context_shortens_the_prompts() -> None:
    provider = Local(context=30)
    assert asyncio.run(speed(Model(provider))) is not None
    assert max(len((r.prompt or "").split()) for r in provider.asked) == PROMPT_WORDS + 1  # tried, refused, halved
    with pytest.raises(ProviderError, match="too long"):
        asyncio.run(speed(Model(Local(context=2), lanes=3)))


def test_no_speed_is_invented(home: Path) -> None:
    with pytest.raises(ProviderError, match="wrote nothing"):
        asyncio.run(speed(Model(Local(mute=True))))
    assert not list(home.glob("*"))
    assert asyncio.run(speed(open_model({"provider": "fake"}, cache=None))) is None


def test_a_cache_that_cannot_be_written_costs_only_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZHILING_CACHE", str(tmp_path / "file"))
    assert asyncio.run(speed(Model(Local()))) is not None


def test_seconds_are_reading_plus_writing() -> None:
    assert Speed(100.0, 10.0).seconds(200, 30) == 5.0


@pytest.mark.model
def test_the_embedded_model_has_a_speed() -> None:
    pytest.importorskip("xllamacpp")

    async def main() -> Speed | None:
        async with open_model({"provider": "gguf", "parallel": 2, "context": 512, "threads": 1}, cache=None) as model:
            return await speed(model)

    found = asyncio.run(main())
    assert found is not None and found.prefill > 0 and found.decode > 0
