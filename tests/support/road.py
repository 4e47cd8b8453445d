"""The whole road of a document in one process: ledger, parser children, chunker, index, cache, embedding over HTTP."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from sqlalchemy import select

from tests.support.endpoint import Endpoint
from tests.support.memory import MemoryIndex, RecordedHints
from workers.adapters.budget import Budget
from workers.adapters.embeddings import EmbeddingClient
from workers.contract import schema
from workers.contract.intake import Observation, Stat, observe, register_source
from workers.contract.schema import documents
from workers.contract.settings import EmbeddingSettings
from workers.indexing.breaker import Breaker
from workers.indexing.chunk import ChunkOptions
from workers.indexing.embed import Embedding, Limits
from workers.indexing.leases import Leases, Tally
from workers.indexing.ledger import Ledger
from workers.indexing.parse.limits import Limits as ParseLimits
from workers.indexing.parse.pool import ParserPool
from workers.indexing.ports import Index, PendingPoint, Point, StoredPoint
from workers.indexing.recipe import Space
from workers.indexing.reconcile import Pipeline
from workers.indexing.worker import IndexWorker


class Shelves(MemoryIndex):
    """Finds a document's points without looking at all others."""

    def __init__(self) -> None:
        super().__init__()
        self._of: dict[str, dict[str, None]] = defaultdict(dict)

    def put(self, points: Sequence[Point], token: int) -> None:
        super().put(points, token)
        for point in points:
            self._of[point.payload["doc_id"]][point.id] = None

    def stored(self, document_id: str) -> dict[str, StoredPoint]:
        return self._only(document_id).stored(document_id)

    def pending(self, document_id: str) -> list[PendingPoint]:
        return self._only(document_id).pending(document_id)

    def drop_document(self, document_id: str, token: int) -> None:
        self.drop(list(self._of[document_id]), token)

    def _only(self, document_id: str) -> MemoryIndex:
        return MemoryIndex({key: self.points[key] for key in self._of[document_id] if key in self.points})


class Road:
    """Folders, and one index worker on them; unless it is given one, its index is a dictionary."""

    def __init__(
        self,
        home: Path,
        endpoint: Endpoint,
        *,
        index: Index | None = None,
        concurrency: int = 4,
        budget: Budget | None = None,
    ) -> None:
        self.home = home
        self.root = home / "docs"
        self.endpoint = endpoint
        self.engine = schema.open_ledger(f"sqlite:///{home}/ledger.db")
        for name in ("docs", "other"):
            (home / name).mkdir(exist_ok=True)
            register_source(self.engine, name, "folder", str(home / name))
        ledger, tally, space = Ledger(self.engine, "bench"), Tally(), Space("m", endpoint.behaviour.dimensions)
        self.index = index or Shelves()
        self.parser = ParserPool(children=2, limits=ParseLimits())
        self.client = EmbeddingClient(EmbeddingSettings(embeddings_url=endpoint.url, embeddings_model="m"))
        limits = Limits(128, 100_000, concurrency)
        self.embedding = Embedding(ledger, self.index, self.client, space, limits, Breaker(), tally, budget=budget)
        pipeline = Pipeline(
            ledger, self.index, self.parser, space, "c", "recipe", ChunkOptions(), 10**8, handover=self.embedding
        )
        leases = Leases(ledger, lambda: None)
        self.worker = IndexWorker(ledger, pipeline, self.embedding, leases, RecordedHints(), tally)

    def see(self, paths: Iterable[str], *, source: str = "docs") -> None:
        """Index what is at these paths now, and embed it."""
        for document in self.noticed(paths, source=source):
            self.worker.look(document)
        self.embedding.drain()

    def noticed(self, paths: Iterable[str], *, source: str = "docs", bulk: bool = False) -> list[str]:
        """Do what the watcher does; returns document ids."""
        seen = []
        for path in paths:
            file = self.home / source / path
            found = file.stat() if file.exists() else None
            stat = Stat(found.st_size, found.st_mtime_ns, found.st_ino) if found else None
            seen.append(Observation(source, path.encode(), stat, touched=True, bulk=bulk))
        observe(self.engine, seen)
        return [each.document_id for each in seen]

    def states(self) -> set[str]:
        """Return every state that some document is in."""
        with schema.reading(self.engine).connect() as connection:
            return set(connection.execute(select(documents.c.state)).scalars())

    def close(self) -> None:
        self.embedding.stop()
        self.parser.close()
        self.client.close()
        self.engine.dispose()
