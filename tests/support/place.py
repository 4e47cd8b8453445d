"""One folder, one ledger, Qdrant's engine, and a worker that obeys hints at once: all that an audit needs to see."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from qdrant_client import models as m
from sqlalchemy import select, update

from producers.listing import FilesOnDisk
from producers.roots import place_marker
from tests.support.memory import CountingEmbedder, LineParser
from workers.adapters import qdrant
from workers.adapters.qdrant_audit import QdrantAudit
from workers.contract import schema
from workers.contract.identity import document_id
from workers.contract.intake import Observation, Stat, observe, register_source
from workers.contract.schema import documents
from workers.contract.settings import IndexSettings
from workers.housekeeping.auditor import Auditor
from workers.housekeeping.docket import Docket
from workers.indexing.breaker import Breaker
from workers.indexing.chunk import ChunkOptions
from workers.indexing.embed import Embedding, Limits
from workers.indexing.leases import Leases, Tally
from workers.indexing.ledger import Ledger
from workers.indexing.recipe import Space
from workers.indexing.reconcile import Pipeline
from workers.indexing.worker import IndexWorker


class Place:
    """One folder, one worker that obeys hints at once, Qdrant's engine; parser and embedder count what they do."""

    def __init__(self, home: Path, url: str, collection: str, make_index: Any = qdrant.QdrantIndex) -> None:
        self.make_index = make_index
        self.home, self.url, self.collection = home, url, collection
        self.root = home / "docs"
        self.root.mkdir()
        self.marker = place_marker(self.root)
        self.client = qdrant.connect(IndexSettings(qdrant_url=url))
        self.parser, self.embedder = LineParser(), CountingEmbedder()
        self.open_ledger()

    def open_ledger(self) -> None:
        """Open the ledger, or a new one when its file is gone."""
        self.engine = schema.open_ledger(f"sqlite:///{self.home}/ledger.db")
        register_source(self.engine, "docs", "folder", str(self.root), self.marker)
        ledger = Ledger(self.engine, "worker")
        index = self.make_index(self.client, self.collection, self.url)
        space = Space("model", 3)
        options = ChunkOptions(min_chars=1)
        pipeline = Pipeline(ledger, index, self.parser, space, self.collection, "recipe", options, max_bytes=10_000)
        embedding = Embedding(ledger, index, self.embedder, space, Limits(4, 1000, 2), Breaker(), Tally())
        self.worker = IndexWorker(ledger, pipeline, embedding, Leases(ledger, lambda: None), self, Tally())
        self.docket = Docket(self.engine)

    def lose_ledger(self) -> None:
        """The ledger is gone, and so is the embedding cache beside it."""
        self.engine.dispose()
        for file in (*self.home.glob("ledger.db*"), *self.home.glob("vectors.db*")):
            file.unlink()
        self.open_ledger()

    def keep_ledger(self) -> Path:
        """Copy the ledger as it is now."""
        copy = self.home / "yesterday.db"
        with sqlite3.connect(self.home / "ledger.db") as now, sqlite3.connect(copy) as then:
            now.backup(then)
        return copy

    def restore_ledger(self, copy: Path) -> None:
        self.engine.dispose()
        for file in self.home.glob("ledger.db-*"):
            file.unlink()
        shutil.copy(copy, self.home / "ledger.db")
        self.open_ledger()

    def close(self) -> None:
        self.engine.dispose()
        self.client.delete(self.collection, m.Filter(must=[]))
        self.client.close()

    # hints are obeyed at once
    def look(self, document_ids: list[str], *, bulk: bool = False) -> bool:
        for key in document_ids:
            self.worker.look(key)
        self.worker.embed()
        return True

    def embed(self) -> bool:
        return True

    # what watchers do
    def see(self, *names: str, indexed: bool = True) -> None:
        seen = []
        for name in names:
            path = self.root / name
            found = path.stat() if path.exists() else None
            stat = Stat(found.st_size, found.st_mtime_ns, found.st_ino) if found else None
            seen.append(Observation("docs", os.fsencode(name), stat, touched=True))
        dirty = observe(self.engine, seen)
        if indexed:
            self.look(dirty)

    def write(self, name: str, text: str) -> str:
        (self.root / name).write_text(text)
        self.see(name)
        return self.id(name)

    def id(self, name: str) -> str:
        return document_id("docs", name)

    # what is there
    def points(self, name: str | None = None):
        condition = None
        if name is not None:
            match = m.MatchValue(value=self.id(name))
            condition = m.Filter(must=[m.FieldCondition(key="doc_id", match=match)])
        records, _ = self.client.scroll(self.collection, condition, limit=1000, with_payload=True, with_vectors=True)
        return sorted(records, key=lambda record: record.payload.get("chunk_index", -1))

    def contents(self, name: str) -> list[str]:
        return [record.payload["content"] for record in self.points(name)]

    def row(self, name: str):
        with self.engine.connect() as connection:
            return connection.execute(select(documents).where(documents.c.id == self.id(name))).one()

    def put(self, name: str, **values: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(update(documents).where(documents.c.id == self.id(name)).values(**values))

    # what audits do
    def auditor(self, **more) -> Auditor:
        index = more.pop("index", None) or QdrantAudit(self.client, self.collection, self.url)
        options = {"interval_s": 0.0, "patience_s": 0.0, "settle_s": 5.0} | more
        return Auditor(self.engine, lambda: index, FilesOnDisk(), self, self.home / "notes", **options)

    def audit(self, *, repair: bool = False, deep: bool = False, **more) -> dict:
        self.docket.ask("person", repair=repair, deep=deep)
        report = self.auditor(**more).turn()
        assert report is not None
        return report
