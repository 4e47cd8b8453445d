"""What an index worker asks of the ledger: claim, look, commit, give back.  Each is one short transaction.

A claim is a lease with a token that only grows.  The lease decides who works; the token decides whose writes to Qdrant
count.  Lease times come from the database's clock.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Engine,
    and_,
    case,
    func,
    null,
    or_,
    update,
)
from sqlalchemy.engine import Connection

from workers.contract import schema
from workers.contract.schema import documents
from workers.contract.states import State
from workers.indexing.cache import EmbeddingCache
from workers.indexing.deadline import Deadline, LeaseLost, awake
from workers.indexing.due import Due
from workers.indexing.embedding_claims import EmbeddingClaims
from workers.indexing.facts import Facts
from workers.indexing.ledger_statements import BEFORE, COMMITTED, HOME, HOMES, Statements
from workers.indexing.plain import one

LEASE_S = 120.0
MAX_ATTEMPTS = 3
LATE_WRITES_S = 150.0
"""After a takeover, how long a write of the dead attempt may still be on its way: the lease plus a client timeout."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make one document true, until the lease ends."""

    document_id: str
    source: str
    path: str
    raw_path: bytes
    root: str | None  # None: the source is not known any more
    marker: str | None
    generation: int
    wanted: str
    absent_as: str | None
    absent_reason: str | None
    token: int
    attempts: int
    version: str | None
    recipe: str | None
    collection: str | None
    indexed_generation: int
    doubt: bool  # an attempt died or failed: what the index holds may not be what this row says
    bulk: bool
    extra: dict[str, Any]
    deadline: Deadline = field(compare=False)


