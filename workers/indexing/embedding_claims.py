"""What the embedding stage asks of the ledger: which documents lack dense vectors, who has them, how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import BigInteger, Engine, Integer, Text, Update, bindparam, case, null, or_, select, update

from workers.contract import schema
from workers.contract.schema import documents
from workers.contract.states import State
from workers.indexing.plain import each

LEXICAL_ONLY = "Lexical search only for now."
"""How the reason of a document begins whose dense vectors wait for the embedding endpoint."""


@dataclass(frozen=True, slots=True)
class EmbeddingClaim:
    """The right to embed what a document's chunks lack."""

    document_id: str
    token: int
    bulk: bool = False


@dataclass(frozen=True, slots=True)
class Embedded:
    """How far a document's dense vectors are: with ``pending`` 0 it is ready."""

    claim: EmbeddingClaim
    pending: int
    tokens: int
    reason: str | None = None


class EmbeddingClaims:
    """The ledger, as the embedding stage uses it."""

    def __init__(self, engine: Engine, owner: str, *, lease_s: float) -> None:
        self._engine = engine
        self._owner = owner
        self._reading = schema.reading(engine)
        self.lease_s = lease_s

    # Made at first use, and once: to make them takes longer than to execute them.

    @cached_property
    def _ready(self) -> Update:
        return _progressing(self._engine.dialect.name, ready=True)

    @cached_property
    def _further(self) -> Update:
        return _progressing(self._engine.dialect.name, ready=False)

    def claim_embeddings(self, limit: int, *, live_only: bool = False) -> list[EmbeddingClaim]:
        """Take documents whose chunks lack dense vectors: live ones first, then the longest waiting."""
        with self._engine.begin() as connection:
            now = schema.now(connection)
            free = or_(documents.c.embed_lease_until.is_(None), documents.c.embed_lease_until < now)
            due = or_(documents.c.embed_next_try_at.is_(None), documents.c.embed_next_try_at <= now)
            wanted = (
                select(documents.c.id)
                .where(documents.c.state == State.EMBEDDING, free, due)
                .order_by(documents.c.bulk, documents.c.searchable_at)
                .limit(limit)
            )
            if live_only:
                wanted = wanted.where(documents.c.bulk.is_(False))
            rows = connection.execute(
                update(documents)
                .where(documents.c.id.in_(wanted), free)
                .values(embed_lease_until=now + self.lease_s, embed_lease_owner=self._owner)
                .returning(documents.c.id, documents.c.token, documents.c.bulk, documents.c.searchable_at)
            ).all()
        rows = sorted(rows, key=lambda row: (row.bulk, row.searchable_at))
        return [EmbeddingClaim(row.id, row.token, row.bulk) for row in rows]

    def renew_embeddings(self, document_ids: Sequence[str]) -> None:
        """Extend the leases of documents whose texts are still on their way."""
        with self._engine.begin() as connection:
            until = schema.now(connection) + self.lease_s
            for start in range(0, len(document_ids), 500):
                connection.execute(
                    update(documents)
                    .where(
                        documents.c.id.in_(document_ids[start : start + 500]),
                        documents.c.state == State.EMBEDDING,
                        documents.c.embed_lease_until.is_not(None),
                    )
                    .values(embed_lease_until=until)
                )

    def has_embeddings_due(self) -> bool:
        """Tell whether some document waits for dense vectors and nobody has it."""
        with self._reading.connect() as connection:
            now = schema.now(connection)
            found = connection.scalar(
                select(documents.c.id)
                .where(
                    documents.c.state == State.EMBEDDING,
                    or_(documents.c.embed_lease_until.is_(None), documents.c.embed_lease_until < now),
                    or_(documents.c.embed_next_try_at.is_(None), documents.c.embed_next_try_at <= now),
                )
                .limit(1)
            )
        return found is not None

    def embedded(self, done: Sequence[Embedded]) -> None:
        """Record progress of some documents; one that an attempt has changed meanwhile only learns its cost."""
        spent = [{"document": one.claim.document_id, "spent": one.tokens} for one in done if one.tokens]
        with self._engine.begin() as connection:
            if spent:
                each(connection, _SPENDING, spent)
            for ready in (True, False):
                told = [
                    {
                        "document": one.claim.document_id,
                        "claimed": one.claim.token,
                        "left": one.pending,
                        "told": one.reason,
                    }
                    for one in done
                    if (one.pending == 0) == ready
                ]
                if told:
                    each(connection, self._ready if ready else self._further, told)

    def postpone_embeddings(self, claims: Sequence[EmbeddingClaim], *, retry_in_s: float, reason: str | None) -> None:
        """Give embedding claims back: the endpoint is away.  No attempt is counted; lexical search goes on."""
        with self._engine.begin() as connection:
            connection.execute(
                update(documents)
                .where(
                    documents.c.id.in_([claim.document_id for claim in claims]), documents.c.state == State.EMBEDDING
                )
                .values(
                    embed_lease_until=None,
                    embed_next_try_at=schema.now(connection) + retry_in_s,
                    reason=reason,
                )
            )


_SPENDING = (
    update(documents)
    .where(documents.c.id == bindparam("document"))
    .values(tokens=documents.c.tokens + bindparam("spent", type_=BigInteger))
)


def _progressing(dialect: str, *, ready: bool) -> Update:
    """Return the statement that says how far a document's dense vectors are; one for all rows of a call."""
    told, waited = bindparam("told", type_=Text), documents.c.reason.like(f"{LEXICAL_ONLY}%")
    values: dict[str, Any] = {
        "vectors_pending": bindparam("left", type_=Integer),
        "embed_lease_until": None,
        "reason": case((told.is_not(None), told), (waited, null()), else_=documents.c.reason),
    }
    if ready:
        values |= {"state": State.READY, "indexed_at": schema.clock(dialect), "embed_next_try_at": None}
    return (
        update(documents)
        .where(
            documents.c.id == bindparam("document"),
            documents.c.token == bindparam("claimed", type_=BigInteger),
            documents.c.state == State.EMBEDDING,
        )
        .values(values)
    )
