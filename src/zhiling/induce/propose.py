"""Candidates from all three ways: the template library, the bank, and a model; judged for quality before anything is executed.

What the user says of the task takes part as well, as it stands: the contest then tells whether anything beats it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal, TypeAlias

from zhiling import text
from zhiling.construct.bank import Row, opened
from zhiling.construct.bind import bind, misfit, said_in, shaped
from zhiling.construct.generate import instructions as room
from zhiling.construct.generate.asking import book, styled
from zhiling.construct.generate.instructions import Candidate, Scorer
from zhiling.construct.library import Definition, list_definitions
from zhiling.construct.retrieve import retrieve
from zhiling.construct.retrieve_question import question
from zhiling.construct.sandbox import compiled
from zhiling.embed import Embedder
from zhiling.errors import ProviderError, RecipeError, say
from zhiling.induce.execute import Purse
from zhiling.types import Reject, Reply, Request, Score, Task, Template

if TYPE_CHECKING:
    from zhiling.llm import Model

Way: TypeAlias = Literal["given", "template", "retrieve", "generate"]
WAYS: tuple[Way, ...] = ("given", "generate", "retrieve", "template")
MOST, WIDE = 8, 200
"""How many wordings of the library, and of the bank, take part where seats are few; and among how many rows near the model's guesses
the bank's are looked for."""
DEAR = 8
"""Quality that asks a model is judged where it takes at most one in so many of the calls that are left."""
NEAR = 0.25
"""Cosine from which a wording of another family's definition is put to the task."""
HYPOTHESES = 3
"""A task that says nothing of itself is searched for by so many of the model's guesses at it."""
FLOOR = 0.3
"""Quality below which nothing is executed; `generate` has the same."""
_at_the_end = re.compile(r"\s*[:：]\s*\{[^{}]*\}\s*$")
_jinja = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.S)


@dataclass(frozen=True, slots=True)
class Entrant:
    """A candidate: the way and the prompt, definition or row that it came by; its words; and what its quality is said to be."""

    way: Way
    how: str
    template: Template
    text: str
    scores: tuple[Score, ...] = ()
    quality: float | None = None
    base: str = ""
    plain: Template | None = None

    @property
    def origin(self) -> str:
        """The words that a way proposed: a twin's are those of the first of the two."""
        return self.base or self.text

    @property
    def why(self) -> str:
        """The quality scores in words."""
        return ", ".join(f"{s.scorer} {'-' if s.value is None else f'{s.value:.2f}'}" for s in self.scores)


@dataclass(frozen=True, slots=True)
class Lost:
    """A candidate that never ran, and why: unfit to be judged, refused by the bank's rules, unanswered, or without a seat."""

    way: Way
    how: str
    text: str
    why: str


@dataclass(slots=True)
class Proposed:
    """What the ways came up with so far."""

    entrants: list[Entrant]
    lost: list[Lost]


@dataclass(frozen=True, slots=True)
class Means:
    """What proposing needs: the model that proposes (None: that way is left out), the scorers of quality, and where things are.

    `tasks` is what the scorers are handed; the contest puts its task there once it knows which rows are to propose from.
    """

    model: Model | None
    scorers: Mapping[str, Scorer]
    embedder: Embedder
    purse: Purse
    here: Path
    bank: str = "seeds"
    seed: int = 0
    temperature: float = 0.7
    tasks: dict[str, Task] = field(default_factory=dict)


def forms(task: Task, lang: str) -> list[str]:
    """What the answers look like, in a sentence: as the task says, else told from its demos (a number, one of a few, a word, a phrase,
    a sentence) in several wordings; none where they have no form in common."""
    if said := said_in(task.output_format, lang):
        return [said]
    answers = [demo.output.strip() for demo in task.demos]
    if not answers or any("\n" in answer for answer in answers):
        return []
    lengths = [text.length(answer) for answer in answers]
    one, few = (4, 8) if lang == "zh" else (1, 4)
    if task.labels:
        kind = "labels"
    elif all(re.fullmatch(r"[-+]?[\d.,]+%?", answer) for answer in answers):
        kind = "number"
    elif max(lengths) <= one:
        kind = "word"
    elif max(lengths) <= few:
        kind = "phrase"
    elif all(len(text.sentences(answer)) == 1 for answer in answers):
        kind = "sentence"
    else:
        return []
    listed = ("、" if lang == "zh" else ", ").join(task.labels)
    return [said.replace("{labels}", listed) for said in book("induce").more["forms"][kind][lang]]


