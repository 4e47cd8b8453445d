"""One watched folder: events make paths dirty, dirty paths come to rest, what rests is looked at, the ledger hears it.

Everything here runs in one thread, in slices.  What an event calls itself is only a hint about *where* to look, and
what cannot be written to the ledger stays dirty.  The rooms behind this one: `folder` (is it there, what is the
matter), `lookout` (do events come), `scanner` (comparing with the ledger), `deletions` (what is missing).
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from producers.bursts import Bursts
from producers.deletions import Deletions
from producers.events import Put
from producers.folder import BATCH, Folder, HintSink
from producers.ignore import IGNORE_FILE
from producers.lookout import CHECK_S, Lookout
from producers.roots import MARKER, Root
from producers.scan import is_directory, look
from producers.scanner import Scanner
from producers.settings import WatcherSettings
from producers.settle import Settled, Settler, Sign
from workers.contract import intake
from workers.contract.identity import normal_path
from workers.contract.intake import Observation
from workers.contract.sidecar import described_name

log = structlog.get_logger()

RETRY_S = 2.0


class Follower:
    """Follows one folder.  `hear` is told of events, `step` does what is due."""

    def __init__(
        self,
        root: Root,
        settings: WatcherSettings,
        engine: Engine,
        hints: HintSink,
        put: Put,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``put`` is called from other threads, with every event, and must end in `hear`."""
        self._settings, self._clock = settings, clock
        self.folder = Folder(root, engine, hints, lost=self._went_away, back=self._came_back, clock=clock)
        bursts = Bursts(clock)
        self._settler = Settler(
            closed=settings.settle_closed,
            quiet=settings.settle_quiet,
            longest=settings.settle_longest,
            busiest=settings.settle_busiest,
            clock=clock,
            stat=self.folder.stat,
            in_burst=bursts.takes,
        )
        self.deletions = Deletions(self.folder, settings, self._settler.touch, self._unreadable)
        self.scanner = Scanner(self.folder, settings, self.deletions, bursts.takes, self._tell_twins)
        self.lookout = Lookout(self.folder, settings, put, self.need_scan, self.scanner.poll)
        self._not_before = self._check_at = 0.0

    # ------------------------------------------------------------------ for the process

    @property
    def dirty(self) -> int:
        """How many paths may not be in the ledger as they are."""
        if self.folder.away:
            return 0
        return len(self._settler) + len(self.deletions) + self.scanner.areas + int(self.scanner.needed)

    @property
    def scanning(self) -> bool:
        """True while a full scan is due or under way because something may have been missed."""
        return not self.folder.away and self.scanner.needed

    @property
    def polling(self) -> bool:
        """True while events cannot be relied on."""
        return self.lookout.polling

    def hear(self, raw: bytes, sign: Sign) -> None:
        """Take note of an event at ``raw`` (relative to the root)."""
        self.lookout.heard()
        name = raw.rsplit(b"/", 1)[-1]
        if raw == MARKER.encode():
            self.lookout.answered()
        elif (described := described_name(raw)) is not None:
            self._settler.touch(described, Sign.CLOSED)  # a sidecar is about the file beside it
        elif name == IGNORE_FILE.encode() or not self.folder.rules.explain(normal_path(raw)).by_default:
            self._settler.touch(raw, sign)

    def need_scan(self) -> None:
        """Events may have been lost: look at everything.  May be called from any thread."""
        self.scanner.need()

    def next_due(self) -> float | None:
        """Return the seconds until there is something to do; None: only when an event comes."""
        due = (self._settler.next_due(), self.deletions.next_due(), self.scanner.next_due())
        wait = min((each for each in due if each is not None), default=None)
        return None if wait is None else max(wait, self._not_before - self._clock())

    def step(self) -> None:
        """Do what is due, for a moment."""
        now = self._clock()
        if now < self._not_before:
            return
        try:
            if not self.folder.begin():
                self._not_before = now + RETRY_S
                return
            if now >= self._check_at:
                self._check_at = now + CHECK_S
                self._check()
            self._settle()
            self.scanner.advance()
            if not self.scanner.areas:  # what has moved into those directories must be known first
                self.deletions.decide()
        except SQLAlchemyError as exc:
            log.warning("watch.ledger_busy", source=self.folder.root.name, error=type(exc).__name__, dirty=self.dirty)
            self._not_before = self._clock() + min(RETRY_S, self._settings.settle_quiet)
        except Exception:  # one folder's trouble must not end the watching of the others
            log.exception("watch.failed", source=self.folder.root.name)
            self.need_scan()
            self._not_before = self._clock() + RETRY_S

    def stop(self) -> None:
        """Ask the threads to end."""
        self.lookout.stop()

    def join(self, timeout: float) -> None:
        """Wait for their end."""
        self.lookout.join(timeout)

    # ------------------------------------------------------------------ the folder itself

    def _check(self) -> None:
        if self.folder.is_there():
            self.lookout.check()
            self.deletions.check_alarm()
        self.folder.tell()

    def _went_away(self) -> None:
        self.scanner.forget()
        self.deletions.forget()

    def _came_back(self) -> None:
        self.lookout.begin_anew()
        self.need_scan()

    # ------------------------------------------------------------------ looking

    def _settle(self) -> None:
        settled = self._settler.settled(BATCH)
        if not settled or not self.folder.is_there():
            return  # gone with its folder: a scan follows when that is back
        try:
            seen = [each for path in settled if (each := self._look(path)) is not None]
            self.folder.record(seen)
        except SQLAlchemyError:
            for path in settled:
                self._settler.again(path)
            raise

    def _look(self, settled: Settled) -> Observation | None:
        """Look at one settled path: a file, a directory, or nothing (then at everything known below it)."""
        raw, path = settled.path, normal_path(settled.path)
        root, rules = self.folder.root, self.folder.rules
        try:
            if raw.rsplit(b"/", 1)[-1] == IGNORE_FILE.encode():
                rules.forget()
                self.scanner.compare_soon(raw.rpartition(b"/")[0])
                return None
            found = look(root.path, raw, rules)
            if found is None and is_directory(root.path, raw):
                if rules.explain(path, is_dir=True).ignored:
                    self.deletions.went_below(path)
                else:
                    self.scanner.compare_soon(raw)
                return None
        except OSError as exc:
            self._unreadable(exc)
            return None
        if found is None or settled.named:
            self.deletions.went_below(path, itself=found is None)
        if found is None or (found.verdict is not None and found.verdict.by_default):
            return None
        if not raw.isascii() and self._is_twin(path, raw):
            return None
        self.deletions.came(found)
        return found.observation(root.name, touched=settled.written, bulk=settled.bulk)

    def _is_twin(self, path: str, raw: bytes) -> bool:
        """Two names that differ only in their Unicode form are one document: the first one known stays it."""
        for row in intake.remembered(self.folder.engine, self.folder.root.name, path):
            if row.path == path and row.raw_path != raw and self.folder.there(row.raw_path):
                self._tell_twins([path])
                return True
        return False

    def _tell_twins(self, twins: list[str]) -> None:
        text = None
        if twins:
            text = (
                f"{len(twins)} files in {self.folder.root.path} are not indexed, because another name differs from"
                f" theirs only in its Unicode form (for example {twins[0]}). Rename one of the two."
            )
        self.folder.alarm("twins", text)

    def _unreadable(self, exc: OSError) -> None:
        log.warning(
            "watch.unreadable", source=self.folder.root.name, error=errno.errorcode.get(exc.errno or 0, "error")
        )
        self.scanner.look_again_soon()
