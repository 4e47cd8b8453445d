"""Looks at a folder, or at a part of it: one stat a file, nothing opened, nothing followed, no more kept than needed.

The tree is walked in the order in which the ledger lists its documents, so that `compare` can merge the two: a scan
keeps the names of the directories it is in, and nothing of what it has passed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from producers.ignore import IGNORE_FILE, IgnoreRules, Verdict, plain
from producers.roots import MARKER
from workers.contract.identity import normal_path
from workers.contract.intake import Observation, Stat
from workers.contract.sidecar import SUFFIX, mixed_mtime, sidecar_name

BREATH = 500  # entries between two interruptions of a listing


@dataclass(slots=True)
class Scanned:
    """What a scan has noticed besides files."""

    unreadable: list[str] = field(default_factory=list)  # what could not be looked at: not absent
    twins: list[str] = field(default_factory=list)  # second names that differ only in their Unicode form
    files: int = 0

    def unknown(self, path: str) -> bool:
        """Tell whether ``path`` lies where this scan could not look."""
        return any(not place or path == place or path.startswith(place + "/") for place in self.unreadable)


@dataclass(slots=True)
class Found:
    """Something that is no directory: where it is, what lstat says of it, and the rule that ignores it (None: none)."""

    path: str
    name: str  # relative, as the file system has it; bytes that are no UTF-8 are escaped as Python does
    size: int
    mtime_ns: int
    inode: int
    mode: int
    verdict: Verdict | None = None

    @property
    def raw(self) -> bytes:
        """The relative name in the file system's own bytes."""
        return os.fsencode(self.name)

    @property
    def refusal(self) -> str | None:
        """Why it is no document, for people; None: it is one."""
        if self.verdict is not None:
            return f"It is {self.verdict}."
        if stat.S_ISREG(self.mode):
            return None
        kind = "symbolic link" if stat.S_ISLNK(self.mode) else "special file (pipe, socket or device)"
        return f"It is a {kind}; these are never opened."

    def observation(self, source: str, *, touched: bool, bulk: bool) -> Observation:
        """Return what the ledger is told: a file, or why it is none of ours."""
        if (reason := self.refusal) is not None:
            return Observation(source, self.raw, None, absent_as="skipped", reason=reason, document_path=self.path)
        seen = Stat(self.size, self.mtime_ns, self.inode)
        return Observation(source, self.raw, seen, touched=touched, bulk=bulk, document_path=self.path)


def look(root: Path, raw: bytes, rules: IgnoreRules) -> Found | None:
    """Return what is at ``raw`` now; None: nothing, or a directory.

    Raises:
        OSError: it cannot be told what is there; that is no absence.
    """
    found = _lstat(os.fsencode(root), raw)
    if found is None or stat.S_ISDIR(found.st_mode):
        return None
    path = normal_path(raw)
    verdict = rules.explain(path)
    return Found(
        path,
        os.fsdecode(raw),
        found.st_size,
        mixed_mtime(found.st_mtime_ns, _beside(os.fsencode(root), raw)),
        found.st_ino,
        found.st_mode,
        verdict if verdict.ignored else None,
    )


def is_directory(root: Path, raw: bytes) -> bool:
    """Tell whether a real directory is at ``raw``.

    Raises:
        OSError: it cannot be told.
    """
    found = _lstat(os.fsencode(root), raw)
    return found is not None and stat.S_ISDIR(found.st_mode)


def _beside(base: bytes, raw: bytes) -> os.stat_result | None:
    """Return the stat of the sidecar of ``raw``; None: there is none."""
    try:
        found = os.lstat(os.path.join(base, sidecar_name(raw)))
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _lstat(base: bytes, raw: bytes) -> os.stat_result | None:
    """Return the stat of ``raw`` itself; None when nothing is there, or only by way of a link."""
    parents = raw.split(b"/")[:-1]
    try:
        for depth in range(1, len(parents) + 1):
            if stat.S_ISLNK(os.lstat(os.path.join(base, *parents[:depth])).st_mode):
                return None
        return os.lstat(os.path.join(base, raw))
    except (FileNotFoundError, NotADirectoryError):
        return None


