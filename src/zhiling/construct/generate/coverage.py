"""Taxonomy- and persona-driven coverage: every topic of a field gets its share of rows, each asked by somebody with a reason to ask.

field -> topics -> people -> requests of several sorts -> checks and novelty -> answers -> checks -> rows

The taxonomy is that of GLAN (Li et al. 2024, arXiv:2402.13064) and LAB (Sudalairaj et al. 2024, arXiv:2403.01081): a tree that a file
gives or the model writes, whose leaves are taken in turn, so that no leaf is left out and none takes over. The people are those of
Persona Hub (Ge et al. 2024, arXiv:2406.20094): one to a request, from a file or imagined for the topic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from annotated_types import Ge, Gt, Le

from zhiling.construct.generate import checks
from zhiling.construct.generate.asking import Asking, book, read, styled
from zhiling.construct.generate.checks import Scorers, Verify, judges
from zhiling.construct.generate.floor import Made, in_waves, unasked
from zhiling.construct.generate.novelty import Pool
from zhiling.construct.generate.repair import Finish, failed, finishing
from zhiling.errors import DataError, ProviderError, RecipeError, say
from zhiling.llm.parse import unquote
from zhiling.registry import constructor
from zhiling.text import lang as language
from zhiling.text import length
from zhiling.types import Reject, Task, row_seed

if TYPE_CHECKING:
    from zhiling.llm import Model


def calls(settings: Mapping[str, Any], task: Task) -> int:
    """The most calls for one task: person, request, answer and repair for each candidate, and the topics where none are given."""
    each = 2 + (settings["personas"] is None) + bool(settings["repair"])
    langs = len(settings["langs"] or task.langs)
    return (round(float(settings["tries"]) * int(settings["rows"])) * each + (settings["taxonomy"] is None)) * langs


def ready(settings: Mapping[str, Any], task: Task) -> int:
    """The most rows for one task."""
    return int(settings["rows"]) * len(settings["langs"] or task.langs)


@constructor(
    "coverage",
    makes="rows",
    calls=calls,
    ready=ready,
    uses=judges,
    needs=("chat",),
    paper="arXiv:2402.13064, 2403.01081, 2406.20094",
)
async def coverage(
    *,
    task: Task,
    model: Model,
    scorers: Scorers,
    verify: Verify,
    seed: int,
    here: Path,
    rows: Annotated[int, Ge(1)] = 100,
    tries: Annotated[float, Ge(1)] = 2.0,
    taxonomy: str | None = None,
    personas: str | None = None,
    topics: Annotated[int, Ge(3), Le(12)] = 8,
    langs: list[str] | None = None,
    novelty: Annotated[float, Gt(0), Le(1)] = 0.7,
    style: Literal["auto", "small", "large"] = "auto",
    prompts: str | None = None,
    temperature: Annotated[float, Ge(0)] = 0.8,
    max_tokens: Annotated[int, Ge(8)] = 512,
    wave: Annotated[int, Ge(1)] = 32,
    floor: Annotated[float, Ge(0), Le(1)] = 0.1,
    repair: bool = True,
) -> list[Made]:
    """Requests and answers spread evenly over topics and people: `rows` per language from at most `tries` as many candidates.

    `taxonomy` is a YAML file, a tree of names whose leaves are the topics; without one the model names so many `topics` of the task's
    description. `personas` is a text file with a person a line; without one the model imagines one for each request. Lines and leaves in
    another language than a row's are left out. Raises RecipeError where a language has no topics, DataError for a file that is none.
    """
    out: list[Made] = []
    for lang in langs or task.langs:
        asking = Asking(
            task, model, book("coverage", prompts, here), lang, styled(model, style), seed, temperature, max_tokens
        )
        finish = finishing(asking, scorers, verify, repair)
        step = f"construct.coverage ({task.name}, {lang})"
        found = _of(leaves(here / taxonomy), lang) if taxonomy else await _named(asking, topics, step)
        people = _of(lines(here / personas), lang) if personas else []
        if not found or (personas and not people):
            which = taxonomy if not found else personas
            raise RecipeError(
                say(f"nothing in '{lang}' in {which}", f"{which} 中没有“{lang}”的内容"), where=step,
                mend=say("add some, or say `langs:`", "请补充，或用 langs: 指明语言"),
            )  # fmt: skip
        cells = _Cells(asking, finish, found, people, novelty)
        out += await in_waves(cells.wave, rows=rows, tries=tries, wave=wave, floor=floor, model=model, step=step)
    return out


def _of(texts: Sequence[str], lang: str) -> list[str]:
    """Those in the language: a leaf carries its path, "root > branch > leaf", and its own words decide."""
    return [text for text in texts if (language(text.rpartition(" > ")[2]) == "zh") == (lang == "zh")]


def leaves(path: Path) -> list[str]:
    """The leaves of a YAML tree, each with the names that lead to it: "cooking > bread > sourdough"."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(
            say(f"the taxonomy cannot be read: {error}", f"无法读取分类树：{error}"), where=str(path)
        ) from error
    found: list[str] = []

    def walk(node: Any, above: tuple[str, ...]) -> None:
        if isinstance(node, Mapping):
            for name, below in node.items():
                walk(below, (*above, str(name))) if below else found.append(" > ".join((*above, str(name))))
        elif isinstance(node, list):
            for one in node:
                walk(one, above)
        else:
            found.append(" > ".join((*above, str(node))))

    walk(tree or {}, ())
    if not found:
        raise DataError(say("the taxonomy has no leaves", "分类树没有叶子"), where=str(path))
    return list(dict.fromkeys(found))


