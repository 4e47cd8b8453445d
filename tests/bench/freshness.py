"""Stop-watch: drop a file into the folder of an idle stack; how long until it is found?

    python -m tests.bench.freshness [N] [--backfill FILES]

With --backfill the stack is not idle: that many Markdown files of about 10 kB are being copied into a directory beside
dropped files and indexed meanwhile, through an embedding endpoint that takes 120 ms a request and whose vectors
mean nothing; there "semantic" is when the document has all its vectors.

From the return of close() to the first search that has the file among its hits, polled without pause: once by lexical
and once by semantic search.  Each poll costs a whole search, so the figures are upper bounds by about one search.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench import corpus
from tests.bench.index import Endpoint
from tests.support.stack import Stack

WORDS = ("boiler", "kettle", "harbour", "lantern", "meadow", "quartz", "ribbon", "saddle", "timber", "velvet", "walnut")


def main(args: list[str]) -> int:
    """Drop ``N`` files one after the other and print medians and 95th percentiles in seconds."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.freshness")
    parser.add_argument("drops", type=int, nargs="?", default=100)
    parser.add_argument("--backfill", type=int, default=0, help="files that are being indexed meanwhile")
    options = parser.parse_args(args)
    with (
        tempfile.TemporaryDirectory(prefix="upwell-bench-", ignore_cleanup_errors=True) as scratch,
        ExitStack() as ends,
    ):
        home = Path(scratch)
        docs = home / "docs"
        docs.mkdir()
        (docs / "first.md").write_text("# First\n\nSomething is here already.\n")
        settings = _slow_endpoint(ends) if options.backfill else {}
        stack = ends.enter_context(Stack(home, docs, **settings))
        stack.wait_converged(1, timeout=120)
        if options.backfill:
            copying = threading.Thread(target=corpus.make, args=(docs / "backfill", options.backfill))
            ends.callback(copying.join)
            copying.start()
            time.sleep(1.0)
        times = []
        for number in range(options.drops):
            times.append(_drop(stack, docs, number, meaning=not options.backfill))
            if options.backfill:
                time.sleep(1.0)
            else:
                stack.wait_converged()
        told = stack.status()["documents"]
    for name, values in zip(("lexical", "semantic", "one search"), zip(*times, strict=True), strict=True):
        middle, high = statistics.median(values), _percentile(list(values), 95)
        print(f"{name:12} median {middle:.3f} s   p95 {high:.3f} s   n={options.drops}")
    if options.backfill:
        print(f"the backfill at the end: {told.get('ready', 0):,} ready, {told.get('queued', 0):,} waiting")
    return 0


def _slow_endpoint(ends: ExitStack) -> dict[str, str]:
    endpoint = Endpoint(dimensions=384, latency_s=0.12)
    ends.callback(endpoint.close)
    return {"UPWELL_EMBEDDINGS_URL": endpoint.url, "UPWELL_EMBEDDINGS_MODEL": "bench"}


def _drop(stack: Stack, docs: Path, number: int, *, meaning: bool) -> tuple[float, float, float]:
    """Return seconds to lexical hit, to semantic hit, and of the last search."""
    mark = f"zq{number:05d}x"
    name = f"note-{number}.md"
    topic = " ".join(WORDS[(number + step) % len(WORDS)] for step in range(5))
    (docs / name).write_text(f"# Note {mark}\n\nThe {topic} is kept in room {number}, as agreed on the first day.\n")
    closed = time.perf_counter()
    found_lexical = _poll(stack, name, mark, "lexical")
    lexical = found_lexical - closed
    if meaning:
        semantic = _poll(stack, name, f"Note {mark} {topic} room {number}", "semantic") - closed
    else:
        stack.wait_for(lambda: _is_ready(stack, name), 60, every=0.02)
        semantic = time.perf_counter() - closed
    started = time.perf_counter()
    stack.search(mark, mode="lexical")
    return lexical, semantic, time.perf_counter() - started


def _is_ready(stack: Stack, name: str) -> bool:
    found = stack.client.get("/v1/documents", params={"path": name}).json()["documents"]
    return bool(found) and found[0]["state"] == "ready"


def _poll(stack: Stack, name: str, query: str, mode: str) -> float:
    deadline = time.perf_counter() + 60
    while time.perf_counter() < deadline:
        answer = stack.search(query, mode=mode, limit=10)
        if answer["mode"] == mode and any(hit["metadata"]["path"] == name for hit in answer["hits"]):
            return time.perf_counter()
    raise SystemExit(f"{name} was not found by {mode} search within 60 s\n{stack.tail()}")


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1] if len(values) > 1 else values[0]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
