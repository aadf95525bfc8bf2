"""FAQ rows: a question that stands alone and its answer, each citing the passage that supports it.

What a run keeps of them, `zhiling export RUN --format faq` writes as a page: grouped, without repeats, contradictions flagged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from zhiling import text
from zhiling.construct.documents.pairs import Asked, Shelf, pairs
from zhiling.construct.documents.pieces import Pair, Way
from zhiling.construct.documents.wording import passage_of, verified
from zhiling.construct.generate.asking import Style
from zhiling.construct.generate.checks import Verify
from zhiling.construct.generate.floor import Made, over_records
from zhiling.embed import Embedder
from zhiling.registry import constructor
from zhiling.types import Example, Record, Task

if TYPE_CHECKING:
    from zhiling.llm import Model

WAYS: tuple[Way, ...] = ("own", "rules", "model")


def asks(settings: Mapping[str, Any]) -> bool:
    """Whether a model is among the ways."""
    return "model" in settings["ways"]


def ready(settings: Mapping[str, Any], task: Task) -> int:
    """About the most rows for one passage: documents may hold more questions of their own."""
    return int(settings["questions"])


@constructor(
    "faq", over="records", asks=asks, ready=ready, langs=("en", "zh"),
    paper="Du et al. 2017 (arXiv:1705.00106); round trip: Alberti et al. 2019 (arXiv:1906.05416)",
)  # fmt: skip
async def faq(
    *,
    task: Task,
    records: Iterable[Record],
    embedder: Embedder,
    verify: Verify,
    seed: int,
    here: Path,
    model: Model | None = None,
    ways: Sequence[Way] = WAYS,
    questions: Annotated[int, Ge(1), Le(20)] = 2,
    grounded: bool = False,
    style: Style = "auto",
    prompts: str | None = None,
    temperature: Annotated[float, Ge(0)] = 0.3,
    floor: Annotated[float, Ge(0), Le(1)] = 0.05,
) -> list[Made]:
    """Questions and answers from each passage, up to `questions` of them asked of the model; `instruction` is the question.

    `ways`: "own" takes the document's own pairs as they stand, "rules" its definitions, "model" asks. Without "model" nothing is asked.
    With `grounded` the passage is the row's input. A passage is the record's first input field; parents are the record and the reply.
    Stops early below `floor` usable pairs.
    """
    shard = list(records)
    asked = Asked(
        "faq", model.label if model is not None else "", task, ways, questions, seed, style, prompts, here, temperature
    )
    shelf = Shelf.of(shard, task, embedder) if asks({"ways": ways}) else Shelf({}, None)

    async def work(some: Sequence[Record]) -> list[Made]:
        found = await pairs(some, asked, model, embedder, shelf)
        rows = [_row(one, asked, grounded) if isinstance(one, Pair) else one for one in found]
        return await verified(rows, verify)

    if model is None or not asks({"ways": ways}):
        return await work(shard)
    return await over_records(work, shard, floor=floor, model=model, step=f"tasks.{task.name}")


def _row(pair: Pair, asked: Asked, grounded: bool) -> Example:
    given = passage_of(pair.record, asked.task) if grounded else ""
    lang, maker = "zh" if text.lang(pair.question) == "zh" else "en", asked.maker(pair.way)
    return Example(asked.task.name, pair.question, given, pair.answer, lang=lang, maker=maker, parents=pair.parents)
