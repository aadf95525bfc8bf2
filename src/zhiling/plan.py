"""`zhiling run --plan`: rows, calls, tokens, minutes and money of each step, counted on the real data, without spending any.

Rows are exact up to what selection will drop. A step that asks a model is run against one that is not asked (`llm.dry`): constructors
whole, scorers on a sample of rows, so calls and prompts are the real ones, as far as they do not hang on earlier replies (and at most
those, where rows that were not in the sample ask the same question). Prompt tokens
are guessed from the text, completion tokens as a share of `max_tokens` (`llm.guess`), and both are refined by what the traces of earlier
runs saw of the same model, or, for a model on this machine, by asking it a few of the requests. What the reply cache holds is not counted.
Minutes are given for local models, from their measured speed; of tuning, from speeds seen on two quiet cores. What is not known is None.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhiling import registry, steps
from zhiling.data import Source, expand, read
from zhiling.embed import Use
from zhiling.errors import ProviderError, say
from zhiling.proof import tuning
from zhiling.recipe import Recipe, Step, TuneSpec
from zhiling.text import length
from zhiling.types import Example, Record, Request, Task, Template, Usage

if TYPE_CHECKING:
    from zhiling.llm import Model
    from zhiling.llm.guess import Seen
    from zhiling.llm.speed import Speed

PREFILL, TRAIN = 400.0, 180.0
"""Tokens per second of the embedded 135M model on two quiet cores: read at once, and trained with LoRA."""
SCORE, WRITE = 1000.0, 110.0
"""Its tokens per second of one core, in batches of 32: texts scored, and answers written by torch."""
SAMPLE, BEGUN = 24, 200
"""Rows per task that a scorer is shown; first rows of each file, all of which a constructor that works on records is shown."""
TRIED, LONGEST_TRY = 12, 256
"""How many requests a local model is asked to see how long its replies are, and the longest replies that are waited for."""
TRACES = 20
"""Runs beside this one whose traces are looked at, newest first."""


def estimate(recipe: Recipe, folder: Path | None = None) -> list[dict[str, Any]]:
    """One row per step and one in total, with the keys of COLUMNS; None is not known.

    `folder` is where the run would go: what its cache holds costs nothing, and the runs beside it teach how long replies are. Raises
    RecipeError and DataError for what is wrong before work starts, ProviderError(kind="capability") for what a model cannot do.
    """
    sample, counts, size = _records(recipe)
    planner = _Planner(recipe, folder, sample, counts)
    steps.able(recipe, [*recipe.construct, *recipe.score], planner.model)
    out, made, held = [], 0, 0
    for name, count in counts.items():
        held += _away(recipe, name, count)
        out.append(_row(f"read {name}", rows=count))
    for index, step in enumerate(recipe.construct):
        names = step.tasks or tuple(recipe.tasks)
        rows = sum(_made(recipe, step, planner.tasks[name], counts[name]) for name in names)
        made += rows
        out.append(planner.construct(step, f"{index}-{step.kind}", names, rows))
    out += [planner.score(step, made) for step in recipe.score]
    limit = _quota(recipe)
    kept = min(made, limit) if limit else made
    out.append(_row("select", rows=kept))
    if recipe.tune is not None:
        told = tuning.expected(recipe.tune.model, recipe.tune.settings)
        tokens = int(kept * (size + 30) * told.epochs)
        minutes, usd = _minutes(recipe.tune.model, tokens, TRAIN), told.tune_usd(tokens)
        out.append(_row("tune", rows=kept, calls=None if usd == 0.0 else 1, tokens=tokens, minutes=minutes, usd=usd))
    if recipe.evaluate is not None and recipe.tune is not None:
        rows = min(held, (recipe.evaluate.rows or held) * len(recipe.tasks))
        tokens = int(2 * rows * (size + 30 + 12))
        minutes = _minutes(recipe.tune.model, tokens, PREFILL)
        usd = tuning.expected(recipe.tune.model, recipe.tune.settings).ask_usd(int(rows * (size + 30)), 12 * rows)
        out.append(_row("evaluate", rows=rows, calls=2 * rows, tokens=tokens, minutes=minutes, usd=usd))
        if recipe.evaluate.drift:
            out.append(_drift(recipe.tune))
        if recipe.evaluate.judge:
            out.append(planner.judge(recipe.evaluate.judge, rows))
    out.append(_total(out))
    return out


def table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The plan for eyes: a cost that is not known says so."""
    shown = []
    for row in rows:
        unknown = bool(row["calls"]) and row["usd"] is None
        shown.append({**row, "usd": say("unknown", "未知") if unknown else row["usd"]})
    return shown


