"""Tables of SQLite and DuckDB files. Both are opened for reading only: a user's database is never written to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from zhiling.data.files import Row
from zhiling.errors import DataError, say

BATCH = 1024  # rows fetched at a time


def sqlite(path: Path, table: str = "") -> Iterator[Row]:
    """Rows of a table or view, in the order the database keeps them; `table` may be left out where there is only one.

    Raises DataError for what is no SQLite database, and for an unknown table, naming those there are.
    """
    try:
        base = sqlite3.connect(_uri(path), uri=True)
    except sqlite3.Error as error:
        raise _unusable("SQLite", error, path) from error
    try:
        base.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        base.execute("pragma trusted_schema = off")
        listed = (
            "select name from sqlite_master where type in ('table', 'view') and name not like 'sqlite\\_%' escape '\\'"
        )
        names = [name for (name,) in base.execute(f"{listed} order by name")]
        cursor = base.execute(f"select * from {_quoted(_chosen(table, names, path))}")
        columns = [column[0] for column in cursor.description]
        line = 0
        while found := cursor.fetchmany(BATCH):
            for cells in found:
                line += 1
                yield line, dict(zip(columns, cells, strict=True))
    except sqlite3.Error as error:
        raise _unusable("SQLite", error, path) from error
    finally:
        base.close()


def _uri(path: Path) -> str:
    """Read-only. A WAL database that nobody has open is read as it lies: SQLite would else put its own files beside it."""
    with path.open("rb") as file:
        wal = file.read(20)[18:20] == b"\2\2" and not Path(f"{path}-wal").exists()
    return f"file:{quote(str(path.resolve()))}?mode=ro{'&immutable=1' if wal else ''}"


def duckdb(path: Path, table: str = "") -> Iterator[Row]:
    """Rows of a table or view of a DuckDB file; it can reach no other file and load no extension. Raises DataError as `sqlite` does."""
    import duckdb as engine

    try:
        base = engine.connect(str(path), read_only=True)
    except engine.Error as error:
        raise _unusable("DuckDB", error, path) from error
    try:
        base.execute("set enable_external_access = false")
        base.execute("set autoinstall_known_extensions = false")
        listed = "select table_name from information_schema.tables where table_schema = 'main' order by 1"
        names = [name for (name,) in base.execute(listed).fetchall()]
        reader = base.sql(f"select * from {_quoted(_chosen(table, names, path))}").to_arrow_reader(BATCH)
        line = 0
        for batch in reader:
            for row in batch.to_pylist():
                line += 1
                yield line, row
    except engine.Error as error:
        raise _unusable("DuckDB", error, path) from error
    finally:
        base.close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _chosen(table: str, names: Sequence[str], path: Path) -> str:
    if table in names:
        return table
    if not table and len(names) == 1:
        return names[0]
    there = ", ".join(names) or "-"
    what = (
        say(f"no table '{table}'", f"没有名为“{table}”的表")
        if table
        else say(f"{len(names)} tables, and none is named", f"有 {len(names)} 张表，未指定读取哪一张")
    )
    raise DataError(what, where=str(path), mend=say(f"set table: one of {there}", f"请设置 table：{there} 之一"))


def _unusable(kind: str, error: Exception, path: Path) -> DataError:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        say(f"cannot read this as a {kind} database: {said}", f"无法作为 {kind} 数据库读取：{said}"),
        where=str(path),
        mend=say(
            "check the file, and that no other program holds it open for writing",
            "请检查文件，并确认没有其他程序正在写入它",
        ),
    )
