"""The api's way to the query log: nobody's search waits for the ledger to write down that it was made."""

from __future__ import annotations

import threading
from collections import OrderedDict

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from workers.contract import asked
from workers.contract.asked import Asked

log = structlog.get_logger()

EVERY_S = 0.5
MOST_WAITING = 10_000
"""Queries kept for a ledger that is away; older ones are then not remembered."""


class QueryLog:
    """Collects queries and writes them together, twice a second, from a thread of its own."""

    def __init__(self, engine: Engine, *, wanted: bool) -> None:
        self.wanted = wanted
        self._engine = engine
        self._waiting: OrderedDict[str, Asked] = OrderedDict()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="query-log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        if self.wanted:
            self._thread.start()

    def close(self) -> None:
        """Write what waits, and end."""
        self._stop.set()
        if self.wanted:
            self._thread.join(5)

    def add(self, query: Asked) -> None:
        """Remember a query soon."""
        if self.wanted:
            with self._lock:
                self._waiting[query.id] = query
                while len(self._waiting) > MOST_WAITING:
                    self._waiting.popitem(last=False)

    def find(self, query_id: str) -> Asked | None:
        """Return a query that waits or is written; None: not logged, or forgotten."""
        with self._lock:
            waiting = self._waiting.get(query_id)
        return waiting or asked.recall(self._engine, query_id)

    def forget(self) -> int:
        """Delete everything that is remembered; returns how many queries."""
        with self._lock:
            waiting = len(self._waiting)
            self._waiting.clear()
        return waiting + asked.forget(self._engine, older_than_days=0.0)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock:
            batch = list(self._waiting.values())
        if not batch:
            return
        try:
            asked.remember(self._engine, batch)
        except SQLAlchemyError as exc:
            log.warning("query.not_logged", error=type(exc).__name__, waiting=len(batch))
            return
        with self._lock:
            for query in batch:
                self._waiting.pop(query.id, None)
