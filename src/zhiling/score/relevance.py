"""Does the instruction belong to its task?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from zhiling.embed import Embedder
from zhiling.errors import say
from zhiling.registry import scorer
from zhiling.types import Example, Score, Task


@scorer("relevance", low=0, high=1, better="high", langs=("zh", "en"), paper="Yang et al. 2020 (multilingual USE)")
def relevance(examples: Sequence[Example], *, tasks: Mapping[str, Task], embedder: Embedder) -> Iterator[Score]:
    """The highest cosine between the instruction and a line of the task's description, or one of its demos; at least 0.

    The embedder holds languages in one space, so a Chinese instruction may be near an English description. Equal texts
    are embedded once. None when the task is unknown or says nothing of itself, or the instruction is empty.
    """
    views = {name: _views(task) for name, task in tasks.items()}
    wanted = dict.fromkeys(row.instruction for row in examples if views.get(row.task) and row.instruction.strip())
    texts = list(dict.fromkeys([*wanted, *(view for lines in views.values() for view in lines)]))
    at = {item: i for i, item in enumerate(texts)}
    vectors = embedder(texts) if wanted else np.zeros((0, embedder.dim), dtype=np.float32)
    for row in examples:
        lines = views.get(row.task)
        if lines is None:
            yield Score(row.id, "relevance", None, say(f"unknown task '{row.task}'", f"未知任务“{row.task}”"))
        elif not lines:
            why = say(f"the task '{row.task}' has neither description nor demos", f"任务“{row.task}”既无描述也无示例")
            yield Score(row.id, "relevance", None, why)
        elif row.instruction not in at:
            yield Score(row.id, "relevance", None, say("the instruction is empty", "指令为空"))
        else:
            cosines = vectors[[at[line] for line in lines]] @ vectors[at[row.instruction]]
            yield Score(row.id, "relevance", round(float(np.clip(cosines.max(), 0, 1)), 4))


def _views(task: Task) -> list[str]:
    """What the task says of itself: its description, each line of it, and its demos."""
    lines = [line.strip() for line in task.description.splitlines() if line.strip()]
    whole = [task.description.strip()] if len(lines) > 1 else []
    return [*whole, *lines, *(f"{demo.input}\n{demo.output}" for demo in task.demos)]
