"""The only module of the workers that computes BM25 vectors: Qdrant's own, in process, without a download."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from qdrant_edge import Bm25

BM25_VERSION = "qdrant/bm25 english word 1"


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Token ids and their weights."""

    indices: list[int]
    values: list[float]


_local = threading.local()


def _model() -> Bm25:
    if not hasattr(_local, "model"):
        _local.model = Bm25()
    model: Bm25 = _local.model
    return model


def document_vector(text: str) -> SparseVector:
    """Return the sparse vector of a stored text."""
    vector = _model().embed_document(text)
    return SparseVector(list(vector.indices), list(vector.values))


def query_vector(text: str) -> SparseVector:
    """Return the sparse vector of a query: each of its words once."""
    vector = _model().embed_query(text)
    return SparseVector(list(vector.indices), list(vector.values))
