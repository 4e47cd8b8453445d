"""Vectors of queries are remembered within bounds, asked for together, and measured once against unrelated texts."""

from __future__ import annotations

import numpy as np
import pytest

from workers.adapters.embeddings import EmbeddingBatch
from workers.errors import EmbedderUnavailable
from workers.query.embedder import QueryEmbedder
from workers.query.relevance import UNRELATED


class Endpoint:
    """Gives each text a direction of its own, and one that all share; may be away."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.away = False

    def embed(self, texts, *, kind):
        if self.away:
            raise EmbedderUnavailable("No answer from the embedding endpoint.")
        self.asked.append(list(texts))
        rows = [np.r_[1.0, np.eye(64)[sum(text.encode()) % 64]] for text in texts]
        return EmbeddingBatch(np.array(rows, dtype=np.float32), len(texts))


def test_several_queries_are_asked_for_together_and_only_those_that_are_not_remembered():
    endpoint = Endpoint()
    embedder = QueryEmbedder(endpoint)
    embedder.query("a")

    vectors = embedder.queries(["b", "a", "c", "b"])

    assert endpoint.asked == [["a"], ["b", "c"]]
    assert np.array_equal(vectors[0], vectors[3])
    assert [round(float(vector @ vector), 5) for vector in vectors] == [1.0] * 4


def test_the_one_asked_for_longest_ago_is_forgotten():
    endpoint = Endpoint()
    embedder = QueryEmbedder(endpoint, remembered=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        embedder.query(text)

    assert endpoint.asked == [["a"], ["b"], ["c"], ["b"]]


def test_where_unrelated_texts_lie_is_measured_once():
    endpoint = Endpoint()
    embedder = QueryEmbedder(endpoint)

    assert embedder.unrelated() == pytest.approx(0.5, abs=0.05)
    assert embedder.unrelated() == embedder.unrelated()
    assert endpoint.asked == [list(UNRELATED)]


def test_it_is_not_known_while_the_endpoint_is_away():
    endpoint = Endpoint()
    endpoint.away = True

    assert QueryEmbedder(endpoint).unrelated() is None
