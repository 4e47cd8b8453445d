"""Tells a backfill from an edit: where many paths come at once, they are a burst.  Pure: the clock is an argument.

Each directory has two charges, one for the files directly in it and one for everything below it, that leak away with
time.  A path charges them from the inside outwards and stops at the first that is in a burst, because that one explains
it: a tree of small directories is found to be a burst at its top, while the directories beside it stay calm.  (This is
the idea of hierarchical heavy hitters: Cormode, Korn, Muthukrishnan and Srivastava, VLDB 2003.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

LIMIT = 32.0
"""Charge above which paths are a burst: 32 at once, or more than about three a second for long."""

LEAK_S = 10.0
"""Time in which a charge falls to 1/e."""

FULL = 2 * LIMIT
"""No charge is higher, so that a directory is calm again 7 s after its burst, however long that was."""

REMEMBERED = 10_000

_Key = tuple[bytes, bool]  # a directory; True: everything below it, False: the files directly in it


@dataclass(slots=True)
class _Charge:
    value: float
    at: float

    def now(self, now: float) -> float:
        return self.value * math.exp((self.at - now) / LEAK_S)


class Bursts:
    """Counts the paths that come, by directory.  Not for several threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` tells seconds."""
        self._clock = clock
        self._charges: dict[_Key, _Charge] = {}

    def takes(self, path: bytes) -> bool:
        """Count a path (relative to its root); True: it is a part of a burst."""
        now = self._clock()
        places = list(_places(path))
        for number, place in enumerate(places):
            charge = self._charge(place, 1.0, now)
            if charge > LIMIT:
                if charge - 1.0 <= LIMIT:  # it begins: what it has put upon the others is explained by now
                    for outer in places[number + 1 :]:
                        self._charge(outer, -charge, now)
                return True
        return False

    def _charge(self, place: _Key, more: float, now: float) -> float:
        known = self._charges.pop(place, None)
        value = min(FULL, max(0.0, (known.now(now) if known is not None else 0.0) + more))
        self._charges[place] = _Charge(value, now)
        while len(self._charges) > REMEMBERED:
            del self._charges[next(iter(self._charges))]  # the one that was charged longest ago
        return value


def _places(path: bytes) -> Iterator[_Key]:
    folder = path.rpartition(b"/")[0]
    yield folder, False
    while folder:
        yield folder, True
        folder = folder.rpartition(b"/")[0]
    yield b"", True
