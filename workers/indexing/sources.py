"""Reads what is at a path *now*, without ever following a link out of the root."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from workers.contract.sidecar import sidecar_name
from workers.errors import SourceUnavailable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO that took the file's place must not hang us.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

MARKER = b".upwell-root"
LONGEST_SIDECAR = 64 << 10


@dataclass(frozen=True, slots=True)
class Look:
    """What tells one state of a file from the next.  ctime cannot be set back, so a rewrite always shows."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sidecar: tuple[int, int, int, int] | None = None  # the same four of the metadata beside it


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A regular file, open for reading, and what its sidecar says (None: there is none)."""

    fd: int
    look: Look
    sidecar: bytes | None = None

    def digest(self) -> str:
        """Return the sha256 of the bytes, and of the sidecar's; the file position is at the start again afterwards."""
        state = hashlib.sha256()
        os.lseek(self.fd, 0, os.SEEK_SET)
        while block := os.read(self.fd, 1 << 20):
            state.update(block)
        os.lseek(self.fd, 0, os.SEEK_SET)
        if self.sidecar is not None:
            state.update(b"\0sidecar\0" + self.sidecar)
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
    opened: tuple[int, _Sidecar | None] | None = None
    try:
        opened = _open_below(root, raw_path, marker)
        if opened is None:
            yield None
            return
        fd, beside = opened
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            yield None
            return
        yield OpenFile(fd, _look(found, beside), beside.data if beside else None)
    finally:
        if opened is not None:
            os.close(opened[0])


def look_again(root: str | None, raw_path: bytes) -> Look | None:
    """Return what is at the path now, or None: the second look before an attempt leaves."""
    with open_document(root, raw_path) as file:
        return file.look if file else None


@dataclass(frozen=True, slots=True)
class _Sidecar:
    data: bytes
    seen: os.stat_result


def _open_below(root: str, raw_path: bytes, marker: str | None) -> tuple[int, _Sidecar | None] | None:
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
        beside = _read_sidecar(directory, name)  # before the file: a second look sees both
        return os.open(name, _FILE, dir_fd=directory), beside
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


def _read_sidecar(directory: int, name: bytes) -> _Sidecar | None:
    """Return the metadata beside a file; what is no small regular file is none.  Too large: read as broken."""
    try:
        fd = os.open(sidecar_name(name), _FILE, dir_fd=directory)
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG):
            return None
        raise
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            return None
        return _Sidecar(os.read(fd, LONGEST_SIDECAR) if seen.st_size <= LONGEST_SIDECAR else b"", seen)
    finally:
        os.close(fd)


def _look(found: os.stat_result, beside: _Sidecar | None) -> Look:
    sidecar = None
    if beside is not None:
        seen = beside.seen
        sidecar = (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)
    return Look(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, sidecar)


def _name(exc: OSError) -> str:
    return errno.errorcode.get(exc.errno or 0, "error")
