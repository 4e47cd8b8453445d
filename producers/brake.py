"""The brake on mass deletion.  Pure: the clock is an argument.

A deletion needs two looks.  When a great share of a folder has vanished, it is more likely that a disk was unmounted or
a sync went wrong than that somebody meant it.  Files that only moved (same inode, size and time) do not count, and what
was deleted a moment ago does: a mass deletion that trickles in is one as well.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from workers.contract.intake import Stat

LONGEST_WINDOW_S = 5.0


@dataclass(frozen=True, slots=True)
class Gone:
    """A document whose file was missing at the first look."""

    path: str
    raw_path: bytes
    stat: Stat | None
    indexed: bool = True  # False: it was skipped, and nothing of it is in the index
    kept: bool = False  # a person has refused to delete it: only a person lets it go


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be deleted, and what waits for a person."""

    delete: list[Gone]
    hold: list[Gone]


class Brake:
    """Collects absences until they have been quiet for ``wait``, then decides about all of them at once."""

    def __init__(self, *, wait: float, share: float, count: int, window: float) -> None:
        self._wait, self._share, self._count, self._window = wait, share, count, window
        self._gone: dict[str, tuple[Gone, float]] = {}
        self._first = self._last = 0.0
        self._arrived: dict[int, int] = {}  # hashes only: a folder of 200,000 files may be renamed
        self._arrived_at = 0.0
        self._recent: deque[tuple[float, int]] = deque()

    def __len__(self) -> int:
        return len(self._gone)

    def went(self, gone: Gone, now: float) -> None:
        """The first look at this document found nothing."""
        if gone.path in self._gone:
            return
        if not self._gone:
            self._first = now
        self._gone[gone.path] = (gone, now)
        self._last = now

    def came(self, path: str, stat: Stat | None, now: float) -> None:
        """This file is there; it may be one that left another place."""
        self._gone.pop(path, None)
        if not self._gone and now - self._arrived_at > self._window:
            self._arrived.clear()
        if stat is not None:
            self._arrived[_signature(stat)] = hash(path)
            self._arrived_at = now

    def due(self, now: float) -> bool:
        """Tell whether it is time for the second look."""
        return bool(self._gone) and now >= self._due_at()

    def next_due(self, now: float) -> float | None:
        """Return the seconds until the second look; None: nothing waits."""
        return max(0.0, self._due_at() - now) if self._gone else None

    def forget(self) -> None:
        """Forget everything: the root itself is not there, so no absence means anything."""
        self._gone.clear()
        self._arrived.clear()

    def take(self, now: float) -> list[Gone]:
        """Return, and forget, what is due for its second look."""
        taken = [gone for gone, at in self._gone.values() if now - at >= self._wait]
        for gone in taken:
            del self._gone[gone.path]
        self._first = min((at for _, at in self._gone.values()), default=now)
        return taken

    def decide(self, gone: list[Gone], total: int, now: float) -> Decision:
        """Decide about documents that were missing at both looks; ``total``: how many the source should have."""
        while self._recent and now - self._recent[0][0] > self._window:
            self._recent.popleft()
        before = sum(count for _, count in self._recent)
        free = [each for each in gone if not each.indexed or self._moved(each)]
        kept = [each for each in gone if each.indexed and each.kept and not self._moved(each)]
        vanished = [each for each in gone if each.indexed and not each.kept and not self._moved(each)]
        counted = before + len(vanished)
        if counted > self._count and counted > self._share * (total + before):
            return Decision(free, kept + vanished)
        return Decision(free + vanished, kept)

    def deleted(self, count: int, now: float) -> None:
        """So many documents were let go: they count towards the next decision.  Call it after the commit."""
        if count:
            self._recent.append((now, count))

    def counted(self, gone: list[Gone]) -> int:
        """Return how many of these count as vanished."""
        return sum(each.indexed and not self._moved(each) for each in gone)

    def _due_at(self) -> float:
        return min(self._last + self._wait, self._first + max(self._wait, LONGEST_WINDOW_S))

    def _moved(self, each: Gone) -> bool:
        if each.stat is None:
            return False
        where = self._arrived.get(_signature(each.stat))
        return where is not None and where != hash(each.path)


def _signature(stat: Stat) -> int:
    return hash((stat.inode, stat.size, stat.mtime_ns))
