"""Reads what is at a path *now*, without ever following a link out of the root."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from workers.errors import SourceUnavailable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO that took the file's place must not hang us.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

MARKER = b".upwell-root"


@dataclass(frozen=True, slots=True)
class Look:
    """What tells one state of a file from the next.  ctime cannot be set back, so a rewrite always shows."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A regular file, open for reading."""

    fd: int
    look: Look

    def digest(self) -> str:
        """Return the sha256 of the bytes; the file position is at the start again afterwards."""
        state = hashlib.sha256()
        os.lseek(self.fd, 0, os.SEEK_SET)
        while block := os.read(self.fd, 1 << 20):
            state.update(block)
        os.lseek(self.fd, 0, os.SEEK_SET)
        return state.hexdigest()


@contextmanager
def open_document(root: str | None, raw_path: bytes, marker: str | None = None) -> Iterator[OpenFile | None]:
    """Open the file at ``raw_path`` below ``root``; None when nothing (that can be indexed) is there.

    Each directory on the way is opened by itself without following links, so a link swapped in between check and use
    leads nowhere.

    Raises:
        SourceUnavailable: it cannot be told what is there (permission, I/O error, root or its marker missing).
    """
    if root is None:
        raise SourceUnavailable("Its source is not known any more. Start the watcher of that folder again.")
    fd: int | None = None
    try:
        fd = _open_below(root, raw_path, marker)
        if fd is None:
            yield None
            return
        found = os.fstat(fd)
        yield OpenFile(fd, _look(found)) if stat.S_ISREG(found.st_mode) else None
    finally:
        if fd is not None:
            os.close(fd)


def look_again(root: str | None, raw_path: bytes) -> Look | None:
    """Return what is at the path now, or None: the second look before an attempt leaves."""
    with open_document(root, raw_path) as file:
        return file.look if file else None


def _open_below(root: str, raw_path: bytes, marker: str | None) -> int | None:
    try:
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise SourceUnavailable(
            f"The folder {root} cannot be opened ({_name(exc)}). Mount it or make it again."
        ) from exc
    try:
        if marker is not None and not _has_marker(directory, marker):
            raise SourceUnavailable(
                f"The folder {root} is not the one that was indexed: its marker .upwell-root is missing or another."
                " Is the disk mounted?"
            )
        *parents, name = raw_path.split(b"/")
        for parent in parents:
            below = os.open(parent, _DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = below
        return os.open(name, _FILE, dir_fd=directory)
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            return None
        raise SourceUnavailable(f"It cannot be read ({_name(exc)}). Check its permissions and its disk.") from exc
    finally:
        os.close(directory)


def _has_marker(directory: int, marker: str) -> bool:
    try:
        fd = os.open(MARKER, _FILE, dir_fd=directory)
    except OSError:
        return False
    try:
        return os.read(fd, 256).decode("ascii", "replace").strip() == marker
    finally:
        os.close(fd)


def _look(found: os.stat_result) -> Look:
    return Look(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _name(exc: OSError) -> str:
    return errno.errorcode.get(exc.errno or 0, "error")
