"""The ledger: every row that entered ends in exactly one state, and the counts must balance; and `why`, the join that explains a row."""

from __future__ import annotations

import heapq
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

from zhiling.errors import DataError, EngineError, say
from zhiling.store import Done, Entry, Output, current, views
from zhiling.tables import find
from zhiling.types import Example, Reject

STATES = ("kept", "dropped", "merged", "failed", "quarantined")


def entries(rejects: Iterable[Reject], merged: Iterable[Example], rows: Iterable[Entry]) -> Iterator[Entry]:
    """One entry per row that ever entered, by ascending id; `rows` are the entries of those that selectors saw, by ascending id."""
    others = [
        Entry(item.id, item.task, item.maker, item.state, item.maker.split(":")[0], item.why, "", item.where)
        for item in rejects
    ]
    same = say("equal to a row made before", "与先前生成的行相同")
    others += [Entry(row.id, row.task, row.maker, "merged", "construct", same, row.id) for row in merged]
    order = attrgetter("id", "state", "maker", "where")
    return heapq.merge(sorted(others, key=order), rows, key=order)


@dataclass(frozen=True, slots=True)
class Balance:
    """Rows in, by what the stages counted as they made them, against rows out, by state as the ledger has them."""

    came: int
    states: Mapping[str, int]

    @property
    def went(self) -> int:
        return sum(self.states.values())


def balance(came: int, counts: Mapping[str, int]) -> Balance:
    """The ledger's rows by state against what came in. Raises EngineError when a row is missing or counted twice."""
    counts = Counter(counts)
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
            total += int(entry.facts["rejects"]) + int(entry.facts.get("ready", 0))
        elif room == "construct":
            total += int(entry.facts["made"])
    return total


def why(folder: Path, prefix: str) -> dict[str, Any]:
    """Everything known about one row, by its id or the beginning of it: state, text, parents, scores and verdicts.

    `instead` says under which thresholds a dropped row would have passed the selector that dropped it. Raises DataError when no row, or
    more than one, has an id that begins so.
    """
    done = current(folder)
    start = prefix.lower()
    if start.strip("0123456789abcdef") or not start:
        raise _not_one(folder, prefix, several=not start)
    entries = find(folder, _outputs(done, "ledger"), "id", start)
    if len({entry["id"] for entry in entries}) != 1:
        raise _not_one(folder, prefix, several=bool(entries))
    entries.sort(key=itemgetter("state", "maker"))
    key = entries[0]["id"]

    shard = _shard(done, key)
    row = (
        find(folder, _outputs(done, "examples")[shard], "id", [key])
        or find(folder, _outputs(done, "rejects"), "id", [key])
    )[0]
    parents = list(row["parents"] or [])
    templates = find(folder, _outputs(done, "templates"), "id", parents)
    records = find(folder, _outputs(done, "records"), "id", parents)
    scores = find(folder, _scores_of(done, shard), "example", [key])
    verdicts = [
        verdict for output in _outputs(done, "verdicts") for verdict in find(folder, [output], "example", [key])
    ]
    rival = next((entry["rival"] for entry in entries if entry["rival"]), "")
    found = {
        "id": key,
        "ledger": [_pick(entry, "state stage maker task why rival where") for entry in entries],
        "row": row,
        "templates": [
            _pick(one, "id maker lang instruction why parents") for one in sorted(templates, key=itemgetter("id"))
        ],
        # its own first, then those that its demos come from
        "records": [
            _pick(one, "id file line task") for one in sorted(records, key=lambda one: parents.index(one["id"]))
        ],
        "scores": [_pick(one, "scorer value why") for one in sorted(scores, key=itemgetter("scorer"))],
        "verdicts": [_pick(verdict, "selector kept why rival") for verdict in verdicts],
        "rivals": [
            _pick(one, "id instruction input output maker")
            for one in find(folder, _outputs(done, "examples")[_shard(done, rival)], "id", [rival] if rival else [])
        ],
    }
    return {**found, "instead": instead(_chain(done), found["verdicts"], found["scores"])}


def _not_one(folder: Path, prefix: str, several: bool) -> DataError:
    if several:
        what = say(f"several rows begin with '{prefix}'", f"有多行以“{prefix}”开头")
    else:
        what = say(f"no row begins with '{prefix}'", f"没有以“{prefix}”开头的行")
    list_ids = 'zhiling sql RUN "select id, state, why from ledger"'
    return DataError(what, where=str(folder), mend=say(f"ids are listed by: {list_ids}", f"列出 id：{list_ids}"))


def _pick(row: Mapping[str, Any], names: str) -> dict[str, Any]:
    return {name: row[name] for name in names.split()}


