"""What the index holds of one document: all of it, or the part that somebody reads."""

from __future__ import annotations

from typing import Any

import httpx

from workers.contract.identity import TENANT

BATCH = 500


class Chunks:
    """Reads chunks in their order.

    Each has ``id``, ``index`` (its place, from 0), ``page``, ``heading``, ``url``, ``content``, ``embedded`` and
    ``version``.  While an edit is under way a place may have two, of the old version and of the new one.
    """

    def __init__(self, qdrant: httpx.Client, collection: str) -> None:
        self._qdrant = qdrant
        self._collection = collection

    def all(self, document_id: str) -> list[dict[str, Any]]:
        """Return every chunk of a document.

        Raises:
            httpx.HTTPError: Qdrant is away.
        """
        return self._scrolled(document_id)

    def part(self, document_id: str, first: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        """Return the chunks at ``limit`` places from ``first`` on, and the place that follows; None: none does.

        Raises:
            httpx.HTTPError: Qdrant is away.
        """
        end = first + limit
        found = self._scrolled(document_id, {"key": "chunk_index", "range": {"gte": first, "lte": end}})
        following = end if any(chunk["index"] == end for chunk in found) else None
        return [chunk for chunk in found if chunk["index"] < end], following

    def around(self, document_id: str, chunk_id: str, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        """Return the same for ``limit`` places with a chunk in their middle; nothing if it is not there (any more).

        Raises:
            httpx.HTTPError: Qdrant is away.
        """
        found = self._scrolled(document_id, {"has_id": [chunk_id]})
        if not found:
            return [], None
        return self.part(document_id, max(0, found[0]["index"] - limit // 2), limit)

    def _scrolled(self, document_id: str, *conditions: dict[str, Any]) -> list[dict[str, Any]]:
        own = {"key": "doc_id", "match": {"value": document_id}}
        must = [own, {"key": "tenant", "match": {"value": TENANT}}, *conditions]
        found: list[dict[str, Any]] = []
        offset: Any = None
        while True:
            body = {"filter": {"must": must}, "limit": BATCH, "offset": offset, "with_payload": True}
            answer = self._qdrant.post(f"/collections/{self._collection}/points/scroll", json=body)
            if answer.status_code == 404:
                return []
            result = answer.raise_for_status().json()["result"]
            found += map(_chunk, result["points"])
            offset = result["next_page_offset"]
            if offset is None:
                return sorted(found, key=lambda chunk: chunk["index"])


def _chunk(point: dict[str, Any]) -> dict[str, Any]:
    payload = point["payload"] or {}
    facts = payload.get("metadata") or {}
    return {
        "id": point["id"],
        "index": payload.get("chunk_index", 0),
        "page": facts.get("page"),
        "heading": facts.get("heading"),
        "url": facts.get("url"),
        "content": payload.get("content", ""),
        "embedded": bool(payload.get("embedded")),
        "version": payload.get("version"),
    }
