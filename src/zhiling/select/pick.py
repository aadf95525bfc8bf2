"""How many rows to take, and which: quotas per group, and the best rows that are not all alike."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zhiling.embed import Embedder
from zhiling.errors import RecipeError, say
from zhiling.registry import selector
from zhiling.select.diverse import Look, Picks, fill, greedy
from zhiling.select.rank import (
    Scores,
    among,
    best_order,
    distinct,
    each,
    fields,
    ids,
    labels,
    seeded,
    task_ranks,
    weights_of,
)
from zhiling.select.shingles import Ints
from zhiling.text import length
from zhiling.types import Example, Task, Verdict


@selector("quota")
def quota(
    examples: Sequence[Example],
    *,
    scores: Scores,
    tasks: Mapping[str, Task],
    seed: int,
    rows: int | dict[str, int],
    per: Literal["task", "lang", "maker", "constructor", "family"] = "task",
    by: str | None = None,
) -> Iterator[Verdict]:
    """Keep at most so many rows of each group: the best by the scorer `by`, or without one a seeded random choice.

    `rows` is one number for every group, or {group: number}; groups it does not name are kept whole. Groups are tasks,
    languages, makers ("template:NAME"), constructors ("template") or the families of tasks. A row over its quota names as rival the last
    row that was kept. Raises RecipeError for a negative number, or for a number given to a task that does not exist.
    """
    _check_quota(rows, per, tasks)
    pool = distinct(examples)
    order = best_order(pool, scores, by, "quota.by") if by else seeded(pool, seed)
    named = _groups(pool, per, tasks)
    groups: dict[str, list[int]] = defaultdict(list)
    for at in order.tolist():
        groups[named[at]].append(at)
    places = np.zeros(len(pool), dtype=np.int64)
    for members in groups.values():
        places[members] = np.arange(1, len(members) + 1)
    limits = {group: rows if isinstance(rows, int) else rows.get(group, len(groups[group])) for group in groups}
    known = ids(pool)
    last = {
        group: known[members[limits[group] - 1]]
        for group, members in groups.items()
        if 0 < limits[group] <= len(members)
    }

    def verdict(at: int, row: str) -> Verdict:
        group, place = named[at], int(places[at])
        limit = limits[group]
        if place <= limit:
            return Verdict(row, "quota", True)
        over = say(
            f"number {place} of {per} '{group}', which has {limit} places", f"在“{group}”中排第 {place}，名额为 {limit}"
        )
        return Verdict(row, "quota", False, over, last.get(group, ""))

    yield from each(examples, pool, verdict)


def _groups(pool: Sequence[Example], per: str, tasks: Mapping[str, Task]) -> list[str]:
    if per == "family":
        return [tasks[task].family if task in tasks else "other" for task in labels(pool, "task")]
    if per == "constructor":
        return [maker.split(":")[0] for maker in labels(pool, "maker")]
    return labels(pool, per)


def _check_quota(rows: int | dict[str, int], per: str, tasks: Mapping[str, Task]) -> None:
    named = rows if isinstance(rows, dict) else {"": rows}
    for group, number in named.items():
        where = f"quota.rows.{group}" if group else "quota.rows"
        if number < 0:
            raise RecipeError(say(f"a quota cannot be negative: {number}", f"名额不能为负数：{number}"), where=where)
        if group and per == "task" and group not in tasks:
            close = difflib.get_close_matches(group, tasks, n=1)
            hint = say(f"did you mean '{close[0]}'?", f"是否想写“{close[0]}”？") if close else ""
            raise RecipeError(say(f"there is no task '{group}'", f"没有名为“{group}”的任务"), where=where, mend=hint)


@selector("top", paper="Carbonell & Goldstein 1998 (maximal marginal relevance)")
def top(
    examples: Sequence[Example],
    *,
    scores: Scores,
    seed: int,
    embedder: Embedder,
    by: str | list[str] | dict[str, float],
    rows: int | None = None,
    tokens: int | None = None,
    diversity: float = 0.0,
    similar: float = 1.0,
) -> Iterator[Verdict]:
    """Keep the `rows` best rows: good by the scorers `by`, and unlike the ones already taken.

    Quality is the weighted mean, over the scorers, of a row's rank within its task (0 worst, 1 best, ties share their mean
    rank), so tasks compete on even terms. With diversity d, rows are taken one by one, each time the one with the highest
    (1 - d) * quality + d * (1 - its highest cosine with the prompts taken). Rows whose prompt has a cosine above `similar` with one
    taken are passed over, with that one as rival. With `tokens` (of prompt and output, counted as `text.length` does), alone or beside
    `rows`, a row that no longer fits into that budget is passed over too. A row that a scorer could not score is ranked by the others; one
    without any comes last, in a seeded order as all ties. Raises RecipeError for numbers out of range, and without rows and tokens.
    """
    weights = weights_of(by, "top.by")
    _check_top(rows, tokens, diversity, similar)
    pool = distinct(examples)
    order = seeded(pool, seed)
    quality = task_ranks(pool, scores, weights, "top.by")[order]
    sizes = None
    if tokens is not None:
        counts = (sum(map(length, texts)) for texts in fields(pool, ("instruction", "input", "output")))
        sizes = np.fromiter(counts, dtype=np.int64, count=len(pool))[order]
    most = len(pool) if rows is None else rows
    if diversity or similar < 1:
        picks = greedy(quality, _look(pool, order, embedder), most, diversity, similar, sizes, tokens)
    else:
        picks = fill(np.argsort(-quality, kind="stable"), most, sizes, tokens)
    yield from each(examples, pool, _told(picks, order, ids(pool)))


def _look(pool: Sequence[Example], order: Ints, embedder: Embedder) -> Look:
    """The vectors of the prompts of some of the rows in the order; of a pool only these rows are read."""

    def look(rows: Ints) -> NDArray[np.float32]:
        places = np.sort(order[rows])
        prompts = [row.prompt for row in among(pool, places)]
        return embedder(prompts)[np.searchsorted(places, order[rows])]

    return look


def _told(picks: Picks, order: Ints, known: Sequence[str]) -> Callable[[int, str], Verdict]:
    """The verdict on the row at a place of the pool; `order` are the places of the rows that the picks speak of."""
    last = known[int(order[picks.taken[-1]])] if len(picks.taken) else ""
    beaten = say(f"{len(picks.taken)} rows do better", f"有 {len(picks.taken)} 行更优")
    no_room = say("does not fit into what is left of the tokens", "剩余的词元预算放不下")
    kept, at = np.zeros(len(order), dtype=bool), np.empty_like(order)
    kept[order[picks.taken]] = True
    at[order] = np.arange(len(order))

    def verdict(place: int, row: str) -> Verdict:
        if kept[place]:
            return Verdict(row, "top", True)
        pick = at[place]
        if picks.near[pick] >= 0:
            how = picks.cosine[pick]
            alike = say(f"its prompt is {how:.2f} like one taken", f"提示与已选行的相似度为 {how:.2f}")
            return Verdict(row, "top", False, alike, known[int(order[picks.near[pick]])])
        return Verdict(row, "top", False, no_room if picks.full[pick] else beaten, last)

    return verdict


def _check_top(rows: int | None, tokens: int | None, diversity: float, similar: float) -> None:
    if rows is None and tokens is None:
        raise RecipeError(say("top needs rows or tokens", "top 需要 rows 或 tokens"), where="top")
    for name, budget in (("rows", rows), ("tokens", tokens)):
        if budget is not None and budget < 1:
            what = say(f"{name} must be at least 1, not {budget}", f"{name} 至少为 1，不能是 {budget}")
            raise RecipeError(what, where=f"top.{name}")
    for name, number in (("diversity", diversity), ("similar", similar)):
        if not 0 <= number <= 1:
            what = say(f"{name} lies between 0 and 1, not {number}", f"{name} 须在 0 与 1 之间，不能是 {number}")
            raise RecipeError(what, where=f"top.{name}")
