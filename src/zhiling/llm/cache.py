"""The reply cache: every reply that was paid for is on disk before anything is computed from it.

One SQLite file in WAL mode. Any number of processes may read and write it; within a process one thread writes, and commits
together whatever arrived while it was busy (group commit). A `put` returns after its commit, so a process killed at any moment has
lost no reply that anybody saw. Prompts are not stored, only their hash; a file copied to another machine serves there.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from zhiling.errors import EngineError, ZhilingError, boundary, say
from zhiling.text import valid
from zhiling.types import Reply, Usage

APPLICATION = 0x7A686C67  # "zhlg": tells our file from any other SQLite file
VERSION = 1
BUSY_SECONDS = 60.0
GATHER_SECONDS = 0.05  # a commit waits this long for company, unless someone waits for it
REFRESH_SECONDS = 1.0
GROUP, ROWS = 1024, 64

_schema = """
CREATE TABLE IF NOT EXISTS replies (
  key TEXT PRIMARY KEY, model TEXT NOT NULL, text TEXT NOT NULL, finish TEXT NOT NULL, label TEXT NOT NULL,
  prompt_tokens INTEGER, completion_tokens INTEGER, logprobs TEXT, seconds REAL NOT NULL, usd REAL, created REAL NOT NULL);
"""
_insert, _marks = "INSERT OR IGNORE INTO replies VALUES ", "(?,?,?,?,?,?,?,?,?,?,?)"
_select = (
    "SELECT text, finish, label, prompt_tokens, completion_tokens, logprobs, seconds, usd FROM replies WHERE key=?"
)


Then: TypeAlias = Callable[[ZhilingError | None], None]


class _Put(NamedTuple):
    row: tuple[Any, ...]
    loop: asyncio.AbstractEventLoop
    then: Then


class _Known:
    """Which keys the file may hold: a Bloom filter of 8 MB, so that a reply that is not there costs no reading.

    Two bits per key: of a million keys asked in vain one in a thousand is looked for in the file all the same.
    """

    BITS = 1 << 26

    def __init__(self) -> None:
        self._bits = bytearray(self.BITS // 8)
        self._last, self._due = 0, 0.0

    def __contains__(self, key: str) -> bool:
        a, b = self._places(key)
        return bool(self._bits[a >> 3] >> (a & 7) & 1 and self._bits[b >> 3] >> (b & 7) & 1)

    def add(self, key: str) -> None:
        for place in self._places(key):
            self._bits[place >> 3] |= 1 << (place & 7)

    def refresh(self, connection: sqlite3.Connection) -> None:
        """Take in what has been added to the file, at most once in REFRESH_SECONDS."""
        now = time.monotonic()
        if now < self._due:
            return
        newest = connection.execute("SELECT max(rowid) FROM replies").fetchone()[0] or 0
        if newest < self._last:  # the file was pruned, which numbers its rows anew
            self._last = 0
        if newest > self._last:
            for (key,) in connection.execute("SELECT key FROM replies WHERE rowid > ?", (self._last,)):
                self.add(key)
            self._last = newest
        self._due = time.monotonic() + REFRESH_SECONDS

    def _places(self, key: str) -> tuple[int, int]:
        number = hash(key)  # of this process only, as the filter is
        return number & (self.BITS - 1), number >> 32 & (self.BITS - 1)


class ReplyCache:
    """Replies by request key, in one file. Safe for threads and for processes.

    A forked child opens its own connections; fork before the parent writes, or open the file in the child."""

    def __init__(self, path: Path | str) -> None:
        """Open or make the file. Raises EngineError when it is not a reply cache, is damaged, or cannot be written."""
        self.path = Path(path)
        self._lock = threading.Lock()
        self._pid = 0
        self._reader: sqlite3.Connection | None = None
        self._inherited: sqlite3.Connection | None = None
        self._known = _Known()
        self._puts: queue.SimpleQueue[_Put | None] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._writer: threading.Thread | None = None
        with self._trouble():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection()

    def __repr__(self) -> str:
        return f"ReplyCache({str(self.path)!r})"

    def get(self, key: str) -> Reply | None:
        """The reply kept under a key, marked `cached`, or None. What another process keeps is seen within REFRESH_SECONDS."""
        try:
            with self._lock:
                connection = self._connection()
                self._known.refresh(connection)
                row = connection.execute(_select, (key,)).fetchone() if key in self._known else None
        except sqlite3.Error as error:
            raise _classified(error, self.path) from error
        if row is None:
            return None
        text, finish, label, prompt, completion, logprobs, seconds, usd = row
        pairs = tuple((token, value) for token, value in json.loads(logprobs)) if logprobs else ()
        return Reply(text, finish, label, Usage(prompt, completion), pairs, seconds, usd, cached=True, key=key)

    async def put(self, key: str, model: str, reply: Reply) -> None:
        """Keep a reply; returns after the commit. `model` is the provider's identity. The first reply kept under a key stays.

        Raises EngineError when the disk is full or the file has become unusable.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def then(error: ZhilingError | None) -> None:
            if not done.done():  # else the caller was cancelled
                done.set_result(None) if error is None else done.set_exception(error)

        self.put_soon(key, model, reply, then)
        self.hurry()
        await done

    def put_soon(self, key: str, model: str, reply: Reply, then: Then) -> None:
        """Begin to keep a reply; `then` is called in this event loop after the commit, with the error where there was one.

        The commit gathers company for GATHER_SECONDS; `hurry` makes it go ahead.
        """
        self._start_writer()
        self._puts.put(_Put(_row(key, model, reply), asyncio.get_running_loop(), then))

    def hurry(self) -> None:
        """Someone waits for what was put: commit it now."""
        self._hurry.set()

    def info(self) -> dict[str, Any]:
        """Rows, bytes on disk, time span, and per model its rows, tokens and the dollars that were paid (None: a price unknown)."""
        with self._trouble(), self._lock:
            connection = self._connection()
            total, first, last = connection.execute(
                "SELECT count(*), min(created), max(created) FROM replies"
            ).fetchone()
            per_model = connection.execute(
                "SELECT model, count(*), sum(prompt_tokens), sum(completion_tokens), CASE WHEN count(usd)=count(*) THEN sum(usd) END"
                " FROM replies GROUP BY model ORDER BY model"
            ).fetchall()
        names = ("model", "replies", "prompt_tokens", "completion_tokens", "usd")
        size = sum(file.stat().st_size for suffix in ("", "-wal") if (file := Path(f"{self.path}{suffix}")).exists())
        models = [dict(zip(names, row, strict=True)) for row in per_model]
        return {"path": str(self.path), "replies": total, "bytes": size, "first": first, "last": last, "models": models}

    def prune(self, older_than_days: float | None = None, model: str = "", *, dry: bool = False) -> int:
        """Forget the replies that are older than that and of that model (its identity or its short name), and give the space back.

        Returns how many went, or with `dry` would go. Raises EngineError when another program uses the file.
        """
        which, values = ["1"], list[Any]()
        if older_than_days is not None:
            which.append("created < ?")
            values.append(time.time() - older_than_days * 86400)
        if model:
            which.append("(model = ? OR label = ?)")
            values += [model, model]
        where = " AND ".join(which)
        with self._trouble(), closing(self._connect()) as connection:
            if dry:
                count: int = connection.execute(f"SELECT count(*) FROM replies WHERE {where}", values).fetchone()[0]
                return count
            with connection:
                gone = connection.execute(f"DELETE FROM replies WHERE {where}", values).rowcount
            if gone:
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return gone

    def merge(self, other: Path | str) -> int:
        """Take in the replies of another file that this one does not have; returns how many."""
        rows = ReplyCache(other)  # checks that it is one of ours
        try:
            with self._trouble(), closing(self._connect()) as connection, closing(rows._connect()) as source:
                before = connection.total_changes
                found = source.execute("SELECT * FROM replies ORDER BY key")
                with connection:
                    while part := found.fetchmany(ROWS):
                        marks = ",".join([_marks] * len(part))
                        connection.execute(_insert + marks, [value for row in part for value in row])
                return connection.total_changes - before
        finally:
            rows.close()

    def export(self, path: Path | str) -> int:
        """Write all replies as JSON Lines, in order of key; returns how many. The file appears whole or not at all.

        A line is {"key", "model", "label", "text", "finish", "usage": {"prompt", "completion"}, "usd", "date" (UTC), "seconds", "logprobs"}.
        """
        path = Path(path)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        count = 0
        with self._trouble(), closing(self._connect()) as connection:
            try:
                with part.open("w", encoding="utf-8", errors="surrogatepass") as out:
                    for row in connection.execute("SELECT * FROM replies ORDER BY key"):
                        out.write(json.dumps(_as_line(row), ensure_ascii=False) + "\n")
                        count += 1
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        return count

    def check(self) -> None:
        """Read the whole file for damage. Raises EngineError when it is damaged: cut off, or overwritten in part."""
        with self._trouble(), closing(self._connect()) as connection:
            said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if said != "ok":
            raise _damaged(self.path)

    def close(self) -> None:
        """Commit what is waiting, fold the write-ahead log into the file, and let go of it. The cache may be used again."""
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None and self._pid == os.getpid():
            self._puts.put(None)
            self._hurry.set()
            writer.join()
        with self._lock:
            if self._reader is not None and self._pid == os.getpid():
                with suppress(sqlite3.Error):  # another process is at it: the log stays for that one to fold in
                    self._reader.execute("PRAGMA busy_timeout=100")
                    self._reader.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._reader.close()
            self._reader = None

    def _connection(self) -> sqlite3.Connection:
        """The connection that reads; call with the lock held."""
        if self._reader is None or self._pid != os.getpid():
            if self._pid != os.getpid():  # after a fork the parent's thread and queue do not exist here
                self._puts, self._hurry, self._writer = queue.SimpleQueue(), threading.Event(), None
                self._inherited = self._reader  # never closed here: that would drop locks of this process on the file
            self._pid = os.getpid()
            self._reader = self._connect()
        return self._reader

    def _connect(self) -> sqlite3.Connection:
        """A checked connection. A file on a medium that cannot be written is opened as it lies."""
        writable = os.access(self.path if self.path.exists() else self.path.parent, os.W_OK)
        uri = self.path.absolute().as_uri() + ("" if writable else "?mode=ro&immutable=1")
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level="DEFERRED"
        )
        try:
            _check(connection, self.path, writable)
        except BaseException:
            connection.close()
            raise
        return connection

    def _start_writer(self) -> None:
        if self._writer is not None and self._pid == os.getpid():
            return
        with self._trouble(), self._lock:
            self._connection()  # notices a fork
            if self._writer is None:
                self._writer = threading.Thread(
                    target=self._write, args=(self._puts,), name="zhiling-cache", daemon=True
                )
                self._writer.start()

    def _write(self, puts: queue.SimpleQueue[_Put | None]) -> None:
        """The writer thread: wait for a put, gather its company, commit, tell everyone."""
        connection: sqlite3.Connection | None = None
        ending = False
        while not ending:
            group = [puts.get()]
            if group[0] is not None:
                self._hurry.wait(GATHER_SECONDS)
                self._hurry.clear()  # before the queue is emptied: whoever hurries us later has put something later
            with suppress(queue.Empty):
                while len(group) < GROUP:
                    group.append(puts.get_nowait())
            ending = None in group
            waiting = [put for put in group if put is not None]
            error: ZhilingError | None = None
            if waiting:
                try:
                    with self._trouble():
                        connection = connection or self._connect()
                        _commit(connection, [put.row for put in waiting])
                        with self._lock:
                            for put in waiting:
                                self._known.add(put.row[0])
                except Exception as trouble:
                    error = boundary(trouble, str(self.path))
            _tell(waiting, error)
        if connection is not None:
            connection.close()

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        """SQLite's and the system's complaints as one of our errors, naming the file."""
        try:
            yield
        except sqlite3.Error as error:
            raise _classified(error, self.path) from error
        except OSError as error:
            raise boundary(error, str(self.path)) from error