def _outputs(done: Iterable[Done], kind: str) -> list[Output]:
    return [output for entry in done for output in entry.of(kind)]


def _chain(done: Iterable[Done]) -> list[dict[str, Any]]:
    """The selectors in turn with their settings, as the selection wrote them down."""
    return next((list(entry.facts.get("chain", ())) for entry in done if entry.stage == "select"), [])


def _shard(done: Iterable[Done], key: str) -> slice:
    """Which of the shards of examples holds a row of that id, if any does: shards lie in the order of ids."""
    firsts = next((entry.facts.get("firsts") for entry in done if entry.stage == "merge"), None)
    if firsts is None:
        return slice(None)
    place = bisect_right(firsts, key) - 1
    return slice(max(place, 0), max(place, 0) + 1)


def _scores_of(done: Iterable[Done], shard: slice) -> list[Output]:
    """The files with the scores of the shard's rows."""
    name = None if shard.start is None else f"{shard.start:05d}"
    return [output for entry in done if name in (None, entry.shard) for output in entry.of("scores")]


NUMBER = re.compile(r"\d+\.\d+")


def instead(
    chain: Sequence[Mapping[str, Any]], verdicts: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Under which other settings a row would have passed the selector that dropped it: "format.min <= 0", "near.threshold >= 0.87".

    `chain` are the selectors in turn, `verdicts` what the first of them said of the row; empty where it was not dropped, or where no single
    number decides. It speaks of that selector and of the rival it named alone: another row may be as like, and later selectors have not
    seen the row.
    """
    at = next((place for place, verdict in enumerate(verdicts) if not verdict["kept"]), None)
    if at is None or at >= len(chain) or chain[at]["selector"] != verdicts[at]["selector"]:
        return []
    name, settings, why_not = chain[at]["selector"], chain[at]["settings"], verdicts[at]["why"]
    if name == "threshold":
        scorer = settings["scorer"]
        value = next((score["value"] for score in scores if score["scorer"] == scorer), None)
        if value is None:
            return [f"{scorer}.missing = keep"]
        low, high = settings.get("min"), settings.get("max")
        return (
            [f"{scorer}.min <= {value:g}"]
            if low is not None and value < low
            else [f"{scorer}.max >= {value:g}"]
            if high is not None
            else []
        )
    if name in ("quota", "top"):
        place = re.search(r"\d+", why_not)
        return [f"{name}.rows >= {place.group()}"] if name == "quota" and place else []
    number = NUMBER.search(why_not)
    bound = next((bound for bound in ("threshold", "similar") if isinstance(settings.get(bound), float)), None)
    if bound is None or number is None or float(number.group()) + 0.005 < settings[bound]:
        return []
    # The number was rounded to its last digit: one digit more lies above whatever it was.
    digits = len(number.group().split(".")[1])
    above = round(float(number.group()) + 10**-digits, digits)
    return [f"{name}.{bound} >= {above:g}"] if above <= 1 else []


def waterfall(folder: Path) -> list[dict[str, Any]]:
    """How the rows went: (maker's way, state, stage, rows), largest first."""
    base = views(folder)
    query = "select split_part(maker, ':', 1) as way, state, stage, count(*) as rows from ledger group by all order by rows desc, way, stage"
    return [dict(zip(("way", "state", "stage", "rows"), row, strict=True)) for row in base.execute(query).fetchall()]


def reasons(folder: Path) -> list[dict[str, Any]]:
    """What took the rows, in the order in which it did: (stage, why, rows, how many were left). Numbers in a reason become "#"."""
    base = views(folder)
    query = (
        "select case when state in ('dropped', 'kept') then stage else state end as stage, state,"
        " regexp_replace(why, '\\d+(\\.\\d+)?', '#', 'g') as why, count(*) as rows from ledger"
        " where state <> 'kept' group by all order by rows desc, why"
    )
    gone = [dict(zip(("stage", "state", "why", "rows"), row, strict=True)) for row in base.execute(query).fetchall()]
    order = ["quarantined", "failed", "merged", *dict.fromkeys(step["selector"] for step in _chain(current(folder)))]
    places = {name: place for place, name in enumerate(order)}
    gone.sort(key=lambda row: places.get(row["stage"], 2 if row["state"] == "dropped" else len(order)))
    left = base.execute("select count(*) from ledger").fetchone()[0]
    told = [{"stage": "", "why": say("rows in", "进入"), "rows": left, "left": left}]
    for row in gone:
        left -= row["rows"]
        told.append({"stage": row["stage"], "why": row["why"], "rows": -row["rows"], "left": left})
    return told