def lines(path: Path) -> list[str]:
    """A text file's lines that hold something."""
    try:
        return list(
            dict.fromkeys(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        )
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            say(f"the personas cannot be read: {error}", f"无法读取人物文件：{error}"), where=str(path)
        ) from error


async def _named(asking: Asking, count: int, step: str) -> list[str]:
    """The topics that a model names. Raises ProviderError when it names fewer than three in the language."""
    field = asking.about.partition(": " if asking.lang == "en" else "：")[2].strip() or asking.task.name
    (said,) = await asking.ask("topics", [("", {"field": field, "count": str(count), "about": ""})], max_tokens=400)
    value, fault = read(said, "topics")
    named = [str(one).strip() for one in value.get("topics") or [] if str(one).strip()]
    found = [one for one in dict.fromkeys(named) if not checks.spoken(one, asking.lang)][:count]
    if unasked(asking.model):
        return [field]
    if len(found) < 3:
        raise ProviderError(
            say(f"{asking.model.label} named {len(found)} topics: {fault}", f"{asking.model.label} 只给出 {len(found)} 个主题：{fault}"),
            where=step,
            mend=say("give them in a file: taxonomy: topics.yaml", "请用文件给出：taxonomy: topics.yaml"),
            kind="refused",
        )  # fmt: skip
    return found


class _Cells:
    """Topic by topic, person by person: what candidate n is about depends on n alone."""

    def __init__(
        self, asking: Asking, finish: Finish, topics: Sequence[str], people: Sequence[str], novelty: float
    ) -> None:
        self.asking, self.finish, self.topics, self.people = asking, finish, topics, people
        self.order = Random(row_seed(asking.seed, "people")).sample(range(len(people)), len(people))
        self.kinds = list(asking.book.words("kinds", asking.lang))
        self.pool = Pool((), novelty)
        self.maker = f"coverage:{asking.model.label}"

    async def wave(self, numbers: range) -> list[Made]:
        """Candidates of these numbers, as rows and Rejects."""
        asking, task, names = self.asking, self.asking.task.name, [str(number) for number in numbers]
        cells = [self._cell(number) for number in numbers]
        if not self.people:
            imagined = await asking.ask("persona", list(zip(names, cells, strict=True)), max_tokens=64)
            for cell, one in zip(cells, imagined, strict=True):
                cell["persona"] = "" if one.fault else unquote(one.text)
        said = await asking.ask("request", list(zip(names, cells, strict=True)))
        texts = [unquote(one.text) for one in said]
        told = await checks.instructions(texts, asking.lang, task, self.finish.leak, self.finish.scorers)
        out: list[Made] = []
        good: list[tuple[str, str, tuple[str, ...]]] = []
        for name, cell, one, text, why in zip(names, cells, said, texts, told, strict=True):
            if one.fault:
                out.append(failed(task, self.maker, one, f"request {name}: {cell['topic']}"))
            elif reason := why or self._unfit(text):
                out.append(Reject(task, self.maker, "dropped", reason, text=text, parents=(one.key,)))
            else:
                self.pool.add(text)
                good.append((name, text, (one.key,)))
        return out + await self.finish.answered(good, self.maker)

    def _cell(self, number: int) -> dict[str, str]:
        count = len(self.topics)
        person = self.people[self.order[number % len(self.people)]] if self.people else ""
        kind = self.kinds[(number // count + number) % len(self.kinds)]
        return {"topic": self.topics[number % count], "persona": person, "kind": kind, "about": self.asking.about}

    def _unfit(self, text: str) -> str:
        if length(text) < 4:
            return f"length: {say('too short to ask for anything', '太短，没有提出要求')}"
        why = self.pool.why(text)
        return f"novelty: {why}" if why else ""
