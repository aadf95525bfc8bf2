"""A run is a folder: this file executes a recipe's plan in it, resumes it after anything, and re-does only what changed.

The method `Run.execute` is the sentence: read -> propose -> construct -> merge -> score -> select -> tune -> evaluate -> report.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from zhiling import ledger, registry, steps
from zhiling.data import Source, expand
from zhiling.embed import Use
from zhiling.engine import Engine, Job, open_engine
from zhiling.errors import DataError, RecipeError, boundary, say
from zhiling.recipe import Recipe, Step
from zhiling.store import FORMAT, Done, Output, Store, read, write
from zhiling.types import Example, Reject, Score, Verdict, content_id, row_seed

if TYPE_CHECKING:
    from zhiling.llm import Model

Watch: TypeAlias = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Work:
    """One shard's work for the engine: its arguments, and what besides them its key depends on."""

    stage: str
    shard: str
    args: Mapping[str, Any]
    more: tuple[Any, ...] = ()


STAGES = ("read", "construct", "score", "select", "tune", "evaluate", "report")


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


class Run:
    """One execution of a recipe in a folder; a context manager, so that models, workers and the folder's lock are let go.

    `until` names the last stage to do; `watch` hears {"stage", "done", "total", ...} events all along.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, *, engine: str = "local", workers: int | None = None, until: str = "report", watch: Watch | None = None
    ) -> None:  # fmt: skip
        if until not in STAGES:
            raise RecipeError(
                say(f"unknown stage '{until}'", f"未知的阶段“{until}”"), where="--until", mend=", ".join(STAGES)
            )
        self.recipe, self.folder, self.until = recipe, folder, until
        self.watch: Watch = watch or (lambda event: None)
        self.tasks = {name: spec.task(name) for name, spec in recipe.tasks.items()}
        self.summary = Summary(folder)
        self.store = Store(folder)
        self.engine: Engine = open_engine(engine, workers)
        self._models: dict[str, Model] = {}
        self._done: list[Done] = []

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of workers, models and the folder."""
        self.engine.close()
        for model in self._models.values():
            with suppress(RuntimeError):  # a loop that Ctrl-C already ended has nothing left to close
                asyncio.run(model.close())
        self._models = {}
        self.store.close()

    # -- the sentence ----------------------------------------------------------------------------------------------------

    def execute(self) -> Summary:
        """Do, or go on with, everything up to `until`."""
        self.store.begin()
        self._note_recipe()
        records = self._read()
        if self._reaches("construct"):
            drafts, heldout = self._construct(records)
            examples, merged = self._merge(drafts)
            scores = self._score(examples) if self._reaches("score") else []
            if self._reaches("select"):
                kept = self._select(examples, merged, scores, heldout)
                self._tune_and_evaluate(kept, heldout)
        for name, model in self._models.items():
            self.summary.spent[name] = dict(model.spent)
        self._note_summary()
        if self._reaches("report") and self.recipe.report is not None:
            self._report()
        return self.summary

    def _reaches(self, stage: str) -> bool:
        return STAGES.index(stage) <= STAGES.index(self.until)

    def _note_recipe(self) -> None:
        (self.folder / "recipe.yaml").write_text(self.recipe.text, encoding="utf-8")

    def _note_summary(self) -> None:
        """The figures of the run as JSON, for the report, `show` and `diff`."""
        s = self.summary
        facts = {
            "name": self.recipe.name, "seed": self.recipe.seed, "engine": self.engine.name, "until": self.until,
            "states": dict(s.balance.states) if s.balance else {}, "came": s.balance.came if s.balance else 0, "kept": s.kept,
            "reused": s.reused, "worked": s.worked, "tuned": s.tuned, "spent": s.spent,
        }  # fmt: skip
        (self.folder / "run.json").write_text(
            json.dumps(facts, ensure_ascii=False, indent=1, default=str), encoding="utf-8"
        )

    # -- stages ----------------------------------------------------------------------------------------------------------

    def _read(self) -> dict[str, list[Output]]:
        """Every data file of every task, as record shards by task."""
        jobs: list[Work] = []
        for name, spec in self.recipe.tasks.items():
            for index, item in enumerate(spec.sources()):
                source = Source(
                    expand(item.path, self.recipe.here), item.format, item.columns, _texts(item.where), item.limit
                )
                args = {"source": source, "task": self.tasks[name], "shard_rows": self.recipe.shard_rows}
                jobs.append(Work(f"read/{name}", str(index), args, (digest(source.path),)))
        shards: dict[str, list[Output]] = {name: [] for name in self.tasks}
        for done in self._shards("steps:read_file", "prefix", jobs, ("data.py",)):
            shards[done.stage.split("/")[1]] += done.of("records")
        for name, outputs in shards.items():
            if not sum(output.rows for output in outputs):
                mend = say(
                    'see the quarantined rows: zhiling sql RUN "select * from rejects"',
                    '查看被隔离的行：zhiling sql RUN "select * from rejects"',
                )
                raise DataError(
                    say(f"the task '{name}' has no usable rows", f"任务“{name}”没有可用的数据行"),
                    where=f"tasks.{name}.data",
                    mend=mend,
                )
        return shards

    def _cut(self, name: str, records: Sequence[Output]) -> int:
        """The rank up to which records are held out: so many of the smallest, or such a share of all."""
        spec = self.recipe.tasks[name]
        if not spec.heldout:
            return -1
        ranks = {steps.side(r, self.recipe.seed, spec.group) for r in read(self.folder, records)}
        count = int(spec.heldout) if spec.heldout >= 1 else max(1, round(spec.heldout * len(ranks)))
        if count >= len(ranks):
            where, mend = f"tasks.{name}.heldout", say("hold out fewer", "请减少留出的行数")
            raise RecipeError(
                say(
                    f"{count} rows to hold out of {len(ranks)}: none left to learn from",
                    f"共 {len(ranks)} 行，要留出 {count} 行：没有剩下可学的",
                ),
                where=where,
                mend=mend,
            )
        return heapq.nsmallest(count, ranks)[-1]

    def _construct(self, records: Mapping[str, Sequence[Output]]) -> tuple[list[Output], list[Output]]:
        """All ways of constructing over all their tasks: (drafts for training, held-out examples for evaluation)."""
        cuts = {name: self._cut(name, outputs) for name, outputs in records.items()}
        proposed = [
            (f"{index}-{step.kind}", step, self._propose(f"{index}-{step.kind}", step, name))
            for index, step in enumerate(self.recipe.construct)
            for name in (step.tasks or self.tasks)
        ]
        jobs, asked = list[Work](), set[str]()
        for label, step, done in proposed:
            name, templates = done.shard, done.of("templates")
            if not sum(output.rows for output in templates):
                continue
            sides = [False] if name in asked or cuts[name] < 0 else [False, True]
            asked.add(name)  # the first step that has templates for a task also words its held-out rows
            for heldout in sides:
                for index, shard in enumerate(records[name]):
                    args = {
                        "records": shard, "templates": templates, "task": self.tasks[name], "seed": row_seed(self.recipe.seed, label),
                        "per_record": 1 if heldout else step.per_record, "cut": cuts[name], "group": self.recipe.tasks[name].group, "heldout": heldout,
                    }  # fmt: skip
                    stage = f"heldout/{name}" if heldout else f"construct/{label}/{name}"
                    jobs.append(Work(stage, f"{index:05d}", args))
        drafts, heldout_rows = list[Output](), list[Output]()
        for made in self._shards("steps:fill_shard", "path", jobs, ("construct", "library")):
            drafts += made.of("drafts")
            heldout_rows += made.of("heldout")
        return drafts, heldout_rows

    def _propose(self, label: str, step: Step, name: str) -> Done:
        """One step's templates for one task; a constructor may ask a model here."""
        plugin, task = registry.get("constructor", step.kind), self.tasks[name]
        key = self._key(
            "propose",
            label,
            name,
            step.settings,
            task,
            self._version(plugin, "library"),
            self._identity(step),
            _files(step.settings, self.recipe.here),
        )

        def work() -> steps.Result:
            self.watch({"stage": f"construct/{label}", "task": name})
            made = asyncio.run(
                steps.propose(
                    step.kind,
                    step.settings,
                    self._hand(step, task=task, seed=steps.task_seed(self.recipe.seed, task, label)),
                )
            )
            return steps.split(str(self.folder), f"{label}/{name}-{key[:12]}", made, "templates")

        return self._once(key, f"propose/{label}", name, work)

    def _merge(self, drafts: Sequence[Output]) -> tuple[list[Output], list[Output]]:
        """Rows with one id become one row: (unique examples in even shards, the rows merged away)."""
        key = self._key("merge", [output.path for output in drafts], self.recipe.shard_rows)

        def work() -> steps.Result:
            seen, merged = set[str](), list[Example]()

            def unique() -> Iterator[Example]:
                for row in read(self.folder, drafts):
                    if row.id in seen:
                        merged.append(row)
                    else:
                        seen.add(row.id)
                        yield row

            outputs, stream = list[Output](), unique()
            while (first := next(stream, None)) is not None:
                path = f"examples/{key[:12]}.{len(outputs):05d}.parquet"
                outputs.append(write(self.folder, path, "examples", _take(first, stream, self.recipe.shard_rows)))
            if merged:
                outputs.append(write(self.folder, f"merged/{key[:12]}.parquet", "merged", merged))
            return outputs, {"unique": len(seen), "merged": len(merged)}

        done = self._once(key, "merge", "all", work)
        if not done.of("examples"):
            mend = say(
                'see: zhiling sql RUN "select state, why, count(*) from rejects group by all"',
                '查看：zhiling sql RUN "select state, why, count(*) from rejects group by all"',
            )
            raise DataError(say("nothing was constructed", "没有构造出任何数据"), where=str(self.folder), mend=mend)
        return done.of("examples"), done.of("merged")

    def _score(self, examples: Sequence[Output]) -> list[Output]:
        """Every scorer over every shard: on the engine, or here when it asks a model."""
        outputs, jobs = list[Output](), list[Work]()
        for step in self.recipe.score:
            plugin = registry.get("scorer", step.kind)
            for index, shard in enumerate(examples):
                if "model" in plugin.wants:
                    outputs += self._score_here(step, plugin, index, shard, len(examples)).of("scores")
                else:
                    args = {
                        "scorer": step.kind,
                        "settings": dict(step.settings),
                        "rows": shard,
                        "tasks": self.tasks,
                        "seed": self.recipe.seed,
                    }
                    jobs.append(Work(f"score/{step.kind}", f"{index:05d}", args, (self._version(plugin),)))
        for done in self._shards("steps:score_shard", "path", jobs, ()):
            outputs += done.of("scores")
        return sorted(outputs, key=lambda output: output.path)

    def _score_here(self, step: Step, plugin: registry.Plugin, index: int, shard: Output, total: int) -> Done:
        key = self._key("score", step.kind, step.settings, shard.path, self._version(plugin), self._identity(step))

        def work() -> steps.Result:
            self.watch({"stage": f"score/{step.kind}", "done": index, "total": total})
            rows = list(read(self.folder, [shard]))
            scores = asyncio.run(steps.score(step.kind, step.settings, rows, self._hand(step)))
            path = f"scores/{step.kind}/{index:05d}-{key[:12]}.parquet"
            return [write(self.folder, path, "scores", scores)], {"scored": len(scores)}

        return self._once(key, f"score/{step.kind}", f"{index:05d}", work)

    def _select(
        self, examples: Sequence[Output], merged: Sequence[Output], scores: Sequence[Output], heldout: Sequence[Output]
    ) -> list[Output]:
        """The selectors in turn, each on what is still kept; then the kept rows and the ledger, which must balance."""
        chain = list(self.recipe.select)
        if heldout and all(
            step.kind != "heldout" for step in chain
        ):  # the leak guard runs whether or not a recipe thinks of it
            chain.insert(0, Step("heldout", registry.settle(registry.get("selector", "heldout"), {}), "select"))
        versions = [(step.kind, step.settings, self._version(registry.get("selector", step.kind))) for step in chain]
        inputs = [output.path for output in (*examples, *merged, *scores, *heldout)]
        key = self._key(
            "select",
            versions,
            inputs,
            [done.key for done in self._done if done.stage.startswith(("read", "propose", "construct"))],
            self.recipe.seed,
        )

        def work() -> steps.Result:
            return self._selected(key, chain, examples, merged, scores, heldout)

        done = self._once(key, "select", "all", work)
        self.summary.balance = ledger.Balance(done.facts["came"], done.facts["states"])
        self.summary.kept = sum(output.rows for output in done.of("kept"))
        return done.of("kept")

    def _selected(
        self, key: str, chain: Sequence[Step], examples: Sequence[Output], merged: Sequence[Output], scores: Sequence[Output],
        heldout: Sequence[Output],
    ) -> steps.Result:  # fmt: skip
        rows: list[Example] = list(read(self.folder, examples))
        by_key: dict[tuple[str, str], Score] = {
            (score.example, score.scorer): score for score in read(self.folder, scores)
        }
        still, outputs, said = rows, list[Output](), list[dict[str, Verdict]]()
        hand = {
            "scores": by_key,
            "heldout": list(read(self.folder, heldout)),
            "tasks": self.tasks,
            "seed": self.recipe.seed,
            "embedder": Use(),
        }
        for index, step in enumerate(chain):
            self.watch({"stage": f"select/{step.kind}", "rows": len(still)})
            plugin = registry.get("selector", step.kind)
            verdicts: list[Verdict] = asyncio.run(steps.collect(steps.call(plugin, step.settings, hand, still)))
            verdicts.sort(key=lambda verdict: verdict.example)
            said.append({verdict.example: verdict for verdict in verdicts})
            outputs.append(write(self.folder, f"verdicts/{index}-{step.kind}-{key[:12]}.parquet", "verdicts", verdicts))
            still = [row for row in still if said[-1][row.id].kept]
        rejects = [reject for done in self._done for reject in self._rows(done, "rejects")]
        entries = list(ledger.entries(rejects, read(self.folder, merged), rows, said))
        balance = ledger.balance(ledger.came_in(self._done), entries)
        outputs.append(write(self.folder, f"kept/{key[:12]}.parquet", "kept", still))
        outputs.append(write(self.folder, f"ledger/{key[:12]}.parquet", "ledger", entries))
        return outputs, {"came": balance.came, "states": dict(balance.states)}

    def _rows(self, done: Done, kind: str) -> Iterator[Reject]:
        # Held-out rows that cannot be worded are not training rows; they are counted where evaluation happens.
        return read(self.folder, [] if done.stage.startswith("heldout") else done.of(kind))

    def _tune_and_evaluate(self, kept: Sequence[Output], heldout: Sequence[Output]) -> None:
        from zhiling import prove

        if self._reaches("tune") and self.recipe.tune is not None:
            rows = list(read(self.folder, kept))
            self.summary.tuned = prove.tune(self.recipe, self.folder, rows, self.watch)
        if self._reaches("evaluate") and self.recipe.evaluate is not None and self.summary.tuned:
            held = list(read(self.folder, heldout))
            answers, results = prove.evaluate(
                self.recipe, self.folder, self.tasks, held, self.summary.tuned, self.watch
            )
            self.summary.results = results
            key = self._key("evaluate", content_id(answers))
            self._once(
                key,
                "evaluate",
                "all",
                lambda: ([write(self.folder, f"answers/{key[:12]}.parquet", "answers", answers)], {}),
            )
            (self.folder / "results.json").write_text(
                json.dumps(results, ensure_ascii=False, indent=1), encoding="utf-8"
            )

    def _report(self) -> None:
        from zhiling.report import build

        assert self.recipe.report is not None
        self.watch({"stage": "report"})
        self.summary.report = build(self.folder, langs=self.recipe.report.langs, samples=self.recipe.report.samples)

    # -- the mechanism ---------------------------------------------------------------------------------------------------

    def _shards(self, fn: str, path_arg: str, jobs: Iterable[Work], rooms: Sequence[str]) -> list[Done]:
        """Run shard jobs (stage, shard, arguments, more of the key) on the engine; those the journal knows are not run again.

        The result is in the order of the jobs, whatever order they finished in.
        """
        planned, todo, found = list[str](), list[Job](), dict[str, Done]()
        works: dict[str, Work] = {}
        for job in jobs:
            key = self._key(
                fn, job.stage, job.shard, job.args, job.more, [registry.room_version(room) for room in rooms]
            )
            planned.append(key)
            works[key] = job
            if (done := self.store.find(key)) is not None:
                found[key] = done
                self.summary.reused += 1
            else:
                path = f"{job.stage.split('/', 1)[1]}-{job.shard}-{key[:12]}"
                todo.append(Job(key, f"zhiling.{fn}", {"root": str(self.folder), path_arg: path, **job.args}))
        for number, (key, (outputs, counts)) in enumerate(self.engine.run(todo), 1):
            job = works[key]
            found[key] = self.store.commit(Done(key, job.stage, job.shard, tuple(outputs), counts))
            self.summary.worked += 1
            self.watch(
                {"stage": job.stage, "done": number, "total": len(todo), "rows": sum(output.rows for output in outputs)}
            )
        self._done += [found[key] for key in planned]
        return [found[key] for key in planned]

    def _once(self, key: str, stage: str, shard: str, work: Callable[[], steps.Result]) -> Done:
        """Work done here in the driver, unless the journal knows it."""
        done = self.store.find(key)
        if done is None:
            outputs, facts = work()
            done = self.store.commit(Done(key, stage, shard, tuple(outputs), facts))
            self.summary.worked += 1
        else:
            self.summary.reused += 1
        self._done.append(done)
        return done

    def _key(self, *parts: Any) -> str:
        return content_id(FORMAT, self._spine, _plain(parts))

    @cached_property
    def _spine(self) -> str:
        """The code that every stage stands on; a change there re-does everything."""
        return content_id(
            [registry.module_version(f"zhiling.{name}") for name in ("types", "text", "store", "steps", "embed")]
        )

    def _version(self, plugin: registry.Plugin, *rooms: str) -> str:
        return content_id(plugin.version, [registry.room_version(room) for room in rooms])

    def _identity(self, step: Step) -> str:
        """Which model a step asks: part of its key, so that another model means other work."""
        return str(self.model(step.model).provider.model) if step.model else ""

    def _hand(self, step: Step, **more: Any) -> Mapping[str, Any]:
        given = {"tasks": self.tasks, "seed": self.recipe.seed, "embedder": Use(), "here": self.recipe.here, **more}
        given["scorers"] = steps.Scorers({item.kind: item for item in self.recipe.score}, self._hand)
        return _Hand(given, lambda: self.model(step.model or next(iter(self.recipe.models))))

    def model(self, name: str) -> Model:
        """The recipe's model of that name, opened on first use, its replies cached in the run's folder."""
        if name not in self._models:
            from zhiling.llm import open_model

            where = f"models.{name}"
            self._models[name] = open_model(
                self.recipe.models[name],
                cache=self.folder / "replies.sqlite",
                trace=self.folder / "events.jsonl",
                where=where,
            )
        return self._models[name]


