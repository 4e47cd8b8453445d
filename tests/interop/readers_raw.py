"""Bare qdrant-client, as people's own code uses it."""

from __future__ import annotations

from qdrant_client import models as m
from told import ANSWER, embed, sparse


def test_dense_search_needs_no_vector_name(client, collection):
    [found] = client.query_points(collection, query=embed("the code of the boiler"), limit=1).points

    assert found.payload["content"] == ANSWER


def test_the_servers_own_bm25_finds_our_points(client, collection):
    asked = m.Document(text="zyzzyva", model="qdrant/bm25")
    [found] = client.query_points(collection, query=asked, using="bm25", limit=1).points

    assert found.payload["metadata"]["path"] == "words.md"


def test_both_lists_are_fused(client, collection):
    indices, values = sparse("boiler code")
    found = client.query_points(
        collection,
        prefetch=[
            m.Prefetch(query=embed("boiler code"), limit=20),
            m.Prefetch(query=m.SparseVector(indices=indices, values=values), using="bm25", limit=20),
        ],
        query=m.FusionQuery(fusion=m.Fusion.RRF),
        limit=1,
    ).points

    assert found[0].payload["content"] == ANSWER


def test_payload_is_what_the_contract_says(client, collection):
    points, _ = client.scroll(collection, limit=100, with_payload=True)
    for point in points:
        assert {"content", "metadata", "doc_id", "version", "chunk_index", "digest", "tenant", "token", "embedded"} <= (
            point.payload.keys()
        )
        assert not {"blob", "node_info", "relationships"} & point.payload.keys()
