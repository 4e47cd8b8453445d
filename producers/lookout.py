"""Can events be relied on in this folder?  If not, why, and the folder is scanned every few seconds instead.

Three things are asked: whether the threads that an event passes through live, whether every directory has its watch,
and whether a probe (a touch of the marker, which changes nothing) comes back as an event.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import structlog

from producers import events
from producers.events import Put, Stream, open_stream
from producers.folder import Folder
from producers.roots import remote_type, touch_marker
from producers.settings import WatcherSettings

log = structlog.get_logger()

CHECK_S = 1.0
BLIND_CHECK_S = 5.0
RETRY_WATCH_S = 300.0


class Lookout:
    """Keeps the events of one folder coming."""

    def __init__(
        self,
        folder: Folder,
        settings: WatcherSettings,
        put: Put,
        lost: Callable[[], None],
        poll: Callable[[bool], None],
    ) -> None:
        """``lost`` is called when events may have been lost, ``poll`` with True when scans must take
        their place.
        """
        self._folder, self._settings, self._clock = folder, settings, folder.clock
        self._put, self._lost, self._tell_poll = put, lost, poll
        self._stream: Stream | None = None
        self._begin_at: float | None = 0.0  # when to watch anew; None: not needed
        self._polling: dict[str, str] = {}  # why events cannot be relied on
        self._proved = False
        self._probe_at: float | None = None  # when the probe that has not come back was sent
        self._heard_at = self._clock()
        self._blind_at = 0.0
        self._retry_s = min(RETRY_WATCH_S, settings.rescan_interval)
        self._rewatch_at = 0.0

    @property
    def polling(self) -> bool:
        """True while events cannot be relied on."""
        return bool(self._polling)

    def heard(self) -> None:
        """Any event came."""
        self._heard_at = self._clock()

    def answered(self) -> None:
        """The probe came back."""
        self._probe_at, self._proved = None, True
        self._poll("silent", None)

    def begin_anew(self) -> None:
        """Watch anew when next checked: another folder has taken the place of the watched one."""
        self._begin_at = 0.0

    def check(self) -> None:
        """See that events come."""
        now, stream = self._clock(), self._stream
        if self._begin_at is not None:
            if now >= self._begin_at:
                self._begin()
        elif stream is None or not stream.alive:
            log.warning("watch.observer_dead", source=self._folder.root.name)
            self._begin()
        elif self._probe_at is not None and now - max(self._probe_at, self._heard_at) > self._settings.probe_wait:
            self._unanswered()
        elif self._probe_at is None and now - self._heard_at > self._settings.probe_interval:
            self._probe()
        elif now >= self._blind_at:
            self._blind_at = now + BLIND_CHECK_S
            self._check_blind(stream)

    def stop(self) -> None:
        """Ask the threads to end."""
        if self._stream is not None:
            self._stream.stop()

    def join(self, timeout: float) -> None:
        """Wait for their end."""
        if self._stream is not None:
            self._stream.join(timeout)

    def _begin(self) -> None:
        """Ask the kernel for events anew; whatever happened meanwhile is found by a scan."""
        old, self._stream, self._begin_at = self._stream, None, None
        if old is not None:
            old.stop()
            old.join(1.0)
        self._proved, self._probe_at = False, None
        self._lost()
        try:
            self._stream = open_stream(self._folder.base, self._put, self._lost)
        except OSError as exc:
            gone = exc.errno in (errno.ENOENT, errno.ENOTDIR)
            self._begin_at = self._clock() + (CHECK_S if gone else self._retry_s)
            self._poll("watches", events.why(exc))
            return
        self._blind_at = 0.0  # that check ends the alarm over watches, if there is one
        remote = remote_type(self._folder.root.path)
        self._poll("remote", f"changes made elsewhere on a {remote} disk send no events here" if remote else None)
        self._probe()

    def _probe(self) -> None:
        """Touch the marker.  A folder that cannot be written cannot be probed."""
        self._heard_at = self._clock()
        self._probe_at = self._clock() if touch_marker(self._folder.root.path) else None

    def _unanswered(self) -> None:
        """Events that came once and come no more: watch anew.  None since the watching began: this place sends none."""
        self._probe_at, self._heard_at = None, self._clock()
        log.warning("watch.probe_unanswered", source=self._folder.root.name)
        if self._proved:
            self._begin_at = 0.0
        else:
            self._poll("silent", "this file system sends no events")

    def _check_blind(self, stream: Stream) -> None:
        """Directories that can be listed but have no watch: ask for one again from time to time, and poll meanwhile."""
        blind = [folder for folder in stream.unwatched() if os.access(folder, os.R_OK | os.X_OK)]
        if not blind:
            self._poll("watches", None)
        elif self._clock() >= self._rewatch_at:
            self._rewatch_at = self._clock() + self._retry_s
            self._begin_at = 0.0
        else:
            self._poll(
                "watches",
                f"{len(blind)} folders in it got no watch; is the kernel's limit reached"
                " (sysctl fs.inotify.max_user_watches)?",
            )

    def _poll(self, kind: str, why: str | None) -> None:
        """Remember why events cannot be relied on (None: that reason is over)."""
        if self._polling.get(kind) == why:
            return
        if why is None:
            del self._polling[kind]
        else:
            self._polling[kind] = why
        self._tell_poll(self.polling)
        every, reasons = self._settings.polling_interval, "; ".join(self._polling.values())
        text = f"Changes in {self._folder.root.path} are seen every {every:g} s only: {reasons}"
        self._folder.alarm("polling", text if self._polling else None)
