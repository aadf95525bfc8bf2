"""An endpoint's limit is found and kept to: places filled and refusals made, counted at the server that has the limit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from loopback import Loopback

from zhiling.errors import ProviderError
from zhiling.llm import Model, open_model
from zhiling.types import Reply, Request


def run(server: Loopback, calls: int, **model: Any) -> tuple[Model, list[Reply | ProviderError]]:
    spec = {"provider": "openai", "model": "m", "base_url": server.url, **model}
    asked = open_model(spec, cache=None)

    async def main() -> list[Reply | ProviderError]:
        async with asked:
            return await asked.ask_all(Request(messages=(("user", f"question {i}"),)) for i in range(calls))

    return asked, asyncio.run(main())


@pytest.mark.parametrize("most", [2, 4, 12])
def test_an_endpoint_with_few_places_is_kept_full_and_seldom_refuses(most: int) -> None:
    """64 lanes, of which the endpoint takes 2, 4 or 12 at once: no row is lost to refusals, and its places are mostly taken."""
    calls = 40 * most
    with Loopback(delay_ms=20, most=most) as server:
        model, replies = run(server, calls)
    assert all(isinstance(reply, Reply) for reply in replies) and server.busiest == most
    half = server.room[calls // 2 :]  # once the limit is found: many rounds of calls fill the last place
    assert half.count(most) > 0.3 * len(half) / most, (half, model._lanes.limit)
    assert model._lanes.limit < 32


def test_an_endpoint_with_so_many_calls_a_minute_loses_no_row() -> None:
    """Every window is used up, and each refusal waits for what Retry-After says: few refusals per window, no row given up."""
    rate, windows = 60, 4
    with Loopback(rpm=rate, minute=0.8) as server:
        model, replies = run(server, rate * windows)
    assert all(isinstance(reply, Reply) for reply in replies) and model.spent.failed == 0
    assert len(server.done) == rate * windows and server.refused <= 2 * 64 * windows


def test_a_pace_that_the_recipe_knows_is_kept_without_a_refusal() -> None:
    with Loopback(rpm=80, minute=1.0) as server:  # so many a second; the recipe's pace is 10 a second and a burst of 50
        model, replies = run(server, 65, rpm=600, lanes=8)
    assert all(isinstance(reply, Reply) for reply in replies)
    assert server.refused == 0 == model.spent.retries


def test_tokens_a_minute_hold_back_what_is_long() -> None:
    with Loopback() as server:
        model, replies = run(server, 30, tpm=200_000, lanes=8)
    assert all(isinstance(reply, Reply) for reply in replies) and model._paced
    assert model._lanes._tokens._interval == pytest.approx(60 / 200_000)


def test_refusals_use_up_no_tries_while_others_are_answered() -> None:
    with Loopback(delay_ms=2, most=1) as server:
        model, replies = run(server, 100, lanes=32, retries=3)
    assert all(isinstance(reply, Reply) for reply in replies) and server.busiest == 1
    assert model.spent.retries == server.refused > 32


def test_a_tenth_of_stray_refusals_leaves_the_lanes_open() -> None:
    with Loopback(delay_ms=10, faults={"429": 0.1}) as server:
        model, replies = run(server, 800, lanes=32)
    assert all(isinstance(reply, Reply) for reply in replies) and max(server.done.values()) == 1
    assert model._lanes.limit > 16


def test_calls_that_hang_hold_up_nobody_else_and_end_at_their_own_deadline() -> None:
    order: list[int] = []
    with Loopback(faults={"hang": 0.02}) as server:
        asked = open_model(
            {"provider": "openai", "model": "m", "base_url": server.url, "lanes": 8, "timeout": 1.0, "retries": 9},
            cache=None,
        )

        async def main() -> None:
            async with asked:
                async for index, reply in asked.map(Request(messages=(("user", f"q {i}"),)) for i in range(200)):
                    assert isinstance(reply, Reply)
                    order.append(index)

        asyncio.run(main())
    late = asked.spent.retries
    assert 1 <= late <= 20 and sorted(order) == list(range(200))
    assert (
        sum(index > at for at, index in enumerate(order)) > 20
    )  # later questions were answered before the hanging ones


def test_connections_are_few_and_kept() -> None:
    with Loopback(delay_ms=2) as server:
        run(server, 300, lanes=6)
        assert len(server.peers) <= 6
