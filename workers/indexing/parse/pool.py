"""The parent's side: hands an open file to a warm child, waits with a clock in hand, believes nothing it sends back."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import structlog
from pydantic_core import from_json

from workers.errors import ParserCrashed
from workers.indexing.chunk import HEADINGS_ONLY_CHARS, ChunkOptions
from workers.indexing.parse import believe
from workers.indexing.parse.limits import Limits
from workers.indexing.values import Cut, Parsed

T = TypeVar("T")

log = structlog.get_logger()

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PREFIX = "upwell-parse-"
SPARE_AFTER_S = 0.2
"""How long an urgent file waits for a child: a small one takes milliseconds, and another child 0.3 s to start."""
CHILD = (sys.executable, "-P", "-m", "workers.indexing.parse.child")


class ParserPool:
    """Parses on up to ``children`` processes at once; safe to call from any thread.

    One more is started when all of them are busy for longer, as with the long documents of a backfill, and somebody
    waits for what was just saved; it ends when all of them have nothing to do.
    """

    def __init__(self, children: int, limits: Limits, *, command: Sequence[str] = CHILD) -> None:
        self._limits = limits
        self._command = tuple(command)
        self._children = children
        self._free = _Seats(children)
        self._spare = _Seats(1)
        self._closed = threading.Event()
        _sweep()
        threading.Thread(target=self._warm, name="parser-warm", daemon=True).start()

    def parse(self, fd: int, path: str) -> Parsed:
        """Parse the file open at ``fd``; of ``path`` only the name's ending matters.

        Raises:
            Permanent: it cannot be read, ever; the text says why.
            NotADocument: there is nothing to index.
            ParserCrashed: the child died, ran out of time or of memory.
        """
        return self._asked(fd, path, b"", believe.parsed)

    def cut(self, fd: int, path: str, options: ChunkOptions, *, urgent: bool = False) -> Cut:
        """Parse the file open at ``fd`` and cut it into pieces, with the words of each; ``urgent`` ones wait for none.

        Raises:
            As `parse`.
        """
        sizes = f"{options.target_chars} {options.max_chars} {options.min_chars}"
        most = 2 * max(options.max_chars, HEADINGS_ONLY_CHARS)  # a table's header, and a row that is longer with it
        return self._asked(fd, path, sizes.encode(), lambda answer: believe.cut(answer, most), urgent=urgent)

    def _asked(self, fd: int, path: str, sizes: bytes, believed: Callable[[Any], T], *, urgent: bool = False) -> T:
        seats, child = self._seat(urgent=urgent)
        try:
            if child is None or not child.alive():
                child = _Child(self._command, self._limits)
            answer = believed(child.ask(fd, path, sizes))
        except ParserCrashed:
            if child is not None:
                child.kill()
            child = None
            raise
        finally:
            if child is not None and child.worn_out():
                child.kill()
                child = None
            if self._closed.is_set() and child is not None:
                child.kill()
                child = None
            seats.put(child)
            if len(self._free) == self._children:
                self._end_spare()
        return answer

    def _seat(self, *, urgent: bool) -> tuple[_Seats, _Child | None]:
        """Return a child (None: one that is to be started), and where it goes afterwards."""
        if urgent:
            try:
                return self._free, self._free.take(urgent=True, timeout=SPARE_AFTER_S)
            except queue.Empty:
                return self._spare, self._spare.take()
        return self._free, self._free.take()

    def _end_spare(self) -> None:
        try:
            child = self._spare.take(timeout=0)
        except queue.Empty:
            return  # it is at work
        if child is not None:
            child.kill()
        self._spare.put(None)

    def close(self) -> None:
        """End every child."""
        self._closed.set()
        self._end_spare()
        for _ in range(len(self._free)):
            try:
                child = self._free.take(timeout=0)
            except queue.Empty:
                return
            if child is not None:
                child.kill()

    def _warm(self) -> None:
        """Have one child ready before the first file comes."""
        slot = self._free.take()
        if slot is None and not self._closed.is_set():
            try:
                slot = _Child(self._command, self._limits)
            except OSError as exc:
                log.warning("parser.not_started", error=type(exc).__name__)
        self._free.put(slot)


class _Seats:
    """Children that have nothing to do, the last one that had first; None: one that is to be started."""

    def __init__(self, seats: int) -> None:
        self._children: list[_Child | None] = [None] * seats
        self._changed = threading.Condition()
        self._urgent = 0

    def __len__(self) -> int:
        return len(self._children)

    def put(self, child: _Child | None) -> None:
        with self._changed:
            self._children.append(child)
            self._changed.notify_all()

    def take(self, *, urgent: bool = False, timeout: float | None = None) -> _Child | None:
        """Take a child when there is one; who is not urgent leaves it to who is.

        Raises:
            queue.Empty: there was none within ``timeout`` seconds.
        """
        with self._changed:
            self._urgent += urgent
            try:
                if not self._changed.wait_for(lambda: self._children and (urgent or not self._urgent), timeout):
                    raise queue.Empty
                return self._children.pop()
            finally:
                self._urgent -= urgent
                self._changed.notify_all()


class _Child:
    """One parser process in a session and a temporary directory of its own."""

    def __init__(self, command: tuple[str, ...], limits: Limits) -> None:
        self._limits = limits
        self._directory = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket = ours
        self._parsed = 0
        limit_words = [limits.memory_bytes, limits.cpu_s, limits.file_bytes, limits.open_files, limits.max_text_chars]
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(os.getpid()), *map(str, limit_words)],
                pass_fds=[theirs.fileno()],
                env=_environment(self._directory),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd=self._directory,
            )

    def alive(self) -> bool:
        return self._process.poll() is None

    def worn_out(self) -> bool:
        """Parsers leak: a child is replaced after many documents, or when it has grown."""
        if self._parsed >= self._limits.documents_per_child:
            return True
        try:
            with open(f"/proc/{self._process.pid}/statm") as statm:  # noqa: PTH123
                pages = int(statm.read().split()[1])
        except (OSError, ValueError, IndexError):
            return False
        return pages * PAGE_BYTES > self._limits.resident_bytes

    def ask(self, fd: int, path: str, sizes: bytes) -> Any:
        """Return what the child says of a file; ``sizes``, where it shall be cut: of pieces, in characters."""
        self._parsed += 1
        deadline = time.monotonic() + self._limits.wall_s
        name = os.path.basename(path)[-255:].encode("utf-8", "replace")  # noqa: PTH119
        asked = sizes + b"\0" + name
        try:
            socket.send_fds(self._socket, [struct.pack("!I", len(asked)) + asked], [fd])
            answer = _frame(self._socket, deadline, self._limits.output_bytes)
        except TimeoutError:
            self._crashed(f"Parsing it took longer than {self._limits.wall_s:g} s (UPWELL_PARSE_TIMEOUT)")
        except (OSError, ValueError, RecursionError):
            self._crashed(self._cause())
        finally:
            self._wipe()
        return answer

    def kill(self) -> None:
        """End the child and everything it started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._socket.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _cause(self) -> str:
        try:
            code = self._process.wait(2)
        except subprocess.TimeoutExpired:
            return "Its parser broke off"
        if code == -signal.SIGXCPU:
            return f"Parsing it took more than {self._limits.cpu_s} s of a processor"
        return f"Its parser ended with signal {-code}" if code < 0 else f"Its parser ended with code {code}"

    def _crashed(self, what: str) -> NoReturn:
        raise ParserCrashed(f"{what}.")

    def _wipe(self) -> None:
        for name in os.listdir(self._directory):  # noqa: PTH208
            shutil.rmtree(os.path.join(self._directory, name), ignore_errors=True)
            if os.path.lexists(path := os.path.join(self._directory, name)):
                os.unlink(path)  # noqa: PTH108