async def propose(task: Task, lang: str, draws: int, means: Means, most: int = MOST) -> Proposed:
    """Everything the ways have to offer in one language, judged; `draws` calls go to the proposing model, and `most` wordings at most come
    of the library, and as many of the bank.

    `task` brings the demos to propose from. Raises ProviderError where the proposing model cannot be reached at all.
    """
    found = Proposed([], [])
    plain = replace(task, output_format="")
    for line in said_in(task.description, lang).splitlines():
        _add(found, _worded("given", "description", line.strip(), plain, lang), task, lang)
    if means.model is not None and draws:
        await asked(found, _requests(task, lang, draws, means), plain, lang, means)
    known = plain if task.description else replace(plain, description=_guessed(found, lang))
    for definition, template in _library(known if task.description else plain, lang, means.embedder, most):
        _add(found, Entrant("template", template.maker.partition(":")[2] or definition.id, template, ""), task, lang)
    for number, said in enumerate(book("induce").words("plain", lang), 1):
        _add(found, _worded("template", f"plain{number}", said, plain, lang), task, lang)
    await (_adapted if task.description else _unadapted)(found, known, lang, means, most)
    await judged(found, task, means)
    return found


async def _adapted(found: Proposed, task: Task, lang: str, means: Means, most: int) -> None:
    """The bank's instructions made the task's own, by the rules of the second way."""
    how = {"embedder": means.embedder, "here": means.here, "seed": means.seed, "bank": means.bank}
    for item in await retrieve(task=replace(task, langs=(lang,)), keep=most, floor=0.1, **how):  # type: ignore[arg-type]
        if isinstance(item, Template):
            _add(found, Entrant("retrieve", item.maker.partition(":")[2], item, ""), task, lang)
        elif isinstance(item, Reject):
            found.lost.append(Lost("retrieve", item.maker.partition(":")[2], item.text, item.why))


async def _unadapted(found: Proposed, task: Task, lang: str, means: Means, most: int) -> None:
    """The bank's instructions as they stand, where nobody says what the task is: what they mean to it, running them tells.

    `task` describes itself by the model's guesses, which a weak model makes poorly; so of the rows near to these, those come first
    whose own worked answer comes from its input in the way that the task's do. An open slot at the end ("...: {text}") is where the input
    stands anyway; with one elsewhere an instruction cannot run, and is left out.
    """
    hits = opened(means.bank, means.embedder, means.here).search(question(task, lang), WIDE, lang=lang)
    manner = [fmean(parts) for parts in zip(*(_manner(demo.input, demo.output) for demo in task.demos), strict=True)]

    def far(row: Row) -> float:
        own = _manner(row.input, row.output)
        return sum((x - y) ** 2 for x, y in zip(manner, own, strict=True)) if row.output.strip() else math.inf

    plain, taken = replace(task, description="", output_format=""), 0
    for hit in sorted(hits, key=lambda hit: (far(hit.row), hit.row.id)) if manner else hits:
        if taken == most:
            break
        said = _at_the_end.sub("", hit.row.instruction.strip())
        if "{" in said:
            found.lost.append(Lost("retrieve", hit.row.id, said, say("an open slot", "有未填的空位")))
            continue
        before = len(found.entrants)
        _add(found, _worded("retrieve", hit.row.id, said, plain, lang), plain, lang)
        taken += len(found.entrants) - before


def _manner(source: str, answer: str) -> tuple[float, ...]:
    """How an answer comes from its input: its length, that beside the input's, how much of each is in the other, whether it is a number."""
    put, got = text.tokens(source), text.tokens(answer)
    both = len(set(put) & set(got))
    digits = sum(token.isdigit() for token in got) / max(1, len(got))
    return (
        math.log1p(len(got)), math.log((1 + len(got)) / (1 + len(put))), 2 * both / max(1, len(set(got))),
        2 * both / max(1, len(set(put))), 2 * digits,
    )  # fmt: skip


