"""The Python door, made for notebooks: everything that a recipe does, as a few functions over `Rows`.

    import zhiling.api as zl

    task = zl.Task("mood", "Say whether a review is positive or negative.", "classification", ("text",), "label")
    rows = zl.construct(task, "reviews.csv", ["template", "retrieve"], heldout=20)
    rows = zl.select(zl.score(rows, ["format", "grammar", "relevance"]), ["exact", {"near": {"threshold": 0.9}}])
    tuned = zl.tune(rows, "tuned", epochs=2)
    zl.evaluate(tuned, rows)

Nothing is changed in place: each function returns new Rows that carry what the earlier ones found.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from zhiling import recipe as recipes
from zhiling import registry, stages, steps
from zhiling.data import Source, read
from zhiling.embed import Use
from zhiling.errors import RecipeError, say
from zhiling.llm import open_model
from zhiling.recipe import EvaluateSpec, Step
from zhiling.text import cut
from zhiling.types import Demo, Example, Record, Reject, Score, Task, Template, Verdict, row_seed
from zhiling.yamlines import as_text

if TYPE_CHECKING:
    from zhiling.llm import Model
    from zhiling.run import Summary, Watch

__all__ = [
    "Demo", "Example", "Proof", "Record", "Reject", "Rows", "Score", "Task", "Template", "Tuned", "Verdict", "construct", "evaluate",
    "join", "open_model", "run", "score", "select", "tune",
]  # fmt: skip

Way: TypeAlias = str | Mapping[str, Any]
"""A step as a recipe writes it: "template", or {"template": {"per_record": 2}}."""


@dataclass(frozen=True)
class Rows(Sequence[Example]):
    """Examples, with the tasks they teach and everything said about them so far. A sequence that shows itself as a table."""

    examples: tuple[Example, ...]
    tasks: Mapping[str, Task] = field(default_factory=dict)
    templates: tuple[Template, ...] = ()
    heldout: tuple[Example, ...] = ()
    rejects: tuple[Reject, ...] = ()
    scores: tuple[Score, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    seed: int = 0

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        return self.examples[index]

    def __len__(self) -> int:
        return len(self.examples)

    def score_of(self, scorer: str) -> dict[str, float | None]:
        """{example id: value} of one scorer."""
        return {item.example: item.value for item in self.scores if item.scorer == scorer}

    def why(self, example: Example | str) -> list[str]:
        """What was said and decided about one row, in words."""
        key = example if isinstance(example, str) else example.id
        said = [
            f"{s.scorer} = {'-' if s.value is None else s.value} {s.why}".rstrip()
            for s in self.scores
            if s.example == key
        ]
        kept, dropped = say("kept", "保留"), say("dropped", "丢弃")
        decided = [
            f"{v.selector}: {kept if v.kept else dropped} {v.why}".rstrip() for v in self.verdicts if v.example == key
        ]
        return said + decided

    def table(self, count: int = 10) -> list[dict[str, Any]]:
        """The first rows as mappings, with their scores."""
        names = list(dict.fromkeys(item.scorer for item in self.scores))
        by_key = {(item.example, item.scorer): item.value for item in self.scores}
        return [
            {
                "id": row.id[:8], "task": row.task, "maker": row.maker, "instruction": cut(row.instruction, 60), "input": cut(row.input, 40),
                "output": cut(row.output, 40), **{name: by_key.get((row.id, name)) for name in names},
            }
            for row in islice(self.examples, count)
        ]  # fmt: skip

    def __repr__(self) -> str:
        made = ", ".join(f"{way} {count}" for way, count in self.by_way().items())
        return f"Rows({len(self)}: {made}; heldout {len(self.heldout)}, rejects {len(self.rejects)})"

    def by_way(self) -> dict[str, int]:
        """How many rows each way of constructing made."""
        counts: dict[str, int] = {}
        for row in self.examples:
            way = row.maker.split(":")[0] or "-"
            counts[way] = counts.get(way, 0) + 1
        return counts

    def _repr_html_(self) -> str:
        rows = self.table()
        if not rows:
            return f"<p>{html.escape(repr(self))}</p>"
        head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_cell(v))}</td>" for v in row.values()) + "</tr>" for row in rows
        )
        return f"<table><caption>{html.escape(repr(self))}</caption><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    return "–" if value is None else str(value)


@dataclass(frozen=True)
class Tuned:
    """A tuned model: the folder of its adapter or weights, its base, and the last loss per task."""

    folder: Path
    base: str
    method: str
    loss: Mapping[str, float]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Proof:
    """Base against tuned on the same rows. Shows itself as the table of the command line."""

    results: Mapping[str, Any]
    answers: Sequence[Mapping[str, Any]]

    def __str__(self) -> str:
        from zhiling.show import result_lines

        return "\n".join(result_lines(self.results))

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def records(task: Task, data: str | Path | Iterable[Mapping[str, Any]], **how: Any) -> Iterator[Record | Reject]:
    """A task's rows from a file (see `data.Source` for `how`) or from mappings."""
    if isinstance(data, str | Path):
        yield from read(Source(Path(data), **how), task)
        return
    for number, row in enumerate(data, 1):
        yield Record(task.name, {key: str(value) for key, value in row.items()}, file="python", line=number)


