"""Tuning, and the proof: the same held-out rows answered by the base model and by the tuned one. Where `tune`, `llm` and `evaluate` meet."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhiling.errors import ProviderError, RecipeError, say
from zhiling.recipe import EvaluateSpec
from zhiling.types import Example, Reply, Request, Task, as_turns

if TYPE_CHECKING:
    from zhiling.evaluate.drift import Seen
    from zhiling.evaluate.execution import Execute
    from zhiling.evaluate.predict import Prediction
    from zhiling.llm import Model
    from zhiling.tune.settings import TuneSettings

Watch = Callable[[Mapping[str, Any]], None]


def settings_of(given: Mapping[str, Any], where: str = "tune", **more: Any) -> TuneSettings:
    """Checked tuning settings. Raises RecipeError naming an unknown key or a value of the wrong type or range."""
    import difflib

    from pydantic import TypeAdapter, ValidationError

    from zhiling.tune.settings import TuneSettings

    known = [item.name for item in dataclasses.fields(TuneSettings)]
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            mend = (
                say(f"did you mean '{close[0]}'?", f"是否想写“{close[0]}”？") if close else ", ".join(["model", *known])
            )
            raise RecipeError(say(f"unknown key '{key}'", f"未知的键“{key}”"), where=f"{where}.{key}", mend=mend)
    try:
        return TypeAdapter(TuneSettings).validate_python({**more, **given})
    except ValidationError as error:
        first = error.errors()[0]
        if isinstance(first.get("ctx", {}).get("error"), RecipeError):
            raise first["ctx"]["error"] from None
        key = ".".join(str(part) for part in first["loc"])
        raise RecipeError(
            f"{first['msg']}, {say('got', '实际为')} {first['input']!r}", where=f"{where}.{key}"
        ) from None


def tune(
    base: str,
    rows: Sequence[Example],
    out: Path,
    settings: TuneSettings,
    watch: Watch,
    sources: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Tune `base` ("embedded", a folder or a hub name) on the rows; resumes. Returns the facts of the tuned model as plain values.

    `sources` says where the rows came from, as `sources.noted` does.
    """
    from zhiling.tune.train import tune as train

    def heard(event: Mapping[str, Any]) -> None:
        watch({"stage": "tune", "done": event.get("step"), "total": event.get("steps"), "loss": event.get("loss")})

    watch({"stage": "tune", "note": say(f"{len(rows)} rows, {settings.method}", f"{len(rows)} 行，{settings.method}")})
    finished = (out / "done.json").exists()
    tuned = train(base, rows, out, settings, progress=heard, sources=sources)
    if not finished:
        from zhiling.advise.learn import learn

        learn(base, rows, out, settings, watch)
    loss = {name: round(value, 6) for name, value in tuned.loss.items()}
    return {
        "folder": str(tuned.folder),
        "base": base,
        "method": settings.method,
        "steps": tuned.steps,
        "rows": len(rows),
        "loss": loss,
    }


def choose(heldout: Sequence[Example], rows: int | None) -> list[Example]:
    """At most `rows` held-out examples per task: those of the smallest ids, so that the choice depends on nothing else."""
    taken: dict[str, int] = {}
    chosen = []
    for row in sorted(heldout, key=lambda row: (row.task, row.id)):
        taken[row.task] = taken.get(row.task, 0) + 1
        if rows is None or taken[row.task] <= rows:
            chosen.append(row)
    return chosen