class _Hand(dict[str, Any]):
    """What can be handed to a plug-in. The model is opened only when somebody asks for it: most steps do not."""

    def __init__(self, given: Mapping[str, Any], model: Callable[[], Any]) -> None:
        super().__init__(given)
        self._model = model

    def __missing__(self, key: str) -> Any:
        if key != "model":
            raise KeyError(key)
        self["model"] = self._model()
        return self["model"]


def _take(first: Example, rest: Iterator[Example], count: int) -> Iterator[Example]:
    yield first
    yield from islice(rest, count - 1)


def _texts(where: Mapping[str, str | int] | None) -> dict[str, str] | None:
    return {key: str(value) for key, value in where.items()} if where else None


def digest(path: Path) -> str:
    """The content of a file, or of every file below a folder, as 20 hex digits. Raises DataError when there is none."""
    found = hashlib.blake2b(digest_size=10)
    try:
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            with file.open("rb") as content:
                found.update(hashlib.file_digest(content, "blake2b").digest())
        if not path.exists():
            raise DataError(
                say("no such file", "文件不存在"), where=str(path), mend=say("check the path", "请检查路径")
            )
    except OSError as error:
        raise boundary(error, str(path)) from error
    return found.hexdigest()


def _files(settings: Mapping[str, Any], here: Path) -> list[str]:
    """Digests of the files and folders that a step's settings name, so that an edited template re-does its step."""
    values = [item for value in settings.values() for item in (value if isinstance(value, list | tuple) else [value])]
    texts = [value for value in values if isinstance(value, str) and value and len(value) < 512 and "\n" not in value]
    return [digest(here / text) for text in texts if (here / text).exists()]


def _plain(value: Any) -> Any:
    """Settings, nouns and paths as JSON values, for keys."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
