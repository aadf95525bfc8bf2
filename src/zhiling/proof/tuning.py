"""Tuning, wherever it happens: on this machine, or at the provider that the base names. Where rows, rooms and providers meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhiling import steps
from zhiling.llm import price
from zhiling.proof import prove
from zhiling.proof.prove import Watch
from zhiling.tune.ready import ready
from zhiling.tune.remote import rows as remote_rows
from zhiling.tune.remote import run as remote
from zhiling.tune.remote import state as remote_state
from zhiling.tune.remote.base import Base, base_of, opened, settings_of
from zhiling.tune.remote.cost import rate_of
from zhiling.types import Example, Usage

if TYPE_CHECKING:
    from zhiling.recipe import TuneSpec
    from zhiling.tune.remote.rows import Line


def settings_here(spec: TuneSpec | None) -> Mapping[str, Any]:
    """A recipe's settings of a tuning on this machine; none where it tunes nothing, or at a provider."""
    return {} if spec is None or base_of(spec.model) is not None else spec.settings


def check(base: str, given: Mapping[str, Any], where: str = "tune") -> None:
    """Raise RecipeError for settings that a tuning of `base` does not take or that this machine cannot follow, ProviderError where a
    provider's key is missing."""
    named = base_of(base)
    if named is None:
        ready(prove.settings_of(given, where))
    else:
        opened(named, settings_of(named, given, where))


@dataclass(frozen=True, slots=True)
class Expected:
    """What a plan can know of a tuning and the evaluation after it. Dollars are None where no price is known, 0 on this machine."""

    epochs: float
    tune_usd: Callable[[int], float | None]
    ask_usd: Callable[[int, int], float | None]


def expected(base: str, given: Mapping[str, Any]) -> Expected:
    """Its epochs, what so many trained tokens cost, and what asking the base and the tuned model so many (prompt, completion) tokens each."""
    named = base_of(base)
    if named is None:
        return Expected(float(given.get("epochs", 2)), lambda tokens: 0.0, lambda prompt, completion: 0.0)
    settings = settings_of(named, given)
    rate = None if settings.epochs == "auto" else rate_of(named, settings)
    models = [named.model, f"ft:{named.model}"] if named.provider == "openai" else []
    prices = [price.find(named.provider, f"{model}@{settings.base_url}") for model in models] or [None]

    def ask(prompt: int, completion: int) -> float | None:
        paid = [None if one is None else one.usd(Usage(prompt, completion)) for one in prices]
        return None if None in paid else sum(value for value in paid if value is not None)

    epochs = 1.0 if settings.epochs == "auto" else float(settings.epochs)
    return Expected(epochs, lambda tokens: None if rate is None else tokens * rate.usd / 1e6, ask)


def tune(
    base: str, rows: Sequence[Example], out: Path, given: Mapping[str, Any], watch: Watch, *, here: Path = Path(), **more: Any
) -> dict[str, Any]:  # fmt: skip
    """Tune `base` on rows that are at hand; resumes. Returns the facts of the tuned model as plain values.

    `given` are the settings, `more` those that hold where they say nothing; a validation file of theirs is looked for in `here`.
    """
    named = base_of(base)
    if named is None:
        return prove.tune(base, rows, out, prove.settings_of(given, **more), watch)
    return elsewhere(named, lambda form: remote_rows.of_examples(rows, form), out, {**more, **given}, watch, here=here)


def elsewhere(
    base: Base,
    lines: Callable[[str], Iterable[Line]],
    out: Path,
    given: Mapping[str, Any],
    watch: Watch,
    *,
    again: bool = False,
    plan: bool = False,
    here: Path = Path(),
) -> dict[str, Any]:
    """Tune at a provider on `lines(form)`, the rows in the provider's format; with `plan` only check and price them.

    Raises as `tune.remote.run.tune` does.
    """
    settings = settings_of(base, given)

    async def work() -> dict[str, Any]:
        tuning = opened(base, settings)
        try:
            named, form = settings.validation, tuning.form
            more = remote_rows.of_file(here / named, form) if isinstance(named, str) else None
            if plan:
                with remote_state.alone(out):
                    return remote.planned(base, tuning, lines(form), more, out, settings).told()
            return await remote.tune(base, lines(form), more, out, settings, watch, tuning=tuning, again=again)
        finally:
            await tuning.close()

    return steps.wait(work())


def lines_of(sources: Sequence[Path], given: str, form: str) -> Iterator[Line]:
    """The rows that runs kept and those of data files, a file's name being its task, in the provider's format."""
    from zhiling.store import current, read

    for source in sources:
        if (source / "journal.sqlite").exists():
            kept: Iterable[Example] = (row for done in current(source) for row in read(source, done.of("kept")))
            yield from remote_rows.of_examples(kept, form)
        else:
            yield from remote_rows.of_file(source, form, given)


def cancel(out: Path, watch: Watch) -> tuple[str, str]:
    """Stop the job that was started from a folder; returns its id and how it stands."""
    return steps.wait(remote.cancel(out, watch))