def _row(key: str, model: str, reply: Reply) -> tuple[Any, ...]:
    text = valid(reply.text)  # SQLite holds no lone surrogates
    logprobs = json.dumps(reply.logprobs) if reply.logprobs else None
    usage = reply.usage
    return (
        key,
        model,
        text,
        reply.finish,
        reply.model,
        usage.prompt,
        usage.completion,
        logprobs,
        reply.seconds,
        reply.usd,
        time.time(),
    )


def _as_line(row: Sequence[Any]) -> dict[str, Any]:
    """A row of the file as a line of an export."""
    key, model, text, finish, label, prompt, completion, logprobs, seconds, usd, created = row
    date = datetime.fromtimestamp(created, UTC).isoformat(timespec="seconds")
    usage = {"prompt": prompt, "completion": completion}
    said = {"key": key, "model": model, "label": label, "text": text, "finish": finish, "usage": usage, "usd": usd}
    return {**said, "date": date, "seconds": seconds, "logprobs": json.loads(logprobs) if logprobs else None}


def _commit(connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
    """Insert in few statements of many rows: each statement lets go of the interpreter once, not once per row."""
    with connection:
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS]
            connection.execute(_insert + ",".join([_marks] * len(part)), [value for row in part for value in row])


def _tell(group: list[_Put], error: ZhilingError | None) -> None:
    """Call back for a commit, with one wake-up per event loop."""
    for loop in {put.loop for put in group}:
        calls = [put.then for put in group if put.loop is loop]
        with suppress(RuntimeError):  # the loop has ended; its replies are safe all the same
            loop.call_soon_threadsafe(_call, calls, error)


