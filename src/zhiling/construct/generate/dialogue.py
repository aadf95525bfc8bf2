"""Multi-turn dialogue: a model plays the user, then the assistant, in turn, about a topic, as a persona, or over a document.

a record -> first question -> answer -> next question -> answer ... -> checks of each turn as it comes -> one row per dialogue

After Baize (Xu et al. 2023, arXiv:2304.01196), where one model plays both, and UltraChat (Ding et al. 2023, arXiv:2305.14233), where the
user is given a part to play. Roles alternate by construction. A follow-up must refer back: it takes up words of the talk, or points to
it ("that one", 那), else the dialogue ends before it. With a document, answers must stand in it: their numbers and most of their words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le

from zhiling.construct.generate import checks
from zhiling.construct.generate.asking import Asking, Said, book, styled
from zhiling.construct.generate.checks import Scorers, Verify, judges
from zhiling.construct.generate.floor import Made, over_records
from zhiling.construct.generate.novelty import Pool
from zhiling.construct.generate.repair import Finish, failed, finishing
from zhiling.errors import say
from zhiling.llm.parse import unquote
from zhiling.registry import constructor
from zhiling.text import bigrams, cut, tokens
from zhiling.text import lang as language
from zhiling.types import Example, Record, Reject, Task, Turn

if TYPE_CHECKING:
    from zhiling.llm import Model

GROUNDED = 0.6
"""Share of an answer's content words (Chinese: character pairs) that must stand in the document or the question."""
_lead = re.compile(r"^(?:user|person|human|assistant|用户|助手|学生|问|答)\s*[:：]\s*", re.IGNORECASE)
_points_back = re.compile(
    r"\b(?:it|its|that|this|these|those|they|them|their|ones?|he|she|him|her|there|then|instead|else|what about|and if|what if"
    r"|you (?:said|mean|mentioned))\b|[它他她这那该]|刚才|上面|前面|你说|还有|另外|要是|呢[？?]?$",
    re.IGNORECASE,
)
_plain_words = frozenset(
    tokens(
        "a an the and or but if of to in on at by for with from as is are was were be been do does did can could will would should i you we my"
        " your me what which who when where how not no yes so have has had any some more most very please use using make get there"
    )
)


NOTHING = Said("")


def calls(settings: Mapping[str, Any], task: Task) -> int:
    """The most calls for one record: two per turn, and a repair of the last answer."""
    return 2 * int(settings["turns"]) + bool(settings["repair"])


def ready(settings: Mapping[str, Any], task: Task) -> int:
    """The most rows for one record."""
    return 1


@dataclass(slots=True)
class _Talk:
    """A dialogue under way: what it is about, and what was said. `over` says why it ends, "" while it goes on."""

    record: Record
    slots: dict[str, str]
    turns: list[Turn] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    over: str = ""
    said: Said = NOTHING

    @property
    def whole(self) -> int:
        """How many questions have an answer."""
        return len(self.turns) // 2


