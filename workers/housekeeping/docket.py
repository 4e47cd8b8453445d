"""Audits that were asked for, that run, and that are done: rows in the ledger, so that any housekeeper may take one.

The api writes what people ask for; a housekeeper runs it, and whoever asked reads the report.  A housekeeper that dies
leaves a lease that runs out, and another one starts the audit again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4, uuid5

from sqlalchemy import Engine, Row, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from workers.contract import schema
from workers.contract.identity import NAMESPACE
from workers.contract.schema import audits
from workers.indexing.handback import Ended

LEASE_S = 60.0
MOST_STARTS = 3
KEPT = 50

AskedBy = Literal["person", "schedule", "count"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One audit as the docket has it.  Times are seconds since the epoch."""

    id: str
    asked_by: str
    repair: bool
    deep: bool
    state: str
    asked_at: float
    started_at: float | None
    finished_at: float | None
    progress: dict[str, Any]
    report: dict[str, Any] | None


# Made once, because each status asks both.
_LAST = select(audits).where(audits.c.finished_at.is_not(None)).order_by(audits.c.finished_at.desc()).limit(1)
_RUNNING = select(audits).where(audits.c.state.in_(["asked", "running"])).order_by(audits.c.asked_at).limit(1)


class LostTurn(Exception):
    """Another housekeeper runs this audit now."""


