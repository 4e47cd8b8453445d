"""Tells whether anything that a search found is about its query.  The hits stay what they are, and where they are."""

from __future__ import annotations

from workers.query.extractive import HITS_READ, candidates
from workers.query.ports import Embedder, SearchIndex
from workers.query.relevance import Weights
from workers.query.search import SearchResult
from workers.query.signs import JUDGED, signs
from workers.query.words import Terms

WEAK = 0.12
"""Confidence below which nothing is about the query.

An answer is refused below 0.5: who reads hits judges for himself, and must hardly ever be told that what he
looks for is not there when it is.  How often that happens is in `tests/bench/README.md`.
"""


def is_weak(query: str, result: SearchResult, *, index: SearchIndex, embedder: Embedder) -> bool:
    """Tell whether the hits are only what is nearest; a query that names the file of a hit has found it."""
    if not result.hits:
        return False  # nothing is said of nothing
    terms = Terms(query, index.languages())
    if not terms.forms or any(terms.only_name(hit.found.path) for hit in result.hits[:JUDGED]):
        return False
    weights = Weights(terms.forms, index.rarity(sorted(terms.ids)), index.background().points)
    read = candidates(result.hits[:HITS_READ], weights, terms)
    sentence = max((one.sentence for one in read), default=0.0)
    return signs(terms, result, weights, sentence, embedder).confidence < WEAK
