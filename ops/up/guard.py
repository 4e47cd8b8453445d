"""The guard: parent of every child of `upwell up`, and the reason why none of them outlives it (ADR 0016).

It is run as a script by ``python -I -S`` and imports only the standard library, so that it is there in a blink and
weighs little.  The supervisor talks to it in lines of JSON over a socket pair:

    template {argv, env, layers}                 start the process that children can be forked from (see `nursery`)
    settle   {} + its log, the data directory's lock   before the first spawn; every child holds the lock as well
    spawn    {name, argv, env, log, stage, layer}  start a child in a session of its own; forked, if there is a layer
    end      {name, grace}                       stop one child (TERM, then KILL after ``grace`` seconds)
    stop     {graces}                            stop all, lowest stage first, each stage within its grace; then say
                                                 "stopped"
    kill     {}                                  the same without grace

and it answers with ``started {name, pid}``, ``exited {name, pid, code, last}``, ``line {name, line}`` (a warning that
a child logged) and ``stopped``.  End of file on the socket means that the supervisor is gone, however it went: the
guard stops everything as if it had been asked to.

On Linux the guard is a "child subreaper": what a dying child leaves behind becomes the guard's own, and is killed.
Its direct children ask the kernel to be killed when the guard dies.  Elsewhere only process groups are left to go by.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # -I leaves us out of the path; last, so that nothing of ours is taken for a module of Python's.
    sys.path.append(str(Path(__file__).parents[2]))

from ops.up.kernel import PR_SET_CHILD_SUBREAPER, begin_life, children_of, prctl, send_signal
from ops.up.nursery import Born, Nursery
from ops.up.output import Log, OwnLog

DEFAULT_GRACES = (2.5, 5.0, 1.5)
LINE_BYTES = 16 * 1024
OUTBOX_BYTES = 512 * 1024
ROOM_FOR_TITLES = 4096
WARNING_MARKS = (b'"level": "warning"', b'"level": "error"', b'"level": "critical"')


class Child:
    """A running child and the pipe that its output comes through."""

    def __init__(self, name: str, stage: int, pid: int, pipe: int, log: Log) -> None:
        self.name = name
        self.stage = stage
        self.pid = pid
        self.pipe = pipe
        self.log = log
        self.last: deque[str] = deque(maxlen=8)
        self.kill_at: float | None = None
        self.talking = True
        self._partial = b""

    def read(self) -> list[str]:
        """Take what the child has written and return the lines somebody should hear of."""
        loud: list[str] = []
        for _ in range(64):  # a chatterbox must not keep us from the others
            try:
                data = os.read(self.pipe, 65536)
            except OSError:
                return loud  # nothing more for now
            if not data:
                self.talking = False
                return loud
            self.log.write(data)
            *lines, self._partial = (self._partial + data).split(b"\n")
            self._partial = self._partial[-LINE_BYTES:]
            for line in lines:
                text = line[:LINE_BYTES].decode("utf-8", "replace").rstrip()
                if text:
                    self.last.append(text)
                if text.startswith("upwell: ") or any(mark in line for mark in WARNING_MARKS):
                    loud.append(text)
        return loud


class Guard:
    """The loop: commands in, signals in, output in; nothing here waits for anything else."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._received: list[int] = []  # descriptors that an order which has not been read yet came with
        self._children: dict[str, Child] = {}
        self._log = OwnLog()
        self._nursery = Nursery(self._start_template, say=self._log.say)
        self._template_says: int | None = None
        self._logs: dict[str, Log] = {}
        self._inbox = b""
        self._outbox = bytearray()
        self._supervised = True
        self._graces: list[float] | None = None  # set: we are stopping
        self._stage_ends: float | None = None

    def run(self) -> None:
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._begin_stop(DEFAULT_GRACES))
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        self._channel.setblocking(False)
        while True:
            self._select(wake_read)
            self._welcome()
            self._reap()
            if self._graces is not None and self._proceed_with_stop():
                return
            self._kill_the_overdue()

    # ------------------------------------------------------------------ input and output

    def _select(self, wake: int) -> None:
        pipes = {child.pipe: child for child in self._children.values() if child.talking}
        readable = [wake, *pipes, *self._nursery.fds()] + ([self._channel.fileno()] if self._supervised else [])
        readable += [] if self._template_says is None else [self._template_says]
        writable = [self._channel.fileno()] if self._outbox and self._supervised else []
        ready, writes, _ = select.select(readable, writable, [], self._timeout())
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
        for fd in ready:
            if fd in pipes:
                self._tell_lines(pipes[fd])
            elif fd == self._template_says:
                self._note_template()
        if self._supervised and self._channel.fileno() in ready:
            self._receive()
        if writes:
            self._flush()

    def _timeout(self) -> float | None:
        if self._graces is not None or any(child.kill_at for child in self._children.values()):
            return 0.05
        if self._nursery.busy:
            return 0.25
        return None if self._children else 5.0

    def _receive(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._channel, 1 << 20, 8)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        for fd in descriptors:
            os.set_inheritable(fd, False)  # given to children one by one
        self._received += descriptors
        if not data:
            self._supervised = False
            self._begin_stop(DEFAULT_GRACES)
            return
        *lines, self._inbox = (self._inbox + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        match order["op"]:
            case "template" if self._graces is None:
                self._nursery.plan(order)
            case "settle":
                log, *self._nursery.inherited = self._received
                self._received = []
                self._log.begin(log)
            case "spawn" if self._graces is None:
                self._spawn(order)
            case "end":
                if child := self._children.get(order["name"]):
                    self._end(child, order["grace"])
                elif unborn := self._nursery.find(order["name"]):
                    unborn["end"] = order["grace"]
            case "stop":
                self._begin_stop(order["graces"])
            case "kill":
                self._begin_stop(())

    def _tell(self, event: str, **fields: Any) -> None:
        if not self._supervised or (event == "line" and len(self._outbox) > OUTBOX_BYTES):
            return
        self._outbox += json.dumps({"ev": event, **fields}).encode() + b"\n"
        self._flush()

    def _tell_lines(self, child: Child) -> None:
        for line in child.read():
            self._tell("line", name=child.name, line=line)

    def _flush(self) -> None:
        try:
            while self._outbox:
                del self._outbox[: self._channel.send(self._outbox)]
        except BlockingIOError:
            return
        except OSError:
            self._outbox.clear()  # end of file will be read in a moment

    # ------------------------------------------------------------------ children

    def _spawn(self, order: dict[str, Any]) -> None:
        name = order["name"]
        if name in self._children or self._nursery.find(name) or self._nursery.take(order):
            return
        self._execute(order)

    def _execute(self, order: dict[str, Any]) -> None:
        read, write = os.pipe()
        os.set_blocking(read, False)
        pid = self._fork(order["argv"], order["env"], write, self._nursery.inherited)
        os.close(write)
        self._register(order, pid, read)

    def _fork(self, argv: list[str], env: dict[str, str], output: int, inherited: list[int]) -> int:
        guard = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(argv, env, output, parent=guard, inherited=inherited)
        return pid

    def _start_template(self, plan: dict[str, Any], line: int) -> int:
        argv = [*plan["argv"], str(os.getpid()), str(line), " " * ROOM_FOR_TITLES]
        self._forget_template()
        read, write = os.pipe()
        os.set_blocking(read, False)
        self._template_says = read
        try:
            return self._fork(argv, plan["env"], write, [line])
        finally:
            os.close(write)

    def _note_template(self) -> None:
        """Log what the template has written: why it cannot import something, say."""
        if self._template_says is None:
            return
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._template_says, 65536):
                self._log.write(data)
            self._forget_template()  # its end, and that of what it was forking

    def _forget_template(self) -> None:
        if self._template_says is not None:
            os.close(self._template_says)
        self._template_says = None

    def _welcome(self) -> None:
        """Take in the parts that the template has forked, and execute those that it has not."""
        for outcome in self._nursery.look():
            if isinstance(outcome, Born):
                self._register(outcome.order, outcome.pid, outcome.output)
            elif self._graces is None:
                self._execute(outcome)

    def _register(self, order: dict[str, Any], pid: int, output: int) -> None:
        name = order["name"]
        log = self._logs.get(name) or self._logs.setdefault(name, Log(order["log"]))
        child = self._children[name] = Child(name, order["stage"], pid, output, log)
        self._tell("started", name=name, pid=pid)
        if "end" in order:
            self._end(child, order["end"])

    def _end(self, child: Child, grace: float) -> None:
        send_signal(child.pid, signal.SIGTERM)
        child.kill_at = time.monotonic() + grace

    def _reap(self) -> None:
        gone = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            gone = True
            if pid == self._nursery.pid:
                self._lose_template()
                continue
            self._welcome()  # who has died may have reported a moment before
            child = next((child for child in self._children.values() if child.pid == pid), None)
            if child is not None:
                self._bury(child, os.waitstatus_to_exitcode(status))
        if gone:
            self._kill_strays()

    def _lose_template(self) -> None:
        self._note_template()
        for order in self._nursery.lost():
            if self._graces is None:
                self._execute(order)

    def _bury(self, child: Child, code: int) -> None:
        send_signal(child.pid, signal.SIGKILL, group=True)  # what it left in its group
        self._tell_lines(child)
        os.close(child.pipe)
        del self._children[child.name]
        self._tell("exited", name=child.name, pid=child.pid, code=code, last=list(child.last))

    def _kill_strays(self) -> bool:
        """Kill what dead children left behind; each death hands us the next generation.  True: there were some."""
        known = {child.pid for child in self._children.values()}
        if self._graces is None and self._nursery.pid is not None:
            known.add(self._nursery.pid)
        unborn = self._nursery.unborn_sessions()
        strays = [pid for pid in children_of(os.getpid(), outside=unborn) if pid not in known]
        for pid in strays:
            send_signal(pid, signal.SIGKILL)
        return bool(strays)

    def _kill_the_overdue(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if child.kill_at is not None and child.kill_at <= now:
                send_signal(child.pid, signal.SIGKILL, group=True)

    # ------------------------------------------------------------------ stopping

    def _begin_stop(self, graces: list[float] | tuple[float, ...]) -> None:
        self._nursery.close()
        if not graces:  # now, whatever is under way
            for child in self._children.values():
                child.kill_at = 0.0
            self._graces, self._stage_ends = [], None
        elif self._graces is None:
            self._graces = list(graces)

    def _proceed_with_stop(self) -> bool:
        """Take the next step of stopping; True when nothing is left."""
        if not self._children:
            if self._kill_strays():
                return False
            self._tell("stopped")
            return True
        now = time.monotonic()
        if self._stage_ends is None or all(child.kill_at is None for child in self._children.values()):
            stage = min(child.stage for child in self._children.values())
            grace = self._graces.pop(0) if self._graces else 0.5
            self._stage_ends = now + grace
            for child in self._children.values():
                if child.stage == stage and child.kill_at is None:
                    child.kill_at = self._stage_ends
                    send_signal(child.pid, signal.SIGTERM)
        return False


def _become(argv: list[str], env: dict[str, str], output: int, *, parent: int, inherited: list[int]) -> None:
    """Turn this fork into the child.  Never returns."""
    try:
        begin_life(output, parent=parent, inherited=inherited)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(argv[0], argv, env)  # noqa: S606 - no shell is meant
    except BaseException as exc:  # noqa: BLE001 - a fork must end here, whatever happened
        os.write(2, f"upwell: {argv[0]} cannot be started: {exc}\n".encode())
    os._exit(127)


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    Guard(channel).run()


if __name__ == "__main__":
    main()
