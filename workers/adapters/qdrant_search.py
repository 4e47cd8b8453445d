"""The only module that searches Qdrant.  It reads the alias, and writes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import numpy as np

from workers.adapters.bm25 import SparseVector
from workers.adapters.language import NAMES
from workers.adapters.qdrant import connect
from workers.adapters.qdrant_filters import TENANT, payload_key, qdrant_filter
from workers.adapters.qdrant_models import ResponseHandlingException, UnexpectedResponse
from workers.adapters.qdrant_models import models as m
from workers.contract.settings import IndexSettings
from workers.errors import IndexMisconfigured, IndexUnavailable
from workers.query.filters import EVERYTHING, AnyOf, Condition, fields_of
from workers.query.ports import VectorRefused
from workers.query.values import Background, Found, Place, Vector

SPARSE = "bm25"
PREFETCH = 100
"""Fewest points in each list that is fused: DBSF takes a list's spread from its members, so not a handful."""

SPARE = 16
"""Points beyond the limit: so that ties at the limit are broken by us, and always in the same way."""

DENSE_WEIGHT = 1.7
BM25_WORD, BM25_LEAST, BM25_POWER = 3.0, 10.0, 1.5
"""The BM25 score that is worth half of the most that words can give: so much for each word that is asked for, and how
steep it is there.  A few words in common with a long question, or with one in another language, are chance or a name,
and must not outweigh what is near by meaning."""

VECTORS_SEEN_S = 60.0
BACKGROUND_S = 120.0
SAMPLE = 256
"""How long a picture of the whole index is believed, and how many of its vectors make it."""

TYPES_S = 30.0
TYPES_UNKNOWN_S = 2.0
"""How long the types of payload fields are believed; a field that nobody knew a moment ago may be new."""

LANGUAGES_S = 60.0
MOST_LANGUAGES = 3


class QdrantSearch:
    """One collection (by its alias), as the query worker reads it.  Threads may share it."""

    def __init__(self, settings: IndexSettings, *, timeout: float) -> None:
        self._url = settings.qdrant_url
        self._collection = settings.collection
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
        lists: dict[str, Any] = {}  # dense first: the formula of the fusion counts on it
        if meaning is not None:
            lists["dense"] = meaning.tolist()
        if words is not None and words.indices:
            lists["bm25"] = m.SparseVector(indices=words.indices, values=words.values)
        if not lists:
            return []
        condition = self._condition(filters)
        wanted = limit + SPARE
        deep = max(PREFETCH, wanted)
        fused = len(lists) == 2
        requests = [_fused(lists, condition, wanted, deep, unrelated) if fused else _single(lists, condition, wanted)]
        requests[0].with_vector = vectors
        if explain:
            requests += [_ids_of(name, query, condition, deep) for name, query in lists.items()]
        with self._translated(dense=meaning is not None, filtered=filters != EVERYTHING):
            answers = self._ask(requests)
        places = dict(zip(lists, answers[1:], strict=False))
        best = sorted(answers[0].points, key=lambda point: (-point.score, str(point.id)))[:limit]
        return [_found(point, places) for point in best]

    def facts(
        self, words: SparseVector, *, limit: int, filters: Condition = EVERYTHING, fields: Sequence[str] = ()
    ) -> list[Found]:
        """One request without texts and vectors: a sparse query finds every point that shares a token with it."""
        if not words.indices:
            return []
        condition = self._condition(filters)
        with self._translated(filtered=filters != EVERYTHING):
            answer = self._client.query_points(
                self._collection,
                query=m.SparseVector(indices=words.indices, values=words.values),
                using=SPARSE,
                query_filter=condition,
                limit=limit,
                with_payload=["doc_id", *map(payload_key, fields)],
            )
        return [_point(point) for point in answer.points]

    def neighbours(self, found: Sequence[Found], reach: int) -> Mapping[str, list[Found]]:
        """One request for all: the chunks of the same document and version that stand up to ``reach`` places away."""
        requests = [
            m.QueryRequest(
                filter=m.Filter(
                    must=[
                        m.FieldCondition(key="doc_id", match=m.MatchValue(value=one.doc_id)),
                        m.FieldCondition(
                            key="chunk_index", range=m.Range(gte=one.chunk_index - reach, lte=one.chunk_index + reach)
                        ),
                        m.FieldCondition(key="tenant", match=m.MatchValue(value=TENANT)),
                    ],
                ),
                limit=2 * reach + 8,  # an edit under way may have left some of an older version
                with_payload=True,
            )
            for one in found
        ]
        if not requests:
            return {}
        with self._translated():
            answers = self._ask(requests)
        return {
            one.id: sorted(
                (other for other in map(_point, answer.points) if _beside(other, one)),
                key=lambda each: each.chunk_index,
            )
            for one, answer in zip(found, answers, strict=True)
        }

    def chunks_of(self, document: str, *, limit: int) -> list[Found]:
        """Return a document's chunks in reading order, at most ``limit``."""
        condition = self._condition(AnyOf("doc_id", (document,)))
        with self._translated():
            records, _ = self._client.scroll(
                self._collection, scroll_filter=condition, limit=limit, with_payload=True, with_vectors=False
            )
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
            m.QueryRequest(
                query=m.SparseVector(indices=[token], values=[1.0]), using=SPARSE, limit=1, with_vector=[SPARSE]
            )
            for token in tokens
        ]
        with self._translated():
            answers = self._ask(requests)
        found: dict[int, float] = {}
        for token, answer in zip(tokens, answers, strict=True):
            for point in answer.points:
                vector = point.vector.get(SPARSE) if isinstance(point.vector, dict) else None
                if isinstance(vector, m.SparseVector) and token in vector.indices:
                    found[token] = point.score / vector.values[vector.indices.index(token)]
        return found

    def background(self) -> Background:
        """Return points and a sample of vectors, remembered for some minutes.

        Ids are digests, so the first ones in their order are a fair sample, and asking for them reads little.
        """
        now = time.monotonic()
        if self._background is None or now - self._background[0] > BACKGROUND_S:
            embedded = m.FieldCondition(key="embedded", match=m.MatchValue(value=True))
            with self._translated():
                points = self._client.get_collection(self._collection).points_count or 0
                records, _ = self._client.scroll(
                    self._collection,
                    scroll_filter=m.Filter(
                        must=[m.FieldCondition(key="tenant", match=m.MatchValue(value=TENANT)), embedded]
                    ),
                    limit=SAMPLE,
                    with_payload=False,
                    with_vectors=True,
                )
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
            embedded = m.Filter(must=[m.FieldCondition(key="embedded", match=m.MatchValue(value=True))])
            with self._translated():
                records, _ = self._client.scroll(
                    self._collection, scroll_filter=embedded, limit=1, with_payload=False, with_vectors=False
                )
            self._vectors_seen_at = now if records else None
        return self._vectors_seen_at is not None

    def _ask(self, requests: list[m.QueryRequest]) -> list[m.QueryResponse]:
        """Ask all in one request.

        One level below `QdrantClient.query_batch_points`, which copies every number of every vector first, in case that
        there is a text to be embedded among them.
        """
        answer = self._client.http.search_api.query_batch_points(
            self._collection, query_request_batch=m.QueryRequestBatch(searches=requests)
        )
        return answer.result or []

    def _condition(self, filters: Condition) -> m.Filter:
        if filters == EVERYTHING:
            return qdrant_filter(filters, {})
        return qdrant_filter(filters, self._types_of({payload_key(field) for field in fields_of(filters)}))

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
            if status in (400, 403, 422) and filtered:
                raise IndexMisconfigured(
                    f"{told} refuses the filter ({status}). In strict mode a field needs an index: name it in"
                    " UPWELL_METADATA_INDEXES."
                ) from None
            raise IndexMisconfigured(f"{told} refuses the search with {status}.") from None
        except (ResponseHandlingException, httpx.HTTPError, OSError) as exc:
            reason = type(exc.__cause__ or exc).__name__
            raise IndexUnavailable(f"No answer from {told}: {reason}. Is it running?") from None


