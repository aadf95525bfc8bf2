"""Whether an answer keeps the countable conditions of its instruction, read by the verifier that rows are made with."""

from __future__ import annotations

from dataclasses import replace

from zhiling import registry
from zhiling.errors import RecipeError, say
from zhiling.registry import metric
from zhiling.types import Example


@metric(
    "constraints", families=("news", "novel", "poetry", "other"), paper="IFEval (Zhou et al. 2023), strict, by prompt"
)
def constraints(prediction: str, reference: str, *, lang: str = "", example: Example | None = None) -> float | None:
    """1 when the answer keeps every countable condition of its instruction (length, terms, language, form; zh and en), else 0.

    The reference is not looked at. None, no score, where the instruction sets no condition that can be counted. Raises RecipeError
    where only answers, and not their rows, are at hand.
    """
    if example is None:
        what = say("'constraints' needs the whole row, not its answer alone", "“constraints”需要整行数据，而不只是答案")
        raise RecipeError(what, where="metric", mend=say("use another metric here", "请在此处换用其他指标"))
    (score,) = registry.get("verifier", "constraints").fn([replace(example, output=prediction)])
    value: float | None = score.value
    return value
