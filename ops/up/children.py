"""The supervisor's end of the line to the guard: start children, stop them, hear what became of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.up.guard import DEFAULT_GRACES
from ops.up.kernel import PR_SET_CHILD_SUBREAPER, children_of, prctl, send_signal

BROWSER_MARK = "UPWELL_BROWSER"


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the stack.  Lower stages are stopped first; ``port`` is what it listens on, if anything.

    ``layer`` is what the template must have imported before this part can be forked from it; None: it is no Python.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    stage: int
    port: int | None = None
    layer: str | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """The process that parts are forked from: its command, and what it imports, as (name of the layer, modules)."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    layers: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Started:
    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class Exited:
    """``code`` is negative for a signal; ``last`` are the last lines that the child wrote."""

    name: str
    pid: int
    code: int
    last: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """A child logged a warning, or something worse."""

    name: str
    line: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """Nothing runs any more."""


@dataclass(frozen=True, slots=True)
class GuardDied:
    """Somebody killed the guard, and with it every child."""


Event = Started | Exited | Said | Stopped | GuardDied


@dataclass(frozen=True, slots=True)
class _Place:
    """Where children write, and the lock that they all hold while they live."""

    logs: Path
    lock_fd: int


class Children:
    """Starts and stops processes through a guard, which is started anew should it be killed.

    Guard and template are there at once.  Before anything else is started, `settle` says where.
    """

    def __init__(self, template: Template | None = None) -> None:
        self._template = template
        self._place: _Place | None = None
        self._partial = b""
        prctl(PR_SET_CHILD_SUBREAPER, 1)  # what a killed guard leaves behind comes to us
        self._start_guard()

    def settle(self, logs: Path, lock_fd: int) -> None:
        """Have everything that is started from now on log to ``logs`` and hold the data directory's lock."""
        self._place = _Place(logs, lock_fd)
        self._tell_place(self._place)

    def _tell_place(self, place: _Place) -> None:
        with (place.logs / "guard.log").open("ab") as log:
            self._send({"op": "settle"}, [log.fileno(), place.lock_fd])

    def fileno(self) -> int:
        """For select: readable means that ``events`` has something."""
        return self._channel.fileno()

    def spawn(self, part: Part) -> None:
        assert self._place is not None, "settle comes first"
        self._send(
            {
                "op": "spawn",
                "name": part.name,
                "argv": list(part.argv),
                "env": dict(part.env),
                "stage": part.stage,
                "log": str(self._place.logs / f"{part.name}.log"),
                "layer": part.layer,
            }
        )

    def end(self, name: str, grace: float = 3.0) -> None:
        """Stop one child."""
        self._send({"op": "end", "name": name, "grace": grace})

    def stop(self, graces: Sequence[float] = DEFAULT_GRACES) -> None:
        """Stop everything in order; ``Stopped`` follows."""
        self._send({"op": "stop", "graces": list(graces)})

    def kill(self) -> None:
        """Stop everything now; ``Stopped`` follows."""
        self._send({"op": "kill"})

    def events(self) -> list[Event]:
        """Return what happened; call when ``fileno`` is readable."""
        try:
            data = self._channel.recv(1 << 20)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            return [GuardDied()]
        *lines, self._partial = (self._partial + data).split(b"\n")
        return [_event(json.loads(line)) for line in lines]

    def revive(self) -> None:
        """Kill what a dead guard left behind and start another one."""
        self.close()
        self._kill_descendants()
        self._start_guard()

    def close(self) -> None:
        """Hang up; a guard that is still there takes it as the order to stop everything."""
        self._channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(timeout=15)

    def _start_guard(self) -> None:
        ours, theirs = socket.socketpair()
        script = str(Path(__file__).with_name("guard.py"))
        with theirs:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", script, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the supervisor, which stops things in order
            )
        ours.setblocking(False)
        self._channel = ours
        self._partial = b""
        if (template := self._template) is not None:
            plan = {"argv": template.argv, "env": dict(template.env), "layers": template.layers}
            self._send({"op": "template"} | plan)
        if self._place is not None:
            self._tell_place(self._place)

    def _send(self, order: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        data = json.dumps(order).encode() + b"\n"
        try:
            self._channel.setblocking(True)
            if descriptors:  # with the first byte of the order; what does not fit follows
                data = data[socket.send_fds(self._channel, [data], descriptors) :]
            self._channel.sendall(data)
        except OSError:
            pass  # the guard is gone: ``events`` says so next
        finally:
            with contextlib.suppress(OSError):
                self._channel.setblocking(False)

    def _kill_descendants(self) -> None:
        """The guard's children died with it; theirs are ours now.  A browser that we opened is left alone."""
        for _ in range(100):
            strays = [pid for pid in children_of(os.getpid()) if not _is_browser(pid)]
            if not strays:
                break
            for pid in strays:
                send_signal(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # those that died with the guard are ours as well
                pass


def _is_browser(pid: int) -> bool:
    try:
        return f"{BROWSER_MARK}=".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def _event(raw: dict[str, Any]) -> Event:
    match raw["ev"]:
        case "started":
            return Started(raw["name"], raw["pid"])
        case "exited":
            return Exited(raw["name"], raw["pid"], raw["code"], tuple(raw["last"]))
        case "line":
            return Said(raw["name"], raw["line"])
        case _:
            return Stopped()
