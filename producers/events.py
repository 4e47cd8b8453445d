"""The only module that imports watchdog: the kernel's events, as paths to look at.

On Linux, watchdog's inotify reader and its watches are used without its observer, emitter and dispatcher: three threads
less between a save and its path, no waiting for the other half of a rename (each half is a path to look at), and no
made-up event for every name in a directory that moved (it is compared with the ledger whole).  What a handler would not
have been told is told here: a queue overflow, a directory that got no watch (limit reached, no permission), and the
end of the root.  Elsewhere watchdog's own observer is used.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from watchdog import events as general
from watchdog.observers import Observer

from producers.settle import Sign

log = structlog.get_logger()

HALVES = 1000  # directories that moved away, remembered until their other half comes, which is the next event

Put = Callable[[bytes, Sign], None]


class Stream(Protocol):
    """The events of one folder, until it is stopped."""

    @property
    def alive(self) -> bool:
        """True while every thread that an event passes through lives, and the folder is the one that is watched."""

    def unwatched(self) -> list[bytes]:
        """Return the directories for which the kernel gave no watch, as far as they are still there."""

    def stop(self) -> None:
        """Ask every thread to end."""

    def join(self, timeout: float) -> None:
        """Wait for the end, but not for ever."""


def why(error: OSError) -> str:
    """Return, for people, why the kernel gave no watch."""
    if error.errno == errno.ENOSPC:
        return "the kernel's limit of watches is reached (sysctl fs.inotify.max_user_watches)"
    if error.errno == errno.EMFILE:
        return "the kernel's limit of watchers is reached (sysctl fs.inotify.max_user_instances)"
    return f"it cannot be watched ({errno.errorcode.get(error.errno or 0, 'error')})"


class GeneralStream(general.FileSystemEventHandler):
    """Events by way of watchdog's observer, on any system."""

    def __init__(self, root: bytes, put: Put, lost: Callable[[], None]) -> None:
        """Begin to watch.

        Raises:
            OSError: the folder is not there or cannot be watched.
        """
        self._base, self._put, self._lost = root, put, lost
        self._observer = Observer()
        self._observer.schedule(self, os.fsdecode(root), recursive=True)
        self._observer.start()

    @property
    def alive(self) -> bool:
        """See `Stream`."""
        emitters = list(self._observer.emitters)
        return self._observer.is_alive() and bool(emitters) and all(emitter.is_alive() for emitter in emitters)

    def unwatched(self) -> list[bytes]:
        """See `Stream`: nobody tells."""
        return []

    def stop(self) -> None:
        """See `Stream`."""
        if self._observer.is_alive():
            self._observer.stop()

    def join(self, timeout: float) -> None:
        """See `Stream`."""
        self._observer.join(timeout)

    def on_any_event(self, event: general.FileSystemEvent) -> None:
        """Note the paths of an event.  An exception in here would end watchdog's dispatching thread silently."""
        try:
            sign = _general_sign(event)
            for path in (event.src_path, event.dest_path):
                if sign is not None and path:
                    _pass_on(os.fsencode(path), sign, self._base, self._put, self._lost)
        except Exception:  # whatever it is, a scan makes it good
            log.exception("watch.handler_failed")
            self._lost()


def _general_sign(event: general.FileSystemEvent) -> Sign | None:
    match event.event_type:
        case general.EVENT_TYPE_MOVED | general.EVENT_TYPE_DELETED:
            return Sign.NAMED
        case general.EVENT_TYPE_CREATED:
            return Sign.NAMED if event.is_directory else Sign.CREATED
        case general.EVENT_TYPE_CLOSED:
            return Sign.CLOSED
        case general.EVENT_TYPE_MODIFIED if not event.is_directory:
            return Sign.WRITTEN
    return None  # opened, closed without writing; a directory is "modified" whenever something in it was


def _pass_on(path: bytes, sign: Sign, base: bytes, put: Put, lost: Callable[[], None]) -> None:
    if path == base:
        lost()
    elif path.startswith(base + b"/"):
        put(path[len(base) + 1 :], sign)


