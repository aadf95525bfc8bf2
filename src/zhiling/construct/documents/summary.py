"""Summaries of passages at several lengths, each shorter than its source and with nothing in it that the source does not say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
from annotated_types import Ge, Le

from zhiling import text
from zhiling.construct.documents import evidence
from zhiling.construct.documents.pieces import plain
from zhiling.construct.documents.wording import lang_of, passage_of, told, verified, worded
from zhiling.construct.generate.asking import Asking, Style, book, styled
from zhiling.construct.generate.checks import Verify
from zhiling.construct.generate.floor import Made, over_records
from zhiling.embed import Embedder
from zhiling.errors import say
from zhiling.registry import constructor
from zhiling.types import Example, Record, Reject, Task

if TYPE_CHECKING:
    from zhiling.llm import Model

Length: TypeAlias = Literal["sentence", "short", "paragraph"]
MOST: dict[str, int] = {"sentence": 40, "short": 80, "paragraph": 160}
"""Most tokens of a summary (words; characters in Chinese, for which each is half as many again)."""
SAID: dict[str, dict[str, str]] = {
    "sentence": {"en": "one sentence", "zh": "一句话"},
    "short": {"en": "two or three sentences", "zh": "两三句话"},
    "paragraph": {"en": "one paragraph", "zh": "一段话"},
}
SENTENCES: dict[str, tuple[int, int]] = {"sentence": (1, 1), "short": (2, 3), "paragraph": (2, 10)}
LEAST, SHARE = 60, 0.6
"""Tokens that a passage must have to be summed up; most of its length that a summary may have."""
SHOWN = 6000


def ready(settings: Mapping[str, Any], task: Task) -> int:
    """The most rows for one passage."""
    return len(settings["lengths"])


def asks(settings: Mapping[str, Any]) -> bool:
    """Whether a model writes them."""
    return bool(settings["by"] == "model")


@constructor(
    "summary", over="records", asks=asks, ready=ready, langs=("en", "zh"),
    paper="Maynez et al. 2020 (arXiv:2005.00661); extracts: Radev et al. 2004 (centroids)",
)  # fmt: skip
async def summary(
    *,
    task: Task,
    records: Iterable[Record],
    embedder: Embedder,
    verify: Verify,
    seed: int,
    here: Path,
    model: Model | None = None,
    by: Literal["model", "extract"] = "model",
    lengths: Sequence[Length] = ("sentence", "short"),
    style: Style = "auto",
    prompts: str | None = None,
    temperature: Annotated[float, Ge(0)] = 0.3,
    floor: Annotated[float, Ge(0), Le(1)] = 0.05,
) -> list[Made]:
    """A summary of each passage at each of the lengths, worded by the library: the task's first input in, its target out.

    `by`: "model" writes; "extract" takes the sentences nearest to the passage's centre as they are, and asks nothing. The row's prompt
    says the length. Checks: `compression` (at most so long, and SHARE of the source), `length` (sentences), `invented` (no name or number
    that the source has not), `facts` (at least one of the names that the source says most), `words` (half of its words are the source's),
    `language`. Stops early below `floor` usable summaries.
    """
    shard, out = list[Record](), list[Made]()
    for record in records:
        if text.length(plain(passage_of(record, task))) >= LEAST:
            shard.append(record)
        else:
            why = say("passage: too short to sum up", "passage：太短，无需概括")
            out.append(_reject(task, "summary", why, record, passage_of(record, task)))

    async def work(some: Sequence[Record]) -> list[Made]:
        if by == "model" and model is not None:
            asked = Asked(task, model, style, prompts, here, seed, temperature)
            made = [one for size in lengths for lang in ("en", "zh") for one in await _written(some, size, lang, asked)]
        else:
            made = [_extracted(record, size, task, seed, embedder) for size in lengths for record in some]
        return await verified(made, verify)

    if by == "model" and model is not None:
        return [*out, *await over_records(work, shard, floor=floor, model=model, step=f"tasks.{task.name}")]
    return [*out, *await work(shard)]


class Asked:
    """How the model is asked, for each language and length alike."""

    def __init__(
        self, task: Task, model: Model, style: Style, prompts: str | None, here: Path, seed: int, temperature: float
    ) -> None:
        self.task, self.model, self.seed = task, model, seed
        self._more = (book("documents", prompts, here), styled(model, style), temperature)

    def in_(self, lang: str) -> Asking:
        """The asking in a language."""
        prompts, style, temperature = self._more
        return Asking(self.task, self.model, prompts, lang, style, self.seed, temperature, 400)


async def _written(records: Sequence[Record], size: Length, lang: str, asked: Asked) -> list[Made]:
    task, maker, out = asked.task, f"summary:{asked.model.label}", list[Made]()
    mine = [record for record in records if lang_of(record, task) == lang]
    said_as = SAID[size][lang]
    rows = [
        (f"{one.id}:{size}", {"passage": plain(passage_of(one, task))[:SHOWN], "heading": told(one) or "-", "length": said_as})
        for one in mine
    ]  # fmt: skip
    for record, said in zip(mine, await asked.in_(lang).ask("summary", rows) if rows else [], strict=True):
        if said.fault:
            where = f"{record.file}:{record.line}"
            out.append(Reject(task.name, maker, "failed", said.fault, where, said.text, (record.id, said.key)))
        elif why := wrong(said.text, record, size, task):
            out.append(_reject(task, maker, why, record, said.text, said.key))
        else:
            out.append(_row(record, said.text, size, task, asked.seed, maker, (record.id, said.key)))
    return out


def _row(
    record: Record, said: str, size: Length, task: Task, seed: int, maker: str, parents: Sequence[str]
) -> Example | Reject:
    fields = {task.target: said, "length": SAID[size][lang_of(record, task)]}
    return worded(task, record, fields, seed, maker, parents)


def _extracted(record: Record, size: Length, task: Task, seed: int, embedder: Embedder) -> Made:
    """The sentences nearest to the passage's centre that fit the length, in their order."""
    passage, lang = passage_of(record, task), lang_of(record, task)
    sentences = [one for one in text.sentences(plain(passage)) if text.length(one) >= 5 and one[-1] not in ":："]
    vectors = embedder(sentences)
    centre = vectors.sum(axis=0)
    nearest = np.round(vectors @ (centre / max(1e-9, float(np.linalg.norm(centre)))), 4)
    most, taken, used = min(_most(size, lang), round(SHARE * text.length(plain(passage)))), list[int](), 0
    for at in sorted(range(len(sentences)), key=lambda at: (-nearest[at], at)):
        if used + text.length(sentences[at]) <= most and len(taken) < SENTENCES[size][1]:
            taken.append(at)
            used += text.length(sentences[at])
    said = ("" if lang == "zh" else " ").join(sentences[at] for at in sorted(taken))
    why = (
        wrong(said, record, size, task)
        if said
        else say("compression: no sentence is short enough", "compression：没有足够短的句子")
    )
    if why:
        return _reject(task, "summary:extract", why, record, said)
    return _row(record, said, size, task, seed, "summary:extract", (record.id,))


def _most(size: Length, lang: str) -> int:
    return round(MOST[size] * (1.5 if lang == "zh" else 1))


def wrong(said: str, record: Record, size: Length, task: Task) -> str:
    """Why a text is no summary of the record's passage at that length; "" where it is."""
    passage, lang = plain(passage_of(record, task)), lang_of(record, task)
    tokens, whole = text.length(said), text.length(passage)
    if (text.lang(said) == "zh") != (lang == "zh"):
        return say("language: not the passage's", "language：与原文语言不同")
    if not 3 <= tokens <= min(_most(size, lang), round(SHARE * whole)):
        return say(f"compression: {tokens} tokens of {whole}", f"compression：原文 {whole}，摘要 {tokens}")
    count, (fewest, most) = sum(one[-1] not in ";；" for one in text.sentences(said)), SENTENCES[size]
    if not fewest <= count <= most:
        return say(
            f"length: {count} sentences, {SAID[size]['en']} asked for", f"length：共 {count} 句，要求{SAID[size]['zh']}"
        )
    source = f"{record.fields.get('heading', '')}\n{passage}"
    if strange := evidence.invented(said, source):
        return say(
            f"invented: not in the passage: {', '.join(strange[:4])}", f"invented：原文中没有：{'、'.join(strange[:4])}"
        )
    if (share := evidence.covered(said, source)) < 0.5:
        return say(f"words: the passage has {share:.2f} of its words", f"words：其用词只有 {share:.2f} 出自原文")
    chief = chief_facts(passage)
    if chief and not any(fact.lower() in said.lower() for fact in chief):
        return say(f"facts: none of {', '.join(chief)}", f"facts：未提及{'、'.join(chief)}")
    return ""


def chief_facts(passage: str, count: int = 5) -> list[str]:
    """The names that a passage says at least twice, most said first, at most `count`."""
    low = passage.lower()
    found = Counter({name: low.count(name.lower()) for name in evidence.names(passage)})
    return [name for name, times in sorted(found.items(), key=lambda one: (-one[1], one[0])) if times >= 2][:count]


def _reject(task: Task, maker: str, why: str, record: Record, said: str, reply: str = "") -> Reject:
    parents = (record.id, reply) if reply else (record.id,)
    return Reject(task.name, maker, "dropped", why, f"{record.file}:{record.line}", said, parents)
