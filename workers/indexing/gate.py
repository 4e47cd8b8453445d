"""How many embedding requests may be in flight: as many as the endpoint serves without queueing them.

Nobody tells us what an endpoint can do, and it changes.  Latency does: while requests of one size take as long as the
fastest ever did, there is room for one more; when they take longer, they wait in a queue over there, and more of them
would only wait longer (TCP Vegas: Brakmo and Peterson, 1995; for requests: Netflix's concurrency-limits).  A refusal
halves the number (Chiu and Jain, 1989: increase by steps, decrease by half).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

FEW = 2.0
"""Requests that may queue at the endpoint before we stop adding: one that is served, one that is next."""
MANY = 4.0
START = 4
AGEING = 1.002
"""The fastest time is believed a little less with every request: an endpoint may become slower for good."""


class Gate:
    """The number of requests in flight; threads may share it."""

    def __init__(self, most: int, clock: Callable[[], float] = monotonic) -> None:
        self._most = float(most)
        self._limit = float(min(START, most))
        self._doubling = True
        self._fastest: dict[int, float] = {}  # by size class (bits of the number of tokens)
        self._clock = clock
        self._halved_at = -1e9
        self._typical_s = 0.1
        self._lock = threading.Lock()

    @property
    def limit(self) -> int:
        """Requests that may be in flight."""
        return int(self._limit)

    def served(self, tokens: int, seconds: float, flying: int) -> None:
        """Learn from a request that was answered; ``flying`` is how many were in flight with it, itself included."""
        with self._lock:
            size = max(1, tokens).bit_length()
            fastest = min(self._fastest.get(size, seconds) * AGEING, seconds)
            self._fastest[size] = fastest
            self._typical_s += 0.1 * (seconds - self._typical_s)
            queued = flying * (1 - fastest / seconds) if seconds > 0 else 0.0
            if queued > MANY:
                self._doubling = False
                self._limit = max(1.0, self._limit - 1 / self._limit)
            elif queued < FEW and flying >= self._limit / 2:  # a limit that nobody uses proves nothing
                self._limit = min(self._most, self._limit + (1.0 if self._doubling else 1 / self._limit))

    def refused(self) -> None:
        """Learn that there was too much: half as many from now on, once for all that were in flight together."""
        with self._lock:
            now = self._clock()
            if now - self._halved_at > max(0.1, self._typical_s):
                self._halved_at = now
                self._doubling = False
                self._limit = max(1.0, self._limit / 2)

    def failed(self) -> None:
        """Learn that the endpoint is away: one request tries first when it is asked again."""
        with self._lock:
            self._limit = 1.0
            self._doubling = True
