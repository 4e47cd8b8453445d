"""How the documents behind an answer stand right now, as the ledger has it: changed meanwhile, or gone?"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from workers.contract import schema
from workers.contract.schema import documents
from workers.contract.states import State

log = structlog.get_logger()

WAITING = (State.QUEUED, State.PARSING, State.EMBEDDING)


@dataclass(frozen=True, slots=True)
class Standing:
    """One document.  ``version`` is the digest of the content that is indexed."""

    state: str
    version: str | None
    reindexing: bool  # a newer content is known and not indexed yet
    gone: bool


class Catalogue(Protocol):
    """Knows how documents stand."""

    def standing(self, doc_ids: Collection[str]) -> Mapping[str, Standing]:
        """Return what is known of each document; without those that nobody knows.  Never raises."""

    def waiting(self) -> int:
        """Return how many documents have a content that is not, or not wholly, indexed yet.  Never raises."""


class LedgerCatalogue:
    """Reads the ledger, once it is there.  No answer waits for it: a ledger that is away knows nothing."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine: Engine | None = None

    def standing(self, doc_ids: Collection[str]) -> Mapping[str, Standing]:
        query = select(
            documents.c.id,
            documents.c.state,
            documents.c.version,
            documents.c.wanted,
            documents.c.desired_generation,
            documents.c.indexed_generation,
        ).where(documents.c.id.in_(list(doc_ids)))
        try:
            with self._opened().connect() as connection:
                rows = connection.execute(query).all()
        except (SQLAlchemyError, OSError, schema.LedgerUnusable) as exc:
            log.warning("answer.no_ledger", error=type(exc).__name__)
            return {}
        return {
            row.id: Standing(
                state=row.state,
                version=row.version,
                reindexing=row.wanted == "present" and row.indexed_generation < row.desired_generation,
                gone=row.state == State.DELETED or (row.wanted == "absent" and row.state != State.HELD),
            )
            for row in rows
        }

    def waiting(self) -> int:
        query = select(func.count()).select_from(documents).where(documents.c.state.in_(WAITING))
        try:
            with self._opened().connect() as connection:
                return int(connection.execute(query).scalar_one())
        except (SQLAlchemyError, OSError, schema.LedgerUnusable) as exc:
            log.warning("answer.no_ledger", error=type(exc).__name__)
            return 0

    def _opened(self) -> Engine:
        if self._engine is None:
            self._engine = schema.reading(schema.open_ledger(self._url))
        return self._engine