def construct(
    task: Task,
    data: str | Path | Iterable[Mapping[str, Any]],
    ways: Sequence[Way] = ("template",),
    *,
    heldout: int | float = 0,
    seed: int = 0,
    model: Mapping[str, Any] | Model | None = None,
    here: str | Path = ".",
    columns: Mapping[str, str] | None = None,
) -> Rows:
    """Construct a task's rows in the given ways. `heldout` rows (or a share below 1) are set aside first, worded by the first way.

    `model` (a recipe's entry such as {"provider": "openai", "model": ...}, or an open Model) answers the ways that ask one.
    Raises RecipeError or DataError for wrong settings or data.
    """
    from zhiling.construct.demos import Demos, pool
    from zhiling.construct.fill import fill
    from zhiling.construct.retrieve_rows import described

    good, rejects = list[Record](), list[Reject]()
    how = {"columns": columns} if isinstance(data, str | Path) else {}
    for item in records(task, data, **how):
        rejects.append(item) if isinstance(item, Reject) else good.append(item)
    away, rest = _held(good, heldout, seed)
    seen: dict[str, Example] = {}
    held, wordings = list[Example](), list[Template]()
    for index, step in enumerate(recipes.steps_of("constructor", ways, {task.name: task}, {"model": {}})):
        label = f"{index}-{step.kind}"
        made = steps.wait(
            steps.propose(step.kind, step.settings, _hand(model, task, here, steps.task_seed(seed, task, label)))
        )
        templates = [item for item in made if isinstance(item, Template)]
        rejects += [item for item in made if isinstance(item, Reject)]
        seen |= {item.id: item for item in made if isinstance(item, Example) and item.id not in seen}
        shown = Demos(pool(rest, seed), task, row_seed(seed, label), Use()) if step.settings.get("demos") else None
        if away and not held and templates:
            free = [replace(one, cap=None) for one in templates]
            held = [row for row in fill(away, free, task=task, seed=seed, demos=shown) if isinstance(row, Example)]
        for row in fill(
            rest, templates, task=task, seed=row_seed(seed, label), per_record=step.per_record, demos=shown
        ):
            rejects.append(row) if isinstance(row, Reject) else seen.setdefault(row.id, row)
        wordings += templates
    if away and not held and seen:  # only rows that were ready: nothing has worded what is held out
        held = [row for row in fill(away, list(described(task)), task=task, seed=seed) if isinstance(row, Example)]
    return Rows(tuple(seen.values()), {task.name: task}, tuple(wordings), tuple(held), tuple(rejects), seed=seed)


def _held(good: Sequence[Record], heldout: int | float, seed: int) -> tuple[list[Record], list[Record]]:
    ranked = sorted(good, key=lambda record: steps.side(record, seed, None))
    count = int(heldout) if heldout >= 1 else round(heldout * len(ranked))
    if count >= len(ranked) and count:
        raise RecipeError(
            say(f"{count} rows to hold out of {len(ranked)}", f"共 {len(ranked)} 行，要留出 {count} 行"),
            where="heldout",
        )
    away = {record.id for record in ranked[:count]}
    return [r for r in good if r.id in away], [r for r in good if r.id not in away]


