"""The index worker as its process builds it: from settings, with real servers."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.endpoint import Endpoint
from tests.support.memory import RecordedHints
from workers.adapters import qdrant
from workers.contract import schema
from workers.contract.intake import Observation, Stat, observe, register_source
from workers.contract.schema import documents
from workers.contract.states import State
from workers.errors import IndexMisconfigured, IndexUnavailable
from workers.indexing import main
from workers.indexing.facts import COLLECTION_FACT
from workers.indexing.parse.pool import ParserPool
from workers.indexing.settings import IndexWorkerSettings
from workers.indexing.wiring import build


@dataclass(frozen=True)
class Rig:
    settings: IndexWorkerSettings
    engine: Any
    client: Any
    document: str


@pytest.fixture
def endpoint():
    with Endpoint(dimensions=16, tpm=1_000_000, rpm=5000) as running:
        yield running


@pytest.fixture
def rig(tmp_path, endpoint, valkey_url, qdrant_url, ledger_url, collection):
    """Settings, a ledger with one document of two sections, and a client that clears up."""
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
    client = qdrant.connect(settings)
    yield Rig(settings, engine, client, seen.document_id)
    for name in qdrant.physical_collections(client, qdrant_url)[0]:
        if name.startswith(collection):
            client.delete_collection(name)
    client.close()
    engine.dispose()


def test_a_worker_built_from_its_settings_indexes_and_embeds(rig, endpoint):
    built = build(rig.settings, rig.engine, RecordedHints())
    built.worker.embedding.start()
    try:
        built.worker.look(rig.document)
        deadline = time.monotonic() + 60
        while _state(rig.engine) != State.READY:
            assert time.monotonic() < deadline, _state(rig.engine)
            time.sleep(0.02)
    finally:
        built.worker.embedding.stop()
        built.parser.close()
    points = rig.client.scroll(built.worker.pipeline.collection, with_vectors=True, with_payload=True)[0]

    assert sorted(point.payload["content"] for point in points) == ["The first.", "The second."]
    assert all(point.payload["embedded"] and "" in point.vector for point in points)
    assert endpoint.counters.paid_texts == 3  # the canary and two chunks


def test_files_are_parsed_while_a_new_collection_gets_its_indexes_and_stored_after(rig, monkeypatch):
    go_on, cut = threading.Event(), threading.Event()
    index_payloads, parse = qdrant.index_payloads, ParserPool.cut

    def slowly(*args):
        assert go_on.wait(60)
        index_payloads(*args)

    def told(*args, **options):
        pieces = parse(*args, **options)
        cut.set()
        return pieces

    monkeypatch.setattr(qdrant, "index_payloads", slowly)
    monkeypatch.setattr(ParserPool, "cut", told)
    built = build(rig.settings, rig.engine, RecordedHints())
    collection, alias = built.worker.pipeline.collection, rig.settings.collection
    try:
        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(built.worker.look, rig.document)
            assert cut.wait(60)
            before = rig.client.get_collection(collection)
            named = qdrant.physical_collections(rig.client, rig.settings.qdrant_url)[1]
            known = built.worker.ledger.fact(COLLECTION_FACT)
            go_on.set()
            outcome = looking.result(60)
    finally:
        go_on.set()
        built.parser.close()
    after = rig.client.get_collection(collection)

    assert (before.points_count, before.payload_schema, alias in named, known) == (0, {}, False, None)
    assert (after.points_count, outcome.added) == (2, 2)
    assert qdrant.PAYLOAD_INDEXES.keys() <= after.payload_schema.keys()
    assert qdrant.physical_collections(rig.client, rig.settings.qdrant_url)[1][alias] == collection
    assert built.worker.ledger.fact(COLLECTION_FACT) == collection


def test_a_document_waits_uncounted_when_the_collection_cannot_be_completed(rig, monkeypatch):
    def away(*_):
        raise IndexUnavailable("Qdrant is away.")

    monkeypatch.setattr(qdrant, "index_payloads", away)
    built = build(rig.settings, rig.engine, RecordedHints())
    try:
        assert built.worker.look(rig.document) is None
    finally:
        built.parser.close()

    assert isinstance(built.furnished.exception(), IndexUnavailable)
    assert rig.client.count(built.worker.pipeline.collection).count == 0
    with schema.reading(rig.engine).connect() as connection:
        row = connection.execute(documents.select()).one()
    assert (row.state, row.reason, row.attempts) == (State.FAILED, "Qdrant is away.", 0)


@pytest.mark.parametrize(
    ("error", "code"), [(IndexUnavailable("away"), 69), (IndexMisconfigured("refused"), 78), (ValueError("a bug"), 1)]
)
@pytest.mark.parametrize("trouble", [None, OSError("the ledger is away as well")])
def test_a_worker_ends_when_its_collection_cannot_be_completed(monkeypatch, error, code, trouble):
    class Ended(BaseException):
        pass

    def end(code):
        codes.append(code)
        raise Ended

    def give_back():
        given.append(True)
        if trouble is not None:
            raise trouble

    codes: list[int] = []
    given: list[bool] = []
    monkeypatch.setattr(main.os, "_exit", end)
    furnished: Future[None] = Future()
    furnished.set_exception(error)

    with pytest.raises(Ended):
        main._end_without_a_collection(furnished, give_back)

    assert (codes, given) == ([code], [True])


def test_a_worker_goes_on_when_its_collection_is_complete(monkeypatch):
    monkeypatch.setattr(main.os, "_exit", lambda code: pytest.fail(f"ended with {code}"))
    furnished: Future[None] = Future()
    furnished.set_result(None)

    main._end_without_a_collection(furnished, lambda: pytest.fail("gave back"))


def _state(engine) -> str:
    with schema.reading(engine).connect() as connection:
        return str(connection.execute(documents.select()).one().state)
