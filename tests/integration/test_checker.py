"""The checker finds every kind of lie that it is there to find, and nothing in a clean index."""

from __future__ import annotations

from uuid import uuid4

import pytest
from qdrant_client import models as m
from sqlalchemy import delete, insert, select, update

from tests.support.endpoint import Endpoint, vectors
from tests.support.product import DIMENSIONS, SOURCE, Product
from workers.contract.identity import document_id
from workers.contract.schema import documents
from workers.contract.states import State

GUIDE = "# Guide\n\nRed fish swim.\n\n# Again\n\nBlue fish rest.\n"


FILES = {"guide.md": GUIDE, "deep/notes.txt": "One fish. Two fish.\n", "empty.txt": "", "picture.bin": "\x00\x01\x02"}


@pytest.fixture(scope="module")
def indexed(tmp_path_factory, qdrant_url):
    with Endpoint() as endpoint:
        product = Product(tmp_path_factory.mktemp("checker"), qdrant_url, f"test-{uuid4().hex}", endpoint)
        for name, text in FILES.items():
            product.write(name, text)
        product.scan()
        product.settle()
        yield product
        product.close()


@pytest.fixture
def product(indexed):
    """A clean index; whatever a test does to it is undone."""
    everything, _ = indexed.client.scroll(indexed.collection, limit=100, with_payload=True, with_vectors=True)
    with indexed.engine.connect() as connection:
        rows = [dict(row._mapping) for row in connection.execute(select(documents))]
    yield indexed
    for path in indexed.root.rglob("*.*"):
        path.unlink()
    for name, text in FILES.items():
        indexed.write(name, text)
    indexed.client.delete(indexed.collection, m.FilterSelector(filter=m.Filter()), wait=True)
    for point in everything:
        put(indexed, point)
    with indexed.engine.begin() as connection:
        connection.execute(delete(documents))
        connection.execute(insert(documents), rows)


def found(product: Product) -> dict[str, int]:
    return dict(product.checker.check().kinds())


def points(product: Product, name: str) -> list[m.Record]:
    where = m.Filter(must=[m.FieldCondition(key="metadata.path", match=m.MatchValue(value=name))])
    records, _ = product.client.scroll(product.collection, where, limit=100, with_payload=True, with_vectors=True)
    return records


def put(product: Product, point: m.Record, **changes) -> None:
    payload = point.payload | changes.pop("payload", {})
    fields = {"id": point.id, "vector": point.vector, "payload": payload} | changes
    product.client.upsert(product.collection, [m.PointStruct(**fields)], wait=True)


def test_a_clean_index_has_no_findings_and_every_vector_was_compared(product):
    report = product.checker.check()

    assert report.findings == []
    assert (report.documents, report.chunks, report.vectors_compared) == (4, 3, 3)


def test_a_lost_point_is_reported(product):
    product.client.delete(product.collection, m.PointIdsList(points=[product.point_id("guide.md")]), wait=True)

    assert found(product) == {"lost": 1}


def test_a_stale_point_is_reported(product):
    put(product, points(product, "guide.md")[0], id=str(uuid4()), payload={"content": "What it said last week."})

    assert found(product) == {"stale": 1, "vector": 2}  # nor do its vectors stand for that text


def test_a_file_that_changed_behind_everybodys_back_is_reported(product):
    product.write("guide.md", GUIDE.replace("Red", "Old"))

    assert found(product).keys() >= {"lost", "stale", "payload", "ledger"}


def test_a_duplicate_point_is_reported(product):
    put(product, points(product, "guide.md")[0], id=str(uuid4()))

    assert found(product) == {"duplicate": 1}


def test_the_vector_of_another_text_is_reported(product):
    point = points(product, "deep/notes.txt")[0]
    put(product, point, vector=point.vector | {"": vectors(["another text"], DIMENSIONS)[0].tolist()})

    assert found(product) == {"vector": 1}


def test_a_vector_that_is_claimed_but_not_there_is_reported(product):
    product.client.delete_vectors(product.collection, [""], [product.point_id("guide.md")], wait=True)

    assert found(product) == {"vector": 2}  # it is missing, and the flag lies


def test_a_flag_that_hides_a_vector_is_reported(product):
    product.client.set_payload(product.collection, {"embedded": False}, [product.point_id("guide.md")], wait=True)

    assert found(product) == {"vector": 1}


def test_an_orphan_is_reported(product):
    nobody = document_id(SOURCE, "nobody.md")
    facts = {"metadata": {"path": "nobody.md"}, "doc_id": nobody}
    put(product, points(product, "guide.md")[0], id=str(uuid4()), payload=facts)

    assert found(product) == {"orphan": 1}


def test_a_chunk_in_the_wrong_place_is_reported(product):
    product.client.set_payload(product.collection, {"chunk_index": 7}, [product.point_id("guide.md")], wait=True)

    assert found(product) == {"payload": 1}


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({"state": State.READY, "reason": None}, {"ledger"}),
        ({"reason": None}, {"ledger"}),
        ({"lease_until": 1.0}, {"unfinished"}),
        ({"state": State.QUEUED}, {"ledger", "unfinished"}),
        ({"desired_generation": 99}, {"unfinished"}),
    ],
)
def test_a_row_that_says_what_is_not_so_is_reported(product, change, kinds):
    with product.engine.begin() as connection:
        connection.execute(update(documents).where(documents.c.path == "empty.txt").values(change))

    assert set(found(product)) == kinds


def test_a_file_without_a_row_and_a_row_without_a_file_are_reported(product):
    product.write("unseen.bin", "\x00\x01\x02")
    (product.root / "empty.txt").unlink()

    assert found(product) == {"ledger": 2}
