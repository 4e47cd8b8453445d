"""Finds chunks: by words and by meaning where it can, by words alone where it must, and says which.

find       candidates from both lists, fused in the index; filters apply inside of each list
age        on request, newer documents gain
together   a chunk gains from the best one of its document
collapse   what says the same as a better one goes behind it
rerank     where there is a reranker, it orders the best
diversify  on request, what is like a better one waits
cap        a document shows its best chunks first, and the others after those of other documents
join       chunks that stand side by side, and are nearly as good, are one hit
expand     on request, the chunks before and after
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from workers.adapters.embeddings import InputRefused
from workers.errors import EmbedderMisconfigured, EmbedderUnavailable, RerankerMisconfigured, RerankerUnavailable
from workers.query import ranking
from workers.query.explain import explained
from workers.query.facets import Facets, count_facets, field_of
from workers.query.filters import fields_of
from workers.query.passages import Passage, joined, passage
from workers.query.ports import Embedder, Reranker, SearchIndex, VectorRefused
from workers.query.ranking import Candidate
from workers.query.requests import SearchRequest
from workers.query.values import Found, Mode, Vector
from workers.query.words import Span, Terms

log = structlog.get_logger()

NO_VECTORS = "No chunk has a vector yet; searched by words."
POOL = 3
"""Candidates for each hit that is wanted: some are duplicates, some are beyond a document's share."""

LEAST_POOL = 30
DEEP_POOL = 200
"""Candidates where age counts, because what is new may be far down; and those that are counted without words."""

FACETED = 2_000
"""Chunks with a word of the query whose facts are counted at most; where there are more, the result says so."""

RERANKED = 30
PER_DOCUMENT = 5
"""Chunks that a document shows before others come, or half of the hits, unless the request says how many.

The answer is often in the document that has the best chunk: a cap of 3 found .07 fewer answers in the first five hits.
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """A point that was found, and why."""

    found: Found
    highlights: list[Span]
    explain: Mapping[str, Any] | None
    duplicates: Sequence[Found] = ()
    neighbours: Sequence[Found] | None = None  # None: nobody asked
    passage: Passage | None = None  # None: this chunk alone
    score: float | None = None  # None: the index's

    def as_json(self) -> dict[str, Any]:
        """Return the hit as readers get it."""
        shown: dict[str, Any] = {
            "id": self.found.id,
            "doc_id": self.found.doc_id,
            "score": self.found.score if self.score is None else self.score,
            "content": self.passage.text if self.passage else self.found.content,
            "metadata": self.found.metadata,
            "highlights": [list(span) for span in self.highlights],
            "explain": self.explain,
            "duplicates": [_named(other) for other in self.duplicates],
            "joined": [
                {**_offset(other, self.found), "span": list(span), "page": other.metadata.get("page")}
                for other, span in (self.passage.parts if self.passage else ())
            ],
        }
        if self.neighbours is not None:
            shown["neighbours"] = [
                {**_offset(other, self.found), "content": other.content} for other in self.neighbours
            ]
        return shown


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search gave.  ``degraded`` says why it was not what was asked for; None: it was."""

    hits: tuple[Hit, ...]
    mode: Mode
    degraded: str | None
    took_ms: float
    meaning: Vector | None = None  # of the query; answering needs it again
    pool: tuple[Found, ...] = ()  # the best that the index gave, before hits were made of them
    facets: Facets | None = None  # None: nobody asked
    note: str | None = None  # what whoever asked should know of the request itself
    weak: bool | None = None  # nothing of it is about the query; None: nobody asked

    def as_json(self) -> dict[str, Any]:
        """Return the result as readers get it."""
        shown: dict[str, Any] = {
            "hits": [hit.as_json() for hit in self.hits],
            "mode": self.mode,
            "degraded": self.degraded,
            "took_ms": self.took_ms,
            **({"note": self.note} if self.note else {}),
            **({} if self.weak is None else {"weak": self.weak}),
        }
        return shown if self.facets is None else {**shown, **self.facets.as_json()}


@dataclass(frozen=True, slots=True)
class Asked:
    """A query as the index takes it.  ``degraded``: why it has no meaning although that was asked for."""

    terms: Terms
    meaning: Vector | None
    degraded: str | None = None
    unrelated: float | None = None


def search(
    request: SearchRequest, *, index: SearchIndex, embedder: Embedder, reranker: Reranker | None = None
) -> SearchResult:
    """Return the best chunks for the request.

    Raises:
        IndexUnavailable, IndexMisconfigured: without the index there is nothing to degrade to.
    """
    return search_many([request], index=index, embedder=embedder, reranker=reranker)[0]


