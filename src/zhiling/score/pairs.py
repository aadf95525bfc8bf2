"""Two small networks over sentence vectors: does this answer belong to this prompt, and does this instruction lack its input?

Both look at two unit vectors, their product and a few plain figures through one hidden layer. They learned from rows as they are against
the same rows put together wrongly (`benchmarks/selftest.py --train`): nobody labelled anything. The weights are a data file of bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhiling import text

WEIGHTS = Path(__file__).with_name("pairs.npz")
PARTS = ("left", "right", "product", "extra", "bias", "out", "grams")
GRAMS = 1 << 13  # places for the n-grams of an instruction
EACH, PRODUCT = 6.0, 22.0  # bring the vectors' parts, about 1/23 and 1/500 each, to the size of ordinary features

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Pairs:
    """One network: weights of left, right, their product, the extra figures and the output; `grams` adds n-gram weights where it has any."""

    left: Matrix
    right: Matrix
    product: Matrix
    extra: Matrix
    bias: Matrix
    out: Matrix
    shift: float
    grams: Matrix

    def logits(self, left: Matrix, right: Matrix, extra: Matrix) -> Matrix:
        """Log-odds of each of n pairs: (n, dim), (n, dim) and (n, k) give (n,)."""
        hidden = EACH * (left @ self.left.T + right @ self.right.T) + PRODUCT * ((left * right) @ self.product.T)
        hidden = np.maximum(hidden + extra @ self.extra.T + self.bias, 0)
        found: Matrix = np.concatenate([hidden, extra], axis=1) @ self.out + self.shift
        return found

    def worded(self, passage: str) -> float:
        """What the n-grams of a text say: their weights, over the root of their number."""
        at = places(passage)
        return float(self.grams[at].sum() / len(at) ** 0.5)


def places(passage: str) -> NDArray[np.int64]:
    """The places of a text's n-grams of one, two and three tokens, its start and end among them."""
    import zlib

    tokens = ["^", *text.tokens(passage[:400]), "$"]
    grams = {" ".join(tokens[at : at + n]) for n in (1, 2, 3) for at in range(len(tokens) - n + 1)}
    return np.array(sorted({zlib.crc32(gram.encode("utf-8", "replace")) % GRAMS for gram in grams}), dtype=np.int64)


@cache
def load(name: str) -> Pairs:
    """The network "answers" or "lacks_input"."""
    with np.load(WEIGHTS, allow_pickle=False) as file:
        parts = {part: _whole(file, f"{name}.{part}") for part in PARTS}
        return Pairs(shift=float(file[f"{name}.shift"]), **parts)


def _whole(file: Any, name: str) -> Matrix:
    scaled: Matrix = file[name].astype(np.float32) * file[f"{name}.scale"]
    return scaled


def packed(name: str, parts: dict[str, Matrix]) -> dict[str, NDArray[Any]]:
    """Weights as `load` reads them: each row as signed bytes with its scale."""
    out: dict[str, NDArray[Any]] = {f"{name}.shift": np.float32(parts["shift"])}  # type: ignore[dict-item]
    for part in PARTS:
        values = np.asarray(parts[part], dtype=np.float32)
        scale = np.abs(values).max(axis=-1, keepdims=True) / 127 if values.size else np.ones(1, dtype=np.float32)
        scale = np.where(scale > 0, scale, 1).astype(np.float32)
        out[f"{name}.{part}"] = np.round(values / scale).astype(np.int8)
        out[f"{name}.{part}.scale"] = scale
    return out
