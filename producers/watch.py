"""The watcher process: events say where to look, looking says what is there, the ledger hears it first.

One thread decides.  watchdog's threads only put paths into a queue, and hints leave from a thread of their own.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType

import redis
import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from producers.follow import Follower
from producers.roots import Root
from producers.settings import WatcherSettings
from producers.settle import Sign
from workers.contract import intake, schema
from workers.contract.broker import Hints, make_celery, messages_waiting
from workers.contract.logs import set_up_logs
from workers.contract.messages import Queue

log = structlog.get_logger()

KIND = "watcher"
BEAT_S = 4.0
TICK_S = 0.25
END_S = 1.0
LEDGER_BUSY_S = 1.0  # short, because the loop comes back to it, and SIGTERM must not wait for the ledger
HINTS_WAITING = 1000
BACKFILL_HINTS = 5000
GATHERED = 500
GATHER_S = 0.2

Event = tuple[str, bytes, Sign]


class Watcher:
    """Follows roots until told to stop."""

    def __init__(
        self, settings: WatcherSettings, roots: Sequence[Root], engine: Engine, hints: Callable[[list[str], bool], None]
    ) -> None:
        self._engine = engine
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._beaten_at = 0.0
        self._told: tuple[bool, bool] | None = None
        self.followers = {
            root.name: Follower(root, settings, engine, hints, partial(self._heard, root.name)) for root in roots
        }

    def run(self) -> None:
        """Follow until `stop`."""
        try:
            while not self._stop.is_set():
                self._take_events(self._wait())
                for follower in self.followers.values():
                    follower.step()
                self._beat()
        finally:
            deadline = time.monotonic() + END_S
            for follower in self.followers.values():
                follower.stop()
            for follower in self.followers.values():
                follower.join(max(0.0, deadline - time.monotonic()))

    def stop(self) -> None:
        """End `run` within a moment."""
        self._stop.set()
        self._events.put(("", b"", Sign.TOLD))

    def _heard(self, source: str, raw: bytes, sign: Sign) -> None:
        """Called from watchdog's threads."""
        self._events.put((source, raw, sign))

    def _wait(self) -> float:
        due = [follower.next_due() for follower in self.followers.values()]
        return min([TICK_S, *(wait for wait in due if wait is not None)])

    def _take_events(self, wait: float) -> None:
        try:
            event = self._events.get(timeout=max(0.001, wait))
        except queue.Empty:
            return
        for _ in range(100_000):
            source, raw, sign = event
            if source in self.followers:
                self.followers[source].hear(raw, sign)
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                break
        self._beat()

    def _beat(self) -> None:
        """Tell the ledger how many paths are dirty: at once when that begins or ends, else every few seconds."""
        dirty = sum(follower.dirty for follower in self.followers.values()) + int(not self._events.empty())
        scanning = any(follower.scanning for follower in self.followers.values())
        now = time.monotonic()
        if (dirty > 0, scanning) == self._told and now - self._beaten_at < BEAT_S:
            return
        info = {
            "dirty": dirty,
            "scanning": scanning,
            "sources": list(self.followers),
            "polling": [name for name, follower in self.followers.items() if follower.polling],
        }
        self._beaten_at = now  # also when it fails: a busy ledger is not to be asked at every turn
        try:
            intake.beat(self._engine, KIND, info)
            self._told = (dirty > 0, scanning)
        except SQLAlchemyError as exc:
            self._beaten_at = now - BEAT_S + TICK_S
            log.warning("watch.no_beat", error=type(exc).__name__)


class HintSender:
    """Sends hints from a thread of its own, so that a stuck broker never holds up the watching.

    ``backfill`` tells how many hints of backfills wait on the broker.  A first scan of millions of files would fill its
    memory; past a bound the sweep sends the hints, as many as are taken.  Hints of a backfill are gathered for
    ``gather_s``, because documents that are named in one message are indexed side by side.
    """

    def __init__(self, hints: Hints, backfill: Callable[[], int], *, gather_s: float = GATHER_S) -> None:
        self._hints = hints
        self._backfill = backfill
        self._gather_s = gather_s
        self._queue: queue.Queue[tuple[list[str], bool] | None] = queue.Queue(maxsize=HINTS_WAITING)
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)
        self._thread.start()

    def __call__(self, documents: list[str], bulk: bool) -> None:
        """Take hints to send; when too many wait already they are dropped, and the sweep sends them."""
        try:
            self._queue.put_nowait((documents, bulk))
        except queue.Full:
            log.warning("hint.dropped", count=len(documents))

    def stop(self, timeout: float) -> None:
        """Send what waits, as far as there is time."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(timeout)

    def _run(self) -> None:
        ended = False
        while not ended and (waiting := self._queue.get()) is not None:
            documents, bulk = waiting
            if bulk:
                ended = self._gather(list(documents))
            else:
                self._send(documents, bulk=False)

    def _gather(self, documents: list[str]) -> bool:
        """Send a portion of a backfill with those that soon follow it, and edits in between at once; True: the end."""
        until, ended = time.monotonic() + self._gather_s, False
        while len(documents) < GATHERED and not ended:
            try:
                waiting = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if waiting is None:
                ended = True
            elif waiting[1]:
                documents += waiting[0]
            else:
                self._send(waiting[0], bulk=False)
        self._send(documents, bulk=True)
        return ended

    def _send(self, documents: list[str], *, bulk: bool) -> None:
        try:
            if not bulk or self._backfill() < BACKFILL_HINTS:
                self._hints.look(documents, bulk=bulk)
        except Exception:  # without this thread no hint would ever be sent again
            log.exception("hint.failed", count=len(documents))


def _backfill(settings: WatcherSettings) -> int:
    try:
        return messages_waiting(settings, [Queue.BULK])
    except redis.RedisError:
        return 0  # away: sending says so


def run(settings: WatcherSettings, roots: Sequence[Root]) -> None:
    """Watch ``roots`` until SIGTERM or SIGINT."""
    set_up_logs("watcher", level=settings.log_level, fmt=settings.log_format)
    engine = schema.open_ledger(settings.ledger_url.get_secret_value(), busy_timeout_s=LEDGER_BUSY_S)
    app = make_celery(settings.broker_url.get_secret_value(), settings.key_prefix, "producer")
    hints = HintSender(Hints(app), partial(_backfill, settings))
    watcher = Watcher(settings, roots, engine, hints)

    def end(_signal: int, _frame: FrameType | None) -> None:
        watcher.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    log.info("watch.ready", sources=[root.name for root in roots])
    try:
        watcher.run()
    finally:
        hints.stop(0.2)
        try:
            intake.leave(engine, KIND)
        except SQLAlchemyError as exc:  # its last beat grows old instead
            log.warning("watch.no_leave", error=type(exc).__name__)
