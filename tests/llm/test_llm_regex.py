"""Replies held to a regular expression: while decoding where the backend can, asked for in words and checked elsewhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from loopback import Loopback

from zhiling.errors import ProviderError, RecipeError
from zhiling.llm import Model, open_model
from zhiling.llm.pattern import compiled
from zhiling.types import Reply, Request


def answering(text: str) -> Model:
    return open_model({"provider": "fake", "script": {".*": text}}, cache=None)


@pytest.mark.parametrize(
    ("question", "said"), [("When?", "Answer with a text that matches"), ("什么时候？", "只输出一段完全匹配")]
)
def test_a_regex_is_asked_for_in_the_questions_language(question: str, said: str) -> None:
    echo = open_model({"provider": "fake"}, cache=None)
    request = Request(messages=(("user", question),), regex=r"[\s\S]*")
    reply = asyncio.run(echo.ask(request))
    assert reply.text.startswith(question) and said in reply.text and r"[\s\S]*" in reply.text and not reply.repaired


def test_a_reply_is_held_to_its_regex_and_marked_when_repaired(tmp_path: Path) -> None:
    request = Request(messages=(("user", "When?"),), regex=r"\d{4}-\d{2}-\d{2}")
    plain = asyncio.run(answering("2024-05-01").ask(request))
    mended = asyncio.run(answering("On 2024-05-01, I think.").ask(request))
    assert (plain.text, plain.repaired) == ("2024-05-01", False)
    assert (mended.text, mended.repaired) == ("2024-05-01", True)
    model = open_model({"provider": "fake", "script": {".*": "yesterday"}}, cache=tmp_path / "c")
    for _ in range(2):  # from the model, and from the cache
        with pytest.raises(ProviderError, match=r"does not match.*yesterday") as caught:
            asyncio.run(model.ask(request))
        assert caught.value.kind == "protocol"
    assert model.spent.calls == 1


def test_wrong_regexes_are_said_before_the_model_is_asked() -> None:
    model = answering("x")
    for request, said in (
        (Request(messages=(("user", "x"),), regex="("), "is not closed"),
        (Request(messages=(("user", "x"),), regex="a", choices=("a",)), "not to several"),
    ):
        with pytest.raises(RecipeError, match=said):
            model.capabilities(request)
        with pytest.raises(RecipeError, match=said):
            asyncio.run(model.ask_all([request]))
    with pytest.raises(ProviderError, match="cannot do 'regex'"):
        model.capabilities(Request(prompt="x", regex="a"))
    assert model.spent.calls == 0


@pytest.mark.parametrize(
    ("setting", "sent"),
    [
        ("structured_outputs", {"structured_outputs": {"regex": "a+"}}),
        ("guided_regex", {"guided_regex": "a+"}),
        ("grammar", {"grammar": compiled("a+").grammar()}),
        (None, {}),
    ],
)
def test_an_endpoint_is_told_as_the_recipe_says(setting: str | None, sent: dict[str, Any]) -> None:
    extra = {"regex_as": setting} if setting else {}
    request = Request(messages=(("user", "hello"),), regex="a+")
    with Loopback() as server:
        server.bodies = []
        model = open_model({"provider": "openai", "model": "m", "base_url": server.url, **extra}, cache=None)
        with pytest.raises(ProviderError, match="does not match"):  # this server heeds none of them, and is found out
            asyncio.run(model.ask(request))
        (body,) = server.bodies
    assert {key: body[key] for key in ("structured_outputs", "guided_regex", "grammar") if key in body} == sent
    assert ("regular expression" in json.dumps(body["messages"])) == (setting is None)


@pytest.mark.model
def test_gguf_decodes_within_a_regex_in_chinese_and_english() -> None:
    pytest.importorskip("xllamacpp")
    patterns = [
        r"\d{4}-\d{2}-\d{2}",
        "(positive|negative)!?",
        "[一-鿿]{2,4}。",
        r"(\w+ ){2}\w+\.",
        "(a+)+b",
        r'\{"k": \d+\}',
    ]

    async def main() -> Sequence[Reply | ProviderError]:
        async with open_model({"provider": "gguf", "parallel": 4, "context": 256, "threads": 1}, cache=None) as model:
            assert "score" not in model.can
            return await model.ask_all(
                Request(messages=(("user", "Say anything."),), regex=one, max_tokens=40, temperature=0.7, seed=1)
                for one in patterns
            )

    replies = asyncio.run(main())
    good = [reply for reply in replies if isinstance(reply, Reply)]
    assert all(not reply.repaired for reply in good)
    assert len(good) >= 5, replies  # one without end may run into max_tokens
