"""Pairs of texts that say the same or do not, from the shared data; the pair model trained on them, and measured by folds.

A part of dedup.py. The folds keep pairs that share a sentence together. A set that the shipped weights were trained on (they hold its
digest) is never measured with them: its figures come from models that have not seen the fold they are asked about.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

Pair = tuple[str, str, int]
THRESHOLD, DEFAULT, FOLDS, PENALTY = 0.5, 0.7, 5, 300.0  # DEFAULT: the selector's own threshold
MOST, WHOLE = (
    700,
    "lcqmc",
)  # a set counts for no more than MOST pairs, but the one with the cleanest labels for all it has
SETS = {
    "lcqmc": "11_zh_tasks/lcqmc_dev.jsonl",
    "afqmc": "11_zh_tasks/afqmc_dev.jsonl",
    "pawsx_zh": "11_zh_tasks/pawsx_zh_dev.jsonl",
    "bustm": "11_zh_tasks/fewclue_bustm_train_dev0.jsonl",
    "simclue": "12_retrieval/simclue_rank.jsonl",
    "qqp": "11_english_tasks/olora_classification_train.jsonl.gz",
}


def lines(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    return [json.loads(line) for line in content.split(b"\n") if line.strip()]


def pairs(data: Path, name: str) -> list[Pair]:
    """The labelled pairs of one set; label 1: they say the same."""
    rows = lines(data / SETS[name])
    if name == "simclue":
        return [pair for row in rows for pair in ((row["query"], row["title"], 1), (row["query"], row["neg_title"], 0))]
    if name == "qqp":
        found = []
        for row in rows:
            if row["dataset"] == "QQP":
                first, second = row["sentence"].removeprefix("first sentence: ").split("\nsecond sentence: ")
                found.append((first, second, int(row["label"] == "True")))
        return found
    return [(row["sentence1"], row["sentence2"], int(row["label"])) for row in rows]


def digest(found: Sequence[Pair]) -> str:
    return hashlib.blake2b(json.dumps(found, ensure_ascii=True).encode(), digest_size=8).hexdigest()


def folds(found: Sequence[Pair]) -> np.ndarray:
    """A fold for each pair; pairs that share a sentence, directly or by others, are in one."""
    head: dict[str, str] = {}

    def top(text: str) -> str:
        while head.setdefault(text, text) != text:
            text = head[text]
        return text

    for first, second, _ in found:
        head[top(first)] = top(second)
    groups = sorted({top(first) for first, _, _ in found})
    random.Random(7).shuffle(groups)
    place = {group: at % FOLDS for at, group in enumerate(groups)}
    return np.array([place[top(first)] for first, _, _ in found])


def table(found: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(the model's inputs, one row per pair; the labels; whether a difference forbids the pair)."""
    from zhiling.embed import Use
    from zhiling.select.semantic_pairs import difference, facts, features

    embed = Use()
    u, v = embed([pair[0] for pair in found]), embed([pair[1] for pair in found])
    looked = [(facts(first), facts(second)) for first, second, _ in found]
    named = np.array([features(a, b) for a, b in looked])
    rows = np.column_stack([(u * v).sum(axis=1), named, u * v, np.abs(u - v)]).astype(np.float64)
    return rows, np.array([pair[2] for pair in found]), np.array([difference(a, b) != "" for a, b in looked])


def fit(rows: np.ndarray, labels: np.ndarray, weight: np.ndarray, penalty: float = PENALTY) -> tuple[float, np.ndarray]:
    """Bias and weights of a logistic regression with an L2 penalty on standardised inputs, by Newton's method."""
    from threadpoolctl import threadpool_limits

    mean, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-9
    inputs = np.column_stack([np.ones(len(rows)), (rows - mean) / spread])
    pull = np.full(inputs.shape[1], penalty)
    pull[0] = 0.0
    beta = np.zeros(inputs.shape[1])
    with threadpool_limits(1, user_api="blas"):
        for _ in range(8):
            said = 1 / (1 + np.exp(-inputs @ beta))
            slope = inputs.T @ (weight * (said - labels)) + pull * beta
            curve = (inputs * (weight * said * (1 - said))[:, None]).T @ inputs + np.diag(pull)
            beta -= np.linalg.solve(curve, slope)
    scaled = beta[1:] / spread
    return float(beta[0] - mean @ scaled), scaled


def odds(model: tuple[float, np.ndarray], rows: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(model[0] + rows @ model[1])))


def shares(name: str, labels: np.ndarray) -> np.ndarray:
    """A large set counts for no more than MOST pairs."""
    return np.full(len(labels), 1.0 if name == WHOLE else min(1.0, MOST / max(1, len(labels))))


