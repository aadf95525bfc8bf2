"""The mixture: which rows each optimizer step sees. A pure function of the rows' ids, the seed and the settings.

Nothing is drawn from a running generator, so a resumed run needs no sampler state, and the order in which rows arrive means nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter

from zhiling.errors import DataError, say
from zhiling.tune.render import Rendered
from zhiling.tune.settings import TuneSettings
from zhiling.types import content_id


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step: its epoch, counted from 0, its rows, and whether the epoch ends with it."""

    epoch: int
    rows: tuple[Rendered, ...]
    last: bool


def split(rows: Sequence[Rendered], settings: TuneSettings) -> tuple[list[Rendered], list[Rendered]]:
    """(training, validation) rows: each task gives its share, at least one row, but never its last one."""
    kept: list[Rendered] = []
    aside: list[Rendered] = []
    for group in by_task(rows).values():
        size = round(settings.validation * len(group))
        if settings.validation > 0:
            size = min(max(size, 1), len(group) - 1)
        drawn = sorted(group, key=lambda row: content_id("validation", settings.seed, row.id))
        aside += drawn[:size]
        kept += drawn[size:]
    return sorted(kept, key=lambda row: row.id), sorted(aside, key=lambda row: row.id)


def steps(rows: Sequence[Rendered], settings: TuneSettings) -> list[Step]:
    """The whole run. An epoch is cut into steps of nearly equal size, at most `batch_rows`, each with its share of every task.

    Raises DataError when a weight, a cap or task_epochs names a task without rows, or when the weights leave nothing.
    """
    groups = by_task(rows)
    for key in ("weights", "caps", "task_epochs"):
        for task in getattr(settings, key):
            if task not in groups and not (key == "caps" and task == "*"):
                raise DataError(
                    say(f"no rows of the task '{task}'", f"任务“{task}”没有数据"),
                    where=f"tune.{key}.{task}",
                    mend=say(f"tasks with rows: {', '.join(groups)}", f"有数据的任务：{'、'.join(groups)}"),
                )
    rates = visits_per_row({task: len(group) for task, group in groups.items()}, settings)
    epochs = {task: settings.task_epochs.get(task, settings.epochs) for task in groups}
    out: list[Step] = []
    for epoch in range(math.ceil(max(epochs.values()))):
        shares = {task: min(1.0, until - epoch) for task, until in epochs.items() if until > epoch}
        visits = _epoch({task: groups[task] for task in shares}, settings.seed, epoch, rates, shares)
        parts = math.ceil(len(visits) / settings.batch_rows)
        cuts = [round(k * len(visits) / parts) for k in range(parts + 1)] if parts else [0]
        out += [Step(epoch, tuple(visits[a:b]), b == len(visits)) for a, b in pairwise(cuts)]
    if not out:
        raise DataError(
            say("the weights leave no row to tune on", "按权重计算后没有可用于微调的数据"), where="tune.weights"
        )
    return out[: settings.max_steps]


def visits_per_row(sizes: Mapping[str, int], settings: TuneSettings) -> dict[str, float]:
    """How often an epoch shows each row of a task, on average, for tasks of so many rows: weights, then caps, then temperature."""
    caps = {task: settings.caps.get(task, settings.caps.get("*", math.inf)) for task in sizes}
    counts = {task: min(settings.weights.get(task, 1.0) * size, caps[task]) for task, size in sizes.items()}
    if settings.temperature != 1.0:
        total, shares = sum(counts.values()), {task: n ** (1 / settings.temperature) for task, n in counts.items()}
        counts = {task: total * share / (sum(shares.values()) or 1.0) for task, share in shares.items()}
    return {task: counts[task] / size for task, size in sizes.items()}


def by_task(rows: Sequence[Rendered]) -> dict[str, list[Rendered]]:
    """Rows by task, both in sorted order."""
    groups: dict[str, list[Rendered]] = {}
    for row in sorted(rows, key=lambda row: (row.task, row.id)):
        groups.setdefault(row.task, []).append(row)
    return groups


def _epoch(
    groups: Mapping[str, list[Rendered]], seed: int, epoch: int, rates: Mapping[str, float], shares: Mapping[str, float]
) -> list[Rendered]:
    """One epoch's visits, or the share of them that a task still takes, shuffled within each task, the tasks spread evenly over it."""
    placed: list[tuple[float, str, Rendered]] = []
    for task, group in groups.items():
        visits = _visits(group, rates[task], seed, epoch)
        keyed = sorted(((content_id(seed, epoch, copy, row.id), row) for copy, row in visits), key=itemgetter(0))
        keyed = keyed[: math.ceil(len(keyed) * shares[task])]
        placed += [((rank + 0.5) / len(keyed), key, row) for rank, (key, row) in enumerate(keyed)]
    placed.sort(key=lambda visit: visit[:2])
    return [row for _, _, row in placed]


def _visits(group: list[Rendered], rate: float, seed: int, epoch: int) -> Iterator[tuple[int, Rendered]]:
    """(copy, row): each row as often as the rate's whole part says, and a window for its fraction that moves on each epoch."""
    whole, part = divmod(rate, 1.0)
    for copy in range(int(whole)):
        yield from ((copy, row) for row in group)
    turns = sorted(group, key=lambda row: content_id("turn", seed, row.id))
    for k in range(round(epoch * part * len(group)), round((epoch + 1) * part * len(group))):
        yield int(whole), turns[k % len(group)]
