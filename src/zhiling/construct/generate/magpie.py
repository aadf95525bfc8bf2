"""Magpie (Xu et al. 2024, arXiv:2406.08464): an aligned model, shown its chat template up to the user's turn, writes the user's words.

template prefix -> what a user would say -> filters and novelty -> the model answers -> checks -> rows

It needs a provider that continues a bare prompt ("complete"), as local models and vLLM do. Of the paper: no seed and no example in the
prompt, a system turn that steers the language and the field, and repeats removed, here by ROUGE-L, exactly, in zh and en.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from zhiling.construct.generate import checks
from zhiling.construct.generate.asking import Asking, book, styled
from zhiling.construct.generate.checks import Scorers, Verify, judges
from zhiling.construct.generate.floor import Made, in_waves
from zhiling.construct.generate.novelty import Pool
from zhiling.construct.generate.repair import Finish, failed, finishing
from zhiling.errors import RecipeError, say
from zhiling.registry import constructor
from zhiling.text import length
from zhiling.types import Reject, Request, Task, row_seed

if TYPE_CHECKING:
    from zhiling.llm import Model

LEAST = 4
"""Words, or Chinese characters, of what can be asked."""


def calls(settings: Mapping[str, Any], task: Task) -> int:
    """The most calls for one task: what the user says, the answer and a repair for each candidate."""
    each = 3 if settings["repair"] else 2
    return round(float(settings["tries"]) * int(settings["rows"])) * each * len(settings["langs"] or task.langs)


def ready(settings: Mapping[str, Any], task: Task) -> int:
    """The most rows for one task."""
    return int(settings["rows"]) * len(settings["langs"] or task.langs)


@constructor(
    "magpie", makes="rows", calls=calls, ready=ready, uses=judges, needs=("complete", "chat"), paper="arXiv:2406.08464"
)
async def magpie(
    *,
    task: Task,
    model: Model,
    scorers: Scorers,
    verify: Verify,
    seed: int,
    here: Path,
    rows: Annotated[int, Ge(1)] = 100,
    tries: Annotated[float, Ge(1)] = 3.0,
    template: str = "auto",
    langs: list[str] | None = None,
    novelty: Annotated[float, Gt(0), Le(1)] = 0.7,
    style: Literal["auto", "small", "large"] = "auto",
    prompts: str | None = None,
    temperature: Annotated[float, Ge(0)] = 1.0,
    max_tokens: Annotated[int, Ge(8)] = 512,
    wave: Annotated[int, Ge(1)] = 32,
    floor: Annotated[float, Ge(0), Le(1)] = 0.1,
    repair: bool = True,
) -> list[Made]:
    """What users would ask of this very model, with its answers: `rows` per language from at most `tries` as many candidates.

    `template` names how the model's chat marks turns (chatml, llama3, gemma, phi3, glm4, zephyr, or one of the file `prompts`); "auto" goes
    by the model's name. The system turn says the language and the task's description. Raises RecipeError for a template nobody knows.
    """
    out: list[Made] = []
    for lang in langs or task.langs:
        found = book("magpie", prompts, here)
        asking = Asking(task, model, found, lang, styled(model, style), seed, temperature, max_tokens)
        finish = finishing(asking, scorers, verify, repair)
        prefix, end = opening(asking, marks(found.more["templates"], template, model.label))
        flock = _Flock(asking, finish, prefix, end, novelty)
        out += await in_waves(
            flock.wave,
            rows=rows,
            tries=tries,
            wave=wave,
            floor=floor,
            model=model,
            step=f"construct.magpie ({task.name}, {lang})",
        )
    return out


def marks(templates: Mapping[str, Mapping[str, Any]], asked: str, label: str) -> Mapping[str, Any]:
    """How a model's chat template marks turns: by name, else by the model's name. Raises RecipeError where neither is known."""
    if asked in templates:
        return templates[asked]
    if asked == "auto":
        name = label.lower().replace("_", "-")
        for entry in templates.values():
            if any(part in name for part in entry["match"]):
                return entry
    what = say(f"no chat template known for '{label}'", f"不知道“{label}”的对话模板")
    if asked != "auto":
        what = say(f"unknown chat template '{asked}'", f"未知的对话模板“{asked}”")
    known = ", ".join(templates)
    raise RecipeError(
        what,
        where="magpie.template",
        mend=say(
            f"name one of: {known}; or add yours in a file `prompts:`", f"可选：{known}；或在 prompts: 文件中加入"
        ),
    )


def opening(asking: Asking, template: Mapping[str, Any]) -> tuple[str, str]:
    """(everything up to the user's first word, the mark that ends the user's turn)."""
    about = f"\n{asking.about.strip()}" if asking.about else ""
    (_, system), *_ = asking.book.find("system", asking.lang, asking.style).filled({"about": about})
    return str(template["system"]).replace("{system}", system) + str(template["user"]), str(template["end"])


class _Flock:
    """What waves share: the questions that there are already."""

    def __init__(self, asking: Asking, finish: Finish, prefix: str, end: str, novelty: float) -> None:
        self.asking, self.finish, self.prefix, self.end = asking, finish, prefix, end
        self.pool = Pool((), novelty)
        self.maker = f"magpie:{asking.model.label}"

    async def wave(self, numbers: range) -> list[Made]:
        """Candidates of these numbers, as rows and Rejects."""
        asking, task = self.asking, self.asking.task.name
        names = [str(number) for number in numbers]
        said = await asking.send([self._request(name) for name in names])
        told = await checks.instructions(
            [one.text for one in said], asking.lang, task, self.finish.leak, self.finish.scorers
        )
        out: list[Made] = []
        good: list[tuple[str, str, tuple[str, ...]]] = []
        for name, one, why in zip(names, said, told, strict=True):
            if one.fault:
                out.append(failed(task, self.maker, one, f"user {name}"))
            elif reason := why or self._unfit(one.text):
                out.append(Reject(task, self.maker, "dropped", reason, text=one.text, parents=(one.key,)))
            else:
                self.pool.add(one.text)
                good.append((name, one.text, (one.key,)))
        return out + await self.finish.answered(good, self.maker, cool=True)

    def _unfit(self, text: str) -> str:
        if length(text) < LEAST:
            return f"length: {say('too short to ask for anything', '太短，没有提出要求')}"
        why = self.pool.why(text)
        return f"novelty: {why}" if why else ""

    def _request(self, name: str) -> Request:
        asking = self.asking
        return Request(
            prompt=self.prefix, max_tokens=min(asking.max_tokens, 256), temperature=asking.temperature, top_p=1.0, stop=(self.end,),
            seed=row_seed(asking.seed, f"{asking.task.name}:{asking.lang}:user:{name}"),
        )  # fmt: skip
