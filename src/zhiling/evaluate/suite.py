"""Base against tuned over tasks: per task, per language and overall, on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zhiling import registry, text
from zhiling.evaluate.compare import Comparison, stratified
from zhiling.evaluate.execution import Execute
from zhiling.evaluate.predict import Prediction
from zhiling.types import Example, Task

Scores = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the held-out rows say. `metrics` names each task's metric; `values` holds every row's score under "base" and "tuned".

    `overall` and each of `langs` and `families` is the mean over tasks, every task weighing the same; rows are resampled within their task.
    """

    tasks: dict[str, Comparison]
    overall: Comparison
    langs: dict[str, Comparison]
    families: dict[str, Comparison]
    metrics: dict[str, str]
    values: dict[str, Scores]
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the rows' scores."""
        tasks = {task: {"metric": self.metrics[task], **found.to_dict()} for task, found in self.tasks.items()}
        groups = {
            name: {key: found.to_dict() for key, found in group.items()}
            for name, group in (("langs", self.langs), ("families", self.families))
        }
        return {"tasks": tasks, "overall": self.overall.to_dict(), **groups, "confidence": self.confidence}


Groups = dict[str, list[list[Example]]]


def parted(examples: Sequence[Example], tasks: Mapping[str, Task], by: Literal["task", "lang", "family"]) -> Groups:
    """The rows, each once and by ascending id, by what they have in common; a group holds a list of rows for each of its tasks."""
    found: dict[str, dict[str, list[Example]]] = {}
    for row in sorted({row.id: row for row in examples}.values(), key=lambda row: row.id):
        name = {"task": row.task, "lang": row.lang or text.lang(row.prompt), "family": tasks[row.task].family}[by]
        found.setdefault(name, {}).setdefault(row.task, []).append(row)
    return {name: [rows for _, rows in sorted(of.items())] for name, of in sorted(found.items())}


def evaluate(
    examples: Sequence[Example],
    base: Sequence[Prediction],
    tuned: Sequence[Prediction],
    *,
    tasks: Mapping[str, Task],
    seed: int = 0,
    draws: int = 10_000,
    confidence: float = 0.95,
    execute: Execute | None = None,
) -> Evaluation:
    """Score both models' predictions with each task's metric and compare them row by row.

    Raises RecipeError for a metric that does not exist, or that runs answers where nothing to `execute` them is handed.
    """
    values = {"base": score(examples, base, tasks, execute), "tuned": score(examples, tuned, tasks, execute)}
    by_task, by_lang, by_family = (parted(examples, tasks, by) for by in ("task", "lang", "family"))

    def told(groups: Sequence[Sequence[Example]]) -> Comparison:
        sides = [tuple({row.id: values[side][row.id] for row in rows} for rows in groups) for side in ("base", "tuned")]
        return stratified(list(zip(*sides, strict=True)), seed=seed, draws=draws, confidence=confidence)

    return Evaluation(
        {name: told(groups) for name, groups in by_task.items()},
        told([rows for groups in by_task.values() for rows in groups]),
        {name: told(groups) for name, groups in by_lang.items()},
        {name: told(groups) for name, groups in by_family.items()},
        {task: tasks[task].metric for task in by_task},
        values,
        confidence,
    )


def score(
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    tasks: Mapping[str, Task],
    execute: Execute | None = None,
    why: dict[str, str] | None = None,
) -> Scores:
    """Each example's score under its task's metric; None where the row was not answered, or the metric can say nothing of it.

    An empty answer is an answer. `why` gets the reasons of what was run. Raises RecipeError for a metric that does not exist, or
    that runs answers where nothing to `execute` them is handed.
    """
    answers = {prediction.example: prediction for prediction in predictions}
    scores: Scores = {}
    run: dict[str, list[tuple[Example, str]]] = {}
    for example in examples:
        answer = answers.get(example.id)
        scores[example.id] = None
        if answer is None or answer.error:
            continue
        metric = registry.get("metric", tasks[example.task].metric, where=f"tasks.{example.task}.metric")
        if metric.facts.get("runs") and execute is not None:
            run.setdefault(example.task, []).append((example, answer.text))
            continue
        at_hand = {"task": tasks[example.task], "example": example}
        hand = {name: at_hand[name] for name in metric.wants & at_hand.keys()}
        value = metric.fn(answer.text, example.output, lang=example.lang, **hand)
        scores[example.id] = None if value is None else float(value)
    for task, rows in run.items():
        assert execute is not None
        ran = execute(tasks[task], [row for row, _ in rows], [text for _, text in rows])
        for (example, _), (value, said) in zip(rows, ran, strict=True):
            scores[example.id] = value
            if why is not None and said:
                why[example.id] = said
    return scores
