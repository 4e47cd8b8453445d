"""What an audit reads and changes in the ledger: rows in the order of ids, and new looks at documents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Row, case, func, select, update

from workers.contract import schema
from workers.contract.intake import ALIVE_S, Stat
from workers.contract.schema import documents, processes, sources
from workers.contract.states import FINAL, MOVING, State
from workers.housekeeping.findings import Booked
from workers.indexing.facts import COLLECTION_FACT, RECIPE_FACT

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Home:
    """A source as the ledger knows it."""

    name: str
    kind: str
    root: str
    marker: str | None


class Books:
    """The ledger, as an audit uses it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reading = schema.reading(engine)

    def homes(self) -> dict[str, Home]:
        """Return every source by its name."""
        with self._reading.connect() as connection:
            rows = connection.execute(select(sources).order_by(sources.c.name)).all()
        return {row.name: Home(row.name, row.kind, row.root, row.marker) for row in rows}

    def rows(self) -> Iterator[Booked]:
        """Yield every document in the order of ids, page by page: no transaction stays open."""
        after = ""
        while True:
            page = self._select(documents.c.id > after, limit=PAGE)
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].document_id

    def rows_of(self, document_ids: Sequence[str]) -> dict[str, Booked]:
        """Return these documents by id; unknown ones are left out."""
        return {row.document_id: row for row in self._select(documents.c.id.in_(document_ids))}

    def busy_sources(self) -> set[str]:
        """Return the sources whose watcher has something in hand right now."""
        with self._reading.connect() as connection:
            now = connection.scalar(select(schema.now(connection))) or 0.0
            rows = connection.execute(
                select(processes.c.beat_at, processes.c.info).where(processes.c.kind == "watcher")
            )
            infos = [json.loads(row.info) for row in rows if now - row.beat_at < ALIVE_S]
        return {name for info in infos if info.get("dirty") or info.get("scanning") for name in info.get("sources", ())}

    def at_rest(self) -> bool:
        """Tell whether an index worker has been here, every folder has been scanned and nothing is being worked on."""
        with self._reading.connect() as connection:
            unscanned = connection.scalar(
                select(sources.c.name).where(sources.c.kind == "folder", sources.c.scanned_at.is_(None)).limit(1)
            )
            moving_one = connection.scalar(select(documents.c.id).where(documents.c.state.in_(MOVING)).limit(1))
            collection = connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == COLLECTION_FACT))
        return collection is not None and unscanned is None and moving_one is None and not self.busy_sources()

    def chunks(self, collection: str) -> int:
        """Return how many points the ledger expects in ``collection``."""
        query = select(func.coalesce(func.sum(documents.c.chunks), 0)).where(
            documents.c.collection == collection, documents.c.wanted == "present"
        )
        with self._reading.connect() as connection:
            return int(connection.scalar(query) or 0)

    def look_again(self, document_ids: Sequence[str]) -> list[str]:
        """Have documents compared with source and index once more, whatever the ledger believes; returns their ids.

        A generation of its own, so that the sweep sends hints until it is done, and a verify, so that the answer is not
        "these bytes are indexed already".
        """
        with self._engine.begin() as connection:
            rows = connection.execute(
                update(documents)
                .where(documents.c.id.in_(document_ids), documents.c.state != State.HELD)
                .values(
                    desired_generation=documents.c.desired_generation + 1,
                    verify_at=schema.now(connection),
                    state=case((documents.c.state == State.PARSING, State.PARSING.value), else_=State.QUEUED.value),
                    attempts=0,
                    next_try_at=None,
                    bulk=True,
                )
                .returning(documents.c.id)
            ).all()
        return [row.id for row in rows]

    def outgrow(self, tokens: Mapping[str, int]) -> None:
        """Move the tokens of documents past those that the index has seen: the ledger was restored from a copy."""
        with self._engine.begin() as connection:
            for document, token in tokens.items():
                connection.execute(
                    update(documents)
                    .where(documents.c.id == document, documents.c.token <= token)
                    .values(token=token + 1, lease_until=None, lease_owner=None)
                )

    def _select(self, condition: Any, limit: int | None = None) -> list[Booked]:
        query = select(documents).where(condition).order_by(documents.c.id).limit(limit)
        with self._reading.connect() as connection:
            now = connection.scalar(select(schema.now(connection))) or 0.0
            recipe = connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == RECIPE_FACT))
            rows = connection.execute(query).all()
        return [_booked(row, now, recipe) for row in rows]


def _booked(row: Row[Any], now: float, recipe: str | None) -> Booked:
    at_rest = row.state in FINAL or row.state == State.EMBEDDING
    done = row.desired_generation == row.indexed_generation or row.state == State.HELD
    # A verify that is to come, an old recipe: an index worker will look at it anyway, and then it is right.
    due = row.verify_at is not None or (recipe is not None and row.recipe is not None and row.recipe != recipe)
    seen = None if row.seen_size is None else Stat(row.seen_size, row.seen_mtime_ns, row.seen_inode)
    return Booked(
        document_id=row.id,
        source=row.source,
        path=row.path,
        raw_path=bytes(row.raw_path),
        state=row.state,
        wanted=row.wanted,
        settled=at_rest and done and not due and row.lease_until is None,
        chunks=row.chunks,
        version=row.version,
        token=row.token,
        collection=row.collection,
        seen=seen,
        generation=row.desired_generation,
    )