async def asked(
    found: Proposed, requests: Sequence[tuple[str, Request]], task: Task, lang: str, means: Means
) -> list[Entrant]:
    """Ask the proposing model; what is fit joins `found`, the rest is told there. Returns those that joined."""
    assert means.model is not None
    before = len(found.entrants)
    replies = await means.model.ask_all([request for _, request in requests])
    room.stop_if_unreachable(replies)
    for (name, request), reply in zip(requests, replies, strict=True):
        means.purse.note(reply)
        if isinstance(reply, ProviderError):
            found.lost.append(Lost("generate", name, "", str(reply)))
        elif reply.finish != "stop":
            found.lost.append(Lost("generate", name, reply.text, room.unfinished(reply, request.max_tokens)))
        else:
            _add(found, _worded("generate", name, room.tidy(reply.text), task, lang, reply), task, lang)
    return found.entrants[before:]


async def judged(found: Proposed, task: Task, means: Means) -> None:
    """Give every entrant that has none its quality, by the same scorers that `generate` judges with; what they ask a model is counted."""
    fresh = [one for one in found.entrants if one.quality is None and not one.scores]
    pool = [Candidate(one.text, one.template.lang, one.how, "") for one in fresh]
    before = _heard(means.model)
    dear = (
        DEAR * len(pool) > means.purse.left()
    )  # clarity asks once per candidate: not worth what racing them would take
    weights = {name: weight for name, weight in room.QUALITIES.items() if name != "clarity"} if dear else None
    marks = {one.text: one for one in await room.judge(pool, task, means.scorers, weights)} if pool else {}
    means.purse.asked += _heard(means.model) - before
    found.entrants = [
        replace(one, scores=marks[one.text].scores, quality=marks[one.text].quality) if one in fresh else one
        for one in found.entrants
    ]


def seated(found: Proposed, seats: int, task: Task, said: str) -> list[Entrant]:
    """Who runs: the best by quality of each way in turn, saying also the form of the answer where that is known (`said`); what the user
    wrote runs as it stands too. Those that find no seat are told so in `found.lost`."""
    poor = [one for one in found.entrants if one.way != "given" and (one.quality or 0.0) < FLOOR]
    queues = {way: sorted((e for e in found.entrants if e.way == way and e not in poor), key=_rank) for way in WAYS}
    chosen: list[Entrant] = []
    while len(chosen) < seats and any(queues.values()):
        for way in WAYS:
            if queues[way] and len(chosen) < seats:
                chosen.append(queues[way].pop(0))
    for left in [*poor, *(one for queue in queues.values() for one in queue)]:
        shown = "-" if left.quality is None else f"{left.quality:.2f}"
        en, zh = (f"below {FLOOR}", f"低于 {FLOOR}") if left in poor else ("no seat left", "没有参赛名额")
        why = say(f"{en}: quality {shown} ({left.why})", f"{zh}：质量 {shown}（{left.why}）")
        found.lost.append(Lost(left.way, left.how, left.text, why))
    chosen.sort(key=_rank)  # of candidates that fare the same, the one of better quality is ahead
    out: list[Entrant] = []
    for one in chosen:
        twin = with_form(one, task, said)
        out += [one, twin] if twin is not one and one.way == "given" else [twin]
    return out


def with_form(one: Entrant, task: Task, said: str, mark: str = "+form") -> Entrant:
    """The entrant with a sentence that says what the answer looks like; the entrant itself where it says so already, or none is known."""
    if not said:
        return one
    template = one.template if one.plain is None else one.plain
    longer = shaped(template.instruction, replace(task, output_format=said), template.lang)
    if longer == template.instruction:
        return one
    made, how = replace(template, instruction=longer), one.how.partition("+")[0] + mark
    return replace(one, how=how, template=made, text=_plain(made), base=one.origin, plain=template)


def without_form(one: Entrant) -> Entrant:
    """The entrant as its way proposed it."""
    if one.plain is None:
        return one
    return replace(one, how=one.how.partition("+")[0], template=one.plain, text=one.origin, plain=None, base="")


def _heard(model: Model | None) -> int:
    """How many questions the model has been asked, answered from the cache or not."""
    return 0 if model is None else model.spent.calls + model.spent.cached + model.spent.failed


def _rank(one: Entrant) -> tuple[float, str]:
    return -(one.quality if one.quality is not None else -1.0), one.text


