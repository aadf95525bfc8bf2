"""The stages of the sentence, each a function of a `Run`: which work there is, what it stands on, and what comes out.

read_data -> construct -> merge -> score -> select -> tune -> evaluate -> report. What is done to one shard is in `steps.py`.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiling import ledger, registry, steps
from zhiling.data import Source, expand
from zhiling.embed import Use
from zhiling.errors import DataError, RecipeError, say
from zhiling.pool import Fates, Marks, Pool, in_order
from zhiling.recipe import Step
from zhiling.run import Run, Work, digest, named_files, plain
from zhiling.store import Done, Entry, Output, read, views, write
from zhiling.tables import write_tables
from zhiling.text import cut
from zhiling.types import Record, Reject, row_seed

GUARDS = ("heldout", "decontaminate")
"""What keeps rows that show an evaluation row out of training: copied and nearly so, and reworded or translated."""


def read_data(run: Run) -> dict[str, list[Output]]:
    """Every data file of every task, as record shards by task. Raises DataError for a task without a usable row."""
    works: list[Work] = []
    for name, spec in run.recipe.tasks.items():
        for index, item in enumerate(spec.sources()):
            where = {key: str(value) for key, value in item.where.items()} if item.where else None
            source = Source(
                expand(item.path, run.recipe.here), item.format, item.columns, where, item.limit, item.table,
                run.recipe.answered(name),
            )  # fmt: skip
            args = {"source": source, "task": run.tasks[name], "shard_rows": run.recipe.shard_rows}
            beside = [source.path.with_name(source.path.name + end) for end in ("-wal", ".wal")]  # of a database in use
            content = [digest(path) for path in (source.path, *beside) if path == source.path or path.exists()]
            works.append(Work(f"read/{name}", str(index), args, (content,)))
    shards: dict[str, list[Output]] = {name: [] for name in run.tasks}
    for done in run.shards("steps:read_file", "prefix", works, ("data",)):
        shards[done.stage.split("/")[1]] += done.of("records")
    for name, outputs in shards.items():
        if not outputs and run.recipe.tasks[name].sources():
            see = 'zhiling sql RUN "select * from rejects"'
            first = next(
                (
                    row
                    for done in run.done
                    if done.stage == f"read/{name}"
                    for row in read(run.folder, done.of("rejects"))
                ),
                None,
            )
            what = say(f"the task '{name}' has no usable rows", f"任务“{name}”没有可用的数据行")
            what += f" ({first.where}: {first.why})" if first else ""
            mend = say(f"see the quarantined ones: {see}", f"查看被隔离的行：{see}")
            raise DataError(what, where=f"tasks.{name}.data", mend=mend)
    return shards


def line(run: Run, name: str, records: Sequence[Output]) -> steps.Line:
    """Where a task's held-out rows begin: so many of the smallest ranks, or such a share of all."""
    spec, seed = run.recipe.tasks[name], run.recipe.seed
    if not spec.heldout:
        return steps.Line(seed, -1, spec.group)
    ranks = {steps.side(record, seed, spec.group) for record in read(run.folder, records)}
    count = int(spec.heldout) if spec.heldout >= 1 else max(1, round(spec.heldout * len(ranks)))
    if count >= len(ranks):
        what = say(
            f"{count} rows to hold out of {len(ranks)}: none left to learn from",
            f"共 {len(ranks)} 行，要留出 {count} 行：没有剩下可学的",
        )
        raise RecipeError(what, where=f"tasks.{name}.heldout", mend=say("hold out fewer", "请减少留出的行数"))
    return steps.Line(seed, heapq.nsmallest(count, ranks)[-1], spec.group)


