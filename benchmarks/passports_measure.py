"""How one metric is measured: its values on evidence, their agreement with the labels, and everything else that its passport says."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import passports_data as held
import passports_fair as fair
from passports_data import Evidence
from passports_evidence import ALSO, EVIDENCE

from zhiling import registry, text
from zhiling.embed import Use
from zhiling.llm.wrap import Model
from zhiling.score import quality_model, safety
from zhiling.select.neutral import neutral, ranks
from zhiling.types import Example, Score, Task

USE = Use()
KNOWN: dict[str, dict[str, float | None]] = {}
MODELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "clarity": ("transformers", {"model": "embedded", "threads": 1}, 40),
    "difficulty": ("transformers", {"model": "embedded", "threads": 1}, 24),
    "judge": ("gguf", {"threads": 1}, 4),
    "grammar_lm": ("transformers", {"model": "embedded", "threads": 1}, 24),
}
"""Metrics that ask a model: the provider of the embedded one, its settings, and how many rows tell the speed."""


def scores(name: str, rows: Sequence[Example], tasks: Any = None) -> np.ndarray:
    """The metric's values, turned so that higher is better; NaN where it abstains. What `quality` said is kept: it is the slow one."""
    plugin = registry.get("scorer", name)
    known = KNOWN.setdefault(name, {}) if name == "quality" else {}
    new = list({row.id: row for row in rows if row.id not in known}.values())
    known.update((one.example, one.value) for one in (asked(name, new) if name in MODELS else told(plugin, new, tasks)))
    turn = -1.0 if plugin.facts["better"] == "low" else 1.0
    return np.array([np.nan if (value := known[row.id]) is None else turn * value for row in rows], dtype=float)


def told(plugin: registry.Plugin, rows: Sequence[Example], tasks: Any) -> list[Score]:
    given: dict[str, Any] = {"embedder": USE, "tasks": tasks or {}, "seed": 0}
    return list(plugin.fn(rows, **{key: given[key] for key in plugin.wants}))


def asked(name: str, rows: Sequence[Example]) -> list[Score]:
    """What a metric says that asks a model: the embedded one."""
    provider, settings, _ = MODELS[name]
    made = registry.get("provider", provider)

    async def work() -> list[Score]:
        model = Model(made.fn(**registry.settle(made, settings)))
        try:
            return [one async for one in registry.get("scorer", name).fn(rows, model=model)]
        finally:
            await model.close()

    return asyncio.run(work())


def paired(name: str, pairs: Sequence[held.Pair]) -> np.ndarray:
    """1, 0.5 or 0 of each pair: in the right order, tied (or not scored), in the wrong one."""
    return ordered(scores(name, [row for pair in pairs for row in pair]))


def ordered(values: np.ndarray) -> np.ndarray:
    """The same of values that stand in pairs, better and worse by turns."""
    gap = np.nan_to_num(values[::2] - values[1::2])
    return np.where(gap > 0, 1.0, np.where(gap < 0, 0.0, 0.5))


