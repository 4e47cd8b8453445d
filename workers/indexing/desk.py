"""Texts on their way to the embedding endpoint: each once, live ones first, in batches of the endpoint's size.

The desk is bounded: what does not fit stays where it is anyway, in Qdrant, and is read from there when there is room.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

from workers.adapters.tokens import estimate_tokens
from workers.indexing.gate import Gate

HELD_BYTES = 32 << 20
LINGER_S = 0.25
"""How long a text of a backfill waits for others to share its request; a live one never waits."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the endpoint takes: texts and estimated tokens per request, and most requests in flight."""

    inputs: int
    tokens: int
    concurrency: int


class Wanted(NamedTuple):
    """A stored chunk that lacks its dense vector."""

    point_id: str
    key: str  # of the embedding cache
    text: str


@dataclass(slots=True, eq=False)
class Order:
    """What one document still waits for."""

    document_id: str
    token: int
    bulk: bool
    remaining: int = 0
    tokens: int = 0
    refused: int = 0


@dataclass(slots=True, eq=False)
class Piece:
    """One text, and every point of every document that waits for its vector."""

    key: str
    text: str
    size: int  # estimated tokens
    bulk: bool
    since: float
    waiting: list[tuple[Order, str]] = field(default_factory=list)
    taken: bool = False