@constructor(
    "dialogue",
    over="records",
    calls=calls,
    ready=ready,
    uses=judges,
    needs=("chat",),
    paper="arXiv:2304.01196, 2305.14233",
)
async def dialogue(
    *,
    task: Task,
    records: Iterable[Record],
    model: Model,
    scorers: Scorers,
    verify: Verify,
    seed: int,
    here: Path,
    turns: Annotated[int, Ge(1), Le(12)] = 3,
    least: Annotated[int, Ge(1)] = 2,
    subject: str | None = None,
    persona: str | None = None,
    document: str | None = None,
    style: Literal["auto", "small", "large"] = "auto",
    prompts: str | None = None,
    temperature: Annotated[float, Ge(0)] = 0.8,
    max_tokens: Annotated[int, Ge(8)] = 300,
    floor: Annotated[float, Ge(0), Le(1)] = 0.1,
    repair: bool = True,
) -> list[Made]:
    """A dialogue of up to `turns` questions and answers for each record; one with fewer than `least` is dropped.

    `subject` (default: the task's first input), `persona` and `document` name data fields: what it is about, who asks, and what the
    answers must stand in (then it is the row's system turn). The row's output is the last answer, its history the turns before. A turn that
    fails a check ends its dialogue before it. Stops early below `floor` usable rows.
    """
    names = {
        "subject": subject or document or (task.inputs[0] if task.inputs else "input"),
        "persona": persona,
        "document": document,
    }
    shard = list(records)
    checks.fields(shard, task, {"subject": subject, "persona": persona, "document": document}, "dialogue")
    talks: dict[str, list[_Talk]] = {}
    out: list[Made] = []
    for record in shard:
        slots = {part: record.fields.get(name, "").strip() if name else "" for part, name in names.items()}
        if not slots["subject"] or (document and not slots["document"]):
            why = f"empty: {say('nothing to talk about', '没有可谈的内容')}"
            out.append(
                Reject(task.name, "dialogue", "failed", why, f"{record.file}:{record.line}", parents=(record.id,))
            )
            continue
        slots["subject"] = cut(slots["subject"], 600)
        talks.setdefault("zh" if language(slots["document"] or slots["subject"]) == "zh" else "en", []).append(
            _Talk(record, slots)
        )
    for lang, found in talks.items():
        asking = Asking(
            task, model, book("dialogue", prompts, here), lang, styled(model, style), seed, temperature, max_tokens
        )
        finish = finishing(asking, scorers, verify, repair, _grounded)
        stage = _Stage(asking, finish, turns, min(least, turns))
        step = f"construct.dialogue ({task.name}, {lang})"
        out += await over_records(stage.play, found, floor=floor, model=model, step=step)
    return out


