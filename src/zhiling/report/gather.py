"""What a run's tables say, as plain dataclasses. Counting happens in SQL; rows are loaded only where they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiling.report import rows, scores
from zhiling.report.rows import PROMPT, Text, place
from zhiling.report.varied import Varied, varied
from zhiling.select.hypothesis import Alone
from zhiling.store import views
from zhiling.text import cut

REASONS = 4  # shown per place where rows were lost
NUMBER = "'[0-9a-f]{12,}|[0-9]+([.,][0-9]+)*'"  # ids and numbers inside reasons: they would make each reason its own
SLOT = "\ue000"  # where one stood; a private character, which no reason holds


@dataclass(frozen=True, slots=True)
class Way:
    """What one way of constructing did for one task. `scored` is None without scorers, `kept` before selection."""

    task: str
    way: str
    templates: int
    drafts: int
    unique: int
    scored: int | None
    kept: int | None


@dataclass(frozen=True, slots=True)
class Reason:
    """Why rows were lost at one place: in words ("…" for numbers that vary), how many, and one such row with its rival."""

    why: str
    n: int
    id: str
    maker: str
    where: str
    text: Text
    rival: str
    rival_text: Text


@dataclass(frozen=True, slots=True)
class Loss:
    """A place where rows were lost: their state, the stage, how many, the commonest reasons and how many kinds there are."""

    state: str
    stage: str
    n: int
    kinds: int
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything that the page shows of a run's tables. `ledger` counts rows by state; it is empty before selection.

    `alone` is what hypotheses tell of labels without their premises, where rows for natural language inference were kept.
    """

    records: int
    heldout: int
    ways: tuple[Way, ...]
    scorers: tuple[scores.Scorer, ...]
    losses: tuple[Loss, ...]
    varied: Varied | None
    quarantined: tuple[tuple[str, str, Text], ...]
    ledger: Mapping[str, int]
    answers: tuple[rows.Answer, ...]
    moves: tuple[rows.Moves, ...]
    samples: tuple[rows.Sample, ...]
    winners: tuple[rows.Wording, ...]
    losers: tuple[rows.Wording, ...]
    lost_wordings: int
    alone: tuple[Alone, ...]

    def by_way(self, field: str) -> dict[str, int | None]:
        """Totals of one field of `ways` by way, in the order of telling; None where it is not known."""
        return _totals(self.ways, "way", field)

    def by_task(self, field: str) -> dict[str, int | None]:
        """The same by task."""
        return _totals(self.ways, "task", field)


def tables(folder: Path, samples: int) -> Tables:
    """Query a run's folder. Raises EngineError when it is not one."""
    with views(folder) as db:
        ledger = dict(db.execute("select state, count(*) from ledger group by state").fetchall())
        lost, losers = rows.losers(db)
        return Tables(
            records=_count(db, "records"),
            heldout=_count(db, "heldout"),
            ways=_ways(db, bool(ledger)),
            scorers=scores.scorers(db, bool(ledger)),
            losses=_losses(db),
            varied=varied(db, bool(ledger)),
            quarantined=rows.quarantined(db),
            ledger=ledger,
            answers=rows.answers(db),
            moves=rows.moves(db),
            samples=rows.samples(db, samples),
            winners=rows.winners(db, bool(ledger)),
            losers=losers,
            lost_wordings=lost,
            alone=rows.alone_told(db),
        )


def _count(db: Any, view: str) -> int:
    return int(db.execute(f"select count(*) from {view}").fetchone()[0])


def _totals(ways: Sequence[Way], key: str, field: str) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for row in sorted(ways, key=lambda item: (place(item.way), item.task)):
        name, value = getattr(row, key), getattr(row, field)
        before = found.get(name)
        found[name] = before if value is None else (before or 0) + value
    return found


