"""`zhiling evaluate` and `compare`: how good a model is on rows of yours, and whether another is better, by more than luck."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from zhiling.cli.work import at_work
from zhiling.errors import RecipeError, say

MODELS = "'provider: ..., model: ...', embedded, a model's or tuned folder, a run. 模型、调优结果或运行文件夹。"
Model = Annotated[str, typer.Argument(help=MODELS, metavar="MODEL")]
First = Annotated[
    str, typer.Argument(help=f"The first model; base: what B was tuned from. 第一个模型。 {MODELS}", metavar="A")
]
Second = Annotated[
    str, typer.Argument(help="The second; several seeds with commas. 第二个模型；多个种子用逗号分隔。", metavar="B")
]
Data = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Data files, or a run's folder: its held-out rows. 数据文件，或运行文件夹（取其留出数据）。",
        metavar="DATA...",
    ),
]
Metric = Annotated[str, typer.Option("--metric", help="Instead of the tasks' own: accuracy, choice, bleu, ... 指标。")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", help="A label of a closed set; repeat for each. 标签，可重复。")
]
Form = Annotated[
    str, typer.Option("--from", help="alpaca, sharegpt, messages; told by the keys if left out. 数据格式。")
]
Columns = Annotated[list[str] | None, typer.Option("--column", help="ours=theirs: instruction=question. 列名对应。")]
Rows = Annotated[int | None, typer.Option("--rows", help="Rows per task at most. 每个任务最多的行数。", min=1)]
Longest = Annotated[
    int | None, typer.Option("--max-tokens", help="Tokens per answer at most. 每个回答最多的词元数。", min=1)
]
Sure = Annotated[float, typer.Option("--confidence", help="Of the intervals. 置信水平。", min=0.5, max=0.999)]
Seed = Annotated[int, typer.Option("--seed", help="Of the bootstrap. 自助法的随机种子。")]
Trained = Annotated[
    list[Path] | None,
    typer.Option(
        "--trained-on", help="A file or run that a model was tuned on; no row may be in it. 训练数据，用于检查污染。"
    ),
]
Clean = Annotated[bool, typer.Option("--clean", help="Leave contaminated rows out. 剔除受污染的行。")]
Force = Annotated[bool, typer.Option("--force", help="Count contaminated rows in, and say so. 计入受污染的行并标明。")]
Drift = Annotated[
    bool | None,
    typer.Option(
        "--drift/--no-drift",
        help="Ask both what is no part of the tasks; by itself where B was tuned here. 通用能力与拒答的漂移检查；B 为调优结果时默认进行。",
    ),
]
Harness = Annotated[
    str, typer.Option("--task", help="lm_eval:NAME, a task of lm-evaluation-harness, instead of DATA. 使用评测框架的任务。")
]  # fmt: skip
Include = Annotated[
    Path | None, typer.Option("--include", help="A folder of the harness's task files. 评测框架任务文件夹。")
]
Database = Annotated[
    Path | None, typer.Option("--database", help="For --metric execution: where queries are run. 查询执行所用的数据库。")
]  # fmt: skip
Judge = Annotated[
    str, typer.Option("--judge", help=f"Which answer is better, in both orders: {MODELS} 由模型评审谁的回答更好。", metavar="MODEL")
]  # fmt: skip
Cache = Annotated[Path, typer.Option("--cache", help="Replies are kept here: nothing is asked twice. 回复缓存文件。")]
Out = Annotated[
    Path | None, typer.Option("-o", "--out", help="A file for every answer and its score. 逐行写出回答与得分。")
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output. 机器可读输出。")]
REPLIES = Path("runs") / "evaluate.sqlite"


def evaluate(
    model: Model, data: Data = None, metric: Metric = "", label: Labels = None, form: Form = "", column: Columns = None,
    rows: Rows = None, max_tokens: Longest = None, confidence: Sure = 0.95, seed: Seed = 0, trained_on: Trained = None,
    clean: Clean = False, force: Force = False, database: Database = None, task: Harness = "",
    include: Include = None, cache: Cache = REPLIES, out: Out = None, as_json: Json = False,
) -> None:  # fmt: skip
    """How good a model is on your rows, with intervals, per task, language and family. 评测一个模型，给出区间。"""
    from zhiling.proof import evaluation
    from zhiling.proof.sides import one

    named = [one(model)]
    if task:
        from zhiling.proof import harness

        if not task.startswith(harness.PREFIX):
            raise RecipeError(say(f"unknown task '{task}'", f"未知的任务“{task}”"), where="--task", mend="lm_eval:NAME")
        with at_work() as meter:
            told = harness.measure(
                named[0], task.removeprefix(harness.PREFIX), rows=rows, seed=seed, confidence=confidence, include=include, watch=meter
            )  # fmt: skip
        _give(told, [], out, as_json, _measured)
        return
    asked = evaluation.Asked(
        _data(data, named), metric, label or (), form, _pairs(column), rows, max_tokens, confidence, seed, trained_on or (), clean, force,
        cache, database=database,
    )  # fmt: skip
    with at_work() as meter:
        found, answers = evaluation.measure(named[0], asked, meter)
    _give(found, answers, out, as_json, _measured)


def compare(
    a: First, b: Second, data: Data = None, metric: Metric = "", label: Labels = None, form: Form = "", column: Columns = None,
    rows: Rows = None, max_tokens: Longest = None, confidence: Sure = 0.95, seed: Seed = 0, trained_on: Trained = None,
    clean: Clean = False, force: Force = False, drift: Drift = None, judge: Judge = "", database: Database = None,
    cache: Cache = REPLIES, out: Out = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Whether model B is better than A on the same rows, or nobody can tell. 在相同数据上比较两个模型，给出结论。"""
    from zhiling.proof import evaluation
    from zhiling.proof.sides import base_of, one, sides

    second = sides(b)
    first = [base_of(second)] if a == "base" else sides(a)
    if {one.label for one in first} & {one.label for one in second}:
        raise RecipeError(say("a model is compared with itself", "模型在与自己比较"), where=f"{a} {b}")
    asked = evaluation.Asked(
        _data(data, [*second, *first]), metric, label or (), form, _pairs(column), rows, max_tokens, confidence, seed, trained_on or (), clean,
        force, cache, drift, one(judge) if judge else None, database,
    )  # fmt: skip
    with at_work() as meter:
        found, answers = evaluation.compare(first, second, asked, meter)
    _give(found, answers, out, as_json, _compared)


