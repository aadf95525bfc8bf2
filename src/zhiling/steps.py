"""What a stage does to one shard: module-level functions that an engine can run anywhere. With `run`, the place where rooms meet.

Each function writes its Parquet files and returns what the driver enters in the journal: (outputs, facts).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from zhiling import data, registry
from zhiling.embed import Use
from zhiling.errors import EngineError, say
from zhiling.recipe import Recipe, Step
from zhiling.store import Output, read, write
from zhiling.types import Example, Record, Reject, Score, Task, Template, content_id, row_seed

if TYPE_CHECKING:
    from zhiling.llm import Model

T = TypeVar("T")
Result: TypeAlias = tuple[list[Output], dict[str, Any]]


def side(record: Record, seed: int, group: str | None) -> int:
    """Where a record falls in the fixed shuffle that decides what is held out; equal content, or an equal group, falls equally."""
    return int(content_id("split", seed, record.fields.get(group, record.id) if group else record.id), 16)


def read_file(root: str, prefix: str, source: data.Source, task: Task, shard_rows: int) -> Result:
    """A data file as record shards, and its unreadable rows as rejects."""
    outputs, rejects, counts = list[Output](), list[Reject](), {"lines": 0, "quarantined": 0}

    def good() -> Iterator[Record]:
        for item in data.read(source, task):
            counts["lines"] += 1
            if isinstance(item, Reject):
                rejects.append(item)
            else:
                yield item

    stream = good()
    while (first := next(stream, None)) is not None:
        path = f"records/{prefix}.{len(outputs):05d}.parquet"
        outputs.append(write(Path(root), path, "records", _chain(first, islice(stream, shard_rows - 1))))
    counts["quarantined"] = len(rejects)
    if rejects:
        outputs.append(write(Path(root), f"rejects/{prefix}.parquet", "rejects", rejects))
    return outputs, counts


def read_set(
    root: str, path: str, file: Path, form: str, columns: Mapping[str, str], task: str, kind: str = "drafts"
) -> Result:
    """A data set that somebody already has, as examples."""
    from zhiling.data.sets import examples

    return split(root, path, (item for _, item in examples(file, form, task, columns)), kind)


def _chain(first: Record, rest: Iterable[Record]) -> Iterator[Record]:
    yield first
    yield from rest


@dataclass(frozen=True, slots=True)
class Line:
    """The line between what is trained on and what is held out: records of a rank (`side`) up to `cut` lie beyond it."""

    seed: int
    cut: int
    group: str | None

    def beyond(self, record: Record) -> bool:
        """Whether the record is held out."""
        return side(record, self.seed, self.group) <= self.cut


def fill_shard(
    root: str,
    path: str,
    records: Sequence[Output],
    templates: Sequence[Output],
    task: Task,
    seed: int,
    per_record: int,
    line: Line,
    heldout: bool,
    pool: Sequence[Output] = (),
) -> Result:
    """Shards of records filled into a step's templates: the held-out side of the line, or the other.

    `pool` holds the records that demos are chosen from.
    """
    from zhiling.construct.demos import Demos
    from zhiling.construct.fill import fill

    demos = Demos(list(read(Path(root), pool)), task, seed, Use()) if pool else None

    wanted = (record for record in read(Path(root), records) if line.beyond(record) == heldout)
    how: dict[str, Any] = {"task": task, "seed": seed, "per_record": per_record, "demos": demos}
    wordings = list(read(Path(root), templates))
    made = fill(wanted, [replace(one, cap=None) for one in wordings] if heldout else wordings, **how)
    return split(root, path, made, "heldout" if heldout else "drafts")


def split(root: str, path: str, items: Iterable[Any], kind: str) -> Result:
    """What a constructor yields, as a file of rows and a file of rejects. `made` counts what it yielded, for the ledger."""
    rejects, made = list[Reject](), 0

    def good() -> Iterator[Any]:
        nonlocal made
        for item in items:
            made += 1
            if isinstance(item, Reject):
                rejects.append(item)
            else:
                yield item

    outputs = [write(Path(root), f"{kind}/{path}.parquet", kind, good())]
    if rejects:
        outputs.append(write(Path(root), f"rejects/{path}.parquet", "rejects", rejects))
    return outputs, {"made": made, "rejects": len(rejects)}


def proposed(root: str, path: str, items: Sequence[Template | Example | Reject], kind: str) -> Result:
    """What a constructor yields for a task: templates, rows that are ready (drafts, or held out), and rejects, each as a file."""
    outputs, facts = split(root, path, (item for item in items if not isinstance(item, Example)), "templates")
    ready = [item for item in items if isinstance(item, Example)]
    if ready:
        outputs.append(write(Path(root), f"{kind}/{path}.parquet", kind, ready))
    return outputs, {**facts, "ready": len(ready)}


def score_shard(
    root: str,
    path: str,
    scorer: str,
    settings: Mapping[str, Any],
    rows: Output,
    tasks: Mapping[str, Task],
    seed: int,
    here: Path,
) -> Result:
    """One shard of examples through one scorer that needs no model."""
    examples = _shard(root, rows)
    hand = {"tasks": tasks, "seed": seed, "embedder": Use(), "here": here}
    scores = wait(score(scorer, settings, examples, hand))
    return [write(Path(root), f"scores/{path}.parquet", "scores", scores)], {"scored": len(scores)}


@lru_cache(maxsize=1)
def _shard(root: str, rows: Output) -> Sequence[Example]:
    """A shard's rows, remembered for the scorer after: reading them takes longer than most rules do."""
    return tuple(read(Path(root), [rows]))


