"""A data set that somebody already has, scored, selected or audited by the same rooms as a run, and given back in its own format.

It is a run without a recipe: what would be constructed is read from the files. So a kill costs one shard, a second call with other
thresholds computes no score again, and `zhiling why` and `zhiling sql` answer from the run's folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhiling import registry, stages
from zhiling.data.sets import Writer, examples, form_of
from zhiling.errors import DataError, RecipeError, say
from zhiling.pool import Book, Marks, Pool
from zhiling.recipe import build
from zhiling.run import Run, Watch, Work, digest
from zhiling.select.rank import standing
from zhiling.store import Output
from zhiling.types import Example, Reject, Score

SCORE: tuple[str, ...] = ("length", "language", "echo", "refusal", "placeholder", "format", "asks", "grammar", "pii")
SELECT: tuple[str | dict[str, Any], ...] = (
    {"threshold": {"scorer": "format", "min": 1}},
    {"threshold": {"scorer": "refusal", "max": 0}},
    {"threshold": {"scorer": "placeholder", "max": 0}},
    "exact",
    "near",
)
"""What `zhiling select` does unless told otherwise: broken rows, refusals and unfilled slots out, then duplicates."""
TASK = "data"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be done with which files. `columns` are {our name: the file's}; `against` are files no row may leak from."""

    files: Sequence[Path]
    score: Sequence[str | Mapping[str, Any]] = SCORE
    select: Sequence[str | Mapping[str, Any]] = ()
    form: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    against: Sequence[Path] = ()
    description: str = ""
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seed: int = 0


@dataclass(slots=True)
class Sifted:
    """What came of it: rows in, unreadable ones, and (after a selection) rows by state and by reason."""

    rows: int = 0
    quarantined: int = 0
    kept: int = 0
    states: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    folder: Path = Path()


def score(asked: Asked, out: Path, folder: Path, *, watch: Watch | None = None, **how: Any) -> Sifted:
    """Score every row; `out` gets the rows as they were plus `zhiling_<scorer>` (None: could not be scored) and `zhiling_why`.

    A scorer whose values grow with length (the fact `length_neutral`) gets two columns: `zhiling_<scorer>` is the row's standing once
    output length is partialled out, from 0 to 1, as selectors rank it, and `zhiling_<scorer>_raw` what the scorer said. Raises
    DataError for files that cannot be read or have no usable row, RecipeError for an unknown scorer.
    """
    with open_run(asked, folder, "score", watch, how) as run:
        rows, _ = read_all(run, asked)
        pool = Pool(folder, rows)
        scores = Marks(folder, stages.score(run, rows), pool.all)
        fair = _standings(run, pool, scores)
        found = Sifted(folder=folder)
        with Writer(out) as file:
            for row, item in stream(asked):
                found.rows += 1
                if not isinstance(item, Example):
                    found.quarantined += 1
                    file.write(
                        {
                            **row,
                            **_columns(run, {}, fair, ""),
                            "zhiling_why": {"quarantined": f"{item.where}: {item.why}"},
                        }
                    )
                    continue
                said = scores.of(item.id)
                why = {name: s.why for name, s in said.items() if s.why}
                file.write({**row, **_columns(run, said, fair, item.id), "zhiling_why": why})
        run.rest()
        return found


def select(asked: Asked, out: Path, folder: Path, *, watch: Watch | None = None, **how: Any) -> Sifted:
    """Keep the rows that pass; they go to `out` as they were, the others beside it (".dropped") with who dropped them and why.

    Raises as `score` does, and DataError when nothing is kept.
    """
    with open_run(asked, folder, "select", watch, how) as run:
        rows, merged = read_all(run, asked)
        scores = stages.score(run, rows)
        stages.select(run, rows, merged, scores, heldout(run, asked))
        run.rest()
        book = Book(folder, [output for done in run.done for output in done.of("ledger")])
        found, seen = Sifted(folder=folder), bytearray(len(book))
        dropped = out.with_name(f"{out.stem}.dropped{out.suffix}")
        with Writer(out) as good, Writer(dropped) as bad:
            for row, item in stream(asked):
                found.rows += 1
                place = book.place(item.id)
                state, by, why, rival = book.at(place)
                if seen[place] and state == "kept":
                    again = say("equal to a row before it", "与前面的一行相同")
                    state, by, why, rival = "merged", "exact", again, item.id
                if state == "quarantined":
                    found.quarantined += 1
                seen[place] = 1
                if state == "kept":
                    good.write(row)
                else:
                    where = item.parents[0] if isinstance(item, Example) else item.where
                    told = {"zhiling_by": by, "zhiling_why": why, "zhiling_rival": rival, "zhiling_where": where}
                    bad.write({**row, **told})
                    code = f"{by} {why.split(' ')[0]}" if by == "threshold" else by  # which scorer's threshold
                    found.reasons[code] = found.reasons.get(code, 0) + 1
                found.states[state] = found.states.get(state, 0) + 1
        found.kept = good.rows
        return found


