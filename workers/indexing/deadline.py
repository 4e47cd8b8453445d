"""When an attempt must stop sending: its own clock says so, right before each write.

The ledger's clock decides who holds a lease; asking it before every write would cost a read each, and tell nothing
about the moment after.  So an attempt notes on its own clock when it asked for the lease, which is before the ledger
gave it, and sends nothing once that is a lease's length ago.  A process that was frozen, or a machine that slept,
wakes past its deadline and stops.
"""

from __future__ import annotations

import time
from collections.abc import Callable

if hasattr(time, "CLOCK_BOOTTIME"):

    def awake() -> float:
        """Return seconds on a clock that only goes forward, and goes on while the machine sleeps."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:  # macOS, where the monotonic clock is the nearest thing
    awake = time.monotonic


class LeaseLost(Exception):
    """Another worker has the document now, or may have.  No error: there is nothing left to do here."""


class Deadline:
    """The end of a lease on the clock of the process that holds it."""

    def __init__(self, asked_at: float, length_s: float, clock: Callable[[], float] = awake) -> None:
        self._clock = clock
        self._ends_at = asked_at + length_s

    def extend(self, asked_at: float, length_s: float) -> None:
        """Note a renewal that was asked for at ``asked_at``."""
        self._ends_at = asked_at + length_s

    def end(self) -> None:
        """Send nothing more from now on: the lease is about to be given back."""
        self._ends_at = float("-inf")

    def check(self) -> None:
        """Raise LeaseLost when the lease may have ended."""
        if self._clock() >= self._ends_at:
            raise LeaseLost("The lease ended while this attempt was at work.")