def score(rows: Rows, scorers: Sequence[Way], *, model: Mapping[str, Any] | Model | None = None) -> Rows:
    """The rows with what these scorers say of them added."""
    found = list(rows.scores)
    for step in recipes.steps_of("scorer", scorers, rows.tasks, {"model": {}}):
        hand = {"tasks": rows.tasks, "seed": rows.seed, "embedder": Use(), **_model(step, model)}
        found += steps.wait(steps.score(step.kind, step.settings, rows.examples, hand))
    return replace(rows, scores=tuple(found))


def select(rows: Rows, selectors: Sequence[Way]) -> Rows:
    """The rows that these selectors keep, one after the other; rows that leak into the held-out ones are dropped first."""
    guards: list[Way] = [*stages.GUARDS] if rows.heldout else []
    chain = recipes.steps_of("selector", [*guards, *selectors], rows.tasks, {})
    by_key = {(item.example, item.scorer): item for item in rows.scores}
    hand = {
        "scores": by_key,
        "heldout": rows.heldout,
        "tasks": rows.tasks,
        "seed": rows.seed,
        "embedder": Use(),
        "here": Path.cwd(),
    }
    still, said = list(rows.examples), list(rows.verdicts)
    for step in chain:
        verdicts = steps.wait(
            steps.collect(steps.call(registry.get("selector", step.kind), step.settings, hand, still))
        )
        kept = {verdict.example for verdict in verdicts if verdict.kept}
        still, said = [row for row in still if row.id in kept], said + verdicts
    return replace(rows, examples=tuple(still), verdicts=tuple(said))


def join(*parts: Rows) -> Rows:
    """Several tasks' rows as one mixture."""
    merged: dict[str, Any] = {
        "tasks": {name: task for part in parts for name, task in part.tasks.items()},
        "seed": parts[0].seed,
    }
    for key in ("examples", "templates", "heldout", "rejects", "scores", "verdicts"):
        merged[key] = tuple(item for part in parts for item in getattr(part, key))
    return Rows(**merged)


def tune(
    rows: Sequence[Example], out: str | Path, *, base: str = "embedded", watch: Watch | None = None, **settings: Any
) -> Tuned:
    """Tune `base` on the rows into the folder `out`, with the settings of `tune.settings.TuneSettings`; resumes if interrupted.

    A base at a provider ("openai:MODEL", "vertex:MODEL") is tuned there, with the settings of `tune.remote.settings`.
    """
    from zhiling.proof import tuning

    facts = tuning.tune(base, list(rows), Path(out), settings, watch or (lambda event: None))
    return Tuned(Path(facts["folder"]), base, facts["method"], facts["loss"], facts)


def evaluate(tuned: Tuned, rows: Rows, *, seed: int = 0, watch: Watch | None = None, **settings: Any) -> Proof:
    """Base against tuned on the rows' held-out examples, with the settings of a recipe's `evaluate`."""
    from zhiling.proof import prove

    spec = EvaluateSpec(**settings)
    work = prove.evaluate(tuned.facts, rows.heldout, rows.tasks, spec, seed, None, watch or (lambda event: None))
    answers, results = steps.wait(work)
    return Proof(results, answers)


def run(
    recipe: str | Path | Mapping[str, Any], folder: str | Path, *, here: str | Path = ".", **options: Any
) -> Summary:
    """Run a recipe (a path, or its keys as a mapping) in a folder, as `zhiling run` does; options as of `run.Run`."""
    from zhiling.run import Run

    loaded = (
        recipes.build(recipe, Path(here), text=as_text(recipe))
        if isinstance(recipe, Mapping)
        else recipes.load(Path(recipe))
    )
    with Run(loaded, Path(folder), **options) as work:
        return work.execute()


def _hand(model: Mapping[str, Any] | Model | None, task: Task, here: str | Path, seed: int) -> dict[str, Any]:
    opened = _open(model)
    hand = {
        "task": task,
        "tasks": {task.name: task},
        "seed": seed,
        "embedder": Use(),
        "here": Path(here),
        "model": opened,
    }
    hand["scorers"] = steps.Scorers({}, lambda step: hand)
    return hand


def _model(step: Step, model: Mapping[str, Any] | Model | None) -> dict[str, Any]:
    return {"model": _open(model)} if "model" in registry.get("scorer", step.kind).wants else {}


def _open(model: Mapping[str, Any] | Model | None) -> Any:
    """An open model: the one given, one of the given entry, or the embedded one."""
    if model is not None and not isinstance(model, Mapping):
        return model
    return open_model(model or {"provider": "gguf"}, cache=None)
