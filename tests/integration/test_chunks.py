"""A document's chunks as the api tells them: all, or the part around one of them."""

from __future__ import annotations

from uuid import uuid4

import httpx
import pytest

from ops.api.chunks import BATCH, Chunks
from workers.contract.identity import TENANT

LENGTH = BATCH + 7


@pytest.fixture(scope="module")
def place(qdrant_url):
    """(reader, document, ids of its chunks): a long document beside another."""
    collection, document, other = f"c{uuid4().hex[:8]}", str(uuid4()), str(uuid4())
    ids = [str(uuid4()) for _ in range(LENGTH)]
    with httpx.Client(base_url=qdrant_url) as client:
        client.put(f"/collections/{collection}", json={"vectors": {"size": 4, "distance": "Cosine"}}).raise_for_status()
        points = [
            {
                "id": key,
                "vector": [1, 0, 0, 0],
                "payload": {"doc_id": owner, "tenant": TENANT, "chunk_index": n, "content": f"{n}"},
            }
            for owner, keys in ((document, ids), (other, [str(uuid4()) for _ in range(9)]))
            for n, key in enumerate(keys)
        ]
        client.put(f"/collections/{collection}/points?wait=true", json={"points": points}).raise_for_status()
        yield Chunks(client, collection), document, ids


def places(chunks):
    return [chunk["index"] for chunk in chunks]


def test_all_chunks_come_in_their_order(place):
    reader, document, ids = place

    assert [chunk["id"] for chunk in reader.all(document)] == ids


@pytest.mark.parametrize(
    ("middle", "limit", "expected", "following"),
    [
        (0, 4, range(4), 4),
        (1, 4, range(4), 4),
        (100, 4, range(98, 102), 102),
        (100, 1, range(100, 101), 101),
        (LENGTH - 1, 4, range(LENGTH - 3, LENGTH), None),
        (3, 1000, range(LENGTH), None),
    ],
)
def test_a_chunk_is_shown_among_its_neighbours_and_what_follows_is_named(place, middle, limit, expected, following):
    reader, document, ids = place
    part, after = reader.around(document, ids[middle], limit)

    assert (places(part), after) == (list(expected), following)


def test_parts_from_the_first_to_the_last_are_the_whole(place):
    reader, document, ids = place
    told, first = [], 0
    while first is not None:
        part, first = reader.part(document, first, 100)
        told += part

    assert [chunk["id"] for chunk in told] == ids


def test_a_chunk_of_another_document_or_of_none_has_no_neighbours_here(place):
    reader, document, ids = place

    assert reader.around(document, str(uuid4()), 10) == ([], None)
    assert reader.around(str(uuid4()), ids[0], 10) == ([], None)
    assert reader.part(document, LENGTH, 10) == ([], None)
