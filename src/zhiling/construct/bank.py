"""The instruction database: a folder of rows, a keyword index and vectors, which many may read while one writes.

    manifest.json          the only file that is ever replaced: version, segments, index, what is gone, the log
    snapshots/NAME.json    the manifest of a version that is to be kept
    v000003/rows.arrow     rows added by version 3 (Arrow IPC)
    v000003/vectors.npy    their unit vectors (float16) and signs.npy, where the bank has an embedder
    v000007/index/         the keyword index over all rows, as of version 7
    v000007/gone.npy       the numbers of the rows removed or replaced, as of version 7

A version is written beside the others, made durable, and becomes current when the manifest is renamed into place. A writer that is
killed leaves a folder nobody refers to; the next one clears it away. Readers keep the version that they opened.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from zhiling.construct import bank_store as store
from zhiling.construct.bank_index import write_index
from zhiling.construct.bank_rows import Row, checked, completed, schema
from zhiling.construct.bank_vectors import write_vectors
from zhiling.construct.bank_view import Hit, View
from zhiling.construct.library import LIBRARY
from zhiling.embed import Embedder
from zhiling.errors import DataError, say
from zhiling.types import Reject, content_id

if TYPE_CHECKING:
    from zhiling.construct.bank_remote import Remote

__all__ = ["Bank", "Hit", "Row", "Store", "Written", "opened", "shipped"]

Store: TypeAlias = "Bank | Remote"
"""What can be searched, added to and removed from: a bank in a folder, or one in a vector database."""

Said: TypeAlias = tuple[str, ...]
"""The instruction, input and output of a row."""
_SAID = ("instruction", "input", "output")
_EMBEDDED = 8192  # texts embedded at a time


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the rows or ids given to `add`, `update` or `remove`."""

    version: int
    added: int = 0
    duplicates: int = 0
    """Rows that the bank had already: of a known id (`add`), or equal to what is there (`update`)."""
    refused: tuple[Reject, ...] = ()
    updated: int = 0
    removed: int = 0


