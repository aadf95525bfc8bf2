"""A run's folder: Parquet shards, the journal that says which are finished, and DuckDB views over them. The only file that knows paths.

A shard is written under a temporary name, flushed to disk, renamed into place, and only then entered in the journal
(SQLite, WAL). So at any moment a shard is either finished and known, or worth nothing; a kill in between costs one shard's work.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from zhiling.errors import EngineError, boundary, disk_full, say
from zhiling.text import valid
from zhiling.types import Example, Record, Reject, Score, Template, Verdict

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
BATCH = 1024  # rows in memory at a time when reading or writing
GROUPS = {"ledger": 4 * BATCH, "verdicts": 4 * BATCH}  # small rows, many of them in one file, searched by id
FORMAT = 1  # of the run folder; a newer one is refused


@dataclass(frozen=True, slots=True)
class Entry:
    """The last word on one row: which state it ended in, at which stage, and why. `rival` is the id of the row that beat it."""

    id: str
    task: str
    maker: str
    state: str
    stage: str
    why: str = ""
    rival: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """A finished Parquet file: what kind of rows, where (relative to the run's folder), how many, how many bytes."""

    kind: str
    path: str
    rows: int
    size: int


@dataclass(frozen=True, slots=True)
class Done:
    """A journal entry: the work with this key is finished and these are its outputs. `facts` are small JSON values."""

    key: str
    stage: str
    shard: str
    outputs: tuple[Output, ...]
    facts: Mapping[str, Any]

    def of(self, kind: str) -> list[Output]:
        """Its outputs of one kind."""
        return [output for output in self.outputs if output.kind == kind]


def _columns() -> dict[str, list[tuple[str, Any]]]:
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    turns = pa.list_(pa.struct([("role", text), ("content", text)]))
    return {
        "records": [("id", text), ("task", text), ("fields", pa.map_(text, text)), ("lang", text), ("file", text), ("line", pa.int64())],
        "templates": [
            ("id", text), ("task", text), ("lang", text), ("system", text), ("instruction", text), ("input", text), ("output", text),
            ("maker", text), ("parents", texts), ("why", text), ("turns", turns), ("demos", pa.int64()), ("choose", text),
            ("weight", pa.float64()), ("cap", pa.int64()),
        ],
        "examples": [
            ("id", text), ("task", text), ("system", text), ("history", turns), ("instruction", text), ("input", text), ("output", text),
            ("lang", text), ("maker", text), ("parents", texts),
        ],
        "scores": [("example", text), ("scorer", text), ("value", pa.float64()), ("why", text)],
        "verdicts": [("example", text), ("selector", text), ("kept", pa.bool_()), ("why", text), ("rival", text)],
        "rejects": [
            ("id", text), ("task", text), ("maker", text), ("state", text), ("why", text), ("where", text), ("text", text), ("parents", texts),
        ],
        "ledger": [
            ("id", text), ("task", text), ("maker", text), ("state", text), ("stage", text), ("why", text), ("rival", text), ("where", text),
        ],
        "answers": [("example", text), ("model", text), ("text", text), ("finish", text), ("value", pa.float64())],
    }  # fmt: skip


ALIKE = {"drafts": "examples", "heldout": "examples", "kept": "examples", "merged": "examples", "pool": "records"}
"""Kinds that have the same columns as another."""
TURNS = frozenset({"history", "turns"})
"""Columns that hold (role, content) pairs."""


def schema(kind: str) -> pa.Schema:
    """The Arrow schema of a kind of rows."""
    import pyarrow as pa

    return pa.schema(_columns()[ALIKE.get(kind, kind)])


def _as_row(item: Any) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return dict(item)
    row = {name: getattr(item, name) for name in item.__dataclass_fields__}
    if "fields" in row:
        row["fields"] = list(row["fields"].items())
    for name in TURNS & row.keys():
        row[name] = [{"role": role, "content": content} for role, content in row[name]]
    return row


def noun(kind: str) -> Callable[[dict[str, Any]], Any]:
    """What makes a row of that kind, as Parquet has it, one of our nouns again."""
    kinds: dict[str, Any] = {
        "records": Record, "templates": Template, "examples": Example, "scores": Score, "verdicts": Verdict, "rejects": Reject, "ledger": Entry,
    }  # fmt: skip
    made = kinds.get(ALIKE.get(kind, kind))

    def make(row: dict[str, Any]) -> Any:
        if made is None:
            return row
        known = row.pop("id", None) if made is not Entry else None
        if "fields" in row:
            row["fields"] = dict(row["fields"])
        for name in TURNS & row.keys():
            row[name] = tuple((turn["role"], turn["content"]) for turn in row[name])
        if "parents" in row:
            row["parents"] = tuple(row["parents"])
        item = made(**row)
        if known is not None and item.id != known:
            raise _altered(known)
        return item

    return make


def _altered(row: str) -> EngineError:
    return EngineError(
        say(f"row {row} has been altered", f"数据行 {row} 已被改动"),
        mend=say("the run folder is damaged", "运行文件夹已损坏"),
    )


def examples(batch: pa.RecordBatch | pa.Table) -> Iterator[Example]:
    """The rows of a batch, or of a table, as Examples: column by column, in half the time that `noun` takes."""
    names = ("id", "task", "instruction", "input", "output", "system", "history", "lang", "maker", "parents")
    columns = (batch.column(name).to_pylist() for name in names)
    for known, task, instruction, given, output, system, history, lang, maker, parents in zip(*columns, strict=True):
        turns = tuple((turn["role"], turn["content"]) for turn in history) if history else ()
        item = Example(task, instruction, given, output, system, turns, lang, maker, tuple(parents))
        if item.id != known:
            raise _altered(known)
        yield item


def _arrays(batch: Sequence[Any], shape: pa.Schema) -> list[pa.Array]:
    """The rows as columns: a third faster than by way of a mapping for each row, to the same bytes."""
    import pyarrow as pa

    if isinstance(batch[0], Mapping):
        return [pa.array([item.get(field.name) for item in batch], type=field.type) for field in shape]
    columns = []
    for field in shape:
        values = list(map(attrgetter(field.name), batch))
        if field.name == "fields":
            values = [list(value.items()) for value in values]
        elif field.name in TURNS:
            values = [[{"role": role, "content": content} for role, content in value] for value in values]
        columns.append(pa.array(values, type=field.type))
    return columns


@contextmanager
def whole(final: Path) -> Iterator[BinaryIO]:
    """A file that is either whole or absent: written under a temporary name, flushed to disk and renamed when the block ends well."""
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, final)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise boundary(error, str(final)) from error


