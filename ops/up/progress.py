"""How far the index is, how fast it goes and when it will be there, from a series of status answers.  Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

DISK = "disk:"
"""How the alarm of a full disk begins."""
WINDOW_S = 20.0
WORKING = ("queued", "parsing", "embedding", "failed")
STATES = ("ready", "embedding", "parsing", "queued", "failed", "parked", "empty", "skipped", "held", "deleted")


@dataclass(frozen=True, slots=True)
class Picture:
    """One moment, ready to be shown."""

    documents: dict[str, int]
    chunks: int
    pending: int
    converged: bool
    alarms: tuple[str, ...]
    per_second: float
    eta_s: float | None

    @property
    def settled(self) -> int:
        return sum(count for state, count in self.documents.items() if state not in WORKING)

    @property
    def total(self) -> int:
        return sum(self.documents.values())


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    settled: int
    pending: int
    working: int


class Progress:
    """Remembers the last seconds of status answers."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque()

    def update(self, status: dict[str, Any], now: float) -> Picture:
        """Take one answer of GET /v1/status."""
        documents = {str(state): int(count) for state, count in (status.get("documents") or {}).items()}
        pending = int(status.get("embeddings_pending") or 0)
        working = sum(documents.get(state, 0) for state in WORKING)
        self._samples.append(_Sample(now, sum(documents.values()) - working, pending, working))
        while now - self._samples[0].at > WINDOW_S and len(self._samples) > 2:
            self._samples.popleft()
        rate = self._rate()
        return Picture(
            documents=documents,
            chunks=int(status.get("chunks") or 0),
            pending=pending,
            converged=bool(status.get("converged")),
            alarms=alarms(status),
            per_second=rate,
            eta_s=self._eta(rate, working, pending),
        )

    def _rate(self) -> float:
        """Documents settled a second, since work was first seen in the window."""
        busy = [sample for sample in self._samples if sample.working or sample is self._samples[-1]]
        first, last = busy[0], self._samples[-1]
        span = last.at - first.at
        return max(0, last.settled - first.settled) / span if span > 0 else 0.0

    def _eta(self, rate: float, working: int, pending: int) -> float | None:
        """The slower of the two roads: documents still to come, and vectors still to be fetched."""
        if working == 0 and pending == 0:
            return None
        first, last = self._samples[0], self._samples[-1]
        span = last.at - first.at
        drain = (first.pending - last.pending) / span if span > 0 else 0.0
        guesses = [working / rate] if rate > 0 else []
        guesses += [pending / drain] if drain > 0 else []
        return max(guesses) if guesses else None


def alarms(status: dict[str, Any]) -> tuple[str, ...]:
    """Return why a source is not being followed, and why a server is left alone, for each, and if the disk is full."""
    found = [
        f"{source.get('name')}: {source['alarm']}" for source in status.get("sources") or () if source.get("alarm")
    ]
    for name, told in (status.get("breakers") or {}).items():
        if told.get("state") != "closed":
            found.append(f"{name}: {told.get('reason') or 'does not answer'} Tried again by itself; nothing is lost.")
    if (disk := status.get("disk") or {}).get("alarm"):
        found.append(f"{DISK} {disk['alarm']}")
    return tuple(found)


def duration(seconds: float) -> str:
    """Return ``seconds`` in the words of a person: 40 s, 3 min, 2 h 5 min."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    if whole < 5400:
        return f"{round(whole / 60)} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
