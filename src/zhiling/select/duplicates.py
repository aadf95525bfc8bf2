"""Rows that say the same thing twice: exactly, or nearly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Literal

import numpy as np

from zhiling.errors import RecipeError, say
from zhiling.registry import selector
from zhiling.select.parts import OVER, PARTS, Parts
from zhiling.select.rank import Scores, best_order, distinct, each, fields, ids
from zhiling.select.spill import Tokens
from zhiling.select.walk import walk
from zhiling.text import normalise
from zhiling.types import Example, Turn, Verdict


@selector("exact")
def exact(examples: Sequence[Example], *, scores: Scores, keep: str | None = None) -> Iterator[Verdict]:
    """Of rows whose prompt and output are equal up to case, width and white space, keep one.

    The one kept is the best by the scorer `keep`, or the one with the smallest id. The system prompt and earlier turns belong
    to the prompt. Rows with one id share one verdict.
    """
    rows = distinct(examples)
    order = np.arange(len(rows)) if keep is None else best_order(rows, scores, keep, "exact.keep")
    said = np.frombuffer(b"".join(_digest(*row) for row in fields(rows, SAID)), dtype="S16")
    _, first, group = np.unique(said[order], return_index=True, return_inverse=True)
    winner = np.empty(len(rows), dtype=np.int64)
    winner[order] = order[first[group]]
    known, same = ids(rows), say("same prompt and output", "提示与输出相同")

    def verdict(at: int, row: str) -> Verdict:
        kept = winner[at] == at
        return Verdict(row, "exact", bool(kept), "" if kept else same, "" if kept else known[winner[at]])

    yield from each(examples, rows, verdict)


SAID = ("system", "history", "instruction", "input", "output")


def _digest(system: str, history: Sequence[Turn], instruction: str, given: str, output: str) -> bytes:
    """16 bytes for what a row says; ending in no zero byte, which numpy would cut off."""
    prompt = f"{instruction}\n\n{given}" if given else instruction
    said = (system, *(part for turn in history for part in turn), prompt, "\0", output)
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
    rows = distinct(examples)
    order = np.arange(len(rows)) if keep is None else best_order(rows, scores, keep, "near.keep")
    given, folder = bytearray(), getattr(rows, "folder", None)
    tokens = Tokens(_parts(rows, given), len(PARTS), folder)
    try:
        has = np.array(given, dtype=bool)
        agree = None if over == "output" else Parts(tokens, order, has, n, threshold / 2, over == "prompt+output")
        rival, jaccard = walk(tokens, order, OVER[over], n, threshold, agree, folder)
    finally:
        tokens.close()
    place, known = np.empty_like(order), ids(rows)
    place[order] = np.arange(len(order))

    def verdict(at: int, row: str) -> Verdict:
        at = place[at]
        if rival[at] < 0:
            return Verdict(row, "near", True)
        why = say(f"Jaccard {jaccard[at]:.2f} with a row that is kept", f"与保留的一行 Jaccard 为 {jaccard[at]:.2f}")
        return Verdict(row, "near", False, why, known[order[rival[at]]])

    yield from each(examples, rows, verdict)


def _parts(rows: Sequence[Example], given: bytearray) -> Iterator[tuple[str, ...]]:
    """The rows' texts by PARTS; `given` notes which rows have an input."""
    for history, instruction, given_input, output in fields(rows, PARTS):
        given.append(bool(given_input.strip()))
        yield "\n".join(content for _, content in history) if history else "", instruction, given_input, output
