"""What the readers are told, and how they embed: through Upwell's own face.  Nothing of ours is imported."""

from __future__ import annotations

import os
from functools import cache

import openai
from qdrant_edge import Bm25

QUESTION = "What opens the heating cellar?"
ANSWER = "The boiler code is 4711."


@cache
def vectors() -> openai.OpenAI:
    return openai.OpenAI(base_url=os.environ["INTEROP_API"] + "/v1", api_key="none")


def embed(text: str) -> list[float]:
    """Return the vector of a query, through Upwell's own face of the model."""
    answer = vectors().embeddings.create(model=os.environ["INTEROP_MODEL"], input=[text])
    return list(answer.data[0].embedding)


def sparse(text: str) -> tuple[list[int], list[float]]:
    """Return the BM25 vector of a query, as Qdrant's own qdrant/bm25 makes it."""
    made = Bm25().embed_query(text)
    return list(made.indices), list(made.values)
