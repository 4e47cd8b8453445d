"""The promises of the index port, kept by the dict that tests use and by Qdrant's engine behind the real client."""

from __future__ import annotations

from dataclasses import replace
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import pytest

from tests.support.memory import MemoryIndex
from workers.adapters import qdrant
from workers.adapters.qdrant_models import models as m
from workers.contract.settings import IndexSettings
from workers.indexing.ports import Point

DOC = "7c0e4b5e-4f43-5a8e-9d53-0a1f0b4b0001"
OTHER = "7c0e4b5e-4f43-5a8e-9d53-0a1f0b4b0002"
IDS = [f"00000000-0000-5000-8000-00000000000{n}" for n in range(8)]
VECTOR = np.array([1.0, 0.0, 0.0], dtype=np.float32)


@pytest.fixture(params=["dict", "qdrant"])
def index(request):
    if request.param == "dict":
        yield MemoryIndex()
        return
    url = request.getfixturevalue("qdrant_url")
    name = request.getfixturevalue("collection")
    client = qdrant.connect(IndexSettings(qdrant_url=url))
    qdrant.create_collection(client, name, 3, url)
    yield qdrant.QdrantIndex(client, name, url)
    client.delete_collection(name)


def point(number: int, *, doc: str = DOC, position: int = 0, vector=None, text: str = "some words") -> Point:
    return Point(
        id=IDS[number],
        text=text,
        vector=vector,
        payload={
            "content": text,
            "metadata": {"source": "docs", "path": "a.md", "heading": None, "chunk": position},
            "doc_id": doc,
            "version": "v",
            "chunk_index": position,
            "digest": f"d{number}",
            "tenant": "default",
        },
    )


def tokens(index, doc: str = DOC) -> dict[str, int]:
    return {key: stored.token for key, stored in index.stored(doc).items()}


def test_what_is_put_is_stored_under_its_document_and_token(index):
    index.put([point(0), point(1, doc=OTHER)], 5)

    assert tokens(index) == {IDS[0]: 5}
    assert tokens(index, OTHER) == {IDS[1]: 5}


def test_every_point_of_a_document_is_told_of_however_many_pages_that_takes(index, monkeypatch):
    monkeypatch.setattr(qdrant, "PAGE", 1)
    index.put([point(0, position=0), point(1, position=1), point(2, doc=OTHER)], 5)

    assert tokens(index) == {IDS[0]: 5, IDS[1]: 5}
    assert {doc: set(found) for doc, found in index.stored_of([DOC, OTHER]).items()} == {
        DOC: {IDS[0], IDS[1]},
        OTHER: {IDS[2]},
    }


def test_putting_twice_is_putting_once(index):
    index.put([point(0)], 5)
    index.put([point(0)], 5)

    assert tokens(index) == {IDS[0]: 5}


def test_a_put_of_an_older_attempt_loses(index):
    index.put([point(0, position=7)], 5)
    index.put([point(0, position=1)], 4)

    assert index.stored(DOC)[IDS[0]].chunk_index == 7
    assert tokens(index) == {IDS[0]: 5}


def test_a_put_of_a_newer_attempt_wins(index):
    index.put([point(0, position=1)], 4)
    index.put([point(0, position=7)], 5)

    assert index.stored(DOC)[IDS[0]].chunk_index == 7


def test_restating_moves_a_point_and_keeps_its_vector(index):
    index.put([point(0, vector=VECTOR)], 4)
    index.restate([point(0, position=3)], 5)

    stored = index.stored(DOC)[IDS[0]]
    assert (stored.chunk_index, stored.token, stored.embedded) == (3, 5, True)
    assert stored.metadata["chunk"] == 3


def metadata_of(index) -> dict[str, dict]:
    return {key: stored.metadata for key, stored in index.stored(DOC).items()}


def told(points, **facts) -> list[Point]:
    """The same points with other facts about their document."""
    return [replace(p, payload=p.payload | {"metadata": p.payload["metadata"] | facts, "version": "w"}) for p in points]


def test_what_changes_for_the_whole_document_is_told_to_each_of_its_points(index):
    points = [point(n, position=n, vector=VECTOR) for n in range(3)]
    index.put(told(points, modified="2026-01-01", title="Old"), 4)
    fresh = told(points, modified="2026-02-02", title="New")

    index.restate(fresh, 5, index.stored(DOC))

    assert metadata_of(index) == {p.id: p.payload["metadata"] for p in fresh}
    assert set(tokens(index).values()) == {5}
    assert all(stored.embedded for stored in index.stored(DOC).values())


