"""Fit the weights of `quality` and `wording` to the shared human labels: python benchmarks/passports.py --train [--data DIR].

Bradley-Terry: the difference of two rows' standardised signals, logistic loss, a ridge penalty, and no weight against the direction
that a signal states (such a signal is left out, the worst first). Each set of labels counts as its share in SETS says, whatever its
size. Means and deviations come from Alpaca rows (en) and from their community translation (zh), so equal rows score alike in both.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import passports_data as held
import yaml

from zhiling.embed import Use
from zhiling.score import quality_model, signals, wording
from zhiling.types import Example

SETS = {
    "quality": {
        "coachlm_responses": 3.0, "autoj": 1.2, "llmbar_natural": 1.0, "llmbar_gptinst": 1.4, "llmeval2": 0.5, "faireval": 0.5,
    },
    "wording": {"coachlm_instructions": 1.0},
}  # fmt: skip
RIDGE = {"quality": 10.0, "wording": 5.0}
TOTAL = 500.0  # what the pairs of a set with share 1 weigh together
REFERENCE = 3000  # rows per language
FOLDS, REPEATS = 5, 3
PLACES = Path(__file__).resolve().parents[1] / "src" / "zhiling" / "score"

Measured = list[dict[str, float] | None]


def measure(kind: str, rows: Sequence[Example]) -> Measured:
    """The signals of every row; None where the model abstains."""
    if kind == "quality":
        return list(signals.measure(rows, Use()))
    asked = (view for view, _, _ in wording.views(rows))
    return [view and {name: one.of(view) for name, one in wording.SIGNALS.items()} for view in asked]


def named(kind: str) -> Mapping[str, quality_model.Signal]:
    return signals.SIGNALS if kind == "quality" else wording.SIGNALS


def reference(kind: str, data: Path) -> dict[str, Any]:
    """Per language the signals' means and deviations over Alpaca and its translation, and all their standardised values."""
    files = {"en": "alpaca_52k_original.jsonl.gz", "zh": "alpaca_zh_community_translated.jsonl.gz"}
    found = {}
    for lang, file in files.items():
        rows = [
            one
            for one in held.alpaca(held.whole(data, f"02_alpaca/{file}"))
            if one.instruction.strip() and one.output.strip()
        ]
        spread = np.linspace(0, len(rows) - 1, min(REFERENCE, len(rows))).astype(int)
        told = [one for one in measure(kind, [rows[at] for at in spread]) if one]
        values = np.array([list(one.values()) for one in told])
        deviation = values.std(0)
        # A signal that hardly ever speaks would weigh beyond measure: a share below 1 in 100 counts as 1 in 100.
        found[lang] = {
            "mean": values.mean(0),
            "deviation": np.maximum(deviation, 0.1 * (values.max() > 0)),
            "values": values,
        }
    return found


def fit(x: np.ndarray, weight: np.ndarray, ridge: float, signs: np.ndarray) -> np.ndarray:
    """The weights of a logistic model without intercept for rows that all ought to be positive, none against its sign."""
    on = np.ones(x.shape[1], dtype=bool)
    while True:
        beta = _newton(x[:, on], weight, ridge)
        wrong = beta * signs[on]
        if wrong.min() >= 0:
            break
        on[np.flatnonzero(on)[wrong.argmin()]] = False
    whole = np.zeros(x.shape[1])
    whole[on] = beta
    return whole


def _newton(x: np.ndarray, weight: np.ndarray, ridge: float) -> np.ndarray:
    beta = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ beta))
        gradient = x.T @ (weight * (1 - p)) - ridge * beta
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + ridge * np.eye(len(beta))
        step = np.linalg.solve(hessian, gradient)
        beta += step
        if np.abs(step).max() < 1e-8:
            break
    return beta


