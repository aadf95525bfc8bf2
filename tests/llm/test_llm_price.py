"""Prices: known, given or unknown, and never an invented zero."""

from __future__ import annotations

import pytest

from zhiling.errors import RecipeError
from zhiling.llm.price import FREE, Price, find, given, prompt_tokens
from zhiling.types import Request, Usage

OPENAI = "@https://api.openai.com/v1"


def test_a_known_model_costs_what_the_table_says() -> None:
    price = find("openai", "gpt-4o-mini" + OPENAI)
    assert price is not None
    assert (price.prompt, price.completion) == (0.15, 0.60)
    assert price.source and price.date.startswith("20")
    assert price.usd(Usage(1_000_000, 500_000)) == pytest.approx(0.45)
    assert find("openai", "gpt-4o-mini-2024-07-18" + OPENAI) == price
    assert find("openai", "gpt-4o-mini" + OPENAI + "#1a2b3c4d") == price


@pytest.mark.parametrize(
    "identity", ["gpt-99" + OPENAI, "gpt-4o@https://reseller.example/v1", "gpt-4o@https://10.0.0.5/v1", "some-model"]
)
def test_an_unknown_price_is_none(identity: str) -> None:
    assert find("openai", identity) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/v1", "http://localhost:11434/v1", "http://[::1]:8000/v1"])
def test_this_machine_is_free(url: str) -> None:
    assert find("openai", f"qwen@{url}") is FREE
    assert find("gguf", "x#1") is FREE


def test_uncounted_tokens_have_no_price_unless_they_are_free() -> None:
    assert Price(1, 1).usd(Usage(None, 3)) is None
    assert FREE.usd(Usage(None, None)) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"prompt": 1},
        {"prompt": "x", "completion": 1},
        {"prompt": -1, "completion": 1},
        {"prompt": 1, "completion": 1, "x": 1},
    ],
)
def test_a_given_price_must_be_two_numbers(wrong: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=r"models\.judge\.price"):
        given(wrong, "models.judge.price")


def test_the_prompts_estimate_is_cautious_in_both_languages() -> None:
    english = Request(messages=(("user", "Translate the following sentence into French, please."),))
    chinese = Request(messages=(("user", "请把下面的句子翻译成法语。"),))
    assert 10 <= prompt_tokens(english) <= 40  # 10 tokens by GPT-4o's tokenizer
    assert 13 <= prompt_tokens(chinese) <= 40
    assert prompt_tokens(Request(prompt="\ud800")) > 0
