"""A run is a folder: this file executes a recipe's plan in it, resumes it after anything, and re-does only what changed.

The stages themselves are functions of a Run, in `stages.py`. Here is what they stand on: keys, the journal, the engine, the models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from zhiling import ledger, registry, steps
from zhiling.embed import Use
from zhiling.engine import Engine, Job, open_engine
from zhiling.errors import DataError, RecipeError, boundary, say
from zhiling.progress import Asking
from zhiling.recipe import Recipe, Step
from zhiling.store import FORMAT, Done, Store, set_apart
from zhiling.types import content_id

if TYPE_CHECKING:
    from zhiling.llm import Model
    from zhiling.llm.budget import Pot, Spent

Watch: TypeAlias = Callable[[Mapping[str, Any]], None]
STAGES = ("read", "construct", "score", "select", "tune", "evaluate", "report")


@dataclass(frozen=True, slots=True)
class Work:
    """One shard's work for the engine: its arguments, and what besides them its key depends on."""

    stage: str
    shard: str
    args: Mapping[str, Any]
    more: tuple[Any, ...] = ()


@dataclass(slots=True)
class Summary:
    """What a run came to. `balance` is the ledger's; `results` the comparison's, by task; `spent` the models' bills by name."""

    folder: Path
    balance: ledger.Balance | None = None
    kept: int = 0
    reused: int = 0
    worked: int = 0
    results: dict[str, Any] = field(default_factory=dict)
    tuned: dict[str, Any] = field(default_factory=dict)
    report: Path | None = None
    spent: dict[str, Any] = field(default_factory=dict)

    @property
    def usd_per_kept(self) -> float | None:
        """US dollars per kept row, over all executions; None where a price is not known or nothing was kept."""
        from zhiling.llm.bill import per_row

        return per_row([paid["usd"] for paid in self.spent.values()], self.kept)


