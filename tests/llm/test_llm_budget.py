"""The budget is a hard stop: however calls overlap, none is made that could pass it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling.errors import ProviderError, RecipeError
from zhiling.llm.budget import Budget, Spent
from zhiling.llm.price import Price
from zhiling.types import Reply, Request, Usage

PRICE = Price(1.0, 2.0)
REQUEST = Request(messages=(("user", "x" * 300),), max_tokens=100)


async def spend(budget: Budget, calls: int, seed: int) -> tuple[float, int, int]:
    """Callers that overlap, fail and break off at random; what was really billed in dollars, tokens and attempts."""
    dice = random.Random(seed)
    usd, tokens, attempts = 0.0, 0, 0

    async def call() -> None:
        nonlocal usd, tokens, attempts
        hold = await budget.reserve(REQUEST)
        attempts += 1
        await asyncio.sleep(0)
        luck = dice.random()
        used = Usage(dice.randint(50, 110), dice.randint(0, 100))
        cost = PRICE.usd(used)
        if luck < 0.2:
            budget.settle(hold, None, billed=False)
            return
        assert cost is not None and used.prompt is not None and used.completion is not None
        usd, tokens = usd + cost, tokens + used.prompt + used.completion
        budget.settle(hold, Reply("x", usage=used, usd=cost) if luck < 0.8 else None, billed=True)

    outcomes = await asyncio.gather(*(call() for _ in range(calls)), return_exceptions=True)
    assert all(
        outcome is None or (isinstance(outcome, ProviderError) and outcome.kind == "budget") for outcome in outcomes
    )
    return usd, tokens, attempts


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.floats(0.0005, 0.02), st.integers(1, 60), st.integers(300, 9000))
def test_no_limit_is_ever_passed(seed: int, usd: float, calls: int, tokens: int) -> None:
    for limits in ({"usd": usd}, {"calls": calls}, {"tokens": tokens}, {"usd": usd, "calls": calls, "tokens": tokens}):
        spent = asyncio.run(spend(Budget(limits, PRICE), 80, seed))
        for name, value in zip(("usd", "tokens", "calls"), spent, strict=True):
            assert value <= limits.get(name, float("inf")) * (1 + 1e-9)


def test_the_limit_is_used_rather_than_feared() -> None:
    """Callers wait for what those under way give back, so that the budget is not refused while most of it is only reserved."""

    async def main() -> int:
        budget = Budget({"tokens": 2000}, None)

        async def call() -> bool:
            try:
                hold = await budget.reserve(REQUEST)  # reserves 212
            except ProviderError:
                return False
            await asyncio.sleep(0)
            budget.settle(hold, Reply("x", usage=Usage(50, 10)), billed=True)
            return True

        return sum(await asyncio.gather(*(call() for _ in range(100))))

    assert asyncio.run(main()) >= 29  # (2000 - 212) / 60, against 9 if reservations were never given back


def test_a_refusal_says_what_was_spent_and_what_to_do() -> None:
    async def main() -> None:
        budget = Budget({"calls": 1}, None)
        budget.settle(await budget.reserve(REQUEST), Reply("x"), billed=True)
        await budget.reserve(REQUEST)

    with pytest.raises(ProviderError, match=r"budget of 1 calls is used up \(1 spent\) — raise the budget") as caught:
        asyncio.run(main())
    assert caught.value.kind == "budget" and not caught.value.retryable


@pytest.mark.parametrize("wrong", [{"dollars": 3}, {"usd": 0}, {"calls": -1}, {"tokens": "many"}, {"calls": True}])
def test_a_budget_must_make_sense(wrong: Mapping[str, object]) -> None:
    with pytest.raises(RecipeError, match="models.m.budget"):
        Budget(wrong, PRICE, "models.m.budget")


def test_dollars_need_a_known_price() -> None:
    with pytest.raises(RecipeError, match="not known"):
        Budget({"usd": 1}, None)


def test_an_unknown_cost_makes_the_sum_unknown_not_zero() -> None:
    spent = Spent()
    spent.answered(Reply("a", usage=Usage(1, 2), usd=0.5))
    assert spent.usd == 0.5
    spent.answered(Reply("b", usage=Usage(None, None), usd=None))
    spent.answered(Reply("c", usage=Usage(1, 1), usd=0.5))
    assert spent.usd is None and spent.calls == 3 and spent.prompt_tokens == 2
