"""Rows that say the same thing twice: exactly, or nearly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Literal

import numpy as np

from zhiling.errors import RecipeError, say
from zhiling.registry import selector
from zhiling.select.join import Agree, jaccards, leaders
from zhiling.select.rank import Scores, best_first, best_order, distinct, each, ids
from zhiling.select.shingles import build
from zhiling.text import normalise
from zhiling.types import Example, Verdict


@selector("exact")
def exact(examples: Sequence[Example], *, scores: Scores, keep: str | None = None) -> Iterator[Verdict]:
    """Of rows whose prompt and output are equal up to case, width and white space, keep one.

    The one kept is the best by the scorer `keep`, or the one with the smallest id. The system prompt and earlier turns belong
    to the prompt. Rows with one id share one verdict.
    """
    rows = distinct(examples)
    order = np.arange(len(rows)) if keep is None else best_order(rows, scores, keep, "exact.keep")
    said = np.frombuffer(b"".join(map(_digest, rows)), dtype="S16")
    _, first, group = np.unique(said[order], return_index=True, return_inverse=True)
    winner = np.empty(len(rows), dtype=np.int64)
    winner[order] = order[first[group]]
    known, same = ids(rows), say("same prompt and output", "提示与输出相同")

    def verdict(at: int, row: str) -> Verdict:
        kept = winner[at] == at
        return Verdict(row, "exact", bool(kept), "" if kept else same, "" if kept else known[winner[at]])

    yield from each(examples, rows, verdict)


def _digest(row: Example) -> bytes:
    """16 bytes for what a row says; ending in no zero byte, which numpy would cut off."""
    said = (row.system, *(part for turn in row.history for part in turn), row.prompt, "\0", row.output)
    text = repr([normalise(part) for part in said])
    return blake2b(text.encode("ascii", "backslashreplace"), digest_size=15).digest() + b"."


@selector("near", paper="Chaudhuri et al. 2006 (prefix filtering)")
def near(
    examples: Sequence[Example],
    *,
    scores: Scores,
    threshold: float = 0.8,
    n: int = 2,
    over: Literal["prompt+output", "prompt", "output"] = "prompt+output",
    keep: str | None = None,
) -> Iterator[Verdict]:
    """Of rows that share most of their n-token shingles (Jaccard >= threshold), keep one.

    Rows are walked best first (by the scorer `keep`, else by id); a row is dropped when it is a near-duplicate of one kept
    before, which becomes its rival. The Jaccard is the true one, over n words, or n characters in Chinese. Rows
    are no near-duplicates where one of their parts (earlier turns, instruction, input, output) has less than half the threshold:
    two questions about one long passage, or two short texts in one long wording, differ. Rows without words are kept.
    Raises RecipeError for a threshold outside (0, 1] or n < 1.
    """
    if not 0 < threshold <= 1:
        raise RecipeError(
            say(
                f"a Jaccard threshold lies above 0 and at most at 1, not {threshold}",
                f"Jaccard 阈值须大于 0 且不超过 1，不能是 {threshold}",
            ),
            where="near.threshold",
        )
    if n < 1:
        raise RecipeError(
            say(f"shingles have at least 1 token, not {n}", f"片段至少含 1 个词元，不能是 {n}"), where="near.n"
        )
    rows = best_first(examples, scores, keep, "near.keep")
    known = ids(rows)
    agree = None if over == "output" else _agree(rows, n, threshold / 2, "output" in over)
    rival, jaccard = leaders(build(map(PART[over], rows), n), threshold, agree)

    def verdict(at: int, row: str) -> Verdict:
        if rival[at] < 0:
            return Verdict(row, "near", True)
        why = say(f"Jaccard {jaccard[at]:.2f} with a row that is kept", f"与保留的一行 Jaccard 为 {jaccard[at]:.2f}")
        return Verdict(row, "near", False, why, known[rival[at]])

    yield from each(examples, rows, verdict)


def _history(row: Example) -> str:
    return "\n".join(content for _, content in row.history)


def _prompt(row: Example) -> str:
    return f"{_history(row)}\n{row.prompt}" if row.history else row.prompt


PART: Mapping[str, Callable[[Example], str]] = {
    "history": _history,
    "instruction": lambda row: row.instruction,
    "input": lambda row: row.input,
    "prompt": _prompt,
    "output": lambda row: row.output,
    "prompt+output": lambda row: f"{_prompt(row)}\n{row.output}",
}


def _agree(rows: Sequence[Example], n: int, least: float, output: bool) -> Agree:
    """The test that no part of two rows differs altogether. Instruction and input are told apart where both rows have an input."""

    def agree(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        used, at = np.unique(np.concatenate([a, b]), return_inverse=True)
        some = [rows[i] for i in used.tolist()]
        one, other = at[: len(a)], at[len(a) :]

        def alike(part: str) -> np.ndarray:
            return jaccards(build([PART[part](row) for row in some], n), one, other) >= least

        given = np.array([bool(row.input.strip()) for row in some])
        good = np.where(given[one] & given[other], alike("instruction") & alike("input"), alike("prompt"))
        good &= alike("history")
        return good & alike("output") if output else good

    return agree
