"""Looks at a folder, or at a part of it: one stat a file, nothing opened, nothing followed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from producers.ignore import IGNORE_FILE, IgnoreRules, Verdict
from producers.roots import MARKER
from workers.contract.identity import normal_path
from workers.contract.intake import Observation, Stat


@dataclass(slots=True)
class Scanned:
    """What a scan has seen of its part of the tree."""

    present: set[str] = field(default_factory=set)  # document paths, ignored and special ones included
    unreadable: list[str] = field(default_factory=list)  # directories that could not be listed: not absent
    files: int = 0


def look(source: str, root: Path, raw: bytes, rules: IgnoreRules, *, touched: bool, bulk: bool) -> Observation | None:
    """Return what is at ``raw`` now: a file, a special file, an ignored one; None: nothing, or a directory.

    Raises:
        OSError: it cannot be told what is there; that is no absence.
    """
    try:
        found = os.lstat(os.path.join(os.fsencode(root), raw))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(found.st_mode):
        return None
    return _observation(source, raw, found, rules.explain(normal_path(raw)), touched=touched, bulk=bulk)


def walk(
    source: str, root: Path, below: bytes, rules: IgnoreRules, scanned: Scanned, *, bulk: bool
) -> Iterator[Observation]:
    """Yield an observation for every file below ``below`` (b"" for the whole root), directory by directory."""
    base = os.fsencode(root)
    pending = [below]
    names: dict[str, bytes] = {}
    while pending:
        folder = pending.pop()
        try:
            entries = os.scandir(os.path.join(base, folder) if folder else base)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            scanned.unreadable.append(normal_path(folder))
            continue
        with entries:
            for entry in _careful(entries, scanned, folder):
                raw = folder + b"/" + entry.name if folder else entry.name
                path = normal_path(raw)
                is_dir = entry.is_dir(follow_symlinks=False)
                if path in (MARKER, IGNORE_FILE) or path.endswith("/" + IGNORE_FILE):
                    continue
                verdict = rules.explain_entry(path, is_dir=is_dir)
                if is_dir:
                    if not verdict.ignored:
                        pending.append(raw)
                    continue
                if verdict.ignored and verdict.by_default:
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError:
                    scanned.unreadable.append(path)
                    continue
                scanned.files += 1
                if names.setdefault(path, raw) != raw:
                    continue  # a second raw name with the same Unicode name: the first one found stays the document
                scanned.present.add(path)
                seen = _observation(source, raw, found, verdict, touched=False, bulk=bulk)
                if seen is not None:
                    yield seen


def _careful(entries: Iterator[os.DirEntry[bytes]], scanned: Scanned, folder: bytes) -> Iterator[os.DirEntry[bytes]]:
    """A directory that breaks off in the middle (a network disk) is unreadable, not empty."""
    while True:
        try:
            yield next(entries)
        except StopIteration:
            return
        except OSError:
            scanned.unreadable.append(normal_path(folder))
            return


def _observation(
    source: str, raw: bytes, found: os.stat_result, verdict: Verdict, *, touched: bool, bulk: bool
) -> Observation | None:
    if verdict.ignored:
        return Observation(source, raw, None, absent_as="skipped", reason=f"It is {verdict}.")
    if not stat.S_ISREG(found.st_mode):
        kind = "symbolic link" if stat.S_ISLNK(found.st_mode) else "special file (pipe, socket or device)"
        return Observation(source, raw, None, absent_as="skipped", reason=f"It is a {kind}; these are never opened.")
    seen = Stat(found.st_size, found.st_mtime_ns, found.st_ino)
    return Observation(source, raw, seen, touched=touched, bulk=bulk)
