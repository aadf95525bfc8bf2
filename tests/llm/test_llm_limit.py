"""The lanes find an endpoint's limit and shrug off stray refusals; the breaker pauses, says so and gives up once."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling.errors import ProviderError
from zhiling.llm import limit
from zhiling.llm.limit import Breaker, Lanes


def error(kind: str = "network", retryable: bool = True) -> ProviderError:
    return ProviderError("cannot connect", kind=kind, retryable=retryable)


@given(st.integers(0, 2**32), st.sampled_from([8, 16, 64]))
def test_a_tenth_of_random_refusals_leaves_most_lanes_open(seed: int, most: int) -> None:
    lanes, dice, low = Lanes(most), random.Random(seed), float(most)
    for _ in range(3000):
        lanes.refused(None, lanes._cuts) if dice.random() < 0.1 else lanes.answered()
        low = min(low, lanes.limit)
    assert low >= most * 0.4 and lanes.limit >= most * 0.6


def test_many_refusals_cut_the_lanes_and_answers_open_them_again() -> None:
    lanes = Lanes(64)
    for _ in range(200):
        lanes.refused(None, lanes._cuts)
    assert lanes.limit < 10
    for _ in range(5000):
        lanes.answered()
    assert lanes.limit == 64


def test_refusals_of_what_was_sent_before_a_cut_do_not_cut_again() -> None:
    lanes = Lanes(64)
    for _ in range(60):  # a burst that went out together
        lanes.refused(None, 0)
    assert lanes.limit == pytest.approx(64 * limit.CUT) and lanes._gate == 0.0


def test_everyone_waits_as_long_as_retry_after_says_or_ever_longer_when_one_lane_is_too_many() -> None:
    def gate(lanes: Lanes, after: float | None) -> float:
        before = lanes._cuts
        while lanes._cuts == before:
            lanes.refused(after, before)
        return lanes._gate - time.monotonic()

    assert gate(Lanes(64), 7.0) == pytest.approx(7.0, abs=0.5)
    one = Lanes(1)
    assert [gate(one, None) for _ in range(4)] == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=0.05)
    for _ in range(limit.WINDOW):
        one.answered()
    one._gate = 0.0
    assert gate(one, None) == pytest.approx(0.1, abs=0.05)


def test_an_endpoint_with_eight_places_is_found() -> None:
    """An endpoint that refuses whatever exceeds 8 at once: the limit settles near 8, and most calls are then answered."""
    lanes = Lanes(64)
    answered = refused = 0
    for round_ in range(400):
        under_way, sent = int(lanes.limit), lanes._cuts
        for i in range(under_way):
            lanes.answered() if i < 8 else lanes.refused(None, sent)
            if round_ >= 100:
                answered, refused = answered + (i < 8), refused + (i >= 8)
    assert 7 <= lanes.limit <= 16
    assert refused < answered / 2


def test_what_was_found_out_outlives_the_event_loop() -> None:
    lanes = Lanes(64)
    for _ in range(100):
        lanes.refused(None, lanes._cuts)
    found = lanes.limit
    lanes.reset()
    assert lanes.limit == found < 64


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.lists(st.booleans(), min_size=1, max_size=40))
def test_never_more_than_the_limit_under_way_even_when_callers_are_cancelled(most: int, cancels: list[bool]) -> None:
    lanes = Lanes(most)
    busy = busiest = 0

    async def call() -> None:
        nonlocal busy, busiest
        await lanes.enter(0)
        busy += 1
        busiest = max(busiest, busy)
        try:
            await asyncio.sleep(0)
        finally:
            busy -= 1
            lanes.leave()

    async def main() -> None:
        tasks = [asyncio.ensure_future(call()) for _ in cancels]
        await asyncio.sleep(0)
        for task, cancel in zip(tasks, cancels, strict=True):
            if cancel:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait_for(call(), 5)  # no lane was lost

    asyncio.run(main())
    assert busiest <= most and lanes.busy == 0


def test_the_pace_spreads_what_exceeds_a_burst() -> None:
    pace = limit._Pace(60.0)  # one a second
    waits = [pace.take(1) for _ in range(10)]
    assert waits[:5] == [0.0] * 5
    assert waits[-1] == pytest.approx(4.0, abs=0.5)
    assert limit._Pace(None).take(10**9) == 0.0


async def probes(breaker: Breaker, answers: list[bool]) -> int:
    """Keep ten callers at it, of whose calls the next answers as listed; how many calls were made."""
    made = 0

    async def caller() -> None:
        nonlocal made
        while breaker.dead is None and answers:
            try:
                probe = await breaker.ready()
            except ProviderError:
                return
            if not answers:
                breaker.abandoned(probe)
                return
            made += 1
            await asyncio.sleep(0)
            breaker.answered() if (answers.pop(0) if answers else True) else breaker.failed(error(), probe)

    await asyncio.wait_for(asyncio.gather(*(caller() for _ in range(10))), 20)
    return made


def test_a_gone_endpoint_is_paused_probed_and_given_up_with_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "IMPATIENCE", (0.01, 0.02, 0.03))
    said: list[str] = []
    breaker = Breaker(8, said.append)
    made = asyncio.run(probes(breaker, [False] * 1000))
    assert breaker.dead is not None and breaker.dead.kind == "network"
    assert made <= 8 + 10 + 3  # the threshold, what was under way then, one probe per pause
    assert len(said) == 3 and "paused for 0.01 s" in said[0]


def test_an_endpoint_that_comes_back_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "PATIENCE", (0.01,) * 10)
    said: list[str] = []
    breaker = Breaker(4, said.append)
    breaker.answered()
    made = asyncio.run(probes(breaker, [False] * 16 + [True] * 50))
    assert breaker.dead is None and not breaker.open and made >= 60
    assert said[-1] == "the endpoint answers again"


def test_an_endpoint_heard_of_is_waited_for_longer() -> None:
    assert sum(limit.PATIENCE) >= 300 > sum(limit.IMPATIENCE)
    breaker = Breaker(2, lambda _: None)
    breaker.failed(error("server"), probe=False)
    assert breaker.heard


def test_what_cannot_be_retried_and_was_never_answered_is_given_up_at_once() -> None:
    breaker = Breaker(3, lambda _: None)
    for _ in range(3):
        breaker.failed(error("protocol", retryable=False), probe=False)
    assert breaker.dead is not None


def test_refusals_of_rows_stop_only_when_nothing_was_ever_answered() -> None:
    fresh, heard = Breaker(2, lambda _: None), Breaker(2, lambda _: None)
    heard.answered()
    for _ in range(50):
        fresh.refused(error("refused", retryable=False))
        heard.refused(error("refused", retryable=False))
    assert fresh.dead is not None and heard.dead is None
