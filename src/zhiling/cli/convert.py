"""`zhiling convert`: a file of instruction data in another format."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from zhiling.errors import say


def convert(
    file: Annotated[
        Path, typer.Argument(help="JSON, JSONL, Parquet, Arrow... or a folder of these. 数据文件。", metavar="FILE")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The JSONL file to write. 输出文件。")],
    to: Annotated[
        str, typer.Option("--format", help="alpaca, sharegpt, messages, dpo, kto or natural_instructions. 目标格式。")
    ],
    given: Annotated[
        str, typer.Option("--from", help="The file's format; told by its keys if left out. 原格式。")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output. 机器可读输出。")] = False,
) -> None:
    """Turn instruction data into another format; rows it cannot hold are left out and told. 转换指令数据的格式。"""
    from zhiling.export import convert as write

    done = write(file, out, to, given)
    if as_json:
        told = [{"where": where, "why": why} for where, why in done.left_out]
        print(json.dumps({"from": done.form, "format": to, "rows": done.rows, "left_out": told}, ensure_ascii=False))
    else:
        for where, why in done.left_out[:20]:
            print(f"{where}: {why}", file=sys.stderr)
        count, left = done.rows, len(done.left_out)
        print(
            say(
                f"{count} rows of {done.form} written as {to} to {out}; {left} left out",
                f"已把 {count} 行 {done.form} 数据写为 {to} 格式：{out}；{left} 行未写出",
            )
        )
    if done.left_out:
        raise typer.Exit(1)