def construct(run: Run, records: Mapping[str, Sequence[Output]]) -> tuple[list[Output], list[Output]]:
    """All ways of constructing over all their tasks: (drafts for training, held-out examples for evaluation).

    Each step first yields templates for a task (`propose`), then these are filled with the task's records. The first step that
    has templates for a task also words its held-out rows; the description does where steps only have rows that are ready, and where
    records bring no answers, the step that makes rows of them makes the held-out ones too.
    """
    lines = {name: line(run, name, outputs) for name, outputs in records.items()}
    works, worded, ready, held = list[Work](), set[str](), list[Output](), list[Output]()
    for index, step in enumerate(run.recipe.construct):
        label = f"{index}-{step.kind}"
        for name in step.tasks or run.tasks:
            if registry.get("constructor", step.kind).facts["over"] == "records":
                ready += made_of(run, label, step, name, records[name], lines[name], heldout=False)
                if name not in worded and not run.recipe.answered(name) and lines[name].cut >= 0:
                    worded.add(name)
                    held += made_of(run, label, step, name, records[name], lines[name], heldout=True)
                continue
            proposal = propose(run, label, step, name)
            ready += proposal.of("drafts")
            templates = proposal.of("templates")
            if not sum(output.rows for output in templates):
                continue
            sides = (False,) if name in worded or lines[name].cut < 0 else (False, True)
            worded.add(name)
            for heldout in sides:
                stage = f"heldout/{name}" if heldout else f"construct/{label}/{name}"
                args = {
                    "templates": templates, "task": run.tasks[name], "seed": row_seed(run.recipe.seed, label), "line": lines[name],
                    "per_record": 1 if heldout else step.per_record, "heldout": heldout,
                }  # fmt: skip
                if step.settings.get("demos"):
                    args["pool"] = pool(run, name, records[name], lines[name])
                # a cap counts over all of a task's records, so that one worker must see them all
                capped = step.settings.get("cap") and not heldout
                shards = [list(records[name])] if capped else [[shard] for shard in records[name]]
                works += [Work(stage, f"{i:05d}", {"records": shard, **args}) for i, shard in enumerate(shards)]
    if ready:
        for name in (name for name in run.tasks if name not in worded and lines[name].cut >= 0):
            args = {
                "templates": described(run, name), "task": run.tasks[name], "seed": row_seed(run.recipe.seed, "described"),
                "line": lines[name], "per_record": 1, "heldout": True,
            }  # fmt: skip
            works += [
                Work(f"heldout/{name}", f"{i:05d}", {"records": [shard], **args})
                for i, shard in enumerate(records[name])
            ]
    made = run.shards("steps:fill_shard", "path", works, ("construct", "library"))
    drafts = [*(output for done in made for output in done.of("drafts")), *ready]
    return drafts, [*(output for done in made for output in done.of("heldout")), *held]


def made_of(
    run: Run, label: str, step: Step, name: str, records: Sequence[Output], line: steps.Line, *, heldout: bool
) -> list[Output]:
    """The rows that a step makes of a task's records on one side of the line, a shard at a time."""
    done = [
        propose(run, label, step, name, Side(shard, f"{index:05d}", line, heldout))
        for index, shard in enumerate(records)
    ]
    return [output for one in done for output in one.of("heldout" if heldout else "drafts")]


@dataclass(frozen=True, slots=True)
class Side:
    """A shard of a task's records, and which side of the line between training and held-out ones is worked on."""

    shard: Output
    number: str
    line: steps.Line
    heldout: bool

    def records(self, run: Run) -> list[Record]:
        """The records on that side."""
        return [record for record in read(run.folder, [self.shard]) if self.line.beyond(record) == self.heldout]


def described(run: Run, name: str) -> list[Output]:
    """A plain wording per language of a task that no step has templates for, for its held-out rows alone."""
    key = run.key("described", run.tasks[name], registry.room_version("construct"), registry.room_version("library"))

    def work() -> steps.Result:
        from zhiling.construct.retrieve_rows import described

        path = f"templates/described/{name}-{key[:12]}.parquet"
        return [write(run.folder, path, "templates", described(run.tasks[name]))], {}

    return run.once(key, f"described/{name}", name, work).of("templates")


def pool(run: Run, name: str, records: Sequence[Output], line: steps.Line) -> list[Output]:
    """The records of a task that its prompts' demos are chosen from; none is held out."""
    key = run.key("pool", name, records, line, registry.room_version("construct"))

    def work() -> steps.Result:
        from zhiling.construct import demos

        ours = (record for record in read(run.folder, records) if not line.beyond(record))
        return [write(run.folder, f"pool/{name}-{key[:12]}.parquet", "pool", demos.pool(ours, run.recipe.seed))], {}

    return run.once(key, f"pool/{name}", name, work).of("pool")


