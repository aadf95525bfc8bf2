"""The client of OpenAI's protocol against a server that misbehaves on demand: one clear error each, and never a key."""

from __future__ import annotations

import asyncio
import json
import pickle
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from loopback import Loopback

from zhiling import registry
from zhiling.errors import ProviderError, RecipeError
from zhiling.llm import faults
from zhiling.llm.openai import OpenAI
from zhiling.types import Reply, Request

HELLO = Request(messages=(("user", "hello"),), max_tokens=16)
KEY = "sk-verysecret0123456789"


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    with Loopback() as running:
        yield running


def make(**settings: Any) -> OpenAI:
    plugin = registry.get("provider", "openai")
    provider = plugin.fn(**registry.settle(plugin, {"model": "m", **settings}))
    assert isinstance(provider, OpenAI)
    return provider


def ask(provider: OpenAI, *requests: Request) -> list[Reply]:
    async def main() -> list[Reply]:
        try:
            return [await provider.reply(request) for request in requests or (HELLO,)]
        finally:
            await provider.close()

    return asyncio.run(main())


def test_chat_and_completion(server: Loopback) -> None:
    chat, complete = ask(make(base_url=server.url), HELLO, Request(prompt="hello", max_tokens=16, logprobs=True))
    assert chat.text and chat.finish == "stop" and chat.model == "m"
    assert chat.usage.prompt == 2 and chat.usage.completion is not None and chat.seconds > 0 and chat.usd is None
    assert complete.text and [token for token, _ in complete.logprobs] == complete.text.split(" ")


def test_the_body_is_the_protocols(server: Loopback) -> None:
    server.bodies = []
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    full = Request(
        messages=(("system", "s"), ("user", "你好")),
        max_tokens=7,
        temperature=0.5,
        top_p=0.9,
        stop=("\n",),
        seed=3,
        schema=schema,
        logprobs=True,
    )
    chat, _ = ask(
        make(base_url=server.url, extra={"top_k": 5, "temperature": None}), full, Request(prompt="p", logprobs=True)
    )
    assert json.loads(chat.text).keys() == {"a"} and chat.logprobs
    one, two = server.bodies
    server.bodies = None
    assert one == {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "你好"}],
        "max_tokens": 7,
        "top_p": 0.9,
        "stop": ["\n"],
        "seed": 3,
        "logprobs": True,
        "top_logprobs": 1,
        "top_k": 5,
        "response_format": {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}},
    }
    assert two == {"model": "m", "prompt": "p", "max_tokens": 256, "logprobs": 1, "top_k": 5}


def test_what_the_endpoint_lacks_is_not_sent(server: Loopback) -> None:
    server.bodies = []
    provider = make(base_url=server.url, without=["seed", "schema"])
    assert provider.can == {"chat", "complete", "logprobs"}
    ask(provider, Request(messages=(("user", "x"),), seed=1))
    assert "seed" not in server.bodies[0]
    server.bodies = None


def test_the_identity_tells_endpoints_and_parameters_apart() -> None:
    url = "http://127.0.0.1:1/v1"
    plain = make(base_url=url)
    assert plain.model == f"m@{url}" == make(base_url=url + "/").model
    assert make(base_url=url, extra={"top_k": 1}).model not in (
        plain.model,
        make(base_url=url, extra={"top_k": 2}).model,
    )


FAULTS = [
    ("429", "rate", True, "too many requests"),
    ("429-after", "rate", True, "too many requests"),
    ("429-long", "quota", False, "asks to wait 86400 s"),
    ("quota", "quota", False, "quota is used up"),
    ("500", "server", True, "status 500"),
    ("503", "server", True, "status 503"),
    ("html502", "server", True, "status 502 (502 Bad Gateway)"),
    ("400", "refused", False, "status 400"),
    ("blocked", "refused", False, "content filter"),
    ("401", "auth", False, "refused the key"),
    ("404", "model", False, "no model 'm'"),
    ("redirect", "protocol", False, "https://elsewhere.example/v1"),
    ("html", "protocol", False, "a web page came back instead of an answer: Sign in to the network"),
    ("noise", "protocol", True, "does not speak HTTP"),
    ("truncated", "protocol", True, "not JSON"),
    ("garbage", "protocol", True, "not JSON"),
    ("empty", "protocol", True, "no choice"),
    ("reset", "network", True, "broke off"),
    ("cut", "network", True, "broke off"),
    ("hang", "timeout", True, "no answer within 0.3 s"),
    ("drip", "timeout", True, "no answer within 0.3 s"),
]


@pytest.mark.parametrize(("fault", "kind", "retryable", "said"), FAULTS)
def test_each_fault_is_one_clear_error(server: Loopback, fault: str, kind: str, retryable: bool, said: str) -> None:
    with pytest.raises(ProviderError) as caught:
        ask(make(base_url=server.url, timeout=0.3, extra={"fault": fault}))
    error = caught.value
    assert (error.kind, error.retryable) == (kind, retryable)
    assert said in str(error) and str(error).startswith("openai:m: ") and "\n" not in str(error)
    assert error.retry_after == {"429-after": 1.0, "429-long": 86400.0}.get(fault)


@pytest.mark.parametrize(
    ("fault", "text", "finish"), [("length", True, "length"), ("filter", True, "filter"), ("null", False, "stop")]
)
def test_odd_but_valid_answers_are_replies(server: Loopback, fault: str, text: bool, finish: str) -> None:
    (reply,) = ask(make(base_url=server.url, extra={"fault": fault}))
    assert bool(reply.text) == text and reply.finish == finish