def search_many(
    requests: Sequence[SearchRequest], *, index: SearchIndex, embedder: Embedder, reranker: Reranker | None = None
) -> list[SearchResult]:
    """Return the result of each request; their vectors come from the endpoint with one call."""
    started = time.monotonic()
    asked = ask(requests, index, embedder)
    waited = (time.monotonic() - started) / len(requests)
    return [_searched(request, one, index, reranker, waited) for request, one in zip(requests, asked, strict=True)]


def ask(requests: Sequence[SearchRequest], index: SearchIndex, embedder: Embedder) -> list[Asked]:
    """Return the queries' words and, where they can be had, their meanings."""
    languages = index.languages()
    terms = [Terms(request.query, languages) for request in requests]
    wanted = [request.query for request in requests if request.mode != "lexical"]
    vectors: dict[str, Vector] = {}
    degraded, unrelated = None, dict[str, float]()
    if wanted:
        if not index.has_vectors():
            degraded = NO_VECTORS
        else:
            try:
                vectors = dict(zip(wanted, embedder.queries(wanted), strict=True))
                unrelated = _unrelated(vectors, index, embedder)
            except (EmbedderUnavailable, EmbedderMisconfigured, InputRefused) as exc:
                degraded = str(exc)
    return [
        Asked(words, None)
        if request.mode == "lexical"
        else Asked(words, vectors.get(request.query), degraded, unrelated.get(request.query))
        for request, words in zip(requests, terms, strict=True)
    ]


def _unrelated(vectors: Mapping[str, Vector], index: SearchIndex, embedder: Embedder) -> dict[str, float]:
    """Return, for each query, the cosine that counts as nothing; empty while the model's band is not known.

    That is where the model's band begins, or the query's mean cosine with the index where that is lower: a question in
    another language than the documents is far from all of them, and those in the list are still nearer than the rest.
    """
    band = embedder.unrelated()
    if band is None:
        return {}
    background = index.background()
    means = {text: background.nearness(vector) for text, vector in vectors.items()}
    return {text: band if mean is None else min(band, mean) for text, mean in means.items()}


def _searched(
    request: SearchRequest, asked: Asked, index: SearchIndex, reranker: Reranker | None, waited: float
) -> SearchResult:
    started = time.monotonic()
    counts_all = bool(request.facets) and request.mode == "semantic"
    deep = max(_pool(request), DEEP_POOL if request.recency or counts_all else 0)
    asked, found = find(request, asked, index, limit=deep)
    ranked, fault = _ranked(request, found, reranker)
    if request.joins:
        ranked = joined(ranked, _nothing(request, asked))
    chosen = ranked[: request.limit]
    neighbours = _neighbours(request, chosen, index)
    degraded = " ".join(each for each in (asked.degraded, fault) if each) or None
    if degraded:
        log.info("search.degraded", reason=degraded)
    return SearchResult(
        hits=tuple(_hit(request, rank, one, asked, neighbours) for rank, one in enumerate(chosen, 1)),
        mode="lexical" if asked.meaning is None else request.mode,
        degraded=degraded,
        took_ms=round((time.monotonic() - started + waited) * 1000, 1),
        meaning=asked.meaning,
        pool=tuple(found[:LEAST_POOL]),
        facets=_facets(request, asked, found, chosen, index, deep) if request.facets else None,
        note=_unknown(fields_of(request.wanted), index) if request.filters else None,
    )


def _unknown(fields: Collection[str], index: SearchIndex) -> str | None:
    """Say which of the fields nothing has: a typing mistake looks like an empty index otherwise."""
    unknown = index.unknown(fields)
    told = [
        f"No document has a field {field!r}." + (f" Is it {like!r}?" if like else "") for field, like in unknown.items()
    ]
    if unknown and None in unknown.values() and (known := index.fields()):
        told.append(f"Fields that can be asked for: {', '.join(known)}.")
    return " ".join(told) or None


def find(request: SearchRequest, asked: Asked, index: SearchIndex, *, limit: int) -> tuple[Asked, list[Found]]:
    """Return the candidates, best first, and what they were really found by."""

    def found(meaning: Vector | None) -> list[Found]:
        semantic = request.mode == "semantic" and meaning is not None
        return index.find(
            None if semantic else asked.terms.vector,
            meaning,
            limit=limit,
            filters=request.wanted,
            explain=request.explain,
            vectors=(request.diversity > 0 or request.wants_vectors) and meaning is not None,
            unrelated=asked.unrelated,
        )

    try:
        return asked, found(asked.meaning)
    except VectorRefused as exc:
        return Asked(asked.terms, None, str(exc)), found(None)


