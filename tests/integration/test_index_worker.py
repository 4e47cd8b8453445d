"""The index worker as its process builds it: from settings, with real servers."""

from __future__ import annotations

import time

import pytest

from tests.support.endpoint import Endpoint
from tests.support.memory import RecordedHints
from workers.adapters import qdrant
from workers.contract import schema
from workers.contract.intake import Observation, Stat, observe, register_source
from workers.contract.schema import documents
from workers.contract.states import State
from workers.indexing.settings import IndexWorkerSettings
from workers.indexing.wiring import build


@pytest.fixture
def endpoint():
    with Endpoint(dimensions=16, tpm=1_000_000, rpm=5000) as running:
        yield running


def test_a_worker_built_from_its_settings_indexes_and_embeds(
    tmp_path, endpoint, valkey_url, qdrant_url, ledger_url, collection
):
    settings = IndexWorkerSettings(
        broker_url=valkey_url,
        key_prefix=f"{collection}:",
        qdrant_url=qdrant_url,
        collection=collection,
        ledger_url=ledger_url,
        embeddings_url=endpoint.url,
        embeddings_model="m",
        parser_children=1,
    )
    engine = schema.open_ledger(ledger_url)
    root = tmp_path / "docs"
    root.mkdir()
    (root / "a.md").write_text("# One\n\nThe first.\n\n# Two\n\nThe second.\n")
    register_source(engine, "docs", "folder", str(root))
    found = (root / "a.md").stat()
    seen = Observation("docs", b"a.md", Stat(found.st_size, found.st_mtime_ns, found.st_ino))
    observe(engine, [seen])

    worker, parser = build(settings, engine, RecordedHints())
    worker.embedding.start()
    try:
        worker.look(seen.document_id)
        deadline = time.monotonic() + 60
        while _state(engine) != State.READY:
            assert time.monotonic() < deadline, _state(engine)
            time.sleep(0.02)
    finally:
        worker.embedding.stop()
        parser.close()
    client = qdrant.connect(settings)
    points = client.scroll(worker.pipeline.collection, with_vectors=True, with_payload=True)[0]

    assert sorted(point.payload["content"] for point in points) == ["The first.", "The second."]
    assert all(point.payload["embedded"] and "" in point.vector for point in points)
    assert endpoint.counters.paid_texts == 3  # the canary and two chunks
    client.delete_collection(worker.pipeline.collection)
    client.close()
    engine.dispose()


def _state(engine) -> str:
    with schema.reading(engine).connect() as connection:
        return str(connection.execute(documents.select()).one().state)