class Bank(View):
    """An instruction database folder, as of one version. `create` or `open` one; writing moves the object to the new version."""

    @classmethod
    def create(cls, path: str | Path, embedder: Embedder | None = None) -> Bank:
        """An empty bank in a new or empty folder; with an embedder it keeps vectors. Raises DataError where something is already."""
        folder = Path(path)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            what = say("the folder is not empty", "文件夹不是空的")
            raise DataError(
                what,
                where=str(folder),
                mend=say("choose a new folder, or open the bank", "请换一个新文件夹，或打开已有的库"),
            )
        folder.mkdir(parents=True, exist_ok=True)
        named = {"name": embedder.name, "dim": embedder.dim} if embedder else None
        store.write_manifest(folder, store.empty(named))
        return cls.open(folder, embedder)

    def add(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        licence: str = "",
        source: str = "",
        allow_unlicensed: bool = False,
        wait: float = 30.0,
    ) -> Written:
        """Add rows, all of them or (when interrupted) none. Rows the bank has already, by id, are left out; unusable ones are refused.

        A row is a mapping with `instruction` and, where known, the other fields of `Row`; `licence` and `source` are for rows that
        do not state their own. A missing id is made from the content, a missing language told from the script (Latin counts as
        English). Waits up to `wait` seconds for another writer.

        A row that says something else than the one which has its id already is refused: ids of two sources may clash.

        Raises DataError when a row has no licence, unless `allow_unlicensed`; EngineError when another writer does not finish.
        """
        self._writable()
        good, refused = checked(rows, licence, source, allow_unlicensed)
        with store.locked(self.path, wait):
            self._load()
            known = self._found(row.id for row in good)
            fresh, clashes = _apart(good, self._said(known))
            if fresh:
                self._write("add", fresh, [])
        same = len(good) - len(fresh) - len(clashes)
        return Written(self.manifest["version"], len(fresh), same, (*refused, *clashes))

    def update(self, rows: Iterable[Mapping[str, Any]], *, wait: float = 30.0) -> Written:
        """Replace rows by others of the same id, all of them or none. Fields that a mapping leaves out stay as they were.

        A row without an id, or of an id that the bank has not, is refused. The old wording lives on in snapshots.
        """
        self._writable()
        given = [{**one, "id": str(one.get("id") or "")} for one in rows]
        refused: list[Reject] = []
        fresh: dict[str, Row] = {}
        same = 0
        with store.locked(self.path, wait):
            self._load()
            known = self._found(one["id"] for one in given)
            for number, one in enumerate(given, 1):
                old = fresh.get(one["id"]) or (self.row(known[one["id"]]) if one["id"] in known else None)
                new = completed(asdict(old) | {k: v for k, v in one.items() if v is not None}, number) if old else None
                if new is None:
                    why = say("the bank has no row of this id", "库中没有此 id 的数据")
                    refused.append(Reject("", "bank", "quarantined", why, f"row {number}", one["id"]))
                elif isinstance(new, Reject):
                    refused.append(new)
                elif new == old:
                    same += 1
                else:
                    fresh[new.id] = new
            if fresh:
                self._write("update", list(fresh.values()), [known[name] for name in fresh])
        return Written(self.manifest["version"], 0, same, tuple(refused), updated=len(fresh))

    def remove(self, ids: Iterable[str], *, wait: float = 30.0) -> Written:
        """Remove the rows of these ids, all of them or none; ids that the bank has not are refused. Snapshots keep theirs."""
        self._writable()
        wanted = list(dict.fromkeys(ids))
        with store.locked(self.path, wait):
            self._load()
            known = self._found(wanted)
            if known:
                self._write("remove", [], sorted(known.values()))
        why = say("the bank has no row of this id", "库中没有此 id 的数据")
        unknown = [Reject("", "bank", "quarantined", why, text=name) for name in wanted if name not in known]
        return Written(self.manifest["version"], refused=tuple(unknown), removed=len(known))

    def rebuild(self, *, wait: float = 30.0) -> int:
        """Write the bank anew without what is gone, in one piece and with a fresh index; returns the new version."""
        self._writable()
        with store.locked(self.path, wait):
            self._load()
            live = [number for number in range(self._total) if number not in set(self._gone.tolist())]
            self._write_all(live)
        return int(self.manifest["version"])

    def snapshot(self, name: str, *, wait: float = 30.0) -> int:
        """Keep the current version under a name, for `open(..., at=name)`; returns its number. Raises DataError for a name in use."""
        self._writable(embedding=False)
        with store.locked(self.path, wait):
            self._load()
            store.write_snapshot(self.path, name, self.manifest)
        return int(self.manifest["version"])

    def _writable(self, embedding: bool = True) -> None:
        if self.at:
            what = say(f"the snapshot '{self.at}' cannot be changed", f"快照“{self.at}”不可修改")
            raise DataError(what, where=str(self.path), mend=say("open the bank without it", "请不带快照打开该库"))
        if embedding and self.manifest["embedder"] and self.embedder is None:
            what = say("this bank keeps vectors, so adding needs its embedder", "该库保存向量，添加时需要向量模型")
            raise DataError(what, where=str(self.path), mend=say("open it with the embedder", "请带上向量模型打开"))

    def _found(self, ids: Iterable[str]) -> dict[str, int]:
        """{id: row number} of the rows there that have one of the ids."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array({name: None for name in ids}, type=pa.string())
        there = pc.is_in(self._table["id"], value_set=wanted).to_numpy()
        there[self._gone] = False
        numbers = np.flatnonzero(there)
        return dict(zip(self._table["id"].take(numbers).to_pylist(), numbers.tolist(), strict=True))

    def _said(self, known: Mapping[str, int]) -> dict[str, Said]:
        """{id: what its row says} of the rows numbered."""
        import pyarrow as pa

        taken = self._table.select(["id", *_SAID]).take(pa.array(list(known.values()), type=pa.int64()))
        return {row.pop("id"): tuple(row.values()) for row in taken.to_pylist()}

    def _write(self, what: str, fresh: list[Row], gone: list[int]) -> None:
        import numpy as np

        before, start, folder = self.manifest, self._total, self._folder()
        segments, taken = store.absorb(before["segments"], len(fresh)) if fresh else (before["segments"], [])
        if fresh:
            self._write_rows(folder, fresh, taken)
            rows = len(fresh) + sum(segment["rows"] for segment in taken)
            segments = [*segments, {"folder": folder.name, "rows": rows}]
        if gone:
            np.save(folder / "gone.npy", np.union1d(self._gone, np.array(gone, dtype=np.int64)), allow_pickle=False)
        if before["index"]:
            store.link_tree(self.path / before["index"], folder / "index")
        write_index(folder / "index", ((start + i, asdict(row)) for i, row in enumerate(fresh)), gone)
        ids = [row.id for row in fresh] if what == "update" else [self.row(number).id for number in gone[:20]]
        store.commit(
            self.path,
            folder,
            {**before, "segments": segments, "gone": f"{folder.name}/gone.npy" if gone else before["gone"]},
            {"what": what, "rows": len(fresh) or len(gone), **({"ids": ids[:20]} if gone else {})},
        )
        self._load()
        store.clear(self.path, self.manifest, before)

    def _write_all(self, live: list[int]) -> None:
        import numpy as np
        import pyarrow as pa

        before, folder = self.manifest, self._folder()
        table = self._table.take(pa.array(live, type=pa.int64()))
        _write_table(folder, table)
        if before["embedder"]:
            write_vectors(folder, self._vectors.of(np.array(live, dtype=np.int64)))
        rows = (row for batch in table.to_batches(max_chunksize=4096) for row in batch.to_pylist())
        write_index(folder / "index", enumerate(rows))
        store.commit(
            self.path,
            folder,
            {**before, "segments": [{"folder": folder.name, "rows": len(live)}] if live else [], "gone": None},
            {"what": "rebuild", "rows": len(live)},
        )
        self._load()
        store.clear(self.path, self.manifest, before)

    def _folder(self) -> Path:
        """An empty folder for the next version."""
        folder = self.path / f"v{self.manifest['version'] + 1:06d}"
        shutil.rmtree(folder, ignore_errors=True)  # left by a writer that was killed
        folder.mkdir()
        return folder

    def _write_rows(self, folder: Path, fresh: list[Row], taken: list[dict[str, Any]]) -> None:
        """The new segment: rows of the small segments it absorbs, then the fresh ones."""
        import numpy as np
        import pyarrow as pa

        table = pa.Table.from_pylist([asdict(row) for row in fresh], schema=schema())
        old = sum(segment["rows"] for segment in taken)
        if old:
            table = pa.concat_tables([self._table.slice(self._total - old), table]).combine_chunks()
        _write_table(folder, table)
        if self.manifest["embedder"]:
            assert self.embedder is not None  # `_writable` has seen to it
            said = [row.instruction for row in fresh]
            made = [self.embedder(said[i : i + _EMBEDDED]).astype(np.float16) for i in range(0, len(said), _EMBEDDED)]
            write_vectors(folder, np.concatenate([*self._vectors.last(len(taken)), *made]))


def _apart(rows: Iterable[Row], said: dict[str, Said]) -> tuple[list[Row], list[Reject]]:
    """The rows of new ids, the first of each; and those that say something else than the row which has their id (`said`)."""
    fresh: list[Row] = []
    clashes: list[Reject] = []
    why = say(
        "another row has this id already: leave the id out, or update that row",
        "此 id 已被另一行占用：请去掉 id，或更新那一行",
    )
    for row in rows:
        mine, there = (row.instruction, row.input, row.output), said.get(row.id)
        if there is None:
            said[row.id] = mine
            fresh.append(row)
        elif there != mine:
            clashes.append(Reject(row.task, "bank", "quarantined", why, f"id {row.id}", row.instruction))
    return fresh, clashes


def opened(where: str, embedder: Embedder | None = None, here: Path | None = None, at: str = "") -> Store:
    """The bank that a recipe or a command names: "seeds" (those shipped), a folder, relative to `here`, or a qdrant:// address.

    Raises DataError for a folder that is no bank, a wrong address or an unknown snapshot, EngineError for a database that does not answer.
    """
    if where.startswith("qdrant"):
        from zhiling.construct.bank_remote import Remote, is_address

        if is_address(where):
            return Remote.open(where, embedder, at, here)
    if where == "seeds" and not at:
        return shipped(embedder)
    return Bank.open((here or Path()) / where, embedder, at)


def shipped(embedder: Embedder | None = None) -> Bank:
    """The bank of the instructions that come with zhiling, built in the cache folder on first use; needs no network.

    The folder is $ZHILING_CACHE, else ~/.cache/zhiling. It is keyed by the seeds' text and the embedder, and appears complete.
    """
    files = sorted((LIBRARY / "seeds").glob("*.jsonl"))
    seeds = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    key = content_id("seeds", store.FORMAT, embedder.name if embedder else "", seeds)
    home = Path(os.environ.get("ZHILING_CACHE") or Path.home() / ".cache" / "zhiling") / "banks"
    folder = home / f"seeds-{key}"
    if (folder / store.MANIFEST).exists():
        try:
            return Bank.open(folder, embedder)
        except DataError:  # damaged: it is only a copy of what we ship
            shutil.rmtree(folder)
    part = home / f"seeds-{key}.{os.getpid()}.part"
    shutil.rmtree(part, ignore_errors=True)
    Bank.create(part, embedder).add(json.loads(line) for line in seeds)
    try:
        part.rename(folder)
    except OSError:  # another process was first
        shutil.rmtree(part, ignore_errors=True)
    return Bank.open(folder, embedder)


def _write_table(folder: Path, table: Any) -> None:
    import pyarrow as pa

    with pa.OSFile(str(folder / "rows.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)