class Docket:
    """The audits of one deployment."""

    def __init__(self, engine: Engine, owner: str | None = None) -> None:
        """``owner``: who takes audits here, as in `intake.lease_owner`."""
        self._engine = engine
        self._owner = owner
        self._reading = schema.reading(engine)

    def ask(self, by: AskedBy, *, repair: bool, deep: bool = False, key: str | None = None) -> str:
        """Ask for an audit and return its id; one that waits already and does as much is the answer."""
        with self._engine.begin() as connection:
            waiting = connection.execute(select(audits).where(audits.c.state == "asked")).all()
            for row in waiting:
                if row.repair == repair and row.deep == deep:
                    return str(row.id)
            key = key or str(uuid4())
            values = {"id": key, "asked_by": by, "repair": repair, "deep": deep, "state": "asked"}
            connection.execute(insert(audits).values(asked_at=schema.now(connection), **values))
        return key

    def ask_if_due(self, interval_s: float, *, ready: bool, patience_s: float = 3600.0) -> str | None:
        """Ask for the regular audit when the last one is ``interval_s`` ago; None: it is not due.

        It waits for a quiet moment (``ready``), but not longer than ``patience_s``.  Two housekeepers that ask at once
        ask for the same one, because its id is derived from the last.
        """
        with self._reading.connect() as connection:
            now = connection.scalar(select(schema.now(connection))) or 0.0
            if connection.scalar(select(audits.c.id).where(audits.c.state.in_(["asked", "running"])).limit(1)):
                return None
            last = connection.execute(
                select(audits.c.id, audits.c.finished_at, audits.c.state)
                .where(or_(audits.c.repair, audits.c.asked_by == "schedule"))
                .order_by(audits.c.asked_at.desc())
                .limit(1)
            ).one_or_none()
            born = connection.scalar(select(schema.sources.c.added_at).order_by(schema.sources.c.added_at).limit(1))
        if last is None:
            due_at = born
        else:  # one that failed (a server was away) is tried again sooner
            due_at = (last.finished_at or 0.0) + (interval_s / 24 if last.state == "failed" else interval_s)
        if due_at is None or now < due_at or (not ready and now < due_at + patience_s):
            return None
        try:
            following = str(uuid5(NAMESPACE, f"audit\x1f{last.id if last is not None else ''}"))
            return self.ask("schedule", repair=True, key=following)
        except IntegrityError:  # another housekeeper was faster
            return None

    def take(self) -> Entry | None:
        """Take the audit that has waited longest, or one whose housekeeper has died; None: nothing to do."""
        with self._engine.begin() as connection:
            now = schema.now(connection)
            if connection.scalar(select(audits.c.id).where(audits.c.state == "running", audits.c.lease_until >= now)):
                return None
            free = or_(audits.c.state == "asked", audits.c.state == "running")
            row = connection.execute(select(audits).where(free).order_by(audits.c.asked_at).limit(1)).one_or_none()
            if row is None:
                return None
            if row.starts >= MOST_STARTS:
                report = {"clean": False, "failed": f"Its housekeeper ended {row.starts} times; its log says why."}
                values = {"state": "failed", "finished_at": now, "report": json.dumps(report)}
                connection.execute(update(audits).where(audits.c.id == row.id).values(values))
                return None
            taken = connection.execute(
                update(audits)
                .where(audits.c.id == row.id, or_(audits.c.state == "asked", audits.c.lease_until < now))
                .values(
                    state="running",
                    starts=audits.c.starts + 1,
                    started_at=now,
                    lease_until=now + LEASE_S,
                    lease_owner=self._owner,
                )
                .returning(*audits.c)
            ).one_or_none()
        return _entry(taken) if taken is not None else None

    def progress(self, audit: Entry, progress: dict[str, Any]) -> None:
        """Say how far an audit is, and keep it.

        Raises:
            LostTurn: it was taken over.
        """
        with self._engine.begin() as connection:
            values = {"progress": json.dumps(progress), "lease_until": schema.now(connection) + LEASE_S}
            self._write(connection, audit, values)

    def finish(self, audit: Entry, report: dict[str, Any], *, failed: bool = False) -> None:
        """Keep the report, and forget audits of long ago.

        Raises:
            LostTurn: it was taken over.
        """
        with self._engine.begin() as connection:
            values = {
                "state": "failed" if failed else "done",
                "finished_at": schema.now(connection),
                "lease_until": None,
                "report": json.dumps(report, ensure_ascii=False),
            }
            self._write(connection, audit, values)
            newest = select(audits.c.id).order_by(audits.c.asked_at.desc()).limit(KEPT)
            connection.execute(delete(audits).where(audits.c.id.not_in(newest), audits.c.state.in_(["done", "failed"])))

    def give_back(self, audit: Entry) -> None:
        """Let another housekeeper run it: this one has to stop.

        Raises:
            LostTurn: it was taken over.
        """
        with self._engine.begin() as connection:
            self._write(connection, audit, {"state": "asked", "lease_until": None, "starts": audits.c.starts - 1})

    def hand_back(self, ended: Ended) -> int:
        """Let another housekeeper start anew what one that is no more was running; returns how many audits."""
        with self._engine.begin() as connection:
            dead = update(audits).where(audits.c.state == "running", ended.owns(audits.c.lease_owner))
            return connection.execute(dead.values(lease_until=0.0)).rowcount

    def get(self, key: str) -> Entry | None:
        """Return one audit."""
        with self._reading.connect() as connection:
            row = connection.execute(select(audits).where(audits.c.id == key)).one_or_none()
        return _entry(row) if row is not None else None

    def last(self) -> Entry | None:
        """Return the audit that finished last."""
        with self._reading.connect() as connection:
            row = connection.execute(_LAST).one_or_none()
        return _entry(row) if row is not None else None

    def ago(self) -> float:
        """Return the seconds since a wrong number of points last asked for an audit; infinity: never."""
        query = (
            select(audits.c.asked_at).where(audits.c.asked_by == "count").order_by(audits.c.asked_at.desc()).limit(1)
        )
        with self._reading.connect() as connection:
            now = connection.scalar(select(schema.now(connection))) or 0.0
            at = connection.scalar(query)
        return float("inf") if at is None else float(now - at)

    def running(self) -> Entry | None:
        """Return the audit that runs or waits, if any."""
        with self._reading.connect() as connection:
            row = connection.execute(_RUNNING).one_or_none()
        return _entry(row) if row is not None else None

    def _write(self, connection: Any, audit: Entry, values: dict[str, Any]) -> None:
        mine = update(audits).where(
            audits.c.id == audit.id, audits.c.state == "running", audits.c.started_at == audit.started_at
        )
        if connection.execute(mine.values(**values)).rowcount == 0:
            raise LostTurn(audit.id)


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        id=row.id,
        asked_by=row.asked_by,
        repair=row.repair,
        deep=row.deep,
        state=row.state,
        asked_at=row.asked_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        progress=json.loads(row.progress),
        report=json.loads(row.report) if row.report else None,
    )
