"""The ledger's front door: what producers write, and all that they write.

Everything here is committed before anybody is told (an upload's 202, a settled watch event); the hint that follows is
only a short cut past the sweep.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sqlalchemy import Engine, bindparam, collate, delete, func, insert, select, type_coerce, update
from sqlalchemy.engine import Connection
from sqlalchemy.types import NullType

from workers.contract import schema
from workers.contract.identity import document_id, normal_path
from workers.contract.schema import documents, processes, sources
from workers.contract.states import State

OBSERVED_AT_ONCE = 500
OWNER_CHARS = 128
ALIVE_S = 15.0
"""A process whose last beat is younger lives."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What a rescan compares: size in bytes, modification time in ns, inode."""

    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Observation:
    """Somebody looked at a path and saw this there.

    ``stat`` is None when nothing (that we index) is there; then ``absent_as`` says what becomes of the document and,
    for ``skipped``, ``reason`` names the rule.  ``touched`` is True when an event says that the content may have been
    written: it is looked at even if size and times are the same (``touch -r``).
    """

    source: str
    raw_path: bytes
    stat: Stat | None
    absent_as: Literal["deleted", "skipped", "held"] = "deleted"
    reason: str | None = None
    touched: bool = False
    bulk: bool = False
    extra: dict[str, Any] | None = None
    document_path: str | None = None  # where it differs from the stored name: uploads

    @property
    def path(self) -> str:
        """Path of the document, as people and readers see it."""
        return self.document_path or normal_path(self.raw_path)

    @property
    def document_id(self) -> str:
        """Id of the document."""
        return document_id(self.source, self.path)


def register_source(
    engine: Engine, name: str, kind: Literal["folder", "uploads"], root: str, marker: str | None = None
) -> None:
    """Make the source known to index workers, or update where it is.

    Raises:
        ValueError: another folder already has this name.
    """
    with engine.begin() as connection:
        known = connection.execute(select(sources).where(sources.c.name == name)).one_or_none()
        if known is None:
            values = {"name": name, "kind": kind, "root": root, "marker": marker, "added_at": schema.now(connection)}
            connection.execute(insert(sources).values(values))
        elif known.kind != kind:
            raise ValueError(
                f"The source name {name!r} already belongs to {known.kind} at {known.root}."
                " Give this folder another name: NAME=PATH."
            )
        else:
            connection.execute(
                update(sources).where(sources.c.name == name).values(root=root, marker=marker or known.marker)
            )


def observe(engine: Engine, observations: Iterable[Observation]) -> list[str]:
    """Record what was seen, in one transaction, and return the ids of the documents that must be looked at.

    An observation that says nothing new changes nothing: a rescan of unchanged files writes no row.  The ledger is
    asked once and told once for hundreds of observations, because index workers want to write as well.
    """
    seen = list(observations)
    dirty: list[str] = []
    if not seen:
        return dirty
    with engine.begin() as connection:
        now: float = connection.execute(select(schema.now(connection))).scalar_one()
        for batch in _batches(seen):
            dirty += _record(connection, batch, now)
    return dirty


def _batches(seen: Iterable[Observation]) -> Iterator[dict[str, Observation]]:
    """Yield observations by document id; a second one of the same document goes into the next batch."""
    batch: dict[str, Observation] = {}
    for each in seen:
        key = each.document_id
        if key in batch or len(batch) == OBSERVED_AT_ONCE:
            yield batch
            batch = {}
        batch[key] = each
    yield batch


def _record(connection: Connection, batch: dict[str, Observation], now: float) -> list[str]:
    """Write one batch; returns the ids of the documents about which an index worker has something to do."""
    columns = documents.c
    query = select(
        columns.id,
        columns.desired_generation,
        columns.wanted,
        columns.absent_as,
        columns.absent_reason,
        columns.state,
        columns.seen_size,
        columns.seen_mtime_ns,
        columns.seen_inode,
    ).where(columns.id.in_(list(batch)))
    # Locked, where the engine has row locks: of two watchers that see a change at once, each must count as one.
    locked = query.order_by(columns.id).with_for_update()
    known = {row.id: row for row in connection.execute(locked)}
    new: list[dict[str, Any]] = []
    changed: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    dirty: list[str] = []
    for key, seen in batch.items():
        before = known.get(key)
        change = _first_sight(key, seen, now) if before is None else _change(before, seen, now)
        if change is None:
            continue
        if before is None:
            new.append(change.values)
        else:
            changed.setdefault(tuple(change.values), []).append(change.values | {"key": key})
        if change.dirty:
            dirty.append(key)
    if new:
        connection.execute(insert(documents), new)
    for rows in changed.values():  # rows that set the same columns go together
        connection.execute(update(documents).where(columns.id == bindparam("key")), rows)
    return dirty