def _requests(task: Task, lang: str, draws: int, means: Means) -> list[tuple[str, Request]]:
    model = means.model
    assert model is not None
    how = {"chat": "chat" in model.provider.can, "style": styled(model, "auto")}
    try:
        return room.requests(task, lang, draws, means.seed, means.temperature, 64, **how)  # type: ignore[arg-type]
    except RecipeError:  # neither demos nor a description in this language
        return []


def _worded(way: Way, how: str, said: str, task: Task, lang: str, reply: Reply | None = None) -> Entrant:
    if not said:
        return Entrant(way, how, Template(task.name, lang, ""), "")
    maker = f"{way}:{reply.model}" if reply else way
    template = room.as_template(Candidate(said, lang, how, reply.key if reply else ""), task, maker)
    return Entrant(way, how, template, said)


def _add(found: Proposed, one: Entrant, task: Task, lang: str) -> None:
    """Take an entrant in, or say why not. What a user wrote needs no leave."""
    said = one.text or _plain(one.template)
    one = replace(one, text=said)
    if one.way != "given":
        before = [Candidate(other.text, other.template.lang, other.how, "") for other in found.entrants]
        if why := room.unfit(Candidate(said, lang, one.how, ""), task, before):
            found.lost.append(Lost(one.way, one.how, said, why))
            return
    if said:
        found.entrants.append(one)


def _plain(template: Template) -> str:
    """A template's instruction as a reader sees it, a dash where data will stand."""
    said = compiled(template.instruction)
    try:
        return said.render(dict.fromkeys(said.names, "—"))
    except RecipeError:
        return _jinja.sub("—", template.instruction)


def _guessed(found: Proposed, lang: str) -> str:
    """The model's best guesses at what the task is, for searching by."""
    guesses = [one.text for one in found.entrants if one.way == "generate" and one.template.lang == lang]
    return "\n".join(guesses[:HYPOTHESES])


def _library(task: Task, lang: str, embedder: Embedder, most: int) -> list[tuple[Definition, Template]]:
    """The library's wordings that can be put to the task, the nearest first: at most two of a definition."""
    pool = [
        (definition, template)
        for definition in list_definitions()
        if lang in definition.langs
        for template in _bound(definition, task, lang)
    ]
    views = [*task.description.splitlines(), *(f"{demo.input}\n{demo.output}" for demo in task.demos[:4])]
    if not pool or not views:
        return []
    vectors = embedder([_plain(template) for _, template in pool] + views)
    near = (vectors[: len(pool)] @ vectors[len(pool) :].T).max(axis=1)
    own = [not misfit(definition, replace(task, langs=(lang,))) for definition, _ in pool]
    order = sorted(range(len(pool)), key=lambda i: (-(float(near[i]) + own[i]), pool[i][1].id))
    taken: dict[str, int] = {}
    best = list[tuple[Definition, Template]]()
    for i in order:
        name = pool[i][0].id
        taken[name] = taken.get(name, 0) + 1
        if (own[i] or (taken[name] <= 2 and near[i] >= NEAR)) and len(best) < most:
            best.append(pool[i])
    return best


def _bound(definition: Definition, task: Task, lang: str) -> list[Template]:
    """A definition's wordings for the task: as they fit, or, for one input and one answer of other names, put to these."""
    here = replace(task, langs=(lang,))
    if not misfit(definition, here):
        return [one for one in bind(definition, here) if not one.turns]
    others = [name for name in definition.fields if name != definition.target]
    if len(task.inputs) != 1 or len(others) != 1 or definition.labels:
        return []
    alike = replace(here, inputs=(others[0],), target=definition.target, family=definition.family)
    if misfit(definition, alike):
        return []
    out = []
    for one in bind(definition, alike):
        said, source = (_renamed(part, others[0], task.inputs[0]) for part in (one.instruction, one.input))
        if said and not one.turns and not compiled(said + source + one.system).names - {*task.inputs, "task"}:
            output = f"{{{{ {task.target} }}}}"
            out.append(replace(one, task=task.name, instruction=said, input=source, output=output))
    return out


def _renamed(jinja: str, old: str, new: str) -> str:
    return re.sub(r"(\{\{-?\s*)" + re.escape(old) + r"(?=\s*[-|}])", lambda found: found[1] + new, jinja)
