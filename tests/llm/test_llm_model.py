"""The Model: cached, coalesced, streamed, retried, stopped at once where nothing else helps, and resumed for free."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import Loopback

from zhiling.errors import EngineError, ProviderError, RecipeError
from zhiling.llm import Model, Provider, ReplyCache, limit, open_model, wrap
from zhiling.types import Reply, Request, Usage


def say(i: object, **parameters: Any) -> Request:
    return Request(messages=(("user", f"question {i}"),), **parameters)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of milliseconds where a user would have seconds."""
    monkeypatch.setattr(wrap, "BACKOFF", 0.005)
    monkeypatch.setattr(limit, "PATIENCE", (0.01,) * 4)
    monkeypatch.setattr(limit, "IMPATIENCE", (0.01,) * 2)


class Counting:
    """A provider that counts what it is asked, and answers when told."""

    name, model, lanes = "fake", "counting#1", 8
    can = frozenset({"chat", "complete", "logprobs", "seed"})

    def __init__(self, text: str = "") -> None:
        self.asked: list[Request] = []
        self.busy = self.busiest = 0
        self.text = text

    async def reply(self, request: Request) -> Reply:
        self.asked.append(request)
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        await asyncio.sleep(0.001)
        self.busy -= 1
        said = request.messages[-1][1] if request.messages else request.prompt or ""
        return Reply(self.text or f"answer to {said}", usage=Usage(3, 5), seconds=0.001)

    async def close(self) -> None:
        pass


def test_a_reply_is_paid_for_once(tmp_path: Path) -> None:
    provider = Counting()
    assert isinstance(provider, Provider)
    model = Model(provider, ReplyCache(tmp_path / "c"))

    async def main() -> tuple[Reply, Reply]:
        first = await model.ask(say(1))
        return first, await model.ask(say(1))

    first, again = asyncio.run(main())
    assert (first.text, first.cached) == ("answer to question 1", False)
    assert (again.text, again.cached, again.key) == (first.text, True, first.key)
    other = Model(provider, ReplyCache(tmp_path / "c"))
    assert asyncio.run(other.ask(say(1))).cached and len(provider.asked) == 1
    assert asyncio.run(other.ask(say(1, draw=1))).text and len(provider.asked) == 2  # another draw is another question
    assert other.spent.cached == 1 and other.spent.calls == 1 and other.spent.usd == 0.0


def test_equal_questions_under_way_are_asked_once(tmp_path: Path) -> None:
    provider = Counting()
    model = Model(provider, ReplyCache(tmp_path / "c"))
    replies = asyncio.run(model.ask_all([say(i % 3) for i in range(60)]))
    assert [r.text for r in replies if isinstance(r, Reply)] == [f"answer to question {i % 3}" for i in range(60)]
    assert len(provider.asked) == 3 and model.spent.cached == 57


def test_equal_questions_under_way_share_a_reply_without_a_cache_too() -> None:
    provider = Counting()
    replies = asyncio.run(Model(provider).ask_all([say(1)] * 8))
    assert len(provider.asked) == 1 and [r.cached for r in replies if isinstance(r, Reply)].count(False) == 1


def test_results_come_as_they_are_ready_and_memory_holds_one_window() -> None:
    taken = given = most = 0

    def questions() -> Iterator[Request]:
        nonlocal taken, most
        for i in range(500):
            taken += 1
            most = max(most, taken - given)
            yield say(i)

    async def main() -> set[int]:
        nonlocal given
        seen = set()
        async for index, reply in Model(Counting(), lanes=4).map(questions(), window=20):
            assert isinstance(reply, Reply) and reply.text == f"answer to question {index}"
            given += 1
            seen.add(index)
            if given % 50 == 0:
                await asyncio.sleep(0.01)  # a slow consumer
        return seen

    assert asyncio.run(main()) == set(range(500))
    assert most <= 21


def test_a_slow_call_holds_nobody_else_up() -> None:
    class Slow(Counting):
        async def reply(self, request: Request) -> Reply:
            if "question 0" in request.messages[0][1]:
                await asyncio.sleep(0.2)
            return await super().reply(request)

    async def main() -> list[int]:
        return [index async for index, _ in Model(Slow(), lanes=4).map([say(i) for i in range(40)])]

    order = asyncio.run(main())
    assert order[-1] == 0 and sorted(order) == list(range(40))


