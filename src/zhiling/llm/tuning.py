"""What tuning at a provider is to zhiling: files of rows go up, a job is made of them, and in the end a model has a name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

ENDED = ("succeeded", "failed", "cancelled")
"""How a job may have ended, in our words."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a provider takes: training rows at least and at most, tokens of one row, bytes of a file, and validation rows at most.

    Where there are more validation rows than `few`, they may be at most `share` of the training rows. None: no limit is known.
    `source` and `date` say where and when the rules were read.
    """

    least: int = 1
    most: int | None = None
    tokens: int | None = None
    size: int | None = None
    validation: int | None = None
    few: int | None = None
    share: float = 1.0
    source: str = ""
    date: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """A job to be made: the provider's ids of its files, the mark that it can be found by, a suffix for the model's name, and settings."""

    training: str
    validation: str
    mark: str
    suffix: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands: one of ENDED, or the provider's own word for its state; then the tuned model's name, or why there is none.

    `tokens` were trained on, or will be billed; `facts` is what else the provider told, for the record.
    """

    state: str
    model: str = ""
    why: str = ""
    tokens: int | None = None
    steps: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether it will change no more."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a job said: in words, and in numbers ("step", "loss", "validation_loss", "accuracy") where it measured something."""

    id: str
    text: str
    metrics: Mapping[str, float] = field(default_factory=dict)


class Tuning(Protocol):
    """A provider's tuning interface: what its `tunings()` returns. Every coroutine raises ProviderError; none retries.

    `form` is the format of its rows (`data.formats`), `limits` its rules, `identity` ("model@base_url") what a price is looked up by.
    """

    form: str
    limits: Limits
    identity: str

    def wrong(self, row: Mapping[str, Any]) -> str:
        """Why the provider would not take this row; "" where nothing is wrong with it."""
        ...

    def kept(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with those of its keys that the provider knows."""
        ...

    def texts(self, row: Mapping[str, Any]) -> Iterator[str]:
        """The row's texts, for counting."""
        ...

    async def upload(self, file: Path, name: str) -> str:
        """Send a file up under a name; returns the provider's id."""
        ...

    async def uploaded(self, name: str, size: int) -> str | None:
        """The id of a whole file of that name and size, None where there is none."""
        ...

    async def start(self, order: Order) -> str:
        """Make a job, which will be paid for; returns the provider's id."""
        ...

    async def find(self, order: Order) -> str | None:
        """The id of the job that was made of this order, None where there is none."""
        ...

    async def look(self, job: str) -> Standing:
        """How a job stands."""
        ...

    async def events(self, job: str, known: frozenset[str]) -> Sequence[Event]:
        """What a job said, oldest first, without what is `known`; empty where a provider tells nothing."""
        ...

    async def cancel(self, job: str) -> None:
        """Ask for a job to be stopped."""
        ...

    def entry(self, model: str = "") -> dict[str, Any]:
        """The recipe entry (`llm.open_model`) by which the tuned model is asked, or with "" the base model."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...
