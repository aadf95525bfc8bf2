"""What a constructor made of a passage, worded as a row: by the library's phrasings that fit the task, else by its description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from zhiling import text
from zhiling.construct.bind import bind, fitting
from zhiling.construct.fill import fill
from zhiling.construct.generate.checks import Verify, refused
from zhiling.construct.library import list_definitions
from zhiling.construct.retrieve_rows import described
from zhiling.types import Example, Record, Reject, Task, Template


@lru_cache(maxsize=64)
def wordings(task: Task) -> tuple[Template, ...]:
    """The templates of a task: of the shipped definitions that fit best; where none fits, its own description."""
    bound = tuple(template for one in fitting(list_definitions(task.family), task) for template in bind(one, task))
    return bound or tuple(described(task))


def worded(
    task: Task, record: Record, fields: Mapping[str, str], seed: int, maker: str, parents: Sequence[str]
) -> Example | Reject:
    """A record with more fields as one row, in the passage's language; which wording it gets depends on the seed and the fields.

    What is not the task's answer is told in the prompt, whether the task lists it among its inputs or not.
    """
    more = tuple(name for name in fields if name not in (*task.inputs, task.target))
    task = replace(task, inputs=(*task.inputs, *more)) if more else task
    whole = Record(task.name, {**record.fields, **fields}, lang_of(record, task), record.file, record.line)
    made = next(iter(fill([whole], wordings(task), task=task, seed=seed)))
    return replace(made, maker=maker, parents=tuple(parents))


def passage_of(record: Record, task: Task) -> str:
    """The text that rows are made of: the task's first input."""
    return record.fields.get(task.inputs[0], "") if task.inputs else ""


def lang_of(record: Record, task: Task) -> str:
    """The passage's language, "zh" or "en" by its script, unless the record says it."""
    return record.lang or ("zh" if text.lang(passage_of(record, task)) == "zh" else "en")


def told(record: Record) -> str:
    """What the passage stands under: its last heading, "" where there is none."""
    return record.fields.get("heading", "").split(" > ")[-1]


async def verified(rows: Sequence[Example | Reject], verify: Verify) -> list[Example | Reject]:
    """The rows, those that the task's verifiers find wrong as Rejects that say which and why."""
    good = [row for row in rows if isinstance(row, Example)]
    scores = {score.example: score for score in (await verify(good) if good else [])}
    out: list[Example | Reject] = []
    for row in rows:
        score = scores.get(row.id) if isinstance(row, Example) else None
        if isinstance(row, Example) and score is not None and score.value == 0.0:
            out.append(
                Reject(
                    row.task,
                    row.maker,
                    "dropped",
                    refused(score),
                    text=f"{row.prompt}\n{row.output}",
                    parents=row.parents,
                )
            )
        else:
            out.append(row)
    return out
