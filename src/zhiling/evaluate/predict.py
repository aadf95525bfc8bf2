"""Answers to examples, asked greedily through the models' room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from zhiling.errors import ProviderError
from zhiling.types import Example, Reply, Request, as_turns

LONGEST = 512


class Asks(Protocol):
    """What is needed of a model: `llm.Model` has it."""

    async def ask_all(self, requests: Iterable[Request]) -> list[Reply | ProviderError]: ...


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's answer to an example.

    `error` is "" for an answered row: also an empty or cut-off one, which is scored as it stands. Otherwise it says why there is no
    answer (the endpoint failed, refused or filtered): such a row is unanswered, gets no score, and is counted.
    """

    example: str
    text: str
    finish: str
    error: str = ""


async def predict(
    model: Asks, examples: Sequence[Example], *, max_tokens: int | None = None, shots: Sequence[Example] = ()
) -> list[Prediction]:
    """Each example's answer at temperature 0, in order, the example's own answer hidden.

    `shots` are shown as earlier turns (those of the example's own task, and never the example itself). `max_tokens` None takes, for
    each task, twice what its longest reference may need. Raises ProviderError when the model stops answering altogether.
    """
    limits = {task: limit if max_tokens is None else max_tokens for task, limit in _limits(examples).items()}
    requests = [Request(as_turns(_messages(example, shots)), max_tokens=limits[example.task]) for example in examples]
    replies = await model.ask_all(requests)
    return [_prediction(example, reply) for example, reply in zip(examples, replies, strict=True)]


def _messages(example: Example, shots: Sequence[Example]) -> list[dict[str, str]]:
    own = example.messages(answer=False)
    head, rest = (own[:1], own[1:]) if example.system else ([], own)
    shown = [shot for shot in shots if shot.task == example.task and shot.id != example.id]
    return [*head, *(turn for shot in shown for turn in shot.messages() if turn["role"] != "system"), *rest]


def _limits(examples: Sequence[Example]) -> dict[str, int]:
    """Per task, 16 tokens and twice the longest reference at 2 bytes a token: no tokenizer of ours is worse than that on average."""
    longest: dict[str, int] = {}
    for example in examples:
        longest[example.task] = max(longest.get(example.task, 0), len(example.output.encode("utf-8", "replace")))
    return {task: min(LONGEST, 16 + size) for task, size in longest.items()}


def _prediction(example: Example, reply: Reply | ProviderError) -> Prediction:
    if isinstance(reply, ProviderError):
        return Prediction(example.id, "", "error", str(reply))
    if reply.finish in ("error", "filter"):
        return Prediction(example.id, reply.text, reply.finish, reply.finish)
    return Prediction(example.id, reply.text, reply.finish)
