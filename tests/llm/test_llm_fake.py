"""The scripted model: the same request, the same answer and the same fault, in every process."""

from __future__ import annotations

import asyncio
import collections
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiling import registry
from zhiling.errors import ProviderError, RecipeError
from zhiling.llm import Model, Provider, wrap
from zhiling.llm.fake import PASSING, Fake
from zhiling.types import Reply, Request


def make(**settings: Any) -> Fake:
    plugin = registry.get("provider", "fake")
    provider = plugin.fn(**registry.settle(plugin, settings))
    assert isinstance(provider, Fake)
    return provider


def say(text: str, **parameters: Any) -> Request:
    return Request(messages=(("user", text),), **parameters)


def reply(provider: Fake, request: Request) -> Reply:
    return asyncio.run(provider.reply(request))


def test_the_three_kinds_of_script() -> None:
    assert isinstance(make(), Provider)
    assert reply(make(), say("你好")).text == "你好"
    assert reply(make(), Request(prompt="Once")).text == "Once"
    lines = make(script=["a", "b", "c"])
    texts = [reply(lines, say(str(i))).text for i in range(60)]
    assert set(texts) == {"a", "b", "c"} and texts == [reply(lines, say(str(i))).text for i in range(60)]
    table = make(script={r"(\d+) \+ (\d+)": r"the sum of \1 and \2", "翻译": "Bonjour"})
    assert reply(table, say("what is 2 + 3?")).text == "the sum of 2 and 3"
    assert reply(table, say("请翻译")).text == "Bonjour" and reply(table, say("else")).text == ""


def test_faults_come_at_their_rate_and_repeat_themselves() -> None:
    def outcomes() -> list[str]:
        provider, found = make(fail={"rate": 0.2, "refused": 0.1, "empty": 0.1}), []
        for i in range(600):
            try:
                found.append("ok" if reply(provider, say(f"q{i}")).text else "empty")
            except ProviderError as error:
                found.append(error.kind)
        return found

    first = outcomes()
    assert first == outcomes()
    counts = collections.Counter(first)
    assert 80 <= counts["rate"] <= 160 and 30 <= counts["refused"] <= 90 and 30 <= counts["empty"] <= 90


def test_faults_that_pass_do_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrap, "BACKOFF", 0.001)
    requests = [say(f"q{i}") for i in range(300)]
    passing = Model(make(fail={"rate": 0.1, "server": 0.1, "timeout": 0.1}), retries=20)
    assert all(isinstance(r, Reply) for r in asyncio.run(passing.ask_all(requests)))
    lasting = Model(make(fail={"refused": 0.3}), retries=20)
    runs = [[isinstance(r, Reply) for r in asyncio.run(lasting.ask_all(requests))] for _ in range(2)]
    assert runs[0] == runs[1] and 50 <= runs[0].count(False) <= 140 and lasting.spent.retries == 0


@given(st.sampled_from(["rate", "timeout", "network", "server", "protocol", "auth", "model", "quota", "refused"]))
def test_a_fault_raises_its_kind(kind: Any) -> None:
    with pytest.raises(ProviderError) as caught:
        reply(make(fail={kind: 1.0}, retry_after=3), say("x"))
    assert caught.value.kind == kind and caught.value.retryable == (kind in PASSING)
    assert caught.value.retry_after == (3 if kind == "rate" else None)


def test_bad_replies_are_replies() -> None:
    assert reply(make(fail={"length": 1}), say("four")).finish == "length"
    assert reply(make(fail={"filter": 1}), say("four")).finish == "filter"
    assert reply(make(fail={"garbage": 1}), say('{"a": 1}')).text == '{]}1 :"a"{'


@pytest.mark.parametrize(
    "settings",
    [{"fail": {"rate": 0.7, "server": 0.7}}, {"fail": {"explosion": 1}}, {"script": {"(": "x"}}, {"delay_ms": -1}],
)
def test_a_wrong_script_is_the_recipes_fault(settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        make(**settings)


def test_answers_do_not_depend_on_the_process() -> None:
    code = """
import asyncio
from zhiling.llm.fake import fake
from zhiling.types import Request
print(asyncio.run(fake(script=["a", "b", "c", "d"]).reply(Request(messages=(("user", "x"),)))).text)
"""
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    }
    assert runs == {reply(make(script=["a", "b", "c", "d"]), say("x")).text + "\n"}
