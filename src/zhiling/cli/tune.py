"""`zhiling tune`: multi-task instruction tuning on the rows that a run kept, or on any file of instruction data."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from zhiling.cli.work import at_work
from zhiling.errors import RecipeError, say
from zhiling.types import Example

Sources = Annotated[
    list[Path] | None,
    typer.Argument(
        help="A run's folder, or data files; a file's name is its task. 运行文件夹或数据文件。",
        metavar="RUN|FILES...",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="Where the tuned model goes. 输出文件夹。")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "--base",
        help="embedded, a folder or a hub name; openai:MODEL or vertex:MODEL tunes there. 基座模型。",
    ),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="A setting: epochs=3, method=full, 'weights={qa: 2}'. 设置。")
]
Count = Annotated[int, typer.Option("--ranks", help="Processes that tune together. 并行进程数。", min=1)]
Engine = Annotated[str, typer.Option(help="local (torchrun) or ray. 引擎。")]
Form = Annotated[
    str, typer.Option("--from", help="alpaca, sharegpt, messages, dpo or kto; told by the keys if left out. 数据格式。")
]
Planned = Annotated[
    bool,
    typer.Option("--plan", help="At a provider: check the rows, say the price, send nothing. 远程：仅检查并估价。"),
]
Again = Annotated[
    bool, typer.Option("--again", help="At a provider: start the same job once more. 远程：重新启动同一任务。")
]
Cancelled = Annotated[
    bool, typer.Option("--cancel", help="At a provider: stop the job that was started in OUT. 远程：停止该任务。")
]
Logs = Annotated[
    list[str] | None,
    typer.Option("--log", help="Tell the steps to tensorboard, trackio or wandb too (offline). 同时写入这些训练日志。"),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output. 机器可读输出。")]


def tune(
    out: Out, sources: Sources = None, model: Model = "embedded", sets: Sets = None, ranks: Count = 1, engine: Engine = "local",
    form: Form = "", log: Logs = None, plan: Planned = False, again: Again = False, cancel: Cancelled = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Tune a model on rows of many tasks; the same command goes on where it was stopped. 多任务指令微调，可随时中断续跑。"""
    from zhiling import launch
    from zhiling.proof import prove
    from zhiling.proof.sources import noted
    from zhiling.tune.remote.base import base_of

    if cancel:
        from zhiling.cli.tune_remote import cancelled

        cancelled(out, as_json)
        return
    if not sources:
        mend = say("name a run's folder or data files", "请给出运行文件夹或数据文件")
        raise RecipeError(say("no rows to tune on", "没有指定训练数据"), where="RUN|FILES", mend=mend)
    given = _given(sets or []) | ({"log": log} if log else {})
    if (named := base_of(model)) is not None:
        if ranks > 1 or engine != "local" or log:
            mend = say("leave out --ranks, --engine and --log", "请去掉 --ranks、--engine 与 --log")
            raise RecipeError(say("the provider tunes as it sees fit", "微调方式由提供方决定"), where="tune", mend=mend)
        from zhiling.cli.tune_remote import elsewhere

        elsewhere(named, sources, out, given, form, plan=plan, again=again, as_json=as_json)
        return
    if plan or again:
        what = say("--plan and --again are for a base at a provider", "--plan 与 --again 仅用于远程基座模型")
        mend = say(
            "such as --base openai:MODEL; zhiling advise plans a tuning here",
            "如 --base openai:模型；本机微调请用 zhiling advise",
        )
        raise RecipeError(what, where="tune", mend=mend)
    settings = prove.settings_of(given)
    if engine not in ("local", "ray"):
        raise RecipeError(
            say(f"unknown engine '{engine}'", f"未知的引擎“{engine}”"), where="--engine", mend="local | ray"
        )
    with at_work() as meter:
        if engine == "local" and ranks > 1 and "RANK" not in os.environ:
            if code := launch.torchrun(ranks, _alone(sys.argv[1:]), out / "ranks.log"):
                raise typer.Exit(code)
            return
        rows, came = list[Example](), []
        for source in sources:
            found = list(_rows([source], form))
            came.append(noted(source, form, len(found)))
            rows += found
        if engine == "ray":
            facts = launch.on_ray(ranks, model, rows, out.resolve(), given, came)
        else:
            first = os.environ.get("RANK", "0") == "0"
            facts = prove.tune(model, rows, out, settings, meter if first else lambda event: None, came)
            if not first:
                return
    print(json.dumps(facts, ensure_ascii=False) if as_json else _told(facts))


def _told(facts: dict[str, Any]) -> str:
    lines = [
        say(
            f"tuned on {facts['rows']} rows in {facts['steps']} steps: {facts['folder']}",
            f"已用 {facts['rows']} 行数据微调 {facts['steps']} 步：{facts['folder']}",
        )
    ]
    return "\n".join([*lines, *(f"  {task}  {say('loss', '损失')} {loss:.4f}" for task, loss in facts["loss"].items())])


def _alone(arguments: Sequence[str]) -> list[str]:
    """The command as each rank is given it: without --ranks."""
    kept, skip = list[str](), False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == "--ranks":
            skip = True
        elif not argument.startswith("--ranks="):
            kept.append(argument)
    return kept


def _given(sets: Sequence[str]) -> dict[str, Any]:
    """Settings from key=value, the values as YAML. Raises RecipeError for what is neither."""
    import yaml

    found: dict[str, Any] = {}
    for item in sets:
        key, mark, value = item.partition("=")
        if not mark:
            raise RecipeError(say(f"'{item}' is no setting", f"“{item}”不是设置"), where="--set", mend="epochs=3")
        try:
            found[key.removeprefix("tune.")] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RecipeError(str(error).replace("\n", " "), where=f"--set {key}", mend="'weights={qa: 2}'") from None
    return found


def _rows(sources: Sequence[Path], form: str) -> Iterator[Example]:
    """The rows that runs kept, and those of data files; what a file holds that cannot be read is told and left out."""
    from zhiling.proof.sources import rows_of

    for source in sources:
        bad = 0
        for row in rows_of(source, form):
            if isinstance(row, Example):
                yield row
            else:
                bad += 1
        if bad:
            print(say(f"{source}: {bad} rows cannot be read", f"{source}：{bad} 行无法读取"), file=sys.stderr)


SHOWN = 8
"""Rows that `show --tokens` prints; a page holds some more."""


def show_tokens(source: Path, base: str, page: Path | None, as_json: bool) -> None:
    """`zhiling show SOURCE --tokens`: the first rows with the tokens that the loss sees, as the run's recipe tunes on them."""
    from itertools import islice

    from zhiling.show import tokens
    from zhiling.tune.settings import Sees

    sees = Sees.ANSWER
    if (source / "recipe.yaml").exists():
        from zhiling import recipe
        from zhiling.proof import prove, tuning

        sees = prove.settings_of(tuning.settings_here(recipe.load(source / "recipe.yaml").tune)).sees
    rows = tokens.shown(islice(_rows([source], ""), SHOWN * (5 if page else 1)), base, sees)
    if page is not None:
        print(tokens.page(rows, page))
    elif as_json:
        for row in rows:
            pieces = [[piece.text, piece.trained] for piece in row.pieces]
            told = {
                "id": row.id,
                "task": row.task,
                "tokens": row.tokens,
                "trained": row.trained,
                "left_out": row.why,
                "pieces": pieces,
            }
            print(json.dumps(told, ensure_ascii=False))
    else:
        print("\n".join(tokens.lines(rows, sys.stdout.isatty())))