class _Stage:
    """How the two parts are played."""

    def __init__(self, asking: Asking, finish: Finish, turns: int, least: int) -> None:
        self.asking, self.finish, self.turns, self.least = asking, finish, turns, least
        self.maker = f"dialogue:{asking.model.label}"

    async def play(self, talks: Sequence[_Talk]) -> list[Made]:
        """All dialogues turn by turn, side by side; then a row or a Reject for each, in order."""
        for number in range(self.turns):
            await self._user(talks, number)
            await self._assistant(talks, number, last=number + 1 == self.turns)
        drafts = [self._row(talk) for talk in talks]
        return await self.finish.rows(drafts, [talk.record.id for talk in talks])

    async def _user(self, talks: Sequence[_Talk], number: int) -> None:
        going = [talk for talk in talks if not talk.over]
        asked = [(f"{talk.record.id}:{number}", self._slots(talk)) for talk in going]
        said = await self.asking.ask("next" if number else "open", asked, max_tokens=120)
        texts = [_lead.sub("", unquote(one.text)) for one in said]
        told = await checks.instructions(
            texts, self.asking.lang, self.asking.task.name, self.finish.leak, self.finish.scorers
        )
        for talk, one, text, why in zip(going, said, texts, told, strict=True):
            self._said(talk, "user", text, one, one.fault or why or _again(talk, text) or refers(text, talk.turns))

    async def _assistant(self, talks: Sequence[_Talk], number: int, last: bool) -> None:
        """The answers. The very last is checked with the finished row, where it can still be repaired."""
        going = [talk for talk in talks if not talk.over]
        requests = [
            self.asking.plain(
                (*self._system(talk), *talk.turns),
                f"answer:{talk.record.id}:{number}",
                cool=bool(talk.slots["document"]),
            )
            for talk in going
        ]
        said = await self.asking.send(requests)
        rows = [self._example(talk, _lead.sub("", one.text)) for talk, one in zip(going, said, strict=True)]
        later = last and self.finish.repair is not None
        told = [""] * len(rows) if later else await self.finish.checked(rows)
        for talk, one, row, why in zip(going, said, rows, told, strict=True):
            self._said(talk, "assistant", row.output, one, one.fault or why)

    def _said(self, talk: _Talk, role: str, text: str, said: Said, fault: str) -> None:
        """Add a turn; with a fault the dialogue ends before it, and a question that stays without an answer goes too."""
        if not fault:
            talk.turns.append((role, text))
            talk.keys.append(said.key)
            return
        talk.over, talk.said = fault, said
        if talk.turns and talk.turns[-1][0] == "user":
            talk.turns.pop()
            talk.keys.pop()

    def _system(self, talk: _Talk) -> tuple[Turn, ...]:
        step = "answer_from" if talk.slots["document"] else "answer"
        return self.asking.book.find(step, self.asking.lang, self.asking.style).filled(talk.slots)

    def _slots(self, talk: _Talk) -> dict[str, str]:
        who = talk.slots["persona"]
        persona = (
            ""
            if not who
            else f"你是这样一个人：{who}\n"
            if self.asking.lang == "zh"
            else f"You are this person: {who}\n"
        )
        return {**talk.slots, "persona": persona, "history": self._history(talk)}

    def _history(self, talk: _Talk) -> str:
        marks = (
            {"user": "用户：", "assistant": "助手："}
            if self.asking.lang == "zh"
            else {"user": "User: ", "assistant": "Assistant: "}
        )
        return "\n".join(marks[role] + content for role, content in talk.turns)

    def _example(self, talk: _Talk, answer: str) -> Example:
        """The dialogue up to its last question, with this answer."""
        *before, (_, question) = talk.turns
        system = "\n\n".join(content for _, content in self._system(talk)) if talk.slots["document"] else ""
        return Example(
            self.asking.task.name, question, "", answer, system, tuple(before), self.asking.lang, self.maker,
            (talk.record.id, *talk.keys),
        )  # fmt: skip

    def _row(self, talk: _Talk) -> Example | Reject:
        if talk.whole >= self.least:
            *_, (_, answer) = talk.turns
            return self._example(replace(talk, turns=talk.turns[:-1]), answer)
        about = f"{cut(talk.slots['subject'], 100)}\n{self._history(talk)}"
        return failed(
            self.asking.task.name,
            self.maker,
            talk.said._replace(fault=talk.over, text=talk.said.text or about),
            about,
            (talk.record.id,),
        )


def _again(talk: _Talk, text: str) -> str:
    before = Pool([content for role, content in talk.turns if role == "user"])
    why = before.why(text)
    return f"novelty: {why}" if why else ""


def _content(text: str) -> set[str]:
    return {term for term in bigrams(text) if term not in _plain_words}


def refers(question: str, turns: Sequence[Turn]) -> str:
    """Why a follow-up does not take up the talk; "" when it does, or is the first question."""
    if (
        not turns
        or _points_back.search(question)
        or _content(question) & _content(" ".join(content for _, content in turns))
    ):
        return ""
    return f"reference: {say('it takes up nothing that was said', '与前文没有联系')}"


def _grounded(row: Example) -> str:
    return grounded(row.output, row.system, row.instruction) if row.system else ""


def grounded(answer: str, document: str, question: str) -> str:
    """Why an answer does not stand in the document; "" when it does, or when it says that the document does not say."""
    if re.search(
        r"\b(?:does not|doesn't|do not) (?:say|mention|state|specify|provide)|没有(?:提到|说明|提及|给出)|未(?:提及|说明)",
        answer,
    ):
        return ""
    given = f"{document}\n{question}"
    known = set(tokens(given))
    if strange := [token for token in tokens(answer) if token.isdigit() and token not in known]:
        return f"grounded: {say(f'the document does not have the number {strange[0]}', f'文档中没有数字 {strange[0]}')}"
    said, there = _content(answer), _content(given)
    share = len(said & there) / len(said) if said else 1.0
    if share < GROUNDED:
        return f"grounded: {say(f'{share:.0%} of its words stand in the document', f'只有 {share:.0%} 的词见于文档')}"
    return ""
