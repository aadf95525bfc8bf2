"""What a language model is to zhiling: a `Provider` answers one `Request` with one `Reply`, or raises `ProviderError`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from zhiling.errors import ProviderError, say
from zhiling.types import Reply, Request

Capability: TypeAlias = Literal["chat", "complete", "schema", "choices", "regex", "logprobs", "score", "seed"]
"""What a provider may be able to do. chat: answer messages; complete: continue a bare prompt; schema: hold a reply to a JSON
schema while decoding; choices: hold it to one of a few texts; regex: hold it to a regular expression; logprobs: give those of the
generated tokens; score: give those of a given continuation; seed: repeat a sampled reply."""


@runtime_checkable
class Provider(Protocol):
    """One model behind one door.

    `name` is the provider's name in the registry, `model` the identity that keys the reply cache (it must change when the same
    request could be answered by other weights), `can` its capabilities, `lanes` how many requests at once are useful.
    """

    name: str
    model: str
    can: frozenset[str]
    lanes: int

    async def reply(self, request: Request) -> Reply:
        """Answer, or raise ProviderError. Neither retries nor caches: `llm.Model` does both."""
        ...

    async def close(self) -> None:
        """Give back connections, threads and memory. Asking again afterwards opens them again."""
        ...


@runtime_checkable
class Scoring(Protocol):
    """A provider with "score" in `can`."""

    async def score(self, request: Request, continuation: str) -> list[float]:
        """The natural-log probability of each token of `continuation` after the request's messages or prompt."""
        ...


@dataclass(frozen=True, slots=True)
class Look:
    """A batch job as its provider reports it: whether it has `ended`, in the provider's word "completed", "failed", "expired",
    "cancelled" or another, how many requests are done of how many, and why it failed."""

    ended: bool
    state: str
    done: int = 0
    total: int = 0
    why: str = ""


class Batching(Protocol):
    """A provider's batch interface: what its `batches()` returns. `rows` and `size` (bytes) are the most that one job takes.

    Every method raises ProviderError; none retries.
    """

    rows: int
    size: int

    def line(self, key: str, request: Request) -> bytes:
        """One request of a job, as `submit` takes it. Raises ProviderError(kind="capability") for what a job cannot hold."""
        ...

    async def submit(self, name: str, lines: Sequence[bytes]) -> str:
        """Make a job that can be found under this name; returns the provider's id."""
        ...

    async def find(self, name: str) -> str | None:
        """The id of the job that was made under this name, None when there is none."""
        ...

    async def look(self, job: str) -> Look:
        """How a job stands."""
        ...

    def results(self, job: str) -> AsyncIterator[tuple[str, Reply | ProviderError]]:
        """(key, reply or the row's own error) of an ended job, in any order, some perhaps twice or not at all."""
        ...


def label(identity: str) -> str:
    """The short name inside a model identity: "gpt-4o-mini@https://..." and "smol.gguf#1f2e" without what follows @http or #."""
    return identity.split("@http", 1)[0].split("#", 1)[0]


def require(provider: Provider, request: Request) -> None:
    """Raise ProviderError(kind="capability") when the provider cannot do what the request asks.

    Schema, choices and regex are not looked at: where they are not native, `llm.Model` asks in words and checks the answer. A seed is
    a wish that endpoints without one ignore; what makes a rerun repeatable is the cache.
    """
    if (request.prompt is None) == (not request.messages):
        raise ProviderError(
            say("a request needs either messages or a prompt", "一个请求必须恰好有 messages 或 prompt 之一"),
            where=provider.name,
            kind="capability",
        )
    needed = {"complete" if request.prompt is not None else "chat"}
    if request.logprobs:
        needed.add("logprobs")
    if request.continuation is not None:
        needed.add("score")
    if missing := needed - provider.can:
        raise lacks(provider, min(missing))


def lacks(provider: Provider, capability: str) -> ProviderError:
    """The error for a capability that a provider does not have."""
    have = ", ".join(sorted(provider.can))
    return ProviderError(
        say(f"{label(provider.model)} cannot do '{capability}'", f"{label(provider.model)} 不支持“{capability}”"),
        where=provider.name,
        mend=say(f"it can: {have}; choose another model", f"它支持：{have}；请换一个模型"),
        kind="capability",
    )
