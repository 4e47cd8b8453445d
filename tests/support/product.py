"""The whole of indexing in one process, over real parts: files, ledger, Qdrant's engine, an endpoint, any hints.

Only the parser is called directly instead of in a child.  Time does not pass by itself: leases, retries and verifies
end when a test says so.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from tests.support.checker import Checker, regular_files
from tests.support.endpoint import Endpoint, vectors
from tests.support.memory import RecordedHints
from workers.adapters import qdrant
from workers.adapters.embeddings import EmbeddingClient
from workers.contract import schema
from workers.contract.intake import Observation, Stat, observe, register_source
from workers.contract.schema import documents
from workers.contract.settings import EmbeddingSettings, IndexSettings
from workers.indexing.breaker import Breaker
from workers.indexing.cache import flights
from workers.indexing.chunk import ChunkOptions
from workers.indexing.cut import cut
from workers.indexing.embed import Embedding, Limits
from workers.indexing.leases import Leases, Tally
from workers.indexing.ledger import Ledger
from workers.indexing.parse.formats import parse_file
from workers.indexing.parse.limits import Limits as ParseLimits
from workers.indexing.recipe import Space
from workers.indexing.reconcile import Pipeline
from workers.indexing.values import Cut
from workers.indexing.worker import IndexWorker

RECIPE, MODEL, DIMENSIONS = "recipe", "model", 64
FOREVER_S = 1e6
SOURCE = "docs"


class InProcessParser:
    """The product's parsers without their child process."""

    def cut(self, fd: int, path: str, options: ChunkOptions, *, urgent: bool = False) -> Cut:
        return cut(parse_file(fd, path.rsplit("/", 1)[-1], ParseLimits().max_text_chars), options)


class Product:
    """One folder, one ledger, one collection, one worker.  ``wrap`` may put something between the worker and a port."""

    def __init__(
        self,
        home: Path,
        qdrant_url: str,
        collection: str,
        endpoint: Endpoint,
        *,
        hints: Any = None,
        wrap: Any = lambda port: port,
        model: str = MODEL,
        dimensions: int = DIMENSIONS,
    ) -> None:
        self.root = home / SOURCE
        self.root.mkdir(parents=True, exist_ok=True)
        self.collection = collection
        self.engine = schema.open_ledger(f"sqlite:///{home}/ledger.db")
        register_source(self.engine, SOURCE, "folder", str(self.root))
        self.ledger = Ledger(self.engine, "worker", lease_s=FOREVER_S, late_writes_s=FOREVER_S)
        self.client = qdrant.connect(IndexSettings(qdrant_url=qdrant_url))
        qdrant.create_collection(self.client, collection, dimensions, qdrant_url)
        self.index = qdrant.QdrantIndex(self.client, collection, qdrant_url)
        self.embedder = EmbeddingClient(EmbeddingSettings(embeddings_url=endpoint.url, embeddings_model=model))
        self.hints = hints or RecordedHints()
        options = ChunkOptions()
        space, tally = Space(model, dimensions), Tally()
        ledger, index, embedder = wrap(self.ledger), wrap(self.index), wrap(self.embedder)
        pipeline = Pipeline(ledger, index, InProcessParser(), space, collection, RECIPE, options, max_bytes=10_000_000)
        self._seconds = 0.0
        breaker = Breaker(clock=lambda: self._seconds)
        embedding = Embedding(ledger, index, embedder, space, Limits(16, 10_000, 1), breaker, tally)
        self.worker = IndexWorker(ledger, pipeline, embedding, Leases(self.ledger, lambda: None), self.hints, tally)
        self.checker = Checker(
            {SOURCE: self.root},
            qdrant_url,
            collection,
            self.engine,
            lambda texts: vectors(texts, dimensions),
            sample=100,
        )

    def close(self, *, keep_collection: bool = False) -> None:
        """Give everything back; the collection is deleted, unless another product is to have it."""
        if not keep_collection:
            self.client.delete_collection(self.collection)
        self.client.close()
        self.embedder.close()
        self.engine.dispose()

    def scan(self) -> None:
        """See what is there and what is not, as a watcher's full scan would, but without its patience."""
        observations = []
        present = set()
        for raw in regular_files(self.root):
            found = os.lstat(os.path.join(os.fsencode(self.root), raw))
            observations.append(Observation(SOURCE, raw, Stat(found.st_size, found.st_mtime_ns, found.st_ino)))
            present.add(raw)
        with self.engine.connect() as connection:
            known = connection.scalars(select(documents.c.raw_path).where(documents.c.wanted == "present")).all()
        observe(self.engine, [*observations, *(Observation(SOURCE, raw, None) for raw in known if raw not in present)])

    def let_leases_end(self) -> None:
        """Whoever holds a document or a text has been silent for too long; what waits for later still waits."""
        with self.ledger.vectors._room().begin() as connection:
            connection.execute(update(flights).values(until=1.0))
        with self.engine.begin() as connection:
            held = documents.c.lease_until.is_not(None)
            connection.execute(update(documents).where(held).values(lease_until=1.0))
            connection.execute(update(documents).values(embed_lease_until=None))

    def let_time_pass(self) -> None:
        """Every lease, flight, retry and verify that waits for a time has waited long enough."""
        self._seconds += 3600.0
        self.let_leases_end()
        with self.engine.begin() as connection:
            due = documents.c.verify_at.is_not(None)
            connection.execute(update(documents).where(due).values(verify_at=1.0))
            connection.execute(update(documents).values(next_try_at=None, embed_next_try_at=None))

    def settle(self, rounds: int = 30) -> None:
        """Do what is due until nothing is."""
        for _ in range(rounds):
            self.let_time_pass()
            due = self.ledger.due(RECIPE, 1000)
            for key, _ in due:
                self.worker.look(key)
            self.worker.embed()
            if not due and not self.ledger.has_embeddings_due():
                return
        raise AssertionError(f"still something to do after {rounds} rounds: {self.checker.unfinished()}")

    def write(self, name: str, text: str) -> Path:
        """Write a file below the root, making its folders."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def point_id(self, name: str) -> str:
        """Return the id of some point of a document."""
        for points in self.checker.stored().values():
            for point in points:
                if point["payload"]["metadata"]["path"] == os.fspath(name):
                    return str(point["id"])
        raise AssertionError(f"nothing is stored of {name}")
