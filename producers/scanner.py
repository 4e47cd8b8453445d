"""Comparing a folder, or a directory in it, with the ledger: in slices, so that no scan keeps an edit waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import structlog

from producers.brake import Gone
from producers.bursts import LIMIT, Bursts
from producers.compare import SAMPLES, News, compare
from producers.deletions import Deletions
from producers.folder import BATCH, Folder
from producers.scan import Scanned, walk
from producers.settings import WatcherSettings
from workers.contract import intake
from workers.contract.identity import normal_path
from workers.contract.intake import Observation

log = structlog.get_logger()

SLICE_S = 0.05
UNREADABLE_S = 30.0


class Scanner:
    """Full scans, and the directories that must be compared before anything in them is believed to be gone."""

    def __init__(
        self,
        folder: Folder,
        settings: WatcherSettings,
        deletions: Deletions,
        in_burst: Callable[[bytes], bool],
        twins: Callable[[list[str]], None],
    ) -> None:
        """``in_burst`` is told of paths with news in single directories, which events have named, and of nothing else.

        ``twins`` is told, at the end of each full scan, of the names that are second ones.
        """
        self._folder, self._settings, self._clock = folder, settings, folder.clock
        self._deletions, self._in_burst, self._tell_twins = deletions, in_burst, twins
        # What a full scan finds says nothing of when it came: what is saved meanwhile is an edit all the same.
        self._in_scan = Bursts(folder.clock).takes
        self._polling = False
        self._needed = True
        self._urgent = False  # the scan under way was needed, not just due
        self._full: Iterator[float] | None = None
        self._areas: list[bytes] = []
        self._area: Iterator[float] | None = None
        self._due_at = self._pause_until = 0.0
        self._took = 0.0
        self._sampled = self._sample_number()

    @property
    def needed(self) -> bool:
        """True while a full scan is due or under way because something may have been missed."""
        return self._needed or self._urgent

    @property
    def areas(self) -> int:
        """How many directories wait to be compared."""
        return len(self._areas)

    def need(self) -> None:
        """Something may have been missed: look at everything.  May be called from any thread."""
        self._needed = True

    def poll(self, polling: bool) -> None:
        """Scan every few seconds, beginning at once, because events cannot be relied on (False: they can)."""
        self._polling = polling
        if polling:
            self._due_at = 0.0

    def look_again_soon(self) -> None:
        """Something could not be looked at: not absent, but not known either."""
        self._due_at = min(self._due_at, self._clock() + UNREADABLE_S)

    def forget(self) -> None:
        """Stop comparing: the folder is not there."""
        self._full, self._area, self._urgent = None, None, False
        self._areas.clear()

    def compare_soon(self, folder: bytes) -> None:
        """Have a directory compared with the ledger; one inside of another that waits is covered by that one."""
        if any(not area or folder == area or folder.startswith(area + b"/") for area in self._areas[self._begun :]):
            return
        prefix = folder + b"/"
        kept = [area for area in self._areas[self._begun :] if folder and not area.startswith(prefix)]
        self._areas = [*self._areas[: self._begun], *kept, folder]

    def next_due(self) -> float | None:
        """Return the seconds until it can go on; None: nothing is under way."""
        if self._full is None and not self._areas:
            return None
        return max(0.0, self._pause_until - self._clock())

    def advance(self) -> None:
        """Go on with the directories to compare, then with the full scan, until it is time for something else."""
        until = self._clock() + SLICE_S
        while self._pause_until <= self._clock() < until:
            if self._areas:
                if self._area is None:
                    self._area = self._comparing(self._areas[0])
                if not self._advanced(self._area):
                    self._area = None
                    self._areas = self._areas[1:]
            elif self._full is not None or self._start():
                assert self._full is not None
                if not self._advanced(self._full):
                    self._full, self._urgent = None, False
            else:
                return

    @property
    def _begun(self) -> int:
        """An area whose comparison is under way does not cover what changes behind it."""
        return int(self._area is not None)

    def _advanced(self, scan: Iterator[float]) -> bool:
        """Go one step on; False at the end.  A scan that failed is begun again."""
        try:
            self._pause_until = self._clock() + next(scan)
        except StopIteration:
            return False
        except Exception:
            if scan is self._full:
                self._full, self._urgent, self._needed = None, False, True
            else:
                self._area = None
            raise
        return True

    def _start(self) -> bool:
        if (not self._needed and self._clock() < self._due_at) or not self._folder.is_there():
            return False
        self._urgent, self._needed = self._needed, False
        self._full = self._scanning()
        return True

    def _scanning(self) -> Iterator[float]:
        """Compare the whole folder with the ledger.  Yields, often, how long to leave the ledger to others."""
        began, scanned = self._clock(), Scanned()
        first = intake.never_scanned(self._folder.engine, self._folder.root.name)
        self._folder.rules.forget()
        number = self._sample_number()
        sample = number % SAMPLES if number != self._sampled else None
        yield from self._differences(b"", scanned, self._in_scan, sample=sample, first=first)
        intake.scan_finished(self._folder.engine, self._folder.root.name)
        self._sampled, self._took = number, self._clock() - began
        self._due_at = self._clock() + self._interval()
        if scanned.unreadable:
            self.look_again_soon()
        self._tell_twins(scanned.twins)
        log.info(
            "scan.finished",
            source=self._folder.root.name,
            files=scanned.files,
            seconds=round(self._took, 3),
            unreadable=len(scanned.unreadable),
        )

    def _comparing(self, folder: bytes) -> Iterator[float]:
        if self._folder.there(folder):
            yield from self._differences(folder, Scanned(), self._in_burst)
        else:
            self._deletions.went_below(normal_path(folder))

    def _differences(
        self,
        below: bytes,
        scanned: Scanned,
        in_burst: Callable[[bytes], bool],
        *,
        sample: int | None = None,
        first: bool = False,
    ) -> Iterator[float]:
        folder, name = self._folder, self._folder.root.name
        news = 0
        batch: list[Observation] = []
        gone: list[Gone] = []
        known = intake.remembered_rows(folder.engine, name, normal_path(below))
        found = walk(folder.root.path, below, folder.rules, scanned)
        for each in compare(known, found, scanned, folder.there, sample=sample):
            if isinstance(each, News):
                self._deletions.came(each.found)
                news += 1
                bulk = in_burst(each.found.raw)
                batch.append(each.found.observation(name, touched=each.touched, bulk=bulk))
            elif each is not None:
                gone.append(each)
            if len(batch) >= BATCH:
                took = folder.record(_lanes(batch, news, first=first))
                batch = []
                yield took / 2  # others, index workers above all, want to write as well
            else:
                yield 0.0
        folder.record(_lanes(batch, news, first=first))
        if not gone or not folder.is_there():
            return
        for each in gone:
            if not scanned.unknown(each.path):
                self._deletions.went(each)

    def _interval(self) -> float:
        if not self._polling:
            return self._settings.rescan_interval
        return max(self._settings.polling_interval, 10 * self._took)  # at most a tenth of the time is scanning

    def _sample_number(self) -> int:
        """Which share of the unchanged files is looked at again: another one every rescan interval."""
        return int(time.time() / self._settings.rescan_interval)


def _lanes(batch: list[Observation], news: int, *, first: bool) -> list[Observation]:
    """Of more than a few files that the very first scan of a folder finds, the first is a backfill as well."""
    return [replace(each, bulk=True) for each in batch] if first and news > LIMIT else batch
