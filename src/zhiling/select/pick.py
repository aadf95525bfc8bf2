"""How many rows to take, and which: quotas per group, and the best rows that are not all alike."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from zhiling.embed import Embedder
from zhiling.errors import RecipeError, say
from zhiling.registry import selector
from zhiling.select.diverse import Pick, greedy
from zhiling.select.rank import Scores, best_first, distinct, task_ranks, weights_of
from zhiling.types import Example, Task, Verdict, row_seed


@selector("quota")
def quota(
    examples: Sequence[Example],
    *,
    scores: Scores,
    tasks: Mapping[str, Task],
    seed: int,
    rows: int | dict[str, int],
    per: Literal["task", "lang", "maker", "family"] = "task",
    by: str | None = None,
) -> Iterator[Verdict]:
    """Keep at most so many rows of each group: the best by the scorer `by`, or without one a seeded random choice.

    `rows` is one number for every group, or {group: number}; groups it does not name are kept whole. Groups are tasks,
    languages, makers or the families of tasks. A row over its quota names as rival the last row that was kept.
    Raises RecipeError for a negative number, or for a number given to a task that does not exist.
    """
    _check_quota(rows, per, tasks)
    ordered = best_first(examples, scores, by, "quota.by")
    if by is None:
        ordered.sort(key=lambda row: (row_seed(seed, row.id), row.id))
    groups: dict[str, list[Example]] = defaultdict(list)
    for row in ordered:
        family = tasks[row.task].family if row.task in tasks else "other"
        groups[family if per == "family" else getattr(row, per)].append(row)
    said: dict[str, Verdict] = {}
    for group, members in groups.items():
        limit = rows if isinstance(rows, int) else rows.get(group, len(members))
        last = members[min(limit, len(members)) - 1].id if limit else ""
        for place, row in enumerate(members, 1):
            over = say(
                f"number {place} of {per} '{group}', which has {limit} places",
                f"在“{group}”中排第 {place}，名额为 {limit}",
            )
            said[row.id] = (
                Verdict(row.id, "quota", True) if place <= limit else Verdict(row.id, "quota", False, over, last)
            )
    for row in examples:
        yield said[row.id]


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
    rows: int,
    by: str | list[str] | dict[str, float],
    diversity: float = 0.0,
    similar: float = 1.0,
) -> Iterator[Verdict]:
    """Keep the `rows` best rows: good by the scorers `by`, and unlike the ones already taken.

    Quality is the weighted mean, over the scorers, of a row's rank within its task (0 worst, 1 best, ties share their mean
    rank), so tasks compete on even terms. With diversity d, rows are taken one by one, each time the one with the highest
    (1 - d) * quality + d * (1 - its highest cosine with the prompts taken). Rows whose prompt has a cosine above `similar` with one
    taken are passed over, with that one as rival. A row that a scorer could not score is ranked by the others; one without
    any comes last, in a seeded order as all ties. Raises RecipeError for numbers out of range.
    """
    weights = weights_of(by, "top.by")
    _check_top(rows, diversity, similar)
    pool = sorted(distinct(examples), key=lambda row: (row_seed(seed, row.id), row.id))
    quality = task_ranks(pool, scores, weights, "top.by")
    if diversity or similar < 1:
        picks = greedy(quality, embedder([row.prompt for row in pool]), rows, diversity, similar)
    else:
        order = np.argsort(-quality, kind="stable").tolist()
        picks = [Pick(at, place < rows) for place, at in enumerate(order)]
    taken = [pick for pick in picks if pick.taken]
    last = pool[taken[-1].row].id if taken else ""
    beaten = say(f"{len(taken)} rows do better", f"有 {len(taken)} 行更优")
    said: dict[str, Verdict] = {}
    for pick in picks:
        row = pool[pick.row].id
        if pick.taken:
            said[row] = Verdict(row, "top", True)
        elif pick.near >= 0:
            alike = say(f"its prompt is {pick.cosine:.2f} like one taken", f"提示与已选行的相似度为 {pick.cosine:.2f}")
            said[row] = Verdict(row, "top", False, alike, pool[pick.near].id)
        else:
            said[row] = Verdict(row, "top", False, beaten, last)
    for example in examples:
        yield said[example.id]


def _check_top(rows: int, diversity: float, similar: float) -> None:
    if rows < 1:
        raise RecipeError(
            say(f"rows must be at least 1, not {rows}", f"rows 至少为 1，不能是 {rows}"), where="top.rows"
        )
    for name, number in (("diversity", diversity), ("similar", similar)):
        if not 0 <= number <= 1:
            what = say(f"{name} lies between 0 and 1, not {number}", f"{name} 须在 0 与 1 之间，不能是 {number}")
            raise RecipeError(what, where=f"top.{name}")
