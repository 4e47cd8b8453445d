"""When to start a part again: at once after the first death, later and later if it keeps dying.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_S = 0.2
LONGEST_S = 10.0
HEALTHY_S = 30.0


@dataclass(slots=True)
class Backoff:
    """The patience with one part."""

    deaths: int = 0
    started_at: float = 0.0

    def started(self, now: float) -> None:
        self.started_at = now

    def died(self, now: float) -> float:
        """Return the seconds to wait before the next start."""
        if now - self.started_at >= HEALTHY_S:
            self.deaths = 0
        delay: float = min(LONGEST_S, FIRST_S * 2.0 ** min(self.deaths, 16))
        self.deaths += 1
        return delay
