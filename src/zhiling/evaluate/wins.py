"""How often one model's answers are preferred to another's: the win rate that a judge's words come to, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zhiling.evaluate.compare import stratified
from zhiling.evaluate.crossed import crossed

EVEN = 0.5


def wins(
    values: Sequence[Mapping[str, float | None]],
    groups: Mapping[str, str],
    *,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """The second model's win rate over `values` {row: 1 won, 0.5 tied, 0 lost, None not judged}, one mapping per seed of tuning.

    `groups` names each row's task; every task weighs the same. "better" and "worse" need an interval that leaves one half out and a
    paired test that agrees (random signs; with several seeds the interval alone, over rows and seeds). Plain values: "n", "failed", "win_rate",
    "low", "high", "p", "won", "lost", "tied" (of the first seed where there are several), "verdict", "more", "words".
    """
    even = [{row: None if value is None else EVEN for row, value in side.items()} for side in values]
    if len(values) == 1:
        names = dict.fromkeys(groups.values())
        parts = [
            ({row: even[0].get(row) for row in rows}, {row: values[0].get(row) for row in rows})
            for rows in ([row for row, of in groups.items() if of == name] for name in names)
        ]
        one = stratified(parts, seed=seed, confidence=confidence)
        n, p, verdict, more = one.n, one.p, one.verdict, one.more
        change, low, high = one.difference, one.low, one.high
    else:
        many = crossed(list(values), even, groups, confidence=confidence)
        n, p, verdict, more = many.rows, None, many.verdict, many.more
        change, low, high = many.difference, many.low, many.high
    judged = [value for value in values[0].values() if value is not None]
    rate, low, high = (None if x is None else min(1.0, max(0.0, EVEN + x)) for x in (change, low, high))
    found: dict[str, Any] = {
        "n": n, "failed": len(groups) - n, "win_rate": rate, "low": low, "high": high, "p": p,
        "won": sum(value > EVEN for value in judged), "lost": sum(value < EVEN for value in judged),
        "tied": sum(value == EVEN for value in judged), "verdict": verdict, "more": more, "confidence": confidence,
    }  # fmt: skip
    found["words"] = dict(zip(("en", "zh"), _words(found), strict=True))
    return found


def _words(found: Mapping[str, Any]) -> tuple[str, str]:
    if found["win_rate"] is None:
        return "cannot tell: the judge decided no row", "无法判断：评审没有对任何一行作出判断"
    span = "?" if found["low"] is None else f"{100 * found['low']:.1f} … {100 * found['high']:.1f}"
    level, zh = f"{100 * found['confidence']:g}%", {"better": "更好", "worse": "更差"}.get(found["verdict"], "无法判断")
    rate, n = f"{100 * found['win_rate']:.1f}%", found["n"]
    counts = f"{found['won']} won, {found['tied']} tied, {found['lost']} lost"
    parts = f"胜 {found['won']}，平 {found['tied']}，负 {found['lost']}"
    english = f"{found['verdict']}: wins {rate} ({level} interval {span}, {n} rows: {counts})"
    chinese = f"{zh}：胜率 {rate}（{level} 区间 {span}，{n} 行：{parts}）"
    if more := found["more"]:
        english += f"; about {more} more row{'s' if more > 1 else ''} would be needed to tell"
        chinese += f"；大约还需 {more} 行才能判断"
    return english, chinese
