"""A circuit breaker: an endpoint that fails is left alone for a while, and everybody can see it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

FIRST_S = 2.0
LONGEST_S = 60.0


class Breaker:
    """Opens at a failure, for longer each time, and closes at the first success.

    While it is open nothing is asked of the endpoint and no attempt is counted; when the time is over, one request
    tries (half open).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._open_until = 0.0

    def seconds_open(self) -> float:
        """Return the seconds until the next try; 0: closed or half open."""
        with self._lock:
            return max(0.0, self._open_until - self._clock())

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._failures

    def failed(self, retry_after: float | None = None) -> float:
        """Open it, for what the endpoint asks or a doubling time; returns the seconds."""
        with self._lock:
            self._failures += 1
            doubling = min(LONGEST_S, FIRST_S * 2 ** (self._failures - 1)) * random.uniform(0.8, 1.2)  # noqa: S311
            wait = retry_after if retry_after is not None else doubling
            self._open_until = self._clock() + wait
            return wait

    def succeeded(self) -> None:
        """Close it."""
        with self._lock:
            self._failures = 0
            self._open_until = 0.0
