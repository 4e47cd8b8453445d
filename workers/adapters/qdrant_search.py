"""The only module that searches Qdrant.  It reads the alias, and writes nothing."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import httpx
import numpy as np

from workers.adapters.bm25 import SparseVector
from workers.adapters.language import NAMES
from workers.adapters.qdrant import connect
from workers.adapters.qdrant_filters import payload_key, qdrant_filter
from workers.adapters.qdrant_fusion import SPARSE, fused, lists_of, single, total, using
from workers.adapters.qdrant_models import QdrantException, ResponseHandlingException, UnexpectedResponse
from workers.adapters.qdrant_wire import ask, unanswered
from workers.contract.identity import TENANT
from workers.contract.settings import IndexSettings
from workers.errors import IndexMisconfigured, IndexUnavailable
from workers.query.filters import EVERYTHING, AnyOf, Condition, Exists, fields_of
from workers.query.ports import VectorRefused
from workers.query.values import Background, Found, Place, Vector

PREFETCH = 100
"""Fewest points in each list that is fused: DBSF takes a list's spread from its members, so not a handful."""

SPARE = 16
"""Points beyond the limit: so that ties at the limit are broken by us, and always in the same way."""

VECTORS_SEEN_S = 60.0
BACKGROUND_S, BACKGROUND_SMALL_S = 120.0, 5.0
SAMPLE = 256
"""How long a picture of the whole index is believed (a small one may grow), and how many of its vectors make it."""

TYPES_S = 30.0
TYPES_UNKNOWN_S = 2.0
"""How long the types of payload fields are believed; a field that nobody knew a moment ago may be new."""

LANGUAGES_S = 60.0
MOST_LANGUAGES = 3

_TENANT = {"key": "tenant", "match": {"value": TENANT}}
_OURS = {"must": [_TENANT]}
_EMBEDDED = {"key": "embedded", "match": {"value": True}}


