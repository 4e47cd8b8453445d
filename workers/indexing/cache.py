"""What was embedded before, so that no text is paid for twice: vectors by key, and who is fetching which right now.

A room beside the ledger: `vectors.db` next to a SQLite ledger, the same database where the ledger is PostgreSQL.
Losing it costs money and nothing else, so its commits need not survive a power cut, it never makes a ledger's commit
wait, and a ledger that is thrown away leaves it standing (ADR 0032).

A key is a digest of model, dimensions and embedded text (`recipe.Space.cache_key`), so a copy, a rename, a revert, a
move between sources or a rebuilt Qdrant finds its vectors here, whichever document they were fetched for.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    BindParameter,
    Column,
    Engine,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    select,
    update,
)
from sqlalchemy.engine import Connection

from workers.contract import schema
from workers.indexing.handback import Ended
from workers.indexing.plain import each

Vector = NDArray[np.float32]

TOUCH_S = 3600.0
"""A last use is written down at most this often for each vector: the order of forgetting needs no more."""
FLIGHT_S = 75.0
"""How long a text counts as being fetched; it should be longer than a request may take (UPWELL_EMBEDDINGS_TIMEOUT)."""
PAGE = 500
ROW_BYTES = 120
"""What a row costs beside its vector: key, twice, and columns."""

metadata = MetaData()

vectors = Table(
    "vectors",
    metadata,
    Column("key", LargeBinary(32), primary_key=True),
    # Unit length, float16, little endian: half the bytes of float32 at a cosine of 0.9999999 (ADR 0032).
    Column("vector", LargeBinary, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("used_at", Float, nullable=False),
)
# Holds all that trimming asks, so that it never reads a vector.
Index("vectors_used_at", vectors.c.used_at, vectors.c.bytes)

flights = Table(
    "flights",
    metadata,
    Column("key", LargeBinary(32), primary_key=True),
    Column("owner", String(160), nullable=False),
    Column("until", Float, nullable=False),
    sqlite_with_rowid=False,
)


@dataclass(frozen=True, slots=True)
class Flight:
    """What became of a wish to fetch some texts: ours to fetch, known after all, or being fetched by somebody else."""

    ours: frozenset[str]
    known: dict[str, Vector]
    elsewhere: frozenset[str]


class EmbeddingCache:
    """Vectors of texts, shared by every worker of a deployment.  Threads may share it; it opens at first use."""

    def __init__(self, ledger: Engine, owner: str) -> None:
        self.flight_s = FLIGHT_S
        self._ledger = ledger
        self._owner = owner
        self._claims = itertools.count()
        self._opening = threading.Lock()
        self._engine: Engine | None = None

    def known(self, keys: Iterable[str]) -> dict[str, Vector]:
        """Return the vectors, float32 (dimensions,), of those texts that were embedded before."""
        found: dict[str, Vector] = {}
        stale: list[bytes] = []
        with schema.reading(self._room()).connect() as connection:
            for page in _pages([bytes.fromhex(key) for key in keys]):
                rows = connection.execute(_KNOWN, {"page": page}).all()
                long_ago = _now(connection) - TOUCH_S if rows else 0.0
                found |= {key.hex(): _unpacked(vector) for key, vector, _ in rows}
                stale += [key for key, _, used_at in rows if used_at < long_ago]
        if stale:
            self._touch(stale)
        return found

    def claim(self, keys: Sequence[str]) -> Flight:
        """Take the right to fetch texts, so that nobody else pays for them meanwhile.

        What is ours ends with `remember` or `release`; after a crash, with the lease.
        """
        raw = sorted(bytes.fromhex(key) for key in set(keys))  # one order for everybody: row locks cannot deadlock
        mark = f"{self._owner}/{next(self._claims)}"  # of this claim: what bears it afterwards is ours
        ours: set[bytes] = set()
        known: dict[str, Vector] = {}
        with self._room().begin() as connection:
            now = _now(connection)
            for page in _pages(raw):
                # Row by row: a statement with many rows in it would be another for each number of rows.
                rows = [{"key": key, "owner": mark, "until": now + self.flight_s, "now": now} for key in page]
                taken = each(connection, _wish(connection.dialect.name), rows)
                # As nearly always: nobody else wants one of them, and there is nothing to ask.
                mine = page if taken == len(page) else connection.scalars(_MINE, {"page": page, "mark": mark})
                ours.update(mine)
                # After the claim: whoever held it before has left the vector in the same moment as the claim.
                for key, vector, _ in connection.execute(_KNOWN, {"page": page}):
                    known[key.hex()] = _unpacked(vector)
            arrived = [key for key in ours if key.hex() in known] if known else []
            _forget_flights(connection, arrived)
        fetched = frozenset(key.hex() for key in ours) - known.keys()
        return Flight(fetched, known, frozenset(key.hex() for key in raw) - fetched - known.keys())

    def remember(self, found: Iterable[tuple[str, Vector]]) -> None:
        """Keep vectors for every text that may come again, in any document, and end their flights."""
        pairs = sorted(found, key=lambda pair: pair[0])
        if not pairs:
            return
        packed = _packed(np.stack([vector for _, vector in pairs]))
        fresh = {bytes.fromhex(key): vector for (key, _), vector in zip(pairs, packed, strict=True)}
        with self._room().begin() as connection:
            now = _now(connection)
            for page in _pages(list(fresh)):
                rows = [
                    {"key": key, "vector": fresh[key], "bytes": len(fresh[key]) + ROW_BYTES, "used_at": now}
                    for key in page
                ]
                each(connection, _keeping(connection.dialect.name), rows)
                _forget_flights(connection, page)

    def release(self, keys: Iterable[str]) -> None:
        """Give up texts that could not be fetched: others may try."""
        raw = [bytes.fromhex(key) for key in keys]
        if raw:
            with self._room().begin() as connection:
                _forget_flights(connection, raw)

    def hand_back(self, ended: Ended) -> int:
        """Let others fetch at once what processes that are no more were fetching; returns how many texts."""
        with self._room().begin() as connection:
            return connection.execute(delete(flights).where(ended.owns(flights.c.owner))).rowcount

    def trim(self, entries: int, size: int) -> int:
        """Forget the longest unused vectors beyond ``entries``, and beyond ``size`` bytes; returns how many."""
        with self._room().begin() as connection:
            connection.execute(delete(flights).where(flights.c.until < _now(connection)))
        count, held = self.size()
        too_many, too_much, forgotten = count - entries, held - size, 0
        while too_many > 0 or too_much > 0:
            with self._room().begin() as connection:  # short ones: workers wait for each
                oldest = connection.execute(
                    select(vectors.c.key, vectors.c.bytes).order_by(vectors.c.used_at).limit(PAGE)
                ).all()
                gone = []
                for row in oldest:
                    if too_many <= 0 and too_much <= 0:
                        break
                    gone.append(row.key)
                    too_many, too_much = too_many - 1, too_much - row.bytes
                if not gone:
                    break
                connection.execute(delete(vectors).where(vectors.c.key.in_(gone)))
                forgotten += len(gone)
        if forgotten:
            self._give_space_back()
        return forgotten

    def size(self) -> tuple[int, int]:
        """Return (vectors, bytes) held."""
        with schema.reading(self._room()).connect() as connection:
            count, held = connection.execute(select(func.count(), func.sum(vectors.c.bytes)).select_from(vectors)).one()
        return int(count), int(held or 0)

    # ------------------------------------------------------------------ inside

    def _touch(self, keys: Sequence[bytes]) -> None:
        with self._room().begin() as connection:
            now = _now(connection)
            for page in _pages(keys):
                connection.execute(update(vectors).where(vectors.c.key.in_(page)).values(used_at=now))

    def _room(self) -> Engine:
        with self._opening:
            if self._engine is None:
                self._engine = _open(self._ledger)
            return self._engine

    def _give_space_back(self) -> None:
        engine = self._room()
        if engine.dialect.name == "sqlite":
            raw = engine.raw_connection()
            try:
                raw.driver_connection.executescript("PRAGMA incremental_vacuum")  # type: ignore[union-attr]
            finally:
                raw.close()


def _open(ledger: Engine) -> Engine:
    """Open the room beside ``ledger``, creating it on first use."""
    database = ledger.url.database
    engine = ledger
    if ledger.dialect.name == "sqlite" and database and database != ":memory:":
        path = Path(database).with_name("vectors.db")
        _found(path)
        engine = create_engine(
            ledger.url.set(database=str(path)), connect_args={"timeout": 10.0, "check_same_thread": False}
        )
        _prepare(engine)
    with engine.begin() as connection:
        schema.take_turns(connection)
        metadata.create_all(connection, checkfirst=True)
    return engine


def _found(path: Path) -> None:
    """Make an empty room, unless there is one.  It appears at once and whole: changing a journal does not wait."""
    if path.exists():
        return
    draft = path.with_name(f"{path.name}.{uuid4().hex}")
    with closing(sqlite3.connect(draft)) as first:
        first.execute("PRAGMA auto_vacuum=INCREMENTAL")  # only an empty file takes it: trimming gives space back
        first.execute("PRAGMA journal_mode=WAL")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was faster
    finally:
        draft.unlink()


def _prepare(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")  # survives every crash but a power cut, which costs the last texts
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("upwell_read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


@cache
def _wish(dialect: str) -> Any:
    """Return the statement that takes the right to fetch a text, unless somebody has it."""
    wish = _insert(dialect, flights)
    return wish.on_conflict_do_update(
        index_elements=["key"],
        set_={"owner": wish.excluded.owner, "until": wish.excluded.until},
        where=flights.c.until < bindparam("now", type_=Float),
    )


@cache
def _keeping(dialect: str) -> Any:
    """Return the statement that keeps a vector."""
    return _insert(dialect, vectors).on_conflict_do_nothing()


def _insert(dialect: str, table: Table) -> Any:
    # The other dialect stays unread: PostgreSQL's takes every start 40 ms.
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    return insert(table)


_PAGE: BindParameter[Any] = bindparam("page", expanding=True)
# Made once: to make a statement of some hundred keys takes longer than to execute it.
_KNOWN = select(vectors.c.key, vectors.c.vector, vectors.c.used_at).where(vectors.c.key.in_(_PAGE))
_MINE = select(flights.c.key).where(flights.c.key.in_(_PAGE), flights.c.owner == bindparam("mark"))
_FORGETTING = delete(flights).where(flights.c.key == bindparam("key"))


def _forget_flights(connection: Connection, keys: Sequence[bytes]) -> None:
    if keys:
        each(connection, _FORGETTING, [{"key": key} for key in keys])


def _now(connection: Connection) -> float:
    return float(connection.scalar(_clock(connection.dialect.name)) or 0.0)


@cache
def _clock(dialect: str) -> Select[tuple[float]]:
    return select(schema.clock(dialect))


def _pages(keys: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (keys[start : start + PAGE] for start in range(0, len(keys), PAGE))


def _packed(found: Vector) -> list[bytes]:
    """Return vectors (n, dimensions) as they are kept."""
    return [row.tobytes() for row in (found / np.linalg.norm(found, axis=1, keepdims=True)).astype("<f2")]


def _unpacked(raw: bytes) -> Vector:
    return np.frombuffer(raw, dtype="<f2").astype(np.float32)