@dataclass(frozen=True, slots=True)
class _Change:
    """The columns that an observation sets; ``dirty``: an index worker has something to do about it."""

    values: dict[str, Any]
    dirty: bool = True


def _change(known: Any, seen: Observation, now: float) -> _Change | None:
    """Return what an observation changes about a known document."""
    if seen.stat is None:
        return _absence(known, seen, now)
    before = (known.seen_size, known.seen_mtime_ns, known.seen_inode)
    same = before == (seen.stat.size, seen.stat.mtime_ns, seen.stat.inode)
    if same and known.wanted == "present" and not seen.touched and seen.extra is None:
        return None
    return _Change(_fresh(known, seen, now) | {"wanted": "present", "absent_as": None, "absent_reason": None})


def _absence(known: Any, seen: Observation, now: float) -> _Change | None:
    if seen.absent_as == "held":
        if known.state == State.HELD or known.wanted == "absent":
            return None
        return _Change({"state": State.HELD, "reason": seen.reason}, dirty=False)
    if known.wanted == "absent" and known.absent_as == seen.absent_as:
        if known.absent_reason == seen.reason:
            return None
        return _Change({"absent_reason": seen.reason, "reason": seen.reason}, dirty=False)
    absent = {"wanted": "absent", "absent_as": seen.absent_as, "absent_reason": seen.reason}
    return _Change(_fresh(known, seen, now) | absent)


def _fresh(known: Any, seen: Observation, now: float) -> dict[str, Any]:
    """Return the columns that a new desired generation resets; a parked document gets another chance."""
    values: dict[str, Any] = {
        "raw_path": seen.raw_path,
        "desired_generation": known.desired_generation + 1,
        "observed_at": now,
        "attempts": 0,
        "interruptions": 0,
        "next_try_at": None,
        "bulk": seen.bulk,
        "reason": None,
        "error_class": None,
    }
    if seen.stat is not None:
        values |= {"seen_size": seen.stat.size, "seen_mtime_ns": seen.stat.mtime_ns, "seen_inode": seen.stat.inode}
    if seen.extra is not None:
        values["extra"] = json.dumps(seen.extra, ensure_ascii=False)
    if known.state != State.PARSING:  # whoever holds the lease will see the new generation at its second look
        values["state"] = State.QUEUED
    return values


def _first_sight(key: str, seen: Observation, now: float) -> _Change | None:
    """An absent or skipped path is remembered but gives an index worker nothing to do."""
    if seen.stat is None and seen.absent_as != "skipped":
        return None
    present = seen.stat is not None
    return _Change(
        {
            "id": key,
            "source": seen.source,
            "path": seen.path,
            "raw_path": seen.raw_path,
            "wanted": "present" if present else "absent",
            "absent_as": None if present else seen.absent_as,
            "absent_reason": seen.reason,
            "seen_size": seen.stat.size if seen.stat else None,
            "seen_mtime_ns": seen.stat.mtime_ns if seen.stat else None,
            "seen_inode": seen.stat.inode if seen.stat else None,
            "bulk": seen.bulk,
            "observed_at": now,
            "state": State.QUEUED if present else State.SKIPPED,
            "reason": seen.reason,
            "desired_generation": 1,
            "indexed_generation": 0 if present else 1,
            # Milliseconds since the epoch: after a lost ledger, new tokens are above every token in Qdrant.
            "token": int(now * 1000),
            "extra": json.dumps(seen.extra, ensure_ascii=False) if seen.extra is not None else None,
        },
        dirty=present,
    )


RememberedRow = tuple[str, bytes, int | None, int | None, int | None, str, str, str | None]
"""`Remembered` as the database gives it."""


class Remembered(NamedTuple):
    """What the ledger remembers of one path."""

    path: str
    raw_path: bytes
    size: int | None
    mtime_ns: int | None
    inode: int | None
    wanted: str  # present | absent
    state: str
    reason: str | None  # wanted absent: by which rule it is skipped; wanted present: why it is kept

    @property
    def present(self) -> bool:
        """True when the document should be there."""
        return self.wanted == "present"

    @property
    def stat(self) -> Stat | None:
        """The file as it was when last noticed."""
        if self.size is None or self.mtime_ns is None or self.inode is None:
            return None
        return Stat(self.size, self.mtime_ns, self.inode)


