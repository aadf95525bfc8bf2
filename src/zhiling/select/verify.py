"""Drops the rows that their task's verifiers refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zhiling.registry import selector
from zhiling.select.rank import Scores, ids, labels, values
from zhiling.types import Example, Verdict


@selector("verify")
def verify(examples: Sequence[Example], *, scores: Scores, must: list[str] | None = None) -> Iterator[Verdict]:
    """Drop the rows that the scorer `verify` found wrong, and of the tasks that `must` be verified those that it could not check.

    A recipe need not list it: a task with a `verifier` brings it along, and must be verified unless it says `unverified: keep`.
    """
    strict = set(must or ())
    said = values(examples, scores, "verify").tolist()
    for row, task, value in zip(ids(examples), labels(examples, "task"), said, strict=True):
        if value == 1.0:
            yield Verdict(row, "verify", True)
        else:
            yield Verdict(row, "verify", value != 0.0 and task not in strict, scores[row, "verify"].why)
