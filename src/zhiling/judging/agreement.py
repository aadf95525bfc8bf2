"""How far scorers agree on which rows are best, and selectors on which to keep: the overlap, against what chance would give."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

from zhiling import registry, steps
from zhiling.embed import Use
from zhiling.errors import DataError, say
from zhiling.pool import Fates, Marks, Pool
from zhiling.recipe import Step
from zhiling.stages import GUARDS
from zhiling.store import Done, current
from zhiling.types import Task, content_id

DRAWS = 2000


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


def selectors(folder: Path, confidence: float = 0.95) -> list[dict[str, Any]]:
    """For every two selectors of a run: of the whole pool, which rows would both keep, if each had been the only one?

    In a run they stand in a chain, each seeing what the ones before left; here every one is asked anew about all rows, with the scores at
    hand. Rows: a, b, rows, a_keeps, b_keeps, both, chance (a_keeps * b_keeps / rows), lift (both / chance), kappa (Cohen 1960: 1 is the
    same choice, 0 chance, below 0 they contradict each other) with its interval `low`..`high` (resampling rows), and `verdict`: "agree",
    "chance" or "contradict". Kappa is None where one keeps all rows or none. The leak guards are left out. Raises DataError for a run that
    selected with fewer than two others.
    """
    import numpy as np

    done = current(folder)
    chosen = next((entry for entry in reversed(done) if entry.stage == "select" and "tasks" in entry.facts), None)
    listed = [step for step in chosen.facts["chain"] if step["selector"] not in GUARDS] if chosen else []
    if chosen is None or len(listed) < 2:
        what = say("fewer than two selectors to compare", "可比较的选择器不足两个")
        raise DataError(what, where=str(folder), mend=say("select with more of them", "请用更多选择器筛选"))
    pool = Pool(folder, [output for entry in done for output in entry.of("examples")])
    keeps = {}
    for step, name in zip(listed, _labels(listed), strict=True):
        keeps[name] = _alone(folder, done, chosen, pool, Step(step["selector"], step["settings"], "select"))
    told = []
    for a, b in combinations(keeps, 2):
        cells = np.array([[(keeps[a] == x) & (keeps[b] == y) for y in (True, False)] for x in (True, False)]).sum(
            axis=2
        )
        told.append({"a": a, "b": b, **_table(cells.ravel(), confidence, content_id("kappa", a, b))})
    return told


def _labels(listed: list[dict[str, Any]]) -> list[str]:
    """Each selector's name, thresholds with their scorer; a second one of the same name is numbered."""
    names: list[str] = []
    for step in listed:
        scorer = step["settings"].get("scorer")
        name = f"{step['selector']} {scorer}" if scorer else step["selector"]
        again = sum(known == name or known.startswith(f"{name} #") for known in names)
        names.append(f"{name} #{again + 1}" if again else name)
    return names


def _alone(folder: Path, done: list[Done], chosen: Done, pool: Pool, step: Step) -> Any:
    """Which rows of the pool a selector keeps where no other stands before it."""
    from pydantic import TypeAdapter

    tasks = TypeAdapter(dict[str, Task]).validate_python(chosen.facts["tasks"])
    marks = Marks(folder, [output for entry in done for output in entry.of("scores")], pool.all)
    given = {"seed": chosen.facts["seed"], "here": Path(chosen.facts["here"])}
    hand = {"scores": marks, "heldout": [], "tasks": tasks, "embedder": Use(), **given}
    plugin, fates = registry.get("selector", step.kind), Fates(pool)
    for _ in fates.hear(pool, steps.stream(steps.call(plugin, step.settings, hand, pool)), step):
        pass  # heard as they pass
    return fates.kept


