"""The instruction database: a folder of rows, a keyword index and vectors, which many may read while one writes.

    manifest.json          the only file that is ever replaced: version, segments, index
    v000003/rows.arrow     rows added by version 3 (Arrow IPC)
    v000003/vectors.npy    their unit vectors (float32), where the bank has an embedder
    v000007/index/         the keyword index over all rows, as of version 7

A version is written beside the others, made durable, and becomes current when the manifest is renamed into place. A writer that is
killed leaves a folder nobody refers to; the next one clears it away. Readers keep the version that they opened.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhiling import text
from zhiling.construct import bank_store as store
from zhiling.construct.bank_index import FILTERS, analyse, open_index, rarities, search_index, write_index
from zhiling.construct.library import LIBRARY
from zhiling.embed import Embedder
from zhiling.errors import DataError, RecipeError, say
from zhiling.types import Reject, content_id

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VECTOR_WEIGHT = 0.4
"""The vector's part in a hit's score, chosen on SimCLUE and Natural Instructions: `benchmarks/bank.py` shows both."""
MAX_FIELD = 1_000_000
"""Longest field of a row, in characters."""
_POOL = 200


@dataclass(frozen=True, slots=True)
class Row:
    """An instruction in the bank, with where it came from and what one may do with it."""

    id: str
    instruction: str
    input: str = ""
    output: str = ""
    task: str = ""
    family: str = "other"
    lang: str = ""
    source: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """A row found, and why: `score` in [0, 1] joins the keyword part and the vector part (a cosine; None without vectors)."""

    row: Row
    score: float
    keyword: float
    vector: float | None
    terms: tuple[str, ...]
    """The query's words that stand in the instruction."""


@dataclass(frozen=True, slots=True)
class Added:
    """What became of rows given to `add`."""

    version: int
    added: int
    duplicates: int
    refused: tuple[Reject, ...]


