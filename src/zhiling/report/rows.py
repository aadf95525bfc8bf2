"""The rows that the page shows in full: answers side by side, kept samples, instruction wordings, unreadable lines.

Which rows are shown is decided by their ids, which are hashes: nobody picked them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from zhiling.select.hypothesis import Alone, alone
from zhiling.text import cut
from zhiling.types import Example

MOST = 4000  # characters of a text that the page carries
REASON = 300  # characters of a reason
WAYS = ("template", "retrieve", "generate")


@dataclass(frozen=True, slots=True)
class Text:
    """A text of the data, carried up to `MOST` characters; `size` is its whole length."""

    shown: str
    size: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A held-out row and what base and tuned model answered; None where there is no answer, `value` None where it has no score."""

    id: str
    task: str
    lang: str
    prompt: Text
    reference: Text
    base: Text | None
    base_value: float | None
    tuned: Text | None
    tuned_value: float | None


@dataclass(frozen=True, slots=True)
class Moves:
    """Of one task's held-out rows: how many the tuned model answered better, worse or equally well."""

    task: str
    better: int
    worse: int
    same: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A kept row with where it came from and what was said of it: (scorer, value, why) each."""

    id: str
    way: str
    task: str
    lang: str
    maker: str
    where: str
    system: Text
    prompt: Text
    output: Text
    scores: tuple[tuple[str, float | None, str], ...]


@dataclass(frozen=True, slots=True)
class Wording:
    """An instruction found or proposed. A winner has the rows that it made and those of them kept; a loser has none."""

    task: str
    way: str
    lang: str
    maker: str
    text: Text
    why: str
    won: bool
    made: int | None
    kept: int | None


def text(column: str) -> str:
    """SQL for a text that fits the page: its beginning and its length."""
    return f"struct_pack(shown := left({column}, {MOST}), size := length({column}))"


def as_text(value: Mapping[str, Any] | None) -> Text:
    """What that SQL gives, as a Text; empty where there is no row."""
    return Text(value["shown"] or "", value["size"] or 0) if value else Text("", 0)


PROMPT = "case when input <> '' then instruction || chr(10) || chr(10) || input else instruction end"
"""SQL for what an example's user turn says: the same as `Example.prompt`."""


def place(way: str) -> tuple[int, str]:
    """The order in which ways are told: the three, then any other by name."""
    return (WAYS.index(way) if way in WAYS else len(WAYS), way)


PAIRS = f"""
with rows as (
    select id, any_value(task) as task, any_value(lang) as lang, any_value({text(PROMPT)}) as prompt, any_value({text("output")}) as reference
    from heldout group by id),
given as (select example, model, {text("text")} as said, case when isfinite(value) then value end as value from answers),
said as (
    select example, any_value(said) filter (model = 'base') as base, any_value(value) filter (model = 'base') as base_value,
           any_value(said) filter (model = 'tuned') as tuned, any_value(value) filter (model = 'tuned') as tuned_value
    from given group by example),
pairs as (select * from rows join said on example = id)
"""


def answers(db: Any, most: int = 8) -> tuple[Answer, ...]:
    """Some held-out rows with both answers, tasks and languages in turn."""
    found = db.execute(f"""{PAIRS},
        dealt as (select *, row_number() over (partition by task, lang order by id) as turn from pairs)
        select id, task, lang, prompt, reference, base, base_value, tuned, tuned_value
        from dealt order by turn, task, lang, id limit {most}
    """).fetchall()
    return tuple(
        Answer(id, task, lang, as_text(prompt), as_text(reference), base and as_text(base), before, tuned and as_text(tuned), after)
        for id, task, lang, prompt, reference, base, before, tuned, after in sorted(found, key=lambda row: (row[1], row[0]))
    )  # fmt: skip


def moves(db: Any) -> tuple[Moves, ...]:
    """Per task, how the tuned model's answers moved, row by row; rows without both values are not counted."""
    found = db.execute(f"""{PAIRS}
        select task, count(*) filter (tuned_value > base_value), count(*) filter (tuned_value < base_value),
               count(*) filter (tuned_value = base_value)
        from pairs group by task order by task
    """).fetchall()
    return tuple(Moves(*row) for row in found)


