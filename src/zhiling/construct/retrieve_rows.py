"""The nearest rows of a bank as a training mixture for a task: instruction, input and answer as they are, with their origin.

search for related rows -> leave out what would leak -> keep those that differ (maximal marginal relevance)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from zhiling import text
from zhiling.construct.bank import Hit, Store
from zhiling.construct.bind import default_slots, said_in, shaped
from zhiling.construct.retrieve_differ import NEAR, differing
from zhiling.construct.retrieve_question import question
from zhiling.construct.sandbox import literal
from zhiling.embed import Embedder
from zhiling.errors import RecipeError, say
from zhiling.types import Example, Reject, Task, Template


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
    if any(text.jaccard(ours, theirs) > NEAR for ours in said for theirs in kept_back):
        return say("it is a held-out row, or a demo of the task", "它是留出数据或任务自带的示例")
    return ""


def _different(task: Task, hits: list[Hit], count: int, embedder: Embedder) -> Iterator[Example | Reject]:
    """The hits that differ, near copies and those beyond `count` as Rejects."""
    said = [f"{hit.row.instruction} {hit.row.input}".strip() for hit in hits]
    for at, fate, _ in differing(said, [hit.score for hit in hits], count, embedder):
        if fate == "kept":
            yield _example(task, hits[at])
        elif fate == "copy":
            yield _dropped(task, hits[at], say("a near copy of a row taken already", "与已选的数据几乎相同"))
        else:
            yield _dropped(task, hits[at], say(f"not among the best {count}", f"不在最好的 {count} 条之内"))


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