class _Planner:
    """The models of a recipe, unasked, with what is known of each."""

    def __init__(
        self, recipe: Recipe, folder: Path | None, sample: Mapping[str, Sequence[Record]], counts: Mapping[str, int]
    ) -> None:
        self.recipe, self.folder, self.sample, self.counts = recipe, folder, sample, counts
        self.tasks = {name: spec.task(name) for name, spec in recipe.tasks.items()}
        self.models: dict[str, Model] = {}
        self._seen: dict[str, Seen] = {}
        self._examples: list[Example] | None = None

    def construct(self, step: Step, label: str, names: Sequence[str], rows: int) -> dict[str, Any]:
        """A constructor asks for a task as a whole, so it is run whole; one that works on records is shown some, and scaled to all."""
        if not step.model:
            return _row(f"construct {step.kind}", rows=rows, calls=0)
        plugin = registry.get("constructor", step.kind)
        count, asked = plugin.facts.get("calls"), dict[str, dict[str, Request]]()
        shown, whole = 0, 0
        for name in names:
            task, records = self.tasks[name], self.sample[name]
            hand = self._hand(
                asked, step, task=task, seed=steps.task_seed(self.recipe.seed, task, label), records=records
            )
            _run(steps.propose(step.kind, step.settings, hand))
            if plugin.facts["over"] == "records":
                shown += len(records)
                held = 0 if _words_held(self.recipe, step, name) else _away(self.recipe, name, self.counts[name])
                whole += self.counts[name] - held
        scale = whole / shown if shown else 1.0
        times = {name: len(self.sample[name]) if plugin.facts["over"] == "records" else 1 for name in names}
        least = sum(int(count(step.settings, self.tasks[name])) * times[name] for name in names) if count else 0
        return self._priced(f"construct {step.kind}", rows, asked, step.model, least=least, scale=scale)

    def score(self, step: Step, made: int) -> dict[str, Any]:
        """A scorer asks for each row, so it is shown some, and its calls are scaled to all."""
        if not step.model or not made:
            return _row(f"score {step.kind}", rows=made, calls=0)
        examples = self.examples()
        asked: dict[str, dict[str, Request]] = {}
        _run(steps.score(step.kind, step.settings, examples, self._hand(asked, step)))
        return self._priced(f"score {step.kind}", made, asked, step.model, scale=made / len(examples))

    def judge(self, name: str, rows: int) -> dict[str, Any]:
        """Two calls for each held-out row, shown as sample rows with two answers of the length of their own."""
        from zhiling.llm.dry import dry
        from zhiling.score.judge import duels

        asked: dict[str, dict[str, Request]] = {name: {}}
        examples = self.examples() if rows else []
        model = dry(self.model(name), asked[name])
        _run(duels(examples, [row.output[::-1] for row in examples], model=model))
        return self._priced("judge", rows, asked, name, scale=rows / max(1, len(examples)))

    def model(self, name: str) -> Model:
        """The recipe's model, opened and not asked."""
        if name not in self.models:
            from zhiling.llm import open_model

            self.models[name] = open_model(self.recipe.models[name], cache=None, where=f"models.{name}")
        return self.models[name]

    def examples(self) -> list[Example]:
        """Some rows as they will be constructed: worded by the first way that asks no model, else by the task's description."""
        if self._examples is None:
            self._examples = [row for name, records in self.sample.items() for row in self._worded(name, _few(records))]
        return self._examples

    def _worded(self, name: str, records: Sequence[Record]) -> list[Example]:
        from zhiling.construct.fill import fill

        task = self.tasks[name]
        for step in self.recipe.construct:
            if step.model or (step.tasks and name not in step.tasks):
                continue
            made = steps.wait(steps.propose(step.kind, step.settings, self._hand({}, step, task=task)))
            templates = [item for item in made if isinstance(item, Template)]
            rows = fill(records, templates, task=task, seed=self.recipe.seed, per_record=1) if templates else ()
            if found := [row for row in rows if isinstance(row, Example)]:
                return found
        wording = task.description.split("\n")[0] or name
        texts = ("\n".join(record.fields.get(key, "") for key in task.inputs) for record in records)
        answers = (record.fields.get(task.target, "") for record in records)
        return [
            Example(name, wording, text, answer, lang=task.langs[0])
            for text, answer in zip(texts, answers, strict=True)
        ]

    def _hand(self, asked: dict[str, dict[str, Request]], step: Step, **more: Any) -> steps.Hand:
        """What a run would hand, with models that are not asked; `asked` gets their requests, by model."""
        from zhiling.llm.dry import dry

        recipe, name = self.recipe, step.model or next(iter(self.recipe.models))
        given = {"tasks": self.tasks, "seed": recipe.seed, "embedder": Use(), "here": recipe.here, **more}
        given["scorers"] = steps.Scorers({s.kind: s for s in recipe.score}, lambda inner: self._hand(asked, inner))
        given["verify"] = given["scorers"]["verify"]
        return steps.Hand(given, lambda: dry(self.model(name), asked.setdefault(name, {})))

    def _priced(
        self,
        label: str,
        rows: int,
        asked: Mapping[str, Mapping[str, Request]],
        main: str,
        *,
        least: int = 0,
        scale: float = 1.0,
    ) -> dict[str, Any]:
        """The row of a step: what its requests cost, those that the cache holds left out."""
        parts = [self._part(name, requests, scale) for name, requests in asked.items() if requests]
        short = least - sum(len(requests) for requests in asked.values())
        if short > 0 and asked.get(main):  # it asks again, for what hangs on earlier replies
            requests = asked[main]
            parts.append(self._part(main, requests, scale * short / len(requests)))
        calls = round(sum(part.calls for part in parts))
        prompt, completion = round(sum(part.prompt for part in parts)), round(sum(part.completion for part in parts))
        return _row(
            label, rows=rows, calls=calls, cached=round(sum(part.cached for part in parts)), prompt_tokens=prompt,
            completion_tokens=completion, tokens=prompt + completion, minutes=_known(part.minutes for part in parts),
            usd=_known(part.usd for part in parts),
        )  # fmt: skip

    def _part(self, name: str, requests: Mapping[str, Request], scale: float) -> _Part:
        model, held = self.model(name), self._held(requests)
        left = {key: request for key, request in requests.items() if key not in held}
        seen = self._learnt(name, left)
        prompt = scale * sum(map(seen.prompt, left.values()))
        completion = scale * sum(map(seen.completion, left.values()))
        usd = None if model.price is None else model.price.usd(Usage(round(prompt), round(completion)))
        speed = self._speed(model) if left else None
        minutes = None if speed is None else speed.seconds(round(prompt), round(completion)) / 60
        return _Part(scale * len(left), scale * len(held), prompt, completion, minutes if left else 0.0, usd)

    def _held(self, requests: Mapping[str, Request]) -> set[str]:
        """The keys of the requests that the cache can answer."""
        path = self.recipe.cache or (self.folder / "replies.sqlite" if self.folder is not None else None)
        if path is None or not path.is_file():
            return set()
        from zhiling.llm import ReplyCache

        cache = ReplyCache(path)
        try:
            return {key for key in requests if cache.get(key) is not None}
        finally:
            cache.close()

    def _learnt(self, name: str, requests: Mapping[str, Request]) -> Seen:
        """What is known of a model: from traces of runs beside this one; a local one is asked a few of the requests besides."""
        from zhiling.llm import guess
        from zhiling.llm.speed import MEASURED

        model = self.model(name)
        if name not in self._seen:
            traces = list(self.folder.parent.glob("*/events.jsonl")) if self.folder is not None else []
            newest = sorted(traces, key=lambda path: (-path.stat().st_mtime, path))[:TRACES]
            self._seen[name] = guess.learn(newest, model.label)
        seen = self._seen[name]
        new = {key: request for key, request in requests.items() if request.max_tokens not in seen.sorts}
        if model.provider.name in MEASURED and new:
            steps.wait(_try(model, new, seen))
        return seen

    def _speed(self, model: Model) -> Speed | None:
        from zhiling.llm.speed import speed

        async def measured() -> Speed | None:
            try:
                return await speed(model)
            except ProviderError as error:
                if error.kind != "protocol":
                    raise
                return None  # it wrote nothing to measure: minutes are not known
            finally:
                await model.close()

        return steps.wait(measured())


