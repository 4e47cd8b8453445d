"""LangChain's own Qdrant store reads what Upwell wrote."""

from __future__ import annotations

import pytest
from langchain_core.embeddings import Embeddings
from langchain_qdrant import QdrantVectorStore, RetrievalMode, SparseEmbeddings, SparseVector
from qdrant_client import models as m
from told import ANSWER, QUESTION, embed, sparse


class Dense(Embeddings):
    def embed_documents(self, texts):
        return [embed(text) for text in texts]

    def embed_query(self, text):
        return embed(text)


class Words(SparseEmbeddings):
    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text):
        indices, values = sparse(text)
        return SparseVector(indices=indices, values=values)


@pytest.fixture
def store(url, collection):
    return QdrantVectorStore.from_existing_collection(
        embedding=Dense(), collection_name=collection, url=url, content_payload_key="content"
    )


@pytest.fixture
def hybrid(url, collection):
    return QdrantVectorStore.from_existing_collection(
        embedding=Dense(), collection_name=collection, url=url, content_payload_key="content",
        retrieval_mode=RetrievalMode.HYBRID, sparse_embedding=Words(), sparse_vector_name="bm25",
    )  # fmt: skip


def test_search_finds_text_and_metadata(store):
    [found] = store.similarity_search("the code of the boiler", k=1)

    assert found.page_content == ANSWER
    assert found.metadata["path"] == "house.md"
    assert found.metadata["heading"] == "House"


def test_filters_hold(store):
    only = m.Filter(must=[m.FieldCondition(key="metadata.path", match=m.MatchValue(value="garden.md"))])

    assert {d.metadata["path"] for d in store.similarity_search(QUESTION, k=5, filter=only)} == {"garden.md"}


def test_hybrid_finds_a_rare_word(hybrid):
    assert hybrid.similarity_search("zyzzyva", k=1)[0].metadata["path"] == "words.md"


def test_a_document_is_deleted_by_its_points(store, client, collection, victim):
    document, _ = victim("langchain.md")
    by_doc = m.Filter(must=[m.FieldCondition(key="doc_id", match=m.MatchValue(value=document))])
    points, _ = client.scroll(collection, scroll_filter=by_doc, limit=100)

    assert store.delete([str(point.id) for point in points])
    assert client.count(collection, count_filter=by_doc).count == 0