def _frame(channel: socket.socket, deadline: float, most: int) -> Any:
    """Read one answer: four bytes of length, then JSON.

    Raises:
        TimeoutError, OSError, ValueError, RecursionError: it did not come, broke off, or is no JSON.
        ParserCrashed: it is longer than ``most``.
    """
    (size,) = struct.unpack("!I", _receive(channel, 4, deadline))
    if size > most:
        raise ParserCrashed("It parses to more than can be handled.")
    answer = _receive(channel, size, deadline)
    try:
        return from_json(answer)
    except ValueError:  # half a character is cleaned like everything else, and only Python's own reader takes it
        return json.loads(answer)


def _receive(channel: socket.socket, size: int, deadline: float) -> bytearray:
    parts = bytearray()
    while len(parts) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        channel.settimeout(left)
        block = channel.recv(min(1 << 20, size - len(parts)))
        if not block:
            raise ConnectionError
        parts += block
    return parts


def _sweep() -> None:
    """Remove the temporary directories of pools whose process was killed."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = directory.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(directory, ignore_errors=True)


def _environment(directory: str) -> dict[str, str]:
    """No key and no address reaches a process that reads hostile files."""
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": directory,
        "TMPDIR": directory,
        "PYTHONHASHSEED": "0",
        "DO_NOT_TRACK": "1",
        "SCARF_NO_ANALYTICS": "1",
        "UNSTRUCTURED_DISABLE_NOTICE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
