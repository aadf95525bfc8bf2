"""The command line: one thin command per verb. Everything it does is a few lines of Python in `zhiling` (`zhiling.api`)."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from zhiling.cli.advise import advise
from zhiling.cli.bank import bank
from zhiling.cli.cache import cache
from zhiling.cli.convert import convert
from zhiling.cli.evaluate import compare, evaluate
from zhiling.cli.export import export
from zhiling.cli.files import audit, probe, score, select
from zhiling.cli.induce import induce
from zhiling.cli.template import template
from zhiling.cli.tune import show_tokens, tune
from zhiling.cli.work import at_work
from zhiling.errors import ZhilingError, boundary, say

app = typer.Typer(
    name="zhiling", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)
app.add_typer(template, name="template")
app.add_typer(bank, name="bank")
app.command()(convert)
app.command()(tune)
app.command()(advise)
app.command()(export)
app.command()(evaluate)
app.command()(compare)
app.command()(score)
app.command()(select)
app.command()(audit)
app.command()(induce)
app.command()(probe)
app.add_typer(cache, name="cache")

RunFolder = Annotated[Path, typer.Argument(help="A run's folder. 运行文件夹。", metavar="RUN")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output. 机器可读输出。")]


@app.callback()
def about() -> None:
    """zhiling 指令: construct instructions by template, retrieval and generation; score, select, tune, and prove whether it helped.

    指令：用模板、检索、生成三种方式构造指令，评分、筛选、调优，并证明是否有效。
    """


@app.command()
def run(
    recipe: Annotated[
        Path, typer.Argument(help="A recipe (YAML) or the folder that holds recipe.yaml. 配方。", metavar="RECIPE")
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The run's folder; default runs/NAME. 运行文件夹。")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print rows, calls, tokens, minutes and money; spend nothing. 只做估算。")
    ] = False,
    until: Annotated[str, typer.Option(help="The last stage to do. 执行到哪个阶段。")] = "report",
    engine: Annotated[str, typer.Option(help="local or ray. 引擎。")] = "local",
    workers: Annotated[int | None, typer.Option(help="Processes; default: all cores. 进程数。")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Override: key.path=value. 覆盖配方中的键。")] = None,
    as_json: Json = False,
) -> None:
    """Run a recipe, or go on where it was interrupted. 运行配方，或从中断处继续。"""
    from zhiling.recipe import load

    loaded = load(recipe, sets or [])
    if plan:
        from zhiling.plan import estimate, table
        from zhiling.show import show_table

        rows = estimate(loaded, out or Path("runs") / loaded.name)
        show_table(rows if as_json else table(rows), as_json)
        return
    from zhiling.run import Run

    folder = out or Path("runs") / loaded.name
    with at_work() as meter, Run(loaded, folder, engine=engine, workers=workers, until=until, watch=meter) as work:
        summary = work.execute()
    if as_json:
        print((folder / "run.json").read_text(encoding="utf-8"))
    else:
        from zhiling.show import summary_lines

        print("\n".join(summary_lines(summary)))


@app.command()
def show(
    folder: Annotated[
        Path | None, typer.Argument(help="A run's folder. 运行文件夹。", metavar="RUN", show_default=False)
    ] = None,
    name: Annotated[
        str, typer.Argument(help="With --prompts: whose. 提示词名称。", metavar="NAME", show_default=False)
    ] = "",
    prompts: Annotated[
        bool,
        typer.Option(
            "--prompts", help="The prompts models are asked with, all or NAME's; RUN may be left out. 查看提示词。"
        ),
    ] = False,
    agreement: Annotated[
        bool,
        typer.Option(
            "--agreement",
            help="Do scorers agree on the best fifth, and selectors on what to keep? 评分器与选择器的一致性。",
        ),
    ] = False,
    tokens: Annotated[
        bool,
        typer.Option("--tokens", help="Kept rows, or those of a data file, as a tuner sees them. 查看训练所见的词元。"),
    ] = False,
    model: Annotated[
        str, typer.Option("--model", help="With --tokens: whose tokenizer. 分词器所属模型。")
    ] = "embedded",
    page: Annotated[Path | None, typer.Option("--html", help="With --tokens: a page to write. 写成网页。")] = None,
    as_json: Json = False,
) -> None:
    """How the rows of a run went, by way, state and stage. 查看一次运行的数据去向。"""
    if prompts:
        from zhiling.show.prompts import show as show_prompts

        show_prompts(folder, name, as_json)
        return
    if folder is None or name:
        raise typer.BadParameter(say("one run's folder is needed", "需要一个运行文件夹"), param_hint="RUN")
    if tokens:
        show_tokens(folder, model, page, as_json)
        return
    from zhiling.ledger import reasons, waterfall
    from zhiling.show import run_bill, run_results, show_table

    if agreement:
        from zhiling.judging.agreement import told_lines as compare_lines
        from zhiling.judging.agreement import whole as compare

        found = compare(folder)
        show_table(found, True) if as_json else print("\n".join(compare_lines(found)))
        return
    show_table(waterfall(folder), as_json)
    if not as_json:
        print()
        show_table(reasons(folder))
    if not as_json and (told := run_results(folder)):
        print("\n" + "\n".join(told))
    if not as_json and (bill := run_bill(folder)):
        print("\n" + "\n".join(bill))


@app.command()
def why(
    folder: RunFolder,
    row: Annotated[str, typer.Argument(help="A row's id, or its beginning. 行 id。", metavar="ID")],
    as_json: Json = False,
) -> None:
    """Why a row is here, or is not. 解释某一行为何保留或被丢弃。"""
    from zhiling.ledger import why as explain
    from zhiling.show import why_lines

    found = explain(folder, row)
    print(json.dumps(found, ensure_ascii=False, indent=1)) if as_json else print("\n".join(why_lines(found)))


@app.command()
def sql(
    folder: RunFolder,
    query: Annotated[str, typer.Argument(help="DuckDB SQL over the run's views. DuckDB 查询。")],
    as_json: Json = False,
) -> None:
    """Ask a run in SQL: records, templates, examples, scores, verdicts, rejects, ledger, kept, heldout, answers. 用 SQL 查询运行。"""
    from zhiling.show import query as ask
    from zhiling.show import show_table

    show_table(ask(folder, query), as_json)


@app.command()
def report(folder: RunFolder) -> None:
    """Write the run's report.html again. 重新生成报告。"""
    from zhiling.report import build

    print(build(folder))