def propose(run: Run, label: str, step: Step, name: str, side: Side | None = None) -> Done:
    """One step's templates for one task, and the rows that it has ready; a constructor may ask a model here.

    One that works on records is called for one `side` of a shard of them at a time.
    """
    plugin, task = registry.get("constructor", step.kind), run.tasks[name]
    versions = (
        plugin.version,
        registry.room_version("library"),
        run.identity(step),
        named_files(step.settings, run.recipe.here),
        run.checks(name) if "verify" in plugin.wants else (),
    )
    key = run.key("propose", label, name, step.settings, task, run.recipe.seed, versions, *([side] if side else []))

    def work() -> steps.Result:
        records = side.records(run) if side else []
        seed = steps.task_seed(run.recipe.seed, task, label)
        hand = run.hand(step, task=task, seed=seed, records=records)
        each = plugin.facts.get("calls")
        expected = each(step.settings, task) * (len(records) if side else 1) or None if each else None
        with run.asking(f"construct/{label}", expected, task=name):
            made = steps.wait(steps.propose(step.kind, step.settings, hand))
        kind = "heldout" if side and side.heldout else "drafts"
        part = f"{name}-{side.number}-{kind}" if side else name
        return steps.proposed(str(run.folder), f"{label}/{part}-{key[:12]}", made, kind)

    if side is None:
        return run.once(key, f"propose/{label}", name, work)
    stage = f"heldout/{label}" if side.heldout else f"propose/{label}"
    return run.once(key, stage, f"{name}.{side.number}", work)


def merge(run: Run, drafts: Sequence[Output]) -> tuple[list[Output], list[Output]]:
    """Rows with one id become one row: (unique examples by ascending id in even shards, the rows merged away)."""
    key = run.key("merge", [output.path for output in drafts], run.recipe.shard_rows)

    def work() -> steps.Result:
        shards, merged, firsts = in_order(run.folder, drafts, key[:12], run.recipe.shard_rows)
        facts = {
            "unique": sum(shard.rows for shard in shards),
            "merged": sum(one.rows for one in merged),
            "firsts": firsts,
        }
        return [*shards, *merged], facts

    done = run.once(key, "merge", "all", work)
    if not done.of("examples"):
        see = 'zhiling sql RUN "select state, why, count(*) from rejects group by all"'
        what = say("nothing was constructed", "没有构造出任何数据")
        raise DataError(what, where=str(run.folder), mend=say(f"see why: {see}", f"查看原因：{see}"))
    return done.of("examples"), done.of("merged")


def score(run: Run, examples: Sequence[Output]) -> list[Output]:
    """Every scorer over every shard: on the engine, or here when it asks a model."""
    outputs, works = list[Output](), list[Work]()
    for step in run.recipe.score:
        plugin = registry.get("scorer", step.kind)
        for index, shard in enumerate(examples):
            if registry.asks(plugin, step.settings):
                outputs += _score_here(run, step, index, shard, len(examples)).of("scores")
            else:
                settings = {"scorer": step.kind, "settings": dict(step.settings)}
                args = {**settings, "rows": shard, "tasks": run.tasks, "seed": run.recipe.seed, "here": run.recipe.here}
                more = (plugin.versions(step.settings), named_files(step.settings, run.recipe.here))
                works.append(Work(f"score/{step.kind}", f"{index:05d}", args, more))
    works.sort(key=lambda work: work.shard)  # all scorers of a shard in turn: a worker reads it once
    for done in run.shards("steps:score_shard", "path", works):
        outputs += done.of("scores")
    return sorted(outputs, key=lambda output: output.path)


