"""How far scorers agree on which rows are best: the overlap of what each would keep, against what chance would give."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

from zhiling import registry
from zhiling.errors import DataError, say
from zhiling.pool import Marks, Pool
from zhiling.store import current
from zhiling.types import content_id


def agreement(folder: Path, share: float = 0.2) -> list[dict[str, Any]]:
    """For every two scorers of a run: if each kept its best `share` of the rows that both scored, how many would both keep?

    Rows: a, b, rows, kept (by each), both, chance (kept^2 / rows: two blind choices) and lift (both / chance: 1 is chance, below 1 they
    contradict each other). Rows with equal values are ranked by lot, by another lot for each scorer, so that ties agree by chance alone.
    Scorers for which neither high nor low is better are left out. Raises DataError for a run without two others.
    """
    import numpy as np

    done = current(folder)
    pool = Pool(folder, [output for entry in done for output in entry.of("examples")])
    marks = Marks(folder, [output for entry in done for output in entry.of("scores")], pool.all)
    signs = {"high": 1.0, "low": -1.0}
    better = {name: registry.get("scorer", name).facts.get("better") for name in sorted(marks.scorers)}
    values = {name: signs[way] * marks.column(name, pool) for name, way in better.items() if way in signs}
    if len(values) < 2:
        what = say("fewer than two scorers have a best end", "可比较好坏的评分器不足两个")
        raise DataError(what, where=str(folder), mend=say("score with more of them", "请用更多评分器评分"))
    lots = {name: np.random.default_rng(int(content_id("lot", name)[:12], 16)).random(len(pool)) for name in values}
    told = []
    for a, b in combinations(values, 2):
        known = np.flatnonzero(~np.isnan(values[a]) & ~np.isnan(values[b]))
        count = round(share * len(known))
        best = [set(known[np.lexsort((lots[name][known], -values[name][known]))][:count].tolist()) for name in (a, b)]
        both, chance = len(best[0] & best[1]), count * count / max(1, len(known))
        lift = both / chance if chance else None
        told.append(
            {"a": a, "b": b, "rows": len(known), "kept": count, "both": both, "chance": round(chance, 1), "lift": lift}
        )
    return told
