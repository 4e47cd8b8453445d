"""What does not fit is found before the first document is touched, and the message names both sides and the way out."""

from __future__ import annotations

import numpy as np
import pytest
from structlog.testing import capture_logs

from workers.adapters import qdrant
from workers.adapters.embeddings import EmbeddingBatch
from workers.contract import schema
from workers.contract.intake import Observation, Stat, observe, register_source
from workers.contract.states import State
from workers.errors import EmbedderUnavailable, IndexUnavailable
from workers.indexing import recipe
from workers.indexing.ledger import Indexed, Ledger
from workers.indexing.preflight import RefusesToStart, _warn_of_open_doors, furnish, preflight
from workers.indexing.settings import IndexWorkerSettings

SEEN = Observation("docs", b"a.txt", Stat(10, 20, 30))


class Endpoint:
    """Vectors of a settable size and direction; or none."""

    def __init__(self, size: int = 8, seed: int = 1, *, away: bool = False) -> None:
        self.size, self.seed, self.away = size, seed, away

    def embed(self, texts, *, kind):
        if self.away:
            raise EmbedderUnavailable("No answer from the embedding endpoint (UPWELL_EMBEDDINGS_URL).")
        vectors = np.random.default_rng(self.seed).normal(size=(len(texts), self.size)).astype(np.float32)
        return EmbeddingBatch(vectors, 1)


@pytest.fixture
def ledger(tmp_path):
    engine = schema.open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    register_source(engine, "docs", "folder", "/docs")
    yield Ledger(engine, "worker")
    engine.dispose()


@pytest.fixture
def start(qdrant_url, collection, ledger):
    def check(endpoint, model="one", url=qdrant_url):
        settings = IndexWorkerSettings(
            qdrant_url=url, collection=collection, embeddings_model=model, start_timeout=0.5, qdrant_timeout=2
        )
        client = qdrant.connect(settings)
        checked = preflight(settings, ledger, client, endpoint)
        furnish(settings, client, checked)
        return checked

    return check


def test_the_first_start_makes_the_collection_and_the_second_finds_it(start):
    first, second = start(Endpoint()), start(Endpoint())

    assert first.collection == second.collection
    assert first.space.dimensions == 8


def test_workers_that_start_at_once_leave_alone_what_the_first_of_them_has_done(start, ledger):
    class Slow(Endpoint):
        """While it answers the second worker, the first one starts and indexes a document."""

        def embed(self, texts, *, kind):
            first = start(Endpoint())
            done = Indexed(state=State.READY, version="v", recipe="r", collection=first.collection, chunks=1)
            ledger.commit(ledger.claim(SEEN.document_id, "r"), done)
            return super().embed(texts, kind=kind)

    observe(ledger._engine, [SEEN])

    start(Slow())

    assert ledger.due("r", 10) == []


def test_a_collection_that_is_gone_calls_for_all_that_it_held(start, ledger, qdrant_url):
    observe(ledger._engine, [SEEN])
    first = start(Endpoint())
    done = Indexed(state=State.READY, version="v", recipe="r", collection=first.collection, chunks=1)
    ledger.commit(ledger.claim(SEEN.document_id, "r"), done)
    qdrant.connect(IndexWorkerSettings(qdrant_url=qdrant_url)).delete_collection(first.collection)

    with capture_logs() as logs:
        again = start(Endpoint())

    assert again.collection == first.collection
    assert ledger.due("r", 10) == [(SEEN.document_id, True)]
    assert [(line["event"], line["documents"]) for line in logs] == [("index.rebuilding", 1)]


def test_another_model_is_refused_and_both_are_named(start):
    start(Endpoint())

    with pytest.raises(RefusesToStart, match=r"one \(8 dimensions\).*two.*UPWELL_EMBEDDINGS_MODEL.*UPWELL_COLLECTION"):
        start(Endpoint(), model="two")


def test_words_told_otherwise_are_refused_and_the_model_is_not_blamed(start, monkeypatch):
    start(Endpoint())
    monkeypatch.setattr(recipe, "BM25_VERSION", "another")

    with pytest.raises(RefusesToStart, match=r"tells words otherwise.*UPWELL_COLLECTION") as refused:
        start(Endpoint())

    assert "two models" not in str(refused.value)


def test_other_dimensions_are_refused(start):
    start(Endpoint(8))

    with pytest.raises(RefusesToStart, match="dimensions"):
        start(Endpoint(16))


def test_a_model_swapped_behind_the_same_name_is_noticed(start):
    start(Endpoint(seed=1))

    with pytest.raises(RefusesToStart, match="another one"):
        start(Endpoint(seed=2))


def test_an_endpoint_that_is_away_is_fatal_only_on_the_very_first_start(start):
    with pytest.raises(EmbedderUnavailable, match="UPWELL_EMBEDDINGS_URL"):
        start(Endpoint(away=True))
    start(Endpoint())

    assert start(Endpoint(away=True)).space.dimensions == 8


def test_a_qdrant_that_is_away_is_named_with_address_and_setting(start):
    with pytest.raises(IndexUnavailable, match=r"http://127\.0\.0\.1:9 \(UPWELL_QDRANT_URL\)"):
        start(Endpoint(), url="http://127.0.0.1:9")


def test_a_collection_of_somebody_else_under_our_alias_is_refused(start, qdrant_url, collection):
    from qdrant_client import models as m

    client = qdrant.connect(IndexWorkerSettings(qdrant_url=qdrant_url))
    client.create_collection(collection, vectors_config=m.VectorParams(size=4, distance=m.Distance.COSINE))

    with pytest.raises(RefusesToStart, match="UPWELL_COLLECTION"):
        start(Endpoint())


@pytest.mark.parametrize("version", ["1.15.5", "0.11.0", "unknown"])
def test_a_qdrant_that_is_too_old_for_fences_is_refused(start, httpserver, version):
    httpserver.expect_request("/").respond_with_json({"title": "qdrant", "version": version, "commit": None})

    with pytest.raises(RefusesToStart, match=r"1\.16 or newer.*UPWELL_QDRANT_URL"):
        start(Endpoint(), url=httpserver.url_for("").rstrip("/"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"qdrant_url": "http://qdrant:6333"}, ["qdrant.without_key"]),
        ({"qdrant_url": "http://qdrant:6333", "qdrant_api_key": "k"}, []),
        ({"qdrant_url": "http://127.0.0.1:6333"}, []),
        ({"embeddings_url": "http://models.example/v1", "embeddings_api_key": "k"}, ["embeddings.in_the_clear"]),
        ({"embeddings_url": "https://models.example/v1", "embeddings_api_key": "k"}, []),
        ({"embeddings_url": "http://[::1]:8000/v1", "embeddings_api_key": "k"}, []),
    ],
)
def test_a_door_that_stands_open_is_said_to_be_at_the_start(settings, said):
    with capture_logs() as logs:
        _warn_of_open_doors(IndexWorkerSettings(**settings))

    assert [line["event"] for line in logs] == said
    assert all("UPWELL_" in line["next"] for line in logs)
