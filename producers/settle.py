"""Decides when a changed path has come to rest.  Pure: clock and stat are arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Seen = tuple[int, ...] | None


@dataclass(slots=True)
class _Waiting:
    since: float
    quiet_from: float
    quiet: float
    seen: Seen


class Settler:
    """Paths wait here until they have been quiet for long enough, but never longer than ``longest``.

    A file that was closed after writing, or renamed into place, is as good as finished; anything else may go on.
    A wrong guess is harmless: the index worker looks twice.
    """

    def __init__(
        self,
        *,
        closed: float,
        quiet: float,
        longest: float,
        clock: Callable[[], float],
        stat: Callable[[bytes], Seen],
    ) -> None:
        self._closed, self._quiet, self._longest = closed, quiet, longest
        self._clock, self._stat = clock, stat
        self._waiting: dict[bytes, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def touch(self, path: bytes, *, finished: bool) -> None:
        """Something happened at ``path``; ``finished``: it was closed or renamed into place."""
        now = self._clock()
        quiet = self._closed if finished else self._quiet
        known = self._waiting.get(path)
        since = known.since if known else now
        self._waiting[path] = _Waiting(since, now, quiet, self._stat(path))

    def settled(self) -> list[bytes]:
        """Return, and forget, the paths that have come to rest."""
        now = self._clock()
        done: list[bytes] = []
        for path, waiting in list(self._waiting.items()):
            overdue = now - waiting.since >= self._longest
            if not overdue and now - waiting.quiet_from < waiting.quiet:
                continue
            seen = self._stat(path)
            if seen != waiting.seen and not overdue:
                waiting.seen, waiting.quiet_from, waiting.quiet = seen, now, self._quiet
                continue
            done.append(path)
            del self._waiting[path]
        return done

    def next_due(self) -> float | None:
        """Return the seconds until the next path may have settled; None: nothing waits."""
        if not self._waiting:
            return None
        now = self._clock()
        return max(0.0, min(w.quiet_from + w.quiet - now for w in self._waiting.values()))
