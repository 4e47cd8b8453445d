"""The folder itself: is it the one that was indexed, what is the matter with it, and what the ledger hears of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from itertools import islice

import structlog
from sqlalchemy import Engine

from producers.ignore import IgnoreRules
from producers.roots import REMEDY, Identity, Place, Root, place_marker, place_of
from workers.contract import intake
from workers.contract.intake import Observation

log = structlog.get_logger()

BATCH = 500
SAMPLE = 1000  # documents looked for before a folder without a marker is taken for another one
UNTOLD = "?"  # stands for whatever an earlier watcher, or another process, left as the alarm

HintSink = Callable[[list[str], bool], None]


class Folder:
    """What every room of a follower works on."""

    def __init__(
        self,
        root: Root,
        engine: Engine,
        hints: HintSink,
        *,
        lost: Callable[[], None],
        back: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``lost`` is called when the folder is not there any more, ``back`` when it, or another in its place, is."""
        self.root, self.engine, self.clock = root, engine, clock
        self.base = os.fsencode(root.path)
        self.rules = IgnoreRules(root.path)
        self.away = False
        self._hints, self._lost, self._back = hints, lost, back
        self._identity: Identity | None = None  # None: not begun
        self._place: Place | None = None
        self._alarms: dict[str, str] = {}
        self._told: str | None = UNTOLD

    # ------------------------------------------------------------------ which folder it is

    def begin(self) -> bool:
        """Make the source known; False while the folder cannot be believed."""
        if self._identity is not None:
            return True
        name, path = self.root.name, self.root.path
        marker = intake.marker_of(self.engine, name)
        if marker is None:
            if not self._believable():
                self.alarm(
                    "root",
                    f"The folder {path} has none of the documents that were indexed, and no marker. {REMEDY}",
                )
                self.tell()
                return False
            marker = place_marker(path)
        if marker is None:
            log.warning("watch.no_marker", source=name, text=f"{path} is read-only: it is known by device and inode.")
        intake.register_source(self.engine, name, "folder", str(path), marker)
        self._place = place_of(path)
        self._identity = Identity(marker, self._place)
        self.alarm("root", None)
        return True

    def _believable(self) -> bool:
        """A folder without a marker is the indexed one if it still has one of the documents (or never had any)."""
        rows = (row for row in intake.remembered(self.engine, self.root.name) if row.present)
        first = list(islice(rows, SAMPLE))
        return not first or any(self.there(row.raw_path) for row in first)

    def is_there(self) -> bool:
        """Tell whether what is at the path can be believed: an unmounted disk leaves an empty folder behind."""
        assert self._identity is not None
        problem = self._identity.problem(self.root.path)
        if problem is not None:
            self.away = True
            self._lost()
            self.alarm("root", problem)
            return False
        place = place_of(self.root.path)
        if self.away or place != self._place:
            log.info("watch.root_is_back" if self.away else "watch.root_replaced", source=self.root.name)
            self.away, self._place = False, place
            self._back()
            self.alarm("root", None)
        return True

    # ------------------------------------------------------------------ what is in it

    def there(self, raw: bytes) -> bool:
        """Tell whether anything bears the name ``raw``."""
        return os.path.lexists(os.path.join(self.base, raw))

    def stat(self, raw: bytes) -> tuple[int, ...] | None:
        """Return what tells one state of a file from the next; None: nothing to be seen."""
        try:
            found = os.lstat(os.path.join(self.base, raw))
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns, found.st_ino

    # ------------------------------------------------------------------ what people and index workers are told

    def alarm(self, kind: str, text: str | None) -> None:
        """Remember what is the matter, one line for each kind (None: it is over); `tell` says it."""
        if text is not None:
            self._alarms[kind] = text
        else:
            self._alarms.pop(kind, None)

    def has_alarm(self, kind: str) -> bool:
        """Tell whether that alarm is raised, or may have been raised by an earlier watcher."""
        return kind in self._alarms or self._told == UNTOLD

    def tell(self, *, again: bool = False) -> None:
        """Write the alarms into the ledger if they are others than before; ``again``: in any case, because another
        process may have taken them away.
        """
        text = "\n".join(self._alarms.values()) or None
        if text == self._told and not again:
            return
        intake.set_alarm(self.engine, self.root.name, text)
        if text != self._told:
            (log.warning if text else log.info)("watch.alarm", source=self.root.name, alarm=text)
        self._told = text

    def record(self, seen: Collection[Observation]) -> float:
        """Ledger first, then hints; what is no part of a backfill before the rest.  Returns the seconds it took."""
        began = self.clock()
        for bulk in (False, True):
            batch = [each for each in seen if each.bulk is bulk]
            for start in range(0, len(batch), BATCH):
                dirty = intake.observe(self.engine, batch[start : start + BATCH])
                if dirty:
                    self._hints(list(dict.fromkeys(dirty)), bulk)
        return self.clock() - began
