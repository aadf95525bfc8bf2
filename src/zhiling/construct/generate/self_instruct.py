"""Self-Instruct (Wang et al. 2022, arXiv:2212.10560): a model writes tasks beside known ones, says which are classification, and answers.

seeds -> eight in a prompt, six of people and two of its own -> filters and novelty -> output first, or input first -> checks -> rows

Of the paper: the mix in the prompt, the filters with ROUGE-L 0.7, and output-first instances for classification, where input-first ones
lean to one label. Its filters say what they mean in Chinese too: lengths in characters, Chinese words for pictures and files, and a first
character that is a letter of the language asked for instead of "ASCII".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from zhiling.construct.generate import checks
from zhiling.construct.generate.asking import Asking, Said, book, read, styled
from zhiling.construct.generate.checks import Scorers, Verify, judges
from zhiling.construct.generate.floor import Made, in_waves
from zhiling.construct.generate.novelty import Pool
from zhiling.construct.generate.repair import Finish, failed, finishing
from zhiling.construct.library_wording import states
from zhiling.errors import DataError, RecipeError, say
from zhiling.llm.parse import items, unquote
from zhiling.registry import constructor
from zhiling.text import blank, length, normalise
from zhiling.types import Example, Reject, Task, row_seed

if TYPE_CHECKING:
    from zhiling.llm import Model

PEOPLE, OWN = 6, 2
"""How many tasks of the seeds, and of the model's own, stand in a prompt."""
LENGTHS = {"zh": (4, 300)}
LENGTHS_WORDS = (4, 150)
"""Least and most characters (Chinese) or words of an instruction."""

_beyond_text = re.compile(
    r"\b(?:images?|pictures?|photos?|graphs?|charts?|files?|maps?|draw|plot|videos?|audio|music|flowcharts?|diagrams?)\b"
    r"|图片|图像|照片|图表|附件|地图|画一[张幅个]|绘制|视频|音频|流程图|示意图|截图",
    re.IGNORECASE,
)
_program = re.compile(
    r"\s*(?:write|create) a (?:computer )?program\b|\s*请?(?:编写|写)一个(?:计算机)?程序", re.IGNORECASE
)
_lead = re.compile(r"^(?:(?:task|任务)\s*\d*\s*[:：]|\d+\s*[.、:：)])\s*", re.IGNORECASE)


def calls(settings: Mapping[str, Any], task: Task) -> int:
    """The most calls for one task: a proposal, its kind and its instance for each candidate, and a repair each."""
    each = 4 if settings["repair"] else 3
    return round(float(settings["tries"]) * int(settings["rows"])) * each * len(settings["langs"] or task.langs)


def ready(settings: Mapping[str, Any], task: Task) -> int:
    """The most rows for one task."""
    return int(settings["rows"]) * len(settings["langs"] or task.langs)


@constructor("self_instruct", makes="rows", calls=calls, ready=ready, uses=judges, paper="arXiv:2212.10560")
async def self_instruct(
    *,
    task: Task,
    model: Model,
    scorers: Scorers,
    verify: Verify,
    seed: int,
    here: Path,
    rows: Annotated[int, Ge(1)] = 100,
    tries: Annotated[float, Ge(1)] = 3.0,
    seeds: str | None = None,
    langs: list[str] | None = None,
    novelty: Annotated[float, Gt(0), Le(1)] = 0.7,
    style: Literal["auto", "small", "large"] = "auto",
    prompts: str | None = None,
    temperature: Annotated[float, Ge(0)] = 0.8,
    max_tokens: Annotated[int, Ge(8)] = 400,
    wave: Annotated[int, Ge(1)] = 32,
    floor: Annotated[float, Ge(0), Le(1)] = 0.1,
    repair: bool = True,
) -> list[Made]:
    """New tasks with an instance each: `rows` per language, from at most `tries` as many candidates.

    Starts from the shipped seeds of the task's family (all of them for "other"), or from `seeds`: JSON lines with `instruction` and
    perhaps `lang`. A candidate whose ROUGE-L with a seed or an earlier candidate reaches `novelty` is refused. `prompts` is a file that
    takes the shipped prompts' places; `style` says how the model is asked. The first wave has `wave` candidates. Stops early below `floor`
    usable rows.
    """
    out: list[Made] = []
    for lang in langs or task.langs:
        asking = Asking(
            task, model, book("self_instruct", prompts, here), lang, styled(model, style), seed, temperature, max_tokens
        )
        finish = finishing(asking, scorers, verify, repair)
        loop = _Loop(asking, finish, known(task, lang, here / seeds if seeds else None), novelty)
        out += await in_waves(
            loop.wave,
            rows=rows,
            tries=tries,
            wave=wave,
            floor=floor,
            model=model,
            step=f"construct.self_instruct ({task.name}, {lang})",
        )
    return out


