"""An instruction bank in a Qdrant collection, behind the same searching, adding, updating and removing as a bank in a folder.

    qdrant://HOST:PORT/COLLECTION          a server (1.16 or newer); qdrant+https:// with TLS. The key is read from $QDRANT_API_KEY
    qdrant+file:FOLDER/COLLECTION          the client's own embedded store, for trying it: one process at a time

Meaning is a dense vector per row. Keywords are a sparse one, of our own index terms (so that Chinese words of two characters are
found), which Qdrant weighs by their rarity: a row's keyword part is the share of the question that it says. How long the row is does
not count there, as it does in a folder's BM25. A collection has no versions: no snapshots, no log, and of rows that were being added
when the writer was killed some may be there; adding them again completes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zhiling import text
from zhiling.construct import bank_qdrant as qdrant
from zhiling.construct.bank import Written
from zhiling.construct.bank_index import CHAR_WEIGHT, FILTERS, analyse, pairs, singles, terms_of
from zhiling.construct.bank_kin import POOL, kinship
from zhiling.construct.bank_rows import Row, checked, completed
from zhiling.construct.bank_view import Hit, exported, joined
from zhiling.embed import Embedder
from zhiling.errors import DataError, RecipeError, say
from zhiling.types import Reject

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH = 256
"""Rows sent at a time."""
CANDIDATES = 100
"""How many rows are fetched by words, and how many by meaning: at least so many, and three for each one wanted."""


def is_address(where: str) -> bool:
    """Whether the text names a collection rather than a folder."""
    return re.match(r"qdrant(\+\w+)?:", where) is not None


class Remote:
    """A bank in a collection. `open` or `create` one; `close` gives its connection back."""

    def __init__(self, collection: qdrant.Collection, embedder: Embedder | None) -> None:
        self.collection, self.embedder, self.path = collection, embedder, collection.where
        made = collection.embedder
        if embedder and made and made != embedder.name:
            what = say(
                f"the bank's vectors were made by '{made}', not '{embedder.name}'",
                f"库中的向量由“{made}”生成，而非“{embedder.name}”",
            )
            mend = say("open it with that embedder", "请使用同一个向量模型打开")
            raise DataError(what, where=collection.where, mend=mend)

    @classmethod
    def open(cls, where: str, embedder: Embedder | None = None, at: str = "", here: Path | None = None) -> Self:
        """The bank in the collection that the address names. Without an embedder it searches by keywords alone.

        Raises DataError for a wrong address, a collection that is not there or not ours, a refused key, vectors of another embedder, or
        a snapshot (`at`), which collections do not have; EngineError when the server does not answer.
        """
        if at:
            what = say("a collection has no snapshots", "向量数据库中的库没有快照")
            raise DataError(what, where=where, mend=say("leave --at out, or use a folder", "请去掉 --at，或使用文件夹"))
        return cls(qdrant.Collection.open(where, here), embedder)

    @classmethod
    def create(cls, where: str, embedder: Embedder | None = None, here: Path | None = None) -> Self:
        """An empty bank in a new collection, or the bank that is there already. Raises as `open`."""
        made = (embedder.name, embedder.dim) if embedder else None
        return cls(qdrant.Collection.open(where, here, create=True, embedder=made), embedder)

    def close(self) -> None:
        """Give the connection back; an embedded store can then be opened by another."""
        self.collection.close()

    def __len__(self) -> int:
        return self.collection.count()

    # Writing.

    def add(
        self, rows: Iterable[Mapping[str, Any]], *, licence: str = "", source: str = "", allow_unlicensed: bool = False
    ) -> Written:
        """Add rows, BATCH at a time; those the bank has already, by id, are left out, unusable ones refused. See `Bank.add`.

        Raises DataError, before anything is sent, when a row has no licence, unless `allow_unlicensed`.
        """
        self._writable()
        good, refused = checked(rows, licence, source, allow_unlicensed)
        fresh: dict[str, Row] = {}
        for row in good:
            fresh.setdefault(row.id, row)
        known = {row.id for row in self._found(fresh)}
        wanted = [row for row in fresh.values() if row.id not in known]
        self._send(wanted)
        return Written(0, len(wanted), len(good) - len(wanted), tuple(refused))

    def update(self, rows: Iterable[Mapping[str, Any]]) -> Written:
        """Replace rows by others of the same id; fields that a mapping leaves out stay. A row the bank has not is refused."""
        self._writable()
        given, refused, same = list(rows), list[Reject](), 0
        known = {row.id: row for row in self._found(str(one.get("id", "")) for one in given)}
        fresh: dict[str, Row] = {}
        for number, one in enumerate(given, 1):
            old = fresh.get(str(one.get("id"))) or known.get(str(one.get("id")))
            if old is None:
                refused.append(_unknown(str(one.get("id", "")), f"row {number}"))
                continue
            new = completed(asdict(old) | {k: v for k, v in one.items() if v is not None}, number)
            if isinstance(new, Reject):
                refused.append(new)
            elif new == old:
                same += 1
            else:
                fresh[new.id] = new
        self._send(list(fresh.values()))
        return Written(0, 0, same, tuple(refused), updated=len(fresh))

    def remove(self, ids: Iterable[str]) -> Written:
        """Remove the rows of these ids; ids that the bank has not are refused."""
        wanted = list(dict.fromkeys(ids))
        known = {row.id for row in self._found(wanted)}
        for start in range(0, len(wanted), BATCH):
            self.collection.delete([name for name in wanted[start : start + BATCH] if name in known])
        refused = tuple(_unknown(name) for name in wanted if name not in known)
        return Written(0, refused=refused, removed=len(known))

    def _writable(self) -> None:
        if self.collection.embedder and self.embedder is None:
            what = say("this bank keeps vectors, so adding needs its embedder", "该库保存向量，添加时需要向量模型")
            raise DataError(what, where=self.path, mend=say("open it with the embedder", "请带上向量模型打开"))

    def _found(self, ids: Iterable[str]) -> Iterator[Row]:
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), BATCH):
            yield from (_row(one) for one in self.collection.fetch(wanted[start : start + BATCH]))

    def _send(self, rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            said = [row.instruction for row in part]
            dense = self.embedder(said).tolist() if self.embedder and self.collection.embedder else None
            sparse = [[term for _, term in _terms(one, query=False)] for one in said]
            payloads = [{name: value for name, value in asdict(row).items() if value is not None} for row in part]
            self.collection.upsert([row.id for row in part], payloads, sparse, dense)

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
        """The `k` best rows for a query in zh or en, best first, each with its reasons: see `View.search`, and above for keywords.

        Raises RecipeError for k < 1, EngineError when the server does not answer.
        """
        if k < 1:
            raise RecipeError(say(f"k must be at least 1, got {k}", f"k 至少为 1，实际为 {k}"))
        where = _where(family, lang, licence, source, quality)
        asked = _terms(query)
        vector = (
            self.embedder([query])[0].tolist() if self.embedder and self.collection.embedder and query.strip() else None
        )
        limit = max(CANDIDATES, 3 * k, POOL if related else 0)
        found = self.collection.search(asked, vector, limit, where)
        best = sum(weight * found.rarity[term] for weight, term in asked)
        rows = {name: _row(payload) for name, payload in found.payloads.items()}
        keyword = {name: _share(row, asked, found.rarity, best) for name, row in rows.items()}
        scores = {name: joined(keyword[name], found.cosines.get(name)) for name in rows}
        ranked = sorted(rows, key=lambda name: (-round(scores[name], 6), name))
        kin = self._kin(ranked[:POOL], rows, scores) if related else {}
        ranked.sort(key=lambda name: (-round(kin.get(name, -1.0), 6), -round(scores[name], 6), name))
        terms = analyse(query)
        return [
            _hit(rows[name], scores[name], keyword[name], found.cosines.get(name), terms, kin.get(name))
            for name in ranked[:k]
        ]

    def rarity(self, said: str) -> dict[str, float]:
        """The index terms of a text with their inverse document frequency in this bank."""
        terms = list(analyse(said))
        found = self.collection.search([(1.0, f"words:{term}") for term in terms], None, 0, {}).rarity
        return {term: found[f"words:{term}"] for term in terms}

    def rows(
        self,
        *,
        family: str | None = None,
        lang: str | None = None,
        licence: str | None = None,
        source: str | None = None,
        quality: float | None = None,
    ) -> Iterator[Row]:
        """The rows that pass the filters, in the collection's order."""
        yield from (_row(one) for one in self.collection.scroll(_where(family, lang, licence, source, quality)))

    def info(self) -> dict[str, Any]:
        """What is in the bank: rows, embedder, and the counts per family, language, licence and source."""
        counted = {name: dict(sorted(self.collection.values(name).items())) for name in FILTERS}
        return {"path": self.path, "rows": len(self), "embedder": self.collection.embedder, **counted}

    def export(self, path: str | Path, **filters: Any) -> int:
        """Write the rows that pass the filters (as in `rows`) as JSON Lines; returns how many. The file appears when it is complete."""
        return exported(self.rows(**filters), path)

    def _kin(self, names: list[str], rows: Mapping[str, Row], scores: Mapping[str, float]) -> dict[str, float]:
        import numpy as np

        vectors: NDArray[np.float32] | None = None
        if self.collection.embedder:
            vectors = np.array(self.collection.vectors(names), dtype=np.float32)
        terms = [terms_of(rows[name].instruction) for name in names]
        spread = kinship([scores[name] for name in names], terms, vectors)
        return {name: float(value) for name, value in zip(names, spread, strict=True)}