def _ways(db: Any, selected: bool) -> tuple[Way, ...]:
    has_scores = _count(db, "scores") > 0
    found = db.execute("""
        with said as (select distinct example from scores where isfinite(value)),
        marks as (
            select 'template' as kind, task, maker from templates union all
            select 'unique', task, maker from examples union all
            select 'merged', task, maker from merged union all
            select 'kept', task, maker from kept union all
            select 'scored', task, maker from examples semi join said on example = id)
        select task, split_part(maker, ':', 1) as way, count(*) filter (kind = 'template'), count(*) filter (kind in ('unique', 'merged')),
               count(*) filter (kind = 'unique'), count(*) filter (kind = 'scored'), count(*) filter (kind = 'kept')
        from marks group by all
    """).fetchall()
    ways = [
        Way(task, way, templates, drafts, unique, scored if has_scores else None, kept if selected else None)
        for task, way, templates, drafts, unique, scored, kept in found
    ]
    return tuple(sorted(ways, key=lambda row: (row.task, place(row.way))))


LOST = f"""
with lost as (
    select *, regexp_replace(why, {NUMBER}, '{SLOT}', 'g') as pattern, regexp_extract_all(why, {NUMBER}) as numbers
    from ledger where state <> 'kept'),
slots as (
    select state, stage, pattern, slot, case when min(value) = max(value) then min(value) else '…' end as value
    from (select state, stage, pattern, unnest(numbers) as value, unnest(range(len(numbers))) as slot from lost) group by all),
filled as (select state, stage, pattern, list(value order by slot) as numbers from slots group by all),
grouped as (
    select state, stage, pattern, count(*) as n, min(id) as id, arg_min(maker, id) as maker, arg_min("where", id) as place,
           arg_min(rival, id) as rival
    from lost group by all),
ranked as (
    select *, row_number() over (partition by state, stage order by n desc, pattern) as rank,
           sum(n) over (partition by state, stage) as total, count(*) over (partition by state, stage) as kinds
    from grouped),
texts as (
    select id, any_value({rows.text(PROMPT)}) as body from examples group by id union all
    select id, any_value({rows.text("text")}) from rejects group by id)
select state, stage, total, kinds, pattern, coalesce(numbers, []), n, ranked.id, maker, place, rival, own.body, other.body
from ranked left join filled using (state, stage, pattern)
     left join texts own on own.id = ranked.id left join texts other on other.id = rival and rival <> ''
where rank <= {REASONS} order by state, stage, rank
"""


def _said(pattern: str, numbers: Sequence[str]) -> str:
    """A reason that many rows share: the numbers that are the same in all of them in their places, "…" for the others."""
    parts = pattern.split(SLOT)
    return cut(parts[0] + "".join(number + part for number, part in zip(numbers, parts[1:], strict=False)), rows.REASON)


def _losses(db: Any) -> tuple[Loss, ...]:
    """Where rows were lost, in the order of the sentence: unreadable, not buildable, losing candidates, merged, each selector."""
    losses: dict[tuple[str, str], Loss] = {}
    for state, stage, total, kinds, pattern, numbers, n, id, maker, where, rival, own, other in db.execute(
        LOST
    ).fetchall():
        reason = Reason(
            _said(pattern, numbers),
            n,
            id,
            maker,
            cut(where, rows.REASON),
            rows.as_text(own),
            rival,
            rows.as_text(other),
        )
        before = losses.get((state, stage))
        losses[state, stage] = Loss(state, stage, int(total), kinds, (*(before.reasons if before else ()), reason))
    said = db.execute("""
        select selector from (select selector, row_number() over () as n from verdicts) group by selector order by min(n)
    """).fetchall()
    chain = {name: i for i, (name,) in enumerate(said)}
    first = {"quarantined": 0, "failed": 1, "dropped": 2, "merged": 3}

    def turn(loss: Loss) -> tuple[int, int, str]:
        late = loss.state == "dropped" and loss.stage in chain
        return (4, chain[loss.stage], "") if late else (first.get(loss.state, 5), 0, loss.stage)

    return tuple(sorted(losses.values(), key=turn))
