"""Fetches the dense vectors that stored chunks still lack: across documents, live ones first, never a text twice.

The id of a chunk is derived from its text, and a collection belongs to one model, so a vector is right for its point
whoever stores it and whenever: no fence is needed here.  Leases only keep two workers from paying for the same text.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from workers.adapters.embeddings import estimate_tokens
from workers.errors import EmbedderMisconfigured, EmbedderUnavailable, IndexMisconfigured, IndexUnavailable
from workers.indexing.bisect import bisect
from workers.indexing.breaker import Breaker
from workers.indexing.chunk import embedded_text
from workers.indexing.leases import Tally
from workers.indexing.ledger import EmbeddingClaim, Ledger
from workers.indexing.ports import Embedder, Index, Vector
from workers.indexing.recipe import Space

log = structlog.get_logger()

DOCUMENTS_PER_ROUND = 32
DRAIN_S = 30.0
ELSEWHERE_S = 0.2


@dataclass(slots=True)
class Piece:
    """One text to embed, and the points that wait for it."""

    key: str
    text: str
    points: list[tuple[str, str]] = field(default_factory=list)  # (document id, point id)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the endpoint takes: texts and estimated tokens per request, and requests in flight."""

    inputs: int
    tokens: int
    concurrency: int


@dataclass(slots=True)
class _Round:
    """What one round has claimed and what became of it."""

    claims: list[EmbeddingClaim]
    remaining: dict[str, int]
    spent: dict[str, int]
    refused: dict[str, int]