def test_lanes_bound_the_calls_under_way() -> None:
    provider = Counting()
    asyncio.run(Model(provider, lanes=3).ask_all([say(i) for i in range(50)]))
    assert provider.busiest == 3
    asyncio.run(Model(provider, lanes=99).ask_all([say(i) for i in range(50)]))
    assert provider.busiest == provider.lanes


def test_an_asynchronous_source_works_too() -> None:
    async def questions() -> AsyncIterator[Request]:
        for i in range(30):
            await asyncio.sleep(0)
            yield say(i)

    async def main() -> int:
        return len([pair async for pair in Model(Counting()).map(questions())])

    assert asyncio.run(main()) == 30


def test_leaving_early_stops_the_workers() -> None:
    provider = Counting()

    async def main() -> None:
        results = Model(provider).map(say(i) for i in range(10_000))
        async for index, _ in results:
            if index > 20:
                break
        await results.aclose()  # type: ignore[attr-defined]
        asked = len(provider.asked)
        await asyncio.sleep(0.02)
        assert len(provider.asked) == asked < 200

    asyncio.run(main())


def test_a_source_that_breaks_is_raised_not_swallowed() -> None:
    def questions() -> Iterator[Request]:
        yield say(1)
        raise EngineError("the shard is gone")

    with pytest.raises(EngineError, match="shard is gone"):
        asyncio.run(Model(Counting()).ask_all(questions()))


def test_one_model_serves_one_event_loop_after_another(tmp_path: Path) -> None:
    with Loopback() as server:
        spec = {"provider": "openai", "model": "m", "base_url": server.url}
        model = open_model(spec, cache=tmp_path / "c", trace=tmp_path / "events.jsonl")
        for turn in range(3):
            replies = asyncio.run(model.ask_all([say(f"{turn}.{i}") for i in range(20)]))
            assert all(isinstance(reply, Reply) for reply in replies)
        assert model.spent.calls == 60
        asyncio.run(model.close())
        assert asyncio.run(model.ask(say("0.0"))).cached


def test_faults_that_pass_are_retried_and_the_rest_is_data(quick: None, tmp_path: Path) -> None:
    faults = {"429": 0.1, "500": 0.05, "503": 0.03, "reset": 0.05, "cut": 0.02, "truncated": 0.03, "garbage": 0.02, "empty": 0.02,
              "html502": 0.02, "400": 0.05, "blocked": 0.03}  # fmt: skip
    with Loopback(faults=faults) as server:
        spec = {"provider": "openai", "model": "m", "base_url": server.url, "lanes": 16, "retries": 12}
        model = open_model(spec, cache=tmp_path / "c")
        replies = asyncio.run(model.ask_all([say(i) for i in range(400)]))
        failed = [reply for reply in replies if isinstance(reply, ProviderError)]
        assert {error.kind for error in failed} == {"refused"}
        assert 10 < len(failed) < 70 and model.spent.failed == len(failed)
        assert model.spent.calls == 400 - len(failed) and model.spent.retries > 50
        assert max(server.done.values()) == 1  # whatever happened, nothing was answered twice
        again = open_model(spec, cache=tmp_path / "c")
        asyncio.run(again.ask_all([say(i) for i in range(400)]))
        assert (
            again.spent.cached == 400 - len(failed) and again.spent.calls == 0
        )  # failures are not cached, replies are


def test_retries_end_and_say_why(quick: None) -> None:
    with Loopback() as server:
        spec = {"provider": "openai", "model": "m", "base_url": server.url, "retries": 2, "extra": {"fault": "500"}}
        (result,) = asyncio.run(open_model(spec, cache=None).ask_all([say(1)]))
        assert isinstance(result, ProviderError) and result.kind == "server"
        assert sum(server.tries.values()) == 3


def test_retry_after_is_honoured() -> None:
    model = Model(Counting())
    waits = [model._backoff(ProviderError("slow down", kind="rate", retry_after=7.0), tries) for tries in (1, 5)]
    assert all(7.0 <= wait <= 7.7 for wait in waits)
    stray = model._backoff(ProviderError("slow down", kind="rate"), 1)
    assert stray <= 0.1 < model._backoff(ProviderError("down", kind="server"), 1)


@pytest.mark.parametrize(
    ("fault", "kind"), [("401", "auth"), ("404", "model"), ("quota", "quota"), ("429-long", "quota")]
)
def test_what_every_call_would_meet_stops_at_once(fault: str, kind: str, quick: None) -> None:
    with Loopback(delay_ms=2) as server:
        spec = {"provider": "openai", "model": "m", "base_url": server.url, "lanes": 8, "extra": {"fault": fault}}
        model = open_model(spec, cache=None)
        with pytest.raises(ProviderError) as caught:
            asyncio.run(model.ask_all([say(i) for i in range(10_000)]))
        assert caught.value.kind == kind and model.stopped is caught.value
        assert sum(server.tries.values()) <= 8
        with pytest.raises(ProviderError):
            asyncio.run(model.ask(say("later")))
        assert sum(server.tries.values()) <= 8


