"""How the scores of a run are spread: one summary per scorer, counted in SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zhiling import registry
from zhiling.errors import ZhilingError
from zhiling.report.files import real
from zhiling.report.rows import REASON
from zhiling.report.svg import ticks
from zhiling.text import cut

BINS = 24  # columns of a histogram, about
FEW = 5  # so many different values are shown one by one


@dataclass(frozen=True, slots=True)
class Bucket:
    """Rows with a value in [low, high): all, and the kept among them (None before selection)."""

    low: float
    high: float
    n: int
    kept: int | None


@dataclass(frozen=True, slots=True)
class Scorer:
    """One scorer's values: `scored` rows have one, `unscored` have none, and `reasons` say why not.

    `better` is "high", "low", "none", or "" where the scorer is not known here. `single` means that each bucket is one value.
    """

    name: str
    better: str
    scored: int
    unscored: int
    reasons: tuple[tuple[str, int], ...]
    buckets: tuple[Bucket, ...]
    single: bool
    median: float | None
    median_kept: float | None
    above: int
    """Rows beyond the last bucket's edge, counted into it: a long tail would squeeze everything else."""

    @property
    def constant(self) -> bool:
        """Whether every row has one and the same value: nothing to draw."""
        return self.single and len(self.buckets) == 1 and not self.unscored


SPREAD = """
select scorer, count(value) filter (isfinite(value)), count(*), min(value) filter (isfinite(value)), max(value) filter (isfinite(value)),
       count(distinct value) filter (isfinite(value)), quantile_cont(value, 0.98) filter (isfinite(value)),
       median(value) filter (isfinite(value)), median(value) filter (isfinite(value) and id is not null)
from scores left join (select distinct id from kept) on id = example group by scorer order by scorer
"""


def scorers(db: Any, selected: bool) -> tuple[Scorer, ...]:
    """A summary per scorer, by name."""
    reasons, out = _reasons(db), list[Scorer]()
    for name, scored, rows, low, high, kinds, most, median, median_kept in db.execute(SPREAD).fetchall():
        facts, single, above = _facts(name), 0 < kinds <= FEW, 0
        buckets: tuple[Bucket, ...] = ()
        if single:
            buckets = _single(db, name, selected)
        elif scored:
            edges, tail = _edges(facts, low, high, most)
            buckets = _buckets(db, name, edges, selected)
            above = _above(db, name, edges[-1]) if tail else 0
        better, kept = str(facts.get("better", "")), median_kept if selected else None
        gone = rows - scored
        out.append(Scorer(name, better, scored, gone, reasons.get(name, ()), buckets, single, median, kept, above))
    return tuple(out)


def _above(db: Any, name: str, edge: float) -> int:
    return int(
        db.execute(
            "select count(*) from scores where scorer = ? and isfinite(value) and value > ?", [name, edge]
        ).fetchone()[0]
    )


def _reasons(db: Any) -> dict[str, tuple[tuple[str, int], ...]]:
    found = db.execute("""
        select scorer, why, count(*) as n from scores where value is null or not isfinite(value) group by scorer, why
        qualify row_number() over (partition by scorer order by n desc, why) <= 3 order by scorer, n desc, why
    """).fetchall()
    out: dict[str, tuple[tuple[str, int], ...]] = {}
    for scorer, why, n in found:
        out[scorer] = (*out.get(scorer, ()), (cut(why, REASON), n))
    return out


def _facts(name: str) -> dict[str, Any]:
    """What the scorer says of itself: a run may have been made with plug-ins that are not installed here."""
    try:
        return dict(registry.get("scorer", name).facts)
    except (ZhilingError, ImportError):
        return {}


def _edges(facts: dict[str, Any], low: float, high: float, most: float) -> tuple[list[float], bool]:
    """The edges of the buckets, and whether a long tail lies beyond the last. A stated range is shown where it is not far too wide."""
    floor, roof = real(facts.get("low")), real(facts.get("high"))
    if floor is not None and roof is not None and roof - floor <= 4 * (high - low):
        low, high = min(low, floor), max(high, roof)
    tail = most > low and high - low > 3 * (most - low)
    return ticks(low, most if tail else high, BINS), tail


def _buckets(db: Any, name: str, edges: list[float], selected: bool) -> tuple[Bucket, ...]:
    if len(edges) < 2:
        return ()
    step, last = edges[1] - edges[0], len(edges) - 2
    found = db.execute(
        """select least(greatest(cast(floor((value - ?) / ? + 1e-9) as bigint), 0), ?) as bucket, count(*), count(id)
           from scores left join (select distinct id from kept) on id = example where scorer = ? and isfinite(value) group by bucket""",
        [edges[0], step, last, name],
    ).fetchall()
    counts = {bucket: (n, kept) for bucket, n, kept in found}
    return tuple(
        Bucket(edges[i], edges[i + 1], counts.get(i, (0, 0))[0], counts.get(i, (0, 0))[1] if selected else None)
        for i in range(last + 1)
    )


def _single(db: Any, name: str, selected: bool) -> tuple[Bucket, ...]:
    found = db.execute(
        """select value, count(*), count(id) from scores left join (select distinct id from kept) on id = example
           where scorer = ? and isfinite(value) group by value order by value""",
        [name],
    ).fetchall()
    return tuple(Bucket(value, value, n, kept if selected else None) for value, n, kept in found)
