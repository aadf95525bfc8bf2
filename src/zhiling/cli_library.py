"""`zhiling template ...` and `zhiling bank ...`: the library of templates and the instruction database from the command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from zhiling.errors import DataError, say

template = typer.Typer(no_args_is_help=True, help="The library of instruction templates. 指令模板库。")
bank = typer.Typer(no_args_is_help=True, help="The instruction database. 指令数据库。")

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output. 机器可读输出。")]
BankFolder = Annotated[str, typer.Option("--bank", "-b", help="A bank's folder; default: the shipped seeds. 指令库。")]


@template.command("list")
def list_templates(
    family: Annotated[str | None, typer.Option(help="Only this family. 只看某一族。")] = None, as_json: Json = False
) -> None:
    """The shipped definitions. 列出自带模板。"""
    from zhiling.construct.library import list_definitions
    from zhiling.show import show_table

    rows = [
        {
            "id": d.id,
            "family": d.family,
            "langs": ",".join(d.langs),
            "fields": ", ".join(d.fields),
            "phrasings": len(d.phrasings),
        }
        for d in list_definitions(family)
    ]
    show_table(rows, as_json)


@template.command("show")
def show_template(
    name: Annotated[str, typer.Argument(help="A definition's id or YAML file. 模板 id 或文件。")],
) -> None:
    """A definition with every phrasing, rendered with its example. 查看一个模板的全部措辞。"""
    from zhiling.construct.library_check import show

    print(show(_definition(name)))


@template.command("render")
def render_template(
    text: Annotated[str, typer.Argument(help="A text with {slots}. 带 {空位} 的文本。")],
    values: Annotated[list[str], typer.Argument(help="name=value ... 空位名=值", metavar="NAME=VALUE")],
) -> None:
    """Fill a plain text such as '将句子翻译成{语言}：{句子}'. 填充一段模板文本。"""
    from zhiling.construct.template import from_format, render

    pairs = [value.partition("=") for value in values]
    wrong = [name for name, equals, _ in pairs if not equals]
    if wrong:
        raise DataError(say(f"not name=value: {wrong[0]}", f"不是“名=值”的形式：{wrong[0]}"), where="template render")
    print(render(from_format(text), {name: value for name, _, value in pairs}))


@template.command("check")
def check_templates(
    files: Annotated[list[Path], typer.Argument(help="YAML files. 模板文件。")], as_json: Json = False
) -> None:
    """Lint definitions: undeclared variables, unused fields, leaked answers, near-duplicates, mixed languages. 检查模板。"""
    from zhiling.construct.library_check import check

    found = [finding for file in files for finding in check(file)]
    if as_json:
        print(json.dumps([asdict(finding) for finding in found], ensure_ascii=False, indent=1))
    else:
        print("\n".join(str(finding) for finding in found) or say("in order", "没有问题"))
    if any(finding.level == "error" for finding in found):
        raise typer.Exit(2)


@bank.command("search")
def search_bank(
    query: Annotated[str, typer.Argument(help="What to look for, zh or en. 查询内容。")],
    folder: BankFolder = "seeds",
    k: Annotated[int, typer.Option("-k", help="How many. 条数。")] = 5,
    family: Annotated[str | None, typer.Option(help="Only this family. 只看某一族。")] = None,
    lang: Annotated[str | None, typer.Option(help="Only this language. 只看某种语言。")] = None,
    as_json: Json = False,
) -> None:
    """The nearest instructions, each with its keyword and vector part. 检索最相近的指令。"""
    from zhiling.show import show_table

    hits = _open(folder).search(query, k, family=family, lang=lang)
    if as_json:
        print(json.dumps([asdict(hit) for hit in hits], ensure_ascii=False, indent=1))
        return
    rows = [
        {
            "score": hit.score, "keyword": hit.keyword, "vector": hit.vector, "terms": " ".join(hit.terms), "id": hit.row.id,
            "family": hit.row.family, "instruction": hit.row.instruction,
        }
        for hit in hits
    ]  # fmt: skip
    show_table(rows, False)


@bank.command("add")
def add_to_bank(
    folder: Annotated[Path, typer.Argument(help="The bank's folder; made if new. 指令库文件夹。", metavar="BANK")],
    files: Annotated[
        list[Path], typer.Argument(help="JSONL, JSON, CSV or Parquet with an instruction column. 数据文件。")
    ],
    licence: Annotated[str, typer.Option(help="Licence of rows that state none. 许可证。")] = "",
    source: Annotated[str, typer.Option(help="Where they come from. 来源。")] = "",
    unlicensed: Annotated[bool, typer.Option(help="Take rows without a licence. 允许没有许可证的数据。")] = False,
) -> None:
    """Add rows to a bank: all of a file or none of it. 向指令库添加数据。"""
    from zhiling.construct.bank import Bank
    from zhiling.data import rows as raw
    from zhiling.embed import Use

    here = Bank.open(folder, Use()) if folder.is_dir() and any(folder.iterdir()) else Bank.create(folder, Use())
    for file in files:
        lines = [row for _, row in raw(file)]
        given = [row for row in lines if not isinstance(row, str)]
        done = here.add(given, licence=licence, source=source or file.name, allow_unlicensed=unlicensed)
        refused = len(done.refused) + len(lines) - len(given)
        print(
            say(
                f"{file.name}: {done.added} added, {done.duplicates} there already, {refused} unreadable or refused",
                f"{file.name}：添加 {done.added} 行，已有 {done.duplicates} 行，无法读取或被拒绝 {refused} 行",
            )
        )


@bank.command("info")
def bank_info(folder: BankFolder = "seeds", as_json: Json = False) -> None:
    """What is in a bank. 查看指令库内容。"""
    from zhiling.show import show_table

    show_table(_open(folder).info(), as_json)


@bank.command("export")
def export_bank(
    out: Annotated[Path, typer.Argument(help="The JSONL to write. 输出文件。")], folder: BankFolder = "seeds"
) -> None:
    """All rows of a bank as JSON lines. 导出指令库。"""
    count = _open(folder).export(out)
    print(say(f"{count} rows written to {out}", f"已写出 {count} 行：{out}"))


def _definition(name: str) -> Any:
    from zhiling.construct.library import list_definitions, load_definition

    if name.endswith((".yaml", ".yml")):
        return load_definition(name)
    for definition in list_definitions():
        if definition.id == name:
            return definition
    mend = say("zhiling template list shows them", "用 zhiling template list 查看")
    raise DataError(say(f"no template '{name}'", f"没有模板“{name}”"), mend=mend)


def _open(folder: str) -> Any:
    from zhiling.construct.bank import Bank
    from zhiling.embed import Use

    if folder == "seeds":
        from zhiling.construct.bank import shipped

        return shipped(Use())
    return Bank.open(folder, Use())