def test_each_point_is_told_right_however_it_differs(index):
    """Moved, with another heading, a field that goes, a field that becomes null, another value, nothing new."""
    points = [point(n, position=n) for n in range(6)]
    index.put(told(points, author="Ann", modified="1"), 4)
    fresh = [
        point(0, position=9),
        *told([point(1, position=1)], author="Ann", modified="1", heading="Somewhere"),
        *told([point(2, position=2)], modified="2"),
        *told([point(3, position=3)], author=None, modified="2"),
        *told([point(4, position=4)], author="Bob", modified="2"),
        *told([point(5, position=5)], author="Ann", modified="1"),
    ]

    index.restate(fresh, 5, index.stored(DOC))

    assert metadata_of(index) == {p.id: p.payload["metadata"] for p in fresh}
    assert {key: stored.chunk_index for key, stored in index.stored(DOC).items()} == {
        p.id: p.payload["chunk_index"] for p in fresh
    }
    assert set(tokens(index).values()) == {5}


def test_what_is_asked_past_the_clients_models_is_what_they_would_have_asked(qdrant_url, collection, monkeypatch):
    client = qdrant.connect(IndexSettings(qdrant_url=qdrant_url))
    qdrant.create_collection(client, collection, 3, qdrant_url)
    index = qdrant.QdrantIndex(client, collection, qdrant_url)
    asked = []
    ask = index._ask
    monkeypatch.setattr(index, "_ask", lambda path, body: asked.append((path, body)) or ask(path, body))

    index.put_all([([point(0), point(1, vector=VECTOR)], 4), ([point(2, doc=OTHER)], 5)])
    index.put_vectors([(IDS[0], VECTOR)])
    assert index.stored_of([DOC, OTHER])[DOC].keys() == {IDS[0], IDS[1]}
    index.drop_documents([(DOC, 4), (OTHER, 4)])

    assert tokens(index, OTHER) == {IDS[2]: 5}
    models = {"/points/batch": m.UpdateOperations, "/points/scroll": m.ScrollRequest}
    for path, body in asked:
        models[path].model_validate(body)  # which takes no field that it does not know
    assert [path for path, _ in asked[:4]] == ["/points/batch", "/points/batch", "/points/scroll", "/points/batch"]
    client.delete_collection(collection)
    client.close()


def test_each_promised_field_has_an_index_and_the_tokens_answers_what_fences_ask(qdrant_url, collection):
    client = qdrant.connect(IndexSettings(qdrant_url=qdrant_url))
    qdrant.create_collection(client, collection, 3, qdrant_url)
    qdrant.create_collection(client, collection, 3, qdrant_url)
    index = qdrant.QdrantIndex(client, collection, qdrant_url)

    index.put([point(0), point(1)], 5)
    index.put([point(1), point(2)], 4)

    schema = client.get_collection(collection).payload_schema
    assert schema.keys() == qdrant.PAYLOAD_INDEXES.keys()
    assert (schema["token"].params.range, schema["token"].params.lookup, schema["token"].points) == (True, False, 3)
    assert tokens(index) == {IDS[0]: 5, IDS[1]: 5, IDS[2]: 4}
    index.drop_documents([(DOC, 4)])
    assert tokens(index) == {IDS[0]: 5, IDS[1]: 5}
    client.delete_collection(collection)
    client.close()


def test_a_date_that_changes_is_told_once_however_many_points_have_it(qdrant_url, collection, monkeypatch):
    client = qdrant.connect(IndexSettings(qdrant_url=qdrant_url))
    qdrant.create_collection(client, collection, 3, qdrant_url)
    index = qdrant.QdrantIndex(client, collection, qdrant_url)
    points = [
        replace(point(0, position=n), id=str(uuid5(NAMESPACE_URL, str(n))), text=f"words {n}") for n in range(100)
    ]
    index.put(told(points, modified="1"), 4)
    sent = []
    update = client.batch_update_points
    monkeypatch.setattr(
        client, "batch_update_points", lambda *args, **more: sent.append(args[1]) or update(*args, **more)
    )

    index.restate(told(points, modified="2"), 5, index.stored(DOC))

    assert [len(operations) for operations in sent] == [2]
    assert {metadata["modified"] for metadata in metadata_of(index).values()} == {"2"}
    client.delete_collection(collection)
    client.close()


def test_what_an_older_attempt_tells_of_many_at_once_loses(index):
    points = [point(n, position=n) for n in range(3)]
    index.put(told(points, modified="1"), 4)
    seen = index.stored(DOC)
    index.restamp([IDS[0], IDS[1]], "w", 6)

    index.restate(told(points, modified="2"), 5, seen)

    assert [metadata_of(index)[key]["modified"] for key in IDS[:3]] == ["1", "1", "2"]
    assert tokens(index) == {IDS[0]: 6, IDS[1]: 6, IDS[2]: 5}


def test_restating_and_restamping_by_an_older_attempt_lose(index):
    index.put([point(0, position=7)], 5)
    index.restate([point(0, position=1)], 4)
    index.restamp([IDS[0]], "old", 4)

    assert index.stored(DOC)[IDS[0]].chunk_index == 7
    assert tokens(index) == {IDS[0]: 5}


