"""What happens to candidates between the index and the reader: document, duplicates, age, diversity, a cap.  Pure.

Every step says on each candidate what it did, so that a search can be explained.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from workers.query.dates import period
from workers.query.filters import values_at
from workers.query.requests import Recency
from workers.query.values import Found
from workers.query.words import folded_words

NEARLY = 0.95
"""Share of common words (Jaccard) from which two texts say the same, provided that their figures are the same."""

_FIGURE, _RUN = re.compile(r"\d"), re.compile(r"\d+")
_ONLY_FIGURES = {code: " " for code in range(128) if not chr(code).isdigit()}

DOCUMENT_SHARE = 0.5
"""How much the best chunk of its document counts for a chunk.

Chosen on every other question of COVID-QA and CUAD and looked at on the rest; it is flat from 0.3 to 0.7 (ADR 0038).
"""

FEW_WORDS = 8
"""Shorter texts are duplicates only when they are equal."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A point on its way to the reader; ``score`` is what it is ordered by now, ``shown`` what the reader is told."""

    found: Found
    score: float
    shown: float
    duplicates: tuple[Found, ...] = ()
    beside: tuple[Found, ...] = ()  # chunks that stand next to it and are shown with it
    steps: tuple[Mapping[str, Any], ...] = field(default=())


def candidates(found: Sequence[Found]) -> list[Candidate]:
    """Return points as candidates, in their order."""
    return [Candidate(one, one.score, one.score) for one in found]


