"""Evol-Instruct (Xu et al. 2023, WizardLM, arXiv:2304.12244): instructions grow harder, or a rarer one grows beside them.

a record's instruction -> deeper in one of five ways, or wider -> eliminate what failed -> answer -> eliminate -> rows; and again

Of the paper: the five in-depth methods and in-breadth with equal chances, and its four rules of elimination: no gain over the parent (the
model is asked, and equal wordings are told without), an answer that declines or is a few words of nothing, an answer of stop words and
punctuation alone, and words of our prompt in the instruction. What is eliminated is a Reject, and its parent tries again next round.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le

from zhiling.construct.generate import checks
from zhiling.construct.generate.asking import Asking, Said, book, styled
from zhiling.construct.generate.checks import Scorers, Verify, judges
from zhiling.construct.generate.floor import Made, over_records
from zhiling.construct.generate.novelty import Pool
from zhiling.construct.generate.repair import Finish, failed, finishing
from zhiling.errors import RecipeError, say
from zhiling.llm.parse import unquote
from zhiling.registry import constructor
from zhiling.text import lang as language
from zhiling.text import normalise, tokens
from zhiling.types import Example, Record, Reject, Task, row_seed

if TYPE_CHECKING:
    from zhiling.llm import Model

METHODS = ("constraints", "deepen", "concretise", "reasoning", "input", "wider")
_headings = re.compile(
    r"#\s*(?:given|rewritten|created|new)?\s*prompt\s*#|\b(?:given|rewritten|created|harder|another) (?:prompt|request)\b"
    r"|更难的要求|另一个要求|改写后的(?:要求|指令)|新的?(?:要求|指令)[:：]",
    re.IGNORECASE,
)
_lead = re.compile(
    r"^(?:#+[^\n#]*#*\s*|(?:harder|another|new|rewritten)?\s*request\s*[:：]|(?:新的?|更难的|另一个)?要求[:：])\s*",
    re.IGNORECASE,
)
_nothing = frozenset(
    tokens(
        "a an the and or but if of to in on at by for with from as is are was were be been it this that i you he she we they not no yes so do"
        " does 的了和是在我你他她它们这那有不也就都而及与或吗呢吧啊嗯好"
    )
)


def calls(settings: Mapping[str, Any], task: Task) -> int:
    """The most calls for one record: in each round an evolution, a comparison, an answer and a repair."""
    return int(settings["rounds"]) * (4 if settings["repair"] else 3)


def ready(settings: Mapping[str, Any], task: Task) -> int:
    """The most rows for one record."""
    return int(settings["rounds"])


@dataclass(frozen=True, slots=True)
class _Seed:
    """An instruction that evolves, and where it comes from."""

    name: str
    text: str
    lang: str
    parents: tuple[str, ...]


@constructor("evol", over="records", calls=calls, ready=ready, uses=judges, needs=("chat",), paper="arXiv:2304.12244")
async def evol(
    *,
    task: Task,
    records: Iterable[Record],
    model: Model,
    scorers: Scorers,
    verify: Verify,
    seed: int,
    here: Path,
    rounds: Annotated[int, Ge(1), Le(8)] = 2,
    methods: list[str] | None = None,
    field: str = "instruction",
    style: Literal["auto", "small", "large"] = "auto",
    prompts: str | None = None,
    temperature: Annotated[float, Ge(0)] = 0.8,
    max_tokens: Annotated[int, Ge(8)] = 512,
    floor: Annotated[float, Ge(0), Le(1)] = 0.1,
    repair: bool = True,
) -> list[Made]:
    """Each record's instruction evolved `rounds` times, with an answer each: at most `rounds` rows a record.

    `field` names the data field that holds the instruction (a field `input` is put behind it). `methods` are some of constraints, deepen,
    concretise, reasoning, input and wider, drawn evenly per row (default: all). Stops early below `floor` usable rows.
    """
    chosen = _methods(methods)
    shard = list(records)
    checks.fields(shard, task, {"field": field}, "evol")
    given = [_seed(record, field) for record in shard]
    out = [_without(one, field, task) for one in given if isinstance(one, Record)]
    seeds = [one for one in given if isinstance(one, _Seed)]
    for lang in dict.fromkeys(one.lang for one in seeds):
        asking = Asking(
            task, model, book("evol", prompts, here), lang, styled(model, style), seed, temperature, max_tokens
        )
        evolution = _Evolution(asking, finishing(asking, scorers, verify, repair, hollow), chosen)
        ours = [one for one in seeds if one.lang == lang]
        for number in range(rounds):
            evolution.number, evolution.grown = number, []
            step = f"construct.evol ({task.name}, {lang}, round {number + 1})"
            out += await over_records(evolution.round, ours, floor=floor, model=model, step=step)
            ours = evolution.grown
    return out


def _methods(asked: Sequence[str] | None) -> tuple[str, ...]:
    for name in asked or ():
        if name not in METHODS:
            raise RecipeError(
                say(f"unknown method '{name}'", f"未知的方法“{name}”"), where="evol.methods",
                mend=say(f"known: {', '.join(METHODS)}", f"可用：{'、'.join(METHODS)}"),
            )  # fmt: skip
    return tuple(dict.fromkeys(asked)) if asked else METHODS


def _seed(record: Record, field: str) -> _Seed | Record:
    """What evolves of a record; the record itself where it has nothing to evolve."""
    text = record.fields.get(field, "").strip()
    if not text:
        return record
    data = record.fields.get("input", "").strip() if field != "input" else ""
    spoken = "zh" if language(text) == "zh" else "en"
    return _Seed(record.id, f"{text}\n\n{data}" if data else text, spoken, (record.id,))


def _without(record: Record, field: str, task: Task) -> Made:
    why = f"empty: {say(f'no text in the field {field}', f'字段 {field} 没有内容')}"
    return Reject(task.name, "evol", "failed", why, f"{record.file}:{record.line}", parents=(record.id,))


class _Evolution:
    """What a round does."""

    def __init__(self, asking: Asking, finish: Finish, methods: Sequence[str]) -> None:
        self.asking, self.finish, self.methods = asking, finish, methods
        self.maker = f"evol:{asking.model.label}"
        self.number, self.grown = 0, list[_Seed]()
        self.words = asking.book.words("methods", asking.lang)

    async def round(self, seeds: Sequence[_Seed]) -> list[Made]:
        """Rows and Rejects, in order. What the next round starts from is added to `grown`: a child where it lives, else its parent."""
        asking, task = self.asking, self.asking.task.name
        names = [f"{seed.name}:{self.number}" for seed in seeds]
        ways = [self.methods[row_seed(asking.seed, f"method:{name}") % len(self.methods)] for name in names]
        said = await self._evolved(seeds, names, ways)
        texts = [_bare(one.text) for one in said]
        told = await checks.instructions(texts, asking.lang, task, self.finish.leak, self.finish.scorers)
        faults = [
            one.fault or copied(text) or why or _same(seed.text, text)
            for one, text, why, seed in zip(said, texts, told, seeds, strict=True)
        ]
        alive = [at for at, fault in enumerate(faults) if not fault]
        pairs = [(names[at], {"first": seeds[at].text, "second": texts[at]}) for at in alive]
        for at, verdict in zip(alive, await asking.ask("equal", pairs, cool=True, max_tokens=8), strict=True):
            if verdict.text in ("Equal", "相同"):
                faults[at] = f"no gain: {say('the model calls it equal to its parent', '模型认为与原要求相同')}"
        alive = [at for at in alive if not faults[at]]
        asked = [(names[at], texts[at], (*seeds[at].parents, said[at].key)) for at in alive]
        made = await self.finish.answered(asked, self.maker)
        rows = dict(zip(alive, made, strict=True))
        out = [
            rows[at] if at in rows else self._gone(seeds[at], said[at], faults[at], names[at])
            for at in range(len(seeds))
        ]
        self.grown += [
            _Seed(seed.name, row.instruction, seed.lang, row.parents) if isinstance(row, Example) else seed
            for seed, row in zip(seeds, out, strict=True)
        ]
        return out

    async def _evolved(self, seeds: Sequence[_Seed], names: Sequence[str], ways: Sequence[str]) -> list[Said]:
        out: dict[int, Said] = {}
        for step, wanted in (("wider", True), ("deeper", False)):
            places = [at for at, way in enumerate(ways) if (way == "wider") == wanted]
            asked = [
                (names[at], {"instruction": seeds[at].text, "method": self.words.get(ways[at], "")}) for at in places
            ]
            out |= dict(zip(places, await self.asking.ask(step, asked), strict=True))
        return [out[at] for at in range(len(seeds))]

    def _gone(self, seed: _Seed, said: Said, fault: str, name: str) -> Reject:
        if said.fault:
            return failed(self.asking.task.name, self.maker, said, f"evolve {name}", seed.parents)
        return Reject(
            self.asking.task.name, self.maker, "dropped", fault, text=said.text, parents=(*seed.parents, said.key)
        )


def _bare(text: str) -> str:
    return unquote(_lead.sub("", text.strip()))


def copied(text: str) -> str:
    """Rule 4: words of the evolving prompt stand in the instruction."""
    found = _headings.search(text)
    return (
        f"copied: {say(f'the prompt speaks in it: {found.group()}', f'混入了提示词的字样：{found.group()}')}"
        if found
        else ""
    )


def _same(parent: str, child: str) -> str:
    """Rule 1 where no model is needed: the words are the parent's, or all but."""
    if normalise(parent) == normalise(child) or Pool([parent], 0.95).rival(child) is not None:
        return f"no gain: {say('worded as its parent', '与原要求措辞相同')}"
    return ""


def hollow(row: Example) -> str:
    """Rules 2 and 3: an apology in a few words, or nothing but stop words and punctuation."""
    answer = row.output
    said = tokens(answer)
    if not any(token not in _nothing for token in said):
        return f"hollow: {say('stop words and punctuation alone', '只有虚词和标点')}"
    short = len(said) < (120 if language(answer) == "zh" else 80)
    if short and re.search(r"\bsorry\b|抱歉|对不起", answer, re.IGNORECASE) and not re.search(r"[\"“”「]", answer):
        return f"refusal: {say('it says sorry, and little else', '除了道歉几乎没有内容')}"
    return ""
