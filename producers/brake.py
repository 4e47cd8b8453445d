"""The brake on mass deletion.  Pure: the clock is an argument.

A deletion needs two looks.  When a great share of a folder has vanished, it is more likely that a disk was unmounted or
a sync went wrong than that somebody meant it.  Files that only moved (same inode, size and time) do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from workers.contract.intake import Observation, Stat


@dataclass(frozen=True, slots=True)
class Gone:
    """A document whose file was missing at the first look."""

    path: str
    raw_path: bytes
    stat: Stat | None


class Brake:
    """Collects absences until they have been quiet for ``wait``, then decides about all of them at once."""

    WINDOW_S = 10.0

    def __init__(self, *, wait: float, share: float, count: int) -> None:
        self._wait, self._share, self._count = wait, share, count
        self._gone: dict[str, Gone] = {}
        self._last = 0.0
        self._arrived: dict[tuple[int, int, int], str] = {}
        self._arrived_from = 0.0

    def __len__(self) -> int:
        return len(self._gone)

    def went(self, gone: Gone, now: float) -> None:
        """The first look at this document found nothing."""
        if gone.path not in self._gone:
            self._gone[gone.path] = gone
            self._last = now

    def came(self, seen: Observation, now: float) -> None:
        """This file is there; it may be one that left another place."""
        self._gone.pop(seen.path, None)
        if not self._gone and now - self._arrived_from > self.WINDOW_S:
            self._arrived.clear()
            self._arrived_from = now
        if seen.stat is not None:
            self._arrived[(seen.stat.inode, seen.stat.size, seen.stat.mtime_ns)] = seen.path

    def due(self, now: float) -> bool:
        """Tell whether it is time for the second look."""
        return bool(self._gone) and now - self._last >= self._wait

    def next_due(self, now: float) -> float | None:
        """Return the seconds until the second look; None: nothing waits."""
        return max(0.0, self._last + self._wait - now) if self._gone else None

    def clear(self) -> None:
        """Forget everything: the root itself is not there, so no absence means anything."""
        self._gone.clear()
        self._arrived.clear()

    def decide(self, now: float, total: int, still_gone: Callable[[Gone], bool]) -> tuple[list[Gone], bool]:
        """Take the second look; return what is gone for good, and whether that is too much to believe."""
        gone = [each for each in self._gone.values() if still_gone(each)]
        vanished = sum(not self._moved(each) for each in gone)
        held = vanished > self._count and vanished > self._share * max(total, len(gone))
        self.clear()
        return gone, held

    def _moved(self, each: Gone) -> bool:
        if each.stat is None:
            return False
        where = self._arrived.get((each.stat.inode, each.stat.size, each.stat.mtime_ns))
        return where is not None and where != each.path