def _fused(
    lists: Mapping[str, Any], condition: m.Filter, limit: int, deep: int, unrelated: float | None
) -> m.QueryRequest:
    return m.QueryRequest(
        prefetch=[
            # The filter belongs into each list: applied after the fusion it would leave less than was asked for.
            m.Prefetch(query=query, using=_using(name), filter=condition, limit=deep)
            for name, query in lists.items()
        ],
        query=_sum(unrelated, sum(lists["bm25"].values))
        if unrelated is not None
        else m.FusionQuery(fusion=m.Fusion.DBSF),
        limit=limit,
        with_payload=True,
    )


def _sum(unrelated: float, words_asked: float) -> m.FormulaQuery:
    """Return what both scores make together: each between 0 and about 1, whatever the model and the query's length.

    dense: how far the cosine is above what counts as nothing for this query, in units of the room there; a point that
    is not in that list has that.  BM25: x^1.5 / (x^1.5 + h^1.5), where h grows with the query.  Constants in ADR 0025.
    """
    weight = DENSE_WEIGHT / max(0.05, 1.0 - unrelated)
    dense = m.MultExpression(mult=[weight, m.SumExpression(sum=["$score[0]", -unrelated])])
    raised = m.PowExpression(pow=m.PowParams(base="$score[1]", exponent=BM25_POWER))
    room = m.SumExpression(sum=[raised, max(BM25_LEAST, BM25_WORD * words_asked) ** BM25_POWER])
    words = m.DivExpression(div=m.DivParams(left=raised, right=room))
    return m.FormulaQuery(
        formula=m.SumExpression(sum=[dense, words]), defaults={"$score[0]": unrelated, "$score[1]": 0.0}
    )


def _single(lists: Mapping[str, Any], condition: m.Filter, limit: int) -> m.QueryRequest:
    ((name, query),) = lists.items()
    return m.QueryRequest(query=query, using=_using(name), filter=condition, limit=limit, with_payload=True)


def _ids_of(name: str, query: Any, condition: m.Filter, limit: int) -> m.QueryRequest:
    return m.QueryRequest(query=query, using=_using(name), filter=condition, limit=limit, with_payload=False)


def _using(name: str) -> str | None:
    return SPARSE if name == "bm25" else None  # the dense vector is the unnamed one


def _found(point: m.ScoredPoint, lists: Mapping[str, m.QueryResponse]) -> Found:
    if not lists:
        return _point(point)
    places = {
        name: Place(rank, other.score)
        for name, answer in lists.items()
        for rank, other in enumerate(answer.points, 1)
        if other.id == point.id
    }
    return replace(_point(point), lists=places)


def _point(point: m.ScoredPoint | m.Record) -> Found:
    vector = point.vector
    dense = vector.get("") if isinstance(vector, dict) else vector
    return Found(
        str(point.id),
        point.score if isinstance(point, m.ScoredPoint) else 0.0,
        point.payload or {},
        vector=np.asarray(dense, dtype=np.float32) if isinstance(dense, list) else None,
    )


def _beside(other: Found, one: Found) -> bool:
    return other.id != one.id and other.version == one.version
