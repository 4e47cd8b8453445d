"""Says why an expected document is, or is not, among the hits of a search.

In the order in which a document can be lost: it is not in the index; a filter keeps it away; it shares nothing with the
query; a better hit says the same; others are better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workers.adapters.names import apart
from workers.query import ranking
from workers.query.explain import PREVIEW, parts_of
from workers.query.filters import AnyOf, Condition, both, fields_of, matches, told, values_at
from workers.query.ports import Embedder, Reranker, SearchIndex
from workers.query.requests import ExplainRequest
from workers.query.search import Asked, SearchResult, ask, find, search
from workers.query.values import Found, Place

DEEP = 1_000
"""How far down the lists are read to find the document."""

MOST_CHUNKS = 5_000

Verdict = Literal["found", "not_indexed", "filtered", "nothing_in_common", "says_the_same", "others_are_better"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a document's best chunk stands among all that passes the filters."""

    chunk: Found
    rank: int | None  # in the fused list; None: beyond what was read
    lists: Mapping[str, Place | None]
    duplicate_of: Found | None = None


def explain_document(
    request: ExplainRequest, *, index: SearchIndex, embedder: Embedder, reranker: Reranker | None = None
) -> dict[str, Any]:
    """Return the verdict, a sentence for people, and the figures behind it.

    Raises:
        IndexUnavailable, IndexMisconfigured: there is nothing to look in.
    """
    chunks = index.chunks_of(request.doc_id, limit=MOST_CHUNKS)
    result = search(request, index=index, embedder=embedder, reranker=reranker)
    [asked] = ask([request], index, embedder)
    told_so_far: dict[str, Any] = {
        "doc_id": request.doc_id,
        "chunks": len(chunks),
        "mode": result.mode,
        "degraded": result.degraded,
        "filters": _conditions(request.wanted, chunks),
    }
    rank = next((n for n, hit in enumerate(result.hits, 1) if hit.found.doc_id == request.doc_id), None)
    if not chunks:
        return told_so_far | _said("not_indexed", "None of its text is in the index.")
    passing = [chunk for chunk in chunks if matches(request.wanted, chunk.payload)]
    if not passing:
        away = [each["condition"] for each in told_so_far["filters"] if not each["passes"]]
        return told_so_far | _said("filtered", f"A filter keeps it away: {'; '.join(away)}.")
    standing = _standing(request, asked, index)
    if standing is None:
        return told_so_far | _nothing_in_common(asked, passing)
    return told_so_far | _shown(standing, asked) | _judged(request, result, standing, rank)


def _standing(request: ExplainRequest, asked: Asked, index: SearchIndex) -> Standing | None:
    """Return where the document stands; None: no list has it, however far down."""
    plain = request.model_copy(update={"explain": False, "diversity": 0.0})
    asked, everything = find(plain, asked, index, limit=DEEP)
    mine = both(request.wanted, AnyOf("doc_id", (request.doc_id,)))
    own = _of_lists(asked, index, mine, request, limit=1)
    best = next((one for one in everything if one.doc_id == request.doc_id), None)
    if best is None:
        best = next((found[0] for found in own.values() if found), None)
    if best is None:
        return None
    all_lists = _of_lists(asked, index, request.wanted, request, limit=DEEP)
    rank = next((n for n, one in enumerate(everything, 1) if one.doc_id == request.doc_id), None)
    places: dict[str, Place | None] = {}
    for name, found in all_lists.items():
        at = next((n for n, one in enumerate(found, 1) if one.doc_id == request.doc_id), None)
        places[name] = Place(at, found[at - 1].score) if at is not None else None
    return Standing(best, rank, places, _better_twin(everything, request) if request.collapses else None)


def _of_lists(
    asked: Asked, index: SearchIndex, wanted: Condition, request: ExplainRequest, *, limit: int
) -> dict[str, list[Found]]:
    found: dict[str, list[Found]] = {}
    if request.mode != "semantic" or asked.meaning is None:
        words, names = apart(asked.terms.vector) if asked.unrelated is not None else (asked.terms.vector, None)
        found["bm25"] = index.find(words, None, limit=limit, filters=wanted)
        if names is not None:
            found["name"] = index.find(names, None, limit=limit, filters=wanted)
    if asked.meaning is not None:
        found["dense"] = index.find(None, asked.meaning, limit=limit, filters=wanted)
    return found