def _data(given: list[Path] | None, named: list[Any]) -> list[Path]:
    """The data named, else the held-out rows of the run that a model came from."""
    if found := given or [side.run for side in named if side.run is not None][:1]:
        return found
    mend = say("name data files, or a run's folder", "请给出数据文件或运行文件夹")
    raise RecipeError(say("no rows to ask", "没有指定评测数据"), where="DATA", mend=mend)


def _pairs(given: list[str] | None) -> dict[str, str]:
    from zhiling.cli.files import _pairs as pairs

    return pairs(given)


def _give(found: dict[str, Any], answers: list[dict[str, Any]], out: Path | None, as_json: bool, lines: Any) -> None:
    if out is not None:
        from zhiling.data.sets import Writer

        with Writer(out) as file:
            for row in answers:
                file.write(row)
    print(json.dumps(found, ensure_ascii=False) if as_json else "\n".join([*lines(found), *_doubts(found)]))


def _groups(found: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of the table: tasks, then languages and families where there are several, then all."""
    named = dict(found["tasks"])
    for key in ("langs", "families"):
        if len(found[key]) > 1:
            named |= {f"[{name}]": one for name, one in found[key].items()}
    return {**named, say("all tasks", "全部任务"): found["overall"]} if len(found["tasks"]) > 1 else named


def _measured(found: Mapping[str, Any]) -> list[str]:
    from zhiling.show import table_lines

    level = f"{100 * found['confidence']:g}% "
    rows = [
        {
            say("task", "任务"): name,
            say("metric", "指标"): one.get("metric", ""),
            say("rows", "行数"): one["n"],
            say("no score", "无得分"): one["failed"],
            say("score", "得分"): _number(one["score"]),
            level + say("interval", "区间"): f"[{_number(one['low'])}, {_number(one['high'])}]",
        }
        for name, one in _groups(found).items()
    ]
    return [f"{say('model', '模型')}: {found['model']}", *table_lines(rows)]


def _compared(found: Mapping[str, Any]) -> list[str]:
    from zhiling.show import beside_lines, table_lines

    named = _groups(found)
    rows = [
        {
            say("task", "任务"): name,
            say("metric", "指标"): one.get("metric", ""),
            say("rows", "行数"): one["n"],
            say("no score", "无得分"): one["failed"],
            "A": _number(one["base"]),
            "B": _number(one["tuned"]),
            "B − A": _number(one["difference"], "+"),
            "p": "<0.001" if (one.get("p") or 1.0) < 0.001 else _number(one.get("p")),
        }
        for name, one in named.items()
    ]
    told = [f"  {name}: {one['words'][say('en', 'zh')]}{_changes(one)}" for name, one in named.items()]
    more = beside_lines(found)
    return [f"A: {', '.join(found['first'])}", f"B: {', '.join(found['second'])}", *table_lines(rows), *told, *more]


def _changes(one: Mapping[str, Any]) -> str:
    if one.get("test") != "mcnemar":
        return ""
    return say(
        f"; {one['gained']} rows gained, {one['lost']} lost (McNemar, exact)",
        f"；{one['gained']} 行转对，{one['lost']} 行转错（McNemar 精确检验）",
    )


def _doubts(found: Mapping[str, Any]) -> list[str]:
    """What a reader of the figures must know: rows that were not usable, contamination, or that nobody looked for it."""
    dirt, lines = found["contamination"], list[str]()
    lines += [
        say(f"asked {name}: {one['calls']} calls, ", f"询问 {name}：{one['calls']} 次调用，")
        + say(f"{one['cached']} from the cache", f"{one['cached']} 次来自缓存")
        + (f", ${one['usd']:.4f}" if one["usd"] else "")
        for name, one in found["spent"].items()
    ]
    if found["unusable"]:
        lines.append(say(f"rows that could not be used: {found['unusable']}", f"无法使用的行：{found['unusable']}"))
    if dirt["checked"] and dirt["unknown"]:
        names = ", ".join(dirt["unknown"])
        lines.append(
            say(
                f"not known what was trained on: {names} (--trained-on)",
                f"不知道训练数据的模型：{names}（可用 --trained-on 指明）",
            )
        )
    if count := dirt["counted_in"]:
        lines.append(
            say(f"CONTAMINATED: the training rows show {count} of these rows", f"已污染：训练数据泄露了其中 {count} 行")
        )
    elif count := dirt["rows"]:
        lines.append(say(f"contaminated rows left out: {count}", f"已剔除的受污染数据：{count} 行"))
    elif dirt["checked"]:
        count = dirt["training_rows"]
        lines.append(
            say(f"none of these rows is shown by the {count} training rows", f"{count} 行训练数据均未泄露这些评测数据")
        )
    else:
        lines.append(
            say(
                "contamination not checked: what the model was trained on is not known (--trained-on)",
                "未检查污染：不知道模型的训练数据（可用 --trained-on 指明）",
            )
        )
    return lines


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"
