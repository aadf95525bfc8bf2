"""From a path to its rows: which reader a file wants, and what a folder or database is made of."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from zhiling.errors import DataError, say

Row: TypeAlias = tuple[int, Mapping[str, Any] | str]
"""(line or row number, the row's fields), or (number, why the row is unreadable)."""

MAX_FIELD = 16 * 1024 * 1024
"""Longest field, in characters."""

READERS: dict[str, str] = {
    "csv": "delimited:csv_rows", "tsv": "delimited:tsv_rows", "jsonl": "jsons:jsonl", "json": "jsons:json_rows",
    "parquet": "arrows:parquet", "arrow": "arrows:arrow", "srt": "subtitles:cues", "vtt": "subtitles:cues", "ass": "subtitles:ass",
    "md": "documents:markdown", "txt": "documents:plain", "passages": "documents:passages", "html": "documents:passages",
    "pdf": "documents:passages", "docx": "documents:passages",
}  # fmt: skip
"""Readers of files: fn(path) yields Rows."""

TABLES: dict[str, str] = {"sqlite": "databases:sqlite", "duckdb": "databases:duckdb"}
"""Readers of databases: fn(path, table) yields Rows."""

FORMATS = ("alpaca", "sharegpt", "messages", "dpo", "kto", "natural_instructions", "self_instruct")
"""What the rows of a JSON, Parquet, ... file may mean: see `formats`."""

_ALIKE = {
    "ndjson": "jsonl", "jsonlines": "jsonl", "markdown": "md", "text": "txt", "pq": "parquet", "feather": "arrow", "ipc": "arrow",
    "htm": "html", "xhtml": "html", "db": "sqlite", "sqlite3": "sqlite", "db3": "sqlite", "ddb": "duckdb", "ssa": "ass", "tab": "tsv",
}  # fmt: skip


def kinds() -> list[str]:
    """Every `format` that a recipe may name."""
    return sorted([*READERS, *TABLES, *FORMATS])


@dataclass(frozen=True, slots=True)
class Part:
    """One file, or one table of a database: what it is called in messages and lineage, and how to read it."""

    name: str
    path: Path
    kind: str
    table: str = ""

    def rows(self) -> Iterator[Row]:
        """Its raw rows."""
        if self.kind in FORMATS:
            from zhiling.data.formats import rows as instruction_rows

            base = _kind_of(self.path)
            yield from instruction_rows(self.kind, _reader(READERS[base if base in READERS else "json"])(self.path))
        elif self.kind in TABLES:
            yield from _reader(TABLES[self.kind])(self.path, self.table)
        elif READERS[self.kind] == "documents:passages":
            yield from _reader(READERS[self.kind])(self.path, self.name)
        else:
            yield from _reader(READERS[self.kind])(self.path)


def parts(path: Path, format: str = "", table: str = "", where: str = "") -> list[Part]:
    """What there is to read at a path: a file, a database's table, or the files of a folder.

    Raises DataError for a path that is not there or a format that is not known.
    """
    if not path.exists():
        raise DataError(
            say("no such file", "文件不存在"), where=where or str(path), mend=say("check the path", "请检查路径")
        )
    if path.is_dir():
        from zhiling.data import documents, folders

        if format == "passages" or (not format and documents.alone(path)):
            read = documents.readable(path)
            return [Part(f"{path.name}/{file.relative_to(path).as_posix()}", file, "passages") for file in read]
        data = [kind for kind, reader in READERS.items() if reader != READERS["passages"]]
        files = folders.parts(path, table, [*data, *(name for name in _ALIKE if _ALIKE[name] in data)])
        return [
            Part(f"{path.name}/{file.relative_to(path).as_posix()}", file, _known(format, file, where))
            for file in files
        ]
    kind = _known(format, path, where)
    if table and kind not in TABLES:
        raise DataError(
            say("'table' is for databases and for folders with splits", "table 只用于数据库和分好划分的文件夹"),
            where=where or str(path),
            mend=say("remove it", "请删去"),
        )
    return [Part(f"{path.name}:{table}" if table else path.name, path, kind, table)]


def rows(path: Path, format: str = "", where: str = "", table: str = "") -> Iterator[Row]:
    """The raw rows at a path with their numbers (lines, or rows counted from 1), unreadable ones as text that says why.

    Raises DataError as `parts` does, at once.
    """
    found = parts(path, format, table, where)
    return (row for part in found for row in part.rows())


def _known(format: str, path: Path, where: str) -> str:
    kind = format or _kind_of(path)
    kind = _ALIKE.get(kind, kind)
    if kind in READERS or kind in TABLES or kind in FORMATS:
        return kind
    raise DataError(
        say(f"cannot tell how to read this file (format '{kind}')", f"无法识别文件格式（“{kind}”）"),
        where=where or str(path),
        mend=say(f"set format: one of {', '.join(kinds())}", f"请设置 format：{'、'.join(kinds())} 之一"),
    )


def _kind_of(path: Path) -> str:
    suffixes = [suffix.lower().lstrip(".") for suffix in path.suffixes]
    if suffixes and suffixes[-1] == "gz":
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    return _ALIKE.get(kind, kind)


def _reader(named: str) -> Callable[..., Iterator[Row]]:
    module, _, name = named.partition(":")
    found: Callable[..., Iterator[Row]] = getattr(importlib.import_module(f"zhiling.data.{module}"), name)
    return found
