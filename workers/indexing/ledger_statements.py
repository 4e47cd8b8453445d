"""The statements of claims and commits, each made once: to make one takes longer than to execute it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Float,
    Select,
    String,
    Update,
    and_,
    bindparam,
    case,
    null,
    or_,
    select,
    update,
)

from workers.contract import schema
from workers.contract.schema import documents, sources
from workers.contract.states import State
from workers.indexing.due import has_work, is_free

SMALL = 1 << 20
"""Largest file in bytes that walks in company: what it is made into is held until all have come as far."""

_PAGE: BindParameter[Any] = bindparam("page", expanding=True)
BEFORE = select(documents.c.lease_until, documents.c.verify_at).where(documents.c.id == bindparam("document"))
HOME = select(sources.c.name, sources.c.root, sources.c.marker).where(sources.c.name == bindparam("source"))
HOMES = select(sources.c.name, sources.c.root, sources.c.marker).where(sources.c.name.in_(_PAGE))

CLAIMED = (
    documents.c.id,
    documents.c.source,
    documents.c.path,
    documents.c.raw_path,
    documents.c.desired_generation,
    documents.c.indexed_generation,
    documents.c.wanted,
    documents.c.absent_as,
    documents.c.absent_reason,
    documents.c.token,
    documents.c.attempts,
    documents.c.version,
    documents.c.recipe,
    documents.c.collection,
    documents.c.bulk,
    documents.c.extra,
)
"""What an attempt wants to know of its document."""

COMMITTED = (
    "version",
    "recipe",
    "collection",
    "chunks",
    "vectors_pending",
    "reason",
    "error_class",
    "title",
    "filetype",
    "parse_ms",
)
"""Columns that a commit writes as they are in `Indexed`."""


class Statements:
    """Those that depend on the dialect (SQLAlchemy's name of it)."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect

    @cached_property
    def claiming(self) -> Update:
        """Return the statement of a claim."""
        now = schema.clock(self._dialect)
        due_verify = and_(documents.c.verify_at.is_not(None), documents.c.verify_at <= now)
        taken_over = documents.c.lease_until.is_not(None)
        something_to_do = has_work(now, bindparam("current", type_=String))
        return (
            update(documents)
            .where(documents.c.id == bindparam("document"), something_to_do, is_free(now))
            .values(
                token=documents.c.token + 1,
                lease_until=now + bindparam("lease", type_=Float),
                lease_owner=bindparam("owner"),
                attempts=documents.c.attempts + 1,
                state=State.PARSING,
                verify_at=case(
                    (taken_over, now + bindparam("late", type_=Float)),
                    (due_verify, null()),
                    else_=documents.c.verify_at,
                ),
            )
            .returning(*CLAIMED)
        )

    @cached_property
    def fresh(self) -> Select[tuple[str]]:
        """Return the question which documents may walk in company."""
        small = or_(documents.c.seen_size <= SMALL, documents.c.wanted == "absent")
        never_tried = and_(documents.c.attempts == 0, documents.c.next_try_at.is_(None))
        no_doubt = and_(documents.c.lease_until.is_(None), documents.c.verify_at.is_(None))
        something_to_do = has_work(schema.clock(self._dialect), bindparam("current", type_=String))
        return (
            select(documents.c.id)
            .where(documents.c.id.in_(_PAGE), something_to_do, small, never_tried, no_doubt)
            .order_by(documents.c.id)
            .with_for_update(skip_locked=True)
        )

    @cached_property
    def taking(self) -> Update:
        """Return the statement that claims those documents."""
        return (
            update(documents)
            .where(documents.c.id.in_(_PAGE))
            .values(
                token=documents.c.token + 1,
                lease_until=schema.clock(self._dialect) + bindparam("lease", type_=Float),
                lease_owner=bindparam("owner"),
                attempts=1,
                state=State.PARSING,
            )
            .returning(*CLAIMED)
        )

    @cached_property
    def committing(self) -> Update:
        """Return the statement of a commit."""
        now = schema.clock(self._dialect)
        generation = bindparam("generation", type_=BigInteger)
        moved_on = documents.c.desired_generation != generation
        return (
            update(documents)
            .where(documents.c.id == bindparam("document"), documents.c.token == bindparam("claimed", type_=BigInteger))
            .values(
                **{name: bindparam(name) for name in COMMITTED},
                indexed_generation=generation,
                bytes=bindparam("size"),
                state=case((moved_on, State.QUEUED.value), else_=bindparam("new_state", type_=String)),
                attempts=0,
                interruptions=0,
                next_try_at=None,
                lease_until=None,
                lease_owner=None,
                embed_lease_owner=bindparam("embed_owner"),
                embed_lease_until=now + bindparam("embed_lease", type_=Float),  # null where nobody goes on with it
                embed_next_try_at=None,
                searchable_at=now,
                indexed_at=now,
            )
            .returning(moved_on.label("moved_on"))
        )
