"""Base against tuned over tasks: per task, per language and overall, on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zhiling import registry, text
from zhiling.evaluate.compare import Comparison, stratified
from zhiling.evaluate.predict import Prediction
from zhiling.types import Example, Task

Scores = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the held-out rows say. `metrics` names each task's metric; `values` holds every row's score under "base" and "tuned".

    `overall` and each of `langs` is the mean over tasks, every task weighing the same; rows are resampled within their task.
    """

    tasks: dict[str, Comparison]
    overall: Comparison
    langs: dict[str, Comparison]
    metrics: dict[str, str]
    values: dict[str, Scores]
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the rows' scores."""
        tasks = {task: {"metric": self.metrics[task], **found.to_dict()} for task, found in self.tasks.items()}
        langs = {lang: found.to_dict() for lang, found in self.langs.items()}
        return {"tasks": tasks, "overall": self.overall.to_dict(), "langs": langs, "confidence": self.confidence}


def evaluate(
    examples: Sequence[Example],
    base: Sequence[Prediction],
    tuned: Sequence[Prediction],
    *,
    tasks: Mapping[str, Task],
    seed: int = 0,
    draws: int = 10_000,
    confidence: float = 0.95,
) -> Evaluation:
    """Score both models' predictions with each task's metric and compare them row by row.

    Raises RecipeError for a metric that does not exist.
    """
    values = {"base": score(examples, base, tasks), "tuned": score(examples, tuned, tasks)}
    by_task: dict[str, list[Example]] = {}
    by_lang: dict[str, dict[str, list[Example]]] = {}
    for example in sorted({example.id: example for example in examples}.values(), key=lambda example: example.id):
        by_task.setdefault(example.task, []).append(example)
        spoken = example.lang or text.lang(example.prompt)
        by_lang.setdefault(spoken, {}).setdefault(example.task, []).append(example)

    def told(*groups: Sequence[Example]) -> Comparison:
        sides = [tuple({row.id: values[side][row.id] for row in rows} for rows in groups) for side in ("base", "tuned")]
        return stratified(list(zip(*sides, strict=True)), seed=seed, draws=draws, confidence=confidence)

    return Evaluation(
        {task: told(by_task[task]) for task in sorted(by_task)},
        told(*(by_task[task] for task in sorted(by_task))),
        {lang: told(*(rows for _, rows in sorted(by_lang[lang].items()))) for lang in sorted(by_lang)},
        {task: tasks[task].metric for task in sorted(by_task)},
        values,
        confidence,
    )


def score(examples: Sequence[Example], predictions: Sequence[Prediction], tasks: Mapping[str, Task]) -> Scores:
    """Each example's score under its task's metric; None where the row was not answered. An empty answer is an answer."""
    answers = {prediction.example: prediction for prediction in predictions}
    scores: Scores = {}
    for example in examples:
        answer = answers.get(example.id)
        if answer is None or answer.error:
            scores[example.id] = None
            continue
        metric = registry.get("metric", tasks[example.task].metric, where=f"tasks.{example.task}.metric")
        scores[example.id] = float(metric.fn(answer.text, example.output, lang=example.lang))
    return scores
