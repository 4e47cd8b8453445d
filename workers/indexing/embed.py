"""Fetches the dense vectors that stored chunks still lack: across documents, live ones first, never a text twice.

The id of a chunk is derived from its text, and a collection belongs to one model, so a vector is right for its point
whoever stores it and whenever: no fence is needed here.  What leases there are keep two workers from doing the same.

  reader    hands texts to the desk: of the documents this process has just chunked, and, where there is room, of
            documents in the ledger that nobody has, read back from Qdrant
  desk      each text once, live ones first, in batches of the endpoint's size
  senders   budget - claim - request - remember - store - settle, as many at once as the gate allows
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from typing import Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from workers.adapters.budget import Allowance
from workers.contract.identity import text_digest
from workers.errors import (
    EmbedderMisconfigured,
    EmbedderUnavailable,
    IndexMisconfigured,
    IndexUnavailable,
    Outage,
    Permanent,
    RateLimited,
)
from workers.indexing.bisect import bisect
from workers.indexing.breaker import Breaker
from workers.indexing.canary import Canary
from workers.indexing.chunk import embedded_text
from workers.indexing.desk import Desk, Limits, Order, Piece, Wanted
from workers.indexing.embedding_claims import LEXICAL_ONLY, Embedded, EmbeddingClaim
from workers.indexing.gate import Gate
from workers.indexing.leases import RENEWALS_PER_LEASE, Tally
from workers.indexing.ledger import Ledger
from workers.indexing.ports import Embedder, Index, Vector
from workers.indexing.recipe import Space

log = structlog.get_logger()

__all__ = ["Embedding", "Limits", "Wanted"]

DRAIN_S = 30.0
DOCUMENTS_AT_ONCE = 64
LOOK_EVERY_S = 5.0
ELSEWHERE_S = 0.25
"""How soon to look again for a vector that another worker is fetching."""
PATIENCE_S = 20.0
"""A longer wait is not waited for here: the documents go back to the ledger, where everybody sees why."""


class Budget(Protocol):
    """Tokens and requests that all workers share."""

    @property
    def most_tokens(self) -> int | None: ...

    def take(self, tokens: int, *, live: bool) -> float: ...

    def settle(self, tokens: int) -> None: ...

    def pause(self, seconds: float) -> None: ...

    def learn(self, allowance: Allowance) -> None: ...


class Unlimited:
    """The budget of who has none."""

    most_tokens: int | None = None

    def take(self, tokens: int, *, live: bool) -> float:
        """Take nothing from nothing."""
        return 0.0

    def settle(self, tokens: int) -> None:
        """Do nothing."""

    def pause(self, seconds: float) -> None:
        """Do nothing: this process waits by itself."""

    def learn(self, allowance: Allowance) -> None:
        """Do nothing."""


class Embedding:
    """The embedding stage of one process.

    `start` keeps it running beside the index worker's tasks; without it, `drain` works off what there is, in the
    caller's thread.
    """

    def __init__(
        self,
        ledger: Ledger,
        index: Index,
        embedder: Embedder,
        space: Space,
        limits: Limits,
        breaker: Breaker,
        tally: Tally,
        *,
        budget: Budget | None = None,
        canary: Canary | None = None,
    ) -> None:
        self._ledger = ledger
        self._index = index
        self._embedder = embedder
        self._space = space
        self._limits = limits
        self._breaker = breaker
        self._tally = tally
        self._budget: Budget = budget or Unlimited()
        self._canary = canary
        self._gate = Gate(limits.concurrency)
        self._desk = Desk(limits, self._gate)
        self._learn(None)
        self._limited = 0  # refusals for the rate in a row
        self._one_at_a_time = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    # ------------------------------------------------------------------ what others call

    def start(self) -> None:
        """Keep embedding, from threads of its own, until `stop`."""
        names = ["embed-reader", *(f"embed-{number}" for number in range(self._limits.concurrency + 1))]
        runs = [self._read_on, *([self._send_on] * (self._limits.concurrency + 1))]
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True) for name, run in zip(names, runs, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Send nothing more, and leave to others what is not in flight."""
        self._stopping.set()
        self._wake.set()
        self._give_back(self._desk.clear(), retry_in_s=0.0, reason=None)
        self._desk.close()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._threads = []

    def has_room(self, *, bulk: bool) -> bool:
        """Tell whether a document's texts may be handed over instead of being read back later."""
        return bool(self._threads) and self._breaker.seconds_open() <= 0 and self._desk.has_room(bulk=bulk)

    def offer(self, document_id: str, token: int, *, bulk: bool, wanted: Sequence[Wanted]) -> None:
        """Take over a document that this process has just stored; its lease is ours already."""
        self._desk.add(Order(document_id, token, bulk), wanted)

    def drain(self) -> bool:
        """Embed what is pending, for at most about DRAIN_S; True when somebody should go on.

        Where `start` was called it only wakes the threads up.
        """
        if self._threads:
            self._wake.set()
            return False
        if not self._one_at_a_time.acquire(blocking=False):
            return False
        try:
            return self._drain(time.monotonic() + DRAIN_S)
        finally:
            self._give_back(self._desk.clear(), retry_in_s=0.0, reason=None)
            self._one_at_a_time.release()

    def _drain(self, deadline: float) -> bool:
        while time.monotonic() < deadline:
            if self._breaker.seconds_open() > 0:
                return False
            if not self._fill() and self._desk.is_empty():
                return False
            batch = self._desk.take(ELSEWHERE_S, linger=0.0)
            if batch:
                self._send(batch)
        return True

    # ------------------------------------------------------------------ reader

    def _read_on(self) -> None:
        renewed, renew_s = time.monotonic(), self._ledger.lease_s / RENEWALS_PER_LEASE
        while not self._stopping.is_set():
            more = False
            try:
                if self._breaker.seconds_open() <= 0:
                    more = self._fill()
                if time.monotonic() - renewed > renew_s:
                    renewed = time.monotonic()
                    self._ledger.renew_embeddings([order.document_id for order in self._desk.orders()])
            except (Outage, Permanent, SQLAlchemyError) as exc:
                log.warning("embedding.not_read", error=type(exc).__name__)
            except Exception:
                log.exception("embedding.bug")
            if not more:
                self._wake.wait(min(LOOK_EVERY_S, renew_s))
                self._wake.clear()

    def _fill(self) -> bool:
        """Take documents that nobody has; False when there was none, or no room for it."""
        if not self._desk.has_room(bulk=False):
            return False
        room = self._desk.has_room(bulk=True)
        claims = self._ledger.claim_embeddings(DOCUMENTS_AT_ONCE, live_only=not room)
        for number, claim in enumerate(claims):
            try:
                self._take_in(claim)
            except Outage as exc:
                left = [Order(each.document_id, each.token, each.bulk) for each in claims[number:]]
                self._give_back(left, retry_in_s=5.0, reason=str(exc))
                return False
        return bool(claims)

    def _take_in(self, claim: EmbeddingClaim) -> None:
        wanted = []
        for point in self._index.pending(claim.document_id):
            text = embedded_text(point.heading, point.content)
            wanted.append(Wanted(point.id, self._space.cache_key(text), text))
        if wanted:
            self.offer(claim.document_id, claim.token, bulk=claim.bulk, wanted=wanted)
        else:
            self._ledger.embedded([Embedded(claim, pending=0, tokens=0)])

    # ------------------------------------------------------------------ senders

    def _send_on(self) -> None:
        while not self._stopping.is_set():
            batch = self._desk.take(1.0)
            if batch:
                try:
                    self._send(batch)
                except Exception:
                    log.exception("embedding.bug")  # its documents were given up; their leases run out

    def _send(self, batch: list[Piece]) -> None:
        """See a batch through to the index, or decide what becomes of its texts."""
        try:
            self._embed(batch)
        except RateLimited as exc:
            self._slow_down(batch, exc)
        except EmbedderUnavailable as exc:
            self._gate.failed()
            if self._canary:
                self._canary.doubt()
            self._stand_back(batch, self._breaker.failed(exc.retry_after, reason=str(exc)), exc)
        except (EmbedderMisconfigured, IndexMisconfigured) as exc:
            self._breaker.failed(60.0, reason=str(exc))
            self._stand_back(batch, 60.0, exc)
        except (IndexUnavailable, SQLAlchemyError) as exc:
            self._stand_back(batch, 5.0, exc)
        except BaseException:
            self._desk.finish(batch)
            self._desk.clear()
            raise
        finally:
            self._desk.landed()

    def _embed(self, batch: list[Piece]) -> None:
        if self._canary:
            self._canary.check(self._embedder)
        live = not batch[0].bulk
        asked = sum(piece.size for piece in batch)
        wait = self._budget.take(asked, live=live)
        if wait > 0:
            self._desk.put_back(batch)
            self._desk.pause(min(wait, PATIENCE_S), live=live)
            return
        flight = self._ledger.vectors.claim([piece.key for piece in batch])
        known = [piece for piece in batch if piece.key in flight.known]
        elsewhere = [piece for piece in batch if piece.key in flight.elsewhere]
        mine = [piece for piece in batch if piece.key in flight.ours]
        spent = 0
        fetched: list[tuple[Piece, Vector | None]] = []
        try:
            fetched += self._of_other_chunks(mine)
            found = {piece.key for piece, _ in fetched}
            if missing := [piece for piece in mine if piece.key not in found]:
                paid, spent = self._fetch(missing)
                fetched += paid
        finally:
            # What is not in the cache by now has failed: others may try it at once.
            self._ledger.vectors.release(flight.ours - {piece.key for piece, vector in fetched if vector is not None})
            self._budget.settle(spent - asked)
            self._desk.put_back(elsewhere, ELSEWHERE_S)
        self._store([(piece, flight.known[piece.key]) for piece in known] + fetched, spent)

    def _of_other_chunks(self, pieces: Sequence[Piece]) -> list[tuple[Piece, Vector]]:
        """Return vectors that the cache has lost and some other chunk of the same text still has."""
        digests = [text_digest(piece.text) for piece in pieces]
        stored = self._index.vectors_of(digests)
        found = [(piece, stored[digest]) for piece, digest in zip(pieces, digests, strict=True) if digest in stored]
        if found:
            self._ledger.vectors.remember((piece.key, vector) for piece, vector in found)
        return found

    def _fetch(self, pieces: list[Piece]) -> tuple[list[tuple[Piece, Vector | None]], int]:
        """Embed texts and remember what they cost before anything else can go wrong; None: the text is refused."""
        started = time.monotonic()
        sizes: list[int] = []

        def ask(part: Sequence[Piece]) -> tuple[list[Vector], int]:
            began = time.monotonic()
            answer = self._embedder.embed([piece.text for piece in part], kind="passage")
            sizes.append(len(part))
            self._gate.served(answer.tokens, time.monotonic() - began, self._desk.flying)
            self._learn(answer.allowance)
            self._ledger.vectors.remember(
                (piece.key, vector) for piece, vector in zip(part, answer.vectors, strict=True)
            )
            return list(answer.vectors), answer.tokens

        fetched, spent = bisect(pieces, ask)
        if len(sizes) > 1 and all(vector is not None for _, vector in fetched):
            # No text was at fault, so the size was: the endpoint takes less than we were told.
            self._desk.smaller(max(sizes), max(1, spent * max(sizes) // len(pieces)))
        self._breaker.succeeded()
        self._limited = 0
        self._tally.add(stage__embed__seconds=time.monotonic() - started, stage__embed__count=1)
        self._tally.add(embedding__requests=len(sizes), embedding__tokens=spent, embedding__texts=len(fetched))
        return fetched, spent

    def _learn(self, allowance: Allowance | None) -> None:
        if allowance is not None:
            self._budget.learn(allowance)
        if self._budget.most_tokens is not None:
            self._desk.smaller(self._limits.inputs, self._budget.most_tokens)

    def _store(self, done: Sequence[tuple[Piece, Vector | None]], spent: int) -> None:
        """Store vectors, mark refused texts, and tell the ledger of every document that waits for nothing more."""
        stored: set[tuple[str, str]] = set()
        refused = [piece for piece, vector in done if vector is None]
        vectors = {piece.key: vector for piece, vector in done if vector is not None}
        # Points may join a text while its vector is being stored, so what waits is asked for until nobody new came.
        pieces = [piece for piece, _ in done]
        self._put(pieces, vectors, stored)
        share = spent / (sum(piece.size for piece in pieces) or 1)
        finished: list[Order] = []
        late: list[tuple[str, Vector]] = []
        for piece, waiting in self._desk.finish(pieces):
            for number, (order, point) in enumerate(waiting):
                if (piece.key, point) not in stored and piece.key in vectors:
                    late.append((point, vectors[piece.key]))
                order.refused += piece.key not in vectors
                order.tokens += round(piece.size * share) if number == 0 else 0
                if self._desk.settle(order):
                    finished.append(order)
        self._index.put_vectors(late)
        if refused:
            self._index.mark_refused([point for piece in refused for _, point in piece.waiting])
            self._tally.add(embedding__refused=len(refused))
        if finished:
            self._ledger.embedded([_told(order) for order in finished])

    def _put(self, pieces: Sequence[Piece], vectors: dict[str, Vector], stored: set[tuple[str, str]]) -> None:
        batch = []
        for piece in pieces:
            for _, point in list(piece.waiting):
                if piece.key in vectors:
                    batch.append((point, vectors[piece.key]))
                    stored.add((piece.key, point))
        self._index.put_vectors(batch)

    # ------------------------------------------------------------------ when it does not work

    def _slow_down(self, batch: list[Piece], exc: RateLimited) -> None:
        """The endpoint is well and wants less: everybody waits, nobody's document is put off."""
        self._gate.refused()
        self._limited += 1
        doubling = min(30.0, 0.5 * 2.0 ** min(self._limited, 8)) * random.uniform(0.8, 1.2)  # noqa: S311
        wait = exc.retry_after if exc.retry_after is not None else doubling
        self._budget.pause(wait)
        self._tally.add(embedding__limited=1)
        if wait > PATIENCE_S:
            self._breaker.failed(wait, reason=str(exc))
            self._stand_back(batch, wait, exc)
            return
        self._desk.put_back(batch)
        self._desk.pause(wait)

    def _stand_back(self, batch: list[Piece], wait: float, exc: Exception) -> None:
        """Give every document back to the ledger, with the reason and the time of the next try."""
        waiting = {id(order): order for _, orders in self._desk.finish(batch) for order, _ in orders}
        orders = waiting | {id(order): order for order in self._desk.clear()}
        words = str(exc) if isinstance(exc, Outage | Permanent) else "The ledger is busy."
        reason = f"{LEXICAL_ONLY} {words}"
        self._give_back(list(orders.values()), retry_in_s=wait, reason=reason)
        log.warning("embedding.stands_back", retry_in_s=round(wait, 1), error=type(exc).__name__, reason=words)

    def _give_back(self, orders: Sequence[Order], *, retry_in_s: float, reason: str | None) -> None:
        if not orders:
            return
        claims = [EmbeddingClaim(order.document_id, order.token, order.bulk) for order in orders]
        try:
            self._ledger.postpone_embeddings(claims, retry_in_s=retry_in_s, reason=reason)
        except SQLAlchemyError as exc:  # their leases run out by themselves
            log.warning("embedding.not_given_back", error=type(exc).__name__)


def _told(order: Order) -> Embedded:
    reason = None
    if order.refused:
        reason = (
            f"{order.refused} of its chunks can only be found lexically: the embedding endpoint refuses their text."
        )
    claim = EmbeddingClaim(order.document_id, order.token, order.bulk)
    return Embedded(claim, pending=0, tokens=order.tokens, reason=reason)
