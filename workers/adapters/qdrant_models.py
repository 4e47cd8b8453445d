"""Qdrant's client, imported with its models left unfinished: pydantic finishes each when it is first used.

The client finishes its some three hundred models while it is imported, which is half of what importing it takes, in
every process that speaks to Qdrant, for the tenth of them that we use (ADR 0035).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel


@contextmanager
def _left_unfinished() -> Iterator[None]:
    """Let `model_rebuild` do nothing for the length of the block."""
    rebuild = BaseModel.__dict__["model_rebuild"]
    BaseModel.model_rebuild = classmethod(lambda cls, **_: None)  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        BaseModel.model_rebuild = rebuild  # type: ignore[method-assign]


with _left_unfinished():
    from qdrant_client import QdrantClient, models
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

__all__ = ["QdrantClient", "QdrantException", "ResponseHandlingException", "UnexpectedResponse", "models"]
