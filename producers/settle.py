"""Decides when a changed path has come to rest.  Pure: clock and stat are arguments.

| sign     | said by                                  | waits for     | content may have been written |
|----------|------------------------------------------|---------------|-------------------------------|
| CLOSED   | closed after writing                     | a blink       | yes                           |
| NAMED    | moved, deleted, a new directory          | a blink       | no: size, times or inode tell |
| CREATED  | a new file, perhaps still being written  | quiet         | no                            |
| WRITTEN  | modified                                 | quiet         | yes                           |
| TOLD     | times or permissions (cp -p, unzip)      | what it did   | no                            |

A wrong guess is harmless: the index worker looks twice.  What is a part of a burst is passed on after what is not: an
edit does not wait for the files that are being copied beside it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

Seen = tuple[int, ...] | None

FIRST_REST_S = 0.25
REMEMBERED = 10_000


class Sign(Enum):
    """What an event says of a path."""

    CLOSED = "closed"
    NAMED = "named"
    CREATED = "created"
    WRITTEN = "written"
    TOLD = "told"


@dataclass(frozen=True, slots=True)
class Settled:
    """A path to look at.

    ``written``: its content may have changed even if size and times have not; ``named``: what bore the name may have
    been something else before, a directory for example; ``bulk``: it came with a burst of others.
    """

    path: bytes
    written: bool
    named: bool = False
    bulk: bool = False


@dataclass(slots=True)
class _Waiting:
    since: float
    due: float
    quiet: float
    written: bool
    named: bool
    bulk: bool
    seen: Seen


@dataclass(slots=True)
class _Rest:
    """When a path was last passed on, and how long it has to rest before it is passed on again."""

    at: float
    gap: float


class Settler:
    """Paths wait here until they have been quiet for long enough, but never longer than ``longest``.

    A file that is saved again and again is passed on ever more rarely, at the rarest every ``busiest`` seconds: a log
    that is opened, appended to and closed ten times a second must not be indexed ten times a second.
    """

    def __init__(
        self,
        *,
        closed: float,
        quiet: float,
        longest: float,
        busiest: float,
        clock: Callable[[], float],
        stat: Callable[[bytes], Seen],
        in_burst: Callable[[bytes], bool],
    ) -> None:
        """``in_burst`` is told of each path that begins to wait, and tells whether many others come with it."""
        self._closed, self._quiet, self._longest, self._busiest = closed, quiet, longest, busiest
        self._clock, self._stat, self._in_burst = clock, stat, in_burst
        self._waiting: dict[bytes, _Waiting] = {}
        # Two heaps, of a burst (True) and of the others; entries whose time is not the path's own are stale.
        self._due: dict[bool, list[tuple[float, bytes]]] = {False: [], True: []}
        self._rests: dict[bytes, _Rest] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def touch(self, path: bytes, sign: Sign) -> None:
        """Note that something happened at ``path``."""
        now = self._clock()
        known = self._waiting.get(path)
        quiet = self._closed if sign in (Sign.CLOSED, Sign.NAMED, Sign.TOLD) else self._quiet
        if known is not None and sign is Sign.TOLD:
            quiet = known.quiet
        written = sign in (Sign.CLOSED, Sign.WRITTEN) or (known is not None and known.written)
        named = sign is Sign.NAMED or (known is not None and known.named)
        since = known.since if known is not None else now
        bulk = known.bulk if known is not None else self._in_burst(path)
        self._wait(path, _Waiting(since, 0.0, quiet, written, named, bulk, self._stat(path)), now)

    def again(self, settled: Settled) -> None:
        """Take back a path that could not be dealt with; it waits for a while."""
        now = self._clock()
        if settled.path not in self._waiting:
            seen = self._stat(settled.path)
            waiting = _Waiting(now, 0.0, self._quiet, settled.written, settled.named, settled.bulk, seen)
            self._wait(settled.path, waiting, now)

    def settled(self, limit: int | None = None) -> list[Settled]:
        """Return, and forget, the paths that have come to rest, those of a burst last.

        One that has waited too long is returned as it is; if it is still changing, it goes on waiting as well.
        """
        now = self._clock()
        done: list[Settled] = []
        while (limit is None or len(done) < limit) and (entry := self._pop_due(now)) is not None:
            due, path = entry
            waiting = self._waiting.get(path)
            if waiting is None or waiting.due != due:
                continue
            seen = self._stat(path)
            overdue = now >= waiting.since + self._longest
            if seen != waiting.seen and not overdue:
                waiting.seen, waiting.quiet = seen, self._quiet
                self._wait(path, waiting, now)
                continue
            done.append(Settled(path, waiting.written, waiting.named, waiting.bulk))
            del self._waiting[path]
            self._rested(path, now)
            if seen != waiting.seen:
                self._wait(path, _Waiting(now, 0.0, self._quiet, waiting.written, False, waiting.bulk, seen), now)
        return done

    def next_due(self) -> float | None:
        """Return the seconds until the next path may have settled; None: nothing waits."""
        for heap in self._due.values():
            while heap and self._stale(*heap[0]):
                heapq.heappop(heap)
        first = min((heap[0][0] for heap in self._due.values() if heap), default=None)
        return None if first is None else max(0.0, first - self._clock())

    def _pop_due(self, now: float) -> tuple[float, bytes] | None:
        for heap in self._due.values():
            if heap and heap[0][0] <= now:
                return heapq.heappop(heap)
        return None

    def _wait(self, path: bytes, waiting: _Waiting, now: float) -> None:
        rest = self._rests.get(path)
        earliest = rest.at + rest.gap if rest is not None else now
        waiting.due = min(max(now + waiting.quiet, earliest), waiting.since + self._longest)
        if waiting.due < now:
            waiting.due = now
        self._waiting[path] = waiting
        heap = self._due[waiting.bulk]
        heapq.heappush(heap, (waiting.due, path))
        if len(heap) > 1000 + 4 * len(self._waiting):
            heap[:] = [(each.due, name) for name, each in self._waiting.items() if each.bulk is waiting.bulk]
            heapq.heapify(heap)

    def _stale(self, due: float, path: bytes) -> bool:
        waiting = self._waiting.get(path)
        return waiting is None or waiting.due != due

    def _rested(self, path: bytes, now: float) -> None:
        """The rest doubles while looks follow one another closely, and is forgotten after a calm time."""
        rest = self._rests.pop(path, None)
        busy = rest is not None and now - rest.at <= 4 * rest.gap
        gap = min(self._busiest, 2 * rest.gap if busy and rest is not None else FIRST_REST_S)
        self._rests[path] = _Rest(now, gap)
        while len(self._rests) > REMEMBERED:
            del self._rests[next(iter(self._rests))]  # the one passed on longest ago