class Embedding:
    """Drains the pending vectors of the whole index; one drain at a time per process."""

    def __init__(
        self,
        ledger: Ledger,
        index: Index,
        embedder: Embedder,
        space: Space,
        limits: Limits,
        breaker: Breaker,
        tally: Tally,
    ) -> None:
        self._ledger = ledger
        self._index = index
        self._embedder = embedder
        self._space = space
        self._limits = limits
        self._breaker = breaker
        self._tally = tally
        self._one_at_a_time = threading.Lock()

    def drain(self) -> bool:
        """Embed what is pending, for at most about DRAIN_S; True when somebody should go on."""
        if not self._one_at_a_time.acquire(blocking=False):
            return False
        try:
            deadline = time.monotonic() + DRAIN_S
            with ThreadPoolExecutor(self._limits.concurrency, thread_name_prefix="embed") as pool:
                while time.monotonic() < deadline:
                    if self._breaker.seconds_open() > 0 or not self._round(pool):
                        return False
            return True
        finally:
            self._one_at_a_time.release()

    def _round(self, pool: ThreadPoolExecutor) -> bool:
        """Embed for one handful of documents; False when there is nothing (more) to do now."""
        claims = self._ledger.claim_embeddings(DOCUMENTS_PER_ROUND)
        if not claims:
            return False
        try:
            pieces, state = self._gather(claims)
            self._embed(pool, pieces, state)
        except EmbedderUnavailable as exc:
            wait = self._breaker.failed(exc.retry_after)
            self._ledger.postpone_embeddings(claims, retry_in_s=wait, reason=f"Lexical search only for now. {exc}")
            log.warning("embedding.unavailable", retry_in_s=round(wait, 1), error=str(exc))
            return False
        except (EmbedderMisconfigured, IndexMisconfigured) as exc:
            self._breaker.failed(60.0)
            self._ledger.postpone_embeddings(claims, retry_in_s=60.0, reason=f"Lexical search only for now. {exc}")
            log.error("embedding.misconfigured", error=str(exc))
            return False
        except IndexUnavailable as exc:
            self._ledger.postpone_embeddings(claims, retry_in_s=5.0, reason=str(exc))
            log.warning("embedding.index_unavailable", error=str(exc))
            return False
        return True

    def _gather(self, claims: Sequence[EmbeddingClaim]) -> tuple[list[Piece], _Round]:
        """Collect the texts of the claimed documents, each once, up to one round's worth."""
        state = _Round(list(claims), {}, {}, {})
        pieces: dict[str, Piece] = {}
        most = self._limits.inputs * self._limits.concurrency * 2
        for claim in claims:
            pending = self._index.pending(claim.document_id)
            state.remaining[claim.document_id] = len(pending)
            state.spent[claim.document_id] = state.refused[claim.document_id] = 0
            for point in pending:
                text = embedded_text(point.heading, point.content)
                key = self._space.cache_key(text)
                if key not in pieces and len(pieces) >= most:
                    continue  # the next round's; live documents get their turn before it
                pieces.setdefault(key, Piece(key, text)).points.append((claim.document_id, point.id))
        return list(pieces.values()), state

    def _embed(self, pool: ThreadPoolExecutor, pieces: list[Piece], state: _Round) -> None:
        known = self._ledger.vectors.known(piece.key for piece in pieces)
        ready = [(piece, known[piece.key]) for piece in pieces if piece.key in known]
        self._store(ready, state)
        missing = [piece for piece in pieces if piece.key not in known]
        for done, tokens in pool.map(self._fetch, _batches(missing, self._limits)):
            self._breaker.succeeded()
            if tokens:
                state.spent[done[0][0].points[0][0]] += tokens
            self._refuse([piece for piece, vector in done if vector is None], state)
            self._store([(piece, vector) for piece, vector in done if vector is not None], state)
        for claim in state.claims:
            self._settle(claim, state)

    def _fetch(self, batch: list[Piece]) -> tuple[list[tuple[Piece, Vector | None]], int]:
        """Embed one batch, but for what another worker is just paying for, and remember it before anything else."""
        flight = self._ledger.vectors.claim([piece.key for piece in batch])
        done: list[tuple[Piece, Vector | None]] = [
            (piece, flight.known[piece.key]) for piece in batch if piece.key in flight.known
        ]
        mine = [piece for piece in batch if piece.key in flight.ours]
        if not mine:
            if not done:
                time.sleep(ELSEWHERE_S)  # others have it all: their vectors will be in the cache
            return done, 0
        started = time.monotonic()
        try:
            fetched, tokens = self._request(mine)
            self._ledger.vectors.remember((piece.key, vector) for piece, vector in fetched if vector is not None)
        finally:
            self._ledger.vectors.release(flight.ours)
        self._tally.add(stage__embed__seconds=time.monotonic() - started, stage__embed__count=1)
        self._tally.add(embedding__requests=1, embedding__tokens=tokens, embedding__texts=len(fetched))
        return [*fetched, *done], tokens

    def _request(self, batch: list[Piece]) -> tuple[list[tuple[Piece, Vector | None]], int]:
        """Embed one batch; the vector of a text that the endpoint refuses is None."""
        found, tokens = bisect(batch, self._ask)
        return found, tokens

    def _ask(self, batch: Sequence[Piece]) -> tuple[list[Vector], int]:
        result = self._embedder.embed([piece.text for piece in batch], kind="passage")
        return list(result.vectors), result.tokens

    def _store(self, done: Sequence[tuple[Piece, Vector]], state: _Round) -> None:
        self._index.put_vectors([(point, vector) for piece, vector in done for _, point in piece.points])
        for piece, _ in done:
            for document, _ in piece.points:
                state.remaining[document] -= 1

    def _refuse(self, pieces: list[Piece], state: _Round) -> None:
        if not pieces:
            return
        self._index.mark_refused([point for piece in pieces for _, point in piece.points])
        self._tally.add(embedding__refused=len(pieces))
        for piece in pieces:
            for document, _ in piece.points:
                state.remaining[document] -= 1
                state.refused[document] += 1

    def _settle(self, claim: EmbeddingClaim, state: _Round) -> None:
        refused = state.refused[claim.document_id]
        reason = (
            f"{refused} of its chunks can only be found lexically: the embedding endpoint refuses their text."
            if refused
            else None
        )
        self._ledger.embedded(
            claim, pending=state.remaining[claim.document_id], tokens=state.spent[claim.document_id], reason=reason
        )


def _batches(pieces: Sequence[Piece], limits: Limits) -> Iterator[list[Piece]]:
    """Yield batches within the endpoint's limits, in the given order: live documents come first."""
    batch: list[Piece] = []
    tokens = 0
    for piece in pieces:
        size = estimate_tokens(piece.text)
        if batch and (len(batch) >= limits.inputs or tokens + size > limits.tokens):
            yield batch
            batch, tokens = [], 0
        batch.append(piece)
        tokens += size
    if batch:
        yield batch