def remembered(engine: Engine, source: str, below: str = "") -> Iterator[Remembered]:
    """Yield every document of ``source`` at or below the path ``below``, in the order of their paths' code points."""
    return map(Remembered._make, remembered_rows(engine, source, below))


def remembered_rows(engine: Engine, source: str, below: str = "", *, page: int = 8000) -> Iterator[RememberedRow]:
    """Yield the same as plain rows, because a scan reads one for every unchanged file and does nothing else with it.

    In pages, each a short read of its own: a scan that takes minutes holds up nobody.
    """
    # Code point order is byte order in UTF-8 and SQLite's own; a PostgreSQL locale would sort otherwise.
    path = collate(documents.c.path, "C") if engine.dialect.name == "postgresql" else documents.c.path
    columns = (
        documents.c.path,
        type_coerce(documents.c.raw_path, NullType()),  # bytes as the driver gives them, not copied once more
        documents.c.seen_size,
        documents.c.seen_mtime_ns,
        documents.c.seen_inode,
        documents.c.wanted,
        documents.c.state,
        documents.c.absent_reason,
    )
    mine = select(*columns).where(documents.c.source == source)
    after = ""
    if below:
        with schema.reading(engine).connect() as connection:
            here = connection.execute(mine.where(path == below)).all()
        yield from here
        after = below + "/"
        # A range, not LIKE: names may hold % and _, and a range uses the index. "0" follows "/".
        mine = mine.where(path < below + "0")
    while True:
        with schema.reading(engine).connect() as connection:
            found = connection.execute(mine.where(path > after).order_by(path).limit(page))
            # The driver's own tuples: an object of SQLAlchemy's for each row takes as long again as reading it.
            rows: Sequence[RememberedRow] = found.cursor.fetchall() if found.cursor is not None else ()
        yield from rows
        if len(rows) < page:
            return
        after = rows[-1][0]


def count_present(engine: Engine, source: str) -> int:
    """Return how many documents of ``source`` should be there."""
    query = select(func.count()).select_from(documents)
    with schema.reading(engine).connect() as connection:
        return connection.scalar(query.where(documents.c.source == source, documents.c.wanted == "present")) or 0


def marker_of(engine: Engine, source: str) -> str | None:
    """Return what the marker of a known source says."""
    with schema.reading(engine).connect() as connection:
        return connection.scalar(select(sources.c.marker).where(sources.c.name == source))


def set_alarm(engine: Engine, source: str, alarm: str | None) -> None:
    """Say why ``source`` is not being followed right now (None: it is)."""
    with engine.begin() as connection:
        connection.execute(update(sources).where(sources.c.name == source).values(alarm=alarm))


def scan_finished(engine: Engine, source: str) -> None:
    """Remember that a full scan of ``source`` has just ended, everything it found being committed."""
    with engine.begin() as connection:
        connection.execute(update(sources).where(sources.c.name == source).values(scanned_at=schema.now(connection)))


def never_scanned(engine: Engine, source: str) -> bool:
    """Tell whether no full scan of ``source`` has ever come to its end."""
    with schema.reading(engine).connect() as connection:
        return connection.execute(select(sources.c.scanned_at).where(sources.c.name == source)).scalar() is None


def process_name(kind: str) -> str:
    """Return the name under which this process beats: kind@host:pid."""
    return f"{kind}@{socket.gethostname()}:{os.getpid()}"


def lease_owner(kind: str, life: str) -> str:
    """Return what this process writes into its leases: ``life`` (LifeSettings), if any, and its name."""
    return f"{life}/{process_name(kind)}"[:OWNER_CHARS] if life else process_name(kind)[:OWNER_CHARS]


def beat(engine: Engine, kind: str, info: dict[str, Any]) -> None:
    """Say that this process lives and how it is: its row in ``processes`` is renewed."""
    name = process_name(kind)
    with engine.begin() as connection:
        values = {"beat_at": schema.now(connection), "info": json.dumps(info)}
        if connection.execute(update(processes).where(processes.c.name == name).values(values)).rowcount == 0:
            connection.execute(
                insert(processes).values(name=name, kind=kind, host=socket.gethostname(), pid=os.getpid(), **values)
            )


def leave(engine: Engine, kind: str) -> None:
    """Say that this process ends on purpose."""
    with engine.begin() as connection:
        connection.execute(delete(processes).where(processes.c.name == process_name(kind)))
