"""The ledger: every row that entered ends in exactly one state, and the counts must balance; and `why`, the join that explains a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiling.errors import DataError, EngineError, say
from zhiling.store import Done, Entry, views
from zhiling.types import Example, Reject, Verdict

STATES = ("kept", "dropped", "merged", "failed", "quarantined")


def entries(
    rejects: Iterable[Reject],
    merged: Iterable[Example],
    examples: Sequence[Example],
    verdicts: Sequence[Mapping[str, Verdict]],
) -> Iterator[Entry]:
    """One entry per row. `verdicts` holds, per selector in order, what it said of each row that reached it; the first "no" is the last word."""
    for item in rejects:
        yield Entry(item.id, item.task, item.maker, item.state, item.maker.split(":")[0], item.why, "", item.where)
    for row in merged:
        yield Entry(
            row.id,
            row.task,
            row.maker,
            "merged",
            "construct",
            say("equal to a row made before", "与先前生成的行相同"),
            row.id,
        )
    for row in examples:
        last: Verdict | None = None
        for chain in verdicts:
            last = chain.get(row.id, last)
            if last is not None and not last.kept:
                break
        if last is None or last.kept:
            yield Entry(row.id, row.task, row.maker, "kept", last.selector if last else "", last.why if last else "")
        else:
            yield Entry(row.id, row.task, row.maker, "dropped", last.selector, last.why, last.rival)


@dataclass(frozen=True, slots=True)
class Balance:
    """Rows in, by what the stages counted as they made them, against rows out, by state as the ledger has them."""

    came: int
    states: Mapping[str, int]

    @property
    def went(self) -> int:
        return sum(self.states.values())


def balance(came: int, ledger: Iterable[Entry]) -> Balance:
    """Count the ledger against what came in. Raises EngineError when a row is missing or counted twice."""
    counts = Counter(entry.state for entry in ledger)
    found = Balance(came, {state: counts[state] for state in STATES})
    if found.went != came or set(counts) - set(STATES):
        raise EngineError(
            say(
                f"the ledger does not balance: {came} rows in, {found.went} out",
                f"账目不平：进 {came} 行，出 {found.went} 行",
            ),
            mend=say(
                "this is a fault in zhiling; the run folder shows where",
                "这是 zhiling 的缺陷；运行文件夹中可以查到出处",
            ),
        )
    return found


def came_in(done: Iterable[Done]) -> int:
    """Rows that entered: unreadable lines, and everything that constructors yielded for training (templates are not rows)."""
    total = 0
    for entry in done:
        room = entry.stage.split("/")[0]
        if room == "read":
            total += int(entry.facts["quarantined"])
        elif room == "propose":
            total += int(entry.facts["rejects"])
        elif room == "construct":
            total += int(entry.facts["made"])
    return total


def why(folder: Path, prefix: str) -> dict[str, Any]:
    """Everything known about one row, by its id or the beginning of it: state, text, parents, scores and verdicts.

    Raises DataError when no row, or more than one, has an id that begins so.
    """
    base = views(folder)
    like = prefix.lower().replace("'", "") + "%"
    found = base.execute("select distinct id from ledger where id like ? limit 3", [like]).fetchall()
    if len(found) != 1:
        if found:
            what = say(f"several rows begin with '{prefix}'", f"有多行以“{prefix}”开头")
        else:
            what = say(f"no row begins with '{prefix}'", f"没有以“{prefix}”开头的行")
        list_ids = 'zhiling sql RUN "select id, state, why from ledger"'
        mend = say(f"ids are listed by: {list_ids}", f"列出 id：{list_ids}")
        raise DataError(what, where=str(folder), mend=mend)
    key = found[0][0]

    def rows(query: str, *args: Any) -> list[dict[str, Any]]:
        result = base.execute(query, list(args))
        names = [column[0] for column in result.description]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    row = (
        rows("select * from kept where id = ?", key)
        or rows("select * from examples where id = ?", key)
        or rows("select * from rejects where id = ?", key)
    )[0]
    parents = list(row.get("parents") or [])
    return {
        "id": key,
        "ledger": rows(
            'select state, stage, maker, task, why, rival, "where" from ledger where id = ? order by state, maker', key
        ),
        "row": row,
        "templates": rows(
            "select id, maker, lang, instruction, why, parents from templates where list_contains(?, id) order by id",
            parents,
        ),
        "records": rows(  # its own first, then those that its demos come from
            "select id, file, line, task from records where list_contains(?, id) order by list_position(?, id)",
            parents,
            parents,
        ),
        "scores": rows("select scorer, value, why from scores where example = ? order by scorer", key),
        "verdicts": rows("select selector, kept, why, rival from verdicts where example = ?", key),
        "rivals": rows(
            "select distinct id, instruction, input, output, maker from examples"
            " where id in (select rival from ledger where id = ? and rival <> '')",
            key,
        ),
    }


def waterfall(folder: Path) -> list[dict[str, Any]]:
    """How the rows went: (maker's way, state, stage, rows), largest first."""
    base = views(folder)
    query = "select split_part(maker, ':', 1) as way, state, stage, count(*) as rows from ledger group by all order by rows desc, way, stage"
    return [dict(zip(("way", "state", "stage", "rows"), row, strict=True)) for row in base.execute(query).fetchall()]