def write(root: Path, path: str, kind: str, items: Iterable[Any]) -> Output:
    """Write rows to `root/path` so that the file is either whole or absent. Returns its Output; the caller journals it.

    Bytes depend only on the rows. Text that is not valid Unicode (a hostile reply) is written with "?" in its place.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    shape, rows, stream = schema(kind), 0, iter(items)
    with whole(root / path) as file, pq.ParquetWriter(file, shape, compression="zstd") as writer:
        while batch := list(islice(stream, GROUPS.get(kind, BATCH))):
            try:
                columns = _arrays(batch, shape)
            except UnicodeEncodeError:
                make = noun(kind)  # made anew, since the id is the hash of the text that is written
                columns = _arrays([make({**_valid(_as_row(item)), "id": None}) for item in batch], shape)
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=shape))
            rows += len(batch)
    return Output(kind, path, rows, (root / path).stat().st_size)


def set_apart(root: Path, output: Output) -> Output:
    """Rename a file after its content, so that its name stands for these very rows and not for the work they came from."""
    path = root / output.path
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "blake2b").hexdigest()[:12]
    apart = str(Path(output.path).with_suffix(f".open-{digest}.parquet"))
    os.replace(path, root / apart)
    return replace(output, path=apart)


def _valid(value: Any) -> Any:
    if isinstance(value, str):
        return valid(value)
    if isinstance(value, list | tuple):
        return [_valid(item) for item in value]
    if isinstance(value, dict):
        return {key: _valid(item) for key, item in value.items()}
    return value


def read(root: Path, outputs: Iterable[Output]) -> Iterator[Any]:
    """The rows of some outputs as our nouns, in order, a batch in memory at a time."""
    import pyarrow.parquet as pq

    for output in outputs:
        make = noun(output.kind)
        with pq.ParquetFile(root / output.path) as file:
            for batch in file.iter_batches(BATCH):
                if ALIKE.get(output.kind, output.kind) == "examples":
                    yield from examples(batch)
                else:
                    yield from map(make, batch.to_pylist())


class Store:
    """One run's folder, open for work. Raises EngineError when another process is at work in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
            self._journal = sqlite3.connect(folder / "journal.sqlite", isolation_level=None)
            self._journal.execute("pragma journal_mode = wal")
            self._journal.execute(
                "create table if not exists done (key text primary key, stage text, shard text, outputs text, facts text)"
            )
            self._journal.execute("create table if not exists plan (position integer primary key, key text unique)")
            self._check_format()
        except OSError as error:
            raise boundary(error, str(folder)) from error
        except sqlite3.Error as error:
            raise journal_error(error, folder) from error
        for left in list(folder.rglob(".*.tmp")):  # of a killed writer; a killed sort leaves a folder
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)

    def _locked(self) -> Any:
        import fcntl

        handle = (self.folder / ".lock").open("w")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            mend = say("wait for it to end, or choose another folder with -o", "请等它结束，或用 -o 另选文件夹")
            raise EngineError(
                say("another process is at work in this run", "另一个进程正在使用该运行文件夹"),
                where=str(self.folder),
                mend=mend,
            ) from None
        return handle

    def _check_format(self) -> None:
        found = self._journal.execute("pragma user_version").fetchone()[0]
        if found > FORMAT:
            mend = say("upgrade zhiling", "请升级 zhiling")
            raise EngineError(
                say("this run was made by a newer zhiling", "该运行由更新版本的 zhiling 生成"),
                where=str(self.folder),
                mend=mend,
            )
        self._journal.execute(f"pragma user_version = {FORMAT}")

    def close(self) -> None:
        """Let go of the folder."""
        self._journal.close()
        self._lock.close()

    def begin(self) -> None:
        """Start a plan: nothing is current until `commit` or `find` says so."""
        self._journal.execute("delete from plan")

    def find(self, key: str) -> Done | None:
        """The finished work of that key, if its files are all there and of the size they had; it becomes current."""
        row = self._journal.execute(
            "select key, stage, shard, outputs, facts from done where key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        done = _done(row)
        if any(
            not (self.folder / o.path).is_file() or (self.folder / o.path).stat().st_size != o.size
            for o in done.outputs
        ):
            return None
        self._journal.execute("insert or ignore into plan (key) values (?)", (key,))
        return done

    def commit(self, done: Done) -> Done:
        """Enter finished work in the journal; it becomes current."""
        outputs, facts = (
            json.dumps([asdict(output) for output in done.outputs]),
            json.dumps(dict(done.facts), ensure_ascii=False),
        )
        try:
            self._journal.execute("begin")
            self._journal.execute(
                "insert or replace into done values (?, ?, ?, ?, ?)", (done.key, done.stage, done.shard, outputs, facts)
            )
            self._journal.execute("insert or ignore into plan (key) values (?)", (done.key,))
            self._journal.execute("commit")
        except sqlite3.Error as error:
            raise journal_error(error, self.folder) from error
        return done


def _done(row: Sequence[str]) -> Done:
    outputs = tuple(Output(**output) for output in json.loads(row[3]))
    return Done(row[0], row[1], row[2], outputs, json.loads(row[4]))


def journal_error(error: sqlite3.Error, folder: Path) -> EngineError:
    """A SQLite trouble in a user's words."""
    text = str(error)
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return disk_full(str(folder))
    mend = say(
        "the file is not ours or is damaged; move it away to start afresh",
        "该文件不属于 zhiling 或已损坏；移走后可重新开始",
    )
    return EngineError(
        say(f"cannot use the journal: {text}", f"无法使用日志库：{text}"),
        where=str(folder / "journal.sqlite"),
        mend=mend,
    )


def current(folder: Path) -> list[Done]:
    """The work that the latest plan of a run stands on, in order; readable while the run goes on. Raises EngineError if it is no run."""
    path = folder / "journal.sqlite"
    if not path.is_file():
        mend = say("name the folder that `zhiling run` printed", "请给出 zhiling run 打印的文件夹")
        raise EngineError(say("not a run's folder", "不是运行文件夹"), where=str(folder), mend=mend)
    try:
        journal = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        query = "select done.key, stage, shard, outputs, facts from plan join done using (key) order by position"
        try:
            return [_done(row) for row in journal.execute(query)]
        finally:
            journal.close()
    except sqlite3.Error as error:
        raise journal_error(error, folder) from error


KINDS = (
    "records",
    "templates",
    "drafts",
    "examples",
    "scores",
    "verdicts",
    "rejects",
    "ledger",
    "kept",
    "merged",
    "heldout",
    "answers",
)


def views(folder: Path) -> Any:
    """A DuckDB connection with one view per kind of rows of the run's latest plan; it can read nothing outside the folder."""
    import duckdb

    done = current(folder)
    base = folder.resolve()
    connection = duckdb.connect(":memory:")
    for kind in KINDS:
        files = [str(base / output.path) for entry in done for output in entry.of(kind)]
        if files:
            listed = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
            connection.execute(f"create view {kind} as select * from read_parquet([{listed}])")
        else:
            connection.register(f"{kind}_none", schema(kind).empty_table())
            connection.execute(f"create view {kind} as select * from {kind}_none")
    if any(entry.outputs for entry in done):
        connection.execute(
            "set allowed_directories = [$folder]".replace("$folder", "'" + str(base).replace("'", "''") + "'")
        )
        connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return connection
