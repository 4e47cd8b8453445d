"""What a document of a backfill costs, in processor time: the index worker's functions in one process, over real parts.

    python -m tests.bench work [FILES] [--alone] [--tiny] [--profile]

Real are ledger, parser children, the embedded Qdrant and an embedding endpoint without cost of its own; not there are
the broker, the watcher and every other process.  ``--alone``: each document by itself, as a live edit is; ``--tiny``:
files of one line instead of 10 kB; ``--profile``: the functions that take most, of all threads that index.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psutil

from ops.cli.processes import OBJECTS_BETWEEN_COLLECTIONS
from tests.bench import corpus
from tests.bench.index import DIMENSIONS, Endpoint, answers, free_port, wait_until
from tests.support.road import Road
from tests.support.stack import ROOT
from workers.adapters import qdrant
from workers.contract.logs import set_up_logs
from workers.contract.settings import IndexSettings
from workers.indexing.chunk import ChunkOptions

THREADS = 3  # of an index worker's four, one is kept free of bulk documents
TOGETHER = 16


def main(args: list[str]) -> int:
    """Index a folder once and say where the processor time went."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench work")
    parser.add_argument("files", type=int, nargs="?", default=300)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args(args)
    set_up_logs("bench", level="warning")
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)  # as the index worker does
    with tempfile.TemporaryDirectory(prefix="upwell-bench-", ignore_cleanup_errors=True) as scratch:
        _measure(Path(scratch), options)
    return 0


def _measure(home: Path, options: argparse.Namespace) -> None:
    docs = home / "docs"
    docs.mkdir()
    if options.tiny:
        for number in range(options.files):
            (docs / f"{number}.md").write_text(f"# Note {number}\n\nThe word{number} stands here.\n")
    else:
        corpus.make(docs, options.files)
    endpoint = Endpoint(dimensions=DIMENSIONS)
    with _qdrant(home) as (server, url):
        client = qdrant.connect(IndexSettings(qdrant_url=url))
        qdrant.create_collection(client, "c", DIMENSIONS, url)
        road = Road(home, endpoint, index=qdrant.QdrantIndex(client, "c", url), concurrency=16)  # type: ignore[arg-type]
        if not options.alone:
            together = replace(road.worker.pipeline, parsing=ThreadPoolExecutor(2))
            road.worker = replace(road.worker, pipeline=together)
        paths = sorted(os.fspath(path.relative_to(docs)) for path in docs.rglob("*.md"))
        keys = road.noticed(paths, bulk=True)
        road.embedding.start()
        for path in (docs / paths[0], docs / paths[1]):  # both parser children are there
            with path.open("rb") as file:
                road.parser.cut(file.fileno(), path.name, ChunkOptions())
        _index(road, keys, server, endpoint.pid, options)
        road.close()
        client.close()
    endpoint.close()


def _index(road: Road, keys: list[str], server: int, endpoint: int, options: argparse.Namespace) -> None:
    def now() -> dict[str, float]:
        me = psutil.Process()
        children = [child for child in me.children() if child.pid not in (server, endpoint)]
        return {
            "worker": _cpu(me),
            "parsers": sum(map(_cpu, children)),
            "qdrant": _cpu(psutil.Process(server)),
        }

    profiles: list[cProfile.Profile] = []

    def look(part: list[str]) -> None:
        profile = cProfile.Profile(time.thread_time)
        if options.profile:
            profiles.append(profile)
            profile.enable()
        road.worker.look(part[0]) if options.alone else road.worker.look_all(part)
        if options.profile:
            profile.disable()

    before, size = now(), 1 if options.alone else TOGETHER
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(look, [keys[start : start + size] for start in range(0, len(keys), size)]))
    wait_until(lambda: road.states() == {"ready"}, timeout=300)
    spent = {name: seconds - before[name] for name, seconds in now().items()}
    each = {name: f"{1000 * seconds / len(keys):.1f}" for name, seconds in spent.items()}
    print(f"{len(keys)} documents, {'alone' if options.alone else 'in company'}: CPU ms for each {each}")
    if profiles:
        stats = pstats.Stats(profiles[0])
        for profile in profiles[1:]:
            stats.add(profile)
        stats.sort_stats("cumulative").print_stats("workers", 45)


@contextmanager
def _qdrant(home: Path) -> Iterator[tuple[int, str]]:
    port = free_port()
    words = [sys.executable, "-m", "ops.embedded.qdrant", "--port", str(port), "--path", str(home / "qdrant")]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: answers(httpx, f"http://127.0.0.1:{port}/readyz"))
            yield server.pid, f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