async def score(
    name: str, settings: Mapping[str, Any], examples: Sequence[Example], hand: Mapping[str, Any]
) -> list[Score]:
    """The scorer's word on each example, held to its contract: one score each, in order."""
    plugin = registry.get("scorer", name)
    scores = await collect(call(plugin, settings, hand, examples))
    if [item.example for item in scores] != [example.id for example in examples]:
        raise EngineError(
            say(
                f"the scorer '{name}' must give one score per example, in order",
                f"评分器“{name}”须按顺序为每行给出一个分数",
            )
        )
    return scores


def call(plugin: registry.Plugin, settings: Mapping[str, Any], hand: Mapping[str, Any], *args: Any) -> Any:
    """Call a plug-in with its settings and what it asks to be handed; one that asks no model with these settings is handed none."""
    wants = plugin.wants if registry.asks(plugin, settings) else plugin.wants - {"model"}
    return plugin.fn(*args, **settings, **{name: hand[name] for name in wants})


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from ordinary code, inside a notebook's running loop too (then on a thread of its own)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def stream(result: Iterable[T] | AsyncIterator[T] | Awaitable[Any]) -> Iterable[T]:
    """Whatever a plug-in returns, to be gone through once: what is a stream stays one, the rest is waited for."""
    return result if isinstance(result, Iterable) else wait(collect(result))


async def collect(result: Iterable[Any] | AsyncIterator[Any] | Awaitable[Any]) -> list[Any]:
    """Whatever a plug-in returns (list, generator, coroutine or async generator), as a list."""
    if inspect.isawaitable(result):
        result = await result
    if isinstance(result, AsyncIterator):
        return [item async for item in result]
    return list(result)  # type: ignore[arg-type]


class Hand(dict[str, Any]):
    """A mapping whose "model" is made when it is first asked for: most steps never do."""

    def __init__(self, given: Mapping[str, Any], model: Callable[[], Any]) -> None:
        super().__init__(given)
        self._model = model

    def __missing__(self, key: str) -> Any:
        if key != "model":
            raise KeyError(key)
        self["model"] = self._model()
        return self["model"]


class Scorers(Mapping[str, Callable[[Sequence[Example]], Awaitable[list[Score]]]]):
    """What a constructor gets when it asks for `scorers`: every registered scorer by name, set and handed as the recipe says."""

    def __init__(self, listed: Mapping[str, Step], hand: Callable[[Step], Mapping[str, Any]]) -> None:
        self._listed, self._hand = listed, hand

    def __getitem__(self, name: str) -> Callable[[Sequence[Example]], Awaitable[list[Score]]]:
        step = self._listed.get(name)
        if step is None:
            step = Step(name, registry.settle(registry.get("scorer", name), {}), "scorers")
        return partial(self._score, step)

    async def _score(self, step: Step, examples: Sequence[Example]) -> list[Score]:
        return await score(step.kind, step.settings, examples, self._hand(step))

    def __iter__(self) -> Iterator[str]:
        return iter(registry.names("scorer"))

    def __len__(self) -> int:
        return len(registry.names("scorer"))


def able(recipe: Recipe, asking: Iterable[Step], model: Callable[[str], Model]) -> None:
    """Check that these steps' models can do what they need (the facts `needs`, and `uses`: the scorers that a constructor asks).

    Raises ProviderError(kind="capability") for the first that cannot, before anything is asked.
    """
    from zhiling.llm.base import lacks

    listed = {step.kind: step for step in recipe.score}
    for step in asking:
        plugin = registry.get("scorer" if step in recipe.score else "constructor", step.kind)
        wanted = [(step.model, need) for need in plugin.facts.get("needs", ()) if step.model]
        wanted += [
            (step.model, need)
            for other in plugin.facts.get("stands_on", lambda _: ())(step.settings)
            for need in other.facts.get("needs", ())
            if step.model
        ]
        for scorer in plugin.facts["uses"](step.settings) if "uses" in plugin.facts else ():
            name = listed[scorer].model if scorer in listed else next(iter(recipe.models))
            wanted += [(name, need) for need in registry.get("scorer", scorer).facts.get("needs", ())]
        for name, need in wanted:
            if need not in model(name).can:
                error = lacks(model(name).provider, need)
                error.where = f"{step.where} (models.{name})"
                raise error


async def propose(kind: str, settings: Mapping[str, Any], hand: Mapping[str, Any]) -> list[Template | Example | Reject]:
    """A constructor's templates for one task, or the rows that it has ready."""
    return await collect(call(registry.get("constructor", kind), settings, hand))


def task_seed(seed: int, task: Task, step: str) -> int:
    """The seed of one step's work for one task."""
    return row_seed(seed, f"{step}:{task.name}")
