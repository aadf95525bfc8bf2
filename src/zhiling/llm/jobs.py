"""The batch jobs of one model that are under way at its provider, in a small SQLite file beside the reply cache.

A job is noted before it is submitted and again with the provider's id afterwards, so that whatever moment a process dies at, the next
one knows what may have been submitted. Prompts are not stored, only the keys of the requests. One process at a time uses the file.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zhiling.errors import EngineError, boundary, say

_schema = """
CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, name TEXT NOT NULL, remote TEXT, payer TEXT NOT NULL, rows INTEGER NOT NULL,
  created REAL NOT NULL, ended REAL);
CREATE TABLE IF NOT EXISTS rows (key TEXT PRIMARY KEY, job INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS rows_of_job ON rows (job);
"""


@dataclass(slots=True)
class Job:
    """One batch: our `name` for it, the provider's id (`remote`, None while it is not known to be submitted), who pays for it."""

    id: int
    name: str
    remote: str | None
    payer: str
    rows: int
    created: float


class Jobs:
    """The jobs under way and the keys that they hold. Every change is on disk when its method returns."""

    def __init__(self, path: Path) -> None:
        """Open or make the file, for this process alone. Raises EngineError when another one uses it, or it cannot be used."""
        self.path = path
        with self._trouble():
            self._db = sqlite3.connect(path, timeout=2.0, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("BEGIN EXCLUSIVE")  # the lock stays until the file is closed, or its process has died
            for statement in _schema.split(";"):
                self._db.execute(statement)
            self._db.execute("COMMIT")

    def open(self) -> list[Job]:
        """The jobs that have not ended, oldest first."""
        with self._trouble():
            found = self._db.execute(
                "SELECT id, name, remote, payer, rows, created FROM jobs WHERE ended IS NULL ORDER BY id"
            )
            return [Job(*row) for row in found]

    def plan(self, name: str, payer: str, keys: Sequence[str]) -> Job:
        """Note a job that is about to be submitted."""
        now = time.time()
        with self._trouble(), self._together():
            at = self._db.execute(
                "INSERT INTO jobs (name, payer, rows, created) VALUES (?,?,?,?)", (name, payer, len(keys), now)
            ).lastrowid
            self._db.executemany("INSERT INTO rows VALUES (?,?)", [(key, at) for key in keys])
        assert at is not None
        return Job(at, name, None, payer, len(keys), now)

    def submitted(self, job: Job, remote: str) -> None:
        """Note the provider's id."""
        job.remote = remote
        with self._trouble():
            self._db.execute("UPDATE jobs SET remote=? WHERE id=?", (remote, job.id))

    def end(self, job: Job) -> None:
        """The job is over, or was never submitted: its keys are free again."""
        with self._trouble(), self._together():
            self._db.execute("DELETE FROM rows WHERE job=?", (job.id,))
            self._db.execute("UPDATE jobs SET ended=? WHERE id=?", (time.time(), job.id))

    def holder(self, key: str) -> int | None:
        """The id of the job under way that holds this key."""
        with self._trouble():
            row = self._db.execute("SELECT job FROM rows WHERE key=?", (key,)).fetchone()
        return int(row[0]) if row else None

    def keys(self, job: Job) -> list[str]:
        """The keys that a job under way holds."""
        with self._trouble():
            return [key for (key,) in self._db.execute("SELECT key FROM rows WHERE job=? ORDER BY rowid", (job.id,))]

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextmanager
    def _together(self) -> Iterator[None]:
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                what = say("another run waits for the batches of this model", "另一个运行正在等待该模型的批处理")
                mend = say("end that one, or give this one a cache of its own", "请先结束它，或为本运行另设缓存")
            elif code == sqlite3.SQLITE_FULL:
                what, mend = (
                    say("the disk is full", "磁盘已满"),
                    say("free some space and run again", "腾出空间后重新运行"),
                )
            else:
                what = say(f"the list of batch jobs cannot be used: {error}", f"批处理任务列表无法使用：{error}")
                mend = say(
                    "move it away to forget the jobs under way; they stay billed",
                    "移走它会忘记进行中的任务（费用照付）",
                )
            raise EngineError(what, where=str(self.path), mend=mend) from error
        except OSError as error:
            raise boundary(error, str(self.path)) from error
