"""The only module that searches Qdrant.  It reads the alias, and writes nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
from qdrant_client import QdrantClient
from qdrant_client import models as m
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from workers.adapters.bm25 import SparseVector
from workers.contract.settings import IndexSettings
from workers.errors import IndexMisconfigured, IndexUnavailable
from workers.query.ports import VectorRefused
from workers.query.values import Filters, Found, Place, Scalar, Vector

SPARSE = "bm25"
TENANT = "default"
PREFETCH = 100
"""Fewest points in each list that is fused: DBSF takes a list's spread from its members, so not a handful."""

SPARE = 16
"""Points beyond the limit: so that ties at the limit are broken by us, and always in the same way."""

VECTORS_SEEN_S = 60.0

_TOP_LEVEL = frozenset({"doc_id", "version", "digest", "chunk_index", "indexed_at", "embedded"})
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


class QdrantSearch:
    """One collection (by its alias), as the query worker reads it.  Threads may share it."""

    def __init__(self, settings: IndexSettings, *, timeout: float) -> None:
        key = settings.qdrant_api_key
        self._url = settings.qdrant_url
        self._collection = settings.collection
        self._vectors_seen_at: float | None = None
        # One client per process: each costs tens of milliseconds.
        self._client = QdrantClient(
            url=self._url,
            api_key=key.get_secret_value() if key else None,
            timeout=max(1, round(timeout)),
            prefer_grpc=False,
            check_compatibility=False,
        )

    def find(
        self, words: SparseVector | None, meaning: Vector | None, *, limit: int, filters: Filters, explain: bool = False
    ) -> list[Found]:
        lists: dict[str, Any] = {}
        if meaning is not None:
            lists["dense"] = meaning.tolist()
        if words is not None and words.indices:
            lists["bm25"] = m.SparseVector(indices=words.indices, values=words.values)
        if not lists:
            return []
        condition = _condition(filters)
        wanted = limit + SPARE
        deep = max(PREFETCH, wanted)
        requests = [_fused(lists, condition, wanted, deep) if len(lists) == 2 else _single(lists, condition, wanted)]
        if explain:
            requests += [_ids_of(name, query, condition, deep) for name, query in lists.items()]
        with self._translated(dense=meaning is not None):
            answers = self._client.query_batch_points(self._collection, requests)
        places = dict(zip(lists, answers[1:], strict=False))
        found = [_found(point, places) for point in answers[0].points]
        return sorted(found, key=lambda hit: (-hit.score, hit.id))[:limit]

    def rarity(self, tokens: Sequence[int]) -> Mapping[int, float]:
        """Ask for the best point of each token: its score is the token's IDF times the weight that it holds itself."""
        if not tokens:
            return {}
        requests = [
            m.QueryRequest(
                query=m.SparseVector(indices=[token], values=[1.0]), using=SPARSE, limit=1, with_vector=[SPARSE]
            )
            for token in tokens
        ]
        with self._translated():
            answers = self._client.query_batch_points(self._collection, requests)
        found: dict[int, float] = {}
        for token, answer in zip(tokens, answers, strict=True):
            for point in answer.points:
                vector = point.vector.get(SPARSE) if isinstance(point.vector, dict) else None
                if isinstance(vector, m.SparseVector) and token in vector.indices:
                    found[token] = point.score / vector.values[vector.indices.index(token)]
        return found

    def present(self, ids: Sequence[str]) -> frozenset[str]:
        if not ids:
            return frozenset()
        with self._translated():
            records = self._client.retrieve(self._collection, list(ids), with_payload=False, with_vectors=False)
        return frozenset(str(record.id) for record in records)

    def has_vectors(self) -> bool:
        """A yes holds for a minute; a no is asked again each time, because the first vectors are on their way."""
        now = time.monotonic()
        if self._vectors_seen_at is None or now - self._vectors_seen_at > VECTORS_SEEN_S:
            embedded = m.Filter(must=[m.FieldCondition(key="embedded", match=m.MatchValue(value=True))])
            with self._translated():
                records, _ = self._client.scroll(
                    self._collection, scroll_filter=embedded, limit=1, with_payload=False, with_vectors=False
                )
            self._vectors_seen_at = now if records else None
        return self._vectors_seen_at is not None

    def check(self) -> None:
        """Raise what a search would raise now: IndexUnavailable or IndexMisconfigured."""
        with self._translated():
            self._client.get_collection(self._collection)

    def close(self) -> None:
        """Give connections back."""
        self._client.close()

    @contextmanager
    def _translated(self, *, dense: bool = False) -> Iterator[None]:
        """Turn the client's exceptions into ours; the text never repeats what was sent."""
        told = f"Qdrant at {self._url} (UPWELL_QDRANT_URL)"
        try:
            yield
        except UnexpectedResponse as exc:
            status = exc.status_code or 500
            if status in (401, 403):
                raise IndexMisconfigured(f"{told} refuses the key (UPWELL_QDRANT_API_KEY).") from None
            if status == 404:
                raise IndexUnavailable(
                    f"{told} has no collection {self._collection!r} yet (UPWELL_COLLECTION). The first index worker"
                    " makes it: is one running?"
                ) from None
            if status == 400 and dense:
                raise VectorRefused(
                    f"{told} refuses the query's vector: the collection was filled with another model than"
                    " UPWELL_EMBEDDINGS_MODEL."
                ) from None
            if status in (408, 429) or status >= 500:
                raise IndexUnavailable(f"{told} answers {status}.") from None
            raise IndexMisconfigured(f"{told} refuses the search with {status}.") from None
        except (ResponseHandlingException, httpx.HTTPError, OSError) as exc:
            reason = type(exc.__cause__ or exc).__name__
            raise IndexUnavailable(f"No answer from {told}: {reason}. Is it running?") from None


