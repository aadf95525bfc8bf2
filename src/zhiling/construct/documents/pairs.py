"""Questions and answers out of passages, each with the stretch of the passage that supports it.

Three ways, in this order: `own`, the questions that the document asks itself; `rules`, definitions turned round ("X is ..." answers "What
is X?"); `model`, asked for questions. A small model is shown a piece of the passage and words the question that it answers, so that the
answer is the document's own text (answer-aware question generation, Du et al. 2017); a large one gives question, answer and quotation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from zhiling import text
from zhiling.construct.documents import evidence
from zhiling.construct.documents.pieces import LEAST, Pair, Way, own, pieces, plain, rules, span_of
from zhiling.construct.documents.wording import lang_of, passage_of, told
from zhiling.construct.generate.asking import Asking, Said, Style, book, styled
from zhiling.embed import Embedder
from zhiling.errors import say
from zhiling.llm.parse import json_value
from zhiling.types import Record, Reject, Task

if TYPE_CHECKING:
    from zhiling.llm import Model

SHOWN = 3000
"""Characters of a passage that a model is shown."""
COVERED = 0.6
"""Least share of an answer's words that its evidence must hold."""
NEAR = 3
"""A question's passage must be among so many nearest to it of the shard's passages (round trip)."""
SAME = 0.92
"""Cosine from which on two questions about one passage are one."""

