"""The only module that writes to Qdrant.

Fences: every point carries the token of the attempt that stored it.  An upsert replaces only older points
(``update_filter``, Qdrant 1.16), a payload change and a delete touch only those not newer.  What a late upsert of a
dead attempt may still resurrect is found by the verify that every takeover schedules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx
import numpy as np

from workers.adapters import names
from workers.adapters.bm25 import SparseVector
from workers.adapters.qdrant_fields import FieldIndexes, told_of
from workers.adapters.qdrant_models import QdrantClient, QdrantException, ResponseHandlingException, UnexpectedResponse
from workers.adapters.qdrant_models import models as m
from workers.adapters.qdrant_wire import ask, unanswered
from workers.adapters.trust import trusted
from workers.contract.settings import IndexSettings
from workers.errors import IndexGone, IndexMisconfigured, IndexUnavailable
from workers.indexing.ports import PendingPoint, Point, StoredPoint, Vector

T = TypeVar("T")
Client = QdrantClient

SPARSE = "bm25"
OLDEST_SERVER = (1, 16)
"""The first that knows ``update_filter``.  An older one ignores it in silence, and with it every fence."""
UNNAMED = ""
"""How conditions and requests call the dense vector, which has no name."""
BATCH = 256
PAGE = 512

CONNECTIONS = httpx.Limits(max_keepalive_connections=64)
"""Left to itself the client opens a connection for each request to this machine, which costs more than the request."""

_VERSION = re.compile(r"v?(\d+)\.(\d+)")

PAYLOAD_INDEXES: dict[str, m.PayloadSchemaType | m.KeywordIndexParams | m.IntegerIndexParams] = {
    "doc_id": m.PayloadSchemaType.KEYWORD,
    "digest": m.PayloadSchemaType.KEYWORD,
    "tenant": m.PayloadSchemaType.KEYWORD,
    "embedded": m.PayloadSchemaType.BOOL,
    "metadata.source": m.PayloadSchemaType.KEYWORD,
    "metadata.path": m.KeywordIndexParams(
        type=m.KeywordIndexType.KEYWORD, prefix=True
    ),  # paths are asked for by folder
    "metadata.filetype": m.PayloadSchemaType.KEYWORD,
    "metadata.language": m.PayloadSchemaType.KEYWORD,
    "metadata.title": m.PayloadSchemaType.KEYWORD,
    "metadata.author": m.PayloadSchemaType.KEYWORD,
    "metadata.created": m.PayloadSchemaType.DATETIME,
    "metadata.modified": m.PayloadSchemaType.DATETIME,
    "token": m.IntegerIndexParams(
        type=m.IntegerIndexType.INTEGER, lookup=False, range=True
    ),  # a fence asks what is below a token, never what is equal to one
    "chunk_index": m.PayloadSchemaType.INTEGER,
    "metadata.page": m.PayloadSchemaType.INTEGER,
}
"""Integers come last: for each index the engine writes out every file there is, and theirs are the most."""


def connect(settings: IndexSettings, *, timeout: float | None = None) -> QdrantClient:
    """Return a client; make one per process, because each costs tens of milliseconds.

    ``timeout`` in seconds is UPWELL_QDRANT_TIMEOUT unless given.
    """
    key = settings.qdrant_api_key
    return QdrantClient(
        url=settings.qdrant_url,
        api_key=key.get_secret_value() if key else None,
        timeout=max(1, round(timeout or settings.qdrant_timeout)),
        prefer_grpc=False,
        check_compatibility=False,
        verify=trusted(settings.qdrant_url),
        limits=CONNECTIONS,
    )


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn the client's exceptions into ours; the text never repeats what was sent."""
    hint = f"Qdrant at {url} (UPWELL_QDRANT_URL)"
    try:
        yield
    except UnexpectedResponse as exc:
        status = exc.status_code or 500
        if status in (408, 429) or status >= 500:
            full = " Its disk has too little room left: make some, and it goes on by itself." if status == 507 else ""
            raise IndexUnavailable(f"{hint} answers {status}.{full}") from exc
        if status in (401, 403):
            raise IndexMisconfigured(f"{hint} refuses the key (UPWELL_QDRANT_API_KEY).") from exc
        if status == 404 and b"ollection" in exc.content:  # a missing point is a 404 as well
            raise IndexGone(
                f"{hint} does not have the collection any more. It is made again and filled by itself."
            ) from exc
        raise IndexMisconfigured(f"{hint} refuses the request with {status}.") from exc
    except QdrantException as exc:  # what the client makes of a 429 with Retry-After
        raise IndexUnavailable(f"{hint} answers 429.") from exc
    except (ResponseHandlingException, httpx.HTTPError, OSError) as exc:
        raise IndexUnavailable(unanswered(exc, hint, "UPWELL_QDRANT_TIMEOUT")) from exc