class _Loop:
    """The bootstrapping: what one wave made is what the next one's prompts and novelty stand on."""

    def __init__(self, asking: Asking, finish: Finish, seeds: Sequence[str], novelty: float) -> None:
        self.asking, self.finish, self.seeds = asking, finish, seeds
        self.pool = Pool(seeds, novelty)
        self.own: list[str] = []
        self.maker = f"self_instruct:{asking.model.label}"

    async def wave(self, numbers: range) -> list[Made]:
        """Candidates of these numbers, as rows and Rejects."""
        asking, names = self.asking, [str(number) for number in numbers]
        said = await asking.ask("propose", [(name, self._shown(name)) for name in names], max_tokens=96)
        proposed = [_proposal(one) for one in said]
        told = await checks.instructions(
            [text for text, _ in proposed], asking.lang, asking.task.name, self.finish.leak, self.finish.scorers
        )
        out: list[Made] = []
        good: list[tuple[str, str, str]] = []
        for name, one, (text, fault), why in zip(names, said, proposed, told, strict=True):
            if fault:
                out.append(failed(asking.task.name, self.maker, one._replace(fault=fault), f"propose {name}"))
            elif reason := why or unfit(text, asking.lang) or self._known(text):
                out.append(Reject(asking.task.name, self.maker, "dropped", reason, text=text, parents=(one.key,)))
            else:
                self.pool.add(text)
                good.append((name, text, one.key))
        drafts = await self._instances(good)
        made = await self.finish.rows(drafts, [name for name, _, _ in good])
        self.own += [row.instruction for row in made if isinstance(row, Example)]
        return out + made

    def _known(self, text: str) -> str:
        why = self.pool.why(text)
        return f"novelty: {why}" if why else ""

    def _shown(self, name: str) -> dict[str, str]:
        """Eight tasks for a prompt: two of the model's own as soon as there are any, the rest of the seeds, mixed."""
        rng = Random(row_seed(self.asking.seed, f"shown:{self.asking.lang}:{name}"))
        own = rng.sample(self.own, min(OWN, len(self.own)))
        picked = [*own, *rng.sample(list(self.seeds), min(PEOPLE + OWN - len(own), len(self.seeds)))]
        rng.shuffle(picked)
        mark = "任务{}：{}" if self.asking.lang == "zh" else "Task {}: {}"
        listed = "\n".join(mark.format(at, text) for at, text in enumerate(picked, 1))
        count = len(picked)
        return {"examples": listed, "about": self.asking.about, "next": str(count + 1), "next_minus_one": str(count)}

    async def _instances(self, good: Sequence[tuple[str, str, str]]) -> list[Example | Reject]:
        """An instance of each task: classification chooses its label first."""
        asking = self.asking
        slots = [(name, {"instruction": text}) for name, text, _ in good]
        kinds = await asking.ask("classify", slots, cool=True, max_tokens=8)
        closed = [kind.text.lower().startswith(("yes", "是")) for kind in kinds]
        out: dict[int, Example | Reject] = {}
        for step, wanted in (("output_first", True), ("input_first", False)):
            places = [at for at, found in enumerate(closed) if found == wanted]
            said = await asking.ask(step, [slots[at] for at in places])
            told = await checks.declined([one.text for one in said], asking.task.name, self.finish.scorers)
            for at, one, refused in zip(places, said, told, strict=True):
                out[at] = self._instance(good[at], one, step, refused)
        return [out[at] for at in range(len(good))]

    def _instance(self, found: tuple[str, str, str], said: Said, step: str, refused: str) -> Example | Reject:
        name, text, key = found
        value, fault = read(said, "input", "output")
        fault = refused if fault.startswith("form") and refused else fault
        task = self.asking.task.name
        if fault:
            return failed(task, self.maker, said._replace(fault=fault), f"{step} {name}: {text}", (key,))
        given, answer = (_text(value[part]) for part in ("input", "output"))
        given = "" if blank(given) or normalise(given) == normalise(text) else given
        row = Example(task, text, given, answer, lang=self.asking.lang, maker=self.maker, parents=(key, said.key))
        if why := unfit_instance(given, answer):
            return Reject(task, self.maker, "dropped", why, text=f"{row.prompt}\n→ {answer}", parents=row.parents)
        return row


