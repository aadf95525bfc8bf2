"""A model of a tuning run: the memory it needs, part by part, and the seconds a step takes, from shapes alone.

Memory is a sum of parts that can be named (`parts`). Weights, gradients and moments are exact. Activations are counted, tensor by tensor,
as autograd keeps them for a Llama-like block (RMSNorm, rotary grouped-query attention, gated MLP); logits by their number. What the
allocator makes of the last two, and how fast the machine is, are `Constants`, measured on the machine at hand by `tune.calibrate`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zhiling.tune.loss import CHUNK
from zhiling.tune.settings import TuneSettings

GATED = frozenset({"llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3_text", "smollm3", "phi3", "olmo2"})
"""Kinds of model whose blocks are counted exactly or nearly; others are counted alike, and that is said (`Shape.known`)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model decides what its tuning costs: `width` h, `inner` f, `queries` and `keys` (heads x head size), and so on."""

    width: int
    inner: int
    layers: int
    heads: int
    queries: int
    keys: int
    vocab: int
    tied: bool = True
    known: bool = True

    @property
    def block(self) -> int:
        """Weights of one block's matrices."""
        return self.width * (2 * self.queries + 2 * self.keys + 3 * self.inner)

    @property
    def parameters(self) -> int:
        """All weights; biases, which are few, are left out."""
        return (
            self.vocab * self.width * (1 if self.tied else 2) + self.layers * (self.block + 2 * self.width) + self.width
        )

    def adapter(self, rank: int) -> int:
        """Weights of LoRA on all projections of a block."""
        h, f, q, k = self.width, self.inner, self.queries, self.keys
        return self.layers * rank * (2 * (h + q) + 2 * (h + k) + 3 * (h + f))