def test_nobody_there_and_no_such_host() -> None:
    with pytest.raises(ProviderError, match="cannot connect") as refused:
        ask(make(base_url="http://127.0.0.1:9/v1"))
    with pytest.raises(ProviderError, match="no such host") as unknown:
        ask(make(base_url="http://no-such-host.invalid/v1", key_env=""))
    assert {(e.value.kind, e.value.retryable) for e in (refused, unknown)} == {("network", True)}


def test_errors_speak_chinese(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHILING_LANG", "zh")
    with pytest.raises(ProviderError, match="该接口没有模型“m”"):
        ask(make(base_url=server.url, extra={"fault": "404"}))


def test_a_key_is_needed_elsewhere_but_not_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "DEEPSEEK_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    make(base_url="http://localhost:11434/v1")
    with pytest.raises(ProviderError, match=r"OPENAI_API_KEY is empty — run: export OPENAI_API_KEY=") as caught:
        make()
    assert caught.value.kind == "auth"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ProviderError, match="DEEPSEEK_API_KEY"):  # one seller's key is not sent to another
        make(base_url="https://api.deepseek.com/v1")
    with pytest.raises(ProviderError, match="characters that no key has"):
        monkeypatch.setenv("OPENAI_API_KEY", "sk-12\n34")
        make()


@pytest.mark.parametrize(
    "url", ["api.openai.com/v1", "ftp://x/v1", "https://user:pass@host/v1", "https://host/v1?api-key=abc", ""]
)
def test_a_wrong_address_is_the_recipes_fault(url: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make(base_url=url)
    assert caught.value.where == "base_url" and "abc" not in caught.value.what


def test_the_key_is_sent_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with Loopback(key=KEY) as server:
        provider = make(base_url=server.url, key_env="MY_KEY")
        assert ask(provider)[0].text
        shown = [repr(provider), repr(vars(provider)), provider.model]
        with pytest.raises(TypeError):
            pickle.dumps(provider)
        for fault in ("401", "echo-key", "noise", "reset", "html", "hang"):
            with pytest.raises(ProviderError) as caught:
                ask(make(base_url=server.url, key_env="MY_KEY", timeout=0.3, extra={"fault": fault}))
            shown += [repr(caught.value), str(vars(caught.value)), "".join(traceback.format_exception(caught.value))]
            assert caught.value.__cause__ is None  # aiohttp's exceptions may carry the headers
        monkeypatch.setenv("MY_KEY", "sk-wrong0123456789abc")
        with pytest.raises(ProviderError, match="MY_KEY") as caught:
            ask(make(base_url=server.url, key_env="MY_KEY"))
        shown.append(str(caught.value))
    assert not any("verysecret" in text or "sk-wrong" in text for text in shown)


def test_connections_are_kept_and_closed_with_the_loop(server: Loopback) -> None:
    provider = make(base_url=server.url, lanes=4)

    async def main(close: bool) -> int:
        replies = await asyncio.gather(*(provider.reply(Request(messages=(("user", str(i)),))) for i in range(40)))
        assert all(reply.text for reply in replies) and provider._session is not None
        connections = sum(len(group) for group in provider._session.connector._conns.values())  # type: ignore[union-attr]
        if close:
            await provider.close()
        return connections

    assert asyncio.run(main(close=False)) <= 4  # 40 calls over at most 4 connections
    first = provider._session
    assert first is not None and first.closed  # asyncio.run closed it, though nobody asked
    assert asyncio.run(main(close=True)) <= 4
    assert provider._session is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "2.5"}, 2.5),
        ({"Retry-After-Ms": "250", "Retry-After": "9"}, 0.25),
        ({"Retry-After": "soon"}, None),
        ({}, None),
        ({"Retry-After": "-3"}, 0.0),
    ],
)
def test_retry_after_in_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert faults.retry_after(headers) == seconds


def test_retry_after_as_a_date() -> None:
    import email.utils
    import time

    after = faults.retry_after({"Retry-After": email.utils.formatdate(time.time() + 30, usegmt=True)})
    assert after is not None and 25 <= after <= 31


def test_a_server_that_asks_to_wait_for_a_day_is_looked_at_again_before() -> None:
    origin = faults.Origin("openai:m", "m", "K", 1.0)
    for asked, waited in (("86400", faults.LONGEST_WAIT), ("inf", faults.LONGEST_WAIT), ("5", 5.0)):
        error = faults.of_status(503, {"Retry-After": asked}, b"", origin)
        assert (error.kind, error.retryable, error.retry_after) == ("server", True, waited)


@pytest.mark.parametrize(("status", "again"), [(407, False), (502, True)])
def test_a_proxy_that_refuses_is_named_and_its_password_is_not(
    status: int, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async def main() -> None:
        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
            port = proxy.sockets[0].getsockname()[1]
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret-word@127.0.0.1:{port}")
            monkeypatch.setenv("OPENAI_API_KEY", KEY)
            provider = make(base_url="https://endpoint.example/v1")
            for lang, said in (("en", "proxy on the way refused"), ("zh", "代理拒绝了连接")):
                monkeypatch.setenv("ZHILING_LANG", lang)
                with pytest.raises(ProviderError, match=f"{said}.*{status}") as caught:
                    await provider.reply(HELLO)
                shown = "".join(traceback.format_exception(caught.value))
                assert "secret-word" not in shown and KEY not in shown
                assert (caught.value.kind, caught.value.retryable) == ("network", again)
            await provider.close()

    asyncio.run(main())
