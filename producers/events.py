"""The only module that imports watchdog: the kernel's events, as paths to look at.

What watchdog does not tell its handlers, and what is done about it here:

* a queue overflow is told to the watches only: `_Watches` passes it on, and the folder is scanned;
* a directory that gets no watch (limit reached, no permission) is left out in silence: `_Watches` counts those;
* an exception in a handler ends the dispatching thread: ours ends in a scan instead;
* a dead reading thread leaves everything else alive: `Stream.alive` asks all of them;
* a file moved in or out waits half a second for its other half: we need no pairs, so 50 ms.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from producers.settle import Sign

log = structlog.get_logger()

PAIRING_S = 0.05
Put = Callable[[bytes, Sign], None]


class Told:
    """What the watches of one folder report besides events.  Called from watchdog's threads."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self.lost = lost  # events may have been lost: look at everything
        self._unwatched: set[bytes] = set()
        self._lock = threading.Lock()

    def watched(self, path: bytes, given: bool) -> None:
        """Remember whether the kernel gave a watch for the directory at ``path``."""
        with self._lock:
            (self._unwatched.discard if given else self._unwatched.add)(path)

    def unwatched(self) -> list[bytes]:
        """Return the directories that have no watch and are still there."""
        with self._lock:
            return [path for path in self._unwatched if os.path.isdir(path)]


class Handler(FileSystemEventHandler):
    """Turns events into paths.  It must not raise: an exception would end watchdog's dispatch thread silently."""

    def __init__(self, base: bytes, put: Put, lost: Callable[[], None]) -> None:
        self._base, self._put, self._lost = base, put, lost

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Note the path of any event that may have changed something."""
        try:
            if event.is_synthetic:
                return  # a name inside of a directory that came: that directory is compared with the ledger whole
            for path, sign in _signs(event):
                self._note(os.fsencode(path), sign)
        except Exception:  # see the class: whatever it is, a scan makes it good
            log.exception("watch.handler_failed")
            self._lost()

    def _note(self, raw: bytes, sign: Sign) -> None:
        if raw == self._base:
            self._lost()
        elif raw.startswith(self._base + b"/"):
            self._put(raw[len(self._base) + 1 :], sign)


def _signs(event: FileSystemEvent) -> list[tuple[str | bytes, Sign]]:
    kind, is_dir = event.event_type, event.is_directory
    if kind == "moved":  # one of the two is empty when the other half is outside of the folder
        return [(path, Sign.NAMED) for path in (event.src_path, event.dest_path) if path]
    if kind == "deleted" or (kind == "created" and is_dir):
        return [(event.src_path, Sign.NAMED)]
    if kind == "created":
        return [(event.src_path, Sign.CREATED)]
    if kind == "closed":
        return [(event.src_path, Sign.CLOSED)]
    if kind == "attrib":
        return [(event.src_path, Sign.TOLD)]
    if kind == "modified" and not is_dir:
        return [(event.src_path, Sign.WRITTEN)]
    return []  # opened, closed without writing; a directory is "modified" whenever something in it was


class Stream:
    """The events of one folder, until it is stopped."""

    def __init__(self, root: bytes, put: Put, lost: Callable[[], None]) -> None:
        """Begin to watch.

        Raises:
            OSError: the folder is not there, or the kernel gives no watch for it.
        """
        self._told = Told(lost)
        self._observer = _make_observer(self._told)
        handler = Handler(root, put, lost)
        try:
            self._observer.schedule(handler, os.fsdecode(root), recursive=True, event_filter=_interesting())
            self._observer.start()
        except BaseException:
            self.stop()
            raise

    @property
    def alive(self) -> bool:
        """True while every thread that an event passes through lives."""
        emitters = list(self._observer.emitters)
        reader = getattr(self._observer, "_inotify_fd", None)
        return (
            self._observer.is_alive()
            and bool(emitters)
            and all(emitter.is_alive() for emitter in emitters)
            and (reader is None or reader.is_alive())
        )

    def unwatched(self) -> list[bytes]:
        """Return the directories for which the kernel gave no watch."""
        return self._told.unwatched()

    def stop(self) -> None:
        """Ask every thread to end."""
        if self._observer.is_alive():
            self._observer.stop()
            return
        reader = getattr(self._observer, "_inotify_fd", None)  # lives from the observer's making on
        if reader is not None and reader.is_alive():
            reader.stop()

    def join(self, timeout: float) -> None:
        """Wait for the end, but not for ever."""
        if self._observer.ident is not None:
            self._observer.join(timeout)


def why(error: OSError) -> str:
    """Return, for people, why the kernel gave no watch."""
    if error.errno == errno.ENOSPC:
        return "the kernel's limit of watches is reached (sysctl fs.inotify.max_user_watches)"
    if error.errno == errno.EMFILE:
        return "the kernel's limit of watchers is reached (sysctl fs.inotify.max_user_instances)"
    return f"it cannot be watched ({errno.errorcode.get(error.errno or 0, 'error')})"


def _interesting() -> list[type[FileSystemEvent]]:
    """Everything but opening and reading: index workers read every file, and that must not fill the kernel's queue."""
    from watchdog import events

    return [
        events.FileCreatedEvent, events.FileModifiedEvent, events.FileAttribEvent, events.FileClosedEvent,
        events.FileMovedEvent, events.FileDeletedEvent, events.DirCreatedEvent, events.DirAttribEvent,
        events.DirMovedEvent, events.DirDeletedEvent,
    ]  # fmt: skip


if sys.platform == "linux":
    from watchdog.observers.inotify import InotifyFullEmitter, InotifyObserver, InotifyWatchGroup
    from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

    class _Grouper(InotifyMoveEventGrouper):
        delay = PAIRING_S

    @dataclass(eq=False)
    class _Watches(InotifyWatchGroup):
        told: Told | None = None

        def __post_init__(self) -> None:
            self._move_event_grouper = _Grouper()
            super().__post_init__()

        def _add_callback(self, path: bytes) -> None:
            super()._add_callback(path)
            if self.told is not None:
                # Without permission the kernel's -1 comes through as if it were a watch.
                self.told.watched(path, self._active_callbacks_by_path.get(path, -1) != -1)

        def on_queue_overflow(self) -> None:
            super().on_queue_overflow()
            if self.told is not None:
                self.told.lost()

    class _Emitter(InotifyFullEmitter):
        def __init__(self, *args: Any, told: Told, **options: Any) -> None:
            super().__init__(*args, **options)
            self._told = told

        def on_thread_start(self) -> None:
            self._inotify = _Watches(
                self._inotify_fd,
                os.fsencode(self.watch.path),
                is_recursive=True,
                event_mask=self.get_event_mask_from_filter(),
                told=self._told,
            )

    class _Observer(InotifyObserver):
        def __init__(self, told: Told) -> None:
            super().__init__()
            self._emitter_class = _Emitter
            self._emitter_kwargs["told"] = told

    def _make_observer(told: Told) -> BaseObserver:
        return _Observer(told)

else:

    def _make_observer(told: Told) -> BaseObserver:
        return Observer()