@app.command()
def diff(a: RunFolder, b: RunFolder, as_json: Json = False) -> None:
    """What differs between two runs. 比较两次运行。"""
    from zhiling.show import difference, show_table

    show_table(difference(a, b), as_json)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where the recipe goes. 配方放在哪里。", metavar="DIR")],
    data: Annotated[
        Path | None, typer.Option(help="Rows, documents (one or a folder), or a database of yours. 你的数据。")
    ] = None,
    task: Annotated[str, typer.Option(help="What the model should learn, in words. 任务说明。")] = "",
    family: Annotated[str, typer.Option(help="classification, qa, sql, ...; guessed if left out. 任务类别。")] = "",
) -> None:
    """Scaffold a recipe for your data. 为你的数据生成配方骨架。"""
    from zhiling.scaffold import scaffold

    path = scaffold(folder, data, task, family)
    if data is not None and not family and data.suffix.lower() in (".sqlite", ".sqlite3", ".db", ".duckdb"):
        hint = say(
            "its rows are the data; for questions and queries: --family sql",
            "以其中的行为数据；若要提问与查询，请加 --family sql",
        )
        print(hint, file=sys.stderr)
    print(
        say(
            f"written: {path}\nnext: zhiling run {folder} --plan",
            f"已写出：{path}\n下一步：zhiling run {folder} --plan",
        )
    )


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine has: packages, models, cores, memory. 检查运行环境。"""
    from zhiling.show import environment, show_table

    show_table(environment(), as_json)


def main() -> None:
    """The entry point: every known trouble is one line and an exit code (1 the work failed, 2 the user's mistake)."""
    # threads that wait without spinning: on a busy machine spinning ones make torch four to nine times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.filterwarnings("ignore", category=FutureWarning)  # of the libraries underneath; no user can act on them
    try:
        app()
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        known = boundary(error)
        print(f"{say('error', '错误')}: {known}", file=sys.stderr)
        if not isinstance(error, ZhilingError | OSError | ModuleNotFoundError | MemoryError):
            import traceback

            traceback.print_exc()  # a fault of ours: its trace is what we need to mend it
        sys.exit(known.exit_code)
