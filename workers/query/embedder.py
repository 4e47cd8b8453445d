"""Vectors of queries: remembered, asked for with little patience, and not at all while the endpoint is away."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

import numpy as np

from workers.adapters.embeddings import EmbeddingBatch, InputRefused
from workers.errors import EmbedderMisconfigured, EmbedderUnavailable
from workers.indexing.breaker import Breaker
from workers.query.relevance import UNRELATED
from workers.query.values import Vector

MISCONFIGURED_S = 30.0


class Endpoint(Protocol):
    """What `EmbeddingClient` offers."""

    def embed(self, texts: Sequence[str], *, kind: Literal["query", "passage"]) -> EmbeddingBatch:
        """Return the vectors of ``texts``."""


class QueryEmbedder:
    """A cache and a breaker before the embedding endpoint.  Threads share it.

    A dead endpoint costs one search its timeout; the following ones know, and search by words at once.
    """

    def __init__(self, endpoint: Endpoint, *, remembered: int = 2048) -> None:
        self._endpoint = endpoint
        self._remembered = remembered
        self._breaker = Breaker()
        self._known: OrderedDict[str, Vector] = OrderedDict()
        self._lock = threading.Lock()
        self._probe = threading.Lock()
        self._reason = ""
        self._unrelated: float | None = None
        self._landmarks: list[Vector] = []

    def query(self, text: str) -> Vector:
        return self.queries([text])[0]

    def queries(self, texts: Sequence[str]) -> list[Vector]:
        with self._lock:
            known = {text: self._known[text] for text in texts if text in self._known}
            for text in known:
                self._known.move_to_end(text)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            asked = dict(zip(missing, self._ask(missing, "query"), strict=True))
            self._remember(asked)
            known |= asked
        return [known[text] for text in texts]

    def passages(self, texts: Sequence[str]) -> list[Vector]:
        return self._ask(texts, "passage") if texts else []

    def unrelated(self) -> float | None:
        """Return the mean cosine of sentences that have nothing to do with each other; None: not known yet.

        It says where the model's band begins (multilingual-e5-small: 0.79), and is asked for once.
        """
        if self._unrelated is None:
            try:
                vectors = np.stack(self._ask(UNRELATED, "query"))  # as queries: passages may wait behind a backfill
            except (EmbedderUnavailable, EmbedderMisconfigured, InputRefused):
                return None
            cosines = vectors @ vectors.T
            self._unrelated = float(cosines[np.triu_indices(len(vectors), 1)].mean())
        return self._unrelated

    def landmarks(self) -> list[Vector]:
        if not self._landmarks:
            self._landmarks = self._ask(UNRELATED, "passage")
        return self._landmarks

    def _remember(self, vectors: Mapping[str, Vector]) -> None:
        with self._lock:
            self._known |= vectors
            while len(self._known) > self._remembered:
                self._known.popitem(last=False)

    def _ask(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> list[Vector]:
        with self._allowed():
            vectors = self._guarded(lambda: self._endpoint.embed(texts, kind=kind)).vectors
        return list((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))

    @contextmanager
    def _allowed(self) -> Iterator[None]:
        """Let everybody pass while the endpoint is well, nobody while it rests, and one to see whether it is back."""
        if self._breaker.failures == 0:
            yield
            return
        if self._breaker.seconds_open() > 0 or not self._probe.acquire(blocking=False):
            raise EmbedderUnavailable(self._reason, retry_after=self._breaker.seconds_open())
        try:
            yield
        finally:
            self._probe.release()

    def _guarded(self, ask: Callable[[], EmbeddingBatch]) -> EmbeddingBatch:
        try:
            answer = ask()
        except EmbedderUnavailable as exc:
            self._reason = str(exc)
            self._breaker.failed(exc.retry_after)
            raise
        except EmbedderMisconfigured as exc:
            self._reason = str(exc)
            self._breaker.failed(MISCONFIGURED_S)
            raise
        self._breaker.succeeded()
        return answer