class QdrantSearch:
    """One collection (by its alias), as the query worker reads it.  Threads may share it."""

    def __init__(self, settings: IndexSettings, *, timeout: float) -> None:
        self._url = settings.qdrant_url
        self._collection = settings.collection
        self._timeout = timeout
        self._vectors_seen_at: float | None = None
        self._types: tuple[float, Mapping[str, str]] | None = None
        self._languages: tuple[float, tuple[str, ...]] | None = None
        self._background: tuple[float, Background] | None = None
        self._client = connect(settings, timeout=timeout)

    def find(
        self,
        words: SparseVector | None,
        meaning: Vector | None,
        *,
        limit: int,
        filters: Condition = EVERYTHING,
        explain: bool = False,
        vectors: bool = False,
        unrelated: float | None = None,
    ) -> list[Found]:
        lists = lists_of(words, meaning, names_apart=meaning is not None and unrelated is not None)
        if not lists:
            return []
        condition = self._condition(filters)
        deep = max(PREFETCH, limit + SPARE)
        if len(lists) == 1:
            best = single(lists, condition)
        else:
            how = {"fusion": "dbsf"} if unrelated is None else total(lists, unrelated, self.background().points)
            best = fused(lists, condition, deep, how)
        best |= {"with_payload": True, "with_vector": vectors}
        others = [_ids_of(name, query, condition, deep) for name, query in lists.items()] if explain else []
        with self._translated(dense=meaning is not None, filtered=filters != EVERYTHING):
            points, *listed = self._ask([best | {"limit": limit + 1}, *others])
            if _tied(points, limit):
                points, *listed = self._ask([best | {"limit": limit + SPARE}, *others])
        places = dict(zip(lists, listed, strict=False))
        ranked = sorted(points, key=lambda point: (-point["score"], str(point["id"])))[:limit]
        return [_found(point, places) for point in ranked]

    def facts(
        self, words: SparseVector, *, limit: int, filters: Condition = EVERYTHING, fields: Sequence[str] = ()
    ) -> list[Found]:
        """One request without texts and vectors: a sparse query finds every point that shares a token with it."""
        if not words.indices:
            return []
        condition = self._condition(filters)
        with self._translated(filtered=filters != EVERYTHING):
            [points] = self._ask(
                [
                    {
                        "query": {"indices": words.indices, "values": words.values},
                        "using": SPARSE,
                        "filter": condition,
                        "limit": limit,
                        "with_payload": ["doc_id", *map(payload_key, fields)],
                    }
                ]
            )
        return [_point(point) for point in points]

    def neighbours(self, found: Sequence[Found], reach: int) -> Mapping[str, list[Found]]:
        """One request for all: the chunks of the same document and version that stand up to ``reach`` places away."""
        requests = [
            {
                "filter": {
                    "must": [
                        {"key": "doc_id", "match": {"value": one.doc_id}},
                        {
                            "key": "chunk_index",
                            "range": {"gte": one.chunk_index - reach, "lte": one.chunk_index + reach},
                        },
                        _TENANT,
                    ]
                },
                "limit": 2 * reach + 8,  # an edit under way may have left some of an older version
                "with_payload": True,
            }
            for one in found
        ]
        if not requests:
            return {}
        with self._translated():
            answers = self._ask(requests)
        return {
            one.id: sorted(
                (other for other in map(_point, points) if _beside(other, one)),
                key=lambda each: each.chunk_index,
            )
            for one, points in zip(found, answers, strict=True)
        }

    def unknown(self, fields: Collection[str]) -> Mapping[str, str | None]:
        """A field gets an index when it is first seen; those without one are looked for: not every one gets it."""
        keys = {field: payload_key(field) for field in sorted(fields)}
        types = self._types_of(set(keys.values()))
        asked = [field for field, key in keys.items() if key not in types]
        if not asked:
            return {}
        conditions = [qdrant_filter(Exists(field), types).model_dump(mode="json", exclude_none=True) for field in asked]
        with self._translated(filtered=True):
            answers = self._ask([{"filter": each, "limit": 1, "with_payload": False} for each in conditions])
        known = _fields(types)
        return {
            field: next(iter(get_close_matches(field.removeprefix("metadata."), known, 1)), None)
            for field, points in zip(asked, answers, strict=True)
            if not points
        }

    def fields(self) -> Sequence[str]:
        """Those that have an index: each gets one when it is first seen, up to a bound."""
        return _fields(self._types_of(set()))

    def chunks_of(self, document: str, *, limit: int) -> list[Found]:
        """Return a document's chunks in reading order, at most ``limit``."""
        condition = self._condition(AnyOf("doc_id", (document,)))
        with self._translated():
            records = self._scrolled(condition, limit, with_payload=True)
        return sorted((_point(record) for record in records), key=lambda each: each.chunk_index)

    def languages(self) -> tuple[str, ...]:
        """Return the languages of most chunks, English names; remembered for a minute."""
        now = time.monotonic()
        if self._languages is None or now - self._languages[0] > LANGUAGES_S:
            with self._translated():
                counts = self._client.facet(self._collection, "metadata.language", limit=10).hits
            names = [NAMES[str(hit.value)] for hit in counts if str(hit.value) in NAMES]
            self._languages = (now, tuple(names[:MOST_LANGUAGES]))
        return self._languages[1]

    def rarity(self, tokens: Sequence[int]) -> Mapping[int, float]:
        """Ask for the best point of each token: its score is the token's IDF times the weight that it holds itself."""
        if not tokens:
            return {}
        requests = [
            {"query": {"indices": [token], "values": [1.0]}, "using": SPARSE, "limit": 1, "with_vector": [SPARSE]}
            for token in tokens
        ]
        with self._translated():
            answers = self._ask(requests)
        found: dict[int, float] = {}
        for token, points in zip(tokens, answers, strict=True):
            for point in points:
                vector = (point.get("vector") or {}).get(SPARSE)
                if vector and token in vector["indices"]:
                    found[token] = point["score"] / vector["values"][vector["indices"].index(token)]
        return found

    def background(self) -> Background:
        """Return points and a sample of vectors, remembered for some minutes.

        Ids are digests, so the first ones in their order are a fair sample, and asking for them reads little.
        """
        now = time.monotonic()
        if self._background is None or now - self._background[0] > _believed_s(self._background[1]):
            with self._translated():
                points = self._client.get_collection(self._collection).points_count or 0
                ours = {"must": [_TENANT, _EMBEDDED]}
                records = self._scrolled(ours, SAMPLE, with_vector=True)
            rows = [vector for record in records if (vector := _point(record).vector) is not None]
            sample = np.stack(rows) if rows else np.zeros((0, 0), dtype=np.float32)
            lengths = np.linalg.norm(sample, axis=1, keepdims=True)
            self._background = (now, Background(points, sample / np.maximum(lengths, 1e-12)))
        return self._background[1]

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
            with self._translated():
                records = self._scrolled({"must": [_EMBEDDED]}, 1)
            self._vectors_seen_at = now if records else None
        return self._vectors_seen_at is not None

    def _ask(self, requests: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
        """Ask all in one request; returns the points of each."""
        answers = ask(self._client, self._collection, "/points/query/batch", {"searches": requests})
        return [answer["points"] for answer in answers]

    def _scrolled(
        self, condition: Mapping[str, Any], limit: int, *, with_payload: bool = False, with_vector: bool = False
    ) -> list[dict[str, Any]]:
        page = {"filter": condition, "limit": limit, "with_payload": with_payload, "with_vector": with_vector}
        points: list[dict[str, Any]] = ask(self._client, self._collection, "/points/scroll", page)["points"]
        return points

    def _condition(self, filters: Condition) -> Mapping[str, Any]:
        if filters == EVERYTHING:
            return _OURS
        types = self._types_of({payload_key(field) for field in fields_of(filters)})
        return qdrant_filter(filters, types).model_dump(mode="json", exclude_none=True)

    def _types_of(self, keys: set[str]) -> Mapping[str, str]:
        """Return the types of the payload's indexes, by key."""
        now = time.monotonic()
        if self._types is not None:
            at, types = self._types
            if now - at < (TYPES_S if keys <= types.keys() else TYPES_UNKNOWN_S):
                return types
        with self._translated():
            schema = self._client.get_collection(self._collection).payload_schema
        types = {key: str(info.data_type.value) for key, info in schema.items()}
        self._types = (now, types)
        return types

    def check(self) -> None:
        """Raise what a search would raise now: IndexUnavailable or IndexMisconfigured."""
        with self._translated():
            self._client.get_collection(self._collection)

    def close(self) -> None:
        """Give connections back."""
        self._client.close()

    @contextmanager
    def _translated(self, *, dense: bool = False, filtered: bool = False) -> Iterator[None]:
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
            if status in (400, 422) and filtered:
                raise IndexMisconfigured(
                    f"{told} refuses the filter ({status}). In strict mode a field needs an index: name it in"
                    " UPWELL_METADATA_INDEXES."
                ) from None
            raise IndexMisconfigured(f"{told} refuses the search with {status}.") from None
        except QdrantException:  # what the client makes of a 429 with Retry-After
            raise IndexUnavailable(f"{told} answers 429.") from None
        except (ResponseHandlingException, httpx.HTTPError, OSError) as exc:
            raise IndexUnavailable(unanswered(exc, told, f"{self._timeout:g} s (UPWELL_SEARCH_TIMEOUT)")) from None


def _ids_of(name: str, query: Any, condition: Mapping[str, Any], limit: int) -> dict[str, Any]:
    return {"query": query, "using": using(name), "filter": condition, "limit": limit, "with_payload": False}


def _tied(points: Sequence[Mapping[str, Any]], limit: int) -> bool:
    """Tell whether the last that is wanted and the first that is not are equally good."""
    return len(points) > limit and bool(points[limit - 1]["score"] == points[limit]["score"])


def _found(point: Mapping[str, Any], lists: Mapping[str, Sequence[Mapping[str, Any]]]) -> Found:
    places = {
        name: Place(rank, other["score"])
        for name, points in lists.items()
        for rank, other in enumerate(points, 1)
        if other["id"] == point["id"]
    }
    return replace(_point(point), lists=places) if places else _point(point)


def _point(point: Mapping[str, Any]) -> Found:
    vector = point.get("vector")
    dense = vector.get("") if isinstance(vector, dict) else vector
    return Found(
        str(point["id"]),
        point.get("score", 0.0),
        point.get("payload") or {},
        vector=np.asarray(dense, dtype=np.float32) if isinstance(dense, list) else None,
    )


def _believed_s(picture: Background) -> float:
    """Return how long a picture of the index is believed: a small one may be growing."""
    return BACKGROUND_S if picture.points > SAMPLE else BACKGROUND_SMALL_S


def _beside(other: Found, one: Found) -> bool:
    return other.id != one.id and other.version == one.version


def _fields(types: Mapping[str, str]) -> list[str]:
    """Return the names of fields as people write them, without those that are nobody's to ask for."""
    return sorted(key.removeprefix("metadata.").replace('"', "") for key in types if key not in ("tenant", "token"))