def _table(cells: Any, confidence: float, lot: str) -> dict[str, Any]:
    """The figures of a fourfold table: kept by both, by the first alone, by the second alone, by neither."""
    import numpy as np

    total = int(cells.sum())
    first, second = int(cells[0] + cells[1]), int(cells[0] + cells[2])
    chance = first * second / max(1, total)
    kappa = _kappa(cells.astype(float))
    said: dict[str, Any] = {
        "rows": total, "a_keeps": first, "b_keeps": second, "both": int(cells[0]), "chance": round(chance, 1),
        "lift": float(cells[0] / chance) if chance else None,
    }  # fmt: skip
    if np.isnan(kappa):
        return {**said, "kappa": None, "low": None, "high": None, "verdict": "one-sided"}
    drawn = np.random.default_rng(int(lot[:12], 16)).multinomial(total, cells / total, DRAWS).astype(float)
    tail = (1 - confidence) / 2
    low, high = (float(end) for end in np.nanquantile(_kappa(drawn.T), [tail, 1 - tail]))
    verdict = "agree" if low > 0 else "contradict" if high < 0 else "chance"
    return {**said, "kappa": round(float(kappa), 4), "low": round(low, 4), "high": round(high, 4), "verdict": verdict}


def _kappa(cells: Any) -> Any:
    """Cohen's kappa of fourfold tables, their cells along the first axis; NaN where one side keeps all rows or none."""
    import numpy as np

    both, one, other, none = cells
    total = both + one + other + none
    seen = (both + none) / total
    by_chance = ((both + one) * (both + other) + (other + none) * (one + none)) / total**2
    sided = (np.minimum(both + one, other + none) == 0) | (np.minimum(both + other, one + none) == 0)
    return np.where(sided, np.nan, (seen - by_chance) / np.where(sided, 1.0, 1 - by_chance))


VERDICTS = {
    "agree": ("agree beyond chance", "超出随机的一致"), "chance": ("no more than chance", "与随机无异"),
    "contradict": ("contradict each other", "彼此相左"), "one-sided": ("one keeps all or none", "其一全留或全不留"),
}  # fmt: skip


def lines(told: list[dict[str, Any]]) -> list[str]:
    """The agreement of selectors as text."""
    from zhiling.show import table_lines

    head = say(
        "selectors, each alone on the whole pool (in the run they stand in a chain):",
        "各选择器单独面对全部数据时的一致性（运行中它们是依次进行的）：",
    )
    rows = [
        {
            say("two selectors", "两个选择器"): f"{one['a']} / {one['b']}", say("rows", "行数"): one["rows"],
            say("keep", "各自保留"): f"{one['a_keeps']} / {one['b_keeps']}", say("both", "都保留"): one["both"],
            say("by chance", "随机"): one["chance"], "kappa": one["kappa"],
            say("95% interval", "95% 区间"): "-" if one["low"] is None else f"[{one['low']:+.2f}, {one['high']:+.2f}]",
            say("they", "结论"): say(*VERDICTS[one["verdict"]]),
        }
        for one in told
    ]  # fmt: skip
    return [head, *table_lines(rows)]


def whole(folder: Path) -> dict[str, Any]:
    """{"scorers": ..., "selectors": ...}, each empty where there are fewer than two. Raises DataError where both are."""
    found: dict[str, Any] = {}
    troubles = []
    for name, compare in (("scorers", agreement), ("selectors", selectors)):
        try:
            found[name] = compare(folder)
        except DataError as error:
            found[name] = []
            troubles.append(error)
    if len(troubles) == len(found):
        raise troubles[0]
    return found


def told_lines(found: dict[str, Any]) -> list[str]:
    """What `whole` found as text."""
    from zhiling.show import table_lines

    head = say("scorers, each keeping its best fifth:", "各评分器各取最好的五分之一时的一致性：")
    scorers = [head, *table_lines(found["scorers"])] if found["scorers"] else []
    return [
        *scorers,
        *([""] if scorers and found["selectors"] else []),
        *(lines(found["selectors"]) if found["selectors"] else []),
    ]
