"""An audit's notes on files and points, on disk: they come in any order, and are read in the order of documents.

A point takes about 70 bytes of disk; memory stays the same whatever the number (ADR 0021).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from uuid import UUID

from workers.contract.intake import Stat
from workers.housekeeping.findings import SeenPoint

CACHE_KB = 16_384

_TABLES = """
CREATE TABLE points (doc BLOB, place INTEGER, id BLOB, token INTEGER, version BLOB, flags INTEGER,
                     PRIMARY KEY (doc, place, id)) WITHOUT ROWID;
CREATE TABLE bare (doc BLOB, id BLOB, PRIMARY KEY (doc, id)) WITHOUT ROWID;
CREATE TABLE files (doc BLOB, raw BLOB, source TEXT, path TEXT, size INTEGER, mtime_ns INTEGER, inode INTEGER,
                    PRIMARY KEY (doc, raw)) WITHOUT ROWID;
CREATE TABLE suspects (doc BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE repaired (doc BLOB PRIMARY KEY) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class NotedFile:
    """A file as it was listed."""

    source: str
    raw_path: bytes
    path: str
    stat: Stat


class Notebook:
    """Closed, it is gone."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = TemporaryDirectory(prefix="audit-", dir=parent)
        self._db = sqlite3.connect(Path(self._directory.name) / "notes.db", isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KB}", "temp_store=FILE"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_TABLES)

    def __enter__(self) -> Notebook:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._db.close()
        self._directory.cleanup()

    # ------------------------------------------------------------------ noting

    def note_points(self, points: Iterable[SeenPoint]) -> None:
        """Note one page of points; seeing one twice (it moved in the listing) is the same as once."""
        rows = [
            (_key(p.document_id), p.index, _key(p.id), p.token, p.version, p.embedded + 2 * p.refused) for p in points
        ]
        self._many("INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?, ?)", sorted(rows))

    def note_bare(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Note (document id, point id) of points that say they are embedded and have no vector."""
        self._many("INSERT OR IGNORE INTO bare VALUES (?, ?)", [(_key(doc), _key(point)) for doc, point in pairs])

    def note_files(self, source: str, files: Iterable[tuple[str, bytes, str, Stat]]) -> None:
        """Note (document id, raw path, path, stat) of files of one source."""
        rows = [(_key(doc), raw, source, path, st.size, st.mtime_ns, _signed(st.inode)) for doc, raw, path, st in files]
        self._many("INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def suspect(self, document_ids: Iterable[str]) -> None:
        """Note documents that are to be looked at once more."""
        self._many("INSERT OR IGNORE INTO suspects VALUES (?)", [(_key(doc),) for doc in document_ids])

    def repaired(self, document_ids: Iterable[str]) -> None:
        """Note documents about which something has been done."""
        self._many("INSERT OR IGNORE INTO repaired VALUES (?)", [(_key(doc),) for doc in document_ids])

    # ------------------------------------------------------------------ reading

    def points(self) -> Iterator[tuple[str, Iterator[SeenPoint]]]:
        """Yield (document id, its points by chunk index), in the order of ids.  Read each group before the next."""
        rows = self._db.execute("SELECT doc, place, id, token, version, flags FROM points ORDER BY doc, place, id")
        for doc, group in groupby(rows, key=itemgetter(0)):
            name = str(UUID(bytes=doc))
            yield (
                name,
                (SeenPoint(str(UUID(bytes=r[2])), name, r[1], r[3], r[4], bool(r[5] & 1), r[5] > 1) for r in group),
            )

    def bare(self) -> Iterator[tuple[str, int]]:
        """Yield (document id, number of its points that have no vector though they say so), in the order of ids."""
        for doc, count in self._db.execute("SELECT doc, count(*) FROM bare GROUP BY doc ORDER BY doc"):
            yield str(UUID(bytes=doc)), count

    def files(self) -> Iterator[tuple[str, list[tuple[bytes, Stat]]]]:
        """Yield (document id, the files that have this id: one, or names that differ only in Unicode form)."""
        rows = self._db.execute("SELECT doc, raw, size, mtime_ns, inode FROM files ORDER BY doc, raw")
        for doc, group in groupby(rows, key=itemgetter(0)):
            yield str(UUID(bytes=doc)), [(r[1], Stat(r[2], r[3], _unsigned(r[4]))) for r in group]

    def file(self, document_id: str) -> NotedFile | None:
        """Return a noted file; None when there was none."""
        query = "SELECT source, raw, path, size, mtime_ns, inode FROM files WHERE doc = ? ORDER BY raw LIMIT 1"
        row = self._db.execute(query, (_key(document_id),)).fetchone()
        return None if row is None else NotedFile(row[0], row[1], row[2], Stat(row[3], row[4], _unsigned(row[5])))

    def suspects(self, size: int) -> Iterator[list[str]]:
        """Yield the suspects in slices."""
        return self._slices("suspects", size)

    def repairs(self, size: int) -> Iterator[list[str]]:
        """Yield the repaired documents in slices."""
        return self._slices("repaired", size)

    def _slices(self, table: str, size: int) -> Iterator[list[str]]:
        after = b""
        while rows := self._db.execute(
            f"SELECT doc FROM {table} WHERE doc > ? ORDER BY doc LIMIT ?",  # noqa: S608 - one of our own two names
            (after, size),
        ).fetchall():
            after = rows[-1][0]
            yield [str(UUID(bytes=row[0])) for row in rows]

    def _many(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany(statement, rows)
        self._db.execute("COMMIT")


def _key(identifier: str) -> bytes:
    return UUID(identifier).bytes


def _signed(number: int) -> int:
    """SQLite's integers have a sign; inodes of some file systems use the whole of 64 bits."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _unsigned(number: int) -> int:
    return number + (1 << 64) if number < 0 else number