if sys.platform == "linux":
    from watchdog.observers.inotify import InotifyWatchGroup
    from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent, InotifyFD, Mask
    from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper, PathedInotifyEvent

    # Everything but opening and reading: index workers read every file, and that must not fill the kernel's queue.
    _MASK = Mask(
        InotifyConstants.IN_CREATE
        | InotifyConstants.IN_MODIFY
        | InotifyConstants.IN_ATTRIB
        | InotifyConstants.IN_CLOSE_WRITE
        | InotifyConstants.IN_MOVE
        | InotifyConstants.IN_DELETE
        | InotifyConstants.IN_DELETE_SELF
    )

    class InotifyStream:
        """Events straight from the thread that reads them."""

        def __init__(self, root: bytes, put: Put, lost: Callable[[], None]) -> None:
            """Begin to watch.

            Raises:
                OSError: the folder is not there, or the kernel gives no watch for it.
            """
            self._reader = InotifyFD()
            self._reader.start()
            try:
                self._watches = _Watches(
                    self._reader, root, is_recursive=True, event_mask=_MASK, passing=_Passing(root, put, lost)
                )
            except BaseException:
                self._reader.stop()
                raise

        @property
        def alive(self) -> bool:
            """See `Stream`."""
            return self._reader.is_alive() and not self._watches.passing.ended

        def unwatched(self) -> list[bytes]:
            """See `Stream`."""
            return self._watches.unwatched()

        def stop(self) -> None:
            """See `Stream`."""
            self._watches.deactivate()
            self._reader.stop()

        def join(self, timeout: float) -> None:
            """See `Stream`."""
            self._reader.join(timeout)

    class _Passing(InotifyMoveEventGrouper):
        """Stands where watchdog pairs the halves of renames: passes each event on at once.

        Halves of directories that moved away are remembered, because the watches below them move along.
        """

        def __init__(self, base: bytes, put: Put, lost: Callable[[], None]) -> None:
            self.base, self.lost = base, lost
            self.ended = False
            self._put = put
            self._away: deque[PathedInotifyEvent] = deque(maxlen=HALVES)

        def put_event(self, event: PathedInotifyEvent) -> None:
            """Pass on the path of an event."""
            if event.ev.is_moved_from and event.ev.is_directory:
                self._away.append(event)
            if event.ev.is_delete_self:
                self.ended = self.ended or event.path == self.base
                return  # of any other directory its parent tells
            sign = _sign(event.ev)
            if sign is not None:
                _pass_on(event.path, sign, self.base, self._put, self.lost)

        def get_queued_moved_from_event(self, cookie: int) -> PathedInotifyEvent | None:
            """Return the half of a rename that came before."""
            return next((event for event in reversed(self._away) if event.ev.cookie == cookie), None)

        def discard_pending_events(self) -> None:
            """Forget the halves: after an overflow the other ones may be lost."""
            self._away.clear()

        def close(self) -> None:
            """Nobody waits here."""

    def _sign(event: InotifyEvent) -> Sign | None:
        if event.is_move or event.is_delete or (event.is_create and event.is_directory):
            return Sign.NAMED
        if event.is_create:
            return Sign.CREATED
        if event.is_close_write:
            return Sign.CLOSED
        if event.is_modify and not event.is_directory:
            return Sign.WRITTEN
        return Sign.TOLD if event.is_attrib else None

    @dataclass(eq=False, kw_only=True)
    class _Watches(InotifyWatchGroup):
        """The watches of one folder.  All but `unwatched` runs in the reader's thread, which no exception may end."""

        passing: _Passing

        def __post_init__(self) -> None:
            self._move_event_grouper = self.passing
            self._unwatched: set[bytes] = set()
            self._unwatched_lock = threading.Lock()
            super().__post_init__()

        def unwatched(self) -> list[bytes]:
            with self._unwatched_lock:
                return [path for path in self._unwatched if os.path.isdir(path)]

        def on_event(self, event: InotifyEvent) -> None:
            try:
                super().on_event(event)
            except Exception:  # whatever it is, a scan makes it good
                log.exception("watch.handler_failed")
                self.passing.lost()

        def on_queue_overflow(self) -> None:
            super().on_queue_overflow()
            self.passing.lost()

        def _add_callback(self, path: bytes) -> None:
            super()._add_callback(path)
            # Without permission the kernel's -1 comes through as if it were a watch.
            watched = self._active_callbacks_by_path.get(path, -1) != -1
            with self._unwatched_lock:
                (self._unwatched.discard if watched else self._unwatched.add)(path)

    def open_stream(root: bytes, put: Put, lost: Callable[[], None]) -> Stream:
        """Begin to watch ``root``; ``put`` and ``lost`` are called from another thread.

        Raises:
            OSError: the folder is not there, or the kernel gives no watch for it.
        """
        return InotifyStream(root, put, lost)

else:

    def open_stream(root: bytes, put: Put, lost: Callable[[], None]) -> Stream:
        """Begin to watch ``root``; ``put`` and ``lost`` are called from another thread.

        Raises:
            OSError: the folder is not there or cannot be watched.
        """
        return GeneralStream(root, put, lost)