@dataclass(slots=True)
class _Folder:
    """One directory of the walk; several, when their names differ only in Unicode form."""

    path: str
    names: list[str]


_Entry = tuple[str, str, Found | _Folder]  # sort key, name, what it is
_first = itemgetter(0)
_first_and_second = itemgetter(0, 1)


def walk(root: Path, below: bytes, rules: IgnoreRules, scanned: Scanned) -> Iterator[Found | None]:
    """Yield every file below ``below`` (b"" for the whole root), in the order of their paths' code points.

    Ignored directories, and files that our own rules ignore, are passed over.  Two names that are one in Unicode's
    composed form come one after the other.  None is yielded now and then while a large directory is listed.
    """
    base = os.fspath(root)
    top = _Folder(normal_path(below), [os.fsdecode(below)])
    levels = [iter((yield from _listed(base, top, rules, scanned)))]
    while levels:
        for _, _, entry in levels[-1]:
            if isinstance(entry, _Folder):
                levels.append(iter((yield from _listed(base, entry, rules, scanned))))
                break
            yield entry
        else:
            levels.pop()


def _listed(base: str, folder: _Folder, rules: IgnoreRules, scanned: Scanned) -> Generator[None, None, list[_Entry]]:
    """Return the entries of one directory, sorted so that the files below it come in the order of their paths."""
    listed: list[_Entry] = []
    folders: dict[str, _Folder] = {}
    sidecars: dict[str, os.stat_result] = {}
    prefix = folder.path + "/" if folder.path else ""
    ruled = rules.has_rules(folder.path)
    plainly = len(folder.names) == 1
    for within in folder.names:
        inside = within + "/" if within else ""
        for number, (name, seen) in enumerate(_entries(os.path.join(base, within), folder.path, scanned), 1):
            if name.isascii():
                shown = name
            else:
                shown, plainly = normal_path(os.fsencode(name)), False
            path = prefix + shown
            if seen is None:
                if shown in folders:
                    folders[shown].names.append(inside + name)
                elif not rules.explain_entry(path, is_dir=True).ignored:
                    folders[shown] = _Folder(path, [inside + name])
                continue
            verdict = None
            if ruled or not plain(shown):
                if shown.endswith(SUFFIX) and stat.S_ISREG(seen.st_mode):
                    sidecars[shown.removesuffix(SUFFIX)] = seen
                if shown.endswith(SUFFIX) or shown == IGNORE_FILE or path == MARKER:
                    continue
                found = rules.explain_entry(path, is_dir=False)
                if found.ignored and found.by_default:
                    continue
                verdict = found if found.ignored else None
            file = Found(path, inside + name, seen.st_size, seen.st_mtime_ns, seen.st_ino, seen.st_mode, verdict)
            listed.append((shown, file.name, file))
            if number % BREATH == 0:
                yield
        if sidecars:
            for shown, _, entry in listed:
                if shown in sidecars and isinstance(entry, Found):
                    entry.mtime_ns = mixed_mtime(entry.mtime_ns, sidecars[shown])
            sidecars.clear()
    scanned.files += len(listed)
    # Everything below the directory "a" comes after the file "a.txt", because "." sorts before "/".
    listed += [(shown + "/", "", found) for shown, found in folders.items()]
    # Without names that have several forms no two keys are the same.
    listed.sort(key=_first if plainly else _first_and_second)
    return listed


def _entries(folder: str, path: str, scanned: Scanned) -> Iterator[tuple[str, os.stat_result | None]]:
    """Yield names with what lstat says; None: a directory.

    The directory is held open, so that no link can take its place on the way, and each name is looked up in it and not
    from the root down.  A directory that breaks off in the middle (a network disk) is not empty.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as exc:
        if exc.errno != errno.ELOOP:
            scanned.unreadable.append(path)
        return
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield entry.name, None
                    continue
                try:
                    yield entry.name, entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError:
                    scanned.unreadable.append(normal_path(os.fsencode(f"{path}/{entry.name}" if path else entry.name)))
    except OSError:
        scanned.unreadable.append(path)
    finally:
        os.close(fd)
