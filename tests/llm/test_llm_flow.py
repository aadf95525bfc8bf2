"""The flow between workers and their consumer ends, whatever the window."""

import asyncio

import pytest

from zhiling.llm import open_model
from zhiling.types import Request


@pytest.mark.parametrize("window", [1, 3, 24, 200, None])
@pytest.mark.parametrize("source", [iter, lambda items: _async(items)], ids=["iterable", "async"])
def test_a_window_smaller_than_the_lanes_still_comes_to_an_end(window, source):
    async def go() -> list[int]:
        async with open_model({"provider": "fake", "lanes": 64, "delay_ms": 1}, cache=None) as model:
            asked = source([Request(prompt=f"number {i}") for i in range(24)])
            return [index async for index, _ in model.map(asked, window=window)]

    assert sorted(asyncio.run(asyncio.wait_for(go(), 20))) == list(range(24))


async def _async(items):
    for item in items:
        yield item
