"""The supervisor's loop: start the parts, restart what dies, replace taken ports, stop everything in order."""

from __future__ import annotations

import select
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from ops.up import ports as free_ports
from ops.up.children import Children, Event, Exited, GuardDied, Part, Said, Started, Stopped
from ops.up.datadir import DataDirError
from ops.up.guard import DEFAULT_GRACES
from ops.up.lives import Lives
from ops.up.restarts import Backoff
from workers.contract.exits import EXIT_MISCONFIGURED, EXIT_TAKEN

TICK_S = 0.25
MOST_LOCKED = 5


class Display(Protocol):
    """Who tells people; every method returns at once and never raises."""

    def restarting(self, name: str, how: str, wait_s: float, times: int) -> None: ...
    def replaced(self, name: str, wanted: int, port: int) -> None: ...
    def warning(self, name: str, line: str) -> None: ...
    def stopping(self) -> None: ...
    def tick(self) -> None: ...


@dataclass(slots=True)
class _Watched:
    """One part, and how it is doing."""

    part: Part
    backoff: Backoff = field(default_factory=Backoff)
    pid: int | None = None
    start_at: float | None = 0.0  # None: it runs, or is on its way
    restarts: int = 0
    renewing: bool = False  # we are stopping it ourselves, to start it with another command