def test_a_gone_endpoint_pauses_says_so_and_gives_one_error(quick: None, caplog: pytest.LogCaptureFixture) -> None:
    spec = {"provider": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1", "lanes": 8}
    with caplog.at_level(logging.WARNING, "zhiling.llm"), pytest.raises(ProviderError, match="cannot connect"):
        asyncio.run(open_model(spec, cache=None).ask_all([say(i) for i in range(10_000)]))
    assert len(caplog.records) == 2 and "paused for" in caplog.text


def test_an_endpoint_that_returns_is_waited_for(quick: None) -> None:
    said: list[str] = []

    class Restarting(Counting):
        async def reply(self, request: Request) -> Reply:
            if len(self.asked) >= 40 and len(said) < 2:  # down until the second pause
                raise ProviderError("connection refused", kind="network", retryable=True)
            return await super().reply(request)

    model = Model(Restarting(), notice=said.append, retries=8)
    replies = asyncio.run(model.ask_all([say(i) for i in range(100)]))
    assert all(isinstance(reply, Reply) for reply in replies)
    assert ["paused" in line for line in said] == [True, True, False] and said[-1] == "the endpoint answers again"


def test_the_budget_stops_a_run_that_can_be_resumed(tmp_path: Path) -> None:
    provider = Counting()
    model = Model(provider, ReplyCache(tmp_path / "c"), budget={"calls": 25})

    async def run(model: Model) -> tuple[int, str]:
        done = 0
        try:
            async for _, reply in model.map([say(i) for i in range(100)]):
                done += isinstance(reply, Reply)
        except ProviderError as error:
            return done, error.kind
        return done, ""

    assert asyncio.run(run(model)) == (25, "budget")
    assert len(provider.asked) == 25
    assert asyncio.run(run(model)) == (25, "budget")  # a model that has stopped still serves what is cached
    assert asyncio.run(run(Model(provider, ReplyCache(tmp_path / "c"), budget={"calls": 75}))) == (100, "")
    assert len(provider.asked) == 100
    assert asyncio.run(run(Model(provider, ReplyCache(tmp_path / "c"), budget={"calls": 1}))) == (100, "")  # all cached


def test_a_full_disk_ends_the_run_with_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = ReplyCache._connect

    def small_disk(self: ReplyCache) -> Any:
        connection = connect(self)
        connection.execute("PRAGMA max_page_count=12")
        return connection

    monkeypatch.setattr(ReplyCache, "_connect", small_disk)
    model = Model(Counting("x" * 3000), ReplyCache(tmp_path / "c"))
    with pytest.raises(EngineError, match="disk is full"):
        asyncio.run(model.ask_all([say(i) for i in range(500)]))


SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}}, "required": ["score"]}


@pytest.mark.parametrize(
    ("text", "expected", "repaired"),
    [
        ('{"score": 4}', '{"score": 4}', False),
        ('Sure!\n```json\n{"score": 4}\n```', '{"score": 4}', True),
        ('{"score": 4', '{"score": 4}', True),
    ],
)
def test_a_schema_is_asked_in_words_where_it_cannot_be_held_to(
    text: str, expected: str, repaired: bool, tmp_path: Path
) -> None:
    provider = Counting(text)
    model = Model(provider, ReplyCache(tmp_path / "c"))
    assert "schema" in model.can
    for _ in range(2):  # the second from the cache: the same
        reply = asyncio.run(model.ask(say(1, schema=SCHEMA)))
        assert (reply.text, reply.repaired) == (expected, repaired)
    (sent,) = provider.asked
    assert sent.schema is None and '"required": ["score"]' in sent.messages[-1][1]


def test_words_are_in_the_prompts_language() -> None:
    provider = Counting("正面")
    reply = asyncio.run(
        Model(provider).ask(Request(messages=(("user", "这条评论是正面还是负面？"),), choices=("正面", "负面")))
    )
    assert reply.text == "正面" and not reply.repaired
    assert "只输出下列选项之一" in provider.asked[0].messages[-1][1]


