"""`zhiling induce TASK`: the contest for the best instruction, from the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zhiling.cli.work import at_work
from zhiling.errors import RecipeError, say

if TYPE_CHECKING:
    from zhiling.induce import Outcome, Settings
    from zhiling.induce.task import Subject

Given = Annotated[
    str,
    typer.Argument(
        help="A recipe, a CSV or JSONL of examples, or a sentence saying what to do. 配方、示例文件，或一句任务说明。",
        metavar="TASK",
    ),
]


def induce(
    given: Given,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder of the work; default runs/induce-NAME. 结果文件夹。")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Examples, where TASK is a sentence. 示例文件。")] = None,
    describe: Annotated[str, typer.Option("--describe", help="The task in words, where TASK is a file. 任务说明。")] = "",
    task: Annotated[str, typer.Option("--task", help="Which of a recipe's tasks. 配方中的哪个任务。")] = "",
    inputs: Annotated[list[str] | None, typer.Option("--input", help="An input column; repeat for several. 输入列。")] = None,
    target: Annotated[str, typer.Option("--target", help="The answer's column. 答案列。")] = "",
    metric: Annotated[str, typer.Option("--metric", help="exact_match, f1, rouge_l, chrf, ... 指标。")] = "",
    family: Annotated[str, typer.Option("--family", help="The task's family, such as classification. 任务类别。")] = "",
    lang: Annotated[str, typer.Option("--lang", help="zh or en: the instruction's language. 指令语言。")] = "",
    by: Annotated[str, typer.Option("--by", help="metric, likelihood (of the right answer) or auto. 按什么评判。")] = "auto",
    free: Annotated[bool, typer.Option("--free", help="Let the model answer freely where answers are a closed set. 不限制选项。")] = False,
    model: Annotated[str, typer.Option("--model", help="Who executes: 'provider: openai, model: ...'. 执行指令的模型。")] = "",
    proposer: Annotated[str, typer.Option("--proposer", help="Who proposes; default the same; none: nobody. 提议的模型。")] = "",
    bank: Annotated[str, typer.Option("--bank", help="seeds, or a bank's folder. 指令库。")] = "seeds",
    calls: Annotated[int, typer.Option("--calls", min=10, help="Most calls in all: a hard limit. 调用次数上限。")] = 600,
    usd: Annotated[float | None, typer.Option("--usd", help="Most dollars in all: a hard limit. 花费上限（美元）。")] = None,
    seed: Annotated[int, typer.Option("--seed", help="For splits and draws. 随机种子。")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output. 机器可读输出。")] = False,
) -> None:  # fmt: skip
    """Find the best instruction for a task: templates, bank and model propose, execution decides. 为任务找出最好的指令。"""
    from zhiling.induce import Settings
    from zhiling.induce.report import FILE, facts, lines, template_text
    from zhiling.induce.task import Asked, subject

    for name, value, known in (("--by", by, ("auto", "metric", "likelihood")), ("--lang", lang, ("", "zh", "en"))):
        if value not in known:
            raise RecipeError(
                say(f"unknown value '{value}'", f"未知的值“{value}”"), where=name, mend=", ".join(filter(None, known))
            )
    found = subject(given, Asked(describe, data, task, inputs or (), target, metric, family, lang))
    settings = Settings(calls, usd, by, free, seed, lang=lang)  # type: ignore[arg-type]
    folder = out or Path("runs") / f"induce-{found.task.name}"
    with at_work() as meter:
        outcome = asyncio.run(_held(found, settings, folder, model, proposer, bank, meter))
    told = facts(outcome)
    if outcome.winner is not None:
        told["file"] = str(folder / FILE)
        (folder / FILE).write_text(template_text(outcome), encoding="utf-8")
    (folder / "contest.json").write_text(json.dumps(told, ensure_ascii=False, indent=1), encoding="utf-8")
    print(json.dumps(told, ensure_ascii=False, indent=1) if as_json else "\n".join(lines(outcome, told, folder)))


async def _held(
    subject: Subject, settings: Settings, folder: Path, model: str, proposer: str, bank: str,
    watch: Callable[[Mapping[str, Any]], None],
) -> Outcome:  # fmt: skip
    """The contest with its models: replies, bill and budget live in the folder, so that the same command goes on after anything."""
    from zhiling import steps
    from zhiling.embed import Use
    from zhiling.errors import boundary
    from zhiling.induce import contest
    from zhiling.induce.execute import Purse
    from zhiling.induce.propose import Means
    from zhiling.llm import open_model
    from zhiling.llm.bill import NAME, Bill, charged
    from zhiling.llm.budget import Pot

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise boundary(error, str(folder)) from error
    limits = {"calls": float(settings.calls), **({"usd": settings.usd} if settings.usd is not None else {})}
    pot = Pot(limits, "--calls/--usd", charged(folder / NAME))
    entries = {"executor": _entry(model, subject, settings.by, "--model")}
    if proposer not in ("", "none"):
        entries["proposer"] = _entry(proposer, subject, "auto", "--proposer")
    opened = {}
    try:
        for name, entry in entries.items():
            opened[name] = open_model(
                entry, cache=folder / "replies.sqlite", where=f"--{'model' if name == 'executor' else name}",
                bill=Bill(folder / NAME, name), shared=pot,
            )  # fmt: skip
        executor = opened["executor"]
        asking = None if proposer == "none" else opened.get("proposer", executor)
        tasks = {subject.task.name: subject.task}
        hand = {"tasks": tasks, "seed": settings.seed, "embedder": Use(), "here": subject.here}
        scorers = steps.Scorers({}, lambda step: steps.Hand(hand, lambda: asking or executor))
        purse = Purse(settings.calls, settings.usd)
        means = Means(asking, scorers, Use(), purse, subject.here, bank, settings.seed, tasks=tasks)
        return await contest(subject, settings, executor, means, watch)
    finally:
        for one in opened.values():
            await one.close()


def _entry(given: str, subject: Subject, by: str, where: str) -> dict[str, Any]:
    """A model's entry: as written, else the recipe's first model, else the embedded one (in the provider that can do what is asked)."""
    import yaml

    if given:
        try:
            found = yaml.safe_load("{" + given + "}")
        except yaml.YAMLError as error:
            mend = say("write it as 'provider: openai, model: NAME'", "请写成 'provider: openai, model: 名称'")
            raise RecipeError(say(f"cannot read '{given}'", f"无法识别“{given}”"), where=where, mend=mend) from error
        if not isinstance(found, dict) or not found.get("provider"):
            mend = "provider: openai, model: NAME, base_url: URL"
            raise RecipeError(say("a model needs a provider", "模型缺少 provider"), where=where, mend=mend)
        return found
    if subject.models and by != "likelihood":
        return dict(next(iter(subject.models.values())))
    return {"provider": "transformers", "batch": 32} if by == "likelihood" else {"provider": "gguf", "exact": False}
