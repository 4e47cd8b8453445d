"""The guard's end of the line to the template, from which Python parts are forked with their imports done (ADR 0047).

    guard to template:  {"layers": [[name, [module, …]], …]}   once: what to import, in this order
                        {"argv", "env"} + descriptors          fork a part: its output, the line that it reports on,
                                                               and what it passes on
                        {"on": true}                           that was all for now; import the next layer
    template to guard:  {"ready": layer}                       what needs no more than this can be forked
                        {"unfit": why}                         it must not be forked from

A part that was forked reports its pid on its own line and does nothing until it hears that the guard knows of it.
Whatever goes wrong before that, a killed template included, closes the line; then the part is started by exec.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ops.up.kernel import send_signal

PATIENCE_S = 5.0
"""How long a fork may take.  It takes milliseconds; a template that was stopped takes for ever."""
IMPORT_PATIENCE_S = 60.0
"""How long a layer may take to be imported, from a cold disk."""
MOST_FAILURES = 3
GO = b"go"


@dataclass(slots=True)
class Birth:
    """A part that has been ordered: ``control`` is our end of the line to it, ``output`` that of its output."""

    order: dict[str, Any]
    template: int
    control: socket.socket
    output: int
    deadline: float

    def give_up(self) -> None:
        """Close the line: a fork that comes to report finds nobody, and ends."""
        self.control.close()
        os.close(self.output)


@dataclass(frozen=True, slots=True)
class Born:
    """A part that was forked and waits for nothing any more."""

    order: dict[str, Any]
    pid: int
    output: int


class Nursery:
    """Which template there is, what it was asked for, and what came of it.  Nothing here waits."""

    def __init__(
        self,
        start: Callable[[dict[str, Any], int], int],
        *,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``start`` starts the process of a plan, with its end of the line, and returns its pid."""
        self._start = start
        self._clock = clock
        self._say = say
        self.inherited: list[int] = []
        """Descriptors that every part has as well: the data directory's lock.  The template needs none of it."""
        self._plan: dict[str, Any] | None = None
        self._line: socket.socket | None = None
        self.pid: int | None = None
        self._layers: set[str] = set()  # that will be there
        self._ready: set[str] = set()
        self._heard_at = 0.0
        self._first = True
        self._failures = 0
        self._start_at: float | None = None
        self._waiting: list[dict[str, Any]] = []
        self._births: list[Birth] = []

    # ------------------------------------------------------------------ the template

    def plan(self, plan: dict[str, Any]) -> None:
        """Start a template: ``argv`` and ``env`` of its process, ``layers`` to import."""
        if sys.platform == "linux":  # elsewhere a fork could not become the guard's child
            self._plan = plan
            self._begin()

    def _begin(self) -> None:
        assert self._plan is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.pid = self._start(self._plan, theirs.fileno())
        except OSError as exc:  # no more processes, no memory: what runs needs no template
            ours.close()
            self._plan_another(f"the template cannot be started ({exc.strerror})")
            return
        finally:
            theirs.close()
        ours.setblocking(False)
        self._line, self._start_at, self._heard_at = ours, None, self._clock()
        self._layers, self._ready = {name for name, _ in self._plan["layers"]}, set()
        self._tell({"layers": self._plan["layers"]})

    def lost(self) -> list[dict[str, Any]]:
        """The template has ended: plan another one, if any is wanted, and return what waited for this one."""
        self.pid = None
        self._drop_line()
        if self._plan is not None:
            self._plan_another("the template ended")
        return self._take_waiting()

    def _plan_another(self, why: str) -> None:
        self._first = False
        self._failures += 1
        self._start_at = self._clock() + 2.0**self._failures if self._failures < MOST_FAILURES else None
        self._say(f"{why}; {'parts are executed from now on' if self._start_at is None else 'another follows'}")

    def _give_up(self, why: str) -> None:
        """Do without this template; `lost` follows when it has ended."""
        self._say(f"the template is given up: {why}")
        self._drop_line()
        if self.pid is not None:
            send_signal(self.pid, signal.SIGKILL)

    def _drop_line(self) -> None:
        if self._line is not None:
            self._line.close()
        self._line = None

    def _take_waiting(self) -> list[dict[str, Any]]:
        waiting, self._waiting = self._waiting, []
        return waiting

    # ------------------------------------------------------------------ orders

    def take(self, order: dict[str, Any]) -> bool:
        """Have the template fork this part, now or when it has imported enough.  False: it has to be executed."""
        layer = order.get("layer")
        if self._line is None or layer not in self._layers:
            return False
        if layer in self._ready:
            return self._order(order)
        if not self._first:
            return False  # to import for one part takes no longer than to import for all
        self._waiting.append(order)
        return True

    def _order(self, order: dict[str, Any]) -> bool:
        assert self.pid is not None
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        try:
            words = {"argv": order["argv"], "env": order["env"]}
            sent = self._tell(words, [write, theirs.fileno(), *self.inherited])
        finally:
            theirs.close()
            os.close(write)
        if not sent:
            ours.close()
            os.close(read)
            return False
        for fd in (ours.fileno(), read):
            os.set_blocking(fd, False)
        self._births.append(Birth(order, self.pid, ours, read, self._clock() + PATIENCE_S))
        return True

    def find(self, name: str) -> dict[str, Any] | None:
        """Return the order of a part that is on its way into the world."""
        orders = [*self._waiting, *(birth.order for birth in self._births)]
        return next((order for order in orders if order["name"] == name), None)

    # ------------------------------------------------------------------ what comes of them

    def fds(self) -> list[int]:
        """For select."""
        line = [self._line.fileno()] if self._line is not None else []
        return line + [birth.control.fileno() for birth in self._births]

    @property
    def busy(self) -> bool:
        """Something here has a deadline."""
        return bool(self._births or self._waiting) or self._start_at is not None

    def unborn_sessions(self) -> frozenset[int]:
        """Sessions in which forks may be that have not reported yet: those of the templates they were ordered from."""
        return frozenset(birth.template for birth in self._births)

    def look(self) -> Iterator[Born | dict[str, Any]]:
        """Yield the parts that were born, and the orders that have to be executed instead.  Call often."""
        now = self._clock()
        yield from self._births_over(now)
        yield from self._listen()
        if self._line is not None and self._waiting and now - self._heard_at > IMPORT_PATIENCE_S:
            self._give_up("it takes too long to import")
        if self._start_at is not None and now >= self._start_at:
            self._begin()

    def _births_over(self, now: float) -> Iterator[Born | dict[str, Any]]:
        for birth in list(self._births):
            try:
                report = birth.control.recv(32)
            except BlockingIOError:
                if now < birth.deadline:
                    continue
                report = b""
                if birth.template == self.pid:
                    self._give_up("it does not fork")
            except OSError:
                report = b""
            self._births.remove(birth)
            if report:
                with contextlib.suppress(OSError):  # it died meanwhile, which we shall hear of
                    birth.control.send(GO)
                birth.control.close()
                yield Born(birth.order, int(report), birth.output)
            else:
                birth.give_up()
                yield birth.order

    def _listen(self) -> Iterator[dict[str, Any]]:
        while self._line is not None:
            try:
                data = self._line.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._drop_line()  # its end is reported by the kernel
                yield from self._take_waiting()
                return
            yield from self._hear(json.loads(data))

    def _hear(self, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
        self._heard_at = self._clock()
        if "unfit" in message:
            self._failures = MOST_FAILURES  # the next one would be no better
            self._give_up(message["unfit"])
            yield from self._take_waiting()
            return
        self._ready.add(message["ready"])
        if self._ready == self._layers:
            self._failures = 0
        due = [order for order in self._waiting if order["layer"] in self._ready]
        self._waiting = [order for order in self._waiting if order["layer"] not in self._ready]
        for order in due:
            if not self._order(order):
                yield order
        self._tell({"on": True})

    def _tell(self, message: dict[str, Any], descriptors: list[int] | None = None) -> bool:
        if self._line is None:
            return False
        try:
            socket.send_fds(self._line, [json.dumps(message).encode()], descriptors or [])
        except OSError:  # gone, or too much for one message
            return False
        return True

    def close(self) -> None:
        """End the template, and every part that is not born yet.  Nothing is asked of this nursery any more."""
        self._plan, self._start_at = None, None
        self._drop_line()
        if self.pid is not None:
            send_signal(self.pid, signal.SIGKILL)
        for birth in self._births:
            birth.give_up()
        self._births, self._waiting = [], []