def samples(db: Any, wanted: int) -> tuple[Sample, ...]:
    """Kept rows: ways in turn, and within a way tasks and languages in turn."""
    found = db.execute(f"""
        with dealt as (
            select *, split_part(maker, ':', 1) as way, row_number() over (partition by way, task, lang order by id) as turn
            from kept),
        ranked as (select *, row_number() over (partition by way order by turn, task, lang, id) as rank from dealt),
        few as (select * from ranked order by rank, way limit {max(int(wanted), 0)}),
        said as (
            select example, list((scorer, value, why) order by scorer) as scores
            from scores semi join few on few.id = example group by example),
        came as (
            select few.id, min(file || ':' || line) as place
            from few join records r on list_contains(few.parents[:2], r.id) where file <> '' group by few.id)
        select few.id, way, task, lang, maker, coalesce(place, ''), {text("system")}, {text(PROMPT)}, {text("output")}, scores
        from few left join said on said.example = few.id left join came on came.id = few.id
    """).fetchall()
    rows = [
        Sample(id, way, task, lang, maker, where, as_text(system), as_text(prompt), as_text(output), _reasoned(said or ()))
        for id, way, task, lang, maker, where, system, prompt, output, said in found
    ]  # fmt: skip
    return tuple(sorted(rows, key=lambda row: (place(row.way), row.task, row.lang, row.id)))


def _reasoned(scores: Iterable[tuple[str, float | None, str]]) -> tuple[tuple[str, float | None, str], ...]:
    return tuple((scorer, value, cut(why, REASON)) for scorer, value, why in scores)


CONTEST = "split_part(maker, ':', 1) in ('retrieve', 'generate')"
"""SQL for the ways in which wordings compete; templates are written by hand and all of them used."""
LOST = f"""{CONTEST} and state in ('dropped', 'failed')
    and not list_has_any(parents, coalesce((select list(id) from templates), []))"""
"""SQL for a wording that lost, as against a row that could not be filled: the latter has a template among its parents."""


def winners(db: Any, selected: bool) -> tuple[Wording, ...]:
    """The wordings that became templates, with the rows they became."""
    found = db.execute(f"""
        with rows as (select id, unnest(parents) as parent from examples where {CONTEST}),
        used as (select parent, count(*) as made, count(kept.id) as kept from rows left join kept using (id) group by parent)
        select task, split_part(maker, ':', 1) as way, lang, maker, {text("instruction")}, why, made, kept
        from templates left join used on parent = id where {CONTEST} order by task, way desc, lang, id
    """).fetchall()
    return tuple(
        Wording(
            task, way, lang, maker, as_text(said), cut(why, REASON), True, made or 0, (kept or 0) if selected else None
        )
        for task, way, lang, maker, said, why, made, kept in found
    )


def losers(db: Any, most: int = 4) -> tuple[int, tuple[Wording, ...]]:
    """How many wordings lost, and up to `most` of them per task and way."""
    count = db.execute(f"select count(*) from rejects where {LOST}").fetchone()[0]
    found = db.execute(f"""
        select task, split_part(maker, ':', 1) as way, maker, {text("text")}, why from rejects where {LOST}
        qualify row_number() over (partition by task, way order by id) <= {most} order by task, way desc, id
    """).fetchall()
    return count, tuple(
        Wording(task, way, "", maker, as_text(said), cut(why, REASON), False, None, None)
        for task, way, maker, said, why in found
    )


def quarantined(db: Any, most: int = 10) -> tuple[tuple[str, str, Text], ...]:
    """Unreadable lines of the user's data: (file:line, why, text), in the order of the files."""
    found = db.execute(f"""
        select "where", why, {text("text")} from rejects where state = 'quarantined'
        order by regexp_replace("where", ':[0-9]+$', ''), try_cast(regexp_extract("where", ':([0-9]+)$', 1) as bigint), why, id
        limit {most}
    """).fetchall()
    return tuple((cut(where, REASON), cut(why, REASON), as_text(said)) for where, why, said in found)


NAMED = "'(?i)premise|sentence ?1|first sentence|前提|句子一|句子1|第一句'"


def alone_told(db: Any, most: int = 20_000) -> tuple[Alone, ...]:
    """What the kept rows' hypotheses alone tell of their labels, by task and language; those dropped for it are told too, and teach nothing."""

    def found(view: str, which: str) -> list[Example]:
        said = db.execute(
            f"select task, instruction, input, output from {view} as rows where {which} and"
            f" regexp_matches(input || instruction, {NAMED}) order by id limit {most}"
        )
        return [Example(*row) for row in said.fetchall()]

    gone = "exists (select 1 from verdicts where selector = 'hypothesis_only' and not kept and example = rows.id)"
    kept = found("kept", "true")
    return tuple(alone(kept, found("examples", gone))) if kept else ()
