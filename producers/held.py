"""Deletions that wait for a person: approve them, or reject them and keep the documents."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, select, update

from workers.contract import intake, schema
from workers.contract.intake import Observation
from workers.contract.schema import documents, sources
from workers.contract.states import State


def held(engine: Engine) -> Sequence[Any]:
    """Return the rows of documents whose deletion waits."""
    return intake.held_documents(engine)


def approve(engine: Engine, ids: Sequence[str] | None = None) -> list[str]:
    """Delete held documents (None: all); returns the ids that index workers must look at."""
    chosen = [row for row in held(engine) if ids is None or row.id in ids]
    _unhold(engine, [row.id for row in chosen])
    dirty = intake.observe(
        engine, [Observation(row.source, bytes(row.raw_path), None, document_path=row.path) for row in chosen]
    )
    _clear_alarms(engine)
    return dirty


def reject(engine: Engine, ids: Sequence[str] | None = None) -> list[str]:
    """Keep held documents (None: all) as they are indexed; returns their ids."""
    chosen = [row.id for row in held(engine) if ids is None or row.id in ids]
    _unhold(engine, chosen)
    _clear_alarms(engine)
    return chosen


def _unhold(engine: Engine, ids: Sequence[str]) -> None:
    with engine.begin() as connection:
        for key in ids:
            row = connection.execute(select(documents).where(documents.c.id == key)).one()
            before = State.EMBEDDING if row.vectors_pending else State.READY
            done = row.desired_generation == row.indexed_generation
            connection.execute(
                update(documents)
                .where(documents.c.id == key, documents.c.state == State.HELD)
                .values(state=before if done else State.QUEUED, reason=None)
            )


def _clear_alarms(engine: Engine) -> None:
    """The brake's alarm is over when nothing is held any more."""
    if held(engine):
        return
    with schema.reading(engine).connect() as connection:
        rows = connection.execute(select(sources.c.name, sources.c.alarm, sources.c.root)).all()
    for row in rows:
        if row.alarm and "vanished at once" in row.alarm and os.path.isdir(row.root):
            intake.set_alarm(engine, row.name, None)
