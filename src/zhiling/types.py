"""The nouns that travel through a recipe. This file imports nothing of ours.

A `Record` is a row of the user's data. A `Template` is one instruction wording, from whichever of the three ways. Filling a
template with a record gives an `Example`. A `Score` says something about an example, a `Verdict` decides about it, and a
`Reject` is a row that never became an example. `Request` and `Reply` are what passes between us and a language model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

Turn: TypeAlias = tuple[str, str]
"""(role, content), role being "system", "user" or "assistant"."""

State: TypeAlias = Literal["kept", "dropped", "merged", "failed", "quarantined"]


_canonical = json.JSONEncoder(
    ensure_ascii=True, sort_keys=True, separators=(",", ":")
).encode  # made once: ids are computed often


def content_id(*parts: object) -> str:
    """20 hex digits (80 bits) that depend on the parts' values alone, never on process, platform or order of work.

    Parts are JSON-serialised, so ("ab", "c") and ("a", "bc") differ. Lone surrogates in hostile data survive.
    """
    text = _canonical(parts)
    return hashlib.blake2b(text.encode("ascii"), digest_size=10).hexdigest()


def row_seed(seed: int, row: str) -> int:
    """A 31-bit seed for one row: the same whatever process handles the row and whatever was handled before it."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{row}".encode(), digest_size=4).digest()) & 0x7FFFFFFF


class Demo(NamedTuple):
    """A worked example of a task."""

    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Task:
    """What a model should learn to do.

    `inputs` names the data fields that a row brings; `target` the field that holds the answer; `labels` the closed set of
    answers, empty for open tasks. `metric` and `verifiers` are names in the registry.
    """

    name: str
    description: str = ""
    family: str = "other"
    inputs: tuple[str, ...] = ("input",)
    target: str = "output"
    output_format: str = ""
    langs: tuple[str, ...] = ("en",)
    labels: tuple[str, ...] = ()
    demos: tuple[Demo, ...] = ()
    metric: str = "exact_match"
    verifiers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a task's data: text fields by name, and the file and line they came from."""

    task: str
    fields: Mapping[str, str]
    lang: str = ""
    file: str = ""
    line: int = 0
    id: str = field(init=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", content_id("record", self.task, dict(self.fields)))


@dataclass(frozen=True, slots=True)
class Template:
    """One instruction wording with its slots: what all three ways of constructing produce before data fills it.

    `instruction`, `input`, `output` and `system` are Jinja texts over a record's fields (plus `task`). `maker` says which way
    made it ("template:NAME", "retrieve:ROW", "generate:MODEL"), `parents` the ids it came from.

    `turns` are earlier turns, as Jinja texts under "user" and "assistant"; ("field", NAME) stands for the turns that a record
    brings as JSON. `demos` worked examples from the data are put into the prompt, the `choose` ("similar" or "random") ones.
    Among a task's templates each is used in proportion to its `weight`, and for at most `cap` rows.
    """

    task: str
    lang: str
    instruction: str
    input: str = ""
    output: str = ""
    system: str = ""
    maker: str = ""
    parents: tuple[str, ...] = ()
    why: str = ""
    turns: tuple[Turn, ...] = ()
    demos: int = 0
    choose: str = "similar"
    weight: float = 1.0
    cap: int | None = None
    id: str = field(init=False, default="")

    def __post_init__(self) -> None:
        content: list[object] = [
            "template",
            self.task,
            self.lang,
            self.system,
            self.instruction,
            self.input,
            self.output,
        ]
        if self.turns or self.demos:
            content.append([self.turns, self.demos, self.choose if self.demos else ""])
        object.__setattr__(self, "id", content_id(*content))


@dataclass(frozen=True, slots=True)
class Example:
    """One instruction row. Its `id` is the hash of what a model would see, so equal rows from two makers have one id."""

    task: str
    instruction: str
    input: str = ""
    output: str = ""
    system: str = ""
    history: tuple[Turn, ...] = ()
    lang: str = ""
    maker: str = ""
    parents: tuple[str, ...] = ()
    id: str = field(init=False, default="")

    def __post_init__(self) -> None:
        content = ("example", self.task, self.system, self.history, self.instruction, self.input, self.output)
        object.__setattr__(self, "id", content_id(*content))

    @property
    def prompt(self) -> str:
        """What the user's turn says: the instruction, then the input on its own lines when there is one."""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction

    def messages(self, answer: bool = True) -> list[dict[str, str]]:
        """The row as chat messages, with or without the assistant's answer."""
        turns = [("system", self.system)] if self.system else []
        turns += [*self.history, ("user", self.prompt)]
        if answer:
            turns.append(("assistant", self.output))
        return [{"role": role, "content": content} for role, content in turns]


@dataclass(frozen=True, slots=True)
class Score:
    """Something said about an example. `value` None means "could not be scored", and `why` says why not."""

    example: str
    scorer: str
    value: float | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision about an example. `rival` is the id of the row that beat it, where one did."""

    example: str
    selector: str
    kept: bool
    why: str = ""
    rival: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that never became an example: unreadable ("quarantined"), not buildable ("failed"), or a losing candidate ("dropped").

    `where` is "file:line" for data, `text` the offending text cut to 500 characters.
    """

    task: str
    maker: str
    state: Literal["quarantined", "failed", "dropped"]
    why: str
    where: str = ""
    text: str = ""
    parents: tuple[str, ...] = ()
    id: str = field(init=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self.text[:500])
        content = ("reject", self.task, self.maker, self.state, self.why, self.where, self.text, self.parents)
        object.__setattr__(self, "id", content_id(*content))


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a language model: `messages` for chat models or a bare `prompt` for base models, never both.

    `schema` is a JSON schema the reply must satisfy, `regex` a regular expression that it must match as a whole (see llm.pattern).
    `draw` numbers repeated samples of the same question, so that the cache keeps them apart. `logprobs` asks for the log-probability
    of each generated token. With a `continuation` nothing is generated: the reply holds the log-probabilities of that text's tokens.
    """

    messages: tuple[Turn, ...] = ()
    prompt: str | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    schema: Mapping[str, Any] | None = None
    choices: tuple[str, ...] = ()
    logprobs: bool = False
    draw: int = 0
    regex: str = ""
    continuation: str | None = None

    def key(self, model: str) -> str:
        """The reply cache's key: model, messages, parameters and draw number."""
        settings = (
            self.max_tokens,
            self.temperature,
            self.top_p,
            self.stop,
            self.seed,
            self.choices,
            self.logprobs,
            self.draw,
        )
        schema = dict(self.schema) if self.schema is not None else None
        # What a request does not use is no part of its key, so that replies paid for before these fields existed are still found.
        newer: list[tuple[str, str]] = [("regex", self.regex)] if self.regex else []
        if self.continuation is not None:
            newer.append(("continuation", self.continuation))
        return content_id("request", model, self.messages, self.prompt, settings, schema, *newer)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the endpoint counted them; None where it did not say."""

    prompt: int | None = None
    completion: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer. `finish` is "stop", "length", "filter" or "error"; `usd` None means that no price is known."""

    text: str
    finish: str = "stop"
    model: str = ""
    usage: Usage = Usage()
    logprobs: tuple[tuple[str, float], ...] = ()
    seconds: float = 0.0
    usd: float | None = None
    cached: bool = False
    repaired: bool = False
    key: str = ""


def as_turns(messages: Iterable[Mapping[str, str]]) -> tuple[Turn, ...]:
    """Chat messages as hashable (role, content) pairs."""
    return tuple((message["role"], message["content"]) for message in messages)
