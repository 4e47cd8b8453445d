"""Feels now and then whether the collection is there and as full as the ledger says.

A collection that was deleted, or data of Qdrant that were emptied while everything runs, raise no error for a document
that nobody touches.  Here they are noticed within a minute, whoever else is idle.
"""

from __future__ import annotations

import json
import threading
import time

import structlog
from sqlalchemy.exc import SQLAlchemyError

from workers.adapters import qdrant
from workers.errors import WorkerError
from workers.housekeeping.books import Books
from workers.housekeeping.docket import Docket
from workers.indexing.facts import COLLECTION_FACT
from workers.indexing.ledger import Ledger
from workers.indexing.recipe import space_fact

log = structlog.get_logger()

PULSE_S = 10.0
SHARE = 0.02
"""Of the time, what counting may take: the sum over millions of documents takes seconds."""
CHEAP_S = 0.2
TURN_S = 30.0
TWICE = 2
COUNT_AUDITS_S = 600.0
"""A number that differs asks for an audit at most this often: some differences nobody but a person can mend."""


class Pulse:
    """One collection, by its alias."""

    def __init__(
        self, ledger: Ledger, books: Books, docket: Docket, client: qdrant.Client, *, alias: str, url: str
    ) -> None:
        self._ledger, self._books, self._docket = ledger, books, docket
        self._client, self._alias, self._url = client, alias, url
        self._differed = 0
        self._count_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Start feeling."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(PULSE_S):
            try:
                self.feel()
            except (WorkerError, SQLAlchemyError) as exc:  # away or busy: the next pulse tries again
                told = str(exc) if isinstance(exc, WorkerError) else type(exc).__name__
                log.warning("pulse.failed", error=told)

    def feel(self) -> None:
        """Look once: make the collection again if it is gone, ask for an audit if the number of points is wrong."""
        collection = self._ledger.fact(COLLECTION_FACT)
        if collection is None:
            return  # no index worker has ever been ready
        names, aliases = qdrant.physical_collections(self._client, self._url)
        if collection not in names:
            self._rebuild(collection)
        elif self._alias not in aliases:
            log.warning("index.alias_gone", alias=self._alias, collection=collection)
            qdrant.point_alias(self._client, self._alias, collection, self._url)
        elif time.monotonic() >= self._count_at:
            self._count(collection)

    def _rebuild(self, collection: str) -> None:
        """Have every document indexed again, then make the collection: a crash in between does it once more.

        Vectors come from the cache beside the ledger, so nothing is paid for again.
        """
        space = self._ledger.fact(space_fact(collection))
        if space is None or not self._ledger.take_turn("rebuild", TURN_S):
            return
        names, _ = qdrant.physical_collections(self._client, self._url)
        if collection in names:
            return  # another housekeeper was faster
        lost = self._ledger.dirty_all(collection)
        log.warning("index.rebuilding", documents=lost, reason="the collection is not there any more")
        qdrant.create_collection(self._client, collection, int(json.loads(space)["dimensions"]), self._url)
        qdrant.point_alias(self._client, self._alias, collection, self._url)

    def _count(self, collection: str) -> None:
        """Ask for an audit when the number of points was wrong twice in a row."""
        began = time.monotonic()
        self._differed = self._differed + 1 if self._wrong_number(collection) else 0
        took = time.monotonic() - began
        if took > CHEAP_S:
            self._count_at = began + took / SHARE
        if self._differed >= TWICE:
            self._differed = 0
            self._ask()

    def _wrong_number(self, collection: str) -> bool:
        """Compare the number of points with the ledger's, at rest; the difference that is known does not count."""
        if not self._books.at_rest():
            return False
        points = qdrant.QdrantIndex(self._client, collection, self._url).count()
        surplus = points - self._books.chunks(collection)
        if not self._books.at_rest():
            return False
        last = self._docket.last()
        known = (last.report or {}).get("surplus", 0) if last is not None else 0
        return bool(surplus != known)

    def _ask(self) -> None:
        if self._docket.running() is None and self._docket.ago() > COUNT_AUDITS_S:
            log.warning(
                "index.wrong_number", reason="there are not as many points as the ledger says; asks for an audit"
            )
            self._docket.ask("count", repair=True)