def shape_of(config: Mapping[str, Any]) -> Shape:
    """From a `config.json`, in the words of Llama or of GPT-2. Raises KeyError where it says too little."""
    held = {**config, **config.get("text_config", {})}
    width = int(held.get("hidden_size") or held["n_embd"])
    heads = int(held.get("num_attention_heads") or held["n_head"])
    size = int(held.get("head_dim") or width // heads)
    return Shape(
        width=width,
        inner=int(held.get("intermediate_size") or held.get("n_inner") or 4 * width),
        layers=int(held.get("num_hidden_layers") or held["n_layer"]),
        heads=heads,
        queries=heads * size,
        keys=int(held.get("num_key_value_heads") or heads) * size,
        vocab=int(held["vocab_size"]),
        tied=bool(held.get("tie_word_embeddings", True)),
        known=held.get("model_type") in GATED,
    )


def shape_in(folder: Path) -> Shape:
    """The shape of the model in a folder. Raises OSError, ValueError or KeyError where there is none."""
    return shape_of(json.loads((folder / "config.json").read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step: `batches` passes of `tokens` computed tokens each, in rows of `length`, `predicted` of them with a target."""

    tokens: float
    predicted: float
    length: float
    batches: int = 1

    @classmethod
    def of(cls, settings: TuneSettings, length: float, answer: float) -> Step:
        """That of rows of one length with no common beginning: what `batch.batches` makes of them."""
        fresh = max(length - 1, 1)
        together = max(1, min(settings.batch_rows, int(settings.batch_tokens // fresh)))
        return cls(together * fresh, together * answer, length, math.ceil(settings.batch_rows / together))


def parts(shape: Shape, settings: TuneSettings, step: Step, bf16: bool = False) -> dict[str, float]:
    """Bytes by what they are for, before what the allocator adds: "weights", "gradients", "moments", "activations", "logits"."""
    trained = shape.adapter(settings.rank) if settings.method == "lora" else shape.parameters
    frozen = shape.parameters if settings.method == "lora" else 0
    copies = shape.parameters * 2 if bf16 and settings.method == "full" else 0  # autocast keeps each weight in bf16 too
    size = 2 if bf16 else 4
    packed = shape.layers * shape.block if settings.quantize else 0
    return {
        "weights": (frozen - packed) * size + packed * PACKED + trained * 4 + copies,
        "gradients": trained * 4,
        "moments": trained * 8,
        "activations": step.tokens * _kept(shape, settings) * size,
        "logits": min(step.predicted * shape.vocab, CHUNK) * 4,
    }


PACKED = (4 + 0.127) / 8
"""Bytes of a weight held in 4 bits with its share of the doubly quantised constants (arXiv:2305.14314, section 3)."""


def _kept(shape: Shape, settings: TuneSettings) -> float:
    """Numbers that autograd keeps of one token: two norms' inputs and outputs, q, k, v and the attention's output, four of the MLP's width."""
    h, f, q, k = shape.width, shape.inner, shape.queries, shape.keys
    lora = settings.method == "lora"
    block = (4 if lora else 6) * h + 3 * q + 2 * k + 4 * f + shape.heads + (7 * settings.rank if lora else 0)
    outside = 2 * q / shape.heads + (0 if lora else 2 * h)  # rotary angles, the last norm
    return outside + (shape.layers * h + block if settings.recompute else shape.layers * block)


def work(shape: Shape, settings: TuneSettings, step: Step) -> tuple[float, float, float, float]:
    """What a step's time is made of: floating-point operations, bytes of activations moved, blocks entered, weights updated."""
    lora = settings.method == "lora"
    passes = 4 if lora else 6  # forward and the inputs' gradients; the weights' gradients too
    tokens, predicted = step.tokens * step.batches, step.predicted * step.batches
    adapter = shape.adapter(settings.rank) if lora else 0
    dense = (
        passes * (tokens * shape.layers * shape.block + predicted * shape.vocab * shape.width) + 6 * tokens * adapter
    )
    attention = 6 * tokens * step.length * shape.queries * shape.layers
    again = 1.0 if not settings.recompute else 1.5 if lora else 4 / 3
    moved = parts(shape, settings, step)
    bytes_ = (moved["activations"] + 5 * moved["logits"]) * step.batches
    return (dense + attention) * again, bytes_, float(shape.layers * step.batches), float(adapter or shape.parameters)


ENOUGH = 3
"""Configurations from which on an error of the fit says something."""


@dataclass(frozen=True, slots=True)
class Constants:
    """What was measured of a machine. Memory: `start`, a process that has imported everything, `fixed`, what kernels take on first use, and
    how much `activations` and `logits` (bytes each) grow through holes and temporaries. Time: seconds per unit of each of `work`'s figures.

    `spread_memory` and `spread_time` are the largest relative errors on the `seen` configurations that they were fitted to; None where those
    are fewer than ENOUGH, which any constants would fit.
    """

    start: float = 365e6
    fixed: float = 40e6
    activations: float = 1.8
    logits: float = 5.2
    load: float = 1.7
    time: tuple[float, float, float, float] = (2e-11, 1e-9, 8e-4, 3e-9)
    seen: int = 0
    spread_memory: float | None = None
    spread_time: float | None = None


def peak(shape: Shape, settings: TuneSettings, step: Step, constants: Constants) -> dict[str, float]:
    """The most resident memory of a run on a CPU, in bytes, by part, and "total".

    Gradients of a single pass grow while its activations go, so that the larger of the two counts; with several passes a step they stay.
    """
    need = parts(shape, settings, step)
    passing = constants.activations * need["activations"] + constants.logits * need["logits"]
    held = need["gradients"] if step.batches > 1 or settings.method == "lora" else max(0.0, need["gradients"] - passing)
    found = {
        "process": constants.start + constants.fixed,
        "weights": need["weights"],
        "gradients": held,
        "moments": need["moments"],
        "activations": constants.activations * need["activations"],
        "logits": constants.logits * need["logits"],
    }
    total = sum(found.values())
    loading = constants.start + constants.load * shape.parameters * 4
    return {**found, "loading": max(0.0, loading - total), "total": max(total, loading)}


def seconds(shape: Shape, settings: TuneSettings, step: Step, constants: Constants) -> float:
    """How long one optimizer step takes."""
    return float(np.dot(work(shape, settings, step), constants.time))


@dataclass(frozen=True, slots=True)
class Seen:
    """One configuration that was run: what was asked, the wall and CPU seconds of a step, and the bytes at the start, at the peak, and at
    the peak of loading."""

    shape: Shape
    settings: TuneSettings
    step: Step
    seconds: float
    cpu_seconds: float
    start: int | None
    peak: int | None
    load: int | None = None


def fit(seen: Sequence[Seen], prior: Constants | None = None) -> Constants:
    """The constants that explain what was seen, and no further from `prior` than that asks (ridge regression on relative errors)."""
    found = prior or Constants()
    weighed = [one for one in seen if one.peak is not None and one.start is not None]
    if weighed:
        found = replace(found, start=float(np.median([one.start for one in weighed if one.start is not None])))
        most = max(one.shape.parameters for one in weighed)
        loads = [(one.load - found.start) / (4 * most) for one in weighed if one.load and one.shape.parameters == most]
        found = replace(found, load=float(np.median(loads)) if loads else found.load)
        columns, rest = [], []
        for one in weighed:
            bare = replace(found, fixed=0.0, activations=0.0, logits=0.0)
            need = parts(one.shape, one.settings, one.step)
            base = peak(one.shape, one.settings, one.step, bare)
            columns.append((found.fixed, found.activations * need["activations"], found.logits * need["logits"]))
            held = base["gradients"] if one.step.batches > 1 or one.settings.method == "lora" else 0.0
            rest.append(float(one.peak or 0) - base["process"] - base["weights"] - base["moments"] - held)
        more = _ridge(np.array(columns), np.array(rest), np.array([float(one.peak or 0) for one in weighed]), 1.0)
        found = replace(
            found,
            fixed=found.fixed * float(more[0]),
            activations=found.activations * float(more[1]),
            logits=found.logits * float(more[2]),
        )
        wrong = [
            abs(peak(one.shape, one.settings, one.step, found)["total"] / float(one.peak or 1) - 1) for one in weighed
        ]
        found = replace(found, spread_memory=float(max(wrong)) if len(weighed) >= ENOUGH else None)
    if seen:
        took = np.array([one.seconds for one in seen])
        made = np.array([np.multiply(work(one.shape, one.settings, one.step), found.time) for one in seen])
        pace = float(np.exp(np.mean(np.log(took / made.sum(1)))))
        more = _ridge(made, took, took, pace)
        a, b, c, d = (float(value) for value in np.multiply(found.time, more))
        found = replace(found, time=(a, b, c, d))
        errors = [abs(seconds(one.shape, one.settings, one.step, found) / one.seconds - 1) for one in seen]
        found = replace(found, seen=len(seen), spread_time=max(errors) if len(seen) >= ENOUGH else None)
    return found


def _ridge(columns: Any, target: Any, scale: Any, about: float, weight: float = 0.05) -> Any:
    """Factors of the columns, near `about`, whose sum comes near the target relative to `scale`; none below a tenth of `about`."""
    count = columns.shape[1]
    pull = np.eye(count) * (weight / about)
    left = np.vstack([columns / scale[:, None], pull])
    right = np.concatenate([target / scale, np.full(count, weight)])
    factors, *_ = np.linalg.lstsq(left, right, rcond=None)
    return np.maximum(factors, about / 10)
