"""Says why a hit is there, in figures and in a sentence.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workers.query.filters import EVERYTHING, All, Condition, told
from workers.query.ranking import Candidate
from workers.query.values import Found, Place
from workers.query.words import Terms

_LISTS = {"dense": "meaning", "bm25": "words", "name": "name"}
PREVIEW = 160


def explained(
    rank: int,
    one: Candidate,
    terms: Terms,
    filters: Condition,
    neighbours: Sequence[Found],
    *,
    fusion: str,
) -> dict[str, Any]:
    """Return what put a hit where it is: rank and score in each list, words, filters, steps after the fusion."""
    found = one.found
    text = found.embedded_text
    matched, named = terms.matched(text), terms.named(found.path)
    return {
        "rank": rank,
        "score": found.score,
        "final_score": one.score,
        "fusion": fusion if len(found.lists) > 1 else None,
        "lists": {name: {"rank": place.rank, "score": place.score} for name, place in found.lists.items()},
        "matched": matched,
        "named": named,
        "missing": [word for word in terms.missing(text) if word not in named],
        "filters": [told(part) for part in parts_of(filters)],
        "steps": [dict(step) for step in one.steps],
        "duplicates": len(one.duplicates),
        "neighbours": [
            {"chunk": other.chunk_index, "id": other.id, "begins": other.content[:PREVIEW]} for other in neighbours
        ],
        "chunk": found.chunk_index,
        "heading": found.metadata.get("heading"),
        "page": found.metadata.get("page"),
        "version": found.version,
        "indexed_at": found.payload.get("indexed_at"),
        "embedded": found.payload.get("embedded"),
        "summary": summary(found.lists, matched, named, one),
    }


def parts_of(filters: Condition) -> tuple[Condition, ...]:
    """Return the conditions that must all hold."""
    if filters == EVERYTHING:
        return ()
    return filters.parts if isinstance(filters, All) else (filters,)


def summary(lists: Mapping[str, Place], matched: Sequence[str], named: Sequence[str], one: Candidate) -> str:
    """Return the reasons as a sentence for people who have never heard of a vector."""
    said = []
    if matched:
        said.append(f"It has the word{'s' * (len(matched) > 1)} {_listed(matched)}")
    if named:
        said.append(f"its file's name has the word{'s' * (len(named) > 1)} {_listed(named)}")
    for name, place in lists.items():
        said.append(f"it is number {place.rank} by {_LISTS.get(name, name)}")
    if lists and "dense" not in lists:
        said.append("it is not among the nearest by meaning")
    if lists.keys() == {"dense"}:
        said.append("it was found by meaning alone")
    for step in one.steps:
        match step["step"]:
            case "rerank":
                said.append(f"the reranker moved it from place {step['from_rank']}")
            case "recency":
                said.append(f"its age left it {step['factor']:.0%} of its score")
            case "document":
                said.append(f"a better chunk of its document lifted it from place {step['from_rank']}")
            case "join":
                said.append("what stands beside it and is nearly as good is shown with it")
            case "per_document":
                said.append("other chunks of its document come before it")
            case "diversity" if step["likeness"] > 0:
                said.append("it waited because it is like a better hit")
    if one.duplicates:
        said.append(f"{len(one.duplicates)} other chunk{'s' * (len(one.duplicates) > 1)} say the same")
    text = "; ".join(said) or "It is among the candidates"
    return text[0].upper() + text[1:] + "."


def _listed(words: Sequence[str], most: int = 6) -> str:
    shown = list(words[:most]) + (["…"] if len(words) > most else [])
    return ", ".join(shown)