class Run:
    """One execution of a recipe in a folder; a context manager, so that models, workers and the folder's lock are let go.

    `until` names the last stage to do; `watch` hears {"stage", "done", "total", ...} events all along.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        engine: str = "local",
        workers: int | None = None,
        until: str = "report",
        watch: Watch | None = None,
    ) -> None:
        if until not in STAGES:
            raise RecipeError(
                say(f"unknown stage '{until}'", f"未知的阶段“{until}”"), where="--until", mend=", ".join(STAGES)
            )
        self.recipe, self.folder, self.until = recipe, folder, until
        self.watch: Watch = watch or (lambda event: None)
        self.tasks = {name: spec.task(name) for name, spec in recipe.tasks.items()}
        self.summary = Summary(folder)
        self.done: list[Done] = []
        self._models: dict[str, Model] = {}
        self._unasked: dict[str, int] = {}
        self._before: list[Spent] = []  # the bill when the first of the open models was opened
        self._asking = Asking(self.spent, self.watch)
        self.calls_per_row: dict[str, float] = {}  # of scorers that ask a model, as far as is known
        self.store = Store(folder)
        try:
            self.engine: Engine = open_engine(engine, workers)
        except BaseException:
            self.store.close()
            raise

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of workers, models and the folder."""
        try:
            self.engine.close()
            self.rest()
        finally:
            self.store.close()

    def rest(self) -> None:
        """Close the models, whose memory is wanted for tuning, and note the bill of all executions so far. They open again when asked for."""
        from zhiling.llm import bill

        for name, model in self._models.items():
            self._unasked[name] = self._unasked.get(name, 0) + model.spent.unanswered
            with suppress(RuntimeError):  # a loop that Ctrl-C already ended has nothing left to close
                steps.wait(model.close())
        self._models = {}
        found = bill.facts(bill.spent(self.folder / bill.NAME))
        self.summary.spent = {name: {**paid, "unanswered": self._unasked.get(name, 0)} for name, paid in found.items()}

    def execute(self) -> Summary:
        """Do, or go on with, everything up to `until`: the sentence, one stage after the other."""
        from zhiling import stages

        stages.check(self)
        self.store.begin()
        (self.folder / "recipe.yaml").write_text(self.recipe.text, encoding="utf-8")
        records = stages.read_data(self)
        if self.reaches("construct"):
            drafts, heldout = stages.construct(self, records)
            examples, merged = stages.merge(self, drafts)
            scores = stages.score(self, examples) if self.reaches("score") else []
            if self.reaches("select"):
                kept = stages.select(self, examples, merged, scores, heldout)
                self.rest()
                if self.reaches("tune"):
                    stages.tune(self, kept)
                if self.reaches("evaluate"):
                    stages.evaluate(self, heldout)
        self.rest()
        self.note()
        if self.reaches("report"):
            stages.report(self)
        return self.summary

    def reaches(self, stage: str) -> bool:
        """Whether this execution goes as far as that stage."""
        return STAGES.index(stage) <= STAGES.index(self.until)

    def note(self) -> None:
        """The figures of the run as JSON, for the report, `show` and `diff`."""
        s = self.summary
        states = dict(s.balance.states) if s.balance else {}
        facts = {
            "name": self.recipe.name, "seed": self.recipe.seed, "engine": self.engine.name, "until": self.until, "states": states,
            "came": s.balance.came if s.balance else 0, "kept": s.kept, "reused": s.reused, "worked": s.worked, "tuned": s.tuned,
            "spent": s.spent, "usd_per_kept": s.usd_per_kept,
        }  # fmt: skip
        (self.folder / "run.json").write_text(
            json.dumps(facts, ensure_ascii=False, indent=1, default=str), encoding="utf-8"
        )

    # -- work and its keys -----------------------------------------------------------------------------------------------

    def shards(self, fn: str, path_arg: str, works: Iterable[Work], rooms: Sequence[str] = ()) -> list[Done]:
        """Run shards' work on the engine; what the journal knows is not run again.

        The result is in the order of `works`, whatever order they finished in. `rooms` are the rooms whose code it runs.
        """
        planned, todo, found, by_key = list[str](), list[Job](), dict[str, Done](), dict[str, Work]()
        for work in works:
            key = self.key(
                fn, work.stage, work.shard, work.args, work.more, [registry.room_version(room) for room in rooms]
            )
            planned.append(key)
            by_key[key] = work
            if (done := self.store.find(key)) is not None:
                found[key] = done
                self.summary.reused += 1
            else:
                path = f"{work.stage.split('/', 1)[1]}-{work.shard}-{key[:12]}"
                todo.append(Job(key, f"zhiling.{fn}", {"root": str(self.folder), path_arg: path, **work.args}))
        for number, (key, (outputs, counts)) in enumerate(self.engine.run(todo), 1):
            work = by_key[key]
            found[key] = self.store.commit(Done(key, work.stage, work.shard, tuple(outputs), counts))
            self.summary.worked += 1
            rows = sum(output.rows for output in outputs)
            self.watch({"stage": work.stage, "done": number, "total": len(todo), "rows": rows})
        self.done += [found[key] for key in planned]
        return [found[key] for key in planned]

    def once(self, key: str, stage: str, shard: str, work: Callable[[], steps.Result]) -> Done:
        """Work done here in the driver, unless the journal knows it.

        Where an endpoint left calls unanswered, the work is entered as open, under names of its own: the next run does it again,
        which asks only those calls, and what stands on the open outputs is not taken for what stands on the finished ones.
        """
        done = self.store.find(key)
        if done is None:
            before = self._unanswered()
            outputs, facts = work()
            if missing := self._unanswered() - before:
                facts = {**facts, "unanswered": missing}
                outputs = [set_apart(self.folder, output) for output in outputs]
                key = self.key(key, [output.path for output in outputs])
            done = self.store.commit(Done(key, stage, shard, tuple(outputs), facts))
            self.summary.worked += 1
        else:
            self.summary.reused += 1
        self.done.append(done)
        return done

    def key(self, *parts: Any) -> str:
        """The stage key: 20 hex digits of the parts (settings, nouns, inputs' paths, code versions)."""
        return content_id(FORMAT, self._spine, plain(parts))

    @cached_property
    def _spine(self) -> str:
        # The code that every stage stands on; a change there re-does everything.
        return content_id(
            [
                registry.module_version(f"zhiling.{name}")
                for name in ("types", "text", "store", "tables", "pool", "steps", "embed")
            ]
        )

    def spent(self) -> Spent:
        """What all models have cost so far, in all executions of this run."""
        from zhiling.llm.budget import Spent

        total = Spent()
        for part in (*self._before, *(model.spent for model in self._models.values())):
            total = total.plus(part)
        return total

    def _unanswered(self) -> int:
        return sum(model.spent.unanswered for model in self._models.values())

    # -- what is handed to plug-ins --------------------------------------------------------------------------------------

    def hand(self, step: Step, **more: Any) -> Mapping[str, Any]:
        """Everything that a plug-in may ask for; the model only comes into being when one does."""
        given = {"tasks": self.tasks, "seed": self.recipe.seed, "embedder": Use(), "here": self.recipe.here, **more}
        given["scorers"] = steps.Scorers({item.kind: item for item in self.recipe.score}, self.hand)
        given["verify"] = given["scorers"]["verify"]
        return steps.Hand(given, lambda: self.model(step.model or next(iter(self.recipe.models))))

    def checks(self, task: str) -> Any:
        """A task's verifiers with their settings, their code and the files that they name, for keys."""
        for step in self.recipe.score:
            if step.kind == "verify":
                own = {"checks": {task: step.settings["checks"].get(task, [])}}
                return own, registry.get("scorer", "verify").versions(own), named_files(own, self.recipe.here)
        return None

    def identity(self, step: Step) -> str:
        """Which model a step asks: part of its key, so that another model means other work."""
        return str(self.model(step.model).provider.model) if step.model else ""

    def model(self, name: str) -> Model:
        """The recipe's model of that name, opened on first use, its replies cached in the run's folder."""
        if name not in self._models:
            from zhiling.llm import bill, open_model

            cache, trace = self.recipe.cache or self.folder / "replies.sqlite", self.folder / "events.jsonl"
            line = bill.Bill(self.folder / bill.NAME, name)
            if not self._models:
                self._before = list(bill.spent(line.path).values())
            more: dict[str, Any] = {"trace": trace, "where": f"models.{name}", "bill": line, "shared": self._budget}
            model = open_model(self.recipe.models[name], cache=cache, **more)
            model.heard = self._asking.heard
            self._models[name] = model
        return self._models[name]

    @cached_property
    def _budget(self) -> Pot:
        """The recipe's budget for all models together, less what earlier executions took."""
        from zhiling.llm import bill
        from zhiling.llm.budget import Pot

        return Pot(self.recipe.budget, "budget", bill.charged(self.folder / bill.NAME))

    @contextmanager
    def asking(self, stage: str, total: int | None, **more: Any) -> Iterator[Asking]:
        """While models are asked for a stage: each outcome is told to `watch`, with what was spent so far. `total` calls are expected."""
        self._asking.begin(stage, total, more)
        try:
            yield self._asking
        finally:
            self._asking.end()


def digest(path: Path) -> str:
    """The content of a file, or of every file below a folder, as 20 hex digits. Raises DataError when there is none."""
    found = hashlib.blake2b(digest_size=10)
    try:
        if not path.exists():
            raise DataError(
                say("no such file", "文件不存在"), where=str(path), mend=say("check the path", "请检查路径")
            )
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            with file.open("rb") as content:
                found.update(hashlib.file_digest(content, "blake2b").digest())
    except OSError as error:
        raise boundary(error, str(path)) from error
    return found.hexdigest()


def named_files(settings: Mapping[str, Any], here: Path) -> list[str]:
    """Digests of the files and folders that a step's settings name, so that an edited template re-does its step."""
    texts = [text for text in _texts(settings) if 0 < len(text) < 512 and "\n" not in text]
    return [digest(here / text) for text in texts if (here / text).exists()]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def plain(value: Any) -> Any:
    """Settings, nouns and paths as JSON values, for keys."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return value.name  # what a file holds is in the key by its digest; where it lies changes nothing
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
