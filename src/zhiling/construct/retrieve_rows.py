"""The nearest rows of a bank as a training mixture for a task: instruction, input and answer as they are, with their origin.

search for related rows -> leave out what would leak -> keep those that differ (maximal marginal relevance)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from zhiling import text
from zhiling.construct.bank import Hit, Store
from zhiling.construct.bind import default_slots, said_in, shaped
from zhiling.construct.retrieve_question import RELEVANCE, question
from zhiling.construct.sandbox import literal
from zhiling.embed import Embedder
from zhiling.errors import RecipeError, say
from zhiling.types import Example, Reject, Task, Template

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAME = 0.8
"""Shingle Jaccard above which two texts are the same."""


def nearest_rows(
    task: Task,
    bank: Store,
    *,
    embedder: Embedder,
    count: int = 100,
    floor: float = 0.1,
    heldout: Collection[Example] = (),
) -> Iterator[Example | Reject]:
    """Up to `count` rows per language of the task, nearest and most different first, as Examples whose parent is the bank's row.

    A row without an answer, of a search score below `floor`, or whose input or whole text is that of a held-out example or of the
    task's own demos, becomes a Reject that says so, as does the near copy of a row already taken. Raises RecipeError for count < 1.
    """
    if count < 1:
        raise RecipeError(say(f"count must be at least 1, got {count}", f"count 至少为 1，实际为 {count}"))
    kept_back = [text.shingles(said) for one in heldout for said in (one.prompt, one.input) if said.strip()]
    kept_back += [text.shingles(demo.input) for demo in task.demos if demo.input.strip()]
    for lang in task.langs:
        usable: list[Hit] = []
        for hit in bank.search(question(task, lang), 3 * count, lang=lang, related=True):
            why = _unfit(hit, floor, kept_back)
            if why:
                yield _dropped(task, hit, why)
            else:
                usable.append(hit)
        yield from _different(task, usable, count, embedder)


def described(task: Task) -> Iterator[Template]:
    """The task's own description as a wording, one per language: what its held-out rows are asked with where only rows are trained on."""
    for lang in task.langs:
        instruction = said_in(task.description, lang) or task.description or task.name
        given, answer = default_slots(task, lang)
        said = shaped(literal(instruction), task, lang)
        yield Template(task.name, lang, said, given, answer, maker="described")


def _unfit(hit: Hit, floor: float, kept_back: list[set[tuple[str, ...]]]) -> str:
    row = hit.row
    if not row.output.strip():
        return say("it has no answer", "没有答案")
    if hit.score < floor:
        return say(f"too far from the task: {hit.score} < {floor}", f"与任务相距太远：{hit.score} < {floor}")
    said = [text.shingles(part) for part in (f"{row.instruction}\n\n{row.input}", row.input) if part.strip()]
    if any(text.jaccard(ours, theirs) > SAME for ours in said for theirs in kept_back):
        return say("it is a held-out row, or a demo of the task", "它是留出数据或任务自带的示例")
    return ""


def _different(task: Task, hits: list[Hit], count: int, embedder: Embedder) -> Iterator[Example | Reject]:
    """The hits by maximal marginal relevance, near copies and those beyond `count` as Rejects."""
    import numpy as np

    if not hits:
        return
    said = [f"{hit.row.instruction} {hit.row.input}".strip() for hit in hits]
    vectors, shingles = embedder(said), [text.shingles(one) for one in said]
    relevance = np.array([hit.score for hit in hits])
    nearest = np.zeros(len(hits))
    left, kept = list(range(len(hits))), list[int]()
    while left:
        best = _best(left, relevance, nearest)
        left.remove(best)
        if any(text.jaccard(shingles[best], shingles[k]) > SAME for k in kept):
            yield _dropped(task, hits[best], say("a near copy of a row taken already", "与已选的数据几乎相同"))
        elif len(kept) < count:
            kept.append(best)
            nearest = np.maximum(nearest, vectors @ vectors[best])
            yield _example(task, hits[best])
        else:
            yield _dropped(task, hits[best], say(f"not among the best {count}", f"不在最好的 {count} 条之内"))


def _best(left: list[int], relevance: NDArray[np.float64], nearest: NDArray[np.float64]) -> int:
    worth = RELEVANCE * relevance - (1 - RELEVANCE) * nearest
    return max(left, key=lambda i: (round(float(worth[i]), 6), -i))


def _example(task: Task, hit: Hit) -> Example:
    row = hit.row
    return Example(
        task=task.name,
        instruction=row.instruction,
        input=row.input,
        output=row.output,
        lang=row.lang,
        maker=f"retrieve:rows:{row.id}",
        parents=(row.id,),
    )


def _dropped(task: Task, hit: Hit, why: str) -> Reject:
    maker = f"retrieve:rows:{hit.row.id}"
    return Reject(task.name, maker, "dropped", why, text=hit.row.instruction, parents=(hit.row.id,))