def _better_twin(everything: Sequence[Found], request: ExplainRequest) -> Found | None:
    """Return the hit behind which all that the document has among the candidates was put."""
    kept = ranking.collapsed(ranking.candidates(everything[: ranking_depth(request)]))
    if any(one.found.doc_id == request.doc_id for one in kept):
        return None
    return next((one.found for one in kept if any(d.doc_id == request.doc_id for d in one.duplicates)), None)


def ranking_depth(request: ExplainRequest) -> int:
    """Return how many candidates are compared with one another: pairs grow with the square."""
    return max(200, 3 * request.limit)


def _judged(request: ExplainRequest, result: SearchResult, standing: Standing, rank: int | None) -> dict[str, Any]:
    if rank is not None:
        return {"rank": rank, **_said("found", f"It is there: hit {rank}.")}
    if standing.duplicate_of is not None:
        facts = standing.duplicate_of.metadata
        where = f"{facts.get('source')}/{facts.get('path')}"
        return {
            "duplicate_of": {"doc_id": standing.duplicate_of.doc_id, "path": facts.get("path")},
            **_said("says_the_same", f"It says the same as a better hit, {where}, and is shown behind it."),
        }
    at = f"number {standing.rank}" if standing.rank is not None else f"beyond number {DEEP}"
    why = [f"Its best chunk is {at}; the search shows {request.limit}"]
    for name, what in (("bm25", "by words"), ("dense", "by meaning"), ("name", "by name")):
        if standing.lists.get(name) or (name in standing.lists and name != "name"):
            place = standing.lists[name]
            why.append(f"{what} it is number {place.rank}" if place else f"{what} it is not among the first {DEEP}")
    if not standing.chunk.payload.get("embedded", True) and result.mode != "lexical":
        why.append("its meaning is not computed yet")
    return _said("others_are_better", "; ".join(why) + ".")


def _nothing_in_common(asked: Asked, passing: Sequence[Found]) -> dict[str, Any]:
    text = "Neither its text nor its name has a word of the query"
    if asked.meaning is None:
        text += ", and this search went by words alone"
    elif not any(chunk.payload.get("embedded") for chunk in passing):
        text += ", and its meaning is not computed yet"
    return {"matched": [], "named": [], **_said("nothing_in_common", text + ".")}


def _shown(standing: Standing, asked: Asked) -> dict[str, Any]:
    chunk = standing.chunk
    text, named = chunk.embedded_text, asked.terms.named(chunk.path)
    return {
        "fused_rank": standing.rank,
        "lists": {
            name: None if place is None else {"rank": place.rank, "score": place.score}
            for name, place in standing.lists.items()
        },
        "matched": asked.terms.matched(text),
        "named": named,
        "missing": [word for word in asked.terms.missing(text) if word not in named],
        "best": {
            "id": chunk.id,
            "chunk": chunk.chunk_index,
            "heading": chunk.metadata.get("heading"),
            "page": chunk.metadata.get("page"),
            "begins": chunk.content[:PREVIEW],
            "version": chunk.version,
        },
    }


def _conditions(wanted: Condition, chunks: Sequence[Found]) -> list[dict[str, Any]]:
    """Return each condition, whether some chunk passes it, and what the document has there instead."""
    shown = []
    for part in parts_of(wanted):
        has = {
            field: list(dict.fromkeys(value for chunk in chunks[:1] for value in values_at(chunk.payload, field)))[:5]
            for field in sorted(fields_of(part))
        }
        passes = any(matches(part, chunk.payload) for chunk in chunks)
        shown.append({"condition": told(part), "passes": passes, "document_has": has})
    return shown


def _said(verdict: Verdict, summary: str) -> dict[str, Any]:
    return {"verdict": verdict, "summary": summary}