def _call(calls: list[Then], error: ZhilingError | None) -> None:
    for then in calls:
        then(error)


def _check(connection: sqlite3.Connection, path: Path, writable: bool) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION and (tables or not writable):
        raise EngineError(
            say("this is not a reply cache of zhiling", "这不是 zhiling 的回复缓存"),
            where=str(path),
            mend=say("name another file; this one is left as it is", "请换一个文件名；此文件未被改动"),
        )
    if version > VERSION:
        raise EngineError(
            say("this reply cache was made by a newer zhiling", "此回复缓存由更新版本的 zhiling 创建"),
            where=str(path),
            mend=say("upgrade zhiling", "请升级 zhiling"),
        )
    if not writable:
        return
    _to_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")  # a commit survives a power cut; the group shares the price
    if not tables:
        with connection:
            connection.execute(f"PRAGMA application_id={APPLICATION}")
            connection.execute(f"PRAGMA user_version={VERSION}")
            connection.execute(_schema)


def _damaged(path: Path) -> EngineError:
    return EngineError(
        say("the reply cache is damaged or not a SQLite file", "回复缓存已损坏，或不是 SQLite 文件"),
        where=str(path),
        mend=say(
            "move it away; a new one is made, and replies that only it held are asked again",
            "请将其移走；将新建缓存，其中的回复会重新请求",
        ),
    )


def _classified(error: sqlite3.Error, path: Path) -> EngineError:
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF == sqlite3.SQLITE_FULL:
        full = boundary(OSError(errno.ENOSPC, "disk full", str(path)))
        assert isinstance(full, EngineError)
        return full
    if code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path)
    if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return EngineError(
            say("the reply cache is locked by another program", "回复缓存被其他程序锁定"),
            where=str(path),
            mend=say(
                "close what holds it (a database browser?) and run again",
                "请关闭占用它的程序（数据库浏览器？）后重新运行",
            ),
        )
    return EngineError(say(f"the reply cache cannot be used: {error}", f"回复缓存无法使用：{error}"), where=str(path))


def _to_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL. SQLite does not wait for its busy timeout here, so two processes that make the file at once must try again."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)
