"""Deletions that wait for a person: approve them, or reject them and keep the documents."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, func, select, update

from workers.contract import intake, schema
from workers.contract.intake import Observation, Stat
from workers.contract.schema import documents, sources
from workers.contract.states import State

KEPT = "kept: its deletion was rejected"
DECIDE = "They stay searchable until somebody decides: upwell held approve, or upwell held reject."


def alarm(count: int, source: str) -> str:
    """Return the brake's alarm, one line of a source's alarms."""
    return f"{count} documents of {source} vanished at once. {DECIDE}"


def held(engine: Engine) -> Sequence[Any]:
    """Return the rows of documents whose deletion waits."""
    with schema.reading(engine).connect() as connection:
        return connection.execute(select(documents).where(documents.c.state == State.HELD)).all()


def count(engine: Engine, source: str) -> int:
    """Return how many deletions of ``source`` wait."""
    query = select(func.count()).select_from(documents)
    with schema.reading(engine).connect() as connection:
        return connection.scalar(query.where(documents.c.source == source, documents.c.state == State.HELD)) or 0


def approve(engine: Engine, ids: Sequence[str] | None = None) -> list[str]:
    """Delete held documents (None: all); returns the ids that index workers must look at.

    One whose file is back is looked at instead.
    """
    chosen = _chosen(engine, ids)
    roots = _roots(engine)
    dirty = intake.observe(engine, [_seen(row, roots.get(row.source)) for row in chosen])
    _clear_alarms(engine)
    return dirty


def reject(engine: Engine, ids: Sequence[str] | None = None) -> list[str]:
    """Keep held documents (None: all) as they are indexed; returns their ids.

    One whose file is back is looked at.  One whose file stays away is held again by the next scan, however few they
    are: it is never deleted without a person.
    """
    chosen = _chosen(engine, ids)
    roots = _roots(engine)
    back = [seen for row in chosen if (seen := _seen(row, roots.get(row.source))).stat is not None]
    intake.observe(engine, back)
    with engine.begin() as connection:
        for row in chosen:
            done = row.desired_generation == row.indexed_generation
            before = State.EMBEDDING if row.vectors_pending else State.READY
            connection.execute(
                update(documents)
                .where(documents.c.id == row.id, documents.c.state == State.HELD)
                .values(state=before if done else State.QUEUED, reason=None, absent_reason=KEPT)
            )
    _clear_alarms(engine)
    return [row.id for row in chosen]


def _chosen(engine: Engine, ids: Sequence[str] | None) -> list[Any]:
    wanted = None if ids is None else frozenset(ids)
    return [row for row in held(engine) if wanted is None or row.id in wanted]


def _roots(engine: Engine) -> dict[str, str]:
    with schema.reading(engine).connect() as connection:
        return {row.name: row.root for row in connection.execute(select(sources.c.name, sources.c.root))}


def _seen(row: Any, root: str | None) -> Observation:
    """Return what is there as far as this host can see: the file, if it is back, else nothing."""
    raw = bytes(row.raw_path)
    try:
        found = os.lstat(os.path.join(os.fsencode(root or "/nowhere"), raw))
    except OSError:
        found = None
    if found is None or not stat.S_ISREG(found.st_mode):
        return Observation(row.source, raw, None, document_path=row.path)
    seen = Stat(found.st_size, found.st_mtime_ns, found.st_ino)
    return Observation(row.source, raw, seen, touched=True, document_path=row.path)


def _clear_alarms(engine: Engine) -> None:
    """The brake's alarm is over where nothing is held any more; other alarms stay.  The watcher comes to the same."""
    waiting = {row.source for row in held(engine)}
    with schema.reading(engine).connect() as connection:
        rows = connection.execute(select(sources.c.name, sources.c.alarm)).all()
    for row in rows:
        if row.alarm and DECIDE in row.alarm and row.name not in waiting:
            others = [line for line in row.alarm.splitlines() if DECIDE not in line]
            intake.set_alarm(engine, row.name, "\n".join(others) or None)
