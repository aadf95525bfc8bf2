"""Answers to examples, asked greedily through the models' room."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from zhiling import registry
from zhiling.errors import ProviderError, RecipeError, say
from zhiling.llm.likelihood import Per, likelihood
from zhiling.types import Example, Reply, Request, Task, as_turns

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
    model: Asks,
    examples: Sequence[Example],
    *,
    max_tokens: int | None = None,
    shots: Sequence[Example] = (),
    tasks: Mapping[str, Task] | None = None,
) -> list[Prediction]:
    """Each example's answer at temperature 0, in order, the example's own answer hidden.

    `shots` are shown as earlier turns (those of the example's own task, and never the example itself). `max_tokens` None takes, for
    each task, twice what its longest reference may need. Where the metric of one of `tasks` goes by likelihood, the answer is the label that
    the model finds likeliest. Raises ProviderError when the model stops answering altogether, or cannot score texts and is to;
    RecipeError for such a task without labels.
    """
    limits = {task: limit if max_tokens is None else max_tokens for task, limit in _limits(examples).items()}
    ranked = {name: _per(task) for name, task in (tasks or {}).items() if name in limits and _per(task)}
    requests, spans = list[Request](), list[tuple[int, int]]()
    for example in examples:
        turns, begin = as_turns(_messages(example, shots)), len(requests)
        if tasks and example.task in ranked:
            requests += [Request(turns, max_tokens=0, continuation=label) for label in tasks[example.task].labels]
        else:
            requests.append(Request(turns, max_tokens=limits[example.task]))
        spans.append((begin, len(requests)))
    replies = await model.ask_all(requests)
    found = []
    for example, (begin, end) in zip(examples, spans, strict=True):
        if tasks and (per := ranked.get(example.task)):
            found.append(_likeliest(example, tasks[example.task].labels, replies[begin:end], per))
        else:
            found.append(_prediction(example, replies[begin]))
    return found


def _per(task: Task) -> Per | None:
    """By what unit the labels' likelihood is compared, None where the task's metric looks at what the model writes."""
    per: Per | None = registry.get("metric", task.metric, where=f"tasks.{task.name}.metric").facts.get("likelihood")
    if per and len(task.labels) < 2:
        what = say(f"'{task.metric}' needs two labels or more", f"“{task.metric}”需要至少两个标签")
        raise RecipeError(what, where=f"tasks.{task.name}.labels", mend=say("name them all", "请列出全部标签"))
    return per


def _likeliest(
    example: Example, labels: Sequence[str], replies: Sequence[Reply | ProviderError], per: Per
) -> Prediction:
    """The label of the highest likelihood; no answer where one of them could not be scored."""
    best, highest = "", -math.inf
    for label, reply in zip(labels, replies, strict=True):
        if isinstance(reply, ProviderError):
            if reply.kind == "capability":  # no row will fare better
                raise reply
            return Prediction(example.id, "", "error", str(reply))
        value = likelihood(label, [value for _, value in reply.logprobs], per)
        if not math.isfinite(value):
            why = say(f"no likelihood of the label '{label}'", f"无法得到标签“{label}”的似然")
            return Prediction(example.id, "", "error", why)
        if value > highest:
            best, highest = label, value
    return Prediction(example.id, best, "stop")


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
