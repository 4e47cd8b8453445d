"""Where the readers look: nothing but addresses and names."""

from __future__ import annotations

import os

import pytest
from qdrant_client import QdrantClient


@pytest.fixture(scope="session")
def url() -> str:
    return os.environ["INTEROP_QDRANT"]


@pytest.fixture(scope="session")
def collection() -> str:
    return os.environ["INTEROP_COLLECTION"]


@pytest.fixture(scope="session")
def client(url: str) -> QdrantClient:
    return QdrantClient(url=url, check_compatibility=False)


@pytest.fixture
def victim(client: QdrantClient, collection: str):
    """A function that gives the id of a document, by its path, and how many points it has."""

    def find(path: str) -> tuple[str, int]:
        from qdrant_client import models as m

        by_path = m.Filter(must=[m.FieldCondition(key="metadata.path", match=m.MatchValue(value=path))])
        points, _ = client.scroll(collection, scroll_filter=by_path, limit=100, with_payload=True)
        assert points, f"{path} is not in the index"
        return str(points[0].payload["doc_id"]), len(points)

    return find
