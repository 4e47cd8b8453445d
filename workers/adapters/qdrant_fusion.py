"""How a search asks Qdrant: which lists are fused, and the formula that sums their scores (ADR 0025, 0042).  Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from workers.adapters.bm25 import SparseVector
from workers.adapters.names import apart
from workers.query.values import Vector

SPARSE = "bm25"
_WAITS = {"key": "embedded", "match": {"value": False}}  # in a formula: 1 where it holds, else 0

DENSE_WEIGHT = 1.7
BM25_WORD, BM25_LEAST, BM25_POWER = 3.0, 10.0, 1.5
"""The BM25 score that is worth half of the most that words can give: so much for each word that is asked for, and how
steep it is there.  A few words in common with a long question, or with one in another language, are chance or a name,
and must not outweigh what is near by meaning."""

WAITING = 0.75
"""What meaning gives to the chunk that is first by words, on average, as a share of what words give it (ADR 0052): so
much has a chunk whose vector is on its way.  Otherwise what was just saved stands behind all that is somehow near."""

NAME_WEIGHT, NAME_SHARE, NAME_POWER = 2.0, 0.5, 4.0
"""The most that a document's name can give, the share of the query that it must have for half of that, and how steep it
is there: who types a name wants that file, and a word or two of a question in some file's name say nothing."""

Lists = Mapping[str, Any]
"""What is asked of each list, by its name: dense, bm25, name; in that order, which the formula counts on."""


def lists_of(words: SparseVector | None, meaning: Vector | None, *, names_apart: bool) -> Lists:
    """Return the lists that answer a query; none when it asks for nothing."""
    lists: dict[str, Any] = {}
    if meaning is not None:
        lists["dense"] = meaning.tolist()
    if words is None or not words.indices:
        return lists
    if not names_apart:
        # In one list a word in a name counts as one in a text: twice as much, and names mislead (ADR 0042).
        return {**lists, "bm25": {"indices": words.indices, "values": words.values}}
    for name, part in zip(("bm25", "name"), apart(words), strict=True):
        if part.indices:
            lists[name] = {"indices": part.indices, "values": part.values}
    return lists


def fused(lists: Lists, condition: Mapping[str, Any], deep: int, how: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query that fuses several lists of ``deep`` points each."""
    return {
        "prefetch": [
            # The filter belongs into each list: applied after the fusion it would leave less than was asked for.
            {"query": query, "using": using(name), "filter": condition, "limit": deep}
            for name, query in lists.items()
        ],
        "query": how,
    }


def single(lists: Lists, condition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query of the only list."""
    ((name, query),) = lists.items()
    return {"query": query, "using": using(name), "filter": condition}


def using(name: str) -> str | None:
    """Return the vector that a list is ordered by; the dense one is the unnamed one."""
    return None if name == "dense" else SPARSE


def total(lists: Lists, unrelated: float, points: int) -> dict[str, Any]:
    """Return what the scores of all lists make together, whatever the model, the query's length and the index's size.

    dense: how far the cosine is above what counts as nothing for this query (``unrelated``), in units of the room
    there; a point that is not in that list has that.  Others: x^p / (x^p + h^p), where h grows with the query.  For
    names h is a share of what a name has that alone among ``points`` has every word of the query.  Where the vector is
    still to come, what words give stands for some of what meaning will.
    """
    weight = DENSE_WEIGHT / max(0.05, 1.0 - unrelated)
    terms: list[Any] = [{"mult": [weight, {"sum": ["$score[0]", -unrelated]}]}]
    defaults = {"$score[0]": unrelated}
    for number, name in enumerate(lists):
        if name == "dense":
            continue
        asked = math.fsum(lists[name]["values"])
        variable = f"$score[{number}]"
        defaults[variable] = 0.0
        if name == "bm25":
            words = _saturated(variable, max(BM25_LEAST, BM25_WORD * asked), BM25_POWER)
            terms += [words, {"mult": [WAITING, _WAITS, words]}]
        else:
            half = NAME_SHARE * rarest(points) * asked
            terms.append({"mult": [NAME_WEIGHT, _saturated(variable, half, NAME_POWER)]})
    return {"formula": {"sum": terms}, "defaults": defaults}


def rarest(points: int) -> float:
    """Return the IDF of a word that one of ``points`` has: Qdrant's, ln((n - 1/2) / 3/2 + 1)."""
    return math.log((max(points, 1) + 1.0) / 1.5)


def _saturated(variable: str, half: float, power: float) -> dict[str, Any]:
    raised = {"pow": {"base": variable, "exponent": power}}
    return {"div": {"left": raised, "right": {"sum": [raised, half**power]}}}
