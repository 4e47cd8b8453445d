"""The only module that talks to a reranker: a model behind HTTP that reads query and passage together.

Two shapes are in use: `POST {model, query, documents}` -> `{"results": [{"index", "relevance_score"}]}` (Cohere, Jina,
vLLM) and `POST {query, texts}` -> `[{"index", "score"}]` (Hugging Face's text-embeddings-inference).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import httpx

from workers.adapters.trust import trusted
from workers.errors import RerankerMisconfigured, RerankerUnavailable
from workers.indexing.breaker import Breaker
from workers.query.settings import RerankerSettings

MOST_BYTES = 1 << 20


class RerankerClient:
    """One endpoint; threads may share it.  While it is away, searches do not wait for it again and again."""

    def __init__(self, settings: RerankerSettings) -> None:
        self._url = settings.rerank_url or ""
        self._style = settings.rerank_style
        self._model = settings.rerank_model
        self._breaker = Breaker()
        key = settings.rerank_api_key
        self._client = httpx.Client(
            timeout=settings.rerank_timeout,
            headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else {},
            verify=trusted(self._url),
            follow_redirects=False,  # the key goes to this host and to no other
        )

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        told = f"The reranker at {self._url} (UPWELL_RERANK_URL)"
        if self._breaker.seconds_open() > 0:
            raise RerankerUnavailable(f"{told} is being left alone after failures.")
        try:
            answer = self._client.post(self._url, json=self._body(query, passages))
        except httpx.HTTPError as exc:
            self._breaker.failed(None)
            raise RerankerUnavailable(f"{told} gave no answer ({type(exc).__name__}).") from None
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            self._breaker.failed(None)
            raise RerankerUnavailable(f"{told} answers {answer.status_code}.")
        if not answer.is_success:
            self._breaker.failed(30.0)
            raise RerankerMisconfigured(f"{told} refuses the request with {answer.status_code}.")
        scores = _scores(answer.content, len(passages))
        if scores is None:
            self._breaker.failed(30.0)
            raise RerankerMisconfigured(f"{told} answers in another shape than UPWELL_RERANK_STYLE={self._style}.")
        self._breaker.succeeded()
        return scores

    def _body(self, query: str, passages: Sequence[str]) -> dict[str, Any]:
        if self._style == "tei":
            return {"query": query, "texts": list(passages), "truncate": True}
        return {"model": self._model, "query": query, "documents": list(passages), "top_n": len(passages)}


def _scores(body: bytes, count: int) -> list[float] | None:
    """Return one finite score per passage; None when the answer is no such thing."""
    from pydantic_core import from_json

    if len(body) > MOST_BYTES:
        return None
    try:
        answer = from_json(body)
    except ValueError:
        return None
    rows = answer.get("results", answer.get("data")) if isinstance(answer, dict) else answer
    if not isinstance(rows, list):
        return None
    found: dict[int, float] = {}
    for row in rows:
        if not isinstance(row, dict):
            return None
        index, score = row.get("index"), row.get("relevance_score", row.get("score"))
        if not isinstance(index, int) or not isinstance(score, int | float) or not math.isfinite(score):
            return None
        found[index] = float(score)
    return [found[i] for i in range(count)] if found.keys() == set(range(count)) else None
