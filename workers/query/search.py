"""Finds chunks: by words and by meaning where it can, by words alone where it must, and says which."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from workers.adapters.bm25 import SparseVector, query_vector
from workers.adapters.embeddings import InputRefused
from workers.errors import EmbedderMisconfigured, EmbedderUnavailable
from workers.query.ports import Embedder, SearchIndex, VectorRefused
from workers.query.requests import SearchRequest
from workers.query.values import Found, Mode, Vector
from workers.query.words import Span, Terms

log = structlog.get_logger()

NO_VECTORS = "No chunk has a vector yet; searched by words."


@dataclass(frozen=True, slots=True)
class Hit:
    """A point that was found, and why."""

    found: Found
    highlights: list[Span]
    explain: Mapping[str, Any] | None

    def as_json(self) -> dict[str, Any]:
        """Return the hit as readers get it."""
        return {
            "id": self.found.id,
            "doc_id": self.found.doc_id,
            "score": self.found.score,
            "content": self.found.content,
            "metadata": self.found.metadata,
            "highlights": [list(span) for span in self.highlights],
            "explain": self.explain,
        }


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search gave.  ``degraded`` says why it was not what was asked for; None: it was."""

    hits: tuple[Hit, ...]
    mode: Mode
    degraded: str | None
    took_ms: float
    meaning: Vector | None = None  # of the query; answering needs it again

    def as_json(self) -> dict[str, Any]:
        """Return the result as readers get it."""
        return {
            "hits": [hit.as_json() for hit in self.hits],
            "mode": self.mode,
            "degraded": self.degraded,
            "took_ms": self.took_ms,
        }


def search(request: SearchRequest, *, index: SearchIndex, embedder: Embedder) -> SearchResult:
    """Return the best chunks for the request.

    Raises:
        IndexUnavailable, IndexMisconfigured: without the index there is nothing to degrade to.
    """
    started = time.monotonic()
    words = query_vector(request.query)
    meaning, degraded = (None, None) if request.mode == "lexical" else _meaning(request.query, index, embedder)
    try:
        found = _find(request, words, meaning, index)
    except VectorRefused as exc:
        meaning, degraded = None, str(exc)
        found = _find(request, words, None, index)
    if degraded:
        log.info("search.degraded", reason=degraded)
    terms = Terms(request.query)
    return SearchResult(
        hits=tuple(_hit(one, terms, explain=request.explain) for one in found),
        mode="lexical" if meaning is None else request.mode,
        degraded=degraded,
        took_ms=round((time.monotonic() - started) * 1000, 1),
        meaning=meaning,
    )


def _find(request: SearchRequest, words: SparseVector, meaning: Vector | None, index: SearchIndex) -> list[Found]:
    semantic = request.mode == "semantic" and meaning is not None
    return index.find(
        None if semantic else words, meaning, limit=request.limit, filters=request.wanted, explain=request.explain
    )


def _meaning(query: str, index: SearchIndex, embedder: Embedder) -> tuple[Vector | None, str | None]:
    """Return the query's vector, or why there is none."""
    if not index.has_vectors():
        return None, NO_VECTORS
    try:
        return embedder.query(query), None
    except (EmbedderUnavailable, EmbedderMisconfigured, InputRefused) as exc:
        return None, str(exc)


def _hit(found: Found, terms: Terms, *, explain: bool) -> Hit:
    return Hit(found, terms.highlights(found.content), _explained(found, terms) if explain else None)


def _explained(found: Found, terms: Terms) -> dict[str, Any]:
    heading = found.metadata.get("heading")
    text = f"{heading}\n\n{found.content}" if heading else found.content
    return {
        "score": found.score,
        "fusion": "dbsf" if len(found.lists) > 1 else None,
        "lists": {name: {"rank": place.rank, "score": place.score} for name, place in found.lists.items()},
        "matched": terms.matched(text),
    }
