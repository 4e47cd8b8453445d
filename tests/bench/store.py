"""What storing a chunk costs the embedded Qdrant, in processor time, by step and by what the engine does beside.

    python -m tests.bench store [POINTS] [--rounds 5]

Points are as an index worker writes them: each stored with its payload and BM25 vector, 16 to an operation and three
operations to a request; later its vector of 384 numbers and `embedded`, 105 to a request.  Reading requests is the
server's own code; behind it is the engine alone, in memory, as it is and without payload indexes, write-ahead log or
conditions.  Of all rounds the least counts.  There is no HTTP in it.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
import orjson
import qdrant_edge as q

from ops.embedded.qdrant import schema, updates
from ops.embedded.qdrant.vectors import shown
from tests.bench import corpus
from tests.bench.index import DIMENSIONS
from workers.adapters.qdrant import PAYLOAD_INDEXES

CREATION = {"vectors": {"size": DIMENSIONS, "distance": "Cosine"}, "sparse_vectors": {"bm25": {"modifier": "idf"}}}
CHUNK_CHARS, OF_A_DOCUMENT, DOCUMENTS_TOGETHER, VECTORS_TOGETHER = 600, 16, 3, 105
TOKEN = 1_795_692_904_343

T = TypeVar("T")
Least = dict[str, float]


def main(args: list[str]) -> int:
    """Print microseconds of processor time for each point."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench store")
    parser.add_argument("points", type=int, nargs="?", default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(args)
    points = list(_points(options.points, random.Random(1)))
    requests = [orjson.dumps(request, option=orjson.OPT_SERIALIZE_NUMPY) for request in _requests(points)]
    print(f"{len(points)} points, {len(requests)} requests, {sum(map(len, requests)):,} bytes; CPU µs for each point")
    least: Least = {}
    for _ in range(options.rounds):
        _read(requests, least)
        _stored(requests, least, "as it is")
        _stored(requests, least, "without payload indexes", indexes=False)
        _stored(requests, least, "without a log", log=False)
        _stored(requests, least, "without conditions", conditions=False)
    for what, seconds in least.items():
        print(f"{1e6 * seconds / len(points):8.1f}  {what}")
    return 0


def _read(requests: Sequence[bytes], least: Least) -> None:
    spaces = schema.read_creation(CREATION).spaces
    bodies = _timed(least, "JSON", lambda: [orjson.loads(request) for request in requests])
    _timed(least, "operations, with their points", lambda: [updates.batch(body, spaces) for body in bodies])
    points = [
        point for body in bodies for each in body["operations"] for point in each.get("upsert", {}).get("points", ())
    ]
    _timed(least, "  of it the engine's reading of payloads", lambda: [q.Point(1, {}, p["payload"]) for p in points])


def _stored(
    requests: Iterable[bytes],
    least: Least,
    how: str,
    *,
    indexes: bool = True,
    log: bool = True,
    conditions: bool = True,
) -> None:
    made = schema.read_creation(CREATION)
    config = made.config if log else _without_log(made.config)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        shard = q.EdgeShard.create(memory, config)
        for field, kind in PAYLOAD_INDEXES.items() if indexes else ():
            body = {
                "field_name": field,
                "field_schema": kind if isinstance(kind, str) else kind.model_dump(mode="json"),
            }
            shard.update(q.UpdateOperation.create_field_index(*schema.read_index(body)))
        for name in ("upsert", "update_vectors", "set_payload"):
            operations = [
                updates.OPERATIONS[name](each[name] if conditions else _unconditional(each[name]), made.spaces)
                for request in requests
                for each in orjson.loads(request)["operations"]
                if name in each
            ]
            _timed(least, f"engine, {how}: {name}", lambda these=operations: [shard.update(each) for each in these])
        shard.close()


def _without_log(config: Any) -> Any:
    return q.EdgeConfig(
        vectors=config.vectors,
        sparse_vectors=config.sparse_vectors,
        hnsw_config=config.hnsw_config,
        optimizers=config.optimizers,
        max_search_threads=config.max_search_threads,
        wal_enabled=False,
    )


def _unconditional(operation: dict[str, Any]) -> dict[str, Any]:
    if "filter" in operation:
        return {"payload": operation["payload"], "points": operation["filter"]["must"][0]["has_id"]}
    return {name: value for name, value in operation.items() if name != "update_filter"}


def _timed(least: Least, what: str, step: Callable[[], T]) -> T:
    before = time.thread_time()
    found = step()
    least[what] = min(least.get(what, float("inf")), time.thread_time() - before)
    return found


def _points(count: int, draw: random.Random) -> Iterator[dict[str, Any]]:
    words = q.Bm25(q.Bm25Config())
    with tempfile.TemporaryDirectory() as folder:
        corpus.make(Path(folder), 1 + count // 10)
        texts = (path.read_text() for path in sorted(Path(folder).rglob("*.md")))
        chunks = [text[at : at + CHUNK_CHARS] for text in texts for at in range(0, len(text), CHUNK_CHARS)]
    for number, text in enumerate(chunks[:count]):
        document, chunk = divmod(number, OF_A_DOCUMENT)
        of_document = random.Random(document)
        metadata = {
            "title": f"Note {document}: information in the form of",
            "heading": f"Note {document}: information in the form of > {chunk}. What is there",
            "path": f"part-{document // 10:04d}/note-{document:05d}.md",
            "modified": "2026-01-02T03:04:05+00:00",
            **{"author": None, "url": None, "created": None, "page": None, "chunk": chunk},
            **{"source": "docs", "filetype": "text/markdown", "language": "en"},
        }
        payload = {
            **{"content": text, "metadata": metadata, "chunk_index": chunk, "tenant": "default", "token": TOKEN},
            **{
                "doc_id": str(UUID(int=of_document.getrandbits(128))),
                "version": f"{of_document.getrandbits(256):064x}",
            },
            **{"digest": f"{draw.getrandbits(128):032x}", "indexed_at": "2026-01-02T03:04:05.678+00:00"},
        }
        vector = {"bm25": shown(words.embed_document(text))}
        yield {"id": str(UUID(int=draw.getrandbits(128))), "vector": vector, "payload": payload | {"embedded": False}}


def _requests(points: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    older = {"must": [{"key": "token", "range": {"lt": TOKEN}}]}
    puts = [{"upsert": {"points": some, "update_filter": older}} for some in _parts(points, OF_A_DOCUMENT)]
    for some in _parts(puts, DOCUMENTS_TOGETHER):
        yield {"operations": some}
    numbers = np.random.default_rng(1)
    for some in _parts([point["id"] for point in points], VECTORS_TOGETHER):
        vectors = [{"id": key, "vector": numbers.normal(size=DIMENSIONS).astype(np.float32)} for key in some]
        done = {"payload": {"embedded": True}, "filter": {"must": [{"has_id": some}]}}
        yield {"operations": [{"update_vectors": {"points": vectors}}, {"set_payload": done}]}


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
