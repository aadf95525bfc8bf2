"""`zhiling score`, `select` and `audit`: the judging rooms on any data set, without a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from zhiling.cli.work import at_work
from zhiling.errors import RecipeError, say

Files = Annotated[
    list[Path],
    typer.Argument(
        help="JSONL, JSON, CSV, Parquet, Arrow, or a folder of these; may be gzipped. 数据文件。", metavar="FILES..."
    ),
]
MaybeFiles = Annotated[
    list[Path] | None,
    typer.Argument(
        help="JSONL, JSON, CSV, Parquet, Arrow, or a folder of these; may be gzipped. 数据文件。", metavar="FILES..."
    ),
]
Out = Annotated[
    Path, typer.Option("-o", "--out", help="The file to write: .jsonl, .json, .csv, .tsv or .parquet. 输出文件。")
]
MaybeOut = Annotated[
    Path | None,
    typer.Option("-o", "--out", help="The file to write: .jsonl, .json, .csv, .tsv or .parquet. 输出文件。"),
]
Run = Annotated[Path | None, typer.Option("--run", help="Folder of the work; default OUT.run. 运行文件夹。")]
Form = Annotated[
    str, typer.Option("--from", help="alpaca, sharegpt, messages, dpo or kto; told by the keys if left out. 数据格式。")
]
Columns = Annotated[
    list[str] | None, typer.Option("--column", help="ours=theirs, such as instruction=question. 列名对应。")
]
With = Annotated[
    list[str] | None,
    typer.Option("--with", help="A step as a recipe writes it: near, or 'top: {rows: 100, by: grammar}'. 步骤。"),
]
Model = Annotated[str, typer.Option("--model", help="For steps that ask one: 'provider: openai, model: ...'. 模型。")]
Task = Annotated[str, typer.Option("--task", help="What the rows are for, in words. 任务说明。")]
Against = Annotated[
    list[Path] | None, typer.Option("--against", help="Evaluation files that no row may leak. 评测集文件。")
]
Workers = Annotated[int | None, typer.Option(help="Processes; default: all cores. 进程数。")]
Engine = Annotated[str, typer.Option(help="local or ray. 引擎。")]
Scorers = Annotated[list[str] | None, typer.Option("--score", help="A scorer; repeat for several. 评分器。")]
Rethreshold = Annotated[
    list[str] | None, typer.Option(help="near=0.86, grammar.min=0.7: no score is computed again. 调整阈值。")
]
Passport = Annotated[
    bool,
    typer.Option(
        "--passport", help="Instead, tell how far each metric can be believed. 不评分，而是列出各指标的证书。"
    ),
]
Test = Annotated[
    bool,
    typer.Option(
        "--self-test",
        help="Plant known defects in rows of FILES and tell how many are found. 植入已知缺陷并统计检出率。",
    ),
]
Pairs = Annotated[
    bool,
    typer.Option(
        "--pairs",
        help="FILES hold chosen and rejected answers: ask --model which is better, in both orders. 成对评审偏好数据。",
    ),
]
Probed = Annotated[
    bool,
    typer.Option(
        "--probe",
        help="Then tune a small model on kept and on random rows, and say whether selection is worth it. 再做小模型对比试验。",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output. 机器可读输出。")]


AGREEING = 20_000
"""Rows up to which a selection tells by itself how far its selectors agree: each of them looks at all rows once more."""


def score(
    files: MaybeFiles = None, out: MaybeOut = None, steps: With = None, run: Run = None, form: Form = "", column: Columns = None,
    model: Model = "", task: Task = "", engine: Engine = "local", workers: Workers = None, self_test: Test = False, passport: Passport = False,
    pairs: Pairs = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Score the rows of a data set; they come back as they were, with a column per score. 为数据集逐行评分。"""
    from zhiling.judging import dataset

    if passport:
        _passports(as_json)
        return
    if not files:
        mend = say("name at least one, or use --passport", "请至少给出一个文件，或使用 --passport")
        raise RecipeError(say("no files", "没有文件"), where="FILES", mend=mend)
    if self_test:
        _self_test(files, form, _pairs(column), as_json)
        return
    if out is None:
        mend = say("add -o FILE, or --self-test", "请加上 -o 文件，或使用 --self-test")
        raise RecipeError(say("no file to write to", "没有指定输出文件"), where="--out", mend=mend)
    if pairs:
        _pairwise(files, out, run or _beside(out), model, form, as_json)
        return
    asked = dataset.Asked(files, _steps(steps) or dataset.SCORE, (), form, _pairs(column), (), task, _models(model))
    found = _work(dataset.score, asked, out, run or _beside(out), engine, workers)
    told = {"rows": found.rows, "quarantined": found.quarantined, "out": str(out), "run": str(found.folder)}
    if as_json:
        print(json.dumps(told, ensure_ascii=False))
        return
    print(
        say(
            f"{found.rows} rows scored ({found.quarantined} unreadable): {out}",
            f"已评分 {found.rows} 行（{found.quarantined} 行无法读取）：{out}",
        )
    )