class QdrantIndex:
    """One physical collection, as index workers write it.

    ``ready`` is called before each request: it returns when the collection has its payload indexes, or raises why not.
    """

    def __init__(
        self, client: QdrantClient, collection: str, url: str, ready: Callable[[], None] = lambda: None
    ) -> None:
        self._client = client
        self._collection = collection
        self._url = url
        self._ready = ready
        self.fields = FieldIndexes(client, collection, lambda: translated(url))

    @property
    def collection(self) -> str:
        """Physical collection."""
        return self._collection

    def stored(self, document_id: str) -> dict[str, StoredPoint]:
        return self.stored_of([document_id]).get(document_id, {})

    def stored_of(self, document_ids: Sequence[str]) -> dict[str, dict[str, StoredPoint]]:
        wanted = ["doc_id", "token", "embedded", "vector_error", "chunk_index", "metadata"]
        of_these = {"must": [{"key": "doc_id", "match": {"any": list(document_ids)}}]}
        found: dict[str, dict[str, StoredPoint]] = {}
        offset: Any = None
        while True:
            page = {"filter": of_these, "limit": PAGE, "with_payload": wanted, "with_vector": False, "offset": offset}
            answer = self._ask("/points/scroll", page)
            for record in answer["points"]:
                payload = record.get("payload") or {}
                found.setdefault(str(payload.get("doc_id")), {})[str(record["id"])] = StoredPoint(
                    id=str(record["id"]),
                    token=int(payload.get("token", 0)),
                    embedded=bool(payload.get("embedded", False)),
                    refused="vector_error" in payload,
                    chunk_index=int(payload.get("chunk_index", -1)),
                    metadata=payload.get("metadata") or {},
                )
            offset = answer.get("next_page_offset")
            if offset is None:
                return found

    def put(self, points: Sequence[Point], token: int) -> None:
        self.put_all([(points, token)])

    def put_all(self, puts: Sequence[tuple[Sequence[Point], int]]) -> None:
        self._ready()
        # One point of each document: what differs within has its index.
        self.fields.see(point.payload for points, _ in puts for point in points[:1])
        operations: list[dict[str, Any]] = []
        count = 0
        for points, token in puts:
            for batch in _slices(points, BATCH):
                if count + len(batch) > BATCH:
                    self._write(operations)
                    operations, count = [], 0
                stamp = {"token": token, "indexed_at": _now()}
                structs = [
                    {
                        "id": point.id,
                        "vector": _vectors(point),
                        "payload": {**point.payload, **stamp, "embedded": point.vector is not None},
                    }
                    for point in batch
                ]
                operations.append({"upsert": {"points": structs, "update_filter": _older_than(token)}})
                count += len(batch)
        self._write(operations)

    def restate(self, points: Sequence[Point], token: int, was: Mapping[str, StoredPoint] | None = None) -> None:
        self._ready()
        self.fields.see(point.payload for point in points[:1])  # of one document: what differs within has its index
        for batch in _slices(_restatements(points, token, was or {}), BATCH):
            with self._asking():
                results = self._client.batch_update_points(self._collection, batch, wait=True)
            for done in results:
                self._applied(done)

    def restamp(self, ids: Sequence[str], version: str, token: int) -> None:
        for batch in _slices(ids, BATCH * 4):
            with self._asking():
                done = self._client.set_payload(
                    self._collection,
                    payload={"token": token, "version": version},
                    points=m.Filter(must=[m.HasIdCondition(has_id=list(batch)), _token(lte=token)]),
                    wait=True,
                )
            self._applied(done)

    def drop(self, ids: Iterable[str], token: int) -> None:
        for batch in _slices(list(ids), BATCH):
            self._delete(m.Filter(must=[m.HasIdCondition(has_id=list(batch)), _token(lte=token)]))

    def drop_document(self, document_id: str, token: int) -> None:
        self.drop_documents([(document_id, token)])

    def drop_documents(self, drops: Sequence[tuple[str, int]]) -> None:
        for batch in _slices(drops, BATCH):
            self._write([{"delete": {"filter": _of_document(document, token)}} for document, token in batch])

    def pending(self, document_id: str) -> list[PendingPoint]:
        condition = m.Filter(
            must=[_doc(document_id), m.FieldCondition(key="embedded", match=m.MatchValue(value=False))],
            must_not=[m.FieldCondition(key="vector_error", match=m.MatchValue(value="refused"))],
        )
        return [
            PendingPoint(
                id=str(record.id),
                document_id=document_id,
                heading=((record.payload or {}).get("metadata") or {}).get("heading"),
                content=(record.payload or {}).get("content", ""),
            )
            for record in self._scroll(condition, ["content", "metadata.heading"])
        ]

    def vectors_of(self, digests: Sequence[str]) -> dict[str, Vector]:
        found: dict[str, Vector] = {}
        missing = list(dict.fromkeys(digests))
        while missing:
            having = [{"key": "digest", "match": {"any": missing}}, {"has_vector": UNNAMED}]
            page = {"filter": {"must": having}, "limit": BATCH, "with_payload": ["digest"], "with_vector": [UNNAMED]}
            answer = self._ask("/points/scroll", page)
            for record in answer["points"]:
                vector = record.get("vector")
                vector = vector.get(UNNAMED) if isinstance(vector, dict) else vector
                if vector is not None:
                    found[str((record.get("payload") or {}).get("digest"))] = np.asarray(vector, dtype=np.float32)
            # A text with many copies can fill the page alone: ask for the others again.
            more = answer.get("next_page_offset") is not None
            missing = [digest for digest in missing if digest not in found] if more else []
        return found

    def put_vectors(self, vectors: Sequence[tuple[str, Vector]]) -> None:
        for batch in _slices(vectors, BATCH):
            try:
                self._put_vectors(batch)
            except IndexMisconfigured:
                # The whole request is refused when one of its points is gone meanwhile (an edit took it away).
                present = self._present([key for key, _ in batch])
                self._put_vectors([(key, vector) for key, vector in batch if key in present])

    def mark_refused(self, ids: Sequence[str]) -> None:
        for batch in _slices(ids, BATCH):
            with self._asking():
                done = self._client.set_payload(
                    self._collection,
                    payload={"vector_error": "refused"},
                    points=m.Filter(must=[m.HasIdCondition(has_id=list(batch))]),
                    wait=True,
                )
            self._applied(done)

    def count(self) -> int:
        """Return the number of points in the collection."""
        with self._asking():
            return self._client.count(self._collection, exact=True).count

    def _put_vectors(self, batch: Sequence[tuple[str, Vector]]) -> None:
        if not batch:
            return
        vectors = [{"id": key, "vector": vector} for key, vector in batch]
        # After the vectors: a crash in between leaves the chunk to be embedded from the cache, never a lie.
        done = {"payload": {"embedded": True}, "filter": {"must": [{"has_id": [key for key, _ in batch]}]}}
        self._write([{"update_vectors": {"points": vectors}}, {"set_payload": done}])

    def _write(self, operations: Sequence[dict[str, Any]]) -> None:
        """Apply operations in order; each is done when it returns."""
        if operations:
            for done in self._ask("/points/batch", {"operations": operations}):
                self._completed(done["status"])

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self._ready()
        with translated(self._url):
            yield

    def _ask(self, path: str, body: dict[str, Any]) -> Any:
        with self._asking():
            return ask(self._client, self._collection, path, body, wait=path == "/points/batch")

    def _present(self, ids: Sequence[str]) -> set[str]:
        with self._asking():
            found = self._client.retrieve(self._collection, list(ids), with_payload=False)
        return {str(record.id) for record in found}

    def _delete(self, condition: m.Filter) -> None:
        with self._asking():
            done = self._client.delete(self._collection, m.FilterSelector(filter=condition), wait=True)
        self._applied(done)

    def _applied(self, result: m.UpdateResult) -> None:
        self._completed(result.status.value)

    def _completed(self, status: str) -> None:
        """Only "completed" is done; "acknowledged" and "wait_timeout" may still be applied, at any later time."""
        if status != m.UpdateStatus.COMPLETED.value:
            raise IndexUnavailable(f"Qdrant at {self._url} did not finish a write in time ({status}).")

    def _scroll(self, condition: m.Filter, payload: list[str]) -> Iterator[m.Record]:
        offset: Any = None
        while True:
            with self._asking():
                records, offset = self._client.scroll(
                    self._collection,
                    scroll_filter=condition,
                    limit=PAGE,
                    offset=offset,
                    with_payload=payload,
                    with_vectors=False,
                )
            yield from records
            if offset is None:
                return