def _text(value: Any) -> str:
    """A JSON value as the text of a row: strings as they are, lists of them as lines, the rest as JSON."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = "\n".join(value)
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _proposal(said: Said) -> tuple[str, str]:
    """The proposed task alone, or why there is none."""
    if said.fault:
        return "", said.fault
    first = (items(said.text) or [""])[0]
    return unquote(_lead.sub("", first)), ""


def unfit(text: str, lang: str) -> str:
    """Why an instruction falls to one of the paper's filters; "" when it passes all."""
    least, most = LENGTHS.get(lang, LENGTHS_WORDS)
    size = length(text)
    if not least <= size <= most:
        return f"length: {say(f'{size}, allowed are {least} to {most}', f'长度 {size}，允许 {least} 至 {most}')}"
    if found := _beyond_text.search(text):
        return f"keyword: {say(f'text alone does not do it: {found.group()}', f'只靠文字无法完成：{found.group()}')}"
    if _program.match(text):
        return f"program: {say('it asks for a program of any kind', '笼统地要求编写程序')}"
    if states(text):
        return f"statement: {say('it states something and asks for nothing', '只是陈述，没有提出要求')}"
    first = text[0]
    if lang == "zh":
        fine = first.isalnum() or first in "《“「"  # a title or a quoted word is how a Chinese sentence may begin
    else:
        fine = first.isascii() and first.isalnum()
    return "" if fine else f"start: {say(f'begins with {first}', f'以“{first}”开头')}"


def unfit_instance(given: str, answer: str) -> str:
    """Why an instance falls to the paper's filters: the answer is the input, or one of them ends where something should follow."""
    if answer and normalise(given) == normalise(answer):
        return f"same: {say('the output is the input', '输出与输入相同')}"
    if given.endswith((":", "：")) or answer.endswith((":", "：")):
        return f"unfinished: {say('it ends with a colon', '以冒号结尾')}"
    return ""


def known(task: Task, lang: str, path: Path | None) -> list[str]:
    """The seed instructions of a language: a file's, else the shipped ones of the task's family.

    Raises DataError for a file that is none, RecipeError where a language has no seeds.
    """
    if path is None:
        found = [
            text for code, family, text in _shipped() if code == lang and task.family in (family, "other", "general")
        ]
    else:
        found = [text for code, text in _given(path) if (code or lang) == lang]
    if not found:
        mend = say("name a file of them with `seeds:`", "请用 seeds: 指明种子文件")
        raise RecipeError(
            say(f"no seed instructions in '{lang}'", f"没有“{lang}”的种子指令"), where="self_instruct", mend=mend
        )
    return list(dict.fromkeys(found))


@cache
def _shipped() -> list[tuple[str, str, str]]:
    folder = files("zhiling").joinpath("library/seeds")
    lines = [
        json.loads(line)
        for file in sorted(folder.iterdir(), key=lambda one: one.name)
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    return [(row["lang"], row["family"], row["instruction"]) for row in lines if "{" not in row["instruction"]]


def _given(path: Path) -> list[tuple[str, str]]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [(str(row.get("lang", "")), str(row["instruction"]).strip()) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            say(f"not a file of seeds: {type(error).__name__}: {error}", f"不是种子文件：{type(error).__name__}: {error}"),
            where=str(path),
            mend=say('each line: {"instruction": "...", "lang": "en"}', '每行形如：{"instruction": "……", "lang": "zh"}'),
        ) from error  # fmt: skip