_about_text = re.compile(
    r"\b(?:this|the|above|following|given) (?:text|passage|article|paragraph|section|excerpt|document)\b|according to|"
    r"(?:本|该|这段|这篇|以上|上述)(?:文(?![件档本字])|段|章|节|内容)|(?<!中)[上文]文中?(?![件档本字])|文中|根据材料",
    re.IGNORECASE,
)
_opens = re.compile(
    r"^(?:what|why|how|when|where|who|whom|whose|which|can|could|do|does|did|is|are|was|were|will|would|should|may|must|has|have)\b",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """How questions are asked for: by which constructor and model ("" for none), which ways, how many questions a passage, which prompts."""

    name: str
    label: str
    task: Task
    ways: Sequence[Way]
    questions: int
    seed: int
    style: Style = "auto"
    prompts: str | None = None
    here: Path = Path()
    temperature: float = 0.3
    max_tokens: int = 700

    def maker(self, way: Way) -> str:
        """Who made a pair, and who lost it: the constructor, and the model or the way."""
        return f"{self.name}:{self.label if way == 'model' else way}"


@dataclass(frozen=True, slots=True)
class Shelf:
    """The passages of a shard as vectors: what a question must find its own passage among."""

    places: Mapping[str, int]
    vectors: Any

    @classmethod
    def of(cls, records: Sequence[Record], task: Task, embedder: Embedder) -> Shelf:
        """The shelf of these records; without vectors where there are too few to get lost among."""
        places = {record.id: at for at, record in enumerate(records)}
        texts = [plain(passage_of(record, task))[:1000] or " " for record in records]
        return cls(places, embedder(texts) if len(records) > NEAR else None)


async def pairs(
    records: Sequence[Record], asked: Asked, model: Model | None, embedder: Embedder, shelf: Shelf | None = None
) -> list[Pair | Reject]:
    """Every pair of the records' passages that stood the checks, and a Reject that names the check for each that did not.

    A passage with a question of its own is asked no more by rules and models. Checks: `evidence` (the answer's support is in the passage),
    `supported` (the answer says no more than that), `question` (a question in the passage's language that stands alone), `round trip`
    (its own passage is among the NEAR nearest on the `shelf`, by default that of the records), `duplicate` (asks what another question
    about the passage asks).
    """
    shelf = shelf or Shelf.of(records, asked.task, embedder)
    out: list[Pair | Reject] = []
    left = list[Record]()
    for record in records:
        mine = list(own(record, asked.task)) if "own" in asked.ways else []
        if not mine and text.length(plain(passage_of(record, asked.task))) < LEAST:
            why = say("passage: too short to ask about", "passage：太短，无可提问")
            out.append(_reject(asked.task, asked.name, "dropped", why, record, passage_of(record, asked.task)))
        elif not mine:
            mine = list(rules(record, asked.task)) if "rules" in asked.ways else []
            left.append(record)
        out += mine
    if model is not None and "model" in asked.ways and left:
        for lang in ("en", "zh"):
            some = [record for record in left if lang_of(record, asked.task) == lang]
            out += await _from_model(some, asked, model, lang) if some else []
    sound = [_sound(one, asked) for one in out]
    return _alone(_near(sound, shelf, asked, embedder), asked, embedder)


def _reject(
    task: Task, maker: str, state: Literal["dropped", "failed"], why: str, record: Record, said: str, reply: str = ""
) -> Reject:
    parents = (record.id, reply) if reply else (record.id,)
    return Reject(task.name, maker, state, why, f"{record.file}:{record.line}", said, parents)


async def _from_model(records: Sequence[Record], asked: Asked, model: Model, lang: str) -> list[Pair | Reject]:
    style = styled(model, asked.style)
    prompts = book("documents", asked.prompts, asked.here)
    asking = Asking(asked.task, model, prompts, lang, style, asked.seed, asked.temperature, asked.max_tokens)
    maker = asked.maker("model")
    out: list[Pair | Reject] = []
    if style == "large":
        rows = [(record.id, _slots(record, asked, passage_of(record, asked.task)[:SHOWN])) for record in records]
        for record, said in zip(records, await asking.ask("pairs", rows), strict=True):
            out += _read(said, record, asked, maker)
        return out
    shown = [(record, piece) for record in records for piece in pieces(passage_of(record, asked.task), asked.questions)]
    rows = [(f"{record.id}:{piece[:40]}", _slots(record, asked, piece)) for record, piece in shown]
    for (record, piece), said in zip(shown, await asking.ask("question", rows, max_tokens=48), strict=True):
        if said.fault:
            out.append(_reject(asked.task, maker, "failed", said.fault, record, said.text, said.key))
            continue
        question = said.text.strip().split("\n")[0].strip()
        span = span_of(passage_of(record, asked.task), piece) or evidence.Span(0, 0, 0.0)
        out.append(Pair(record, _tidy(question, lang), piece, span, "model", said.key))
    return out


def _slots(record: Record, asked: Asked, passage: str) -> dict[str, str]:
    return {
        "passage": passage,
        "heading": told(record) or record.fields.get("title", "") or "-",
        "count": str(asked.questions),
    }


def _read(said: Said, record: Record, asked: Asked, maker: str) -> Iterator[Pair | Reject]:
    """A large model's pairs out of its JSON, each with the stretch that it quotes."""
    try:
        found: Any = json_value(said.text).value if not said.fault else []
    except ValueError as error:
        said = Said(said.text, said.key, f"form: {error}")
        found = []
    if said.fault:
        yield _reject(asked.task, maker, "failed", said.fault, record, said.text, said.key)
        return
    listed = found.get("pairs", found) if isinstance(found, dict) else found
    passage, lang = passage_of(record, asked.task), lang_of(record, asked.task)
    for one in listed[: asked.questions] if isinstance(listed, list) else [listed]:
        one = one if isinstance(one, dict) else {}
        question, answer, quote = (str(one.get(key) or "").strip() for key in ("question", "answer", "evidence"))
        span = evidence.locate(passage, quote) if quote else None
        if not question or not answer or span is None:
            why = (
                say(
                    f"evidence: not in the passage: {text.cut(quote, 80)}",
                    f"evidence：原文中没有：{text.cut(quote, 80)}",
                )
                if question and answer
                else say("form: no question or no answer", "form：缺少问题或答案")
            )
            yield _reject(asked.task, maker, "dropped", why, record, f"{question}\n{answer}", said.key)
        else:
            yield Pair(record, _tidy(question, lang), answer, span, "model", said.key)


_lead = re.compile(r"^\s*(?:question|q|问题|问)\s*\d*\s*[:：.]\s*", re.IGNORECASE)


def _tidy(question: str, lang: str) -> str:
    said = _lead.sub("", question).strip().strip('"“”*').strip()
    if said and said[-1] not in "?？" and lang == "en" and _opens.match(said):
        said = f"{said.rstrip('.')}?"
    return said


def _sound(one: Pair | Reject, asked: Asked) -> Pair | Reject:
    """The pair, or why it is none: the checks that look at it alone. What the document asks itself is taken as it stands."""
    if isinstance(one, Reject) or one.way != "model":
        return one
    passage, lang = passage_of(one.record, asked.task), lang_of(one.record, asked.task)
    stretch = passage[one.span.start : one.span.end]
    size = text.length(one.question)
    why = ""
    if not one.span.end:
        why = say("evidence: the piece is not in the passage", "evidence：片段不在原文中")
    elif not one.question.endswith(("?", "？")):
        why = say("question: it asks nothing", "question：不是问句")
    elif (text.lang(one.question) == "zh") != (lang == "zh"):
        why = say("question: in another language than the passage", "question：与原文语言不同")
    elif not 3 <= size <= 60:
        why = say(f"question: {size} tokens long", f"question：长度为 {size} 个词")
    elif _about_text.search(one.question):
        why = say("question: it speaks of the text, which a reader does not see", "question：提到了读者看不到的“本文”")
    elif evidence.covered(one.answer, one.question) > 0.8:
        why = say("question: it holds its answer", "question：问题中已含答案")
    elif strange := evidence.invented(one.answer, f"{stretch}\n{one.question}\n{one.record.fields.get('heading', '')}"):
        why = say(
            f"supported: not in the evidence: {', '.join(strange[:4])}",
            f"supported：依据中没有：{'、'.join(strange[:4])}",
        )
    elif (share := evidence.covered(one.answer, stretch)) < COVERED:
        why = say(
            f"supported: the evidence holds {share:.2f} of the answer's words",
            f"supported：依据只含答案中 {share:.2f} 的用词",
        )
    return _dropped(one, why, asked) if why else one


def _dropped(pair: Pair, why: str, asked: Asked) -> Reject:
    said = f"{pair.question}\n{pair.answer}"
    return _reject(asked.task, asked.maker(pair.way), "dropped", why, pair.record, said, pair.reply)


def _near(items: Sequence[Pair | Reject], shelf: Shelf, asked: Asked, embedder: Embedder) -> list[Pair | Reject]:
    """The round trip: a model's question must find its own passage again among the shard's."""
    written = [one for one in items if isinstance(one, Pair) and one.way == "model"]
    if not written or shelf.vectors is None:
        return list(items)
    total, fell = len(shelf.places), dict[int, str]()
    for one, vector in zip(written, embedder([one.question for one in written]), strict=True):
        cosines = np.round(shelf.vectors @ vector, 4)
        nearer = int((cosines > cosines[shelf.places[one.record.id]]).sum())
        if nearer >= NEAR:
            fell[id(one)] = say(
                f"round trip: {nearer} of {total} passages are nearer to the question than its own",
                f"round trip：{total} 段中有 {nearer} 段比原段更接近该问题",
            )
    return [_dropped(one, fell[id(one)], asked) if isinstance(one, Pair) and id(one) in fell else one for one in items]


def _alone(items: Sequence[Pair | Reject], asked: Asked, embedder: Embedder) -> list[Pair | Reject]:
    """Each question once per passage; the document's own come first."""
    order = {"own": 0, "rules": 1, "model": 2}
    ranked = sorted((one for one in items if isinstance(one, Pair)), key=lambda one: (one.record.id, order[one.way]))
    vectors = embedder([one.question for one in ranked])
    kept: list[tuple[Pair, Any]] = []
    out: list[Pair | Reject] = [one for one in items if isinstance(one, Reject)]
    for one, vector in zip(ranked, vectors, strict=True):
        rival = next(
            (
                other
                for other, seen in reversed(kept)
                if other.record.id == one.record.id and float(seen @ vector) >= SAME
            ),
            None,
        )
        if rival is None:
            kept.append((one, vector))
        else:
            out.append(
                _dropped(
                    one,
                    say(f"duplicate: asks what “{rival.question}” asks", f"duplicate：与“{rival.question}”问的相同"),
                    asked,
                )
            )
    at = {
        record: place
        for place, record in enumerate(dict.fromkeys(one.record.id for one in items if isinstance(one, Pair)))
    }
    return [*sorted((one for one, _ in kept), key=lambda one: (at[one.record.id], one.span.start, one.question)), *out]
