"""Where what is written goes: the files of the parts, bounded, and that of the guard.  Only the standard library."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LOG_BYTES = 4 * 1024 * 1024
EARLY_BYTES = 64 * 1024


class Log:
    """One child's log file, bounded: at most ``LOG_BYTES``, and the one before it."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._rotate()
        self._open()

    def write(self, data: bytes) -> None:
        """Append; a full disk must not stop the child that logs."""
        try:
            if self._size + len(data) > LOG_BYTES:
                self.close()
                self._rotate()
                self._open()
            self._size += os.write(self._fd, data)
        except OSError:
            pass

    def close(self) -> None:
        os.close(self._fd)

    def _rotate(self) -> None:
        with contextlib.suppress(OSError):
            self._path.replace(self._path.with_suffix(".log.1"))

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size


class OwnLog:
    """What the guard and the template have to say, kept until there is a file for it."""

    def __init__(self) -> None:
        self._early: bytes | None = b""

    def begin(self, fd: int) -> None:
        """Write to ``fd`` from now on; so does Python, should it end the guard with a traceback."""
        for number in (1, 2):
            os.dup2(fd, number)
        os.close(fd)
        early, self._early = self._early, None
        self.write(early or b"")

    def write(self, data: bytes) -> None:
        """Append; a full disk must not end the guard, and with it every part."""
        if self._early is not None:
            self._early = (self._early + data)[-EARLY_BYTES:]
            return
        with contextlib.suppress(OSError):
            os.write(2, data)

    def say(self, text: str) -> None:
        """Append a line."""
        self.write(f"{text}\n".encode())
