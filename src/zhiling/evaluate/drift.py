"""What a tuning cost elsewhere: general knowledge lost (forgetting), and harmless asks refused or harmful ones met more than before.

Two small sets of our own (library/drift) are put to the base and to the tuned model. General questions are not written out: the
log-likelihood of the answer is set against that of a wrong one, which gives a signal with models too small to write well. Asks are
answered in a few tokens, and the scorer `refusal` tells who declines. Both are paired by row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from zhiling import registry, text
from zhiling.errors import ProviderError
from zhiling.evaluate.predict import Asks
from zhiling.llm.likelihood import likelihood
from zhiling.types import Example, Reply, Request, content_id

TOKENS = 32  # of an answer to an ask, or to a general question that is written out: who declines does so at once
Scores = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Item:
    """A general question with its `answer` and a wrong `rival`; `kind` is "fact", "sum", "form" or "sense"."""

    lang: str
    kind: str
    ask: str
    answer: str
    rival: str

    @property
    def id(self) -> str:
        """Depends on the text alone."""
        return content_id("drift", self.ask, self.answer, self.rival)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one model did. By item: `knows`, the probability of the answer when only it and its rival are possible, and `nats`, the negative
    log-likelihood per token of the answer, empty for a model that cannot score texts (it has written, and `knows` is 1 or 0). By ask:
    `refused`, 1 or 0, and `said`, its words. None stands for what was not answered."""

    knows: Scores
    nats: Scores
    refused: Scores
    said: Mapping[str, str]


@cache
def general() -> tuple[Item, ...]:
    """The general set, 40 items in Chinese and 40 in English."""
    return tuple(Item(**item) for item in _read("general.yaml")["items"])


@cache
def asks() -> tuple[Example, ...]:
    """The asks as rows without answers; the task is "harmless" or "harmful"."""
    found = _read("asks.yaml")
    return tuple(
        Example(kind, ask, lang=lang) for kind in ("harmless", "harmful") for lang, listed in found[kind].items() for ask in listed
    )  # fmt: skip


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(
        files("zhiling").joinpath(f"library/drift/{name}").read_text(encoding="utf-8")
    )
    return found


def requests(scores: bool) -> list[Request]:
    """What a model is asked: for each general item two likelihoods (with `scores`) or an answer, then an answer to each ask."""
    out: list[Request] = []
    for item in general():
        turns = (("user", item.ask),)
        if scores:
            out += [Request(turns, max_tokens=0, continuation=said) for said in (item.answer, item.rival)]
        else:
            out.append(Request(turns, max_tokens=TOKENS))
    return [*out, *(Request((("user", row.prompt),), max_tokens=TOKENS) for row in asks())]


def cost(scores: bool) -> tuple[int, int, int]:
    """About what one model is asked: calls, prompt tokens (30 of them a chat template's) and tokens written at most."""
    asked = requests(scores)
    prompt = sum(30 + 1.4 * text.length(request.messages[-1][1] + (request.continuation or "")) for request in asked)
    return len(asked), round(prompt), sum(request.max_tokens for request in asked)


async def look(model: Asks, *, scores: bool) -> Seen:
    """Put both sets to a model, `scores` telling whether it can score texts. Raises ProviderError when it answers no more."""
    replies = iter(await model.ask_all(requests(scores)))
    knows, nats = Scores(), Scores()
    for item in general():
        if scores:
            right, wrong = (_likelihood(said, next(replies)) for said in (item.answer, item.rival))
            # past e^700, exp would overflow
            knows[item.id] = 1 / (1 + math.exp(min(700.0, wrong[0] - right[0]))) if right and wrong else None
            nats[item.id] = -right[1] if right else None
        else:
            knows[item.id] = _written(item, next(replies))
    said = dict(zip((row.id for row in asks()), replies, strict=True))
    return Seen(knows, nats, _refused(said), {row: _text(reply) for row, reply in said.items()})


def _likelihood(said: str, reply: Reply | ProviderError) -> tuple[float, float] | None:
    """The log-likelihood of a text, in all and per token; None where there is none."""
    if isinstance(reply, ProviderError):
        if reply.kind == "capability":
            raise reply
        return None
    values = [value for _, value in reply.logprobs]
    whole = likelihood(said, values, "text")
    return (whole, likelihood(said, values, "token")) if math.isfinite(whole) else None


def _written(item: Item, reply: Reply | ProviderError) -> float | None:
    """1 where the answer was written, and before its rival; else 0."""
    if isinstance(reply, ProviderError) or reply.finish in ("error", "filter"):
        return None
    right, wrong = text.tokens(item.answer), text.tokens(item.rival)
    if right == wrong:  # they differ in letter case or marks alone
        at, other = reply.text.find(item.answer), reply.text.find(item.rival)
    else:
        said = text.tokens(reply.text)
        at, other = _place(right, said), _place(wrong, said)
    return float(at >= 0 and (other < 0 or at < other))


def _place(part: list[str], said: list[str]) -> int:
    """Where a run of tokens begins in others; -1 where it does not."""
    return next((at for at in range(len(said) - len(part) + 1) if said[at : at + len(part)] == part), -1)


def _refused(said: Mapping[str, Reply | ProviderError]) -> Scores:
    """Who declines, by the scorer `refusal`; an endpoint that stops the answer, or will not take the ask, declines too."""
    found = Scores()
    rows = [replace(row, output=_text(said[row.id])) for row in asks()]
    for row, answered, score in zip(asks(), rows, registry.get("scorer", "refusal").fn(rows), strict=True):
        reply = said[row.id]
        failed = isinstance(reply, ProviderError)
        stopped = reply.kind == "refused" if isinstance(reply, ProviderError) else reply.finish == "filter"
        found[row.id] = 1.0 if stopped else None if failed or not answered.output.strip() else score.value
    return found


def _text(reply: Reply | ProviderError) -> str:
    return "" if isinstance(reply, ProviderError) else reply.text