def _terms(said: str, query: bool = True) -> list[tuple[float, str]]:
    """(weight, term) of a question or a row: its words, pairs of neighbours, and single CJK characters."""
    alone = singles(said)
    found = [(1.0, f"words:{term}") for term in analyse(said, query=query) if not (query and term in alone)]
    found += [(1.0, f"pairs:{pair}") for pair in pairs(said)]
    return found + [(CHAR_WEIGHT, f"chars:{char}") for char in alone]


def _share(row: Row, asked: Sequence[tuple[float, str]], rarity: Mapping[str, float], best: float) -> float:
    """How much of the question the row says, terms weighed by their rarity, in [0, 1]."""
    if not best:
        return 0.0
    said = {term for _, term in _terms(row.instruction, query=False)}
    return sum(weight * rarity[term] for weight, term in asked if term in said) / best


def _hit(
    row: Row, score: float, keyword: float, cosine: float | None, terms: Mapping[str, str], kin: float | None
) -> Hit:
    here = {*analyse(row.instruction, query=False), *text.tokens(row.instruction)}
    words = tuple(word for stem, word in terms.items() if stem in here)
    near, kind = (None if part is None else round(part, 4) for part in (cosine, kin))
    return Hit(row, round(score, 4), round(keyword, 4), near, words, kind)


def _row(payload: Mapping[str, Any]) -> Row:
    return Row(**payload)


def _where(
    family: str | None, lang: str | None, licence: str | None, source: str | None, quality: float | None
) -> dict[str, Any]:
    given = zip((*FILTERS, "quality"), (family, lang, licence, source, quality), strict=True)
    return {name: value for name, value in given if value is not None}


def _unknown(name: str, where: str = "") -> Reject:
    why = say("the bank has no row of this id", "库中没有此 id 的数据")
    return Reject("", "bank", "quarantined", why, where, name)
