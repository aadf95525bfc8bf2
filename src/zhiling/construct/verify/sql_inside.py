"""Runs one query inside the cage, on a database that it can only read. Imports nothing of ours; sent to the cage as text.

Reads {"file", "script", "dialect", "query", "shown", "rows", "seconds", "memory"} from standard input and prints {"columns", "sample",
"count", "more", "empty", "bag", "order", "bare", "error", "kind"}. SQLite is opened read-only and immutable with an authorizer that
knows reading only; DuckDB read-only with every access to the outside shut and its settings locked.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import sys
import time
from typing import Any

CELL = 200  # characters of a cell that are shown
LONGEST = 10_000_000  # bytes of one value
READING = {"select", "with", "values", "from", "("}


def main() -> None:
    """Run the query of standard input and print what came of it."""
    job = json.load(sys.stdin)
    out: dict[str, Any] = {"error": "", "kind": "", "bare": False}
    try:
        if first_word(job["query"]) not in READING:
            raise PermissionError(
                f"only reading is allowed, this begins with {first_word(job['query']).upper() or '-'}"
            )
        out |= (in_duckdb if job["dialect"] == "duckdb" else in_sqlite)(job)
    except Exception as error:
        out |= {"error": str(error).strip().split("\n")[0][:400], "kind": type(error).__name__}
    print("\n" + json.dumps(out, ensure_ascii=True))  # on a line of its own: an engine may print too


def first_word(query: str) -> str:
    """The first word of a statement, past comments."""
    bare = re.sub(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", "", query, flags=re.DOTALL)
    found = re.match(r"\(|[A-Za-z]+", bare)
    return found.group().lower() if found else ""


def in_sqlite(job: dict[str, Any]) -> dict[str, Any]:
    """The query's rows from a SQLite file, or from what a script of CREATE and INSERT makes."""
    if job["script"]:
        db = sqlite3.connect(":memory:", isolation_level=None)
        db.executescript(job["script"])
    else:
        name = job["file"].replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        db = sqlite3.connect(f"file:{name}?mode=ro&immutable=1", uri=True, isolation_level=None)
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    for setting in (
        f"hard_heap_limit={job['memory'] << 20}",
        "temp_store=2",
        "mmap_size=0",
        "query_only=1",
        "trusted_schema=0",
    ):
        db.execute(f"pragma {setting}")
    bare = (
        not any(db.execute(f'select 1 from "{t}" limit 1').fetchone() for t in tables(db)) if job["script"] else False
    )
    guard(db, job["seconds"])
    if job["shown"]:
        check_shown(job["shown"], job["query"], job["seconds"])
    return {**fetched(db.execute(job["query"]), job["rows"]), "bare": bare}


def tables(db: sqlite3.Connection) -> list[str]:
    """The names of the tables, quotes doubled."""
    return [str(name).replace('"', '""') for (name,) in db.execute("select name from sqlite_master where type='table'")]


def guard(db: sqlite3.Connection, seconds: float) -> None:
    """Nothing but reading from here on, no big values, an end after `seconds`."""
    for what, most in (
        (sqlite3.SQLITE_LIMIT_LENGTH, LONGEST), (sqlite3.SQLITE_LIMIT_ATTACHED, 0), (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
        (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 100_000), (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000),
    ):  # fmt: skip
        db.setlimit(what, most)
    reading = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
    banned = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}

    def allow(action: int, one: str | None, two: str | None, *_: object) -> int:
        fine = action in reading or (action == sqlite3.SQLITE_FUNCTION and (two or "").lower() not in banned)
        return sqlite3.SQLITE_OK if fine else sqlite3.SQLITE_DENY

    db.set_authorizer(allow)
    end = time.monotonic() + seconds
    db.set_progress_handler(lambda: time.monotonic() > end, 10_000)


def check_shown(shown: str, query: str, seconds: float) -> None:
    """Raise where the query needs a table or column that the row does not show: an answer that cannot be learnt from the question."""
    seen = sqlite3.connect(":memory:", isolation_level=None)
    try:
        seen.executescript(shown)
    except sqlite3.Error:
        return  # the row shows its schema in words, or in another dialect
    guard(seen, seconds)
    try:
        seen.execute(f"explain {query}")
    except sqlite3.OperationalError as error:
        if str(error).startswith("no such"):
            raise LookupError(f"not in the schema that the row shows: {error}") from error


def in_duckdb(job: dict[str, Any]) -> dict[str, Any]:
    """The query's rows from a DuckDB file, or from what a script makes."""
    import threading

    import duckdb

    db = duckdb.connect(":memory:" if job["script"] else job["file"], read_only=not job["script"])
    try:
        for setting in (
            "threads=1", "enable_progress_bar=false", f"memory_limit='{job['memory'] // 2}MB'", "temp_directory=''",
            "max_temp_directory_size='0B'", "autoinstall_known_extensions=false", "autoload_known_extensions=false",
            "allow_community_extensions=false",
        ):  # fmt: skip
            db.execute(f"set {setting}")
        if job["script"]:
            db.execute(job["script"])
        db.execute("set enable_external_access=false")
        db.execute("set lock_configuration=true")
        if len(duckdb.extract_statements(job["query"])) != 1:
            raise PermissionError("one statement at a time")
        watch = threading.Timer(job["seconds"], db.interrupt)
        watch.daemon = True
        watch.start()
        try:
            return fetched(db.execute(job["query"]), job["rows"])
        finally:
            watch.cancel()
    finally:
        db.close()


def fetched(cursor: Any, most: int) -> dict[str, Any]:
    """What a cursor gives: columns, the first rows, how many (at most `most`), whether they say nothing."""
    if cursor.description is None:
        raise PermissionError("this is no query: it gives no rows")
    count, sample, said = 0, [], False
    bag, order = 0, hashlib.blake2b(digest_size=16)
    while count <= most and (row := cursor.fetchone()) is not None:
        count += 1
        said = said or any(cell is not None for cell in row)
        line = json.dumps([plain(cell) for cell in row]).encode("ascii")
        bag = (bag + int.from_bytes(hashlib.blake2b(line, digest_size=16).digest())) % (1 << 128)
        order.update(line)
        if count <= 3:
            sample.append([None if cell is None else str(cell)[:CELL] for cell in row])
    names = [str(column[0]) for column in cursor.description]
    return {
        "columns": names,
        "sample": sample,
        "count": min(count, most),
        "more": count > most,
        "empty": not said,
        "bag": f"{bag:x}",
        "order": order.hexdigest(),
    }


def plain(cell: Any) -> Any:
    """A cell for telling equal results: 2.0 is 2, and floats count to 9 digits."""
    if isinstance(cell, bool | int) or cell is None:
        return cell if cell is None else int(cell)
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() else f"{cell:.9g}"
    return str(cell)


main()
