"""Ends, or freezes, whoever goes through it at a chosen call: before it, after it, or with it on its way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal

Moment = Literal["before", "after", "on its way"]
WRITES = frozenset(
    {"put", "put_all", "restate", "restamp", "drop", "drop_document", "drop_documents", "put_vectors", "mark_refused"}
)


class Killed(BaseException):
    """The worker is gone, in the middle of what it did."""


class Fuse:
    """Stands between a worker and its ports."""

    def __init__(self) -> None:
        self._calls_left: int | None = None
        self._moment: Moment = "before"
        self._dead = False
        self._frozen: dict[int, _Frozen] = {}
        self._sleepers: list[_Frozen] = []
        self.late: list[Callable[[], Any]] = []
        """Writes that were sent by the dead and have not arrived yet."""

    @property
    def asleep(self) -> int:
        """How many stand still."""
        return len(self._sleepers)

    def wrap(self, port: Any) -> Any:
        """Return ``port`` with the fuse in front of every method."""
        return _Fused(port, self)

    def kill_at(self, calls: int, moment: Moment, work: Callable[[], Any]) -> bool:
        """Do ``work``, but die after so many calls; True when it came to that.

        The write that is "on its way" is the first one after so many calls.
        """
        self._calls_left, self._moment = calls, moment
        try:
            work()
        except Killed:
            return True
        finally:
            self._calls_left, self._dead = None, False
        return False

    def freeze_at(self, calls: int, work: Callable[[], Any]) -> None:
        """Begin ``work`` in a thread of its own and stop it before a call; returns when it stands still, or is done."""
        frozen = _Frozen(calls)

        def run() -> None:
            self._frozen[threading.get_ident()] = frozen
            try:
                work()
            except BaseException as exc:  # told by thaw
                frozen.error = exc
            finally:
                del self._frozen[threading.get_ident()]
                frozen.still.set()

        frozen.thread = threading.Thread(target=run, daemon=True)
        frozen.thread.start()
        frozen.still.wait()
        if frozen.thread.is_alive():
            self._sleepers.append(frozen)
        elif frozen.error is not None:
            raise frozen.error

    def thaw(self) -> None:
        """Let everybody who was frozen go on, one after another, to the end."""
        while self._sleepers:
            frozen = self._sleepers.pop(0)
            frozen.go.set()
            frozen.thread.join()
            if frozen.error is not None:
                raise frozen.error

    def land(self) -> None:
        """Let every late write arrive."""
        while self.late:
            write = self.late.pop(0)
            try:
                write()
            except Exception:
                pass  # refused by the server; nobody hears of it

    def passed(self, name: str, call: Callable[[], Any]) -> Any:
        """Let one call through, or not; for use by the wrapped ports."""
        if self._dead:
            raise Killed
        frozen = self._frozen.get(threading.get_ident())
        if frozen is not None:
            frozen.pass_one()
        if self._calls_left is None:
            return call()
        if self._calls_left > 0:
            self._calls_left -= 1
            return call()
        if self._moment == "on its way" and name not in WRITES:
            return call()  # only a write can arrive late: the next one
        self._calls_left, self._dead = None, True
        if self._moment == "on its way":
            self.late.append(call)
        elif self._moment == "after":
            call()
        raise Killed


class _Frozen:
    def __init__(self, calls: int) -> None:
        self.calls = calls
        self.still = threading.Event()
        self.go = threading.Event()
        self.error: BaseException | None = None
        self.thread: threading.Thread

    def pass_one(self) -> None:
        if self.calls == 0:
            self.still.set()
            self.go.wait()
        self.calls -= 1


class _Fused:
    def __init__(self, port: Any, fuse: Fuse) -> None:
        self._port = port
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return self._fuse.wrap(found) if hasattr(found, "__dict__") else found

        def call(*args: Any, **more: Any) -> Any:
            return self._fuse.passed(name, lambda: found(*args, **more))

        return call
