"""What an audit sees on disk: the same files that the watcher and the upload store would tell the ledger of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from producers import uploads
from producers.ignore import IgnoreRules
from producers.roots import MARKER, read_marker
from producers.scan import Scanned, look, walk
from workers.contract.intake import Observation


class Place(Protocol):
    """Where a source is, as the ledger says."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def root(self) -> str: ...
    @property
    def marker(self) -> str | None: ...


class SourceAway(OSError):
    """The root is not there, or not the one that was indexed: nothing in it can be believed."""


class FilesOnDisk:
    """Files by source.  Rules are read again for each listing."""

    def __init__(self) -> None:
        self._rules: dict[str, IgnoreRules] = {}

    def listed(self, home: Place, unreadable: list[str]) -> Iterator[Observation]:
        """Yield every file of a source; what cannot be looked at is added to ``unreadable``.

        Raises:
            SourceAway: the root is not there, or not the one that was indexed.
        """
        _check(home)
        root = Path(home.root)
        if home.kind == "uploads":
            yield from uploads.listed(root)
            return
        rules = self._rules[home.name] = IgnoreRules(root)
        scanned = Scanned()
        for found in walk(root, b"", rules, scanned):
            if found is not None:
                yield found.observation(home.name, touched=True, bulk=True)
        unreadable += scanned.unreadable
        _check(home)  # a disk that went away in the middle looks like many deletions

    def at(self, home: Place, raw_path: bytes, path: str) -> Observation | None:
        """Return what is at one place now; None: nothing.

        Raises:
            OSError: it cannot be told.
        """
        _check(home)
        root = Path(home.root)
        if home.kind == "uploads":
            return uploads.at(root, raw_path, path)
        rules = self._rules.setdefault(home.name, IgnoreRules(root))
        found = look(root, raw_path, rules)
        return None if found is None else found.observation(home.name, touched=True, bulk=True)


def _check(home: Place) -> None:
    if not os.path.isdir(home.root):
        raise SourceAway(
            f"There is no folder {home.root} on this machine. Mount it, or start the housekeeper where it is."
        )
    if home.marker is not None and read_marker(Path(home.root)) != home.marker:
        raise SourceAway(
            f"The folder {home.root} is not the one that was indexed: its marker {MARKER} is missing or another."
            " Is the disk mounted?"
        )