def collapsed(ranked: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates without those that say the same as a better one; the better one remembers them.

    What has other figures than all others says something else, and most texts have: those are not taken apart.
    """
    figures = [_figures(one.found.content) for one in ranked]
    common = Counter(figures)
    kept: list[Candidate] = []
    short: dict[str, int] = {}
    long: list[tuple[frozenset[str], int]] = []
    for one, own in zip(ranked, figures, strict=True):
        same: int | None = None
        if common[own] > 1:
            text = one.found.content
            words = folded_words(text)
            if len(words) < FEW_WORDS:
                same = short.setdefault(" ".join(text.casefold().split()), len(kept))
            elif (same := _alike(words, long)) is None:
                long.append((words, len(kept)))
        if same is not None and same < len(kept):
            kept[same] = replace(kept[same], duplicates=(*kept[same].duplicates, one.found))
        else:
            kept.append(one)
    return kept


def _figures(text: str) -> frozenset[str]:
    """Return the different runs of figures in a text: equal where the words with figures are."""
    return frozenset(text.translate(_ONLY_FIGURES).split() if text.isascii() else _RUN.findall(text))


def _alike(words: frozenset[str], others: Iterable[tuple[frozenset[str], int]]) -> int | None:
    """Return the place of the first text that says the same: two that differ in an amount or a date are two.

    Texts that are equal but for case and spaces have equal words, and need no look of their own.
    """
    count = len(words)
    for other, place in others:
        many = len(other)
        if count < NEARLY * many or many < NEARLY * count:
            continue  # most pairs end here
        common = len(words & other)
        if common >= NEARLY * (count + many - common) and not any(map(_FIGURE.search, words ^ other)):
            return place
    return None


def together(ranked: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates, best first, each lifted towards the best of its document.

    Of two passages that are as good, the one whose document has a better one is more likely what was meant.  A
    document's best chunk keeps its score, so documents keep their order, and scores their scale.  (Passages and
    documents together: Callan, "Passage-level evidence in document retrieval", SIGIR 1994.)
    """
    best: dict[str, float] = {}
    for one in ranked:
        best[one.found.doc_id] = max(one.score, best.get(one.found.doc_id, one.score))
    lifted = []
    for one in ranked:
        worth = one.score + DOCUMENT_SHARE * (best[one.found.doc_id] - one.score)
        as_it_is = worth == one.score == one.shown
        lifted.append(one if as_it_is else replace(one, score=worth, shown=worth))
    places = {one.found.id: place for place, one in enumerate(ranked, 1)}
    return [
        replace(one, steps=(*one.steps, {"step": "document", "from_rank": places[one.found.id]}))
        if place < places[one.found.id]
        else one
        for place, one in enumerate(_sorted(lifted), 1)
    ]


def aged(ranked: Sequence[Candidate], recency: Recency, now: datetime) -> list[Candidate]:
    """Return the candidates with their scores lessened by age, best first.  Without a date a point counts as old."""
    floor = min((one.score for one in ranked), default=0.0)
    shift = -floor if floor < 0 else 0.0  # a factor must never lift a negative score
    aged = []
    for one in ranked:
        age = _age_days(one.found, recency.field, now)
        fresh = 0.0 if age is None else 0.5 ** (max(0.0, age) / recency.half_life_days)
        factor = 1 - recency.weight + recency.weight * fresh
        step = {"step": "recency", "age_days": None if age is None else round(age, 1), "factor": round(factor, 4)}
        aged.append(replace(one, score=(one.score + shift) * factor, steps=(*one.steps, step)))
    return _sorted(aged)


def reranked(ranked: Sequence[Candidate], scores: Sequence[float]) -> list[Candidate]:
    """Return the candidates in the order of a reranker's scores; those it did not see follow in theirs."""
    seen = [
        replace(one, score=score, steps=(*one.steps, {"step": "rerank", "from_rank": rank, "score": round(score, 6)}))
        for rank, (one, score) in enumerate(zip(ranked, scores, strict=False), 1)
    ]
    return [*_sorted(seen), *ranked[len(seen) :]]


def diverse(ranked: Sequence[Candidate], diversity: float, limit: int) -> list[Candidate]:
    """Return the candidates in the order of maximal marginal relevance, ``limit`` of them first.

    (Carbonell and Goldstein, "The use of MMR, diversity-based reranking", SIGIR 1998.)  Likeness is the cosine of the
    dense vectors, and the share of common words where one is missing.
    """
    left = list(ranked)
    low, high = (f(one.score for one in left) for f in (min, max)) if left else (0.0, 0.0)
    worth = {one.found.id: (one.score - low) / (high - low) if high > low else 1.0 for one in left}
    bags = {one.found.id: folded_words(one.found.content) for one in left}
    nearest = dict.fromkeys(worth, 0.0)
    chosen: list[Candidate] = []
    while left and len(chosen) < limit:
        best = max(left, key=lambda one: (1 - diversity) * worth[one.found.id] - diversity * nearest[one.found.id])
        left.remove(best)
        likeness = round(nearest[best.found.id], 4)
        chosen.append(replace(best, steps=(*best.steps, {"step": "diversity", "likeness": likeness})))
        for one in left:
            nearest[one.found.id] = max(nearest[one.found.id], _likeness(best.found, one.found, bags))
    return [*chosen, *left]


def capped(ranked: Sequence[Candidate], per_document: int) -> list[Candidate]:
    """Let at most ``per_document`` chunks of a document go before chunks of others; none is lost, they come later."""
    counts: Counter[str] = Counter()
    first, later = [], []
    for one in ranked:
        counts[one.found.doc_id] += 1
        if counts[one.found.doc_id] <= per_document:
            first.append(one)
        else:
            later.append(replace(one, steps=(*one.steps, {"step": "per_document", "cap": per_document})))
    return [*first, *later]


def _likeness(one: Found, other: Found, bags: Mapping[str, frozenset[str]]) -> float:
    if one.vector is not None and other.vector is not None:
        return float(one.vector @ other.vector)
    mine, others = bags[one.id], bags[other.id]
    return len(mine & others) / max(1, len(mine | others))


def _age_days(found: Found, field_name: str, now: datetime) -> float | None:
    for value in values_at(found.payload, field_name):
        meant = period(value)
        if meant is not None:
            return (now - meant.start).total_seconds() / 86_400
    return None


def _sorted(ranked: Sequence[Candidate]) -> list[Candidate]:
    return sorted(ranked, key=lambda one: (-one.score, one.found.id))


def now() -> datetime:
    """Return the time, for `aged`."""
    return datetime.now(UTC)
