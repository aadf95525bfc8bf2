"""The bank's vectors on disk, and the search for the nearest without reading them all.

Each segment has two files, both mapped, not loaded: the vectors as float16, and their signs, one bit per dimension, word by word
(a (dim/64, n) matrix of uint64). A search counts differing signs (64 bytes per row at 512 dimensions), and computes
the cosine of the best few thousand only. So a million rows are passed in milliseconds and need no training and no graph, and
adding rows never touches old ones. In a bank of fewer rows than that every cosine is exact. Sign quantisation: Charikar 2002.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXACT = 2_000
"""How many rows get their cosine computed: at least this many, and ten for each one wanted."""
_BLOCK = 1 << 17


class Vectors:
    """The vectors of all segments of one version, in the order of rows."""

    def __init__(self, parts: Sequence[tuple[Any, Any]]) -> None:
        self._full = [full for full, _ in parts]
        self._signs = [signs for _, signs in parts]
        sizes = [len(full) for full in self._full]
        self._ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]

    @classmethod
    def open(cls, folders: Iterable[Path]) -> Vectors:
        """Map the files of these segment folders. Raises OSError or ValueError when one is absent or damaged."""
        import numpy as np

        read = [
            (np.load(f / "vectors.npy", "r", allow_pickle=False), np.load(f / "signs.npy", "r", allow_pickle=False))
            for f in folders
        ]
        if any(full.ndim != 2 or signs.shape != (-(-full.shape[1] // 64), len(full)) for full, signs in read):
            raise ValueError("vectors.npy and signs.npy do not belong together")
        return cls(read)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def last(self, count: int) -> list[Any]:
        """The float16 vectors of the last `count` segments."""
        return self._full[len(self._full) - count :]

    def cosines(self, asked: NDArray[np.float32], numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """The cosine of the question with each numbered row."""
        import numpy as np

        return np.asarray(self.of(numbers) @ asked, dtype=np.float32)

    def of(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of the numbered rows, (n, dim)."""
        import numpy as np

        dim = self._full[0].shape[1] if self._full else 0
        out = np.empty((len(numbers), dim), dtype=np.float32)
        start = 0
        for part, end in zip(self._full, self._ends, strict=True):
            here = np.flatnonzero((numbers >= start) & (numbers < end))
            out[here] = part[numbers[here] - start]
            start = end
        return out

    def nearest(self, asked: NDArray[np.float32], limit: int, allowed: NDArray[np.bool_] | None) -> dict[int, float]:
        """{row number: cosine} of the nearest rows, at most `limit`, among those allowed (None: all)."""
        import numpy as np

        wanted = max(EXACT, 10 * limit)
        numbers = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
        if len(numbers) > wanted:
            apart = self._apart(asked)
            if allowed is not None:
                apart = np.where(allowed, apart, np.uint16(65535))
            numbers = np.sort(np.argpartition(apart, wanted - 1)[:wanted])
        found = self.cosines(asked, numbers)
        best = np.argpartition(-found, limit - 1)[:limit] if len(found) > limit else np.arange(len(found))
        return {int(numbers[i]): float(found[i]) for i in best}

    def _apart(self, asked: NDArray[np.float32]) -> NDArray[np.uint16]:
        """How many signs of each row differ from the question's."""
        import numpy as np

        sought = signs(asked[None, :])[:, 0]
        out = np.zeros(len(self), dtype=np.uint16)
        start = 0
        for part, end in zip(self._signs, self._ends, strict=True):
            for low in range(start, end, _BLOCK):  # block by block, so that what is counted stays in the cache
                high = min(end, low + _BLOCK)
                for word, theirs in zip(sought, part, strict=True):
                    out[low:high] += np.bitwise_count(theirs[low - start : high - start] ^ word)
            start = end
        return out


def write_vectors(folder: Path, full: NDArray[np.float32] | NDArray[np.float16]) -> None:
    """Write a segment's two files for (n, dim) unit vectors."""
    import numpy as np

    np.save(folder / "vectors.npy", full.astype(np.float16), allow_pickle=False)
    np.save(folder / "signs.npy", signs(full), allow_pickle=False)


def signs(full: Any) -> NDArray[np.uint64]:
    """One bit per dimension, packed into (dim / 64, n) words, the last one filled up with zeros."""
    import numpy as np

    rows, dim = full.shape
    words = -(-dim // 64)
    packed = np.zeros((rows, 8 * words), dtype=np.uint8)
    packed[:, : -(-dim // 8)] = np.packbits(full > 0, axis=1)
    return np.ascontiguousarray(packed.view(np.uint64).T)
