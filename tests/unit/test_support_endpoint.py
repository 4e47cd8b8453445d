"""The endpoint that tests and benchmarks count on counts rightly itself."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.endpoint import Endpoint, Failure, count_tokens, vectors
from workers.adapters.embeddings import EmbeddingClient, InputRefused
from workers.contract.settings import EmbeddingSettings
from workers.errors import EmbedderUnavailable


@pytest.fixture
def endpoint():
    with Endpoint(dimensions=8) as running:
        yield running


@pytest.fixture
def client(endpoint):
    made = EmbeddingClient(EmbeddingSettings(embeddings_url=endpoint.url, embeddings_model="m", embeddings_timeout=5))
    yield made
    made.close()


def test_equal_texts_get_equal_unit_vectors_and_every_payment_is_counted(endpoint, client):
    first = client.embed(["a", "b"], kind="passage")
    again = client.embed(["b"], kind="passage")

    assert np.allclose(first.vectors, vectors(["a", "b"], 8), atol=1e-6)
    assert np.allclose(np.linalg.norm(first.vectors, axis=1), 1, atol=1e-6)
    assert np.array_equal(first.vectors[1], again.vectors[0])
    assert first.tokens == count_tokens("a") + count_tokens("b")
    assert endpoint.counters.paid == {"a": 1, "b": 2}
    assert (endpoint.counters.repeated, endpoint.counters.requests) == (1, 2)


def test_a_limit_refuses_what_is_too_much_and_says_when(endpoint, client):
    endpoint.behaviour.tpm = 60

    client.embed(["x" * 4 * 50], kind="passage")
    with pytest.raises(EmbedderUnavailable) as caught:
        client.embed(["y" * 4 * 50], kind="passage")

    assert caught.value.retry_after == pytest.approx(40, abs=2)
    assert endpoint.counters.statuses == {200: 1, 429: 1}
    assert endpoint.counters.paid_texts == 1


def test_injected_failures_come_in_order_and_end(endpoint, client):
    endpoint.behaviour.failures = [Failure(500), Failure(503, times=2)]

    for _ in range(3):
        with pytest.raises(EmbedderUnavailable):
            client.embed(["a"], kind="passage")
    client.embed(["a"], kind="passage")

    assert endpoint.counters.statuses == {500: 1, 503: 2, 200: 1}


def test_poison_refuses_the_request_that_has_it(endpoint, client):
    endpoint.behaviour.poison = "bad"

    with pytest.raises(InputRefused):
        client.embed(["fine", "bad"], kind="passage")

    assert endpoint.counters.paid_texts == 0


def test_a_behaviour_nobody_knows_is_an_error(endpoint):
    with pytest.raises(ValueError, match="latency_ms"):
        endpoint.behaviour.change(latency_ms=3)