def _score_here(run: Run, step: Step, index: int, shard: Output, total: int) -> Done:
    versions = registry.get("scorer", step.kind).versions(step.settings), named_files(step.settings, run.recipe.here)
    key = run.key("score", step.kind, step.settings, shard.path, run.tasks, versions, run.identity(step))

    def work() -> steps.Result:
        rows = list(read(run.folder, [shard]))
        each = run.calls_per_row.get(step.where)  # as the shard before had it
        expected = None if each is None else round(each * len(rows))
        with run.asking(f"score/{step.kind}", expected, task=f"{index + 1}/{total}") as asking:
            scores = steps.wait(steps.score(step.kind, step.settings, rows, run.hand(step)))
        run.calls_per_row[step.where] = asking.done / max(1, len(rows))
        path = f"scores/{step.kind}/{index:05d}-{key[:12]}.parquet"
        return [write(run.folder, path, "scores", scores)], {"scored": len(scores)}

    return run.once(key, f"score/{step.kind}", f"{index:05d}", work)


def select(
    run: Run, examples: Sequence[Output], merged: Sequence[Output], scores: Sequence[Output], heldout: Sequence[Output]
) -> list[Output]:
    """The selectors in turn, each on what is still kept; then the kept rows and the ledger, which must balance."""
    chain = guarded(run.recipe.select) if heldout else list(run.recipe.select)
    versions = [
        (
            step.kind,
            step.settings,
            registry.get("selector", step.kind).version,
            named_files(step.settings, run.recipe.here),
        )
        for step in chain
    ]
    inputs = [output.path for output in (*examples, *merged, *scores, *heldout)]
    made = [done.key for done in run.done if done.stage.split("/")[0] in ("read", "propose", "construct")]
    key = run.key("select", versions, inputs, made, run.tasks, run.recipe.seed)

    def work() -> steps.Result:
        pool = Pool(run.folder, examples)
        fates = Fates(pool)
        outputs = _verdicts(run, key, chain, fates, scores, heldout)
        counts = Counter[str]()

        def counted() -> Iterator[Entry]:
            for entry in ledger.entries(_rejects(run), read(run.folder, merged), fates.entries()):
                counts[entry.state] += 1
                yield entry

        outputs.append(write_tables(run.folder, f"kept/{key[:12]}.parquet", "kept", fates.survivors()))
        outputs.append(write(run.folder, f"ledger/{key[:12]}.parquet", "ledger", counted()))
        balance = ledger.balance(ledger.came_in(run.done), counts)
        named = [{"selector": step.kind, "settings": plain(step.settings)} for step in chain]
        given = {"seed": run.recipe.seed, "tasks": plain(run.tasks), "here": str(run.recipe.here)}
        return outputs, {"came": balance.came, "states": dict(balance.states), "chain": named, **given}

    done = run.once(key, "select", "all", work)
    run.summary.balance = ledger.Balance(done.facts["came"], done.facts["states"])
    run.summary.kept = sum(output.rows for output in done.of("kept"))
    if not run.summary.kept:
        see = f'zhiling sql {run.folder} "select stage, why, count(*) from ledger group by all"'
        raise DataError(
            _emptied(run.folder), where="select", mend=say(f"loosen it; see why: {see}", f"请放宽条件；查看原因：{see}")
        )
    return done.of("kept")


def _emptied(folder: Path) -> str:
    """That nothing was kept: which step dropped most rows, how many, and one of them with its reason, in which a threshold says by how much."""
    with views(folder) as db:
        worst = db.execute(
            "select stage, count(*) as n, arg_min(why, id) from ledger where state = 'dropped' group by stage order by n desc, stage limit 1"
        ).fetchone()
    what = say("the selection kept no row", "筛选后没有保留任何数据")
    if worst is None:
        return what
    stage, count, why = worst
    return what + say(
        f": {stage} dropped {count}, such as: {cut(why, 100)}", f"：{stage} 去掉 {count} 行，例如：{cut(why, 100)}"
    )


def guarded(chain: Sequence[Step]) -> list[Step]:
    """The selectors with the leak guards before them, which run whether or not a recipe thinks of them."""
    missing = [name for name in GUARDS if all(step.kind != name for step in chain)]
    return [*(Step(name, registry.settle(registry.get("selector", name), {}), "select") for name in missing), *chain]


