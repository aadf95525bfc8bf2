"""Execution accuracy: whether what a model wrote does the same as the reference when both are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from zhiling.errors import RecipeError, say
from zhiling.registry import metric
from zhiling.types import Example, Task

Execute: TypeAlias = Callable[[Task, Sequence[Example], Sequence[str]], list[tuple[float | None, str]]]
"""Runs what was written for some rows of a task, in a cage; (1, 0 or None, why) of each. It is handed by the place where rooms meet."""


@metric("execution", families=("sql", "code"), runs=True, paper="Yu et al. 2018 (Spider); Chen et al. 2021 (HumanEval)")
def execution(prediction: str, reference: str, *, lang: str = "") -> float | None:
    """1 when the answer does what the reference does: a query gives the same rows, a program passes the reference's tests; else 0.

    Queries are run on the database of the task's verifier `sql` (or --database), programs against the tests of the row, all in the cage.
    The order of rows counts where the reference orders them; names of columns do not. None, no score, where the reference itself
    does not run, where there are no tests, and where no cage holds: never 0. It looks at many rows at once, so called alone it refuses.
    """
    what = say("'execution' runs rows of a task, not an answer alone", "“execution”需要运行整行任务数据，而不只是答案")
    raise RecipeError(what, where="metric", mend=say("use zhiling evaluate or compare", "请使用 zhiling evaluate 或 compare"))  # fmt: skip