class Desk:
    """The texts of one process; threads may share it."""

    def __init__(self, limits: Limits, gate: Gate, clock: Callable[[], float] = monotonic) -> None:
        self._gate = gate
        self._clock = clock
        self._inputs, self._tokens = limits.inputs, limits.tokens
        self._changed = threading.Condition()
        self._pieces: dict[str, Piece] = {}
        self._live: deque[Piece] = deque()
        self._bulk: deque[Piece] = deque()
        self._later: list[tuple[float, int, Piece]] = []
        self._orders: dict[str, Order] = {}
        self._bytes = 0
        self._waiting_tokens = 0  # of the bulk lane
        self._flying = 0
        self._paused_until = self._bulk_paused_until = 0.0
        self._closed = False
        self._number = 0

    # ------------------------------------------------------------------ in

    def has_room(self, *, bulk: bool) -> bool:
        """Tell whether more texts may come; a backfill leaves half of the room to live ones."""
        return self._bytes < (HELD_BYTES // 2 if bulk else HELD_BYTES)

    def add(self, order: Order, wanted: Sequence[Wanted]) -> None:
        """Take in a document's texts.  A text that is here already, for whatever document, is not taken twice."""
        with self._changed:
            self._orders[order.document_id] = order
            order.remaining = len(wanted)
            now = self._clock()
            for want in wanted:
                piece = self._pieces.get(want.key)
                if piece is None:
                    piece = Piece(want.key, want.text, estimate_tokens(want.text), order.bulk, now)
                    self._pieces[want.key] = piece
                    self._bytes += len(want.text)
                    self._put(piece)
                elif piece.bulk and not order.bulk:
                    piece.bulk = False
                    if not piece.taken:
                        self._live.append(piece)  # stays in its old lane too; whoever comes second finds it taken
                piece.waiting.append((order, want.point_id))
            self._changed.notify()

    def orders(self) -> list[Order]:
        """Return every document that waits for something."""
        with self._changed:
            return list(self._orders.values())

    # ------------------------------------------------------------------ out

    def take(self, timeout: float, *, linger: float = LINGER_S) -> list[Piece]:
        """Return the next batch as soon as it may be sent, or nothing when the time is up.

        Live texts go at once, in a request of their own, past the requests that a backfill may have in flight.
        """
        deadline = self._clock() + timeout
        with self._changed:
            while not self._closed:
                now = self._clock()
                while self._later and self._later[0][0] <= now:
                    self._put(heapq.heappop(self._later)[2], first=True)
                ready_at = self._ready_at(now, linger)
                if ready_at <= now:
                    batch = self._batch(self._live if self._live else self._bulk)
                    if batch:
                        self._flying += 1
                        self._changed.notify()  # there may be more
                        return batch
                    continue
                if now >= deadline:
                    return []
                wake = min(deadline, ready_at, self._later[0][0] if self._later else deadline)
                self._changed.wait(max(0.0, wake - now))
            return []

    def landed(self) -> None:
        """A request is over."""
        with self._changed:
            self._flying -= 1
            self._changed.notify()

    @property
    def flying(self) -> int:
        """Requests in flight."""
        return self._flying

    def finish(self, pieces: Iterable[Piece]) -> list[tuple[Piece, list[tuple[Order, str]]]]:
        """Take texts off the desk; returns who waited for each, also those who came while it was in flight."""
        with self._changed:
            done = []
            for piece in pieces:
                self._forget(piece)
                done.append((piece, piece.waiting))
            return done

    def settle(self, order: Order, count: int = 1) -> bool:
        """Note that a document waits for less; True when it waits for nothing more."""
        with self._changed:
            order.remaining -= count
            if order.remaining > 0:
                return False
            if self._orders.get(order.document_id) is order:
                del self._orders[order.document_id]
            return True

    def put_back(self, pieces: Iterable[Piece], delay: float = 0.0) -> None:
        """Have texts taken again, before all others of their lane, after a while."""
        with self._changed:
            for piece in reversed(list(pieces)):
                piece.taken = False
                if delay > 0:
                    self._number += 1
                    heapq.heappush(self._later, (self._clock() + delay, self._number, piece))
                else:
                    self._put(piece, first=True)
            self._changed.notify()

    def clear(self) -> list[Order]:
        """Drop what is not in flight; returns every document that waited for something."""
        with self._changed:
            for piece in [*self._live, *self._bulk, *(entry[2] for entry in self._later)]:
                if not piece.taken:
                    self._forget(piece)
            self._live.clear()
            self._bulk.clear()
            self._later.clear()
            self._waiting_tokens = 0
            orders = list(self._orders.values())
            self._orders.clear()
            return orders

    def pause(self, seconds: float, *, live: bool = True) -> None:
        """Let nothing go for a while; with ``live`` False only nothing of a backfill."""
        with self._changed:
            until = self._clock() + seconds
            self._bulk_paused_until = max(self._bulk_paused_until, until)
            if live:
                self._paused_until = max(self._paused_until, until)

    def smaller(self, inputs: int, tokens: int) -> None:
        """Make smaller batches from now on: the endpoint takes less than we were told."""
        with self._changed:
            self._inputs, self._tokens = max(1, min(self._inputs, inputs)), max(1, min(self._tokens, tokens))

    def close(self) -> None:
        """Let every `take` return."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def is_empty(self) -> bool:
        """Tell whether nothing waits and nothing is in flight."""
        with self._changed:
            return not self._pieces

    # ------------------------------------------------------------------ inside (under the lock)

    def _put(self, piece: Piece, *, first: bool = False) -> None:
        lane = self._bulk if piece.bulk else self._live
        lane.appendleft(piece) if first else lane.append(piece)
        if piece.bulk:
            self._waiting_tokens += piece.size

    def _forget(self, piece: Piece) -> None:
        if self._pieces.get(piece.key) is piece:
            del self._pieces[piece.key]
            self._bytes -= len(piece.text)

    def _ready_at(self, now: float, linger: float) -> float:
        """Return when the next batch may go; infinity: when something else happens first."""
        never = float("inf")
        if self._live and self._flying <= self._gate.limit:  # one more than a backfill may have
            return max(now, self._paused_until)
        if not self._bulk or self._flying >= self._gate.limit:
            return never
        full = len(self._bulk) >= self._inputs or self._waiting_tokens >= self._tokens
        if full or self._flying == 0:
            return max(now, self._bulk_paused_until)
        return max(self._bulk[0].since + linger, self._bulk_paused_until)

    def _batch(self, lane: deque[Piece]) -> list[Piece]:
        batch: list[Piece] = []
        tokens = 0
        while lane and len(batch) < self._inputs:
            piece = lane[0]
            if piece.taken or self._pieces.get(piece.key) is not piece:  # went with the other lane
                self._left(lane.popleft(), lane)
                continue
            if batch and tokens + piece.size > self._tokens:
                break
            self._left(lane.popleft(), lane)
            piece.taken = True
            batch.append(piece)
            tokens += piece.size
        return batch

    def _left(self, piece: Piece, lane: deque[Piece]) -> None:
        if lane is self._bulk:
            self._waiting_tokens -= piece.size