def _fused(lists: Mapping[str, Any], condition: m.Filter, limit: int, deep: int) -> m.QueryRequest:
    return m.QueryRequest(
        prefetch=[
            # The filter belongs into each list: applied after the fusion it would leave less than was asked for.
            m.Prefetch(query=query, using=_using(name), filter=condition, limit=deep)
            for name, query in lists.items()
        ],
        query=m.FusionQuery(fusion=m.Fusion.DBSF),
        limit=limit,
        with_payload=True,
    )


def _single(lists: Mapping[str, Any], condition: m.Filter, limit: int) -> m.QueryRequest:
    ((name, query),) = lists.items()
    return m.QueryRequest(query=query, using=_using(name), filter=condition, limit=limit, with_payload=True)


def _ids_of(name: str, query: Any, condition: m.Filter, limit: int) -> m.QueryRequest:
    return m.QueryRequest(query=query, using=_using(name), filter=condition, limit=limit, with_payload=False)


def _using(name: str) -> str | None:
    return SPARSE if name == "bm25" else None  # the dense vector is the unnamed one


def _found(point: m.ScoredPoint, lists: Mapping[str, m.QueryResponse]) -> Found:
    places = {
        name: Place(rank, other.score)
        for name, answer in lists.items()
        for rank, other in enumerate(answer.points, 1)
        if other.id == point.id
    }
    return Found(str(point.id), point.score, point.payload or {}, places)


# ----------------------------------------------------------------------------------------------------------- filters


def _condition(filters: Filters) -> m.Filter:
    """The tenant is added here, outside of whatever was asked: no filter can widen what is seen."""
    asked: list[Any] = [_any_of(_key(field), values) for field, values in filters.items()]
    return m.Filter(must=[_equals("tenant", TENANT), *asked])


def _key(field: str) -> str:
    """Return the payload key of a field as people know it: ``filetype``, ``metadata.filetype``, ``doc_id``."""
    if field in _TOP_LEVEL:
        return field
    parts = field.removeprefix("metadata.").split(".")
    return ".".join(["metadata", *(part if _PLAIN.fullmatch(part) else f'"{part}"' for part in parts)])


def _any_of(key: str, values: Sequence[Scalar]) -> m.Filter:
    conditions: list[Any] = []
    strings = [value for value in values if isinstance(value, str)]
    if strings:
        conditions.append(m.FieldCondition(key=key, match=m.MatchAny(any=strings)))
    conditions += [_equals(key, value) for value in values if not isinstance(value, str)]
    conditions += [_equals(key, typed) for value in strings for typed in _typed(value)]
    return m.Filter(should=conditions)


def _typed(text: str) -> list[Scalar]:
    """A command line knows only strings: ``page=3`` must find the number 3, ``draft=true`` the truth value."""
    if text in ("true", "false"):
        return [text == "true"]
    try:
        return [int(text)] if re.fullmatch(r"-?\d{1,18}", text, re.ASCII) else [float(text)] if "." in text else []
    except ValueError:
        return []


def _equals(key: str, value: Scalar) -> m.FieldCondition:
    if isinstance(value, float):
        return m.FieldCondition(key=key, range=m.Range(gte=value, lte=value))
    return m.FieldCondition(key=key, match=m.MatchValue(value=value))
