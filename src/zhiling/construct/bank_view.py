"""Reading a bank: one version of it, mapped from its files, searched by words and by meaning."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zhiling import text
from zhiling.construct import bank_store as store
from zhiling.construct.bank_index import FILTERS, analyse, open_index, rarities, search_index, terms_of
from zhiling.construct.bank_kin import POOL, kinship
from zhiling.construct.bank_rows import Row, schema
from zhiling.construct.bank_vectors import Vectors
from zhiling.embed import Embedder
from zhiling.errors import DataError, RecipeError, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VECTOR_WEIGHT = 0.4
"""The vector's part in a hit's score, chosen on SimCLUE and Natural Instructions: `benchmarks/bank.py` shows both."""
_POOL = 200


@dataclass(frozen=True, slots=True)
class Hit:
    """A row found, and why: `score` in [0, 1] joins the keyword part and the vector part (a cosine; None without vectors)."""

    row: Row
    score: float
    keyword: float
    vector: float | None
    terms: tuple[str, ...]
    """The query's words that stand in the instruction."""
    kin: float | None = None
    """In a search for related rows, what ranks them, in [0, 1]: the score with what it gains from other hits like this one."""


class View:
    """One version of a bank, for reading."""

    _table: Any
    _vectors: Vectors
    _index: Any
    _gone: NDArray[np.int64]
    manifest: dict[str, Any]

    def __init__(self, path: str | Path, embedder: Embedder | None = None, at: str = "") -> None:
        self.path, self.embedder, self.at = Path(path), embedder, at
        self._load()
        made = self.manifest["embedder"]
        if embedder and made and made["name"] != embedder.name:
            what = say("the bank's vectors were made by '{}', not '{}'", "库中的向量由“{}”生成，而非“{}”").format(
                made["name"], embedder.name
            )
            raise DataError(what, where=str(path), mend=say("open it with that embedder", "请使用同一个向量模型打开"))

    @classmethod
    def open(cls, path: str | Path, embedder: Embedder | None = None, at: str = "") -> Self:
        """The bank in a folder, or a snapshot of it. Without an embedder it searches by keywords alone.

        Raises DataError for a folder that is no bank, a bank of another format, an unknown snapshot, or a bank whose vectors another
        embedder made.
        """
        return cls(path, embedder, at)

    def __len__(self) -> int:
        return self._total - len(self._gone)

    @property
    def _total(self) -> int:
        """All rows that lie in the files, those gone too."""
        return sum(segment["rows"] for segment in self.manifest["segments"])

    # Reading.

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        family: str | None = None,
        lang: str | None = None,
        licence: str | None = None,
        source: str | None = None,
        quality: float | None = None,
        related: bool = False,
    ) -> list[Hit]:
        """The `k` best rows for a query in zh or en, best first, each with its reasons.

        Filters take exact values; `quality` is the least that a row must have been judged. The score is VECTOR_WEIGHT x cosine + the
        rest x keyword part, the keyword part being the BM25 score as a share of what a row that says the whole query would have.
        Without vectors the keyword part counts alone. With `related`, rows of the same kind are looked for rather than rows that say
        the same: hits are ranked by `kin`. Raises RecipeError for k < 1.
        """
        if k < 1:
            raise RecipeError(say(f"k must be at least 1, got {k}", f"k 至少为 1，实际为 {k}"))
        if not len(self):
            return []
        where = _where(family, lang, licence, source)
        limit = max(_POOL, 5 * k)
        found = search_index(self._index, query, limit, where, quality)
        keyword, cosine = found.scores, dict[int, float]()
        if self.embedder and len(self._vectors) and query.strip():
            cosine = self._cosines(query, keyword, limit, self._allowed(where, quality))
        scores = {number: joined(keyword.get(number, 0.0), cosine.get(number)) for number in {*keyword, *cosine}}
        ranked = sorted(scores, key=lambda number: (-round(scores[number], 6), number))
        kin = self._kin(ranked[: max(POOL, k)], scores) if related else {}
        ranked = sorted(
            ranked, key=lambda number: (-round(kin.get(number, -1.0), 6), -round(scores[number], 6), number)
        )
        return [
            self._hit(
                number, scores[number], keyword.get(number, 0.0), cosine.get(number), found.terms, kin.get(number)
            )
            for number in ranked[:k]
        ]

    def rarity(self, said: str) -> dict[str, float]:
        """The index terms of a text with their inverse document frequency in this bank: what its words say, and how much."""
        terms = analyse(said)
        return rarities(self._index, terms) if len(self) else dict.fromkeys(terms, 1.0)

    def row(self, number: int) -> Row:
        """The row of that number, counted from 0 in the order of adding, those since removed too."""
        return Row(**self._table.slice(number, 1).to_pylist()[0])

    def rows(
        self,
        *,
        family: str | None = None,
        lang: str | None = None,
        licence: str | None = None,
        source: str | None = None,
        quality: float | None = None,
    ) -> Iterator[Row]:
        """The rows that pass the filters, in the order of adding."""
        import pyarrow as pa

        allowed = self._allowed(_where(family, lang, licence, source), quality)
        table = self._table if allowed is None else self._table.filter(pa.array(allowed))
        for batch in table.to_batches(max_chunksize=4096):
            yield from (Row(**row) for row in batch.to_pylist())

    def info(self) -> dict[str, Any]:
        """What is in the bank: version, rows, embedder, snapshots, and the counts per family, language, licence and source."""
        import pyarrow as pa

        allowed = self._allowed({}, None)
        table = self._table if allowed is None else self._table.filter(pa.array(allowed))
        counted: dict[str, dict[str, int]] = {}
        for name in FILTERS:
            values = table[name].value_counts().to_pylist()
            counted[name] = dict(sorted((entry["values"], entry["counts"]) for entry in values))
        files = [file.stat() for file in self.path.rglob("*") if file.is_file()]
        return {
            "path": str(self.path),
            "version": self.manifest["version"],
            "rows": len(self),
            "gone": len(self._gone),
            "judged": len(table) - table["quality"].null_count,
            "embedder": (self.manifest["embedder"] or {}).get("name"),
            "bytes": sum({stat.st_ino: stat.st_size for stat in files}.values()),
            "snapshots": self.snapshots(),
            **counted,
        }

    def log(self) -> list[dict[str, Any]]:
        """The versions, oldest first: number, time (UTC), what was done, to how many rows, and the first ids of changed ones."""
        return list(self.manifest["log"])

    def snapshots(self) -> dict[str, int]:
        """The kept versions: {name: version}."""
        return {name: manifest["version"] for name, manifest in store.snapshots(self.path).items()}

    def export(self, path: str | Path, **filters: Any) -> int:
        """Write the rows that pass the filters (as in `rows`) as JSON Lines; returns how many. The file appears when it is complete."""
        return exported(self.rows(**filters), path)

    def _load(self) -> None:
        """Map the files of the current version, all of them now: a later version may clear them away, which a map outlives."""
        import numpy as np
        import pyarrow as pa

        for attempt in range(5):
            self.manifest = store.read_manifest(self.path, self.at)
            folders = [self.path / segment["folder"] for segment in self.manifest["segments"]]
            gone = self.manifest["gone"]
            try:
                tables = [pa.ipc.open_file(pa.memory_map(str(part / "rows.arrow"))).read_all() for part in folders]
                self._vectors = Vectors.open(folders if self.manifest["embedder"] else [])
                self._index = open_index(self.path / self.manifest["index"]) if tables else None
                self._gone = np.load(self.path / gone, allow_pickle=False) if gone else np.zeros(0, dtype=np.int64)
            except (OSError, ValueError) as error:
                if attempt < 4 and store.read_manifest(self.path, self.at) != self.manifest:
                    continue  # a writer moved on between our reading of the manifest and of the files
                what = say(f"the bank's files are damaged: {error}", f"指令库的文件已损坏：{error}")
                raise DataError(what, where=str(self.path), mend=say("build the bank again", "请重建该库")) from error
            self._table = pa.concat_tables(tables) if tables else schema().empty_table()
            return

    def _allowed(self, where: Mapping[str, str], quality: float | None) -> NDArray[np.bool_] | None:
        """Which rows are there and pass the filters; None for all."""
        import numpy as np
        import pyarrow.compute as pc

        if not where and quality is None and not len(self._gone):
            return None
        allowed = np.ones(self._total, dtype=bool)
        allowed[self._gone] = False
        for name, value in where.items():
            allowed &= pc.equal(self._table[name], value).to_numpy()
        if quality is not None:
            allowed &= pc.fill_null(pc.greater_equal(self._table["quality"], quality), False).to_numpy()
        return allowed

    def _cosines(
        self, query: str, also: Iterable[int], limit: int, allowed: NDArray[np.bool_] | None
    ) -> dict[int, float]:
        """The nearest rows by vector, at most `limit`, and the rows of `also`, each with its cosine."""
        import numpy as np

        assert self.embedder is not None
        asked = self.embedder([query])[0]
        near = self._vectors.nearest(asked, limit, allowed)
        others = np.array(sorted({*also} - near.keys()), dtype=np.int64)
        rest = self._vectors.cosines(asked, others)
        return near | {int(number): float(cosine) for number, cosine in zip(others, rest, strict=True)}

    def _kin(self, numbers: list[int], scores: Mapping[int, float]) -> dict[int, float]:
        import numpy as np

        said = self._table["instruction"].take(numbers).to_pylist()
        vectors = self._vectors.of(np.array(numbers, dtype=np.int64)) if len(self._vectors) else None
        spread = kinship([scores[number] for number in numbers], [terms_of(one) for one in said], vectors)
        return {number: float(value) for number, value in zip(numbers, spread, strict=True)}

    def _hit(
        self,
        number: int,
        score: float,
        keyword: float,
        vector: float | None,
        terms: Mapping[str, str],
        kin: float | None,
    ) -> Hit:
        row = self.row(number)
        here = {*analyse(row.instruction, query=False), *text.tokens(row.instruction)}
        said = tuple(word for stem, word in terms.items() if stem in here)
        parts = (None if part is None else round(part, 4) for part in (vector, kin))
        near, kind = parts
        return Hit(row, round(score, 4), round(keyword, 4), near, said, kind)


def _where(family: str | None, lang: str | None, licence: str | None, source: str | None) -> dict[str, str]:
    given = zip(FILTERS, (family, lang, licence, source), strict=True)
    return {name: value for name, value in given if value is not None}


def exported(rows: Iterable[Row], path: str | Path) -> int:
    """Write rows as JSON Lines; returns how many. The file appears when it is complete."""
    target = Path(path)
    part = target.with_name(target.name + ".part")
    count = 0
    with part.open("w", encoding="utf-8") as out:
        for row in rows:
            count += 1
            values = {name: value for name, value in asdict(row).items() if value is not None}
            out.write(json.dumps(values, ensure_ascii=False) + "\n")
    part.replace(target)
    return count


def joined(keyword: float, cosine: float | None) -> float:
    """A hit's score from its keyword part and its cosine, the latter None without vectors."""
    if cosine is None:
        return keyword
    return (1 - VECTOR_WEIGHT) * keyword + VECTOR_WEIGHT * max(0.0, cosine)
