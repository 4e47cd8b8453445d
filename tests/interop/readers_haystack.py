"""Haystack's own Qdrant store reads what Upwell wrote."""

from __future__ import annotations

import pytest
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore
from qdrant_client import models as m
from told import ANSWER, QUESTION, embed


@pytest.fixture
def store(url, collection):
    store = QdrantDocumentStore(url=url, index=collection, embedding_dim=384, recreate_index=False)
    yield store
    store._client.close()


def test_search_finds_text(store):
    [found] = store._query_by_embedding(embed("the code of the boiler"), top_k=1)

    assert found.content == ANSWER


def test_filters_hold(store):
    only = m.Filter(must=[m.FieldCondition(key="metadata.path", match=m.MatchValue(value="garden.md"))])
    found = store._query_by_embedding(embed(QUESTION), top_k=5, filters=only)

    assert found
    assert all("hedge" in document.content or "lawn" in document.content for document in found)


def test_documents_are_counted(store, client, collection):
    assert store.count_documents() == client.count(collection).count