class Bank:
    """An instruction database folder, as of one version. `create` or `open` one; `add` moves the object to the new version."""

    _table: Any
    _vectors: list[NDArray[np.float32]]
    _index: Any
    manifest: dict[str, Any]

    def __init__(self, path: str | Path, embedder: Embedder | None = None) -> None:
        self.path, self.embedder = Path(path), embedder
        self._load()
        made = self.manifest["embedder"]
        if embedder and made and made["name"] != embedder.name:
            what = say("the bank's vectors were made by '{}', not '{}'", "库中的向量由“{}”生成，而非“{}”").format(
                made["name"], embedder.name
            )
            raise DataError(what, where=str(path), mend=say("open it with that embedder", "请使用同一个向量模型打开"))

    @classmethod
    def create(cls, path: str | Path, embedder: Embedder | None = None) -> Bank:
        """An empty bank in a new or empty folder; with an embedder it keeps vectors. Raises DataError where something is already."""
        folder = Path(path)
        if folder.exists() and any(folder.iterdir()):
            what = say("the folder is not empty", "文件夹不是空的")
            raise DataError(
                what,
                where=str(folder),
                mend=say("choose a new folder, or open the bank", "请换一个新文件夹，或打开已有的库"),
            )
        folder.mkdir(parents=True, exist_ok=True)
        named = {"name": embedder.name, "dim": embedder.dim} if embedder else None
        store.write_manifest(
            folder, {"format": store.FORMAT, "version": 0, "embedder": named, "segments": [], "index": None}
        )
        return cls.open(folder, embedder)

    @classmethod
    def open(cls, path: str | Path, embedder: Embedder | None = None) -> Bank:
        """The bank in a folder. Without an embedder it searches by keywords alone.

        Raises DataError for a folder that is no bank, a bank of a newer format, or one whose vectors another embedder made.
        """
        return cls(path, embedder)

    def __len__(self) -> int:
        return sum(segment["rows"] for segment in self.manifest["segments"])

    def add(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        licence: str = "",
        source: str = "",
        allow_unlicensed: bool = False,
        wait: float = 30.0,
    ) -> Added:
        """Add rows, all of them or (when interrupted) none. Rows the bank has already, by id, are left out; unusable ones are refused.

        A row is a mapping with `instruction` and, where known, the other fields of `Row`; `licence` and `source` are for rows that
        do not state their own. A missing id is made from the content, a missing language told from the script (Latin counts as
        English). Waits up to `wait` seconds for another writer.

        Raises DataError when a row has no licence, unless `allow_unlicensed`; EngineError when another writer does not finish.
        """
        if self.manifest["embedder"] and self.embedder is None:
            what = say("this bank keeps vectors, so adding needs its embedder", "该库保存向量，添加时需要向量模型")
            raise DataError(what, where=str(self.path), mend=say("open it with the embedder", "请带上向量模型打开"))
        good, refused = _checked(rows, licence, source, allow_unlicensed)
        with store.locked(self.path, wait):
            self._load()
            known = set(self._table["id"].to_pylist())
            fresh = {row.id: row for row in reversed(good) if row.id not in known}  # the first of equal ids wins
            if fresh:
                self._write(list(reversed(fresh.values())))
        return Added(self.manifest["version"], len(fresh), len(good) - len(fresh), tuple(refused))

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        family: str | None = None,
        lang: str | None = None,
        licence: str | None = None,
    ) -> list[Hit]:
        """The `k` best rows for a query in zh or en, best first, each with its reasons; filters take exact values.

        The score is VECTOR_WEIGHT x cosine + the rest x keyword part, the keyword part being the BM25 score as a share of what a
        row that says the whole query would have. Without vectors the keyword part counts alone.
        """
        if k < 1:
            raise RecipeError(say(f"k must be at least 1, got {k}", f"k 至少为 1，实际为 {k}"))
        if not len(self):
            return []
        where = {name: value for name, value in zip(FILTERS, (family, lang, licence), strict=True) if value is not None}
        found = search_index(self._index, query, max(_POOL, 5 * k), where)
        keyword, vectors = found.scores, bool(self.embedder and self._vectors and query.strip())
        cosine = self._cosines(query, keyword, max(_POOL, 5 * k), where) if vectors else {}
        scores = {number: _joined(keyword.get(number, 0.0), cosine.get(number)) for number in {*keyword, *cosine}}
        ranked = sorted(scores, key=lambda number: (-round(scores[number], 6), number))[:k]
        return [
            self._hit(number, scores[number], keyword.get(number, 0.0), cosine.get(number), found.terms)
            for number in ranked
        ]

    def rarity(self, said: str) -> dict[str, float]:
        """The index terms of a text with their inverse document frequency in this bank: what its words say, and how much."""
        terms = analyse(said)
        return rarities(self._index, terms) if len(self) else dict.fromkeys(terms, 1.0)

    def row(self, number: int) -> Row:
        """The row of that number, counted from 0 in the order of adding."""
        return Row(**self._table.slice(number, 1).to_pylist()[0])

    def rows(self) -> Iterator[Row]:
        """All rows in the order of adding."""
        for batch in self._table.to_batches(max_chunksize=4096):
            yield from (Row(**row) for row in batch.to_pylist())

    def info(self) -> dict[str, Any]:
        """What is in the bank: version, rows, embedder, and the counts per family, language, licence and source."""
        counted: dict[str, dict[str, int]] = {}
        for name in (*FILTERS, "source"):
            values = self._table[name].value_counts().to_pylist()
            counted[name] = dict(sorted((entry["values"], entry["counts"]) for entry in values))
        files = [file.stat() for file in self.path.rglob("*") if file.is_file()]
        return {
            "path": str(self.path),
            "version": self.manifest["version"],
            "rows": len(self),
            "embedder": (self.manifest["embedder"] or {}).get("name"),
            "bytes": sum({stat.st_ino: stat.st_size for stat in files}.values()),
            **counted,
        }

    def export(self, path: str | Path) -> int:
        """Write all rows as JSON Lines; returns their number. The file appears when it is complete."""
        target = Path(path)
        part = target.with_name(target.name + ".part")
        with part.open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in self.rows())
        part.replace(target)
        return len(self)

    def _load(self) -> None:
        """Map the files of the current version, all of them now: a later version may clear them away, which a map outlives."""
        import numpy as np
        import pyarrow as pa

        for attempt in range(5):
            self.manifest = store.read_manifest(self.path)
            folders = [self.path / segment["folder"] for segment in self.manifest["segments"]]
            vectors = folders if self.manifest["embedder"] else []
            try:
                tables = [pa.ipc.open_file(pa.memory_map(str(part / "rows.arrow"))).read_all() for part in folders]
                self._vectors = [np.load(part / "vectors.npy", mmap_mode="r", allow_pickle=False) for part in vectors]
                self._index = open_index(self.path / self.manifest["index"]) if tables else None
            except (OSError, ValueError) as error:
                if attempt < 4 and store.read_manifest(self.path) != self.manifest:
                    continue  # a writer moved on between our reading of the manifest and of the files
                what = say(f"the bank's files are damaged: {error}", f"指令库的文件已损坏：{error}")
                raise DataError(what, where=str(self.path), mend=say("build the bank again", "请重建该库")) from error
            self._table = pa.concat_tables(tables) if tables else _schema().empty_table()
            return

    def _cosines(self, query: str, also: Iterable[int], limit: int, where: Mapping[str, str]) -> dict[int, float]:
        """The nearest rows by vector, at most `limit`, and the rows of `also`, each with its cosine."""
        import numpy as np
        import pyarrow.compute as pc

        assert self.embedder is not None
        asked = self.embedder([query])[0]
        cosine = np.concatenate([part @ asked for part in self._vectors])
        allowed = np.ones(len(cosine), dtype=bool)
        for name, value in where.items():
            allowed &= pc.equal(self._table[name], value).to_numpy()
        ranked = np.where(allowed, cosine, -2.0)
        near = np.argpartition(-ranked, min(limit, len(ranked)) - 1)[:limit]
        numbers = {*(int(n) for n in near if allowed[n]), *also}
        return {number: float(cosine[number]) for number in numbers}

    def _hit(self, number: int, score: float, keyword: float, vector: float | None, terms: Mapping[str, str]) -> Hit:
        row = self.row(number)
        here = {*analyse(row.instruction, query=False), *text.tokens(row.instruction)}
        said = tuple(word for stem, word in terms.items() if stem in here)
        return Hit(row, round(score, 4), round(keyword, 4), None if vector is None else round(vector, 4), said)

    # Writing.

    def _write(self, fresh: list[Row]) -> None:
        before, start = self.manifest, len(self)
        version = before["version"] + 1
        folder = self.path / f"v{version:06d}"
        shutil.rmtree(folder, ignore_errors=True)  # left by a writer that was killed
        folder.mkdir()
        segments, taken = store.absorb(before["segments"], len(fresh))
        self._write_rows(folder, fresh, taken)
        if before["index"]:
            store.link_tree(self.path / before["index"], folder / "index")
        write_index(folder / "index", ((start + i, asdict(row)) for i, row in enumerate(fresh)))
        store.sync_tree(folder)
        segments.append({"folder": folder.name, "rows": len(fresh) + sum(segment["rows"] for segment in taken)})
        store.write_manifest(
            self.path, {**before, "version": version, "segments": segments, "index": f"{folder.name}/index"}
        )
        self._load()
        store.clear(self.path, self.manifest, before)

    def _write_rows(self, folder: Path, fresh: list[Row], taken: list[dict[str, Any]]) -> None:
        """The new segment: rows of the small segments it absorbs, then the fresh ones."""
        import numpy as np
        import pyarrow as pa

        schema = _schema()
        table = pa.Table.from_pylist([asdict(row) for row in fresh], schema=schema)
        old = sum(segment["rows"] for segment in taken)
        if old:
            table = pa.concat_tables([self._table.slice(len(self) - old), table]).combine_chunks()
        with pa.OSFile(str(folder / "rows.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as out:
            out.write_table(table)
        if self.manifest["embedder"]:
            assert self.embedder is not None  # `add` has seen to it
            parts = self._vectors[len(self._vectors) - len(taken) :]
            made = self.embedder([row.instruction for row in fresh]).astype(np.float32)
            np.save(folder / "vectors.npy", np.concatenate([*parts, made]), allow_pickle=False)


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


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema([(field.name, pa.string()) for field in fields(Row)])


def _joined(keyword: float, cosine: float | None) -> float:
    if cosine is None:
        return keyword
    return (1 - VECTOR_WEIGHT) * keyword + VECTOR_WEIGHT * max(0.0, cosine)


def _checked(
    rows: Iterable[Mapping[str, Any]], licence: str, source: str, allow_unlicensed: bool
) -> tuple[list[Row], list[Reject]]:
    good: list[Row] = []
    refused: list[Reject] = []
    for number, given in enumerate(rows, 1):
        row = _row(given, number, licence, source)
        if isinstance(row, Reject):
            refused.append(row)
        elif row.licence or allow_unlicensed:
            good.append(row)
        else:
            what = say(f"row {number} has no licence", f"第 {number} 行没有许可证")
            mend = say(
                "say which with licence=..., or allow it with allow_unlicensed",
                "请用 licence=... 说明，或用 allow_unlicensed 放行",
            )
            raise DataError(what, where=text.cut(row.instruction, 40), mend=mend)
    return good, refused


def _row(given: Mapping[str, Any], number: int, licence: str, source: str) -> Row | Reject:
    """The row, completed, or why it cannot be one."""
    known = {field.name: given.get(field.name) for field in fields(Row)}
    values = {name: value for name, value in known.items() if value is not None}
    values.setdefault("id", "")
    values["licence"] = values.get("licence") or licence
    values["source"] = values.get("source") or source
    said = str(values.get("instruction", ""))
    why = _unusable(values)
    if why:
        return Reject(str(values.get("task", "")), "bank", "quarantined", why, where=f"row {number}", text=said)
    values["id"] = values["id"] or content_id("bank", said, values.get("input", ""), values.get("output", ""))
    values["lang"] = values.get("lang") or text.lang(said).replace("latin", "en")
    values["family"] = values.get("family") or "other"
    return Row(**values)


def _unusable(values: Mapping[str, Any]) -> str:
    for name, value in values.items():
        if not isinstance(value, str):
            return say(f"'{name}' is not text", f"“{name}”不是文本")
        if len(value) > MAX_FIELD:
            return say(f"'{name}' is longer than {MAX_FIELD:,} characters", f"“{name}”超过 {MAX_FIELD:,} 个字符")
        if any("\ud800" <= char <= "\udfff" for char in value):
            return say(f"'{name}' is not valid Unicode", f"“{name}”不是有效的 Unicode 文本")
    if not values.get("instruction", "").strip():
        return say("no instruction", "没有指令")
    return ""
