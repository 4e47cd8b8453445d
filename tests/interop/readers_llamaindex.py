"""LlamaIndex's own Qdrant store reads what Upwell wrote."""

from __future__ import annotations

import pytest
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import models as m
from told import ANSWER, QUESTION, embed, sparse


def words(texts):
    made = [sparse(text) for text in texts]
    return [indices for indices, _ in made], [values for _, values in made]


@pytest.fixture
def store(client, collection):
    return QdrantVectorStore(collection_name=collection, client=client, text_key="content", dense_vector_name="")


@pytest.fixture
def hybrid(client, collection):
    return QdrantVectorStore(
        collection_name=collection, client=client, text_key="content", dense_vector_name="", enable_hybrid=True,
        sparse_vector_name="bm25", sparse_doc_fn=words, sparse_query_fn=words,
    )  # fmt: skip


def test_search_finds_text_and_metadata(store):
    question = "the code of the boiler"
    found = store.query(VectorStoreQuery(query_embedding=embed(question), query_str=question, similarity_top_k=1))

    assert found.nodes[0].get_content() == ANSWER
    assert found.nodes[0].metadata["metadata"]["path"] == "house.md"


def test_filters_hold(store):
    only = MetadataFilters(filters=[MetadataFilter(key="metadata.path", value="garden.md", operator=FilterOperator.EQ)])
    found = store.query(VectorStoreQuery(query_embedding=embed(QUESTION), similarity_top_k=5, filters=only))

    assert {node.metadata["metadata"]["path"] for node in found.nodes} == {"garden.md"}


def test_hybrid_finds_a_rare_word(hybrid):
    found = hybrid.query(
        VectorStoreQuery(
            query_embedding=embed("zyzzyva"), query_str="zyzzyva", mode=VectorStoreQueryMode.HYBRID,
            similarity_top_k=1, sparse_top_k=2, hybrid_top_k=1,
        )
    )  # fmt: skip

    assert "zyzzyva" in found.nodes[0].get_content()


def test_a_document_is_deleted_by_its_id(store, client, collection, victim):
    document, _ = victim("llamaindex.md")
    store.delete(document)

    by_doc = m.Filter(must=[m.FieldCondition(key="doc_id", match=m.MatchValue(value=document))])
    assert client.count(collection, count_filter=by_doc).count == 0
