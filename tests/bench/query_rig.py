"""What queries are measured on: a filled embedded Qdrant and, behind the same broker, a query worker and an api."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from ops.embedded.valkey import ping, valkey_command
from tests.bench.corpus import SHARED, paragraphs
from tests.conftest import HOST, answers, free_port, module, running
from tests.support.endpoint import Endpoint, vectors
from tests.support.stack import environment
from workers.adapters.qdrant import QdrantIndex, connect, create_collection, point_alias
from workers.contract.identity import document_id, text_digest
from workers.contract.settings import IndexSettings
from workers.indexing.ports import Point
from workers.indexing.values import Chunk

COLLECTION = "upwell"
PHYSICAL = "upwell-bench"
DIMENSIONS = 384
QUESTIONS = 400
SPREAD = 1.2
"""Most that is added to a question's vector, in its lengths, to make a point's: cosines from .6 up in a cluster."""

CHUNKS = 12  # of a document
TYPES = ("text/markdown", "text/plain", "application/pdf", "text/html")
FRESH = 20_000


class Rig:
    """A context manager; everything listens on free ports and is gone on exit, the store's directory excepted."""

    def __init__(self, scratch: Path, data: Path, points: int) -> None:
        self._scratch = scratch
        self._data = data
        self._points = points
        self._stack = ExitStack()
        self.questions = _questions()
        self.pids: dict[str, int] = {}
        self.qdrant_url = self.broker_url = self.embeddings_url = self.api_url = ""

    def __enter__(self) -> Rig:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        endpoint = stack.enter_context(Endpoint(dimensions=DIMENSIONS))
        self.embeddings_url = endpoint.url
        self._data.mkdir(parents=True, exist_ok=True)
        self.qdrant_url = f"http://{HOST}:{(port := free_port())}"
        command = module("ops.embedded.qdrant", port, "--path", str(self._data))
        started = stack.enter_context(running(command, lambda: answers(self.qdrant_url + "/readyz")))
        self.pids["qdrant"] = started.pid
        self._fill()
        port, password = free_port(), uuid4().hex
        self.broker_url = f"redis://:{password}@{HOST}:{port}/0"
        command = valkey_command(self._scratch / "valkey", port, password)
        broker = stack.enter_context(running(command, lambda: ping(self.broker_url)))
        port = free_port()
        self.api_url = f"http://{HOST}:{port}"
        clean = environment(
            UPWELL_LEDGER_URL=f"sqlite:///{self._scratch}/ledger.db",
            UPWELL_BROKER_URL=self.broker_url,
            UPWELL_QDRANT_URL=self.qdrant_url,
            UPWELL_COLLECTION=COLLECTION,
            UPWELL_EMBEDDINGS_URL=self.embeddings_url,
            UPWELL_EMBEDDINGS_MODEL="bench",
            UPWELL_DATA_DIR=str(self._scratch),
            UPWELL_API_PORT=str(port),
            UPWELL_LOG_LEVEL="error",
            OMP_NUM_THREADS="1",
        )
        os.environ.clear()
        os.environ.update(clean)
        upwell = [sys.executable, "-m", "ops.cli"]
        api = stack.enter_context(running([*upwell, "api"], lambda: answers(self.api_url + "/readyz")))
        worker = stack.enter_context(running([*upwell, "worker", "query"], lambda: True))
        self.pids |= {"query": worker.pid, "broker": broker.pid, "api": api.pid}

    def _fill(self) -> None:
        settings = IndexSettings(qdrant_url=self.qdrant_url, collection=COLLECTION, qdrant_timeout=600)
        client = connect(settings)
        try:
            if client.collection_exists(COLLECTION) and client.count(COLLECTION).count >= self._points:
                return
            create_collection(client, PHYSICAL, DIMENSIONS, self.qdrant_url)
            index = QdrantIndex(client, PHYSICAL, self.qdrant_url)
            started, cpu = time.perf_counter(), cpu_s(self.pids["qdrant"])
            batch: list[Point] = []
            for point in points(self.questions, self._points):
                batch.append(point)
                if len(batch) == 512:
                    index.put(batch, 1)
                    batch.clear()
            index.put(batch, 1)
            point_alias(client, COLLECTION, PHYSICAL, self.qdrant_url)
            spent = time.perf_counter() - started
            cpu = cpu_s(self.pids["qdrant"]) - cpu
            print(f"filled {self._points:,} points in {spent:.0f} s, {cpu:.0f} CPU s of Qdrant's")
            self.settle()
        finally:
            client.close()

    def settle(self) -> None:
        """Wait until Qdrant has merged what writes have left: it does so after some quiet seconds."""
        time.sleep(8)
        before = -1.0
        while (now := cpu_s(self.pids["qdrant"])) - before > 0.2:
            before = now
            time.sleep(2)

    # ------------------------------------------------------------------------------------------------ upkeep

    def upkeep(self) -> None:
        """Write, flush, delete a third and have the shard rewritten; say how long searches beside it waited."""
        settings = IndexSettings(qdrant_url=self.qdrant_url, qdrant_timeout=600)
        client = connect(settings)
        index = QdrantIndex(client, PHYSICAL, self.qdrant_url)
        fresh = list(points(self.questions, FRESH, seed=int(time.time())))
        gone = [record.id for record in client.scroll(PHYSICAL, limit=self._points * 2 // 5, with_payload=False)[0]]
        print(f"\n{'searches beside':42}{'seconds':>9}{'p50':>8}{'p99':>8}{'longest':>9} ms")
        with _searching(settings, self.questions) as waits:
            for name, work in (
                ("nothing", lambda: time.sleep(5)),
                (f"{FRESH:,} upserts", lambda: index.put(fresh, 1)),
                ("the flush after them", lambda: time.sleep(10)),
                (f"{len(gone):,} deletes", lambda: index.drop(gone, 1)),
                ("flush, copy, rewriting, change-over", self._rewritten),
            ):
                waits.clear()
                started = time.perf_counter()
                work()
                spent, found = time.perf_counter() - started, sorted(waits) or [0.0]
                middle, late = found[len(found) // 2], found[int(len(found) * 0.99)]
                print(f"{name:42}{spent:9.1f}{middle:8.1f}{late:8.1f}{found[-1]:9.1f}")
        client.close()

    def _rewritten(self) -> None:
        """Wait until the collection has another shard than before, and the old one is gone."""
        shards = self._data / "shards"
        [before] = shards.iterdir()
        deadline = time.monotonic() + 240
        while [each for each in shards.iterdir() if each == before] and time.monotonic() < deadline:
            time.sleep(0.1)


@contextmanager
def _searching(settings: IndexSettings, questions: Sequence[str]) -> Iterator[list[float]]:
    """Search without pause; gives the list that milliseconds are added to."""
    waits: list[float] = []
    stop = threading.Event()
    queries = vectors(questions, DIMENSIONS).tolist()

    def run() -> None:
        client = connect(settings)
        for query in itertools.cycle(queries):
            if stop.wait(0.02):
                break
            started = time.perf_counter()
            client.query_points(COLLECTION, query=query, limit=10)
            waits.append((time.perf_counter() - started) * 1000)
        client.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield waits
    finally:
        stop.set()
        thread.join()


def points(questions: Sequence[str], count: int, *, seed: int = 1) -> Iterator[Point]:
    """Yield chunks of documents as the index worker stores them."""
    draw, dice = random.Random(seed), np.random.default_rng(seed)
    texts = list(paragraphs(None))
    centres = vectors(questions, DIMENSIONS)
    for number in range(count):
        document, place = divmod(number, CHUNKS)
        if place == 0:
            key, meta = _document(document, seed, draw)
        content = " ".join(draw.choices(texts, k=2))[:900] + f" (n{seed}.{number})"
        heading = " ".join(re.findall(r"\w+", draw.choice(texts))[:6])
        chunk = Chunk(key, content, f"{heading}\n\n{content}", 0, place, heading)
        noise = dice.standard_normal(DIMENSIONS, dtype=np.float32)
        vector = centres[draw.randrange(len(centres))] + noise * (SPREAD * draw.random() / np.linalg.norm(noise) + 0.02)
        yield Point(
            id=chunk.id,
            text=chunk.embedded_text,
            payload={
                "content": content,
                "metadata": {**meta, "heading": heading, "page": None, "chunk": place},
                "doc_id": key,
                "version": text_digest(f"{seed}.{document}"),
                "chunk_index": place,
                "digest": chunk.digest,
                "tenant": "default",
            },
            vector=vector,
        )


def _document(number: int, seed: int, draw: random.Random) -> tuple[str, dict[str, Any]]:
    path = f"part-{number // 100:04d}/note-{seed}-{number:06d}.md"
    date = f"{draw.randint(2005, 2025)}-{draw.randint(1, 12):02d}-{draw.randint(1, 28):02d}"
    return document_id("bench", path), {
        "title": f"Note {number}",
        "language": "en",
        "author": draw.choice(("Ada", "Grace", "Alan", "Edsger")),
        "created": None,
        "modified": f"{date}T10:00:00+00:00",
        "url": None,
        "source": "bench",
        "path": path,
        "filetype": draw.choice(TYPES),
        "date": date,
        "jurisdiction": draw.choice(("DE", "AD", "FR", "ES")),
    }


def _questions() -> list[str]:
    """Return real questions, or drawn words where the data are missing."""
    file = SHARED / "retrieval" / "covidqa" / "queries.jsonl"
    if file.exists():
        rows = [json.loads(line)["text"] for line in file.open(encoding="utf-8")]
        return list(dict.fromkeys(row.strip() for row in rows if row.strip()))[:QUESTIONS]
    draw = random.Random(0)
    texts = list(paragraphs(None))
    return [" ".join(draw.sample(draw.choice(texts).split(), 6)) for _ in range(QUESTIONS)]


def cpu_s(pid: int) -> float:
    """Return the processor seconds that a process has used, to the nanosecond (its finished threads left out)."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def memory(pid: int) -> str:
    """Say how much memory a process has."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {row.split(":")[0]: int(row.split()[1]) // 1024 for row in rows}
    return f"resident {sizes['Rss']} MB: own {sizes['Anonymous']}, of files {sizes['Rss'] - sizes['Anonymous']}"
