"""Figures that take long are not counted for every reader anew."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

CHEAP_S = 0.02
SHARE = 0.02


class Seldom(Generic[T]):
    """Asks again only so often that asking takes a fiftieth of the time; what is cheap is asked every time.

    Sums over all documents take milliseconds with thousands of documents and seconds with millions.  The answer is then
    a little old, and is given to everybody who asks meanwhile.
    """

    def __init__(self, ask: Callable[[], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._answer: T | None = None
        self._until = 0.0

    def __call__(self) -> T:
        """Return the answer.

        Raises:
            Exception: whatever asking raises; the next call asks again.
        """
        with self._lock:
            began = self._clock()
            if self._answer is None or began >= self._until:
                self._answer = self._ask()
                took = self._clock() - began
                self._until = self._clock() + (took / SHARE if took > CHEAP_S else 0.0)
            return self._answer

    def again(self) -> T:
        """Return a new answer, however young the last one is."""
        with self._lock:
            self._until = 0.0
        return self()