def differences(kind: str, data: Path, stand: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """Of each set the standardised differences of its pairs, and a number per prompt by which they are put into folds."""
    found = {}
    for name in SETS[kind]:
        two = held.pairs(data, name)
        told = measure(kind, [one for pair in two for one in pair])
        kept = [(a, b, pair) for a, b, pair in zip(told[::2], told[1::2], two, strict=True) if a and b]
        z = [
            np.clip((np.array([list(one[i].values()) for one in kept]) - stand["mean"]) / stand["deviation"], -5, 5)
            for i in (0, 1)
        ]
        groups = np.array([zlib.crc32(f"{worse.instruction}\n{worse.input}".encode()) for _, _, (_, worse) in kept])
        near = np.array([abs(np.log1p(len(a.output)) - np.log1p(len(b.output))) < 0.1 for _, _, (a, b) in kept])
        found[name] = {"x": z[0] - z[1], "group": groups, "near": near}
    return found


def weights_of(kind: str, sets: Mapping[str, Mapping[str, np.ndarray]], kept: Mapping[str, np.ndarray]) -> np.ndarray:
    """The weights fitted to the kept pairs of each set."""
    x = np.concatenate([part["x"][kept[name]] for name, part in sets.items()])
    share = [np.full(int(kept[name].sum()), SETS[kind][name] * TOTAL / kept[name].sum()) for name in sets]
    if kind == "wording":
        share = [np.ones(int(kept[name].sum())) for name in sets]
    return fit(x, np.concatenate(share), RIDGE[kind], np.array([one.sign for one in named(kind).values()]))


def right(margin: np.ndarray) -> float:
    """Share of pairs in the right order, a tie counting half."""
    return float(np.mean(np.where(margin > 1e-9, 1.0, np.where(margin < -1e-9, 0.0, 0.5))))


def cross_validated(kind: str, sets: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Accuracy on pairs whose prompts were not fitted, the mean of three divisions into five; and how far p is from the truth."""
    found: dict[str, list[float]] = {}
    for repeat in range(REPEATS):
        folds = {
            name: np.array([zlib.crc32(f"{repeat}:{group}".encode()) % FOLDS for group in part["group"]])
            for name, part in sets.items()
        }
        margins = {name: np.zeros(len(part["x"])) for name, part in sets.items()}
        for fold in range(FOLDS):
            beta = weights_of(kind, sets, {name: folds[name] != fold for name in sets})
            for name, part in sets.items():
                margins[name][folds[name] == fold] = part["x"][folds[name] == fold] @ beta
        for name, margin in margins.items():
            found.setdefault(name, []).append(right(margin))
            found.setdefault(f"{name} calibration", []).append(calibration(margin))
            if name == "coachlm_responses":
                found.setdefault("coachlm_length_matched", []).append(right(margin[sets[name]["near"]]))
    return {name: round(float(np.mean(values)), 3) for name, values in found.items()}


def calibration(margin: np.ndarray) -> float:
    """Mean gap between the stated probability and the share that was right, over five groups of equal size."""
    sure = np.abs(margin)
    order = np.argsort(sure, kind="stable")
    parts = [part for part in np.array_split(order, 5) if len(part)]
    gaps = [abs(float(np.mean(1 / (1 + np.exp(-sure[part])))) - right(margin[part])) * len(part) for part in parts]
    return sum(gaps) / len(margin)


def middling(total: np.ndarray) -> float:
    """The sum from which the rows are seen, such that their mean probability is 0.5."""
    low, high = float(total.min()), float(total.max())
    for _ in range(60):
        base = (low + high) / 2
        low, high = (base, high) if np.mean(1 / (1 + np.exp(base - total))) > 0.5 else (low, base)
    return low


def train(kind: str, data: Path) -> dict[str, Any]:
    """Fit, validate and write src/zhiling/score/KIND.yaml."""
    stands = reference(kind, data)
    sets = differences(kind, data, stands["en"])
    beta = weights_of(kind, sets, {name: np.ones(len(part["x"]), dtype=bool) for name, part in sets.items()}).round(4)
    names = list(named(kind))
    used = [at for at in range(len(names)) if beta[at]]
    langs = {}
    for lang, stand in stands.items():
        total = np.clip((stand["values"] - stand["mean"]) / stand["deviation"], -5, 5) @ beta
        langs[lang] = {
            "base": round(middling(total), 4),
            "mean": {names[at]: round(float(stand["mean"][at]), 5) for at in used},
            "deviation": {names[at]: round(float(stand["deviation"][at]), 5) for at in used},
        }
    held_out = cross_validated(kind, sets)
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "written_by": "benchmarks/passports.py --train",
        "pairs": {name: len(part["x"]) for name, part in sets.items()},
        "shares": SETS[kind], "ridge": RIDGE[kind],
        "reference": {lang: len(stand["values"]) for lang, stand in stands.items()},
        "in_sample": {name: round(right(part["x"] @ beta), 3) for name, part in sets.items()},
        "cross_validated": held_out,
        "left_out": [name for at, name in enumerate(names) if at not in used],
    }  # fmt: skip
    weights = {names[at]: round(float(beta[at]), 4) for at in used}
    told = yaml.safe_dump({"about": about, "weights": weights, "langs": langs}, sort_keys=False, allow_unicode=True)
    (PLACES / f"{kind}.yaml").write_text(told, encoding="utf-8")
    print(told)
    return about
