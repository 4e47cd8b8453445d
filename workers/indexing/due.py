"""Which documents an index worker should look at: the sweep's questions to the ledger, and what a claim accepts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Engine, Integer, Select, and_, bindparam, or_, select

from workers.contract import schema
from workers.contract.schema import documents
from workers.contract.states import State


class Due:
    """The questions.  They only read."""

    def __init__(self, engine: Engine) -> None:
        self._reading = schema.reading(engine)

    @cached_property
    def _live(self) -> Select[tuple[str]]:
        return _live(self._reading.dialect.name)  # made once: it is asked before each message of a backfill

    def due(self, recipe: str | None, limit: int) -> list[tuple[str, bool]]:
        """Return (document id, bulk) of documents that an index worker should look at now: the sweep's question.

        Live ones first, then the longest waiting.  Each reason is asked for by itself, because each has an index in
        which only the documents are that it is true of.  What is behind, which may be millions, lies there in order;
        of the others any will do.
        """
        if limit <= 0:
            return []
        order = documents.c.bulk, documents.c.observed_at
        found: dict[str, tuple[bool, float]] = {}
        with self._reading.connect() as connection:
            now = connection.scalar(select(schema.now(connection))) or 0.0
            behind, *others = reasons(now, recipe)
            for reason, by in [(behind, order), *((other, ()) for other in others)]:
                query = select(documents.c.id, *order).where(reason, is_free(now)).order_by(*by).limit(limit)
                found |= {row.id: (row.bulk, row.observed_at) for row in connection.execute(query)}
        first = sorted(found, key=found.__getitem__)[:limit]
        return [(key, found[key][0]) for key in first]

    def due_among(self, document_ids: Sequence[str], recipe: str) -> list[str]:
        """Return those documents that have something to do and that nobody holds."""
        with self._reading.connect() as connection:
            now = schema.now(connection)
            mine = documents.c.id.in_(document_ids)
            query = select(documents.c.id).where(mine, has_work(now, recipe), is_free(now))
            return list(connection.execute(query).scalars())

    def live_due(self, limit: int) -> list[str]:
        """Return documents that somebody is waiting for (no backfill) and that nobody looks at, the oldest first."""
        with self._reading.connect() as connection:
            return list(connection.scalars(self._live, {"most": limit}))


def _live(dialect: str) -> Select[tuple[str]]:
    """Return the question for documents that somebody is waiting for."""
    now = schema.clock(dialect)
    behind, *_ = reasons(now, None)
    free = select(documents.c.id).where(behind, documents.c.bulk.is_(False), is_free(now))
    return free.order_by(documents.c.observed_at).limit(bindparam("most", type_=Integer))


def has_work(now: Any, recipe: Any) -> Any:
    """Return what makes a document due; ``recipe``: the current one, or a parameter that stands for it."""
    return or_(*reasons(now, recipe))


def reasons(now: Any, recipe: str | None) -> list[Any]:
    """Return the reasons, any of which makes a document due, each in the words of an index of `schema`.

    Parked ones wait for a change: a new generation unparks, and so does a new recipe.
    """
    moving = documents.c.state.not_in([State.PARKED, State.HELD])
    reasons = [
        and_(schema.BEHIND, moving),
        # A lease that nobody released (and that has run out, see is_free) means that an attempt died: even if it only
        # verified, somebody has to take over.
        and_(documents.c.lease_until.is_not(None), moving),
        and_(documents.c.verify_at.is_not(None), documents.c.verify_at <= now, moving),
    ]
    if recipe is not None:
        outdated = or_(and_(moving, documents.c.wanted == "present"), documents.c.state == State.PARKED)
        # Two ranges, because no index finds what is different.
        reasons += [and_(documents.c.recipe < recipe, outdated), and_(documents.c.recipe > recipe, outdated)]
    return reasons


def is_free(now: Any) -> Any:
    """Return what makes a document claimable: nobody holds it, and no wait after a failure is under way."""
    lease = or_(documents.c.lease_until.is_(None), documents.c.lease_until < now)
    return and_(lease, or_(documents.c.next_try_at.is_(None), documents.c.next_try_at <= now))