@dataclass(frozen=True, slots=True)
class _Part:
    """What some requests to one model come to."""

    calls: float
    cached: float
    prompt: float
    completion: float
    minutes: float | None
    usd: float | None


async def _try(model: Model, requests: Mapping[str, Request], seen: Seen) -> None:
    """Ask a local model a few of the requests, evenly chosen, past cache and budget: nothing is paid, and its tokenizer counts them."""
    from zhiling.llm.trace import size

    wanted = [key for key, request in requests.items() if request.continuation is None and key not in seen.keys]
    tried = wanted[:: max(1, len(wanted) // TRIED)][:TRIED]

    async def one(key: str) -> None:
        request = requests[key]
        short = request.max_tokens > LONGEST_TRY
        reply = await model.provider.reply(replace(request, max_tokens=1) if short else request)
        written = None if short else reply.usage.completion
        seen.add(key, request.max_tokens, size(request), reply.usage.prompt, written)

    try:
        await asyncio.gather(*(one(key) for key in tried))
    finally:
        await model.provider.close()


def _run(work: Any) -> None:
    """Run something against models that are not asked. What hung on a real reply may fail; what a model cannot do must be told."""
    try:
        steps.wait(work)
    except ProviderError as error:
        if error.kind != "protocol":
            raise


def _records(recipe: Recipe) -> tuple[dict[str, list[Record]], dict[str, int], float]:
    """By task the first BEGUN records of each file and the number of usable ones; and the mean length of a record's text in tokens."""
    sample, counts, sizes = dict[str, list[Record]](), dict[str, int](), list[int]()
    for name, spec in recipe.tasks.items():
        task, first = spec.task(name), list[Record]()
        counts[name] = 0
        for rows in _usable(recipe, name):
            begun = list(islice(rows, BEGUN))
            first += begun
            sizes += [sum(length(row.fields.get(key, "")) for key in (*task.inputs, task.target)) for row in begun]
            counts[name] += len(begun) + sum(1 for _ in rows)
        sample[name] = first
    return sample, counts, (sum(sizes) / len(sizes) * 1.4 if sizes else 0.0)


def _few(records: Sequence[Record]) -> list[Record]:
    """SAMPLE of them, evenly chosen, so that each file's are among them."""
    few = min(SAMPLE, len(records))
    return [records[at * len(records) // few] for at in range(few)]


def _usable(recipe: Recipe, name: str) -> Iterator[Iterator[Record]]:
    spec = recipe.tasks[name]
    for item in spec.sources():
        where = {key: str(value) for key, value in item.where.items()} if item.where else None
        source = Source(
            expand(item.path, recipe.here),
            item.format,
            item.columns,
            where,
            item.limit,
            item.table,
            recipe.answered(name),
        )
        yield (row for row in read(source, spec.task(name)) if isinstance(row, Record))


def _made(recipe: Recipe, step: Step, task: Task, count: int) -> int:
    """Rows of a constructor for a task of so many records: what they fill, or, by the fact `ready`, what it has ready at most."""
    facts, left = registry.get("constructor", step.kind).facts, count - _away(recipe, task.name, count)
    count_ready = facts.get("ready", lambda settings, task: None)
    ready = count_ready(step.settings, task, **_place(count_ready, recipe))
    if ready is None:
        return left * step.per_record
    return ceil(float(ready) * (left if facts["over"] == "records" else 1))


def _place(fact: Callable[..., Any], recipe: Recipe) -> dict[str, Any]:
    """The recipe's folder for a fact that names `here`: it counts what is really there."""
    return {"here": recipe.here} if "here" in inspect.signature(fact).parameters else {}


def _away(recipe: Recipe, name: str, count: int) -> int:
    share = recipe.tasks[name].heldout
    return int(share) if share >= 1 else round(share * count)


def _words_held(recipe: Recipe, step: Step, name: str) -> bool:
    """Whether a step that works on records makes the held-out rows of a task too: the first that can, where records bring no answers."""
    if recipe.answered(name):
        return False
    for other in recipe.construct:
        facts = registry.get("constructor", other.kind).facts
        if (not other.tasks or name in other.tasks) and (facts["over"] == "records" or "ready" not in facts):
            return other is step
    return False


def _quota(recipe: Recipe) -> int | None:
    for step in recipe.select:
        rows: Any = step.settings.get("rows")
        if step.kind == "quota" and isinstance(rows, int):
            return rows * len(recipe.tasks)
        if step.kind == "top" and isinstance(rows, int):
            return rows
    return None


def _drift(tune: TuneSpec) -> dict[str, Any]:
    """The drift checks of the base and the tuned model: texts that are scored (written at a provider), and short answers."""
    from zhiling.evaluate.drift import cost
    from zhiling.tune.remote.base import base_of

    calls, prompt, written = cost(scores=base_of(tune.model) is None)
    seconds = 2 * (prompt / SCORE + written / WRITE)
    return _row(
        "drift", calls=2 * calls, prompt_tokens=2 * prompt, completion_tokens=2 * written, tokens=2 * (prompt + written),
        minutes=seconds / 60 if tune.model == "embedded" else None, usd=tuning.expected(tune.model, tune.settings).ask_usd(prompt, written),
    )  # fmt: skip


def _minutes(model: str, tokens: int, speed: float) -> float | None:
    return tokens / speed / 60 if model == "embedded" else None


def _known(values: Iterator[float | None]) -> float | None:
    """The sum, unknown when any part is."""
    found = list(values)
    return None if None in found else sum(value for value in found if value is not None)


COLUMNS = (
    "step", "rows", "calls", "cached", "prompt_tokens", "completion_tokens", "tokens", "minutes", "rows_per_minute", "usd",
)  # fmt: skip


def _row(step: str, **known: Any) -> dict[str, Any]:
    row = {**dict.fromkeys(COLUMNS), "step": step, **known}
    if row["rows"] and row["minutes"]:
        row["rows_per_minute"] = row["rows"] / row["minutes"]
    return row


def _total(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def add(key: str) -> Any:
        given = [row[key] for row in rows if row[key] is not None]
        return sum(given) if given else None

    sums = {key: add(key) for key in COLUMNS if key not in ("step", "rows", "rows_per_minute", "usd")}
    unknown = any(row["calls"] and row["usd"] is None for row in rows)
    return _row("total", **sums, usd=None if unknown else add("usd"))
