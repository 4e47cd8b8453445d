"""Watched folders: their names, and how a folder is told from the empty place where it was mounted."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

MARKER = ".upwell-root"
_NAME = re.compile(r"^[\w][\w.@ -]{0,99}$")

# Changes that other machines make on such a file system send no events here.
REMOTE = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "vboxsf", "prl_fs", "afs", "ceph", "glusterfs",
        "lustre", "fakeowner", "drvfs", "fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.glusterfs", "fuse.grpcfuse",
        "fuse.osxfs", "fuse.vmhgfs-fuse", "fuse.juicefs",
    }
)  # fmt: skip


class RootError(ValueError):
    """A folder cannot be watched; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Root:
    """A watched folder: the source's name, and where it is (absolute)."""

    name: str
    path: Path


def parse_roots(words: Sequence[str]) -> list[Root]:
    """Return the roots named by ``PATH`` or ``NAME=PATH``.

    Raises:
        RootError: no such folder, two of one name, or one inside another.
    """
    roots = [_parse(word) for word in words]
    for number, root in enumerate(roots):
        for other in roots[:number]:
            if root.name == other.name:
                raise RootError(
                    f"Two folders would be called {root.name!r}: {other.path} and {root.path}."
                    " Name one of them: NAME=PATH."
                )
            if root.path.is_relative_to(other.path) or other.path.is_relative_to(root.path):
                raise RootError(f"{root.path} and {other.path} lie in one another. Watch the outer one only.")
    return roots


def _parse(word: str) -> Root:
    name, equals, path = word.partition("=")
    try:
        if not equals or Path(word).is_dir():
            name, path = "", word
        if not path:  # an unset variable of the shell, and not the folder that one happens to be in
            raise RootError("The name of a folder is empty. Name one that exists; the one you are in is '.'.")
        found = Path(path).expanduser()
        if not found.is_dir():
            if found.exists():
                raise RootError(f"{path} is no folder. Name the folder that it is in.")
            raise RootError(f"There is no folder {path}. Make it, or name one that exists.")
        found = found.resolve()
    except OSError as exc:
        raise RootError(f"The folder {path} cannot be looked at ({exc.strerror}). Mend that, or name another.") from exc
    except RuntimeError as exc:  # ~somebody, and nobody is called so
        raise RootError(f"The folder {path} cannot be found: {exc}") from exc
    name = name or found.name or "root"
    if not _NAME.match(name) or name == "uploads":
        raise RootError(f"{name!r} cannot be the name of a source. Give it another one: NAME={path}.")
    return Root(name, found)


def read_marker(path: Path) -> str | None:
    """Return what the marker file says; None when there is none."""
    try:
        with os.fdopen(os.open(path / MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            return file.read(64).decode("ascii", "replace").strip() or None
    except OSError:
        return None


def place_marker(path: Path) -> str | None:
    """Put a marker into the folder, unless it has one; None when the folder cannot be written.

    It appears whole or not at all: of two watchers that start together, the later one reads what the first one wrote.
    """
    if (known := read_marker(path)) is not None:
        return known
    mark = uuid4().hex
    draft = path / f"{MARKER}.{mark}"
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644), "w") as file:
            file.write(mark + "\n")
            file.flush()
            os.fsync(file.fileno())
        _link(draft, path / MARKER)
    except OSError:
        return read_marker(path)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    return mark


def _link(draft: Path, marker: Path) -> None:
    """Give the draft its name unless that is taken (by another watcher, or by an empty left-over)."""
    try:
        os.link(draft, marker)
    except FileExistsError:
        if read_marker(marker.parent) is not None:
            raise
        draft.replace(marker)
    except OSError:  # a file system without hard links
        draft.rename(marker)


def touch_marker(path: Path) -> bool:
    """Renew the marker's time, which sends an event and changes nothing else; False when that is not possible."""
    try:
        os.utime(path / MARKER, follow_symlinks=False)
    except OSError:
        return False
    return True


REMEDY = "Nothing is deleted. Mount the disk again; if the folder starts anew, give it another name: NAME=PATH."


@dataclass(frozen=True, slots=True)
class Place:
    """What a path leads to: another file system mounted there, or a folder made anew, is another place."""

    device: int
    inode: int


def place_of(path: Path) -> Place | None:
    """Return the place that ``path`` leads to; None: no directory."""
    try:
        found = os.stat(f"{path}/.")  # noqa: PTH116 - pathlib drops the dot, which asks: may it be entered?
    except OSError:
        return None
    return Place(found.st_dev, found.st_ino)


@dataclass(frozen=True, slots=True)
class Identity:
    """How the folder that was indexed is known again: by its marker, or where none can be placed, by its place."""

    marker: str | None
    place: Place | None

    def problem(self, path: Path) -> str | None:
        """Return, for people, why what is at ``path`` is not that folder; None: it is."""
        now = place_of(path)
        if now is None:
            return f"The folder {path} is not there or cannot be opened. {REMEDY}"
        if self.marker is not None:
            if read_marker(path) == self.marker:
                return None
            return (
                f"The folder {path} is not the one that was indexed: its marker {MARKER} is missing or another."
                f" {REMEDY} If it is the right one after all: echo {self.marker} > {path / MARKER}"
            )
        if now == self.place:
            return None
        return (
            f"The folder {path} is not the one that was indexed: another disk or folder has taken its place. {REMEDY}"
        )


def remote_type(path: Path, mounts: str = "/proc/self/mountinfo") -> str | None:
    """Return the type of the remote file system that ``path`` is on, or that is mounted below it; None: all local."""
    try:
        lines = Path(mounts).read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    at, found = Path("/"), None
    below: str | None = None
    for line in lines:
        mounted, _, kind = line.partition(" - ")
        fields = mounted.split(" ")
        if len(fields) < 5:
            continue
        point = Path(_unescaped(fields[4]))
        kind = kind.split(" ")[0]
        if path.is_relative_to(point) and point.is_relative_to(at):
            at, found = point, kind  # the innermost mount, and of several at one point the last
        elif point.is_relative_to(path) and kind in REMOTE:
            below = kind
    return found if found in REMOTE else below


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
