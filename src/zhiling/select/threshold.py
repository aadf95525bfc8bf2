"""A bound on one score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from zhiling import registry
from zhiling.errors import RecipeError, say
from zhiling.registry import selector
from zhiling.select.rank import Scores, ids, scored, values
from zhiling.types import Example, Verdict


def believed(settings: Mapping[str, Any], where: str) -> None:
    """Raise RecipeError where the scorer has no passport (`registry.passport`) or one no better than chance, and `force` is not set."""
    name = settings["scorer"]
    registry.get("scorer", name, f"{where}.scorer")
    told = registry.passport(name)
    if settings["force"] or (told and registry.above_chance(told)):
        return
    missing = (
        f"'{name}' has no passport: nobody measured how far it can be believed",
        f"“{name}”没有证书：其可信程度尚未测量",
    )
    chance = (
        f"'{name}' agrees with its labels no better than chance, as its passport says",
        f"“{name}”的证书显示，它与标注的一致性不优于随机",
    )
    raise RecipeError(
        say(*(chance if told else missing)),
        where=f"{where}.scorer",
        mend=say(
            "rank by it with 'top', or add force: true (see `zhiling score --passport`)",
            "请用 top 按它排序，或加上 force: true（参见 zhiling score --passport）",
        ),
    )


@selector("threshold", check=believed)
def threshold(
    examples: Sequence[Example],
    *,
    scores: Scores,
    scorer: str,
    min: float | None = None,
    max: float | None = None,
    missing: Literal["keep", "drop"] = "keep",
    force: bool = False,
) -> Iterator[Verdict]:
    """Keep the rows whose score by `scorer` lies within min and max, both included.

    A row that could not be scored is no number: it is kept, or dropped with missing="drop". A scorer without a passport, or
    with one no better than chance, is refused when the recipe is read, unless `force` is set. Raises RecipeError without a
    bound, with min above max, or when no row at all was scored by it.
    """
    if min is None and max is None:
        raise RecipeError(say("threshold needs min, max or both", "threshold 需要 min、max 或两者"), where="threshold")
    if min is not None and max is not None and min > max:
        raise RecipeError(say(f"min {min} lies above max {max}", f"min {min} 大于 max {max}"), where="threshold.min")
    scored(examples, scores, scorer, "threshold.scorer")
    unknown = say(f"{scorer} could not be scored", f"{scorer} 无法评分")
    for row, said in zip(ids(examples), values(examples, scores, scorer).tolist(), strict=True):
        if said != said:
            yield Verdict(row, "threshold", missing == "keep", unknown)
        elif min is not None and said < min:
            yield Verdict(row, "threshold", False, f"{scorer} {said:g} < {min:g}")
        elif max is not None and said > max:
            yield Verdict(row, "threshold", False, f"{scorer} {said:g} > {max:g}")
        else:
            yield Verdict(row, "threshold", True)
