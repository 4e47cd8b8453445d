"""The template: a process that imports what parts of `upwell up` have in common, and forks them (ADR 0047).

It is the guard's child, imports layer after layer, and does nothing else: no settings, no logging, no connection, no
thread, because a fork would have them as well, in a state that nobody knows.  What it forks becomes the guard's child
(the kernel gives orphans to the nearest subreaper) and goes on as if it had been executed: environment, arguments,
session, output and command line are its own.  The line to the guard is described in `nursery`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.up.kernel import begin_life, end_with, show_as
from ops.up.nursery import GO

ORDER_BYTES = 1 << 20
MOST_DESCRIPTORS = 8


@dataclass(frozen=True, slots=True)
class Order:
    """A part to fork: ``argv`` is its command, ``python … -m MODULE WORD…``."""

    argv: list[str]
    env: dict[str, str]
    output: int
    control: int
    inherited: list[int]
    """Descriptors that the part passes on to its own children."""


class Template:
    """Imports, and forks on order."""

    def __init__(self, line: socket.socket, guard: int) -> None:
        self._line = line
        self._guard = guard

    def serve(self) -> Order | None:
        """Serve until the guard is gone (None); in a fork: return what it is to be."""
        message, _ = self._receive()
        for layer, modules in message["layers"] if message else ():
            for module in modules:
                importlib.import_module(module)
            if (tasks := len(list(Path("/proc/self/task").iterdir()))) != 1:
                # A fork has none of the other threads, but all the locks that they hold.
                self._tell({"unfit": f"{tasks - 1} threads run after its imports ({layer})"})
                return None
            gc.freeze()  # so that no collection writes to what the forks share
            self._tell({"ready": layer})
            if order := self._fork_until_told_to_go_on():
                return order
        return self._fork_until_told_to_go_on()  # which is never

    def _fork_until_told_to_go_on(self) -> Order | None:
        while True:
            message, descriptors = self._receive()
            if not message:
                raise SystemExit(0)  # the guard is gone, or wants no template any more
            if "on" in message:
                return None
            output, control, *inherited = descriptors
            order = Order(message["argv"], message["env"], output, control, inherited)
            if self._forked(order):
                return order
            for fd in descriptors:
                os.close(fd)

    def _forked(self, order: Order) -> bool:
        """Fork twice; True in the grandchild, which is the guard's child by then and known to it."""
        try:
            between = os.fork()
        except OSError:
            return False  # the guard sees its line closed, and tries for itself
        if between:
            os.waitpid(between, 0)
            return False
        between = os.getpid()
        try:
            if os.fork():
                os._exit(0)
            self._come_to_the_guard(order, between)
        except BaseException:  # noqa: BLE001 - neither of the forks may go on as a second template
            os._exit(1)
        return True

    def _come_to_the_guard(self, order: Order, between: int) -> None:
        self._line.close()
        while os.getppid() == between:
            time.sleep(0.0005)
        end_with(self._guard)
        with socket.socket(fileno=order.control) as control:
            control.send(str(os.getpid()).encode())
            if control.recv(len(GO)) != GO:
                os._exit(1)  # the guard did not wait for us
        begin_life(order.output, parent=self._guard, inherited=order.inherited)

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        """Return the next message and its descriptors; an empty one when there are no more."""
        data, descriptors, _, _ = socket.recv_fds(self._line, ORDER_BYTES, MOST_DESCRIPTORS)
        return (json.loads(data) if data else {}), descriptors

    def _tell(self, message: dict[str, Any]) -> None:
        self._line.send(json.dumps(message).encode())


def be(order: Order) -> None:
    """Be the part that was ordered, as if this process had been executed as that."""
    gc.enable()
    locale = {name: os.environ[name] for name in ("LC_CTYPE",) if name in os.environ}  # Python's own word (PEP 538)
    os.environ.clear()
    os.environ.update(locale | order.env)
    show_as(order.argv)
    at = order.argv.index("-m")
    sys.orig_argv[:] = order.argv
    sys.argv[:] = order.argv[at + 1 :]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def main() -> None:
    guard, line = (int(word) for word in sys.argv[1:-1])  # the last word is room for titles
    show_as(sys.orig_argv[:4])
    gc.disable()  # a collection during the imports leaves holes, which forks would fill, each for itself
    with socket.socket(fileno=line) as channel:
        order = Template(channel, guard).serve()
    if order is not None:
        be(order)  # outside of everything: what ends a part must meet no code of ours on its way


if __name__ == "__main__":
    main()
