"""What tables a database has: read from SQLite, DuckDB, a script, or the text of a row. Every way in which a file may fail us has its words."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from zhiling.errors import DataError, say
from zhiling.text import normalise

_text, _inner = r"'(?:[^']|'')*'", r"\([^()]*\)"
_create = re.compile(
    rf"\bcreate\s+(?:temp(?:orary)?\s+)?table\b[^;]*?\((?:[^()']|{_text}|\((?:[^()']|{_text}|{_inner})*\))*\)",
    re.IGNORECASE,
)
_brief = re.compile(r"(\w+)\s*[（(]\s*([\w ]+(?:\s*[,，、]\s*[\w ]+)*)\s*[)）]")
_mark = re.compile(
    r"(?:\b(?:schema|tables?)|表结构|数据库模式|表)\s*[:：](.*?)(?:\n\s*\n|\bquestion\b|问题|\Z)",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name and type, and some of its values as text, where they were looked at."""

    name: str
    type: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """A foreign key: `table`.`column` points to `other`.`key`."""

    table: str
    column: str
    other: str
    key: str


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of a database in its order: {name: columns}, the links between them, and the dialect that they speak."""

    tables: dict[str, tuple[Column, ...]]
    links: tuple[Link, ...] = ()
    dialect: str = "sqlite"

    def is_table(self, name: str) -> bool:
        """Whether a table is called so, case apart."""
        return normalise(name) in {normalise(table) for table in self.tables}

    def has(self, name: str) -> bool:
        """Whether a table or column is called so ("name" or "table.name"), case apart."""
        last = normalise(name.rpartition(".")[2])
        return self.is_table(name) or any(
            last == normalise(column.name) for columns in self.tables.values() for column in columns
        )

    @property
    def script(self) -> str:
        """The tables as CREATE statements: how a row shows them, and what a query can be checked against."""
        out = []
        for table, columns in self.tables.items():
            lines = [f"  {quoted(column.name)}{' ' + column.type if column.type else ''}" for column in columns]
            lines += [
                f"  FOREIGN KEY ({quoted(link.column)}) REFERENCES {quoted(link.other)}({quoted(link.key)})"
                for link in self.links
                if link.table == table
            ]
            out.append(f"CREATE TABLE {quoted(table)} (\n" + ",\n".join(lines) + "\n);")
        return "\n".join(out)

    def without(self, table: str, column: str) -> Schema:
        """The schema as it would be if a column did not exist, nor a link over it."""
        tables = {
            name: tuple(c for c in columns if (name, c.name) != (table, column))
            for name, columns in self.tables.items()
        }
        links = tuple(
            link for link in self.links if (table, column) not in ((link.table, link.column), (link.other, link.key))
        )
        return Schema(tables, links, self.dialect)


_word = re.compile(
    r"select|from|where|group|order|by|limit|index|table|join|left|right|inner|outer|on|as|and|or|not|null|values|key|primary|references"
    r"|check|default|unique|case|when|then|else|end|union|all|distinct|having|in|is|like|between|exists|set|update|insert|delete|create|drop"
    r"|transaction|to|with|using|natural|cross|full|desc|asc|offset|foreign|constraint|if|except|intersect|begin|commit",
    re.IGNORECASE,
)


def quoted(name: str) -> str:
    """A name as SQL takes it: in double quotes where it needs them."""
    plain = re.fullmatch(r"[^\W\d]\w*", name) and not _word.fullmatch(name)
    return name if plain else '"' + name.replace('"', '""') + '"'


def read_schema(file: Path, values: int = 0) -> Schema:
    """The schema of a database file or of a script (.sql), with up to `values` distinct values a column.

    Raises DataError for a file that is missing, locked, no database, half written, or without tables.
    """
    if not file.exists():
        raise DataError(
            say("there is no such database", "没有这个数据库文件"),
            where=str(file),
            mend=say("name the file", "请检查路径"),
        )
    stat = file.stat()
    return _read(file.resolve(), values, (stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=64)
def _read(file: Path, values: int, _: tuple[int, int]) -> Schema:
    if file.is_dir():
        mend = say("name one file", "请指明一个文件")
        raise DataError(say("this is a folder, not a database", "这是文件夹，不是数据库"), where=str(file), mend=mend)
    if file.suffix.lower() == ".sql":
        schema = _of_script(file, values)
    else:
        with file.open("rb") as opened:
            head = opened.read(16)
        schema = _of_duckdb(file, values) if head[8:12] == b"DUCK" else _of_sqlite(file, values)
    if not schema.tables:
        raise DataError(
            say("the database has no tables", "数据库中没有表"), where=str(file),
            mend=say("queries need tables to ask about: check that this is the right file", "查询需要表：请确认文件是否正确"),
        )  # fmt: skip
    return schema


def _unreadable(file: Path, error: Exception) -> DataError:
    """Why an engine could not open a file, in our words."""
    said = str(error).split("\n")[0]
    if "lock" in said.lower() or "busy" in said:
        mend = say("close the program that holds it, or work on a copy", "请关闭占用它的程序，或使用副本")
        return DataError(say("the database is locked", "数据库被锁定"), where=str(file), mend=mend)
    mend = say(
        "a SQLite or DuckDB file, or a script (.sql) of CREATE TABLE",
        "需要 SQLite 或 DuckDB 文件，或 CREATE TABLE 脚本（.sql）",
    )
    return DataError(say(f"this is no database: {said}", f"不是数据库：{said}"), where=str(file), mend=mend)


def _of_sqlite(file: Path, values: int) -> Schema:
    journal = file.with_name(file.name + "-wal")
    if journal.exists() and journal.stat().st_size:
        raise DataError(
            say("a program is writing to this database: its newest rows are not in the file", "有程序正在写入，最新内容还不在文件里"),
            where=str(file), mend=say("close it, or copy: sqlite3 FILE '.backup COPY'", "请关闭它，或备份：sqlite3 文件 '.backup 副本'"),
        )  # fmt: skip
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=2.0)) as db:
            return _from_sqlite(db, values)
    except sqlite3.Error as error:
        raise _unreadable(file, error) from error


def _from_sqlite(db: sqlite3.Connection, values: int) -> Schema:
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    tables: dict[str, tuple[Column, ...]] = {}
    links: list[Link] = []
    asked = "select name from sqlite_master where type in ('table', 'view') and substr(name, 1, 7) <> 'sqlite_' order by rowid"
    names = [name for (name,) in db.execute(asked)]
    for name in names:
        columns = db.execute("select name, type from pragma_table_info(?)", (name,)).fetchall()
        seen = [_values(db, name, column, values) for column, _ in columns]
        tables[name] = tuple(Column(column, kind, some) for (column, kind), some in zip(columns, seen, strict=True))
        for column, other, key in db.execute('select "from", "table", "to" from pragma_foreign_key_list(?)', (name,)):
            links.append(Link(name, column, other, key or column))
    return Schema(tables, tuple(link for link in links if link.other in tables))


def _values(db: Any, table: str, column: str, most: int) -> tuple[str, ...]:
    """Some values of a column, the same each time: the smallest, since an order that nobody asked for may change."""
    if not most:
        return ()
    place = '"' + column.replace('"', '""') + '"'
    asked = f'select distinct {place} from "{table.replace(chr(34), chr(34) * 2)}" where {place} is not null order by 1 limit {int(most)}'
    return tuple(str(value) for (value,) in db.execute(asked).fetchall() if not isinstance(value, bytes))


def _of_duckdb(file: Path, values: int) -> Schema:
    import duckdb

    try:
        with closing(duckdb.connect(str(file), read_only=True, config={"enable_external_access": "false"})) as db:
            return _from_duckdb(db, values)
    except duckdb.Error as error:
        raise _unreadable(file, error) from error


def _from_duckdb(db: Any, values: int) -> Schema:
    found: dict[str, list[Column]] = {}
    asked = "select table_name, column_name, data_type from duckdb_columns() where not internal order by table_oid, column_index"
    for table, column, kind in db.execute(asked).fetchall():
        found.setdefault(table, []).append(Column(column, kind, _values(db, table, column, values)))
    links = [
        Link(table, columns[0], other, keys[0])
        for table, columns, other, keys in db.execute(
            "select table_name, constraint_column_names, referenced_table, referenced_column_names from duckdb_constraints() "
            "where constraint_type = 'FOREIGN KEY' order by table_oid, constraint_index"
        ).fetchall()
    ]
    return Schema({name: tuple(columns) for name, columns in found.items()}, tuple(links), "duckdb")


def _of_script(file: Path, values: int) -> Schema:
    """The tables that a script makes. Only its CREATE TABLE and INSERT are obeyed: it is data, not a program."""
    try:
        return _made(file.read_text(encoding="utf-8-sig"), values)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise DataError(
            say(f"the script cannot be read: {error}", f"无法读取脚本：{error}"), where=str(file),
            mend=say("CREATE TABLE and INSERT as SQLite takes them are read", "支持 SQLite 语法的 CREATE TABLE 与 INSERT"),
        ) from error  # fmt: skip


_making = frozenset(
    getattr(sqlite3, f"SQLITE_{name}")
    for name in [
        "CREATE_TABLE",
        "CREATE_INDEX",
        "CREATE_VIEW",
        "INSERT",
        "READ",
        "SELECT",
        "FUNCTION",
        "TRANSACTION",
        "UPDATE",
        "REINDEX",
    ]
)


def _made(script: str, values: int) -> Schema:
    with closing(sqlite3.connect(":memory:")) as db:
        db.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _making else sqlite3.SQLITE_DENY)
        steps = iter(range(100_000))  # of a thousand instructions each: no script of tables needs more
        db.set_progress_handler(lambda: next(steps, None) is None, 1000)
        db.executescript(script)
        db.set_authorizer(None)
        return _from_sqlite(db, values)


def shown_schema(text: str) -> Schema | None:
    """The schema that a text shows, as CREATE TABLE statements or in brief, "book(id, title)"; None where it shows none."""
    made = _create.findall(text)
    if made:
        try:
            return _made(";\n".join(made), 0)
        except sqlite3.Error:
            return None
    found = _mark.search(text)
    brief = {
        name: tuple(Column(column.strip()) for column in re.split(r"[,，、]", columns))
        for name, columns in _brief.findall(found[1] if found else "")
    }
    return Schema(_sound(brief)) if brief else None


def _sound(brief: dict[str, tuple[Column, ...]]) -> dict[str, tuple[Column, ...]]:
    return {name: columns for name, columns in brief.items() if len({c.name.lower() for c in columns}) == len(columns)}
