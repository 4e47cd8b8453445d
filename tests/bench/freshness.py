"""Stop-watch: drop a file into the folder of an idle stack; how long until it is found?

    python -m tests.bench.freshness [N]

From the return of close() to the first search that has the file among its hits, polled without pause: once by lexical
and once by semantic search.  Each poll costs a whole search, so the figures are upper bounds by about one search.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.support.stack import Stack

WORDS = ("boiler", "kettle", "harbour", "lantern", "meadow", "quartz", "ribbon", "saddle", "timber", "velvet", "walnut")


def main(args: list[str]) -> int:
    """Run ``N`` drops (default 100) and print medians and 95th percentiles in seconds."""
    drops = int(args[0]) if args else 100
    with tempfile.TemporaryDirectory(prefix="upwell-bench-") as scratch:
        home = Path(scratch)
        docs = home / "docs"
        docs.mkdir()
        (docs / "first.md").write_text("# First\n\nSomething is here already.\n")
        with Stack(home, docs) as stack:
            stack.wait_converged(1, timeout=120)
            lexical, semantic, search = [], [], []
            for number in range(drops):
                times = _drop(stack, docs, number)
                lexical.append(times[0])
                semantic.append(times[1])
                search.append(times[2])
                stack.wait_converged()
    for name, values in (("lexical", lexical), ("semantic", semantic), ("one search", search)):
        print(f"{name:12} median {statistics.median(values):.3f} s   p95 {_percentile(values, 95):.3f} s   n={drops}")
    return 0


def _drop(stack: Stack, docs: Path, number: int) -> tuple[float, float, float]:
    """Return seconds to lexical hit, to semantic hit, and of the last search."""
    mark = f"zq{number:05d}x"
    name = f"note-{number}.md"
    topic = " ".join(WORDS[(number + step) % len(WORDS)] for step in range(5))
    (docs / name).write_text(f"# Note {mark}\n\nThe {topic} is kept in room {number}, as agreed on the first day.\n")
    closed = time.perf_counter()
    found_lexical = _poll(stack, name, mark, "lexical")
    lexical = found_lexical - closed
    semantic = _poll(stack, name, f"Note {mark} {topic} room {number}", "semantic") - closed
    started = time.perf_counter()
    stack.search(mark, mode="lexical")
    return lexical, semantic, time.perf_counter() - started


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