def _facets(
    request: SearchRequest,
    asked: Asked,
    found: Sequence[Found],
    chosen: Sequence[Candidate],
    index: SearchIndex,
    deep: int,
) -> Facets:
    """Count over every document that has a word of the query and passes the filters, and those of the hits.

    Meaning has no such bounds: everything is near to some degree.  Where only it searches, the candidates are counted,
    of which ``deep`` were asked for: fewer were all there is.
    """
    words = None if request.mode == "semantic" and asked.meaning is not None else asked.terms.vector
    facets = request.facets or ()
    fields = list(dict.fromkeys(map(field_of, facets)))
    worded = index.facts(words, limit=FACETED + 1, filters=request.wanted, fields=fields) if words is not None else []
    if worded:
        hits = [one.found for one in chosen]
        counted = count_facets([*worded[:FACETED], *hits], facets, complete=len(worded) <= FACETED)
    else:
        counted = count_facets(found, facets, complete=len(found) < deep)
    empty = {field_of(facet) for facet, values in counted.counts.items() if not values}
    return replace(counted, note=_unknown(empty, index)) if empty else counted


def _pool(request: SearchRequest) -> int:
    return max(LEAST_POOL, POOL * request.limit)


def _ranked(
    request: SearchRequest, found: Sequence[Found], reranker: Reranker | None
) -> tuple[list[Candidate], str | None]:
    """Return the candidates in the reader's order, and what went wrong on the way."""
    ranked, fault = ranking.candidates(found), None
    if request.recency is not None:
        ranked = ranking.aged(ranked, request.recency, ranking.now())
    if request.keeps_together:
        ranked = ranking.together(ranked)
    ranked = ranked[: _pool(request)]
    if request.collapses:
        ranked = ranking.collapsed(ranked)
    if reranker is not None and request.rerank and ranked:
        try:
            scores = reranker.scores(request.query, [one.found.content for one in ranked[:RERANKED]])
            ranked = ranking.reranked(ranked, scores)
        except (RerankerUnavailable, RerankerMisconfigured) as exc:
            fault = f"{exc} Hits are in the order of the search."
    if request.diversity > 0:
        ranked = ranking.diverse(ranked, request.diversity, request.limit)
    return ranking.capped(ranked, request.per_document or max(PER_DOCUMENT, request.limit // 2)), fault


def _nothing(request: SearchRequest, asked: Asked) -> float:
    """Return the score of a chunk that has nothing to do with the query; a fused one and BM25 begin at 0."""
    return asked.unrelated or 0.0 if request.mode == "semantic" and asked.meaning is not None else 0.0


def _neighbours(
    request: SearchRequest, chosen: Sequence[Candidate], index: SearchIndex
) -> Mapping[str, Sequence[Found]] | None:
    """Return what stands before and after each hit, beyond the chunks that were joined into it."""
    reach = max(request.neighbours, 1 if request.explain else 0)
    if not reach or not chosen:
        return None
    widest = max((abs(other.chunk_index - one.found.chunk_index) for one in chosen for other in one.beside), default=0)
    around = index.neighbours([one.found for one in chosen], reach + widest)
    return {one.found.id: _outside(one, around.get(one.found.id, ()), reach) for one in chosen}


def _outside(one: Candidate, around: Sequence[Found], reach: int) -> list[Found]:
    inside = passage(one).indices
    return [
        other
        for other in around
        if other.chunk_index not in inside and inside.start - reach <= other.chunk_index < inside.stop + reach
    ]


def _hit(
    request: SearchRequest,
    rank: int,
    one: Candidate,
    asked: Asked,
    neighbours: Mapping[str, Sequence[Found]] | None,
) -> Hit:
    beside = (neighbours or {}).get(one.found.id, ())
    fusion = "sum" if asked.unrelated is not None else "dbsf"
    shown = passage(one) if one.beside else None
    return Hit(
        one.found,
        asked.terms.highlights(shown.text if shown else one.found.content),
        explained(rank, one, asked.terms, request.wanted, beside, fusion=fusion) if request.explain else None,
        one.duplicates,
        list(beside) if request.neighbours else None,
        shown,
        one.shown,
    )


def _offset(other: Found, one: Found) -> dict[str, Any]:
    return {"offset": other.chunk_index - one.chunk_index, "id": other.id}


def _named(other: Found) -> dict[str, Any]:
    facts = other.metadata
    return {
        "id": other.id,
        "doc_id": other.doc_id,
        "source": facts.get("source"),
        "path": facts.get("path"),
        "page": facts.get("page"),
    }
