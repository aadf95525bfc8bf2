"""Rows that together stand for all others: facility location, with quality beside it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from zhiling.embed import Embedder
from zhiling.errors import RecipeError, say
from zhiling.registry import selector
from zhiling.select.rank import Scores, distinct, each, fields, ids, seeded, task_ranks, weights_of
from zhiling.select.shingles import Ints
from zhiling.text import length
from zhiling.types import Example, Verdict

MOST = 300_000  # rows: the work grows with their square
COSINE, BITS = 14, 24  # bits that a cosine in 4 decimals and a row take
ROW = (1 << BITS) - 1
WIDE, HIGH = 8192, 1024  # the similarity matrix is made in blocks of this size
NEAREST = 64  # neighbours kept of a row within one block, so that a crowd of equal rows costs no more than any other

Floats = NDArray[np.float32]


@selector("cover", paper="Mirchandani & Francis 1990 (facility location); Minoux 1978 (lazy greedy)")
def cover(
    examples: Sequence[Example],
    *,
    scores: Scores,
    seed: int,
    embedder: Embedder,
    rows: int | None = None,
    tokens: int | None = None,
    by: str | list[str] | dict[str, float] | None = None,
    quality: float = 0.3,
    floor: float = 0.5,
) -> Iterator[Verdict]:
    """Keep the rows that best represent the whole pool, and are good.

    Rows are taken one by one, each time the one that adds most to
    (1 - quality) * sum_i max_j s(i, j) + quality * sum_j q(j), j over the rows taken, i over all rows. s is the cosine of two prompts, 0
    below `floor`; q the mean rank by the scorers `by` within the row's task (see `top`), and without `by` only the first sum counts.
    Stops at `rows` rows, or before the `tokens` (of prompt and output, counted as `text.length` does) are exceeded. A row not taken
    names as rival the row taken that represents it best. Raises RecipeError for numbers out of range, without rows and tokens, and
    for more than 300,000 rows.
    """
    pool = distinct(examples)
    _check(rows, tokens, quality, floor, len(pool))
    order = seeded(pool, seed)
    rank = task_ranks(pool, scores, weights_of(by, "cover.by"), "cover.by") if by is not None else np.zeros(len(pool))
    vectors = embedder([row.prompt for row in pool])[order] if len(pool) else np.zeros((0, 1), dtype=np.float32)
    graph = neighbours(vectors, floor)
    sizes = None
    if tokens is not None:
        counts = (sum(map(length, texts)) for texts in fields(pool, ("instruction", "input", "output")))
        sizes = np.fromiter(counts, dtype=np.int64, count=len(pool))[order]
    share = quality if by is not None else 0.0
    taken, by_whom, how = facility(graph, np.maximum(rank[order], 0.0), share, rows or len(pool), sizes, tokens)
    beaten = say(f"{len(taken)} rows represent the pool better", f"有 {len(taken)} 行更能代表全体")
    known, chosen, place = ids(pool), set(taken), np.argsort(order)

    def verdict(at: int, row: str) -> Verdict:
        at = int(place[at])
        if at in chosen:
            return Verdict(row, "cover", True)
        if by_whom[at] >= 0:
            why = say(
                f"represented by a row taken, cosine {how[at]:.2f}", f"已由入选的一行代表，余弦相似度 {how[at]:.2f}"
            )
            return Verdict(row, "cover", False, why, known[int(order[by_whom[at]])])
        return Verdict(row, "cover", False, beaten, known[int(order[taken[-1]])] if taken else "")

    yield from each(examples, pool, verdict)


def _check(rows: int | None, tokens: int | None, quality: float, floor: float, pool: int) -> None:
    if rows is None and tokens is None:
        raise RecipeError(say("cover needs rows or tokens", "cover 需要 rows 或 tokens"), where="cover")
    for name, number in (("rows", rows), ("tokens", tokens)):
        if number is not None and number < 1:
            what = say(f"{name} must be at least 1, not {number}", f"{name} 至少为 1，不能是 {number}")
            raise RecipeError(what, where=f"cover.{name}")
    if not 0 <= quality < 1:
        what = say(f"quality lies from 0 to below 1, not {quality}", f"quality 须在 [0, 1) 内，不能是 {quality}")
        raise RecipeError(what, where="cover.quality")
    if not 0 < floor < 1:
        what = say(f"floor lies between 0 and 1, not {floor}", f"floor 须在 0 与 1 之间，不能是 {floor}")
        raise RecipeError(what, where="cover.floor")
    if pool > MOST:
        raise RecipeError(
            say(f"cover compares every two rows: {pool} are too many", f"cover 需两两比较，{pool} 行过多"),
            where="cover",
            mend=say(
                f"thin them out first to {MOST} with threshold, quota or top",
                f"请先用 threshold、quota 或 top 筛到 {MOST} 行以内",
            ),
        )


class Graph:
    """Who resembles whom: the neighbours of row i are `ids[starts[i]:starts[i+1]]`, itself among them, with cosines `near`."""

    def __init__(self, starts: Ints, ids: NDArray[np.int32], near: Floats) -> None:
        self.starts, self.ids, self.near = starts, ids, near


def neighbours(vectors: Floats, floor: float) -> Graph:
    """All pairs of unit rows whose cosine, rounded to 4 decimals, reaches the floor, in both directions.

    Of a row with more than NEAREST such neighbours within one block only the nearest count (ties: the earlier rows).
    """
    from threadpoolctl import threadpool_limits

    count = len(vectors)
    itself = np.arange(count, dtype=np.int64)
    found = [[_packed(itself[top : top + WIDE], itself[top : top + WIDE], 1.0)] for top in range(0, count, WIDE)]
    with threadpool_limits(
        1, user_api="blas"
    ):  # the sums, and with them the last bits, must not depend on the machine's threads
        for top in range(0, count, HIGH):
            rows = vectors[top : top + HIGH]
            for begin in range(top - top % WIDE, count, WIDE):
                cosines = rows @ vectors[begin : begin + WIDE].T
                for at, (sources, targets, values) in zip(
                    (top, begin), _within(cosines, top, begin, floor), strict=True
                ):
                    found[at // WIDE].append(_packed(sources, targets, values))
    starts = np.zeros(count + 1, dtype=np.int64)
    size = sum(len(part) for parts in found for part in parts)
    near, other = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.int32)
    size = 0
    for at, parts in enumerate(found):  # a stripe of rows at a time, each let go of as it is written
        pairs, part = np.sort(np.concatenate(parts)), slice(size, size + sum(map(len, parts)))
        parts.clear()
        other[part], near[part] = (pairs >> COSINE) & ROW, (pairs & ((1 << COSINE) - 1)) / np.float32(1e4)
        counts = np.bincount((pairs >> (COSINE + BITS)) - at * WIDE, minlength=min(WIDE, count - at * WIDE))
        starts[at * WIDE + 1 : at * WIDE + 1 + len(counts)] = counts
        size = part.stop
    return Graph(np.cumsum(starts), other, near)


def _packed(one: Ints, other: Ints, cosines: Floats | float) -> Ints:
    """Pairs of rows and their cosine in 4 decimals as single numbers, which sort by the rows."""
    return (one << (COSINE + BITS)) | (other << COSINE) | np.rint(np.float32(1e4) * cosines).astype(np.int64)


def _within(cosines: Floats, top: int, begin: int, floor: float) -> Iterator[tuple[Ints, Ints, Floats]]:
    """The block's pairs above the diagonal, seen from either side."""
    a, b = np.nonzero(cosines >= floor - 5e-5)
    above = b + begin > a + top
    a, b = a[above], b[above]
    values = np.round(cosines[a, b], 4)
    for mine, other, base, far in ((a, b, top, begin), (b, a, begin, top)):
        kept = _nearest(mine, other, values)
        yield mine[kept] + base, other[kept] + far, values[kept]


