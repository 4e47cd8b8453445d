"""Scores between 0 and 1, for clients that compare them with a threshold.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_FUSED = 2.7
"""A fused score: at most 1.7 for meaning and 1 for words (ADR 0025)."""


def shares(result: Mapping[str, Any]) -> list[float]:
    """Return the score of each hit of a search.

    A fused score is told as a share of the highest there can be; a cosine is one already; a BM25 score has no upper end
    and is told as a share of the best.
    """
    raw = [max(0.0, float(hit["score"])) for hit in result["hits"]]
    match result["mode"]:
        case "hybrid":
            return [min(1.0, score / MOST_FUSED) for score in raw]
        case "semantic":
            return [min(1.0, score) for score in raw]
        case _:
            best = max(raw, default=0.0)
            return [score / best if best else 0.0 for score in raw]