def _verdicts(
    run: Run, key: str, chain: Sequence[Step], fates: Fates, scores: Sequence[Output], heldout: Sequence[Output]
) -> list[Output]:
    """Each selector on what is still kept, its verdicts noted in `fates` and written to a file of their own."""
    marks, held = Marks(run.folder, scores, fates.pool.all), list(read(run.folder, heldout))
    hand = {
        "scores": marks,
        "heldout": held,
        "tasks": run.tasks,
        "seed": run.recipe.seed,
        "embedder": Use(),
        "here": run.recipe.here,
    }
    still, outputs = fates.pool, list[Output]()
    for index, step in enumerate(chain):
        run.watch({"stage": f"select/{step.kind}", "rows": len(still)})
        plugin = registry.get("selector", step.kind)
        verdicts = fates.hear(still, steps.stream(steps.call(plugin, step.settings, hand, still)), step)
        outputs.append(write(run.folder, f"verdicts/{index}-{step.kind}-{key[:12]}.parquet", "verdicts", verdicts))
        still = still.those(fates.kept[still.at])
    return outputs


def _rejects(run: Run) -> Iterator[Reject]:
    for done in run.done:
        # A held-out row that cannot be worded is no training row: it is counted where evaluation happens.
        if not done.stage.startswith("heldout"):
            yield from read(run.folder, done.of("rejects"))


def check(run: Run) -> None:
    """What can be known to be wrong before work starts: a key that is missing, a model file that is broken, a setting of tuning."""
    reached = [step for room in ("construct", "score") if run.reaches(room) for step in getattr(run.recipe, room)]
    for step in reached:
        if step.model:
            run.model(step.model)
    steps.able(run.recipe, reached, run.model)
    if run.recipe.evaluate is not None and run.recipe.tune is not None and run.reaches("evaluate"):
        from zhiling.proof import execution

        execution.check(run.tasks, _verifiers(run))
        if run.recipe.evaluate.judge:
            run.model(run.recipe.evaluate.judge)
    if run.recipe.tune is not None and run.reaches("tune"):
        from zhiling.proof import tuning

        tuning.check(run.recipe.tune.model, run.recipe.tune.settings)


def _verifiers(run: Run) -> Mapping[str, Any]:
    """The tasks' verifiers with their settings."""
    return next((step.settings["checks"] for step in run.recipe.score if step.kind == "verify"), {})


def tune(run: Run, kept: Sequence[Output]) -> None:
    """Tune the recipe's base model on the kept rows, here or at its provider; whoever tunes also resumes."""
    spec = run.recipe.tune
    if spec is None:
        return
    from zhiling.proof import tuning

    here = run.recipe.here / spec.model
    base, rows = str(here) if here.is_dir() else spec.model, list(read(run.folder, kept))
    out, seed = run.folder / "tune", run.recipe.seed
    run.summary.tuned = tuning.tune(base, rows, out, spec.settings, run.watch, here=run.recipe.here, seed=seed)


def evaluate(run: Run, heldout: Sequence[Output]) -> None:
    """Base against tuned on the same held-out rows."""
    spec = run.recipe.evaluate
    if spec is None or not run.summary.tuned or not heldout:
        return
    from zhiling.proof import prove
    from zhiling.proof.execution import executor

    held, cache = list(read(run.folder, heldout)), run.folder / "replies.sqlite"
    judge = run.model(spec.judge) if spec.judge else None
    how = (judge, executor(_verifiers(run), run.recipe.here))
    work = prove.evaluate(run.summary.tuned, held, run.tasks, spec, run.recipe.seed, cache, run.watch, *how)
    answers, results = steps.wait(work)
    run.summary.results = results
    key = run.key("evaluate", answers)
    run.once(
        key, "evaluate", "all", lambda: ([write(run.folder, f"answers/{key[:12]}.parquet", "answers", answers)], {})
    )
    (run.folder / "results.json").write_text(json.dumps(results, ensure_ascii=False, indent=1), encoding="utf-8")


def report(run: Run) -> None:
    """The run as one page."""
    if run.recipe.report is None:
        return
    from zhiling.report import build

    run.watch({"stage": "report"})
    settings: dict[str, Any] = {"langs": run.recipe.report.langs, "samples": run.recipe.report.samples}
    run.summary.report = build(run.folder, **settings)