def _nearest(mine: Ints, other: Ints, values: Floats) -> Ints:
    """Which of the pairs to keep, so that nobody has more than NEAREST."""
    if not len(mine) or np.bincount(mine).max() <= NEAREST:
        return np.arange(len(mine))
    order = np.lexsort((other, -values, mine))
    counts = np.bincount(mine)
    place = np.arange(len(mine)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[place < NEAREST])


def facility(
    graph: Graph, rank: NDArray[np.float64], share: float, rows: int, sizes: Ints | None, tokens: int | None
) -> tuple[list[int], Ints, NDArray[np.float64]]:
    """(rows taken in order, for each row the one taken that represents it best or -1, its cosine with that one).

    Gains only fall as rows are taken, so an old gain is an upper bound and a heap of bounds suffices. Ties go to the earlier row.
    """
    count = len(rank)
    best, whom = np.zeros(count), np.full(count, -1, dtype=np.int64)
    taken: list[int] = []
    used = 0
    gains = np.zeros(count)
    for top in range(0, count, WIDE):
        ends = graph.starts[top : top + WIDE + 1]
        owners = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
        gains[top : top + WIDE] = np.bincount(owners, weights=graph.near[ends[0] : ends[-1]], minlength=len(ends) - 1)
    heap = [(-round((1 - share) * gains[j] + share * rank[j], 6), j, 0) for j in range(count)]
    heapq.heapify(heap)
    while heap and len(taken) < rows:
        _, j, seen = heapq.heappop(heap)
        part = slice(graph.starts[j], graph.starts[j + 1])
        ids, near = graph.ids[part], graph.near[part].astype(np.float64)
        if seen < len(taken):
            gain = (1 - share) * float(np.maximum(near - best[ids], 0.0).sum()) + share * float(rank[j])
            heapq.heappush(heap, (-round(gain, 6), j, len(taken)))
            continue
        if tokens is not None and sizes is not None:
            if used + int(sizes[j]) > tokens:
                continue  # another, shorter row may still fit
            used += int(sizes[j])
        taken.append(j)
        closer = near > best[ids]
        best[ids[closer]], whom[ids[closer]] = near[closer], j
    return taken, whom, best
