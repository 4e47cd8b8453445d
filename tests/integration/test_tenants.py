"""No way to read leads to another tenant: every route, over a real Qdrant that holds two (S48, S49, S51)."""

from __future__ import annotations

import json
from contextlib import closing
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from qdrant_client import QdrantClient
from qdrant_client import models as m

from ops.api.app import make_app
from ops.api.settings import ApiSettings
from tests.support.answering import answering
from tests.support.endpoint import Endpoint
from tests.support.faces import InProcess
from workers.adapters import bm25
from workers.adapters.embeddings import EmbeddingClient
from workers.adapters.qdrant import create_collection
from workers.adapters.qdrant_search import QdrantSearch
from workers.contract import schema
from workers.contract.identity import TENANT
from workers.contract.intake import Observation, Stat, observe, register_source
from workers.contract.settings import EmbeddingSettings, IndexSettings
from workers.contract.states import State
from workers.indexing.ledger import Indexed, Ledger
from workers.query.embedder import QueryEmbedder

KEY = "s3cret"
DOC = "6d3f9c0e-5a5b-5d0e-9a41-6f1f6b8a7c11"
CANARY = "Zimtsternrezept"
"""A word of somebody else's documents; our own are about boilers."""
READERS = {
    "/v1/search": [
        {"query": CANARY, "explain": True, "neighbours": 5, "facets": ["kind"], "limit": 100},
        {"query": CANARY, "filters": {"not": {"kind": "none"}}, "mode": "lexical"},
        {"query": CANARY, "filters": {"or": [{"tenant": "other"}, {"doc_id": DOC}]}, "mode": "semantic"},
        {"query": "boiler", "neighbours": 5, "join": True, "diversity": 0.5},
    ],
    "/v1/search/batch": [{"searches": [{"query": CANARY}, {"query": "boiler", "filters": {"tenant": "other"}}]}],
    "/v1/answer": [
        {"query": f"What is in {CANARY}?"},
        {"query": CANARY, "messages": [{"role": "user", "content": "?"}]},
    ],
    "/v1/documents/{document_id}/explain": [{"query": CANARY}],
    "/v1/chat/completions": [{"messages": [{"role": "user", "content": f"{CANARY}?"}], "filters": {"tenant": "other"}}],
    "/v1/vector_stores/{store_id}/search": [
        {"query": CANARY, "filters": {"type": "eq", "key": "tenant", "value": "x"}}
    ],
    "/retrieval": [{"knowledge_id": "upwell", "query": CANARY}],
    "/v1/embeddings": [{"input": "boiler"}],
}
"""Requests of every route that takes a question."""
NO_READERS = {
    "/v1/documents", "/v1/documents/retry", "/v1/documents/{document_id}/retry", "/v1/held/approve",
    "/v1/held/reject", "/v1/verify", "/v1/feedback", "/v1/questions",
}  # fmt: skip


@pytest.fixture(scope="module")
def shared_index(qdrant_url, tmp_path_factory):
    """The real query worker's code and the api over a real Qdrant, where another tenant's points lie beside ours."""
    home, name = tmp_path_factory.mktemp("tenants"), f"tenants-{uuid4().hex}"
    index = IndexSettings(qdrant_url=qdrant_url, collection=name)
    with Endpoint(dimensions=8) as endpoint, closing(QdrantClient(url=qdrant_url, check_compatibility=False)) as client:
        create_collection(client, name, 8, qdrant_url)
        engine = schema.open_ledger(f"sqlite:///{home}/ledger.db")
        register_source(engine, "docs", "folder", str(home))
        seen = Observation("docs", b"boiler.md", Stat(1, 1, 1))
        observe(engine, [seen])
        ledger = Ledger(engine, "worker")
        ledger.commit(
            ledger.claim(seen.document_id, "r"), Indexed(State.READY, "v", "r", name, chunks=2, title="Boiler")
        )
        theirs = f"{CANARY}: the boiler of another house"
        texts = [(TENANT, "The boiler code is 4711."), (TENANT, "The hedge is cut in June."), ("other", theirs)]
        for document in (seen.document_id, str(uuid4())):  # a stranger's points may even name a document of ours
            for number, (tenant, text) in enumerate(texts):
                words = bm25.document_vector(text)
                metadata = {"path": "boiler.md", "source": "docs", "kind": CANARY if tenant == "other" else "house"}
                payload = {
                    "content": text, "metadata": metadata, "doc_id": document, "version": "v", "embedded": True,
                    "chunk_index": number, "digest": str(number), "tenant": tenant,
                }  # fmt: skip
                vector = {"": [1.0] * 8, "bm25": m.SparseVector(indices=words.indices, values=words.values)}
                client.upsert(name, [m.PointStruct(id=str(uuid4()), vector=vector, payload=payload)], wait=True)
        search = QdrantSearch(index, timeout=10)
        embedder = QueryEmbedder(EmbeddingClient(EmbeddingSettings(embeddings_url=endpoint.url)))
        settings = ApiSettings(
            ledger_url=f"sqlite:///{home}/ledger.db", broker_url="redis://127.0.0.1:9/0", data_dir=home,
            qdrant_url=qdrant_url, collection=name, api_key=KEY, embeddings_url=endpoint.url,
        )  # fmt: skip
        app = make_app(settings, engine, queries=InProcess(answering(search, embedder=embedder)))
        with TestClient(app, headers={"Authorization": f"Bearer {KEY}"}) as visitor:
            yield visitor, seen.document_id, name
        search.close()
        client.delete_collection(name)
        engine.dispose()


def test_no_route_shows_a_word_of_another_tenants_document(shared_index):
    """Over the route table: a new route that takes a question fails until it is named here."""
    visitor, document, collection = shared_index
    described = visitor.app.openapi()["paths"]
    posted = {path for path, verbs in described.items() if "post" in verbs}
    assert posted == READERS.keys() | NO_READERS

    def told(verb, path, **body):
        place = path.replace("{store_id}", collection).replace("{document_id}", document)
        if "knowledge_id" in body.get("json", {}):
            body["json"]["knowledge_id"] = collection
        return visitor.request(verb, place.replace("{name}", "upwell"), **body)

    heard = [told("POST", path, json=body) for path, bodies in READERS.items() for body in bodies]
    assert {answer.status_code for answer in heard} == {200}
    heard += [told("GET", path) for path, verbs in described.items() if "get" in verbs]
    heard += [told("GET", f"/v1/documents?path={CANARY}"), told("GET", "/v1/feedback")]
    for answer in heard:
        text = answer.text.replace(json.loads(answer.request.content or b"{}").get("query", ""), "")
        assert "another house" not in text, answer.url
        assert f'"{CANARY}"' not in text, answer.url
    assert any("4711" in answer.text for answer in heard)