def open_run(asked: Asked, folder: Path, until: str, watch: Watch | None, how: Mapping[str, Any]) -> Run:
    """A run over the files, its models checked and its plan begun."""
    if not asked.files:
        raise DataError(say("no files", "没有文件"), mend=say("name at least one", "请至少给出一个文件"))
    data: dict[str, Any] = {
        "name": folder.name, "seed": asked.seed, "construct": [], "report": False, "shard_rows": 5000,
        "tasks": {TASK: {"data": [str(path.resolve()) for path in asked.files], "description": asked.description}},
        "score": list(asked.score), "select": list(asked.select),
    }  # fmt: skip
    if asked.models:
        data["models"] = {name: dict(spec) for name, spec in asked.models.items()}
    run = Run(build(data, Path.cwd()), folder, until=until, watch=watch, **how)
    try:
        stages.check(run)
        run.store.begin()
    except BaseException:
        run.close()
        raise
    return run


def read_all(run: Run, asked: Asked) -> tuple[list[Output], list[Output]]:
    """The files as examples in even shards, and the rows that equal one before them."""
    works = []
    for index, path in enumerate(asked.files):
        form = form_of(path, asked.form, asked.columns)
        args = {"file": path, "form": form, "columns": dict(asked.columns), "task": TASK}
        works.append(Work(f"construct/file/{TASK}", f"{index:03d}", args, (digest(path),)))
    made = run.shards("steps:read_set", "path", works, ("data",))
    return stages.merge(run, [output for done in made for output in done.of("drafts")])


def heldout(run: Run, asked: Asked) -> list[Output]:
    """The files that no row may leak from, as held-out examples."""
    works = []
    for index, path in enumerate(asked.against):
        args = {"file": path, "form": form_of(path, asked.form), "columns": {}, "task": TASK, "kind": "heldout"}
        works.append(Work("heldout/against", f"{index:03d}", args, (digest(path),)))
    return [output for done in run.shards("steps:read_set", "path", works, ("data",)) for output in done.of("heldout")]


def _standings(run: Run, pool: Pool, scores: Marks) -> dict[str, dict[str, float]]:
    """Of the scorers whose values grow with length, each scored row's standing once length is partialled out."""
    names = [s.kind for s in run.recipe.score if registry.get("scorer", s.kind).facts.get("length_neutral")]
    return {name: dict(zip(pool.ids, standing(pool, scores, name).tolist(), strict=True)) for name in names}


def _columns(
    run: Run, said: Mapping[str, Score], fair: Mapping[str, Mapping[str, float]], row: str
) -> dict[str, float | None]:
    columns: dict[str, float | None] = {}
    for name in (step.kind for step in run.recipe.score):
        raw = said[name].value if name in said else None
        if name in fair:
            columns[f"zhiling_{name}"] = None if raw is None else fair[name][row]
            columns[f"zhiling_{name}_raw"] = raw
        else:
            columns[f"zhiling_{name}"] = raw
    return columns


def stream(asked: Asked) -> Iterator[tuple[Mapping[str, Any], Example | Reject]]:
    """All rows of all files in order: as they stand, and what they are to us."""
    for path in asked.files:
        yield from examples(path, form_of(path, asked.form, asked.columns), TASK, asked.columns)


def rethreshold(steps: Sequence[str | Mapping[str, Any]], changes: Sequence[str]) -> list[str | dict[str, Any]]:
    """The selectors with other thresholds: "near=0.86" sets near's own, "format.min=1" the bound on a scorer.

    Raises RecipeError for a selector that is not among them.
    """
    out: list[str | dict[str, Any]] = [step if isinstance(step, str) else dict(step) for step in steps]
    for change in changes:
        name, equals, given = change.partition("=")
        try:
            value = float(given)
        except ValueError:
            equals = ""
        if not equals:
            what = say(f"not NAME=NUMBER: {change}", f"不是“名=数”的形式：{change}")
            raise RecipeError(what, where="--rethreshold", mend=say("such as near=0.86", "例如 near=0.86"))
        if not any(_set(out, at, name, value) for at in range(len(out))):
            there = ", ".join(_name(step) for step in out)
            what = say(f"no selector '{name}'", f"没有选择器“{name}”")
            raise RecipeError(what, where="--rethreshold", mend=say(f"there are: {there}", f"现有：{there}"))
    return out


def _name(step: str | Mapping[str, Any]) -> str:
    if isinstance(step, str):
        return step
    kind = next(iter(step))
    if kind != "threshold":
        return str(kind)
    bounds = [f"{step[kind].get('scorer')}.{bound}" for bound in ("min", "max") if bound in step[kind]]
    return ", ".join(bounds)


def _set(steps: list[str | dict[str, Any]], at: int, name: str, value: float) -> bool:
    step = steps[at]
    kind = step if isinstance(step, str) else next(iter(step))
    settings = {} if isinstance(step, str) else dict(step[kind] or {})
    scorer, _, bound = name.partition(".")
    if kind == "threshold" and settings.get("scorer") == scorer:
        bound = bound or ("min" if "min" in settings else "max")
        if bound not in ("min", "max"):
            return False
        steps[at] = {kind: {**settings, bound: value}}
        return True
    if kind == name:
        steps[at] = {kind: {**settings, "threshold": value}}
        return True
    return False
