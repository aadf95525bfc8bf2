"""Two models' answers before a judge that sees both, in both orders. Where `evaluate` and the judging scorers meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zhiling.errors import say
from zhiling.types import Example

if TYPE_CHECKING:
    from zhiling.evaluate.predict import Prediction
    from zhiling.llm import Model

BATCH = 128  # pairs under way at once
Watch = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the judge made of one row: 1 the second answer is better, 0 the first, 0.5 neither, None not judged; and why.

    `sort` is "judged", "equal" (the same words, nobody was asked), "contradicted" (the two orders disagree, which counts as a tie),
    "unreadable" or "unanswered"; `first` and `second` are the places that the two orders named.
    """

    value: float | None
    why: str
    sort: str
    first: str = ""
    second: str = ""


async def rulings(
    rows: Sequence[Example], first: Sequence[Prediction], second: Sequence[Prediction], judge: Model, watch: Watch
) -> dict[str, Ruling]:
    """{row: ruling}. Each pair is asked twice, the answers changing places. Raises ProviderError when the judge can answer no more."""
    from zhiling.score.judge import duels

    answers = [{one.example: one for one in side} for side in (first, second)]
    found, asked = dict[str, Ruling](), list[Example]()
    for row in rows:
        pair = [side.get(row.id) for side in answers]
        if any(one is None or one.error for one in pair):
            found[row.id] = Ruling(None, say("not answered by both", "没有得到双方的回答"), "unanswered")
        elif len({one.text.strip() for one in pair if one is not None}) == 1:
            found[row.id] = Ruling(0.5, say("both say the same", "两个回答相同"), "equal")
        else:
            asked.append(row)
    for start in range(0, len(asked), BATCH):
        part = asked[start : start + BATCH]
        shown = [replace(row, output=answers[1][row.id].text) for row in part]
        said = await duels(shown, [answers[0][row.id].text for row in part], model=judge)
        for row, duel in zip(part, said, strict=True):
            value, sort = duel.score.value, "judged"
            if value is None:
                value, sort = (0.5, "contradicted") if duel.first and duel.second else (None, "unreadable")
            found[row.id] = Ruling(value, duel.score.why, sort, duel.first, duel.second)
        watch({"stage": "evaluate/judge", "done": start + len(part), "total": len(asked)})
    return {row.id: found[row.id] for row in rows}


def judged(
    rows: Sequence[Example], said: Sequence[Mapping[str, Ruling]], judge: str, *, seed: int, confidence: float
) -> dict[str, Any]:
    """The win rate of the second model, over all and by task, as plain values; `said` holds the rulings of each seed of tuning.

    "first_place" is the share of the readable replies that named the answer shown first: 0.5 for a judge without bias.
    """
    from zhiling.evaluate.wins import wins

    groups = {row.id: row.task for row in rows}

    def told(of: Mapping[str, str]) -> dict[str, Any]:
        values = [{row: one[row].value for row in of} for one in said]
        return wins(values, of, seed=seed, confidence=confidence)

    every = [ruling for one in said for ruling in one.values()]
    places = [place for ruling in every for place in (ruling.first, ruling.second) if place in ("A", "B")]
    counts = {sort: sum(one.sort == sort for one in every) for sort in ("equal", "contradicted", "unreadable", "unanswered")}  # fmt: skip
    tasks = {name: told({row: of for row, of in groups.items() if of == name}) for name in sorted(set(groups.values()))}
    share = round(places.count("A") / len(places), 4) if places else None
    return {"judge": judge, **told(groups), **counts, "first_place": share, "tasks": tasks}