class Supervisor:
    """Keeps the parts running until told to stop, or until one says that trying again cannot help."""

    def __init__(
        self,
        children: Children,
        make_parts: Callable[[Mapping[str, int]], Iterable[Part]],
        chosen: dict[str, int],
        display: Display,
        lives: Lives,
        *,
        on_change: Callable[[Mapping[str, int], Mapping[str, int]], None] = lambda ports, pids: None,
        graces: Sequence[float] = DEFAULT_GRACES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``on_change`` is told ports and pids, and may raise `DataDirError`."""
        self._graces = graces
        self._children = children
        self._make_parts = make_parts
        self._ports = chosen
        self._display = display
        self._lives = lives
        self._on_change = on_change
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self._signals: list[int] = []
        self._stopping = False
        self._stopped = False
        self._untold = False
        self.fault: str | None = None
        self.exit_code = 0

    def start(self) -> None:
        """Start everything; a separate step so that children start before the display is even imported."""
        self._wake = self._hear_signals()
        for part in self._make_parts(self._ports):
            self._watched[part.name] = _Watched(part)
            self._start_due()

    def use(self, display: Display) -> None:
        self._display = display

    def pids(self) -> dict[str, int]:
        return {name: watched.pid for name, watched in self._watched.items() if watched.pid is not None}

    def run(self) -> int:
        """Supervise until stopped; returns the exit code.  ``fault`` says what was wrong, if anything."""
        wake = self._wake
        while not self._stopped:
            self._start_due()
            ready, _, _ = select.select([wake.fileno(), self._children.fileno()], [], [], self._until_next())
            if wake.fileno() in ready:
                wake.recv(64)
            while self._signals:
                self._obey_signal(self._signals.pop(0))
            if self._children.fileno() in ready:
                for event in self._children.events():
                    self._handle(event)
            self._display.tick()
        return self.exit_code

    def _hear_signals(self) -> socket.socket:
        wake, signalled = socket.socketpair()
        wake.setblocking(False)
        signalled.setblocking(False)
        signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
        self._signalled = signalled  # kept: set_wakeup_fd does not
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        return wake

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signals.append(number)

    def _until_next(self) -> float:
        due = [watched.start_at for watched in self._watched.values() if watched.start_at is not None]
        return max(0.0, min([TICK_S, *(at - self._clock() for at in due)])) if not self._stopping else TICK_S

    def _start_due(self) -> None:
        if self._stopping:
            return
        now = self._clock()
        for watched in self._watched.values():
            if watched.start_at is not None and watched.start_at <= now:
                watched.start_at = None
                watched.backoff.started(now)
                part = watched.part
                self._children.spawn(replace(part, env={**part.env, **self._lives.start(part.name)}))

    def _obey_signal(self, number: int) -> None:
        """The first one stops everything in order; only Ctrl-C after that means now."""
        if not self._stopping:
            self._stop()
        elif number == signal.SIGINT:
            self._children.kill()

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._display.stopping()
            self._children.stop(self._graces)

    def _handle(self, event: Event) -> None:
        match event:
            case Started(name, pid):
                self._watched[name].pid = pid
                self._tell()
            case Said(name, line):
                if not self._stopping:  # what a part says of its own end; its log has it
                    self._display.warning(name, line)
            case Exited():
                self._on_exit(event)
            case Stopped():
                self._stopped = True
            case GuardDied():
                self._on_guard_died()

    def _tell(self) -> None:
        """Say what runs now.  On a full disk it is said again at the next change; until then the last can be read."""
        try:
            self._on_change(self._ports, self.pids())
            self._untold = False
        except DataDirError as exc:
            if not self._untold:
                self._display.warning("up", f"upwell: {exc}")
            self._untold = True

    def _on_exit(self, event: Exited) -> None:
        watched = self._watched[event.name]
        watched.pid = None
        self._lives.ended(event.name)
        if self._stopping:
            return
        if watched.renewing:
            watched.renewing = False
            watched.start_at = self._clock()
            return
        if event.code == EXIT_MISCONFIGURED:
            self._give_up(event)
        elif self._lost_its_port(watched, event):
            self._replace_port(watched)
        elif event.code == EXIT_TAKEN and watched.backoff.deaths >= MOST_LOCKED:
            self._give_up(event)
        else:
            # Who was killed from outside had nothing to say about it.
            self._restart(watched, how_it_ended(event.code), () if event.code == -signal.SIGKILL else event.last)

    def _restart(self, watched: _Watched, how: str, last: tuple[str, ...] = ()) -> None:
        wait = watched.backoff.died(self._clock())
        watched.start_at = self._clock() + wait
        watched.restarts += 1
        if last:
            self._display.warning(watched.part.name, last[-1])
        self._display.restarting(watched.part.name, how, wait, watched.restarts)
        self._tell()

    def _give_up(self, event: Exited) -> None:
        ours = [line for line in event.last if line.startswith("upwell: ")]
        line = (ours or list(event.last) or [f"{event.name} {how_it_ended(event.code)}"])[-1]
        self.fault = line.removeprefix("upwell: ")
        self.exit_code = event.code
        self._stop()

    def _lost_its_port(self, watched: _Watched, event: Exited) -> bool:
        """Tell whether the part went down because somebody else has its port."""
        port = watched.part.port
        return port is not None and event.code > 0 and not free_ports.is_free(port)

    def _replace_port(self, watched: _Watched) -> None:
        """Choose another port, and start whatever knows of the old one again."""
        name, old = watched.part.name, self._ports[watched.part.name]
        self._ports[name] = free_ports.near(old, set(self._ports.values()))
        self._display.replaced(name, old, self._ports[name])
        watched.start_at = self._clock()
        for part in self._make_parts(self._ports):
            known = self._watched[part.name]
            if known.part == part:
                continue
            known.part = part
            if known is not watched and known.start_at is None:
                known.renewing = True
                self._children.end(part.name)
        self._tell()

    def _on_guard_died(self) -> None:
        if self._stopping:
            self._children.revive()
            self._children.stop(self._graces)
            return
        self._children.revive()
        self._begin_run()
        for watched in self._watched.values():
            watched.pid = None
            watched.renewing = False
            self._restart(watched, "was lost with the guard process")

    def _begin_run(self) -> None:
        """Nothing that was started is left: let its leases be handed back.  On a full disk they run out instead."""
        try:
            self._lives.all_ended()
        except DataDirError as exc:
            self._display.warning("up", f"upwell: {exc}")


def how_it_ended(code: int) -> str:
    """Return an exit code in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
