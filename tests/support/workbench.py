"""One folder, one index worker, a real ledger, and everything else in memory: quick enough for thousands of runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Row, event, select, update

from tests.support.memory import CountingEmbedder, LineParser, MemoryIndex, RecordedHints
from workers.contract import schema
from workers.contract.intake import Observation, Stat, observe, register_source
from workers.contract.schema import documents
from workers.contract.states import FINAL
from workers.indexing.breaker import Breaker
from workers.indexing.chunk import ChunkOptions
from workers.indexing.embed import Embedding, Limits
from workers.indexing.leases import Leases, Tally
from workers.indexing.ledger import Ledger
from workers.indexing.recipe import Space
from workers.indexing.reconcile import Pipeline
from workers.indexing.worker import IndexWorker

RECIPE = "recipe"


class Workbench:
    """``wrap`` may put something between an attempt and its ledger and index; the embedding stage never meets it.

    Without ``durable`` a commit does not wait for the disk, which nothing here has to survive.
    """

    def __init__(
        self, home: Path, *, wrap: Callable[[Any], Any] = lambda port: port, limits: Limits | None = None, durable=True
    ) -> None:
        self.home, self.root = home, home / "docs"
        self.root.mkdir()
        self.engine = schema.open_ledger(f"sqlite:///{home}/ledger.db")
        if not durable:
            self.engine.dispose()
            event.listen(self.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF"))
        register_source(self.engine, "docs", "folder", str(self.root))
        self.ledger = Ledger(self.engine, "worker")
        self.index, self.parser, self.embedder = MemoryIndex(), LineParser(), CountingEmbedder()
        self.hints, self.breaker, tally = RecordedHints(), Breaker(), Tally()
        space, options = Space("model", 3), ChunkOptions(min_chars=1)
        pipeline = Pipeline(
            wrap(self.ledger), wrap(self.index), self.parser, space, "c", RECIPE, options, max_bytes=10_000
        )
        limits = limits or Limits(4, 1000, 2)
        embedding = Embedding(self.ledger, self.index, self.embedder, space, limits, self.breaker, tally)
        leases = Leases(self.ledger, lambda: None)
        self.worker = IndexWorker(self.ledger, pipeline, embedding, leases, self.hints, tally)

    # ------------------------------------------------------------------ what watchers do

    def write(self, name: str, text: str) -> str:
        """Write a file and have it noticed; returns the document's id."""
        (self.root / name).write_text(text)
        return self.see(name)

    def observation(self, name: str, *, bulk: bool = False) -> Observation:
        """Return what a watcher would record about a name."""
        path = self.root / name
        found = path.stat() if path.exists() else None
        stat = Stat(found.st_size, found.st_mtime_ns, found.st_ino) if found else None
        return Observation("docs", os.fsencode(name), stat, touched=True, bulk=bulk)

    def see(self, name: str) -> str:
        """Record it."""
        seen = self.observation(name)
        observe(self.engine, [seen])
        return seen.document_id

    # ------------------------------------------------------------------ what workers do

    def run(self, key: str) -> None:
        """Make a document true and fetch its vectors."""
        self.worker.look(key)
        self.worker.embed()

    # ------------------------------------------------------------------ time

    def expire(self, key: str | None = None) -> None:
        """Let leases and waiting times end."""
        with self.engine.begin() as connection:
            connection.execute(update(documents).values(next_try_at=None, embed_next_try_at=None))
            connection.execute(update(documents).where(documents.c.lease_until.is_not(None)).values(lease_until=1.0))

    def let_verifies_come_due(self) -> bool:
        """Let every verify that waits be due; False: there was none."""
        with self.engine.begin() as connection:
            waits = documents.c.verify_at.is_not(None)
            return connection.execute(update(documents).where(waits).values(verify_at=1.0)).rowcount > 0

    # ------------------------------------------------------------------ what is in the ledger

    def row(self, key: str) -> Row[Any]:
        """Return the row of a document."""
        with self.engine.connect() as connection:
            return connection.execute(select(documents).where(documents.c.id == key)).one()

    def change(self, key: str, **values: Any) -> None:
        """Change the row of a document."""
        with self.engine.begin() as connection:
            connection.execute(update(documents).where(documents.c.id == key).values(**values))

    def check_at_rest(self) -> None:
        """Nothing is under way, and nothing is waited for."""
        with self.engine.connect() as connection:
            for row in connection.execute(select(documents)):
                assert row.state in {str(state) for state in FINAL}, (row.path, row.reason)
                assert (row.lease_until, row.verify_at) == (None, None), row.path
                assert row.indexed_generation == row.desired_generation, row.path
