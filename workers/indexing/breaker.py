"""A circuit breaker: an endpoint that fails is left alone for a while, and everybody can see it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

FIRST_S = 2.0
LONGEST_S = 60.0
TRIAL_S = 5.0
"""How long one trial keeps others from trying as well; it may end without a verdict."""


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
        self._reason: str | None = None
        self._cause: BaseException | None = None

    def admits(self) -> bool:
        """Tell whether to ask the endpoint now; while it is half open, one at a time."""
        with self._lock:
            now = self._clock()
            if self._failures == 0:
                return True
            if now < self._open_until:
                return False
            self._open_until = now + TRIAL_S
            return True

    def seconds_open(self) -> float:
        """Return the seconds until the next try; 0: closed or half open."""
        with self._lock:
            return max(0.0, self._open_until - self._clock())

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._failures

    def told(self) -> dict[str, str | float | int | None]:
        """Return what people may know: closed, open or half open, failures in a row, seconds to wait, and why."""
        wait = self.seconds_open()
        state = "closed" if self._failures == 0 else "open" if wait else "half open"
        return {"state": state, "failures": self._failures, "open_s": round(wait, 1), "reason": self._reason}

    def failed(
        self, retry_after: float | None = None, *, reason: str | None = None, cause: BaseException | None = None
    ) -> float:
        """Open it, for what the endpoint asks or a doubling time; returns the seconds.

        ``cause`` is the failure itself, where several hear of one: it counts once.
        """
        with self._lock:
            if cause is not None and cause is self._cause:
                return max(0.0, self._open_until - self._clock())
            self._cause = cause
            self._failures += 1
            self._reason = reason
            doubling = min(LONGEST_S, FIRST_S * 2 ** (self._failures - 1)) * random.uniform(0.8, 1.2)  # noqa: S311
            wait = retry_after if retry_after is not None else doubling
            self._open_until = self._clock() + wait
            return wait

    def succeeded(self) -> None:
        """Close it."""
        with self._lock:
            self._failures = 0
            self._open_until = 0.0
            self._cause = None
