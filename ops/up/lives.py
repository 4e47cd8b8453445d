"""Names every start of every part, and tells the next one which of its predecessors are over (ADR 0044).

A *run* is one `upwell up` with everything that it started; a *life* is one start of one part in it.  A process says in
its leases whose they are.  That a life is over is known from whoever buried it; that a whole run is over, from the
data directory's lock, which each of its processes holds until it is gone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

KEPT = 16
"""Most ended lives of one part that its next start is told of: one is enough, unless starts fail one after another."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run's name, and the names of those on the same data directory that are over."""

    name: str
    ended: tuple[str, ...] = ()


class Lives:
    """What has been started in this run, and what of it has ended."""

    def __init__(self, begin: Callable[[], Run]) -> None:
        self._begin = begin
        self._run = begin()
        self._started: dict[str, int] = {}
        self._ended: dict[str, list[str]] = {}

    def start(self, part: str) -> dict[str, str]:
        """Return what the next start of ``part`` finds in its environment."""
        self._started[part] = self._started.get(part, 0) + 1
        return {
            "UPWELL_LIFE": self._life(part),
            "UPWELL_ENDED_LIVES": json.dumps(self._ended.get(part, [])),
            "UPWELL_ENDED_RUNS": json.dumps(self._run.ended),
        }

    def ended(self, part: str) -> None:
        """Note that the process of ``part`` is no more."""
        self._ended[part] = [*self._ended.get(part, []), self._life(part)][-KEPT:]

    def all_ended(self) -> None:
        """Note that every process is no more, through no fault of its own: what follows is another run."""
        self._run = self._begin()
        self._started, self._ended = {}, {}

    def _life(self, part: str) -> str:
        return f"{self._run.name}/{part}/{self._started.get(part, 0)}"