def interval(values: np.ndarray, measure: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """The middle 95% of the measure over 500 resamples of the places."""
    draw = np.random.default_rng(0)
    found = [measure(draw.integers(0, len(values), len(values))) for _ in range(500)]
    return round(float(np.quantile(found, 0.025)), 3), round(float(np.quantile(found, 0.975)), 3)


def auc(good: np.ndarray, bad: np.ndarray) -> float:
    """The chance that a good one's value is above a bad one's, a tie counting half; abstentions tie with all."""
    middle = np.nanmedian(np.concatenate([good, bad])) if np.isfinite(np.concatenate([good, bad])).any() else 0.0
    both = np.concatenate([np.nan_to_num(good, nan=middle), np.nan_to_num(bad, nan=middle)])
    place = ranks(both) * (len(both) - 1) + 1
    return float((place[: len(good)].sum() - len(good) * (len(good) + 1) / 2) / max(1, len(good) * len(bad)))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    first, second = ranks(a.astype(float)), ranks(b.astype(float))
    return float(np.corrcoef(first, second)[0, 1]) if first.std() and second.std() else 0.0


def passport(name: str, data: Path, quick: bool, sets: dict[str, dict[str, fair.Pairs]]) -> dict[str, Any]:
    """One metric: agreement per language, further evidence, fairness, correlation with length, speed, cost, and when."""
    out: dict[str, Any] = {"date": datetime.now(UTC).date().isoformat()}
    for lang, make in EVIDENCE[name].items():
        if found := agreement(name, make, data, lang, quick):
            out[lang] = found
    also = [
        {"lang": lang, **found}
        for lang, make in ALSO.get(name, ())
        if (found := agreement(name, make, data, lang, quick))
    ]
    if also:
        out["also"] = also
    if name not in MODELS and name not in TASK_WISE and sets["translated"]:
        out["zh_minus_en"] = fair.translated(name, sets["translated"], scores)
    if name in fair.SWAPPED:
        out["swapped"] = fair.swapped(name, sets["groups"], scores)
    return out | cost(name, data, quick)


TASK_WISE = (
    "relevance",
    "length",
)  # says nothing without a task's description; counts characters here and words there, as it says


RARE = ("faithful",)  # so few rows are scored that many must be asked


def cost(name: str, data: Path, quick: bool) -> dict[str, Any]:
    """Correlation with output length over Alpaca, after length is taken out where selectors do so, rows per CPU second, and money."""
    many = MODELS[name][2] if name in MODELS else 10_000 if name in RARE else 200 if quick else 1000
    rows = held.alpaca(held.whole(data, "02_alpaca/alpaca_52k_original.jsonl.gz"), 52_000)[:: 52_000 // many]
    tasks = {"pairs": Task("pairs", description="Follow an instruction of whatever kind, and answer it well.")}
    scores(name, rows[:3] if name in MODELS else rows[:20], tasks)
    KNOWN.clear()
    start = time.process_time()
    values = scores(name, rows, tasks)
    spent = time.process_time() - start
    lengths = np.array([text.length(row.output) for row in rows], dtype=float)
    if registry.get("scorer", name).facts.get("length_neutral"):
        values = neutral(values, lengths.astype(int).tolist(), ["alpaca"] * len(rows))
    known = ~np.isnan(values)
    return {
        "length": round(spearman(values[known], lengths[known]), 2) if known.sum() > 20 else None,
        "rows_per_cpu_s": float(f"{len(rows) / max(spent, 1e-3):.2g}"),
        "cost_per_1000": 0.0,
        **({"asked": "SmolLM2-135M-Instruct"} if name in MODELS else {}),
    }


def agreement(
    name: str, make: Callable[[Path, str], Evidence], data: Path, lang: str, quick: bool
) -> dict[str, Any] | None:
    try:
        evidence = make(data, lang)
    except FileNotFoundError as error:
        print(f"{name} {lang}: not measured, there is no {error.filename}")
        return None
    most = 60 if quick else FEW.get(name, 10**9)
    if evidence.pairs:
        pairs = evidence.pairs[:most]
        values = scores(name, [row for pair in pairs for row in pair], evidence.tasks)
        right = ordered(values)
        value, measure, count = float(right.mean()), "pairs", len(right)
        low, high = interval(right, lambda at: float(right[at].mean()))
    elif evidence.good:
        good, bad = (scores(name, side[:most], evidence.tasks) for side in (evidence.good, evidence.bad))
        value, measure, count = auc(good, bad), "auc", len(good) + len(bad)
        values, split = np.concatenate([good, bad]), len(good)
        low, high = interval(values, lambda at: auc(values[at[at < split]], values[at[at >= split]]))
    else:
        return None
    checked = [fitted(name)[key] for key in evidence.fitted if key in fitted(name)]
    return {
        "kind": evidence.kind, "measure": measure, "value": round(value, 3), "low": low, "high": high, "n": count,
        "abstained": round(float(np.isnan(values).mean()), 3), "data": evidence.data,
        **({"cross_validated": round(float(np.mean(checked)), 3)} if checked else {}),
    }  # fmt: skip


FEW = {"judge": 36, "clarity": 120, "grammar_lm": 60}  # pairs, or rows of each side: these ask a model


def fitted(name: str) -> dict[str, float]:
    """What cross-validation gave where the metric's weights were fitted to labels of these kinds: in the weights' own file."""
    if name == "safety":
        return dict(json.loads(str(safety.weights()["about"]))["cross_validated"])
    return dict(quality_model.load(name).about["cross_validated"]) if name in ("quality", "wording") else {}