@dataclass(frozen=True, slots=True)
class Indexed:
    """What a successful attempt stored; written by commit."""

    state: State
    version: str | None
    recipe: str | None
    collection: str
    chunks: int = 0
    vectors_pending: int = 0
    size: int = 0
    reason: str | None = None
    error_class: str | None = None
    title: str | None = None
    filetype: str | None = None
    parse_ms: float | None = None
    embeds_here: bool = False  # the attempt's own process goes on with its dense vectors


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What became of a document whose bytes turned out to be the indexed ones."""

    state: State
    moved_on: bool
    vectors_pending: int


class Ledger(EmbeddingClaims, Due, Facts):
    """The ledger as index workers use it."""

    def __init__(
        self, engine: Engine, owner: str, *, lease_s: float = LEASE_S, late_writes_s: float = LATE_WRITES_S
    ) -> None:
        Facts.__init__(self, engine)
        Due.__init__(self, engine)
        EmbeddingClaims.__init__(self, engine, owner, lease_s=lease_s)
        self.vectors = EmbeddingCache(engine, owner)
        self._late_writes_s = late_writes_s

    @cached_property
    def _say(self) -> Statements:
        return Statements(self._engine.dialect.name)

    # ------------------------------------------------------------------ one document

    def claim(self, document_id: str, recipe: str) -> Claim | None:
        """Take the lease of a document that has something to do, or return None: nothing to do, or somebody has it.

        The attempt is counted here, at pick-up, so that a document that kills its worker is counted too.  An
        unreleased lease means that an attempt died or froze: its late writes are looked for at ``verify_at``.
        """
        asked_at = awake()
        with self._engine.begin() as connection:
            before = connection.execute(BEFORE, {"document": document_id}).one_or_none()
            if before is None:
                return None
            row = connection.execute(
                self._say.claiming,
                {
                    "document": document_id,
                    "current": recipe,
                    "owner": self._owner,
                    "lease": self.lease_s,
                    "late": self._late_writes_s,
                },
            ).one_or_none()
            if row is None:
                return None
            home = connection.execute(HOME, {"source": row.source}).one_or_none()
        # A verify that is still to come counts as well: until it is done, nobody knows what the index holds.
        doubt = before.lease_until is not None or before.verify_at is not None
        return _claim(row, home, Deadline(asked_at, self.lease_s), doubt=doubt)

    def claim_fresh(self, document_ids: Sequence[str], recipe: str) -> list[Claim]:
        """Take, in one transaction, the leases of those documents that may walk in company.

        They are small, and no attempt at what they are now has begun before.  So one that kills its worker costs each
        of the others one attempt at most: from then on every one of them is claimed alone.
        """
        asked_at = awake()
        with self._engine.begin() as connection:
            free = connection.scalars(self._say.fresh, {"page": document_ids, "current": recipe}).all()
            if not free:
                return []
            taken = {"page": free, "owner": self._owner, "lease": self.lease_s}
            rows = connection.execute(self._say.taking, taken).all()
            names = sorted({row.source for row in rows})
            homes = {home.name: home for home in connection.execute(HOMES, {"page": names})}
        deadline_of = {row.id: Deadline(asked_at, self.lease_s) for row in rows}
        return [_claim(row, homes.get(row.source), deadline_of[row.id], doubt=False) for row in rows]

    def renew(self, claims: Iterable[Claim]) -> None:
        """Extend the leases of attempts that are still at work, and their deadlines once that is committed."""
        asked_at = awake()
        extended = []
        with self._engine.begin() as connection:
            for claim in claims:
                renewed = connection.execute(
                    update(documents)
                    .where(
                        documents.c.id == claim.document_id,
                        documents.c.token == claim.token,
                        documents.c.lease_until.is_not(None),  # released meanwhile: it stays so
                    )
                    .values(lease_until=schema.now(connection) + self.lease_s)
                )
                if renewed.rowcount:
                    extended.append(claim)
        for claim in extended:
            claim.deadline.extend(asked_at, self.lease_s)

    def commit(self, claim: Claim, indexed: Indexed) -> bool:
        """Record that the index agrees with the claimed generation, and release the lease.

        Returns True when the document moved on meanwhile and needs another look.

        Raises:
            LeaseLost: another attempt has taken over; nothing was written.
        """
        with self._engine.begin() as connection:
            moved_on = self._commit(connection, claim, indexed)
        if moved_on is None:
            raise LeaseLost("Another worker has taken over.")
        return moved_on

    def commit_all(self, done: Sequence[tuple[Claim, Indexed]]) -> list[bool | None]:
        """Do the same for several documents in one transaction; None: another attempt has taken over that one."""
        told: dict[str, bool | None] = {}
        with self._engine.begin() as connection:
            for claim, indexed in sorted(done, key=lambda pair: pair[0].document_id):  # row locks in one order
                told[claim.document_id] = self._commit(connection, claim, indexed)
        return [told[claim.document_id] for claim, _ in done]

    def _commit(self, connection: Connection, claim: Claim, indexed: Indexed) -> bool | None:
        row = one(
            connection,
            self._say.committing,
            {
                "document": claim.document_id,
                "claimed": claim.token,
                "generation": claim.generation,
                "new_state": indexed.state.value,
                "embed_lease": self.lease_s if indexed.embeds_here else None,
                "embed_owner": self._owner if indexed.embeds_here else None,
                "size": indexed.size,
                **{name: getattr(indexed, name) for name in COMMITTED},
            },
        )
        return None if row is None else bool(row.moved_on)

    def confirm(self, claim: Claim) -> Confirmed:
        """Record that the claimed generation has the bytes that are indexed already, and release the lease.

        Whoever was embedding it has an older token and can no longer say that it is done: what it still lacks is free.

        Raises:
            LeaseLost: another attempt has taken over; nothing was written.
        """
        with self._engine.begin() as connection:
            moved_on = documents.c.desired_generation != claim.generation
            settled = case((documents.c.vectors_pending > 0, State.EMBEDDING.value), else_=State.READY.value)
            row = connection.execute(
                update(documents)
                .where(documents.c.id == claim.document_id, documents.c.token == claim.token)
                .values(
                    indexed_generation=claim.generation,
                    state=case((moved_on, State.QUEUED.value), else_=settled),
                    reason=null(),
                    error_class=null(),
                    attempts=0,
                    next_try_at=None,
                    lease_until=None,
                    lease_owner=None,
                    embed_lease_until=None,
                    embed_lease_owner=None,
                )
                .returning(moved_on.label("moved_on"), documents.c.state, documents.c.vectors_pending)
            ).one_or_none()
        if row is None:
            raise LeaseLost("Another worker has taken over.")
        return Confirmed(State(row.state), bool(row.moved_on), row.vectors_pending)

    def suspect(self, document_id: str) -> None:
        """Have the document verified: an attempt that was taken over may have written after its successor.

        Never at once: a verify that comes before the last late write has landed would only use up its turn.
        """
        with self._engine.begin() as connection:
            late = schema.now(connection) + self._late_writes_s
            connection.execute(update(documents).where(documents.c.id == document_id).values(verify_at=late))

    def give_back(
        self,
        claim: Claim,
        *,
        state: State,
        reason: str,
        error_class: str | None,
        retry_in_s: float | None = None,
        counted: bool = True,
    ) -> None:
        """Release the lease of an attempt that did not succeed.

        ``retry_in_s`` None: the document waits for a change (parked).  ``counted`` False: the attempt is taken back
        off the count, because an outage is no fault of the document.
        """
        with self._engine.begin() as connection:
            now = schema.now(connection)
            moved_on = documents.c.desired_generation != claim.generation
            released = connection.execute(
                update(documents)
                .where(
                    documents.c.id == claim.document_id,
                    documents.c.token == claim.token,
                    documents.c.lease_until.is_not(None),  # committed meanwhile: it stays what it is
                )
                .values(
                    state=case((moved_on, State.QUEUED.value), else_=state.value),
                    reason=case((moved_on, null()), else_=reason),
                    error_class=error_class,
                    attempts=documents.c.attempts
                    if counted
                    else func.max(0, documents.c.attempts - 1)
                    if connection.dialect.name == "sqlite"
                    else func.greatest(0, documents.c.attempts - 1),
                    next_try_at=case((moved_on, null()), else_=None if retry_in_s is None else now + retry_in_s),
                    # The writes of a failed attempt may be unknown (a timeout): look again once they have landed.
                    # A verify that is due already would come too early for them, so it is put off.
                    verify_at=now + self._late_writes_s,
                    lease_until=None,
                    lease_owner=None,
                )
            )
        if released.rowcount == 0:  # overtaken meanwhile: what it wrote last may land after its successor is done
            self.suspect(claim.document_id)

    def outgrow(self, claim: Claim, token: int) -> bool:
        """Move a document past ``token``, which the index has seen and the ledger does not know, and release its lease.

        False: the claim was overtaken, so that it is the claim that is old and not the ledger.
        """
        with self._engine.begin() as connection:
            moved = connection.execute(
                update(documents)
                .where(documents.c.id == claim.document_id, documents.c.token == claim.token)
                .values(
                    token=token,
                    desired_generation=documents.c.desired_generation + 1,
                    state=State.QUEUED,
                    attempts=0,
                    next_try_at=None,
                    lease_until=None,
                    lease_owner=None,
                )
            )
        return moved.rowcount == 1

    def dirty_all(self, collection: str) -> int:
        """Mark every present document as to be looked at again (Qdrant's data is gone); returns how many."""
        # An attempt that is at work may commit what it stored before the loss.
        return self._dirty(collection, or_(documents.c.chunks > 0, documents.c.lease_until.is_not(None)))

    def dirty_elsewhere(self, collection: str) -> int:
        """Mark as to be looked at again every document that another collection than this new one holds."""
        return self._dirty(
            collection, and_(documents.c.chunks > 0, documents.c.collection.is_distinct_from(collection))
        )

    def _dirty(self, collection: str, which: ColumnElement[bool]) -> int:
        with self._engine.begin() as connection:
            result = connection.execute(
                update(documents)
                .where(documents.c.wanted == "present", which)
                .values(
                    desired_generation=documents.c.desired_generation + 1,
                    version=None,
                    # Its file is gone, so nothing can bring it back; a person decides all the same.
                    state=case((documents.c.state == State.HELD, State.HELD.value), else_=State.QUEUED.value),
                    attempts=0,
                    next_try_at=None,
                    bulk=True,
                    collection=collection,
                )
            )
        return result.rowcount


def backoff_s(attempt: int) -> float:
    """Seconds to wait before attempt number ``attempt`` + 1: 5 s doubling to an hour, with jitter."""
    return min(3600.0, 5.0 * 2.0 ** max(0, attempt - 1)) * random.uniform(0.7, 1.3)  # noqa: S311 - no secret


def _claim(row: Any, home: Any, deadline: Deadline, *, doubt: bool) -> Claim:
    return Claim(
        document_id=row.id,
        source=row.source,
        path=row.path,
        raw_path=bytes(row.raw_path),
        root=home.root if home else None,
        marker=home.marker if home else None,
        generation=row.desired_generation,
        wanted=row.wanted,
        absent_as=row.absent_as,
        absent_reason=row.absent_reason,
        token=row.token,
        attempts=row.attempts,
        version=row.version,
        recipe=row.recipe,
        collection=row.collection,
        indexed_generation=row.indexed_generation,
        doubt=doubt,
        bulk=row.bulk,
        extra=json.loads(row.extra) if row.extra else {},
        deadline=deadline,
    )
