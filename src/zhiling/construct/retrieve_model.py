"""Adapting by a model what the rules cannot adapt: it rewords the retrieved instruction for the task, and its reply is checked.

rules -> ask for what they refused -> check that the reply speaks of the task and not of its source
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from zhiling.construct.bank import Hit
from zhiling.construct.bind import label_words, said_in
from zhiling.construct.retrieve_adapt import MAX_LENGTH, TRANSLATING, Adapted, proved
from zhiling.errors import ProviderError, say
from zhiling.text import cut, lang
from zhiling.types import Reject, Reply, Request, Task, row_seed

if TYPE_CHECKING:
    from zhiling.llm import Model

MAX_TOKENS = 128
UNREACHABLE = frozenset({"network", "timeout", "server", "protocol", "rate"})


@dataclass(frozen=True, slots=True)
class Tried:
    """A hit and what came of adapting it: the wording, why there is none, or the call's failure."""

    hit: Hit
    made: Adapted | str | Reject


async def reworded(tried: Sequence[Tried], task: Task, code: str, model: Model, seed: int) -> list[Tried]:
    """The same hits, those that the rules refused reworded by the model, where its reply stands up to the checks.

    Instructions longer than MAX_LENGTH are not sent, nor is anything where the language to translate into changes by row. A failed
    call becomes a Reject "failed"; a reply that speaks of something else is refused in words. Raises ProviderError where every call
    failed because the endpoint cannot be reached.
    """
    if task.family in TRANSLATING and {"target_lang", "target_language"} & {*task.inputs}:
        return list(tried)
    refused = [
        (place, one.made)
        for place, one in enumerate(tried)
        if isinstance(one.made, str) and len(one.hit.row.instruction) <= MAX_LENGTH
    ]
    replies = await model.ask_all([request(tried[place].hit, task, code, seed) for place, _ in refused])
    gone = [reply for reply in replies if isinstance(reply, ProviderError) and reply.kind in UNREACHABLE]
    if gone and len(gone) == len(replies):
        raise gone[0]
    out = list(tried)
    for (place, why), reply in zip(refused, replies, strict=True):
        hit = tried[place].hit
        out[place] = Tried(hit, _heard(hit, why, reply, task, code))
    return out


def _heard(hit: Hit, why: str, reply: Reply | ProviderError, task: Task, code: str) -> Adapted | str | Reject:
    """What a reply is worth; `why` is what the rules said of the instruction."""
    if isinstance(reply, ProviderError):
        parents = (hit.row.id,)
        return Reject(task.name, f"retrieve:{hit.row.id}", "failed", str(reply), "", hit.row.instruction, parents)
    said = _tidy(reply.text)
    if reply.finish != "stop" or not said:
        verdict: Adapted | str = say("no whole reply", "回复不完整")
    elif (lang(said) == "zh") != (code == "zh"):
        verdict = say("the reply is in another language", "回复使用了另一种语言")
    else:
        verdict = proved(said, hit.row, task, code)
    if isinstance(verdict, Adapted):
        return replace(verdict, reply=reply.key)
    shown = cut(said, 60)
    return say(f"{why}; a model's '{shown}': {verdict}", f"{why}；模型改写为“{shown}”：{verdict}")


def _tidy(said: str) -> str:
    """The reply's first line without the quotes that models like to put around an answer."""
    first = next((line.strip() for line in said.splitlines() if line.strip()), "")
    return first.strip("\"'“”「」` ").removeprefix("改写：").removeprefix("Rewritten:").strip()


def request(hit: Hit, task: Task, code: str, seed: int) -> Request:
    """The question to the model, in the language of the instruction."""
    prompt = next(one for one in prompts() if one["lang"] == ("zh" if code == "zh" else "en"))
    words = label_words(task, code)
    labels = ("、" if code == "zh" else ", ").join(words)
    values = {
        "{task}": (said_in(task.description, code) or task.description or task.name).replace("\n", " "),
        "{answers}": prompt["answers"].replace("{labels}", labels) if words else "",
        "{instruction}": hit.row.instruction.replace("\n", " "),
    }
    turns: list[tuple[str, str]] = []
    for turn in prompt["turns"][:-1]:
        turns += [("user", turn["user"]), ("assistant", turn["assistant"])]
    turns.append(("user", _filled(prompt["turns"][-1]["user"], values)))
    chance = row_seed(seed, f"{task.name}:{code}:{hit.row.id}")
    return Request(messages=tuple(turns), max_tokens=MAX_TOKENS, stop=("\n",), seed=chance)


def _filled(template: str, values: Mapping[str, str]) -> str:
    """The text with its slots filled in one pass: a value that looks like a slot stays what it is."""
    return re.sub("|".join(map(re.escape, values)), lambda slot: values[slot[0]], template)


@cache
def prompts() -> list[dict[str, Any]]:
    """The shipped prompts, one per language."""
    said = files("zhiling").joinpath("library/prompts/retrieve.yaml").read_text(encoding="utf-8")
    return list(yaml.safe_load(said)["prompts"])
