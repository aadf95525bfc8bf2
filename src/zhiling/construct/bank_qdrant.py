"""One Qdrant collection as a bank needs it: the client, its filters and its errors, and nothing of what the rows mean."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import UUID

from zhiling.construct.bank_index import FILTERS, idf
from zhiling.errors import DataError, EngineError, missing, say

KEY = "QDRANT_API_KEY"
TIMEOUT = 30
"""Seconds until a request is given up."""
FORMAT = 1
_DENSE, _SPARSE = "meaning", "words"
_address = re.compile(r"qdrant(?:(\+https)?://([^/\s]+)|\+file:(.+))/([\w.-]{1,128})")
_LOOPBACK = re.compile(r"(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?")


@dataclass(frozen=True, slots=True)
class Found:
    """What a search fetched: payloads and cosines by row id, and the rarity of each term asked for."""

    payloads: Mapping[str, Mapping[str, Any]]
    cosines: Mapping[str, float]
    rarity: Mapping[str, float]


class Collection:
    """A connection to one collection; every method that asks the server raises EngineError when it does not answer."""

    def __init__(self, client: Any, name: str, where: str, embedder: str | None) -> None:
        self._client, self.name, self.where, self.embedder = client, name, where, embedder

    @classmethod
    def open(
        cls, where: str, here: Path | None, *, create: bool = False, embedder: tuple[str, int] | None = None
    ) -> Collection:
        """The collection of that address; with `create`, made if new, with vectors of (name, dim) where an embedder is given."""
        client, name, local = _connected(where, here)
        with _asking(where):
            there = client.collection_exists(name)
        if not there and not create:
            client.close()
            what = say(f"there is no collection '{name}'", f"没有名为“{name}”的集合")
            mend = say(f"make it: zhiling bank add {where} FILE", f"新建：zhiling bank add {where} 文件")
            raise DataError(what, where=where, mend=mend)
        if not there:
            _create(client, name, where, local, embedder)
        with _asking(where):
            told = (client.get_collection(name).config.metadata or {}).get("zhiling")
        if not isinstance(told, dict) or told.get("format") != FORMAT:
            client.close()
            what = say(f"the collection '{name}' is not an instruction bank of ours", f"集合“{name}”不是本工具的指令库")
            mend = say(
                "choose another name; the server must be Qdrant 1.16 or newer",
                "请换一个名字；服务器须为 Qdrant 1.16 或更新版本",
            )
            raise DataError(what, where=where, mend=mend)
        return cls(client, name, where, told.get("embedder"))

    def close(self) -> None:
        self._client.close()

    def count(self) -> int:
        with _asking(self.where):
            return int(self._client.count(self.name, exact=True).count)

    def upsert(
        self,
        ids: Sequence[str],
        payloads: Sequence[Mapping[str, Any]],
        terms: Sequence[Sequence[str]],
        dense: Sequence[Sequence[float]] | None,
    ) -> None:
        """Write rows with their terms and vectors, and wait until they can be found."""
        from qdrant_client import models

        points = []
        for place, (name, payload) in enumerate(zip(ids, payloads, strict=True)):
            held = sorted({_index(term) for term in terms[place]})
            vectors: dict[str, Any] = {_SPARSE: models.SparseVector(indices=held, values=[1.0] * len(held))}
            if dense is not None:
                vectors[_DENSE] = list(dense[place])
            points.append(models.PointStruct(id=_point(name), payload=dict(payload), vector=vectors))
        with _asking(self.where):
            self._client.upsert(self.name, points, wait=True)

    def delete(self, ids: Sequence[str]) -> None:
        from qdrant_client import models

        if ids:
            with _asking(self.where):
                chosen = models.PointIdsList(points=[_point(name) for name in ids])
                self._client.delete(self.name, chosen, wait=True)

    def fetch(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """The payloads of the rows of these ids that are there."""
        with _asking(self.where):
            found = self._client.retrieve(self.name, [_point(name) for name in ids], with_payload=True)
        return [dict(point.payload) for point in found]

    def vectors(self, ids: Sequence[str]) -> list[list[float]]:
        """The dense vectors of these rows, in their order."""
        with _asking(self.where):
            found = self._client.retrieve(
                self.name, [_point(name) for name in ids], with_payload=False, with_vectors=[_DENSE]
            )
        by_point = {str(point.id): point.vector[_DENSE] for point in found}
        return [by_point[_point(name)] for name in ids]

    def scroll(self, where: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The payloads of all rows that pass the filters."""
        offset = None
        while True:
            with _asking(self.where):
                points, offset = self._client.scroll(self.name, _filter(where), 512, offset=offset, with_payload=True)
            yield from (dict(point.payload) for point in points)
            if offset is None:
                return

    def values(self, field: str) -> dict[str, int]:
        """How many rows have each value of a field that can be filtered by, the thousand most frequent ones."""
        with _asking(self.where):
            hits = self._client.facet(self.name, field, limit=1000, exact=True).hits
        return {str(hit.value): int(hit.count) for hit in hits}

    def search(
        self, terms: Sequence[tuple[float, str]], dense: Sequence[float] | None, limit: int, where: Mapping[str, Any]
    ) -> Found:
        """Up to `limit` rows by terms and as many by meaning (none for 0), in two round trips; rarities come with the first.

        A row holds each of its terms with the value 1, so what a term alone scores at best is its inverse document frequency.
        """
        from qdrant_client import models

        needed, asked = _filter(where), []
        if limit and terms:
            vector = _sparse(terms)
            asked.append(_request(vector, _SPARSE, limit, needed, True))
        if limit and dense is not None:
            asked.append(_request(list(dense), _DENSE, limit, needed, True))
        ranked = len(asked)
        asked += [_request(_sparse([(1.0, term)]), _SPARSE, 1, None, False) for _, term in terms]
        payloads: dict[str, Mapping[str, Any]] = {}
        cosines: dict[str, float] = {}
        if not asked:
            return Found({}, {}, {})
        with _asking(self.where):
            total = self._client.count(self.name, exact=False).count
            answers = [answer.points for answer in self._client.query_batch_points(self.name, asked)]
        for points in answers[:ranked]:
            payloads |= {str(point.payload["id"]): dict(point.payload) for point in points}
        if limit and dense is not None:
            cosines = {str(point.payload["id"]): float(point.score) for point in answers[ranked - 1]}
            rest: list[Any] = [_point(name) for name in payloads if name not in cosines]
            if rest:
                only = models.Filter(must=[models.HasIdCondition(has_id=rest)])
                with _asking(self.where):
                    more = self._client.query_points(
                        self.name, list(dense), using=_DENSE, query_filter=only, limit=len(rest), with_payload=["id"]
                    ).points
                cosines |= {str(point.payload["id"]): float(point.score) for point in more}
        rarity = {
            term: float(points[0].score) if points else idf(0, total)
            for (_, term), points in zip(terms, answers[ranked:], strict=True)
        }
        return Found(payloads, cosines, rarity)


