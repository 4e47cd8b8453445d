"""The legal case: laws with sidecars, filtered by type, date and jurisdiction, give what their metadata says."""

from __future__ import annotations

import itertools
import json
import os

import pytest

from tests.support.memory import CountingEmbedder, LineParser, RecordedHints
from workers.adapters import qdrant
from workers.adapters.bm25 import search_vector
from workers.adapters.qdrant_search import QdrantSearch
from workers.contract import schema
from workers.contract.intake import Observation, Stat, observe, register_source
from workers.contract.settings import IndexSettings
from workers.indexing.breaker import Breaker
from workers.indexing.chunk import ChunkOptions
from workers.indexing.embed import Embedding, Limits
from workers.indexing.leases import Leases, Tally
from workers.indexing.ledger import Ledger
from workers.indexing.metadata import FolderRules
from workers.indexing.recipe import Space
from workers.indexing.reconcile import Pipeline
from workers.indexing.worker import IndexWorker
from workers.query.filters import read_filter

LAWS = [
    {
        "type": kind,
        "jurisdiction": where,
        "date": f"{year}-{month:02d}-15",
        "articles": year % 40,
        "in_force": month > 6,
    }
    for (kind, where), (year, month) in zip(
        itertools.cycle(itertools.product(["law", "decree", "order"], ["AD", "DE"])),
        itertools.product(range(2010, 2022, 2), [1, 7, 12]),
        strict=False,
    )
]


@pytest.fixture
def laws(tmp_path, qdrant_url, collection):
    """Every law indexed by the real pipeline into the real index."""
    root = tmp_path / "laws"
    root.mkdir()
    engine = schema.open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    register_source(engine, "laws", "folder", str(root))
    ledger = Ledger(engine, "worker")
    client = qdrant.connect(IndexSettings(qdrant_url=qdrant_url))
    qdrant.create_collection(client, collection, 3, qdrant_url)
    index, space, tally, breaker = qdrant.QdrantIndex(client, collection, qdrant_url), Space("m", 3), Tally(), Breaker()
    rules = FolderRules({"*.txt": {"corpus": "laws"}})
    pipeline = Pipeline(
        ledger, index, LineParser(), space, collection, "r", ChunkOptions(), max_bytes=10_000, rules=rules
    )
    embedding = Embedding(ledger, index, CountingEmbedder(), space, Limits(4, 1000, 2), breaker, tally)
    worker = IndexWorker(ledger, pipeline, embedding, Leases(ledger, lambda: None), RecordedHints(), tally)
    for number, law in enumerate(LAWS):
        name = f"{number}.txt"
        (root / name).write_text(f"Article 1 of law {number} on water")
        (root / f"{name}.meta.json").write_text(json.dumps(law))
        found = (root / name).stat()
        seen = Observation("laws", os.fsencode(name), Stat(found.st_size, found.st_mtime_ns, found.st_ino))
        observe(engine, [seen])
        worker.look(seen.document_id)
    search = QdrantSearch(IndexSettings(qdrant_url=qdrant_url, collection=collection), timeout=10)
    yield search
    search.close()
    client.delete_collection(collection)
    client.close()
    engine.dispose()


def test_type_date_and_jurisdiction_give_exactly_the_laws_that_their_metadata_names(laws):
    asked = 0
    for kind, where, year in itertools.product(["law", "decree", None], ["AD", "DE"], range(2009, 2023, 2)):
        raw = {"jurisdiction": where, "date": {"gte": str(year)}, "corpus": "laws"} | ({"type": kind} if kind else {})
        found = laws.find(search_vector("water"), None, limit=100, filters=read_filter(raw))
        expected = {
            f"{number}.txt"
            for number, law in enumerate(LAWS)
            if law["jurisdiction"] == where and law["date"] >= str(year) and kind in (None, law["type"])
        }
        assert {one.metadata["path"] for one in found} == expected, raw
        asked += bool(expected)

    assert asked > 20
    [one] = laws.find(
        search_vector("water"),
        None,
        limit=9,
        filters=read_filter({"articles": 10, "date": "2010-07", "in_force": True}),
    )
    assert (one.metadata["created"], one.metadata["articles"]) == ("2010-07-15", 10)