@pytest.mark.parametrize("text", ["no json", '{"score": "high"}', "[]", ""])
def test_a_reply_of_the_wrong_form_is_an_error_for_its_row_and_paid_for_once(text: str, tmp_path: Path) -> None:
    provider = Counting(text or " ")
    model = Model(provider, ReplyCache(tmp_path / "c"))
    for _ in range(2):
        (result,) = asyncio.run(model.ask_all([say(1, schema=SCHEMA)]))
        assert isinstance(result, ProviderError) and result.kind == "protocol" and not result.retryable
    assert len(provider.asked) == 1 and model.stopped is None


def test_what_a_model_cannot_do_is_known_before_it_is_asked() -> None:
    class Base(Counting):
        can = frozenset({"complete"})

    provider = Base()
    model = Model(provider)
    model.capabilities(Request(prompt="Once"))
    for request, said in [
        (say(1), "cannot do 'chat'"),
        (Request(prompt="x", logprobs=True), "cannot do 'logprobs'"),
        (Request(prompt="x", schema=SCHEMA), "cannot do 'schema'"),
        (Request(), "either messages or a prompt"),
        (Request(prompt="x", messages=(("user", "y"),)), "either messages or a prompt"),
    ]:
        with pytest.raises(ProviderError, match=said) as caught:
            model.capabilities(request)
        assert caught.value.kind == "capability"
        with pytest.raises(ProviderError):
            asyncio.run(model.ask(request))
    with pytest.raises(ProviderError, match="cannot do 'score'"):
        asyncio.run(model.score(Request(prompt=""), "text"))
    assert provider.asked == []


def test_the_trace_has_a_line_per_call_in_the_conventions_names(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACE_KEY", "sk-verysecret0123456789")
    with Loopback(key="sk-verysecret0123456789") as server:
        spec = {
            "provider": "openai",
            "model": "m",
            "base_url": server.url,
            "key_env": "TRACE_KEY",
            "extra": {"fault": "500:1"},
        }
        for content in (False, True):
            model = open_model(
                spec | {"trace_content": content},
                cache=tmp_path / f"c{content}",
                trace=tmp_path / "run" / "events.jsonl",
            )
            asyncio.run(model.ask(say(f"{content} 你好", seed=4)))
            asyncio.run(model.close())
    raw = (tmp_path / "run" / "events.jsonl").read_text()
    events = [json.loads(line) for line in raw.splitlines()]
    assert [event.get("error.type") for event in events] == ["server", None, "server", None]
    assert [event["zhiling.attempt"] for event in events] == [0, 1, 0, 1]
    good = events[1]
    assert (
        good["gen_ai.provider.name"] == "openai"
        and good["gen_ai.request.model"] == "m"
        and good["gen_ai.operation.name"] == "chat"
    )
    assert (
        good["gen_ai.usage.input_tokens"] > 0
        and good["gen_ai.response.finish_reasons"] == ["stop"]
        and good["gen_ai.request.seed"] == 4
    )
    assert (
        "gen_ai.input.messages" not in good
        and events[3]["gen_ai.input.messages"][0]["parts"][0]["content"] == "question True 你好"
    )
    assert "verysecret" not in raw
    assert not any(b"verysecret" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_hostile_text_is_the_same_fresh_and_cached(tmp_path: Path) -> None:
    model = Model(Counting("a\ud800b\x00c\u2028é"), ReplyCache(tmp_path / "c"))
    fresh, cached = (asyncio.run(model.ask(say(1))) for _ in range(2))
    assert cached.cached and fresh.text == cached.text == "a?b\x00c\u2028é"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"provider": "opnai"}, "did you mean 'openai'"),
        ({"provider": "fake", "lanes": 0}, "lanes"),
        ({"provider": "fake", "retries": "many"}, "retries"),
        ({"provider": "fake", "budget": {"euros": 3}}, "budget"),
        ({"provider": "fake", "price": {"prompt": 1}}, "price"),
        ({"provider": "fake", "delay": 3}, "delay_ms"),
        ({"provider": "openai"}, "needs the key 'model'"),
        (
            {
                "provider": "openai",
                "model": "gpt-99",
                "base_url": "https://api.openai.com/v1",
                "key_env": "PATH_X",
                "budget": {"usd": 1},
            },
            "price",
        ),
    ],
)
def test_a_wrong_entry_is_named_with_its_place(
    spec: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH_X", "sk-1")
    with pytest.raises(RecipeError) as caught:
        open_model(spec, cache=None, where="models.judge")
    assert said in str(caught.value) and str(caught.value).startswith("models.judge")
