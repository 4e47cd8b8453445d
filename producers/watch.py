"""The watcher process: events say where to look, looking says what is there, the ledger hears it first.

What an event calls itself (created, modified, deleted) is only a hint about *where* to look: watchdog names no file of
a directory that was moved away, says nothing of an overflow, and an atomic save looks like a creation.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import FrameType
from uuid import uuid4

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from watchdog.events import DirDeletedEvent, DirMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from producers.brake import Brake, Gone
from producers.ignore import IGNORE_FILE, IgnoreRules
from producers.roots import MARKER, Root, place_marker, read_marker
from producers.scan import Scanned, look, walk
from producers.settings import WatcherSettings
from producers.settle import Settler
from workers.contract import intake, schema
from workers.contract.broker import Hints, make_celery
from workers.contract.identity import normal_path
from workers.contract.intake import Observation
from workers.contract.logs import set_up_logs

log = structlog.get_logger()

KIND = "watcher"
BATCH = 500
BURST = 100  # more than this many at once is a backfill, not an edit
BEAT_S = 4.0
HEARTBEAT_S = 30.0
HEARTBEAT_LATE_S = 90.0
PROBE = ".upwell-probe-"
ROOT_LOOK_S = 2.0
TICK_S = 0.25

Event = tuple[str, bytes, bool]  # source, raw path relative to the root, finished


class Handler(FileSystemEventHandler):
    """Puts paths into a queue.  It must not raise: an exception would end watchdog's dispatch thread silently."""

    def __init__(self, root: Root, events: queue.SimpleQueue[Event], needs_scan: Callable[[], None]) -> None:
        self._root = root
        self._base = os.fsencode(root.path)
        self._events = events
        self._needs_scan = needs_scan

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Note the path of any event that may have changed something."""
        try:
            if event.event_type in ("opened", "closed_no_write"):
                return
            if isinstance(event, DirMovedEvent | DirDeletedEvent):
                self._put(event.src_path, finished=True)
            elif not (event.is_directory and event.event_type == "modified"):
                self._put(event.src_path, finished=event.event_type in ("closed", "moved", "deleted"))
            if event.event_type == "moved":
                self._put(event.dest_path, finished=True)
        except Exception:
            log.exception("watch.handler_failed")
            self._needs_scan()

    def _put(self, path: str | bytes, *, finished: bool) -> None:
        raw = os.fsencode(path)
        if raw == self._base or not raw:
            self._needs_scan()
        elif raw.startswith(self._base + b"/"):
            self._events.put((self._root.name, raw[len(self._base) + 1 :], finished))


@dataclass
class Followed:
    """One root and what is known of how it is being followed."""

    root: Root
    rules: IgnoreRules
    marker: str | None
    settler: Settler
    brake: Brake
    observer: BaseObserver | None = None
    polling: bool = False
    needs_scan: bool = True
    scanning: bool = False
    next_scan: float = 0.0
    alarm: str | None = None
    probe: bytes | None = None
    probed_at: float = 0.0
    looked_at: float = 0.0
    heard_at: float = field(default_factory=time.monotonic)
    retry: list[Observation] = field(default_factory=list)

    @property
    def dirty(self) -> int:
        return len(self.settler) + len(self.brake) + len(self.retry) + int(self.needs_scan)


class Watcher:
    """Follows roots until told to stop.  All decisions are made in one thread."""

    def __init__(
        self, settings: WatcherSettings, roots: Sequence[Root], engine: Engine, hints: Callable[[list[str], bool], None]
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._hints = hints
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._beaten_at = 0.0
        self._told: tuple[int, bool] | None = None
        self._followed = {root.name: self._follow(root) for root in roots}
        self._overflow = _OverflowHook(self._scan_everything)

    def run(self) -> None:
        """Follow until `stop`."""
        self._overflow.install()
        try:
            for followed in self._followed.values():
                self._observe(followed)
            while not self._stop.is_set():
                self.step(self._wait())
        finally:
            self._overflow.remove()
            for followed in self._followed.values():
                _end(followed.observer)

    def stop(self) -> None:
        """End `run` within a moment."""
        self._stop.set()
        self._events.put(("", b"", True))

    def step(self, wait: float) -> None:
        """Take what has come in, and do what is due."""
        self._take_events(wait)
        now = time.monotonic()
        for followed in self._followed.values():
            if followed.needs_scan or now >= followed.next_scan:
                self._scan(followed)
            self._settle(followed)
            self._decide_absences(followed)
            self._check_health(followed)
        self._beat()

    # ------------------------------------------------------------------ events

    def _wait(self) -> float:
        due = [f.settler.next_due() for f in self._followed.values()]
        due += [f.brake.next_due(time.monotonic()) for f in self._followed.values()]
        return min([TICK_S, *(wait for wait in due if wait is not None)])

    def _take_events(self, wait: float) -> None:
        try:
            event = self._events.get(timeout=max(0.001, wait))
        except queue.Empty:
            return
        for _ in range(100_000):
            self._touch(event)
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                break
        self._beat()

    def _touch(self, event: Event) -> None:
        name, raw, finished = event
        followed = self._followed.get(name)
        if followed is None:
            return
        followed.heard_at = time.monotonic()
        base = raw.rsplit(b"/", 1)[-1]
        if base.startswith(PROBE.encode()):
            if raw == followed.probe:
                followed.probe = None
            return
        if raw == MARKER.encode():
            followed.needs_scan = True
            return
        if base == IGNORE_FILE.encode():
            followed.rules.forget()
            followed.needs_scan = True
            return
        if followed.rules.explain(normal_path(raw)).by_default:
            return
        followed.settler.touch(raw, finished=finished)

    # ------------------------------------------------------------------ looking

    def _settle(self, followed: Followed) -> None:
        paths = followed.settler.settled()
        if not paths and not followed.retry:
            return
        if not self._root_is_there(followed):
            followed.needs_scan = True
            return
        bulk = len(paths) > BURST
        batch, followed.retry = followed.retry, []
        for raw in paths:
            batch += self._look(followed, raw, bulk=bulk)
        self._record(followed, batch, bulk=bulk)

    def _look(self, followed: Followed, raw: bytes, *, bulk: bool) -> list[Observation]:
        """Look at one settled path: a file, a whole directory, or nothing (then at everything known below it)."""
        root, rules = followed.root, followed.rules
        try:
            seen = look(root.name, root.path, raw, rules, touched=True, bulk=bulk)
        except OSError as exc:
            log.warning("watch.unreadable", source=root.name, error=type(exc).__name__)
            followed.next_scan = min(followed.next_scan, time.monotonic() + 30.0)
            return []
        if seen is not None:
            followed.brake.came(seen, time.monotonic())
            return [] if seen.stat is None and rules.explain(seen.path).by_default else [seen]
        if os.path.isdir(os.path.join(os.fsencode(root.path), raw)):
            if rules.explain(normal_path(raw), is_dir=True).ignored:
                return []
            found = list(walk(root.name, root.path, raw, rules, Scanned(), bulk=bulk))
            for each in found:
                followed.brake.came(each, time.monotonic())
            return found
        self._note_absence(followed, normal_path(raw))
        return []

    def _note_absence(self, followed: Followed, path: str) -> None:
        """Nothing is at ``path``: its document, and every document below it, have had their first look."""
        now = time.monotonic()
        for known in intake.known_below(self._engine, followed.root.name, path):
            followed.brake.went(Gone(known.path, known.raw_path, known.stat), now)

    def _scan(self, followed: Followed) -> None:
        """Compare the whole root with the ledger."""
        followed.needs_scan, followed.scanning = False, True
        followed.next_scan = time.monotonic() + self._interval(followed)
        self._beat()
        try:
            if self._root_is_there(followed):
                self._scan_present(followed)
        except SQLAlchemyError as exc:
            log.warning("scan.failed", source=followed.root.name, error=type(exc).__name__)
            followed.next_scan = time.monotonic() + 2.0
        finally:
            followed.scanning = False
        self._beat()

    def _scan_present(self, followed: Followed) -> None:
        root, scanned = followed.root, Scanned()
        followed.rules.forget()
        known = {
            path: (raw, seen, wanted) for path, raw, seen, wanted, _ in intake.known_files(self._engine, root.name)
        }
        batch: list[Observation] = []
        for seen in walk(root.name, root.path, b"", followed.rules, scanned, bulk=True):
            before = known.get(seen.path)
            if before is not None and before[1] == seen.stat and before[2] == "present" and seen.stat is not None:
                continue  # a rescan of unchanged files asks the ledger nothing
            followed.brake.came(seen, time.monotonic())
            batch.append(seen)
            if len(batch) >= BATCH:
                self._record(followed, batch, bulk=True)
                batch = []
                if self._stop.is_set():
                    return
        self._record(followed, batch, bulk=True)
        now = time.monotonic()
        for path, (raw, stat, wanted) in known.items():
            if wanted == "present" and path not in scanned.present and not _inside(path, scanned.unreadable):
                followed.brake.went(Gone(path, raw, stat), now)
        intake.scan_finished(self._engine, root.name)
        log.info("scan.finished", source=root.name, files=scanned.files, unreadable=len(scanned.unreadable))

    # ------------------------------------------------------------------ deletions

    def _decide_absences(self, followed: Followed) -> None:
        """Second look, then the brake: one deletion is quick, a mass of them waits for a person."""
        now = time.monotonic()
        if not followed.brake.due(now):
            return
        if not self._root_is_there(followed):
            followed.brake.clear()
            return
        total = intake.count_present(self._engine, followed.root.name)
        gone, held = followed.brake.decide(now, total, lambda each: self._still_gone(followed, each))
        if not gone:
            return
        reason = None
        if held:
            reason = (
                f"{len(gone)} of {total} documents of {followed.root.name} vanished at once. They stay searchable until"
                " somebody decides: upwell held approve, or upwell held reject."
            )
            self._alarm(followed, reason)
        name = followed.root.name
        self._record(
            followed,
            [
                Observation(name, each.raw_path, None, absent_as="held" if held else "deleted", reason=reason)
                for each in gone
            ],
            bulk=len(gone) > BURST,
        )

    def _still_gone(self, followed: Followed, each: Gone) -> bool:
        root = followed.root
        try:
            seen = look(root.name, root.path, each.raw_path, followed.rules, touched=True, bulk=False)
        except OSError:
            return False
        if seen is not None and seen.stat is not None:
            followed.settler.touch(each.raw_path, finished=True)
            return False
        return True

    # ------------------------------------------------------------------ telling

    def _record(self, followed: Followed, batch: Iterable[Observation], *, bulk: bool) -> None:
        """Ledger first, then hints.  What the ledger cannot take stays dirty."""
        seen = list(batch)
        for start in range(0, len(seen), BATCH):
            part = seen[start : start + BATCH]
            try:
                dirty = intake.observe(self._engine, part)
            except SQLAlchemyError as exc:
                log.warning("watch.ledger_busy", error=type(exc).__name__, waiting=len(part))
                followed.retry += part
                continue
            if dirty:
                self._hints(dirty, bulk)

    def _beat(self) -> None:
        """Tell the ledger how many paths are dirty: at once when that begins or ends, else every few seconds."""
        dirty = sum(followed.dirty for followed in self._followed.values())
        scanning = any(followed.scanning for followed in self._followed.values())
        busy = (int(dirty > 0), scanning)
        now = time.monotonic()
        if busy == self._told and now - self._beaten_at < BEAT_S:
            return
        info = {
            "dirty": dirty,
            "scanning": scanning,
            "sources": list(self._followed),
            "polling": [name for name, followed in self._followed.items() if followed.polling],
        }
        try:
            intake.beat(self._engine, KIND, info)
        except SQLAlchemyError as exc:
            log.warning("watch.no_beat", error=type(exc).__name__)
            return
        self._told, self._beaten_at = busy, now

    def _alarm(self, followed: Followed, alarm: str | None) -> None:
        if alarm == followed.alarm:
            return
        followed.alarm = alarm
        intake.set_alarm(self._engine, followed.root.name, alarm)
        (log.warning if alarm else log.info)("watch.alarm", source=followed.root.name, alarm=alarm)

    # ------------------------------------------------------------------ roots

    def _follow(self, root: Root) -> Followed:
        known = intake.marker_of(self._engine, root.name)
        marker = known or place_marker(root.path)
        intake.register_source(self._engine, root.name, "folder", str(root.path), marker)
        settings = self._settings
        base = os.fsencode(root.path)

        def seen(raw: bytes) -> tuple[int, ...] | None:
            try:
                found = os.lstat(os.path.join(base, raw))
            except OSError:
                return None
            return found.st_size, found.st_mtime_ns, found.st_ino

        settler = Settler(
            closed=settings.settle_closed,
            quiet=settings.settle_quiet,
            longest=settings.settle_longest,
            clock=time.monotonic,
            stat=seen,
        )
        brake = Brake(wait=settings.deletion_wait, share=settings.brake_share, count=settings.brake_count)
        return Followed(root, IgnoreRules(root.path), marker, settler, brake)

    def _root_is_there(self, followed: Followed) -> bool:
        """An unmounted disk leaves an empty folder behind: without its marker nothing is believed."""
        if followed.marker is None or read_marker(followed.root.path) == followed.marker:
            if followed.alarm and followed.alarm.startswith("The folder"):
                self._alarm(followed, None)
                followed.needs_scan = True
                self._observe(followed)
            return True
        self._alarm(
            followed,
            f"The folder {followed.root.path} is not the one that was indexed: its marker {MARKER} is missing or"
            " another."
            " Nothing is deleted. Mount the disk again; if the folder starts anew, give it another name: NAME=PATH.",
        )
        followed.next_scan = time.monotonic() + 2.0
        return False

    def _observe(self, followed: Followed) -> None:
        """Ask the kernel for events, and prove that they come; else look from time to time."""
        _end(followed.observer)
        handler = Handler(followed.root, self._events, lambda: self._needs_scan(followed))
        followed.observer, followed.polling = Observer(), False
        try:
            followed.observer.schedule(handler, str(followed.root.path), recursive=True)
            followed.observer.start()
        except OSError as exc:
            self._poll(followed, f"the kernel gives no more watches ({type(exc).__name__})")
            return
        self._send_probe(followed)

    def _poll(self, followed: Followed, why: str) -> None:
        _end(followed.observer)
        followed.observer, followed.polling, followed.probe = None, True, None
        followed.needs_scan = True
        every = self._settings.polling_interval
        self._alarm(followed, f"Changes in {followed.root.path} are seen every {every:g} s only: {why}.")

    def _send_probe(self, followed: Followed) -> None:
        """A file that comes and goes must come back as an event: dead threads and silent mounts show."""
        name = f"{PROBE}{uuid4().hex[:8]}"
        try:
            probe = followed.root.path / name
            probe.touch()
            probe.unlink()
        except OSError:
            return  # read-only: the folder cannot be probed
        followed.probe, followed.probed_at = os.fsencode(name), time.monotonic()

    def _check_health(self, followed: Followed) -> None:
        now = time.monotonic()
        if now - followed.looked_at >= ROOT_LOOK_S:
            followed.looked_at = now
            self._root_is_there(followed)
        if followed.polling or not followed.root.path.is_dir():
            return
        observer = followed.observer
        if observer is None or not observer.is_alive() or not all(e.is_alive() for e in observer.emitters):
            log.warning("watch.observer_dead", source=followed.root.name)
            followed.needs_scan = True
            self._observe(followed)
        elif followed.probe is not None and now - followed.probed_at > self._settings.probe_wait:
            self._poll(followed, "this file system sends no events")
        elif followed.probe is None and now - max(followed.probed_at, followed.heard_at) > HEARTBEAT_S:
            self._send_probe(followed)

    def _interval(self, followed: Followed) -> float:
        return self._settings.polling_interval if followed.polling else self._settings.rescan_interval

    def _needs_scan(self, followed: Followed) -> None:
        followed.needs_scan = True

    def _scan_everything(self) -> None:
        for followed in self._followed.values():
            followed.needs_scan = True


class _OverflowHook(logging.Handler):
    """watchdog tells of a queue overflow only in its log; events were lost, so everything is scanned again."""

    NAMES = ("watchdog.observers.inotify_c", "watchdog.observers.inotify")

    def __init__(self, scan: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._scan = scan

    def emit(self, record: logging.LogRecord) -> None:
        """Scan again when the record tells of an overflow."""
        if "overflow" in record.getMessage().lower():
            self._scan()

    def install(self) -> None:
        """Listen."""
        for name in self.NAMES:
            logging.getLogger(name).addHandler(self)

    def remove(self) -> None:
        """Listen no more."""
        for name in self.NAMES:
            logging.getLogger(name).removeHandler(self)


class HintSender:
    """Sends hints from a thread of its own, so that a stuck broker never holds up the watching."""

    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        self._queue: queue.Queue[tuple[list[str], bool]] = queue.Queue(maxsize=1000)
        threading.Thread(target=self._run, name="hints", daemon=True).start()

    def __call__(self, documents: list[str], bulk: bool) -> None:
        """Take hints to send; when too many wait already they are dropped, and the sweep sends them."""
        try:
            self._queue.put_nowait((documents, bulk))
        except queue.Full:
            log.warning("hint.dropped", count=len(documents))

    def _run(self) -> None:
        while True:
            documents, bulk = self._queue.get()
            self._hints.look(documents, bulk=bulk)


def run(settings: WatcherSettings, roots: Sequence[Root]) -> None:
    """Watch ``roots`` until SIGTERM or SIGINT."""
    set_up_logs("watcher", level=settings.log_level, fmt=settings.log_format)
    engine = schema.open_ledger(settings.ledger_url.get_secret_value())
    app = make_celery(settings.broker_url.get_secret_value(), settings.key_prefix, "producer")
    watcher = Watcher(settings, roots, engine, HintSender(Hints(app)))

    def end(_signal: int, _frame: FrameType | None) -> None:
        watcher.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    log.info("watch.ready", sources=[root.name for root in roots])
    try:
        watcher.run()
    finally:
        intake.leave(engine, KIND)


def _end(observer: BaseObserver | None) -> None:
    if observer is not None and observer.is_alive():
        observer.stop()
        observer.join(timeout=1)


def _inside(path: str, folders: Sequence[str]) -> bool:
    return any(not folder or path == folder or path.startswith(folder + "/") for folder in folders)
