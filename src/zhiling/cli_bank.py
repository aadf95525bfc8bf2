"""`zhiling bank ...`: the instruction database from the command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from zhiling.errors import say

bank = typer.Typer(no_args_is_help=True, help="The instruction database. 指令数据库。")

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output. 机器可读输出。")]
BankFolder = Annotated[str, typer.Option("--bank", "-b", help="A bank's folder; default: the shipped seeds. 指令库。")]


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


def _open(folder: str) -> Any:
    from zhiling.construct.bank import Bank
    from zhiling.embed import Use

    if folder == "seeds":
        from zhiling.construct.bank import shipped

        return shipped(Use())
    return Bank.open(folder, Use())
