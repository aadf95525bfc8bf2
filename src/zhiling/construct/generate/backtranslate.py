"""Instruction back-translation (Li et al. 2023, Humpback, arXiv:2308.06259): the text exists; the request that it answers is made.

a record's text -> the request -> checks -> the model marks the pair from 1 to 5 -> rows that reach `least`

Of the paper: the answer is what people wrote and stays as it is; self-curation by a five-point scale, of which the best mark is kept.
Its first step, a model tuned to write requests, is a prompt here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le

from zhiling.construct.generate import checks
from zhiling.construct.generate.asking import Asking, Said, book, styled
from zhiling.construct.generate.checks import RUN, RUN_WORDS, Leak, Scorers, Verify, judges
from zhiling.construct.generate.floor import Made, over_records
from zhiling.construct.generate.repair import dropped, failed
from zhiling.errors import say
from zhiling.llm.parse import unquote
from zhiling.registry import constructor
from zhiling.text import cut, length, ngrams, tokens
from zhiling.text import lang as language
from zhiling.types import Example, Record, Reject, Task

if TYPE_CHECKING:
    from zhiling.llm import Model

LONG = 400
"""Words, or Chinese characters twice as many, that a request may have at most."""


def calls(settings: Mapping[str, Any], task: Task) -> int:
    """Calls for one record: its request, and the mark."""
    return 2


def ready(settings: Mapping[str, Any], task: Task) -> int:
    """The most rows for one record."""
    return 1


@constructor(
    "backtranslate", over="records", calls=calls, ready=ready, uses=judges, needs=("chat",), paper="arXiv:2308.06259"
)
async def backtranslate(
    *,
    task: Task,
    records: Iterable[Record],
    model: Model,
    scorers: Scorers,
    verify: Verify,
    seed: int,
    here: Path,
    field: str | None = None,
    least: Annotated[int, Ge(1), Le(5)] = 5,
    chars: tuple[int, int] = (20, 8000),
    style: Literal["auto", "small", "large"] = "auto",
    prompts: str | None = None,
    temperature: Annotated[float, Ge(0)] = 0.7,
    floor: Annotated[float, Ge(0), Le(1)] = 0.1,
) -> list[Made]:
    """A request for each record's text, which is the row's answer; rows that the model marks below `least` are dropped.

    `field` names the data field that holds the text (default: the task's target, else its first input). Texts shorter or longer than
    `chars` (characters) are refused unasked. Stops early below `floor` usable rows.
    """
    out: list[Made] = []
    texts: dict[str, list[tuple[Record, str]]] = {}
    shard = list(records)
    checks.fields(shard, task, {"field": field}, "backtranslate")
    for record in shard:
        text = _text(record, field, task)
        if not chars[0] <= len(text) <= chars[1]:
            what = say(
                f"{len(text)} characters, allowed are {chars[0]} to {chars[1]}",
                f"{len(text)} 个字符，允许 {chars[0]} 至 {chars[1]}",
            )
            out.append(_refused(task, record, f"length: {what}", text))
        else:
            texts.setdefault("zh" if language(text) == "zh" else "en", []).append((record, text))
    for lang, found in texts.items():
        asking = Asking(
            task, model, book("backtranslate", prompts, here), lang, styled(model, style), seed, temperature, 128
        )
        back = _Back(asking, scorers, verify, least)
        step = f"construct.backtranslate ({task.name}, {lang})"
        out += await over_records(back.rows, found, floor=floor, model=model, step=step)
    return out


def _text(record: Record, field: str | None, task: Task) -> str:
    for name in (field,) if field else (task.target, *task.inputs):
        if name and record.fields.get(name, "").strip():
            return record.fields[name].strip()
    return ""


def _refused(task: Task, record: Record, why: str, text: str) -> Reject:
    return Reject(task.name, "backtranslate", "dropped", why, f"{record.file}:{record.line}", text, (record.id,))


class _Back:
    """How texts of one language are turned into rows."""

    def __init__(self, asking: Asking, scorers: Scorers, verify: Verify, least: int) -> None:
        self.asking, self.scorers, self.verify, self.least = asking, scorers, verify, least
        self.leak = Leak(asking.book.texts(asking.lang), asking.lang)
        self.maker = f"backtranslate:{asking.model.label}"

    async def rows(self, found: Sequence[tuple[Record, str]]) -> list[Made]:
        """A row or a Reject for each text, in order."""
        asking, task = self.asking, self.asking.task.name
        slots = [(record.id, {"text": text, "about": asking.about}) for record, text in found]
        said = await asking.ask("request", slots)
        asked = [unquote(one.text) for one in said]
        told = await checks.instructions(asked, asking.lang, task, self.leak, self.scorers)
        drafts: list[Example | Reject] = []
        for (record, text), one, request, why in zip(found, said, asked, told, strict=True):
            parents = (record.id, one.key)
            if one.fault:
                drafts.append(failed(task, self.maker, one, f"request for: {cut(text, 200)}", (record.id,)))
            elif reason := why or unfit(request, text, asking.lang):
                drafts.append(Reject(task, self.maker, "dropped", reason, text=request, parents=parents))
            else:
                drafts.append(Example(task, request, "", text, lang=asking.lang, maker=self.maker, parents=parents))
        return await self._curated(await self._verified(drafts))

    async def _verified(self, drafts: Sequence[Example | Reject]) -> list[Example | Reject]:
        """What the task's verifiers refuse is dropped: the text is given, so there is nothing to repair."""
        rows = [row for row in drafts if isinstance(row, Example)]
        scores = dict(zip((row.id for row in rows), await self.verify(rows), strict=True)) if rows else {}
        return [
            dropped(row, scores[row.id].why) if isinstance(row, Example) and scores[row.id].value == 0.0 else row
            for row in drafts
        ]

    async def _curated(self, drafts: Sequence[Example | Reject]) -> list[Made]:
        rows = [row for row in drafts if isinstance(row, Example)]
        slots = [(row.parents[0], {"instruction": row.instruction, "text": row.output}) for row in rows]
        marks = dict(
            zip((row.id for row in rows), await self.asking.ask("rate", slots, cool=True, max_tokens=8), strict=True)
        )
        return [self._kept(row, marks[row.id]) if isinstance(row, Example) else row for row in drafts]

    def _kept(self, row: Example, mark: Said) -> Made:
        if mark.fault:
            return failed(row.task, self.maker, mark, f"mark for: {row.instruction}", row.parents)
        if int(mark.text) < self.least:
            what = say(
                f"marked {mark.text}, at least {self.least} is asked for", f"评分 {mark.text}，要求至少 {self.least}"
            )
            return dropped(row, f"curation: {what}")
        return row


def unfit(request: str, text: str, lang: str) -> str:
    """Why a request does not serve: too long, or it holds what only the answer should say."""
    if length(request) > (2 * LONG if lang == "zh" else LONG):
        return f"length: {say('too long for a request', '作为要求太长')}"
    if length(request) < 3:
        return f"length: {say('too short to ask for anything', '太短，没有提出要求')}"
    run = RUN.get(lang, RUN_WORDS)
    runs = {gram for gram in ngrams(tokens(text), run) if len(gram) == run}
    if copied := next((gram for gram in ngrams(tokens(request), run) if gram in runs), None):
        shown = ("" if lang == "zh" else " ").join(copied)
        return f"gives away: {say(f'it quotes the answer: {shown}', f'引用了答案：{shown}')}"
    return ""
