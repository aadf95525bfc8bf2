"""What is peculiar to known sellers is handled by one table, and what a model thought is not taken for what it answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from loopback import Loopback, compose

from zhiling import registry
from zhiling.llm import hosts
from zhiling.llm.hosts import HOSTS
from zhiling.llm.openai import OpenAI
from zhiling.types import Reply, Request, Usage

URLS = {
    "api.openai.com": "https://api.openai.com/v1",
    "api.deepseek.com": "https://api.deepseek.com",
    "dashscope.aliyuncs.com": "https://dashscope.aliyuncs.com/compatible-mode/v1",
    "open.bigmodel.cn": "https://open.bigmodel.cn/api/paas/v4",
    "api.moonshot.cn": "https://api.moonshot.cn/v1",
    "openrouter.ai": "https://openrouter.ai/api/v1",
}
FULL = Request(
    messages=(("user", "hello"),),
    max_tokens=9,
    temperature=0.0,
    top_p=0.9,
    seed=3,
    logprobs=True,
    schema={"type": "object"},
)


def body(monkeypatch: pytest.MonkeyPatch, host: str, model: str, **settings: Any) -> tuple[OpenAI, dict[str, Any]]:
    """The body that would be sent to a seller; nothing is."""
    monkeypatch.setenv(HOSTS[host].key, "sk-0123456789")
    plugin = registry.get("provider", "openai")
    provider = plugin.fn(**registry.settle(plugin, {"model": model, "base_url": URLS[host], **settings}))
    return provider, provider._body(FULL)


@pytest.mark.parametrize(
    ("host", "model", "there", "absent"),
    [
        ("api.openai.com", "gpt-4o-mini", {"max_completion_tokens": 9, "temperature": 0.0, "seed": 3}, {"max_tokens"}),
        ("api.openai.com", "o3-mini", {"max_completion_tokens": 9}, {"temperature", "top_p", "logprobs", "max_tokens"}),
        ("api.deepseek.com", "deepseek-chat", {"max_tokens": 9, "logprobs": True}, {"seed", "response_format"}),
        ("api.deepseek.com", "deepseek-reasoner", {"max_tokens": 9}, {"temperature", "logprobs", "top_logprobs"}),
        ("dashscope.aliyuncs.com", "qwen-plus", {"max_tokens": 9, "seed": 3}, {"response_format"}),
        ("open.bigmodel.cn", "glm-4-plus", {"do_sample": False}, {"temperature", "seed", "response_format"}),
        ("api.moonshot.cn", "kimi-k2.6", {"max_completion_tokens": 9}, {"temperature", "top_p", "seed", "max_tokens"}),
        ("api.moonshot.cn", "moonshot-v1-8k", {"temperature": 0.0, "top_p": 0.9}, {"seed"}),
        ("openrouter.ai", "meta/llama", {"max_tokens": 9, "seed": 3, "logprobs": True}, set()),
    ],
)
def test_a_seller_is_sent_what_it_takes(
    host: str, model: str, there: dict[str, Any], absent: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sent = body(monkeypatch, host, model)
    assert there.items() <= sent.items() and not absent & sent.keys()


def test_a_recipe_may_know_better(monkeypatch: pytest.MonkeyPatch) -> None:
    provider, sent = body(
        monkeypatch, "dashscope.aliyuncs.com", "qwen-new", without=[], extra={"enable_thinking": False}
    )
    assert sent["response_format"]["type"] == "json_schema" and sent["enable_thinking"] is False
    assert "schema" in provider.can


def test_a_peculiar_host_answers_through_the_same_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table at work on the wire: the loopback server in the place of a seller."""
    seller = hosts.Host("X", frozenset({"seed"}), limit="max_completion_tokens", greedy={"do_sample": False})
    monkeypatch.setitem(hosts.HOSTS, "127.0.0.1", seller)  # type: ignore[arg-type]
    with Loopback() as server:
        server.bodies = []
        assert ask(server, Request(messages=(("user", "hello"),), max_tokens=5, seed=1)).text
        (sent,) = server.bodies
    assert (sent["max_completion_tokens"], sent["do_sample"]) == (5, False) and not {
        "seed",
        "temperature",
    } & sent.keys()


def ask(server: Loopback, request: Request) -> Reply:
    plugin = registry.get("provider", "openai")
    provider = plugin.fn(**registry.settle(plugin, {"model": "m", "base_url": server.url}))

    async def main() -> Reply:
        try:
            return await provider.reply(request)  # type: ignore[no-any-return]
        finally:
            await provider.close()

    return asyncio.run(main())


@pytest.mark.parametrize("prompt", ["Say hello.", "请向大家问好。"])
@pytest.mark.parametrize(
    ("shape", "tokens"),
    [("reasoning_content", 30), ("reasoning", 30), ("apart", 50), ("think", 30), ("opened", 30), ("swallowed", 30), ("parts", 30)],
)  # fmt: skip
def test_the_answer_is_found_without_the_thoughts_and_thinking_is_counted(shape: str, tokens: int, prompt: str) -> None:
    with Loopback() as server:
        server.shape = shape
        reply = ask(server, Request(messages=(("user", prompt),)))
    assert reply.text == compose(prompt) and reply.finish == "stop"
    assert reply.usage == Usage(10, tokens)


def test_a_thought_that_was_cut_off_is_no_answer() -> None:
    with Loopback() as server:
        server.shape = "unfinished"
        reply = ask(server, Request(messages=(("user", "Say hello."),)))
    assert (reply.text, reply.finish) == ("", "length")


def test_marks_in_an_answer_are_not_taken_for_a_thought() -> None:
    from zhiling.llm.openai import read_answer

    text = "Write <think> before and </think> after what you think."
    answer = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    assert read_answer(answer, "m", True, 0.0).text == text