def by_folds(data: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The probability of each pair of these sets, from models trained on all other folds of all sets."""
    tables = {name: (*table(found := pairs(data, name)), folds(found)) for name in SETS}
    said = {name: np.zeros(len(tables[name][1])) for name in names}
    for fold in range(FOLDS):
        parts = [
            (rows[at != fold], y[at != fold], shares(name, y)[at != fold]) for name, (rows, y, _, at) in tables.items()
        ]
        model = fit(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        for name in names:
            rows, _, _, at = tables[name]
            said[name][at == fold] = odds(model, rows[at == fold])
    return {name: np.where(tables[name][2], 0.0, said[name]) for name in names}


def train(data: Path) -> Path:
    """Fit the pair model on all sets and write it where the package finds it."""
    from zhiling.select.semantic_pairs import FEATURES, WEIGHTS, weights

    known = yaml.safe_load(WEIGHTS.read_text(encoding="utf-8"))
    found = {name: pairs(data, name) for name in SETS}
    tables = [table(one) for one in found.values()]
    weight = np.concatenate([shares(name, labels) for name, (_, labels, _) in zip(SETS, tables, strict=True)])
    bias, scaled = fit(np.concatenate([t[0] for t in tables]), np.concatenate([t[1] for t in tables]), weight)
    vectors = np.round(scaled[len(FEATURES) :], 3).tolist()
    half = len(vectors) // 2
    content = {
        "embedder": "use-multilingual-v3",
        "bias": round(bias, 4),
        "features": dict(zip(FEATURES, np.round(scaled[: len(FEATURES)], 4).tolist(), strict=True)),
        "trained_on": {name: digest(one) for name, one in found.items()},
        "places": known["places"],
        "product": vectors[:half],
        "gap": vectors[half:],
    }
    head = "# How likely it is that two texts say the same: by benchmarks/dedup.py --train, but for the places, written by hand.\n"
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False, default_flow_style=None, width=140)
    WEIGHTS.write_text(head + text, encoding="utf-8")
    weights.cache_clear()
    return WEIGHTS


def measured(data: Path) -> dict[str, Any]:
    """F1 on LCQMC and QQP, and the share of PAWS-X pairs with label 0 that would be merged, at the selector's threshold."""
    from zhiling.select.semantic_pairs import weights

    names = ("lcqmc", "pawsx_zh", "qqp")
    found = {name: pairs(data, name) for name in names}
    seen = [name for name in names if digest(found[name]) == weights().trained_on.get(name)]
    said = by_folds(data, seen) if seen else {}
    for name in set(names) - set(seen):
        said[name] = shipped(found[name])
    labels = {name: np.array([pair[2] for pair in found[name]]) for name in names}
    return {
        "name": "semantic",
        "pairs": len(found["lcqmc"]),
        "lcqmc_f1": f1(said["lcqmc"] >= THRESHOLD, labels["lcqmc"]),
        "lcqmc_f1_default": f1(said["lcqmc"] >= DEFAULT, labels["lcqmc"]),
        "lcqmc_precision_default": round(float(labels["lcqmc"][said["lcqmc"] >= DEFAULT].mean()), 4),
        "lcqmc_bigrams_f1": bigrams_f1(found["lcqmc"]),
        "qqp_f1": f1(said["qqp"] >= THRESHOLD, labels["qqp"]),
        "pawsx_merged": round(float((said["pawsx_zh"] >= THRESHOLD)[labels["pawsx_zh"] == 0].mean()), 4),
        "pawsx_merged_default": round(float((said["pawsx_zh"] >= DEFAULT)[labels["pawsx_zh"] == 0].mean()), 4),
        "by_folds": ", ".join(seen),
    }


def shipped(found: Sequence[Pair]) -> np.ndarray:
    """The probabilities by the weights in the package."""
    from zhiling.select.semantic_pairs import weights

    rows, _, forbidden = table(found)
    model = weights()
    return np.where(forbidden, 0.0, odds((model.bias, np.concatenate([model.named, model.product, model.gap])), rows))


def f1(said: np.ndarray, labels: np.ndarray) -> float:
    hits = int((said & (labels == 1)).sum())
    return round(2 * hits / max(1, int(said.sum()) + int(labels.sum())), 4)


def bigrams_f1(found: Sequence[Pair]) -> float:
    """The best that any threshold on the bigrams' Jaccard reaches: what the model must beat."""
    from zhiling.text import jaccard, shingles

    values = np.array([jaccard(shingles(first, 2), shingles(second, 2)) for first, second, _ in found])
    labels = np.array([pair[2] for pair in found])
    return max(f1(values >= cut, labels) for cut in np.unique(values))