def test_an_attempt_may_tell_again_of_what_it_stored_itself(index):
    index.put([point(0, position=1)], 5)
    index.restate([point(0, position=3)], 5)

    assert index.stored(DOC)[IDS[0]].chunk_index == 3


def test_restamping_renews_the_fence_of_many_at_once(index):
    index.put([point(0), point(1)], 4)
    index.restamp([IDS[0], IDS[1], IDS[2]], "v2", 6)

    assert tokens(index) == {IDS[0]: 6, IDS[1]: 6}


def test_dropping_forgets_and_the_unknown_is_fine(index):
    index.put([point(0), point(1)], 4)
    index.drop([IDS[0], IDS[5]], 4)

    assert tokens(index) == {IDS[1]: 4}


def test_dropping_by_an_older_attempt_leaves_what_a_newer_one_has_stored(index):
    index.put([point(0)], 5)
    index.drop([IDS[0]], 4)
    index.drop_document(DOC, 4)

    assert tokens(index) == {IDS[0]: 5}


def test_dropping_a_document_leaves_the_others(index):
    index.put([point(0), point(1, doc=OTHER)], 4)
    index.drop_document(DOC, 4)

    assert tokens(index) == {}
    assert tokens(index, OTHER) == {IDS[1]: 4}


def test_a_point_without_a_vector_is_pending_until_it_gets_one(index):
    index.put([point(0, text="to embed"), point(1, vector=VECTOR)], 4)
    assert [(p.id, p.content) for p in index.pending(DOC)] == [(IDS[0], "to embed")]

    index.put_vectors([(IDS[0], VECTOR)])

    assert index.pending(DOC) == []
    assert index.stored(DOC)[IDS[0]].embedded


def test_the_vector_of_a_text_is_known_wherever_the_text_is(index):
    many = [point(n, doc=OTHER, vector=VECTOR) for n in (1, 2)]
    index.put([point(0, vector=2 * VECTOR), *many, point(3)], 4)

    found = index.vectors_of(["d0", "d2", "d3", "d9"])

    assert sorted(found) == ["d0", "d2"]
    assert np.allclose(found["d2"], VECTOR)


def test_a_text_with_more_copies_than_a_page_does_not_hide_the_others(index):
    copies = [
        Point(id=str(uuid5(NAMESPACE_URL, str(n))), text="a", vector=VECTOR, payload=point(0, doc=OTHER).payload)
        for n in range(300)
    ]
    index.put([*copies, point(1, vector=VECTOR), point(2, vector=VECTOR)], 4)

    assert sorted(index.vectors_of(["d0", "d1", "d2"])) == ["d0", "d1", "d2"]


def test_vectors_for_points_that_are_gone_are_passed_over_and_the_others_stored(index):
    index.put([point(0), point(1)], 4)
    index.drop([IDS[0]], 4)

    index.put_vectors([(IDS[0], VECTOR), (IDS[1], VECTOR)])

    assert list(index.stored(DOC)) == [IDS[1]]
    assert index.stored(DOC)[IDS[1]].embedded


def test_a_refused_text_is_not_pending_any_more(index):
    index.put([point(0)], 4)
    index.mark_refused([IDS[0]])

    assert index.pending(DOC) == []
    assert index.stored(DOC)[IDS[0]].refused


def test_nothing_is_a_fine_batch(index):
    index.put([], 1)
    index.restate([], 1)
    index.restamp([], "v", 1)
    index.drop([], 1)
    index.put_vectors([])
    index.mark_refused([])
    assert index.vectors_of([]) == {}

    assert index.stored(DOC) == {}


NOT_YET = {
    "stored": lambda index: index.stored(DOC),
    "put": lambda index: index.put([point(0)], 1),
    "restate": lambda index: index.restate([point(0)], 1),
    "restamp": lambda index: index.restamp([IDS[0]], "v", 1),
    "drop": lambda index: index.drop([IDS[0]], 1),
    "drop_document": lambda index: index.drop_document(DOC, 1),
    "pending": lambda index: index.pending(DOC),
    "vectors_of": lambda index: index.vectors_of(["d0"]),
    "put_vectors": lambda index: index.put_vectors([(IDS[0], VECTOR)]),
    "mark_refused": lambda index: index.mark_refused([IDS[0]]),
}


@pytest.mark.parametrize("asked", NOT_YET.values(), ids=NOT_YET)
def test_a_collection_is_asked_nothing_before_it_is_ready(asked, httpserver, collection):
    class NotYet(Exception):
        pass

    def ready():
        raise NotYet

    url = httpserver.url_for("").rstrip("/")
    index = qdrant.QdrantIndex(qdrant.connect(IndexSettings(qdrant_url=url)), collection, url, ready)

    with pytest.raises(NotYet):
        asked(index)

    assert httpserver.log == []
