"""How varied the rows are that were made, beside those that were kept: what no single row can tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zhiling.embed import Use
from zhiling.judging.diversity import Diversity, Sample, asked, beside
from zhiling.types import Example

ROWS = 300  # of each set that are looked at, at most: embedding them is what costs
LONG = 4000  # characters of an instruction or input that are read
SHOWN = 8  # kinds of asks that are drawn


@dataclass(frozen=True, slots=True)
class Ask:
    """What a part of the rows asks for, by verb or question word: its share of the rows made, and of those kept (None before selection)."""

    name: str
    made: float
    kept: float | None


@dataclass(frozen=True, slots=True)
class Varied:
    """The diversity of the rows made, and of those kept (None before selection), on equally many rows; and what most of them ask for."""

    made: Diversity
    kept: Diversity | None
    asks: tuple[Ask, ...]


def varied(db: Any, selected: bool) -> Varied | None:
    """Both sets on a sample that their ids decide, as large as the smaller allows; None where there are fewer than two rows to compare.

    Equally many, because nearest neighbours, Vendi scores and shares of distinct words all hang on the size of a set.
    """
    views = ("examples", "kept") if selected else ("examples",)
    counts = [db.execute(f"select count(distinct id) from {view}").fetchone()[0] for view in views]
    if counts[0] < 2:
        return None
    told = [view for view, count in zip(views, counts, strict=True) if count >= 2]
    most = min(ROWS, *(count for count in counts if count >= 2))
    samples = [_sample(db, view, most, count) for view, count in zip(told, counts, strict=False)]
    found = beside(samples, Use())
    return Varied(found[0], found[1] if len(found) > 1 else None, _asks(samples))


def _sample(db: Any, view: str, most: int, count: int) -> Sample:
    """Rows of a view as they are counted: instruction and input alone."""
    found = db.execute(f"""
        with chosen as (select distinct id, md5(id) as place from {view} order by place limit {most})
        select any_value(left(instruction, {LONG})), any_value(left(input, {LONG}))
        from {view} semi join chosen using (id) group by id order by md5(id)
    """).fetchall()
    sample = Sample(most)
    for instruction, given in found:
        sample.add(Example("", instruction, given))
    sample.seen = count
    return sample


def _asks(samples: Sequence[Sample]) -> tuple[Ask, ...]:
    """What most rows ask for, the commonest of those made first."""
    counted = [Counter(filter(None, (asked(row.instruction) for row in sample.rows()))) for sample in samples]
    sizes = [max(1, len(sample.rows())) for sample in samples]
    order = sorted(counted[0], key=lambda name: (-counted[0][name], name))[:SHOWN]
    return tuple(
        Ask(name, counted[0][name] / sizes[0], counted[1][name] / sizes[1] if len(samples) > 1 else None)
        for name in order
    )
