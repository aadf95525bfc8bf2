"""A bound on one score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from zhiling.errors import RecipeError, say
from zhiling.registry import selector
from zhiling.select.rank import Scores, ids, scored, values
from zhiling.types import Example, Verdict


@selector("threshold")
def threshold(
    examples: Sequence[Example],
    *,
    scores: Scores,
    scorer: str,
    min: float | None = None,
    max: float | None = None,
    missing: Literal["keep", "drop"] = "keep",
) -> Iterator[Verdict]:
    """Keep the rows whose score by `scorer` lies within min and max, both included.

    A row that could not be scored is no number: it is kept, or dropped with missing="drop". Raises RecipeError without a
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
