"""What the hits of a search say about whether they answer its question: gathers the signs that `relevance` weighs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import structlog

from workers.adapters.bm25 import document_vector
from workers.adapters.embeddings import InputRefused
from workers.errors import EmbedderMisconfigured, EmbedderUnavailable
from workers.query.ports import Embedder
from workers.query.relevance import Passage, Signs, Weights, ahead, nearness
from workers.query.search import SearchResult
from workers.query.values import Found, Vector
from workers.query.words import Terms

log = structlog.get_logger()

JUDGED = 8
"""Hits that are looked at; the answer is taken from the first of them."""


def signs(terms: Terms, result: SearchResult, weights: Weights, sentence: float, embedder: Embedder) -> Signs:
    """Return what speaks for an answer; ``sentence`` is the best sentence's coverage."""
    hits = [hit.found for hit in result.hits[:JUDGED]]
    words = [stored(each) for each in hits]
    cover = max(
        (
            weights.coverage(tokens.keys() | terms.kin(each.embedded_text), place_of(terms, each))
            for each, tokens in zip(hits, words, strict=True)
        ),
        default=0.0,
    )
    phrases = max(
        (
            weights.coverage(terms.in_phrases(each.embedded_text, tokens), place_of(terms, each))
            for each, tokens in zip(hits, words, strict=True)
        ),
        default=0.0,
    )
    unrelated = _unrelated(result, embedder)
    near = [value for each in hits if (value := _near(each, result.meaning, unrelated)) is not None]
    passages = [
        Passage(each.doc_id, stored(each), _near(each, result.meaning, unrelated)) for each in _one_each(result)
    ]
    in_words, in_meaning = ahead(passages, weights)
    waits = bool(passages) and passages[0].near is None  # how near others are says nothing of the best one
    if not near or waits:
        return Signs(cover, sentence, phrases, ahead_in_words=in_words)
    if in_meaning is None:
        return Signs(cover, sentence, phrases, max(near))
    return Signs(cover, sentence, phrases, max(near), in_words, in_meaning)


def stored(found: Found) -> dict[int, float]:
    """Return the words of a chunk as the index has them, with their BM25 weights."""
    vector = document_vector(found.embedded_text)
    return dict(zip(vector.indices, vector.values, strict=True))


def place_of(terms: Terms, found: Found) -> frozenset[int]:
    """Return the tokens of those words of the question that name the chunk's file."""
    return terms.place(found.path)


def _one_each(result: SearchResult) -> list[Found]:
    """Return the best chunk of each document, in the index's order."""
    best: dict[str, Found] = {}
    for each in result.pool:
        best.setdefault(each.doc_id, each)
    return list(best.values())[:JUDGED]


def _unrelated(result: SearchResult, embedder: Embedder) -> Sequence[Vector]:
    if result.meaning is None:
        return ()
    try:
        return embedder.landmarks()
    except (EmbedderUnavailable, EmbedderMisconfigured, InputRefused) as exc:
        log.info("answer.degraded", reason=str(exc))
        return ()


def _near(found: Found, meaning: Vector | None, unrelated: Sequence[Vector]) -> float | None:
    if meaning is None or found.vector is None or not len(unrelated):
        return None
    cosine = float(meaning @ found.vector) / max(1e-12, float(np.linalg.norm(found.vector)))
    return nearness(meaning, cosine, unrelated)