async def evaluate(
    tuned: Mapping[str, Any],
    heldout: Sequence[Example],
    tasks: Mapping[str, Task],
    spec: EvaluateSpec,
    seed: int,
    cache: Path | None,
    watch: Watch,
    judge: Model | None = None,
    execute: Execute | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(answers as rows of the `answers` view, results per task, language and overall, with the drift checks unless `spec` says no).

    A `judge` is asked of each row which answer is better: "judge" in the results. `execute` runs answers for metrics that need it.

    Both models answer greedily through the models' room, so an interrupted evaluation asks nothing twice.
    """
    from zhiling.evaluate.drift_verdict import told
    from zhiling.evaluate.predict import predict
    from zhiling.evaluate.suite import evaluate as compare
    from zhiling.llm import open_model

    chosen = choose(heldout, spec.rows)
    predictions: dict[str, list[Prediction]] = {}
    seen: dict[str, Seen] = {}
    for name in ("base", "tuned"):
        async with open_model(_spec(tuned, name == "tuned", spec), cache=cache, where="evaluate") as model:
            predictions[name] = await predict(Told(model, name, watch), chosen, max_tokens=spec.max_tokens, tasks=tasks)
            if spec.drift:
                seen[name] = await look(model, name, watch, scores="score" in model.can)
    found = compare(
        chosen, predictions["base"], predictions["tuned"], tasks=tasks, seed=seed, confidence=spec.confidence,
        execute=execute,
    )  # fmt: skip
    answers = [
        {
            "example": p.example,
            "model": name,
            "text": p.text,
            "finish": p.finish,
            "value": found.values[name].get(p.example),
        }
        for name, made in predictions.items()
        for p in made
    ]
    results = found.to_dict()
    if spec.drift:
        results["drift"] = told([seen["base"]], [seen["tuned"]], seed=seed, confidence=spec.confidence)
    if judge is not None:
        from zhiling.proof.duel import judged, rulings

        said = await rulings(chosen, predictions["base"], predictions["tuned"], judge, watch)
        results["judge"] = judged(chosen, [said], judge.label, seed=seed, confidence=spec.confidence)
    return answers, results


async def look(model: Model, name: str, watch: Watch, *, scores: bool) -> Seen:
    """The drift checks' questions put to one open model; `watch` hears of them under its `name`."""
    from zhiling.evaluate import drift

    return await drift.look(Told(model, f"{name}: {say('drift', '漂移')}", watch), scores=scores)


async def answers_of(
    name: str,
    tuned: Mapping[str, Any],
    chosen: Sequence[Example],
    spec: EvaluateSpec,
    cache: Path | None,
    watch: Watch,
    *,
    after: bool = True,
    tasks: Mapping[str, Task] | None = None,
) -> list[Prediction]:
    """What one model answers to the rows, greedily: the tuned one, or with `after` false its base. `watch` hears of it under `name`.

    Where the metric of one of `tasks` goes by likelihood, the answer is the likeliest of its labels.
    """
    from zhiling.evaluate.predict import predict
    from zhiling.llm import open_model

    async with open_model(_spec(tuned, after, spec), cache=cache, where="evaluate") as model:
        return await predict(Told(model, name, watch), chosen, max_tokens=spec.max_tokens, tasks=tasks)


async def likelihoods_of(
    name: str,
    tuned: Mapping[str, Any],
    chosen: Sequence[Example],
    spec: EvaluateSpec,
    cache: Path | None,
    watch: Watch,
    *,
    after: bool = True,
) -> dict[str, float | None]:
    """How likely one model finds each row's own answer: the geometric mean of its tokens' probabilities, 0 to 1; None where it cannot say."""
    from zhiling.llm import open_model
    from zhiling.llm.likelihood import likelihood

    requests = [Request(as_turns(row.messages(answer=False)), continuation=row.output) for row in chosen]
    async with open_model(_spec(tuned, after, spec), cache=cache, where="evaluate") as model:
        replies = await Told(model, name, watch).ask_all(requests)
    found: dict[str, float | None] = {}
    for row, reply in zip(chosen, replies, strict=True):
        values = [] if isinstance(reply, ProviderError) else [value for _, value in reply.logprobs]
        found[row.id] = math.exp(likelihood(row.output, values, "token")) if values else None
    return found


class Told:
    """A model whose answers are heard one by one: an evaluation takes minutes."""

    def __init__(self, model: Model, name: str, watch: Watch) -> None:
        self.model, self.name, self.watch = model, name, watch

    async def ask_all(self, requests: Iterable[Request]) -> list[Reply | ProviderError]:
        asked = list(requests)
        found: dict[int, Reply | ProviderError] = {}
        self.watch({"stage": f"evaluate/{self.name}", "done": 0, "total": len(asked)})
        # longest first within the whole set, so that the provider's batches hold rows of like length
        order = sorted(range(len(asked)), key=lambda i: (-sum(len(text) for _, text in asked[i].messages), i))
        async for place, reply in self.model.map(asked[i] for i in order):
            found[order[place]] = reply
            self.watch({"stage": f"evaluate/{self.name}", "done": len(found), "total": len(asked)})
        return [found[i] for i in range(len(asked))]


def _spec(tuned: Mapping[str, Any], after: bool, spec: EvaluateSpec) -> dict[str, Any]:
    """The recipe entry of the base or the tuned model, for `llm.open_model`."""
    from zhiling.llm.machine import cores

    if "remote" in tuned:  # at a provider
        return dict(tuned["remote"]["tuned" if after else "base"])
    # all cores: the load that a look at the machine would see is our own, of the tuning just ended
    entry: dict[str, Any] = {
        "provider": "transformers",
        "model": tuned["base"],
        "batch": spec.batch,
        "threads": cores(),
    }
    if after and tuned["method"] == "lora":
        entry["adapter"] = tuned["folder"]
    elif after:
        entry["model"] = tuned["folder"]
    return entry
