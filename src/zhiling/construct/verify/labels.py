"""Whether a label is one of the set, and whether a second look agrees with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from zhiling.errors import ProviderError, say
from zhiling.registry import verifier
from zhiling.text import normalise
from zhiling.types import Example, Request, Score, Task, row_seed

if TYPE_CHECKING:
    from zhiling.llm import Model


def asks(settings: Mapping[str, Any]) -> bool:
    """Whether a second look is asked for."""
    return int(settings["draws"]) > 0


@verifier(
    "labels", families=("classification",), langs=("zh", "en"), asks=asks, paper="self-consistency (Wang et al. 2023)"
)
async def labels(
    examples: Sequence[Example],
    *,
    task: Task,
    seed: int,
    model: Model | None = None,
    names: list[str] | None = None,
    draws: Annotated[int, Ge(0)] = 0,
) -> list[Score]:
    """The answer is a label of the set: `names`, else the task's labels; case, width, quotes and end marks apart.

    With `draws`, a model answers each row's own prompt that often (held to the labels), and the commonest of its answers must be the row's.
    None where the set is not known, or where the model gave no answer.
    """
    known = names or list(task.labels)
    out: list[Score] = []
    for row in examples:
        if not known:
            out.append(Score(row.id, "labels", None, say("the task names no labels", "任务没有列出标签")))
        elif label_of(row.output, known) is None:
            shown = ", ".join(known[:8])
            out.append(Score(row.id, "labels", 0.0, say(f"not one of: {shown}", f"不在标签集中：{shown}")))
        else:
            out.append(Score(row.id, "labels", 1.0))
    if not draws or model is None:
        return out
    fine = [at for at, score in enumerate(out) if score.value == 1.0]
    for at, told in zip(fine, await drawn([examples[at] for at in fine], known, model, draws, seed), strict=True):
        out[at] = _agreed(examples[at], told, known)
    return out


def label_of(text: str, known: Sequence[str]) -> str | None:
    """The label that a text is; None where it is none or more."""
    bare = normalise(text).strip(" .。!！\"'“”‘’`*:：")
    found = [label for label in known if normalise(label) == bare]
    return found[0] if found else None


async def drawn(
    rows: Sequence[Example], known: Sequence[str], model: Model, draws: int, seed: int
) -> list[list[str | None]]:
    """A model's labels for each row, `draws` of them, None for each that failed or is no label."""
    requests = [
        Request(
            messages=tuple((m["role"], m["content"]) for m in row.messages(answer=False)), max_tokens=24, choices=tuple(known),
            temperature=0.0 if draws == 1 else 0.7, draw=draw, seed=row_seed(seed, f"{row.id}:{draw}"),
        )
        for row in rows
        for draw in range(draws)
    ]  # fmt: skip
    replies = await model.ask_all(requests)
    told = [None if isinstance(reply, ProviderError) else label_of(reply.text, known) for reply in replies]
    return [told[at * draws : (at + 1) * draws] for at in range(len(rows))]


def _agreed(row: Example, told: Sequence[str | None], known: Sequence[str]) -> Score:
    given = [label for label in told if label is not None]
    if not given:
        return Score(row.id, "labels", None, say("the model gave no label", "模型没有给出标签"))
    most, count = Counter(given).most_common(1)[0]
    own = label_of(row.output, known)
    why = say(f"{count} of {len(told)} draws say {most}", f"{len(told)} 次中有 {count} 次为 {most}")
    return Score(row.id, "labels", float(most == own), why)
