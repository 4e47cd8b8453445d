"""From nothing to the first answer, and the memory that the stack takes with many documents.

make bench ARGS="start 3"                  seconds from `upwell up` to what a newcomer does first
make bench ARGS="start 1 --memory 5000"    and proportional memory by process with that many documents
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from ops.up.welcome import make_default_folder
from tests.bench import corpus
from tests.bench.index import Sampled, family, named
from tests.support.stack import Stack

QUESTION = "How can I ask a question?"
MEMORY = "memory then, proportional set size"


def main(args: list[str]) -> int:
    """Start on an empty data directory several times, then perhaps fill it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.start")
    parser.add_argument("starts", type=int, nargs="?", default=3)
    parser.add_argument("--memory", type=int, default=0, help="documents of one paragraph to weigh the stack with")
    options = parser.parse_args(args)
    found: dict[str, list[float]] = {}
    for _ in range(options.starts):
        with tempfile.TemporaryDirectory(prefix="upwell-bench-", ignore_cleanup_errors=True) as scratch:
            for name, seconds in _first_minutes(Path(scratch)).items():
                found.setdefault(name, []).append(seconds)
    for name, values in found.items():
        unit = "MB" if name == MEMORY else "s"
        print(f"{name:42} median {statistics.median(values):.2f} {unit}   worst {max(values):.2f} {unit}")
    if options.memory:
        with tempfile.TemporaryDirectory(prefix="upwell-bench-", ignore_cleanup_errors=True) as scratch:
            _weigh(Path(scratch), options.memory)
    return 0


def _first_minutes(home: Path) -> dict[str, float]:
    docs = home / "inbox"
    make_default_folder(docs)
    began = time.perf_counter()
    stack = Stack(home, docs)
    try:
        stack.start(wait=False)
        assert stack.process is not None
        reached = {
            "the api answers": _until(stack.is_up, began),
            "the welcome document is found by its words": _until(lambda: _hits(stack, "lexical"), began),
            "it is found by meaning": _until(lambda: _hits(stack, "semantic"), began),
            "a question is answered": _until(lambda: _answered(stack), began),
        }
        time.sleep(4)  # what comes up beside it
        sampled = Sampled(stack.process.pid)
        with sampled:
            pass
        return reached | {"processor time until 4 s later": sum(sampled.seen.values()), MEMORY: sampled.peak_mb}
    finally:
        stack.stop()


def _until(fact: Callable[[], bool], began: float) -> float:
    while not fact():
        if time.perf_counter() - began > 120:
            raise SystemExit("not within two minutes")
        time.sleep(0.02)
    return time.perf_counter() - began


def _hits(stack: Stack, mode: str) -> bool:
    try:
        answer = stack.search(QUESTION, mode=mode)
    except httpx.HTTPError:
        return False
    return answer["mode"] == mode and bool(answer["hits"])


def _answered(stack: Stack) -> bool:
    try:
        answer = stack.client.post("/v1/answer", json={"query": QUESTION})
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and bool(answer.json()["citations"])


def _weigh(home: Path, documents: int) -> None:
    docs = home / "docs"
    texts = list(corpus.paragraphs(None))
    for number in range(documents):
        path = docs / f"part-{number // 100:03d}" / f"note-{number:05d}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# Note {number}\n\n{texts[number % len(texts)]} (n{number})\n")
    with Stack(home, docs) as stack:
        assert stack.process is not None
        with Sampled(stack.process.pid) as sampled:
            stack.wait_converged(documents, timeout=3_600)
        time.sleep(10)
        rows: dict[str, float] = {}
        for process in family(stack.process.pid):
            try:
                name = named(process.cmdline())
                rows[name] = rows.get(name, 0.0) + process.memory_full_info().pss / 2**20
            except psutil.Error:
                continue
        stack.search(QUESTION)
        chunks = stack.status()["chunks"]
    print(f"\n{documents:,} documents, {chunks:,} chunks, at rest (proportional set size):")
    for name, size in sorted(rows.items(), key=lambda row: -row[1]):
        print(f"  {name:42} {size:7.0f} MB")
    print(f"  {'all':42} {sum(rows.values()):7.0f} MB   at most, while indexing: {sampled.peak_mb:.0f} MB")


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
