"""Watched folders: their names, and the marker that tells a folder from the empty place where it was mounted."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

MARKER = ".upwell-root"
_NAME = re.compile(r"^[\w][\w.@ -]{0,99}$")


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
    if not equals or Path(word).is_dir():
        name, path = "", word
    found = Path(path).expanduser()
    if not found.is_dir():
        raise RootError(f"There is no folder {path}. Make it, or name one that exists.")
    found = found.resolve()
    name = name or found.name or "root"
    if not _NAME.match(name) or name == "uploads":
        raise RootError(f"{name!r} cannot be the name of a source. Give it another one: NAME={path}.")
    return Root(name, found)


def read_marker(path: Path) -> str | None:
    """Return what the marker file says; None when there is none."""
    try:
        with os.fdopen(os.open(path / MARKER, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            return file.read(256).decode("ascii", "replace").strip() or None
    except OSError:
        return None


def place_marker(path: Path) -> str | None:
    """Put a marker into the folder, unless it has one; None when the folder cannot be written."""
    if (known := read_marker(path)) is not None:
        return known
    mark = uuid4().hex
    try:
        fd = os.open(path / MARKER, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    except FileExistsError:
        return read_marker(path)
    except OSError:
        return None
    with os.fdopen(fd, "w") as file:
        file.write(mark + "\n")
    return mark