# ---------------------------------------------------------------------------------------------------- collections


def server_version(client: QdrantClient, url: str) -> tuple[int, int]:
    """Return (major, minor) of the server; (0, 0) when it does not say."""
    with translated(url):
        found = _VERSION.match(client.info().version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def physical_collections(client: QdrantClient, url: str) -> tuple[set[str], dict[str, str]]:
    """Return (names of collections, alias -> collection)."""
    with translated(url):
        names = {c.name for c in client.get_collections().collections}
        aliases = {a.alias_name: a.collection_name for a in client.get_aliases().aliases}
    return names, aliases


def create_collection(client: QdrantClient, name: str, dimensions: int, url: str) -> None:
    """Create the physical collection and its payload indexes, before the first insert.  Twice is the same as once."""
    found_collection(client, name, dimensions, url)
    index_payloads(client, name, url)


def found_collection(client: QdrantClient, name: str, dimensions: int, url: str) -> None:
    """Create the physical collection, still without payload indexes.  Twice is the same as once."""
    with translated(url):
        if not client.collection_exists(name):
            try:
                client.create_collection(
                    name,
                    vectors_config=m.VectorParams(size=dimensions, distance=m.Distance.COSINE),
                    sparse_vectors_config={SPARSE: m.SparseVectorParams(modifier=m.Modifier.IDF)},
                )
            except UnexpectedResponse as exc:
                if exc.status_code != 409:  # somebody else was faster
                    raise


def index_payloads(client: QdrantClient, name: str, url: str) -> None:
    """Create the payload indexes of a collection; one that is there costs no time, a new one many syncs of the disk."""
    with translated(url):
        for field, kind in PAYLOAD_INDEXES.items():
            client.create_payload_index(name, field, field_schema=kind, wait=True)


def dimensions_of(client: QdrantClient, name: str, url: str) -> int | None:
    """Return the size of the unnamed dense vector of a collection; None when it has none."""
    with translated(url):
        vectors = told_of(client, name)["config"]["params"].get("vectors")
    size = vectors.get("size") if isinstance(vectors, dict) else None
    return size if isinstance(size, int) else None  # named vectors have their sizes one level below


def point_alias(client: QdrantClient, alias: str, collection: str, url: str) -> None:
    """Let ``alias`` lead to ``collection``."""
    operation = m.CreateAliasOperation(create_alias=m.CreateAlias(collection_name=collection, alias_name=alias))
    with translated(url):
        client.update_collection_aliases([operation])


RESTATED = ("content", "metadata", "version", "chunk_index")
"""What may change of a chunk that stays.  Its text does not, but where its heading ends and its content begins may."""


def _restatements(points: Sequence[Point], token: int, was: Mapping[str, StoredPoint]) -> list[m.SetPayloadOperation]:
    """Return what to tell: what is new in the same way of many points once for all of them, the rest one by one."""
    alone: list[Point] = []
    alike: dict[str, tuple[dict[str, Any], list[Point]]] = {}
    for point in points:
        news = _shared_news(point, was.get(point.id))
        if news is None:
            alone.append(point)
        else:
            alike.setdefault(json.dumps(news, sort_keys=True), (news, []))[1].append(point)
    operations = [_set_payload({key: point.payload[key] for key in RESTATED}, [point], token) for point in alone]
    for news, together in alike.values():
        # The fence last: whoever finds it renewed finds everything else renewed as well.
        operations.append(_set_payload(news, together, token, below="metadata"))
        operations.append(_set_payload({"version": together[0].payload["version"]}, together, token))
    return operations


def _shared_news(point: Point, was: StoredPoint | None) -> dict[str, Any] | None:
    """Return the metadata that differ from what is stored, if telling these alone makes the point right; else None.

    A field that goes, or becomes null, cannot be told like this: Qdrant takes null for an order to remove the field.
    """
    metadata = point.payload["metadata"]
    if was is None or was.chunk_index != point.payload["chunk_index"] or was.metadata.keys() - metadata.keys():
        return None
    if was.metadata.get("heading") != metadata.get("heading"):
        return None  # the same text, parted into heading and content in another way
    news = {name: value for name, value in metadata.items() if name not in was.metadata or was.metadata[name] != value}
    return None if any(value is None for value in news.values()) else news


def _set_payload(
    payload: dict[str, Any], points: Sequence[Point], token: int, *, below: str | None = None
) -> m.SetPayloadOperation:
    """Return the order to renew part of some points' payloads, unless a newer attempt has stored them."""
    stamp = {} if below else {"token": token, "indexed_at": _now()}
    ours = m.Filter(must=[m.HasIdCondition(has_id=[point.id for point in points]), _token(lte=token)])
    return m.SetPayloadOperation(set_payload=m.SetPayload(payload=payload | stamp, filter=ours, key=below))


def _vectors(point: Point) -> dict[str, Any]:
    vectors: dict[str, Any] = {SPARSE: _sparse(point)}
    if point.vector is not None:
        vectors[UNNAMED] = point.vector
    return vectors


def _sparse(point: Point) -> dict[str, Any]:
    if point.words is not None and point.name is None:  # as they came, in 32 bits
        return {"indices": np.asarray(point.words[0]), "values": np.asarray(point.words[1])}
    known = None if point.words is None else SparseVector(point.words[0].tolist(), point.words[1].tolist())
    sparse = names.chunk_vector(point.text, point.name, known)
    return {"indices": sparse.indices, "values": sparse.values}


def _doc(document_id: str) -> m.FieldCondition:
    return m.FieldCondition(key="doc_id", match=m.MatchValue(value=document_id))


def _token(*, lte: int) -> m.FieldCondition:
    return m.FieldCondition(key="token", range=m.Range(lte=lte))


def _older_than(token: int) -> dict[str, Any]:
    return {"must": [{"key": "token", "range": {"lt": token}}]}


def _of_document(document_id: str, token: int) -> dict[str, Any]:
    return {"must": [{"key": "doc_id", "match": {"value": document_id}}, {"key": "token", "range": {"lte": token}}]}


def _slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
