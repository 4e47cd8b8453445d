"""What people asked and how they judged what they got: the query log and the feedback of the ledger.

A query is forgotten after a time that a setting gives; a judgement carries its query with it and stays until somebody
deletes it.  Neither ever reaches a log file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload
from uuid import uuid4

from sqlalchemy import Engine, Row, delete, insert, select

from workers.contract import schema
from workers.contract.schema import feedback, queries

Kind = Literal["hit", "answer"]
Vote = Literal["up", "down"]

MOST_HITS = 100
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """One hit of a query: chunk, document, and the document's path when it was found."""

    chunk_id: str
    doc_id: str
    path: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A search or question, and what came of it.  ``refused`` and ``grounded`` are None for a search."""

    id: str
    face: str
    query: str
    mode: str | None = None
    filters: Mapping[str, Any] | None = None
    hits: Sequence[Place] = ()
    refused: bool | None = None
    grounded: bool | None = None
    took_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What somebody thinks of a hit, or of an answer."""

    kind: Kind
    vote: Vote
    query: str
    query_id: str | None = None
    doc_id: str | None = None
    chunk_id: str | None = None
    path: str | None = None
    answer: str | None = None
    text: str | None = None
    filters: Mapping[str, Any] | None = None
    id: str = ""
    at: float = 0.0


def remember(engine: Engine, batch: Sequence[Asked]) -> None:
    """Add queries to the log, in one transaction."""
    with engine.begin() as connection:
        now = connection.scalar(select(schema.now(connection)))
        connection.execute(
            insert(queries),
            [
                {
                    "id": each.id,
                    "at": now,
                    "face": each.face,
                    "query": _storable(each.query),
                    "mode": each.mode,
                    "filters": _dumped(each.filters),
                    "hits": json.dumps(
                        [[hit.chunk_id, hit.doc_id, hit.path] for hit in each.hits[:MOST_HITS]], ensure_ascii=False
                    ),
                    "refused": each.refused,
                    "grounded": each.grounded,
                    "took_ms": each.took_ms,
                }
                for each in batch
            ],
        )


def recall(engine: Engine, query_id: str) -> Asked | None:
    """Return a query of the log; None: not logged, or forgotten."""
    with schema.reading(engine).connect() as connection:
        row = connection.execute(select(queries).where(queries.c.id == query_id)).one_or_none()
    if row is None:
        return None
    return Asked(
        id=row.id,
        face=row.face,
        query=row.query,
        mode=row.mode,
        filters=json.loads(row.filters) if row.filters else None,
        hits=[Place(*place) for place in json.loads(row.hits)],
        refused=row.refused,
        grounded=row.grounded,
        took_ms=row.took_ms,
    )


def forget(engine: Engine, *, older_than_days: float) -> int:
    """Delete queries of that age, and return how many; judgements stay."""
    with engine.begin() as connection:
        limit = schema.now(connection) - older_than_days * 86_400.0
        return int(connection.execute(delete(queries).where(queries.c.at <= limit)).rowcount)


def judge(engine: Engine, judgement: Judgement) -> str:
    """Add a judgement and return its id."""
    key = str(uuid4())
    with engine.begin() as connection:
        connection.execute(
            insert(feedback).values(
                id=key,
                at=schema.now(connection),
                kind=judgement.kind,
                vote=1 if judgement.vote == "up" else -1,
                query_id=judgement.query_id,
                query=_storable(judgement.query),
                filters=_dumped(judgement.filters),
                doc_id=judgement.doc_id,
                chunk_id=judgement.chunk_id,
                path=judgement.path,
                answer=_storable(judgement.answer),
                text=_storable(judgement.text),
            )
        )
    return key


def judgements(
    engine: Engine, *, kind: Kind | None = None, after: tuple[float, str] = (-1.0, "")
) -> Iterator[Judgement]:
    """Yield every judgement, oldest first; of equals (same kind, query and place) all, the last one counts.

    ``after`` (time and id of a judgement) goes on behind it.
    """
    at, key = after
    while True:
        query = (
            select(feedback)
            .where((feedback.c.at > at) | ((feedback.c.at == at) & (feedback.c.id > key)))
            .order_by(feedback.c.at, feedback.c.id)
            .limit(PAGE)
        )
        if kind is not None:
            query = query.where(feedback.c.kind == kind)
        with schema.reading(engine).connect() as connection:
            rows = connection.execute(query).all()
        yield from map(_judgement, rows)
        if len(rows) < PAGE:
            return
        at, key = rows[-1].at, rows[-1].id


def withdraw(engine: Engine, judgement_id: str) -> bool:
    """Delete a judgement; False: there is none of this id."""
    with engine.begin() as connection:
        return bool(connection.execute(delete(feedback).where(feedback.c.id == judgement_id)).rowcount)


@overload
def _storable(text: str) -> str: ...
@overload
def _storable(text: None) -> None: ...
def _storable(text: str | None) -> str | None:
    """Drop what PostgreSQL cannot store: one such query would keep the whole batch out of the log, for ever."""
    return text.replace("\x00", "") if text is not None else None


def _dumped(filters: Mapping[str, Any] | None) -> str | None:
    return json.dumps(filters, ensure_ascii=False) if filters else None


def _judgement(row: Row[Any]) -> Judgement:
    return Judgement(
        kind=row.kind,
        vote="up" if row.vote > 0 else "down",
        query=row.query,
        query_id=row.query_id,
        doc_id=row.doc_id,
        chunk_id=row.chunk_id,
        path=row.path,
        answer=row.answer,
        text=row.text,
        filters=json.loads(row.filters) if row.filters else None,
        id=row.id,
        at=row.at,
    )