def _request(query: Any, using: str, limit: int, needed: Any, whole: bool) -> Any:
    from qdrant_client import models

    return models.QueryRequest(query=query, using=using, limit=limit, filter=needed, with_payload=whole)


def _sparse(terms: Sequence[tuple[float, str]]) -> Any:
    from qdrant_client import models

    weights = {_index(term): weight for weight, term in terms}
    return models.SparseVector(indices=sorted(weights), values=[weights[index] for index in sorted(weights)])


def _filter(where: Mapping[str, Any]) -> Any:
    from qdrant_client import models

    if not where:
        return None
    must: list[Any] = []
    for name, value in where.items():
        how = {"range": models.Range(gte=value)} if name == "quality" else {"match": models.MatchValue(value=value)}
        must.append(models.FieldCondition(key=name, **how))
    return models.Filter(must=must)


def _point(name: str) -> str:
    """The point's id for a row's id: Qdrant takes UUIDs."""
    return str(UUID(bytes=blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()))


def _index(term: str) -> int:
    """A term's place in the sparse vectors: 32 bits of its hash."""
    return int.from_bytes(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=4).digest())


def _connected(where: str, here: Path | None) -> tuple[Any, str, bool]:
    """(client, collection's name, whether it is an embedded store) for an address; no request is made to a server yet."""
    found = _address.fullmatch(where)
    if found is None or "@" in where:
        what = say("not the address of a collection", "不是有效的集合地址")
        mend = say(
            f"write qdrant://HOST:PORT/COLLECTION; a key goes into ${KEY}",
            f"写法：qdrant://主机:端口/集合；密钥放在环境变量 {KEY} 中",
        )
        raise DataError(what, where=re.sub(r"//[^/]*@", "//***@", where), mend=mend)
    tls, place, folder, name = found.groups()
    try:
        from qdrant_client import QdrantClient
    except ModuleNotFoundError as error:
        raise missing(error.name or "qdrant_client") from error
    if folder:
        try:
            return QdrantClient(path=str((here or Path()) / folder)), name, True
        except RuntimeError as error:
            what = say("another process has this store open", "另一个进程正在使用该存储")
            raise EngineError(
                what, where=where, mend=say("wait for it to end, or run a server", "请等它结束，或改用服务器")
            ) from error
    key = os.environ.get(KEY) or None
    if key and not tls and not _LOOPBACK.fullmatch(place):
        what = say(f"${KEY} would be sent in the clear", f"{KEY} 将以明文发送")
        raise DataError(what, where=where, mend=say("use qdrant+https://", "请使用 qdrant+https://"))
    url = f"{'https' if tls else 'http'}://{place}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a key without TLS: it goes no further than this machine
        return QdrantClient(url=url, api_key=key, timeout=TIMEOUT, check_compatibility=False), name, False


def _create(client: Any, name: str, where: str, local: bool, embedder: tuple[str, int] | None) -> None:
    from qdrant_client import models

    dense = {}
    if embedder:
        dense = {_DENSE: models.VectorParams(size=embedder[1], distance=models.Distance.COSINE, on_disk=True)}
    sparse = {_SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)}
    told = {"zhiling": {"format": FORMAT, "embedder": embedder[0] if embedder else None}}
    with _asking(where):
        client.create_collection(name, dense, sparse_vectors_config=sparse, on_disk_payload=True, metadata=told)
        if not local:  # an embedded store has none, and says so each time
            for field in FILTERS:
                client.create_payload_index(name, field, models.PayloadSchemaType.KEYWORD)
            client.create_payload_index(name, "quality", models.PayloadSchemaType.FLOAT)


@contextmanager
def _asking(where: str) -> Iterator[None]:
    """What the client may raise, as one line of ours. Its own words are not passed on where they could hold headers."""
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

    try:
        yield
    except UnexpectedResponse as error:
        if error.status_code in (401, 403):
            what = say("the server refuses the key", "服务器拒绝了密钥")
            raise DataError(what, where=where, mend=say(f"set ${KEY}", f"请设置环境变量 {KEY}")) from error
        what = say(f"the server answered {error.status_code}", f"服务器返回 {error.status_code}")
        raise EngineError(what, where=where, mend=say("see its log", "请查看服务器日志")) from error
    except (ApiException, QdrantException, OSError) as error:
        what = say("the vector database does not answer", "向量数据库没有响应")
        mend = say("check the address, and that the server runs", "请检查地址，并确认服务器正在运行")
        raise EngineError(what, where=where, mend=mend) from error