def select(
    files: Files, out: Out, steps: With = None, scorers: Scorers = None, rethreshold: Rethreshold = None,
    against: Against = None, run: Run = None, form: Form = "", column: Columns = None, model: Model = "",
    task: Task = "", engine: Engine = "local", workers: Workers = None, probed: Probed = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Keep the good rows of a data set; the others go beside OUT with the reason. 筛选数据集，并说明每行的去留。"""
    from zhiling.judging import dataset

    chain = dataset.rethreshold(_steps(steps) or list(dataset.SELECT), rethreshold or [])
    asked = dataset.Asked(
        files, _steps(scorers) or dataset.SCORE, chain, form, _pairs(column), against or (), task, _models(model)
    )
    found = _work(dataset.select, asked, out, run or _beside(out), engine, workers)
    if as_json:
        told = {"rows": found.rows, "kept": found.kept, "states": found.states, "reasons": found.reasons}
        told |= {"out": str(out), "run": str(found.folder)}
        told |= {"agreement": _agreement(found)}
        told |= {"probe": _probe(found.folder)} if probed else {}
        print(json.dumps(told, ensure_ascii=False))
        return
    print(say(f"{found.kept} of {found.rows} rows kept: {out}", f"{found.rows} 行中保留 {found.kept} 行：{out}"))
    for reason, count in sorted(found.reasons.items(), key=lambda pair: -pair[1]):
        print(f"  {reason:<12} {count}")
    print(say(f"why a row went: zhiling why {found.folder} ID", f"查看某行的原因：zhiling why {found.folder} ID"))
    _say_agreement(found)
    if probed:
        from zhiling.proof import probe as room

        print("\n" + "\n".join(room.lines(_probe(found.folder))))


def probe(
    folder: Annotated[
        Path, typer.Argument(help="Folder of a run or of a selection. 运行或筛选的文件夹。", metavar="RUN")
    ],
    model: Annotated[
        str, typer.Option("--model", help="The proxy: embedded, or a model's folder. 代理模型。")
    ] = "embedded",
    tokens: Annotated[int, typer.Option("--tokens", help="Tokens that each tuning sees. 每次调优的词元数。")] = 10_000,
    rows: Annotated[int, typer.Option("--rows", help="Rows evaluated on at most. 评测的最多行数。")] = 200,
    seeds: Annotated[int, typer.Option("--seeds", help="Tunings on either side. 每一侧的调优次数。")] = 3,
    as_json: Json = False,
) -> None:
    """Is selection worth it here? Tune a small model on kept and on random rows of equal tokens. 筛选是否值得：小模型对比试验。"""
    from zhiling.proof import probe as room

    found = _probe(folder, room.Settings(model, tokens, rows, seeds))
    print(json.dumps(found, ensure_ascii=False) if as_json else "\n".join(room.lines(found)))


def audit(
    files: Files, against: Against = None, run: Run = None, form: Form = "", column: Columns = None, engine: Engine = "local",
    workers: Workers = None, as_json: Json = False,
) -> None:  # fmt: skip
    """What is wrong with a data set: defects, duplicates, leaks, personal data, counted and shown. 体检数据集。"""
    from zhiling.judging import audit as room
    from zhiling.judging import dataset

    asked = dataset.Asked(files, dataset.SCORE, (), form, _pairs(column), against or ())
    found = _work(room.audit, asked, None, run or _beside(files[0]), engine, workers)
    print(json.dumps(room.grouped(found), ensure_ascii=False) if as_json else "\n".join(room.lines(found)))


def _agreement(found: Any) -> list[dict[str, Any]] | None:
    """The selectors' agreement; None where they are fewer than two, or too many rows to ask each selector again unasked."""
    from zhiling.errors import DataError
    from zhiling.judging.agreement import selectors

    if found.rows > AGREEING:
        return None
    try:
        return selectors(found.folder)
    except DataError:  # one selector has nobody to agree with
        return None


def _say_agreement(found: Any) -> None:
    from zhiling.judging.agreement import lines

    if told := _agreement(found):
        print("\n" + "\n".join(lines(told)))
    elif found.rows > AGREEING:
        asks = f"zhiling show {found.folder} --agreement"
        print(say(f"how far the selectors agree: {asks}", f"查看各选择器的一致性：{asks}"))


def _probe(folder: Path, settings: Any = None) -> dict[str, Any]:
    from zhiling.proof import probe as room

    with at_work() as meter:
        return room.probe(folder, settings, watch=meter)


def _pairwise(files: list[Path], out: Path, folder: Path, model: str, form: str, as_json: bool) -> None:
    from zhiling.judging import pairs as room

    spec = _models(model).get("model", {"provider": "gguf"})
    with at_work() as meter:
        found = room.judge_pairs(files, out, folder, spec, form=form, watch=meter)
    print(json.dumps(found.told(), ensure_ascii=False) if as_json else "\n".join(room.lines(found, out)))


def _passports(as_json: bool) -> None:
    from zhiling import registry
    from zhiling.judging import passports

    if as_json:
        print(json.dumps({**registry.passports(), "rows": passports.table()}, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    (head, _), *rows = passports.lines()
    table = Table(*head, box=None, header_style="bold", title=say("metric passports", "指标证书"), title_justify="left")
    for texts, known in rows:
        table.add_row(*texts, style=None if known else "bright_black")
    Console().print(table)
    print(
        say(
            "auc and pairs: 0.5 is chance; grey: no passport, a hard filter only with force: true; docs/passports.md says more",
            "auc 与 pairs：0.5 即随机；灰色：没有证书，须写 force: true 才能作硬性过滤；详见 docs/passports.zh.md",
        )
    )


def _self_test(files: list[Path], form: str, columns: dict[str, str], as_json: bool) -> None:
    from zhiling.judging import selftest as room

    found = room.selftest(files, form=form, columns=columns)
    print(json.dumps(found.told(), ensure_ascii=False) if as_json else "\n".join(room.lines(found)))


def _work(verb: Any, asked: Any, out: Path | None, folder: Path, engine: str, workers: int | None) -> Any:
    places = (folder,) if out is None else (out, folder)
    with at_work() as meter:
        return verb(asked, *places, watch=meter, engine=engine, workers=workers)


def _beside(path: Path) -> Path:
    return Path("runs") / f"{path.name}.run"


def _steps(given: list[str] | None) -> list[Any]:
    import yaml

    found = []
    for text in given or []:
        try:
            found.append(yaml.safe_load(text))
        except yaml.YAMLError as error:
            mend = say(
                "write it as a recipe would: 'near: {threshold: 0.9}'", "请按配方的写法：'near: {threshold: 0.9}'"
            )
            raise RecipeError(say(f"cannot read '{text}'", f"无法识别“{text}”"), where="--with", mend=mend) from error
    return found


def _pairs(given: list[str] | None) -> dict[str, str]:
    pairs = [item.partition("=") for item in given or []]
    wrong = [name for name, equals, theirs in pairs if not equals or not theirs]
    if wrong:
        raise RecipeError(
            say(f"not ours=theirs: {wrong[0]}", f"不是“我方列名=文件列名”的形式：{wrong[0]}"), where="--column"
        )
    return {name: theirs for name, _, theirs in pairs}


def _models(given: str) -> dict[str, dict[str, Any]]:
    if not given:
        return {}
    (spec,) = _steps(["{" + given + "}"])
    return {"model": dict(spec)}
