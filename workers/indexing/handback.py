"""Hands back at once what processes held that are known to be no more, instead of when their leases run out.

Who knows that is `upwell up` (ADR 0044); nobody else's leases are touched.  A lease that is handed back is left as one
that has run out: whoever claims the document takes over from a dead attempt, with all that belongs to that (a greater
token, a verify once late writes have landed, the full road).  Should its owner be alive after all, that is what keeps
it from doing harm, as it does with an owner that was frozen.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Engine, bindparam, case, false, or_, select, update

from workers.contract import schema
from workers.contract.schema import documents
from workers.contract.states import State

RAN_OUT = 0.0
MOST_INTERRUPTIONS = 9
"""From here on even an end of all of `upwell up` counts as the document's attempt: it may well be the reason."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Processes that are no more: single ones, and all of earlier runs (`LifeSettings`)."""

    lives: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()

    def owns(self, owner: Any) -> ColumnElement[bool]:
        """Return the condition that ``owner``, a column of owners of leases, names one of them."""
        return or_(_named(owner, self.lives), _named(owner, self.runs))


@dataclass(frozen=True, slots=True)
class HandedBack:
    """Documents whose attempts were ended, as (id, bulk), and how many wait for dense vectors again."""

    documents: tuple[tuple[str, bool], ...] = ()
    embeddings: int = 0


def hand_back(engine: Engine, ended: Ended) -> HandedBack:
    """Make what ``ended`` held free.  May be done twice, and by several at once.

    A process that ended by itself leaves its attempts counted, and documents that were there twice come again some
    seconds apart, so that the one that is to blame does not take the others with it a third time.  Where everything
    ended at once (power, kill, a container's end) no document is to blame, and the attempt is taken back, up to
    `MOST_INTERRUPTIONS` times.
    """
    if not ended.lives and not ended.runs:
        return HandedBack()
    with engine.begin() as connection:
        now = float(connection.scalar(select(schema.now(connection))) or 0.0)
        interrupted = _named(documents.c.lease_owner, ended.runs)
        held = documents.c.lease_until > RAN_OUT
        rows = connection.execute(
            select(
                documents.c.id,
                documents.c.bulk,
                documents.c.token,
                documents.c.attempts,
                case((interrupted, documents.c.interruptions), else_=None).label("interruptions"),
            )
            .where(held, ended.owns(documents.c.lease_owner))
            .order_by(documents.c.id)
            .with_for_update(skip_locked=True)
        ).all()
        if rows:
            free = update(documents).where(documents.c.id == bindparam("document"), held)
            connection.execute(free.values(_FREED), [_freed(row, now) for row in rows])
        embeddings = connection.execute(
            update(documents)
            .where(
                documents.c.state == State.EMBEDDING,
                documents.c.embed_lease_until.is_not(None),
                ended.owns(documents.c.embed_lease_owner),
            )
            .values(embed_lease_until=None, embed_lease_owner=None)
        ).rowcount
    return HandedBack(tuple((row.id, row.bulk) for row in rows), embeddings)


_FREED = {
    "lease_until": RAN_OUT,
    "state": case((documents.c.state == State.PARSING, State.QUEUED.value), else_=documents.c.state),
    "reason": bindparam("told"),
    "attempts": documents.c.attempts - bindparam("taken_back"),
    "interruptions": documents.c.interruptions + bindparam("taken_back"),
    "next_try_at": bindparam("again_at"),
}


def _freed(row: Any, now: float) -> dict[str, Any]:
    """Return what becomes of one document's row."""
    blameless = row.interruptions is not None and row.interruptions < MOST_INTERRUPTIONS and row.attempts > 0
    again_at = None if blameless or row.attempts < 2 else now + random.uniform(0.0, 5.0 * row.attempts)  # noqa: S311
    told = "Upwell ended" if row.interruptions is not None else "Its index worker ended"
    return {
        "document": row.id,
        "told": f"{told} while it was at work on it; the next one goes on.",
        "taken_back": int(blameless),
        "again_at": again_at,
    }


def _named(owner: Any, names: tuple[str, ...]) -> ColumnElement[bool]:
    return or_(false(), *(owner.startswith(f"{name}/", autoescape=True) for name in names))
