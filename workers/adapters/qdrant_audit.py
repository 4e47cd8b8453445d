"""What an audit asks of Qdrant: every point in pages, and a few repairs that are fenced like any write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from workers.adapters.qdrant import physical_collections, translated
from workers.adapters.qdrant_models import QdrantClient
from workers.adapters.qdrant_models import models as m
from workers.errors import IndexUnavailable
from workers.housekeeping.findings import SeenPoint, short

PAGE = 1000
FIELDS = ["doc_id", "token", "version", "chunk_index", "digest", "embedded", "vector_error"]
_UNNAMED = ""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of points: ours, and the ids of those that are not."""

    ours: list[SeenPoint]
    foreign: list[str]


class QdrantAudit:
    """One physical collection, as audits read it."""

    def __init__(self, client: QdrantClient, collection: str, url: str) -> None:
        self._client = client
        self._collection = collection
        self._url = url

    @property
    def collection(self) -> str:
        """Physical collection."""
        return self._collection

    def pages(self) -> Iterator[Page]:
        """Yield every point, in the order in which Qdrant keeps them."""
        for records in self._scroll(None, FIELDS):
            yield _page(records)

    def points_of(self, document_ids: Sequence[str]) -> dict[str, list[SeenPoint]]:
        """Return the points of these documents, each document's by chunk index."""
        found: dict[str, list[SeenPoint]] = {}
        for records in self._scroll(m.Filter(must=[_any_of(document_ids)]), FIELDS):
            for point in _page(records).ours:
                found.setdefault(point.document_id, []).append(point)
        for points in found.values():
            points.sort(key=lambda point: (point.index, point.id))
        return found

    def bare(self, document_ids: Sequence[str] | None = None) -> Iterator[list[tuple[str, str]]]:
        """Yield (document id, point id) of points that say they are embedded and have no dense vector, in pages."""
        claim: list[Any] = [m.FieldCondition(key="embedded", match=m.MatchValue(value=True))]
        if document_ids is not None:
            claim.append(_any_of(document_ids))
        condition = m.Filter(must=claim, must_not=[m.HasVectorCondition(has_vector=_UNNAMED)])
        for records in self._scroll(condition, FIELDS):
            yield [(point.document_id, point.id) for point in _page(records).ours]

    def homes(self, document_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return (source, path) that the points of these documents name, by document id."""
        found: dict[str, tuple[str, str]] = {}
        wanted = ["doc_id", "metadata.source", "metadata.path"]
        for records in self._scroll(m.Filter(must=[_any_of(document_ids)]), wanted):
            for record in records:
                payload = record.payload or {}
                facts = payload.get("metadata") or {}
                if isinstance(facts, dict):
                    found[str(payload.get("doc_id"))] = (str(facts.get("source")), str(facts.get("path")))
        return found

    def forget(self, document_id: str, token: int) -> None:
        """Remove the points of a document, except those that an attempt after ``token`` has stored."""
        condition = m.Filter(must=[_any_of([document_id]), m.FieldCondition(key="token", range=m.Range(lte=token))])
        with translated(self._url):
            done = self._client.delete(self._collection, m.FilterSelector(filter=condition), wait=True)
        self._applied(done)

    def disclaim(self, point_ids: Sequence[str]) -> None:
        """Take back the claim of points that they are embedded; one that has its vector by now keeps it."""
        condition = m.Filter(
            must=[m.HasIdCondition(has_id=list(point_ids))],
            must_not=[m.HasVectorCondition(has_vector=_UNNAMED)],
        )
        with translated(self._url):
            done = self._client.set_payload(self._collection, payload={"embedded": False}, points=condition, wait=True)
        self._applied(done)

    def count(self) -> int:
        """Return how many points there are."""
        with translated(self._url):
            return self._client.count(self._collection, exact=True).count

    def _applied(self, result: m.UpdateResult) -> None:
        if result.status != m.UpdateStatus.COMPLETED:
            raise IndexUnavailable(f"Qdrant at {self._url} did not finish a write in time ({result.status}).")

    def _scroll(self, condition: m.Filter | None, payload: list[str]) -> Iterator[list[m.Record]]:
        offset: Any = None
        while True:
            with translated(self._url):
                records, offset = self._client.scroll(
                    self._collection,
                    scroll_filter=condition,
                    limit=PAGE,
                    offset=offset,
                    with_payload=payload,
                    with_vectors=False,
                )
            yield records
            if offset is None:
                return


def current_collection(client: QdrantClient, alias: str, url: str) -> str | None:
    """Return the physical collection behind ``alias``; None when either is gone."""
    names, aliases = physical_collections(client, url)
    target = aliases.get(alias)
    return target if target in names else None


def _page(records: Sequence[m.Record]) -> Page:
    page = Page([], [])
    for record in records:
        point = _ours(record)
        if point is None:
            page.foreign.append(str(record.id))
        else:
            page.ours.append(point)
    return page


def _ours(record: m.Record) -> SeenPoint | None:
    """Return the point if its id and its payload can be ours; None: somebody else has put it there."""
    payload = record.payload or {}
    document, version, digest = payload.get("doc_id"), payload.get("version"), payload.get("digest")
    token, index = payload.get("token"), payload.get("chunk_index")
    if not (isinstance(record.id, str) and isinstance(document, str) and _is_uuid(document)):
        return None
    if not (isinstance(version, str) and isinstance(digest, str) and isinstance(token, int) and isinstance(index, int)):
        return None
    return SeenPoint(
        id=str(record.id),
        document_id=document,
        index=index,
        token=token,
        version=short(version),
        embedded=payload.get("embedded") is True,
        refused="vector_error" in payload,
    )


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _any_of(document_ids: Sequence[str]) -> m.FieldCondition:
    return m.FieldCondition(key="doc_id", match=m.MatchAny(any=list(document_ids)))
