"""A model made of a script: deterministic, as slow and as faulty as asked. For tests, plans and dry runs; it costs nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from annotated_types import Ge

from zhiling.errors import ProviderError, RecipeError, say
from zhiling.registry import provider
from zhiling.types import Reply, Request, Usage, content_id

Fault = Literal[
    "rate",
    "timeout",
    "network",
    "server",
    "protocol",
    "auth",
    "model",
    "quota",
    "refused",
    "garbage",
    "empty",
    "length",
    "filter",
]
PASSING = frozenset({"rate", "timeout", "network", "server", "protocol"})
"""Faults that are drawn anew at each attempt, so that asking again may help; the others stick to the request."""
_replies = frozenset({"garbage", "empty", "length", "filter"})


@provider("fake")
def fake(
    *,
    script: list[str] | dict[str, str] | Literal["echo"] = "echo",
    delay_ms: Annotated[float, Ge(0)] = 0.0,
    fail: dict[Fault, float] | None = None,
    retry_after: Annotated[float, Ge(0)] | None = None,
    lanes: Annotated[int, Ge(1)] = 64,
    without: tuple[str, ...] = (),
) -> Fake:
    """A scripted model.

    `script`: "echo" answers with the last message (or the prompt); a list answers with the line that the request's hash picks; a
    mapping of regular expressions answers with the first that is found in the last message, \\1 and so on being its groups, and with
    "" when none is. `delay_ms` passes before each answer. `fail` maps faults to their rates, drawn from the request's hash (and the
    attempt, for faults that pass): rate, timeout, network, server, protocol, auth, model, quota, refused raise; garbage, empty,
    length, filter are bad replies. `retry_after` is what a "rate" fault asks to wait. `without` takes capabilities away.
    """
    faults = dict(fail or {})
    if any(rate < 0 for rate in faults.values()) or sum(faults.values()) > 1:
        raise RecipeError(
            say("rates are at least 0 and sum to at most 1", "各比率不得为负，且总和不超过 1"), where="fail"
        )
    if isinstance(script, dict):
        for pattern in script:
            try:
                re.compile(pattern)
            except re.error as error:
                what = say(f"'{pattern}' is not a regular expression: {error}", f"“{pattern}”不是正则表达式：{error}")
                raise RecipeError(what, where="script") from error
    return Fake(script, delay_ms / 1000, faults, retry_after, lanes, frozenset(without))


class Fake:
    """The model behind `provider: fake`."""

    name = "fake"

    def __init__(
        self,
        script: Sequence[str] | Mapping[str, str] | str,
        delay: float,
        fail: Mapping[Fault, float],
        retry_after: float | None,
        lanes: int,
        without: frozenset[str],
    ) -> None:
        self.model = f"fake#{content_id(script)[:8]}"
        self.can: frozenset[str] = frozenset({"chat", "complete", "logprobs", "score", "seed"}) - without
        self.lanes = lanes
        self._script, self._delay, self._fail, self._retry_after = script, delay, dict(fail), retry_after
        self._attempts: dict[str, int] = {}

    async def reply(self, request: Request) -> Reply:
        await asyncio.sleep(self._delay)
        key = request.key(self.model)
        fault = self._fault(key)
        if fault is not None and fault not in _replies:
            raise self._error(fault)
        said = request.prompt if request.prompt is not None else request.messages[-1][1]
        text, finish = self._line(said, key), "stop"
        if fault == "garbage":
            text = "{]" + text[::-1]
        elif fault == "empty":
            text = ""
        elif fault in ("length", "filter"):
            text, finish = text[: len(text) // 2], fault
        pairs = tuple((word, -1.0) for word in text.split(" ")) if request.logprobs else ()
        return Reply(text, finish, "fake", Usage(len(said) // 4 + 1, len(text) // 4 + 1), pairs, self._delay)

    async def score(self, request: Request, continuation: str) -> list[float]:
        """One value per word: its length, negative. Deterministic, and of no meaning."""
        await asyncio.sleep(self._delay)
        return [-float(len(word)) for word in continuation.split(" ") if word]

    async def close(self) -> None:
        self._attempts.clear()

    def _fault(self, key: str) -> Fault | None:
        if not self._fail:
            return None
        attempt = self._attempts[key] = self._attempts.get(key, 0) + 1
        lasting, passing = _draw(key, 0), _draw(key, attempt)
        low = 0.0
        for fault, rate in sorted(self._fail.items()):
            if low <= (passing if fault in PASSING else lasting) < low + rate:
                return fault
            low += rate
        return None

    def _error(self, fault: Fault) -> ProviderError:
        what = say(f"the script asked for the fault '{fault}'", f"脚本要求的故障“{fault}”")
        after = self._retry_after if fault == "rate" else None
        return ProviderError(what, where=self.model, kind=fault, retryable=fault in PASSING, retry_after=after)

    def _line(self, said: str, key: str) -> str:
        if isinstance(self._script, str):
            return said
        if isinstance(self._script, Mapping):
            for pattern, text in self._script.items():
                if found := re.search(pattern, said):
                    return found.expand(text) if found.re.groups else text
            return ""
        return self._script[int(key[:8], 16) % len(self._script)] if self._script else ""


def _draw(key: str, attempt: int) -> float:
    return int(content_id("fault", key, attempt)[:8], 16) / 0x1_0000_0000
