"""What the faces ask of the ledger: counts, lists, one document, and retries."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, Row, and_, exists, func, or_, select, tuple_, update

from ops.api.seldom import Seldom
from workers.contract import schema
from workers.contract.intake import ALIVE_S
from workers.contract.schema import counters, documents, processes, sources
from workers.contract.states import FINAL, MOVING, State

# Made once: SQLAlchemy takes longer to make such a question than SQLite to answer it.
_STATES = select(documents.c.state, func.count().label("number")).group_by(documents.c.state)
_SUMS = select(
    func.coalesce(func.sum(documents.c.chunks), 0),
    func.coalesce(func.sum(documents.c.vectors_pending), 0),
    func.coalesce(func.sum(documents.c.bytes), 0),
    func.coalesce(func.sum(documents.c.tokens), 0),
)
LOOKED_AT = 100_000
"""Documents whose paths are looked through for one page: 60 ms, and twice that where they are not in memory."""
_PLACE = tuple_(documents.c.source, documents.c.path)
_IN_ORDER = select(documents).order_by(documents.c.source, documents.c.path)
_PLACES = select(documents.c.source, documents.c.path).order_by(documents.c.source, documents.c.path)
_SOURCES = select(sources).order_by(sources.c.name)
_PROCESSES = select(processes)
_WATCHERS = select(processes).where(processes.c.kind == "watcher")
_OPEN = exists().where(documents.c.state.in_(MOVING))
_PENDING = exists().where(schema.PENDING)
_UNSCANNED = exists().where(sources.c.kind == "folder", sources.c.scanned_at.is_(None))


class LedgerViews:
    """Read-only views, except for `retry`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reading = schema.reading(engine)
        now = schema.now(engine)
        self._now = select(now)
        self._lately = select(func.count()).select_from(documents).where(documents.c.indexed_at > now - 60.0)
        self._verdict = select(now, or_(_OPEN, _PENDING, _UNSCANNED))
        self.states: Seldom[dict[str, int]] = Seldom(self._states)
        """How many documents are in each state (states without any are left out)."""
        self.totals: Seldom[dict[str, Any]] = Seldom(self._totals)
        """Chunks, vectors pending, bytes, tokens, and how many documents became ready in the last minute."""
        self._moving = True

    def _states(self) -> dict[str, int]:
        with self._reading.connect() as connection:
            return {row.state: row.number for row in connection.execute(_STATES)}

    def _totals(self) -> dict[str, Any]:
        with self._reading.connect() as connection:
            row = connection.execute(_SUMS).one()
            recent = connection.scalar(self._lately)
        return {"chunks": row[0], "pending": row[1], "bytes": row[2], "tokens": row[3], "last_minute": recent or 0}

    def sources(self) -> list[dict[str, Any]]:
        """Return every source with its alarm and its last scan."""
        with self._reading.connect() as connection:
            rows = connection.execute(_SOURCES).all()
        return [
            {
                "name": row.name,
                "kind": row.kind,
                "root": row.root,
                "alarm": row.alarm,
                "scanned_at": iso(row.scanned_at),
            }
            for row in rows
        ]

    def processes(self) -> list[dict[str, Any]]:
        """Return the processes that beat, with the seconds since their last beat."""
        with self._reading.connect() as connection:
            now = connection.scalar(self._now) or 0.0
            rows = connection.execute(_PROCESSES).all()
        return [
            {
                "name": row.name,
                "kind": row.kind,
                "age_s": round(max(0.0, now - row.beat_at), 1),
                "info": json.loads(row.info),
            }
            for row in rows
            if now - row.beat_at < 3600
        ]

    def counters(self) -> dict[str, float]:
        """Return the figures that the workers add up."""
        with self._reading.connect() as connection:
            return {row.name: row.value for row in connection.execute(select(counters))}

    def converged(self, *, expects_watcher: bool = False) -> bool:
        """Tell whether everything known is in a final state and no watcher has anything dirty.

        With ``expects_watcher``, silence is not enough: right after a start nobody has looked at the folders yet.
        """
        with self._reading.connect() as connection:
            now, open_ones = connection.execute(self._verdict).one()
            watchers = connection.execute(_WATCHERS).all()
        alive = [json.loads(row.info) for row in watchers if now - row.beat_at < ALIVE_S]
        busy = any(info.get("dirty") or info.get("scanning") for info in alive) or (expects_watcher and not alive)
        return not open_ones and not busy

    def counted(self, *, converged: bool) -> tuple[dict[str, int], dict[str, Any]]:
        """Return states and totals, counted after the verdict that all is ``converged`` if that is so only now."""
        states, totals = self.states(), self.totals()
        if converged and (self._moving or not FINAL.issuperset(states)):
            # The verdict is of now, and remembered counts are of a time when there was still something to do.
            states, totals = self.states.again(), self.totals.again()
        self._moving = not converged
        return states, totals

    def documents(
        self,
        *,
        limit: int,
        state: str | None = None,
        path: str | None = None,
        contains: str | None = None,
        source: str | None = None,
        cursor: str | None = None,
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return one page of documents, ordered by source and path, and where the next page starts.

        ``path`` is a path or its beginning, letter for letter.  ``contains`` stands anywhere in the path, in capitals
        or not.  No index knows that, so one page is what is found among the next `LOOKED_AT` documents: it may have
        less than ``limit`` of them, or none, and be followed by others all the same.

        Raises:
            ValueError, TypeError: the cursor is none of ours.
        """
        wanted: list[ColumnElement[bool]] = []
        if state is not None:
            wanted.append(documents.c.state == state)
        if source is not None:
            wanted.append(documents.c.source == source)
        if path is not None:
            wanted.append(self._begins(path))
        if cursor is not None:
            wanted.append(tuple_(*_position(cursor)) < _PLACE)
        with self._reading.connect() as connection:
            end = None
            if contains is not None:
                end = connection.execute(_PLACES.where(*wanted).offset(LOOKED_AT - 1).limit(1)).one_or_none()
                wanted.append(func.lower(documents.c.path).contains(contains.lower(), autoescape=True))
            if end is not None:
                wanted.append(tuple_(end.source, end.path) >= _PLACE)
            rows = connection.execute(_IN_ORDER.where(*wanted).limit(limit + 1)).all()
        page = [summary(row) for row in rows[:limit]]
        last = rows[limit - 1] if len(rows) > limit else end
        return page, None if last is None else _cursor(last)

    def _begins(self, path: str) -> ColumnElement[bool]:
        """Tell a path or its beginning, so that the index by source and path finds what fits."""
        prefix = path.rstrip("*")
        if self._engine.dialect.name != "sqlite":  # which order its letters have is the database's own affair
            return or_(documents.c.path == path, documents.c.path.startswith(prefix, autoescape=True))
        # SQLite orders by code point, and no name has the last one in it.
        begins = and_(documents.c.path >= prefix, documents.c.path <= f"{prefix}\U0010ffff")
        return and_(documents.c.source.in_(select(sources.c.name)), begins)

    def document(self, key: str) -> Row[Any] | None:
        """Return one row."""
        with self._reading.connect() as connection:
            return connection.execute(select(documents).where(documents.c.id == key)).one_or_none()

    def by_path(self, path: str) -> Sequence[Row[Any]]:
        """Return the documents of any source at exactly this path."""
        with self._reading.connect() as connection:
            # With every source named, the index by source and path finds them.
            anywhere = documents.c.source.in_(select(sources.c.name))
            return connection.execute(select(documents).where(anywhere, documents.c.path == path)).all()

    def retry(self, *, key: str | None = None, state: str | None = None) -> list[str]:
        """Give parked or failed documents new attempts; returns their ids."""
        wanted: ColumnElement[bool] = documents.c.state.in_([State.PARKED, State.FAILED] if state is None else [state])
        if key is not None:
            wanted = wanted & (documents.c.id == key)
        with self._engine.begin() as connection:
            rows = connection.execute(
                update(documents)
                .where(wanted)
                .values(
                    desired_generation=documents.c.desired_generation + 1,
                    state=State.QUEUED,
                    attempts=0,
                    interruptions=0,
                    next_try_at=None,
                    reason=None,
                    error_class=None,
                )
                .returning(documents.c.id)
            ).all()
        return [row.id for row in rows]

    def ping(self) -> None:
        """Raise what the database raises when it is away."""
        with self._reading.connect() as connection:
            connection.execute(select(func.count()).select_from(schema.meta))


NEXT_STEPS = {
    State.QUEUED: "It waits for an index worker.",
    State.PARSING: "An index worker has it.",
    State.EMBEDDING: "Lexical search finds it; dense vectors follow.",
    State.FAILED: "It is tried again by itself.",
    State.PARKED: "Change the file, or retry it.",
    State.EMPTY: "Nothing to do, unless it should have text.",
    State.SKIPPED: "Change the rule that the reason names, if you want it indexed.",
    State.HELD: "Decide: upwell held approve, or upwell held reject.",
}


def _next_step(row: Row[Any]) -> str | None:
    if row.state == State.SKIPPED and row.wanted == "present":
        return "Nothing to do; Upwell does not read this kind of file."
    return NEXT_STEPS.get(State(row.state))


def summary(row: Row[Any]) -> dict[str, Any]:
    """Return a document as the api shows it in lists."""
    return {
        "id": row.id,
        "source": row.source,
        "path": row.path,
        "state": row.state,
        "reason": row.reason or (row.absent_reason if row.state == State.SKIPPED else None),
        "next_step": _next_step(row),
        "version": row.version,
        "chunks": row.chunks,
        "vectors_pending": row.vectors_pending,
        "bytes": row.bytes or row.seen_size or 0,
        "tokens": row.tokens,
        "title": row.title,
        "filetype": row.filetype,
        "indexed_at": iso(row.indexed_at),
    }


def details(row: Row[Any]) -> dict[str, Any]:
    """Return a document with everything that explains its state."""
    return summary(row) | {
        "error_class": row.error_class,
        "attempts": row.attempts,
        "next_try_at": iso(row.next_try_at),
        "observed_at": iso(row.observed_at),
        "searchable_at": iso(row.searchable_at),
        "parse_ms": row.parse_ms,
        "collection": row.collection,
        "recipe": row.recipe,
    }


def iso(seconds: float | None) -> str | None:
    """Return a time as the api tells it."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _cursor(row: Row[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps([row.source, row.path]).encode()).decode()


def _position(cursor: str) -> tuple[str, str]:
    source, path = json.loads(base64.urlsafe_b64decode(cursor))
    return str(source), str(path)
