"""Question answering on passages: question, answer and evidence, and questions that a passage does not answer.

passages -> pairs with evidence -> (asked without the passage) -> worded by the library's phrasings -> unanswerable variants
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from zhiling import text
from zhiling.construct.documents import evidence, faq
from zhiling.construct.documents.pairs import Asked, Shelf, pairs
from zhiling.construct.documents.pieces import Pair, Way
from zhiling.construct.documents.wording import lang_of, passage_of, verified, worded
from zhiling.construct.generate.asking import Asking, Style, book, styled
from zhiling.construct.generate.checks import Verify
from zhiling.construct.generate.floor import Made, over_records
from zhiling.embed import Embedder
from zhiling.errors import say
from zhiling.registry import constructor
from zhiling.types import Record, Reject, Task, row_seed

if TYPE_CHECKING:
    from zhiling.llm import Model

ABSENT = {"en": "The passage does not say.", "zh": "文中没有说明。"}
KNOWN = 0.6
"""Share of the answer's words from which on an answer given without the passage counts as the same."""


def calls(settings: Mapping[str, Any], task: Task) -> int:
    """The most calls for one passage where the model is asked again, without the passage; 0 where it is asked once: a plan sees those."""
    return int(settings["questions"]) * (1 + faq.asks(settings)) if settings["closed_book"] else 0


def ready(settings: Mapping[str, Any], task: Task) -> float:
    """About the most rows for one passage."""
    return int(settings["questions"]) * (1 + float(settings["unanswerable"]))


def asks(settings: Mapping[str, Any]) -> bool:
    """Whether a model is asked: for questions, or for answers without the passage."""
    return faq.asks(settings) or bool(settings["closed_book"])


@constructor(
    "document_qa", over="records", asks=asks, calls=calls, ready=ready, langs=("en", "zh"),
    paper="Alberti et al. 2019 (arXiv:1906.05416); unanswerable: Rajpurkar et al. 2018 (arXiv:1806.03822)",
)  # fmt: skip
async def document_qa(
    *,
    task: Task,
    records: Iterable[Record],
    embedder: Embedder,
    verify: Verify,
    seed: int,
    here: Path,
    model: Model | None = None,
    ways: Sequence[Way] = faq.WAYS,
    questions: Annotated[int, Ge(1), Le(20)] = 2,
    unanswerable: Annotated[float, Ge(0), Le(1)] = 0.2,
    closed_book: bool = False,
    quote: bool = False,
    style: Style = "auto",
    prompts: str | None = None,
    temperature: Annotated[float, Ge(0)] = 0.3,
    floor: Annotated[float, Ge(0), Le(1)] = 0.05,
) -> list[Made]:
    """Rows that ask about a passage, worded by the library: passage and question in, answer out.

    The task's first input is the passage. `quote` puts the evidence, letter for letter, behind the answer.
    With `closed_book` the model is asked each question without the passage, and what it knows anyway is dropped. To a share `unanswerable`
    of the questions a row is added that asks the most similar other passage which does not hold the answer, and answers that it does not
    say. Otherwise as `faq`.
    """
    shard = list(records)
    asked = Asked(
        "document_qa",
        model.label if model is not None else "",
        task,
        ways,
        questions,
        seed,
        style,
        prompts,
        here,
        temperature,
    )
    shelf = Shelf.of(shard, task, embedder)
    others = {record.id: record for record in shard}

    async def work(some: Sequence[Record]) -> list[Made]:
        found = await pairs(some, asked, model, embedder, shelf)
        if closed_book and model is not None:
            found = await _closed(found, asked, model)
        out: list[Made] = []
        for one in found:
            if isinstance(one, Reject):
                out.append(one)
                continue
            out.append(_row(one, asked, quote))
            if Random(row_seed(seed, f"unanswerable:{one.record.id}:{one.question}")).random() < unanswerable:
                out += _unanswerable(one, asked, others, shelf, embedder)
        return await verified(out, verify)

    if model is None or not faq.asks({"ways": ways}):
        return await work(shard)
    return await over_records(work, shard, floor=floor, model=model, step=f"tasks.{task.name}")


def _row(pair: Pair, asked: Asked, quote: bool) -> Made:
    answer = pair.answer
    if quote:
        stretch = passage_of(pair.record, asked.task)[pair.span.start : pair.span.end].strip()
        answer += f"\n\n依据：“{stretch}”" if lang_of(pair.record, asked.task) == "zh" else f'\n\nEvidence: "{stretch}"'
    fields = {"question": pair.question, asked.task.target: answer}
    return worded(asked.task, pair.record, fields, asked.seed, asked.maker(pair.way), pair.parents)


async def _closed(found: Sequence[Pair | Reject], asked: Asked, model: Model) -> list[Pair | Reject]:
    """The pairs whose answer the model does not give without the passage."""
    out = list(found)
    for lang in ("en", "zh"):
        mine = [
            (at, one)
            for at, one in enumerate(found)
            if isinstance(one, Pair) and lang_of(one.record, asked.task) == lang
        ]
        asking = Asking(
            asked.task, model, book("documents", asked.prompts, asked.here), lang, styled(model, asked.style), asked.seed
        )  # fmt: skip
        rows = [(f"{one.record.id}:{one.question}", {"question": one.question}) for _, one in mine]
        for (at, pair), said in zip(
            mine, await asking.ask("closed", rows, cool=True, max_tokens=80) if rows else [], strict=True
        ):
            share = evidence.covered(pair.answer, said.text)
            if not said.fault and share >= KNOWN:
                why = say(
                    f"closed book: without the passage the model says {share:.2f} of the answer: {text.cut(said.text, 80)}",
                    f"closed book：不看原文，模型已答出 {share:.2f} 的内容：{text.cut(said.text, 80)}",
                )
                where = f"{pair.record.file}:{pair.record.line}"
                parents = (*pair.parents, said.key)
                out[at] = Reject(asked.task.name, asked.maker("model"), "dropped", why, where, pair.question, parents)
    return out


def _unanswerable(
    pair: Pair, asked: Asked, others: Mapping[str, Record], shelf: Shelf, embedder: Embedder
) -> Iterator[Made]:
    """The question put to the nearest other passage of its language that does not hold the answer."""
    if shelf.vectors is None:
        return
    task, lang = asked.task, lang_of(pair.record, asked.task)
    ids = list(shelf.places)
    cosines = np.round(shelf.vectors @ embedder([pair.question])[0], 4)
    for at in sorted(range(len(ids)), key=lambda at: (-cosines[at], ids[at])):
        record = others[ids[at]]
        passage = passage_of(record, task)
        if record.id == pair.record.id or lang_of(record, task) != lang:
            continue
        if evidence.covered(pair.answer, passage) >= 0.5 or evidence.locate(passage, pair.answer):
            continue
        fields = {"question": pair.question, task.target: ABSENT[lang]}
        yield worded(task, record, fields, asked.seed, "document_qa:unanswerable", (record.id, *pair.parents))
        return
