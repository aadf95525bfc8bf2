"""What a run wrote beside its tables: run.json, results.json, the tuning log and the recipe, as plain dataclasses.

Whatever is absent is None, never 0: a page that says nothing is better than one that says something untrue.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from zhiling.errors import DataError, boundary, say
from zhiling.llm import bill
from zhiling.tune.log import read

POINTS = 60  # of a loss curve, at most; longer logs are averaged over runs of steps
TASKS = "tasks"  # the key of metrics.jsonl that holds each task's loss at a step
Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Bill:
    """What one model did and cost. `usd` None means that no price is known; `unsure` attempts broke off and may be billed."""

    model: str
    calls: int | None
    cached: int | None
    prompt_tokens: int | None
    completion_tokens: int | None
    usd: float | None
    failed: int | None
    retries: int | None
    unsure: int | None


@dataclass(frozen=True, slots=True)
class RunFacts:
    """run.json: what the run is called, how it was done, what came in and how it ended.

    `reused` pieces of work were finished by earlier executions; the bills are those of all executions.
    """

    name: str
    seed: str
    engine: str
    until: str
    came: int | None
    reused: int | None
    states: Mapping[str, int]
    tuned: Mapping[str, Any]
    bills: tuple[Bill, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """Base against tuned on the same held-out rows: of a task, of a language, or of all. `words` is the verdict by language."""

    name: str
    metric: str
    n: int | None
    base: float | None
    tuned: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    verdict: str
    words: Mapping[str, str]
    failed: int | None


@dataclass(frozen=True, slots=True)
class Beside:
    """What was looked at besides the tasks: `name` ("judge", "forgetting", "too_much", "too_little"), the verdict in words by language, whether
    it is good, bad or neither ("better", "worse", "same"), and asks that were treated otherwise, each (ask, base's words, tuned's words)."""

    name: str
    words: Mapping[str, str]
    sort: str
    examples: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Results:
    """results.json: one Result per task, one for all together, one per language, and what was looked at besides."""

    tasks: tuple[Result, ...]
    overall: Result | None
    langs: tuple[Result, ...]
    confidence: float | None
    beside: tuple[Beside, ...] = ()

    def count(self, verdict: str) -> int:
        """How many tasks got this verdict."""
        return sum(task.verdict == verdict for task in self.tasks)


@dataclass(frozen=True, slots=True)
class Curve:
    """The loss of one task: (step, mean loss) points, and validation points where there are any."""

    name: str
    points: tuple[Point, ...]
    validation: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Tuning:
    """The tuning log: a curve per task, how many steps there were and tokens were trained on, and how many steps a point averages."""

    curves: tuple[Curve, ...]
    steps: int
    tokens: int | None
    every: int


def run_facts(folder: Path) -> RunFacts:
    """run.json; every field unknown where the file is absent."""
    data = _json(folder / "run.json")
    paid = bill.facts(bill.spent(folder / bill.NAME)) or _mapping(data.get("spent"))
    bills = tuple(_bill(name, spent) for name, spent in sorted(paid.items()))
    states = {str(state): n for state, value in _mapping(data.get("states")).items() if (n := whole(value)) is not None}
    said = {key: "" if data.get(key) is None else str(data[key]) for key in ("name", "seed", "engine", "until")}
    came, reused, tuned = whole(data.get("came")), whole(data.get("reused")), _mapping(data.get("tuned"))
    return RunFacts(**said, came=came, reused=reused, states=states, tuned=tuned, bills=bills)


def _bill(name: str, spent: Any) -> Bill:
    found = _mapping(spent)
    counts = {
        key: whole(found.get(key))
        for key in ("calls", "cached", "prompt_tokens", "completion_tokens", "failed", "retries", "unsure")
    }
    return Bill(name, usd=real(found.get("usd")), **counts)


def results(folder: Path) -> Results | None:
    """results.json, or None where nothing was evaluated."""
    data = _json(folder / "results.json")
    tasks = tuple(_result(name, item) for name, item in sorted(_mapping(data.get("tasks")).items()))
    if not tasks:
        return None
    overall = _result("", data["overall"]) if _mapping(data.get("overall")) else None
    langs = tuple(_result(name, item) for name, item in sorted(_mapping(data.get("langs")).items()))
    return Results(tasks, overall, langs, real(data.get("confidence")), tuple(_beside(data)))


BAD = {"worse": "worse", "forgot": "worse", "too_much refuses more": "worse", "too_little refuses less": "worse"}
GOOD = {"better": "better", "gained": "better", "too_much refuses less": "better", "too_little refuses more": "better"}


def _beside(data: Mapping[str, Any]) -> Iterator[Beside]:
    drift = _mapping(data.get("drift"))
    found = {"judge": data.get("judge"), "forgetting": drift.get("forgetting"), **_mapping(drift.get("refusals"))}
    for name, item in found.items():
        one = _mapping(item)
        if not one:
            continue
        verdict = str(one.get("verdict") or "")
        sort = next((of[key] for of in (BAD, GOOD) for key in (verdict, f"{name} {verdict}") if key in of), "same")
        words = {str(lang): str(text) for lang, text in _mapping(one.get("words")).items()}
        listed = one.get("examples")
        shown = [_mapping(row) for row in listed] if isinstance(listed, list) else []
        examples = tuple(
            (str(row.get("ask", "")), str(row.get("base", "")), str(row.get("tuned", ""))) for row in shown
        )
        yield Beside(str(name), words, sort, examples)


def _result(name: str, item: Any) -> Result:
    found = _mapping(item)
    numbers = {key: real(found.get(key)) for key in ("base", "tuned", "difference", "low", "high", "p")}
    words = {str(lang): str(text) for lang, text in _mapping(found.get("words")).items()}
    metric, verdict = str(found.get("metric") or ""), str(found.get("verdict") or "")
    return Result(
        name, metric, whole(found.get("n")), verdict=verdict, words=words, failed=whole(found.get("failed")), **numbers
    )


def tuning(folder: Path) -> Tuning | None:
    """tune/metrics.jsonl, or None where nothing was tuned. A step in which a task had no rows is no point of its curve."""
    log = [line for line in read(folder / "tune" / "metrics.jsonl") if real(line.get("step")) is not None]
    steps = [line for line in log if TASKS in line]
    if not steps:
        return None
    every = max(1, math.ceil(len(steps) / POINTS))
    points, checks = dict[str, list[Point]](), dict[str, list[Point]]()
    for line in log:
        for key, found in ((TASKS, points), ("validation", checks)):
            for task, value in _mapping(line.get(key)).items():
                if (loss := real(value)) is not None:
                    found.setdefault(task, []).append((float(line["step"]), loss))
    curves = tuple(Curve(task, _averaged(points[task], every), tuple(checks.get(task, ()))) for task in sorted(points))
    counts = [whole(line.get("tokens")) for line in steps]
    known = [count for count in counts if count is not None]
    return Tuning(curves, len(steps), sum(known) if len(known) == len(counts) else None, every)


def _averaged(points: list[Point], every: int) -> tuple[Point, ...]:
    groups: dict[int, list[float]] = {}
    for step, loss in points:
        groups.setdefault(int(step - 1) // every, []).append(loss)
    return tuple(
        (group * every + (every + 1) / 2, math.fsum(part) / len(part)) for group, part in sorted(groups.items())
    )


def recipe(folder: Path) -> str:
    """The recipe's text, "" where there is none."""
    path = folder / "recipe.yaml"
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def real(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def whole(value: Any) -> int | None:
    """A whole number, or None for anything else."""
    number = real(value)
    return int(number) if number is not None and number.is_integer() else None


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise boundary(error, str(path)) from error
    try:
        return _mapping(json.loads(text))
    except ValueError as error:
        mend = say("run the recipe again; finished work is not done twice", "重新运行配方即可；已完成的部分不会重做")
        raise DataError(say(f"not JSON: {error}", f"不是 JSON：{error}"), where=str(path), mend=mend) from error
