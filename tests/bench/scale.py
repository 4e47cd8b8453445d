"""What the ledger costs with many documents: everything that asks it again and again, at growing numbers of rows.

    make bench ARGS="scale 1000000"
    make bench ARGS="scale --model"

A ledger is filled with rows as a finished index leaves them, and every question that some process asks in a loop or
for each document is timed on it, best of several.  The last column extrapolates to ten million documents: a cost that
did not grow stays, one that grew is taken to grow in proportion.

With --model it measures nothing and multiplies unit costs (`Unit`; what is no figure of README.md says so) by numbers
of documents.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine

from ops.api.ledger_views import LedgerViews
from workers.contract import intake, schema
from workers.contract.intake import Observation, Stat
from workers.contract.states import State
from workers.housekeeping.books import Books
from workers.indexing.ledger import Indexed, Ledger

SOURCE = "docs"
COLLECTION = "upwell-0123456789"
RECIPE = "0123456789abcdef"
TARGET = 10_000_000
ROWS = 2_000
GROWS = 1.5
"""A cost that is this much higher at ten times the rows is taken to grow with them."""


@dataclass
class Cost:
    """Milliseconds of one question at each size."""

    name: str
    how_often: str
    at: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Unit:
    """What one document of 10 kB costs, as README.md has it measured on the embedded stack."""

    chunks: float = 16.7
    tokens: float = 2_300.0
    index_cpu_s: float = 0.058  # all processes of the stack, a first index with zero-cost embeddings
    ledger_bytes: float = 580.0
    commits: float = 3.0  # noticed in batches; claimed, committed, embedded
    commit_ms: float = 1.3  # SQLite, durable, one at a time
    scan_us: float = 12.0  # an unchanged file in a full scan
    audit_us: float = 25.0  # its row; the points come on top
    point_disk_bytes: float = 4_000.0  # an estimate, not measured: payload, BM25, vector
    point_memory_bytes: float = 3_000.0  # the memory that is the embedded server's own at 100,000 chunks


def model(unit: Unit) -> None:
    """Print what different numbers of documents take."""
    sizes = [10_000, 100_000, 1_000_000, TARGET]
    day, gib = 86_400.0, 2.0**30
    rows: list[tuple[str, Callable[[int], float], str]] = [
        ("first index, at 1,000,000 tokens a minute", lambda n: n * unit.tokens / 1e6 / 1_440, "days"),
        ("first index, one processor", lambda n: n * unit.index_cpu_s / day, "days"),
        ("first index, one SQLite writer", lambda n: n * unit.commits * unit.commit_ms / 1000 / day, "days"),
        ("Qdrant: in memory", lambda n: n * unit.chunks * unit.point_memory_bytes / gib, "GiB"),
        ("Qdrant: on disk", lambda n: n * unit.chunks * unit.point_disk_bytes / gib, "GiB"),
        ("ledger on disk", lambda n: n * unit.ledger_bytes / gib, "GiB"),
        ("full scan of unchanged files", lambda n: n * unit.scan_us / 1e6, "s"),
        ("audit: reading the ledger", lambda n: n * unit.audit_us / 1e6, "s"),
        ("hints on the broker, at most", lambda n: min(n, 5_000.0), ""),
    ]
    print(f"| | {' | '.join(f'{size:,}' for size in sizes)} | |")
    print("|" + "---|" * (len(sizes) + 2))
    for name, cost, what in rows:
        print(f"| {name} | {' | '.join(f'{cost(size):,.4g}' for size in sizes)} | {what} |")


def main(args: list[str]) -> int:
    """Fill, time, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale")
    parser.add_argument("documents", type=int, nargs="?", default=1_000_000)
    parser.add_argument(
        "--model", action="store_true", help="what ten million documents would take, from what is known"
    )
    options = parser.parse_args(args)
    if options.model:
        model(Unit())
        return 0
    sizes = [size for size in (options.documents // 100, options.documents // 10, options.documents) if size]
    costs: dict[str, Cost] = {}
    disk = 0.0
    with tempfile.TemporaryDirectory(prefix="upwell-scale-") as scratch:
        for size in sizes:
            path = Path(scratch) / f"{size}.db"
            engine = schema.open_ledger(f"sqlite:///{path}")
            fill(path, size)
            for name, how_often, ask in questions(engine, size):
                costs.setdefault(name, Cost(name, how_often)).at.append(1000 * best(ask))
            engine.dispose()
            disk = sum(file.stat().st_size for file in Path(scratch).glob(f"{size}.db*")) / size
            print(f"{size:,} documents: {disk:.0f} bytes each on disk", flush=True)
            path.unlink()
    _print(sizes, list(costs.values()))
    return 0


def fill(path: Path, size: int) -> None:
    """Write ``size`` documents as a finished first index leaves them, past SQLAlchemy because there are millions."""
    connection = sqlite3.connect(path)
    now = time.time()
    names = [column.name for column in schema.documents.columns]
    marks = ", ".join("?" for _ in names)
    with connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(
            "INSERT INTO sources (name, kind, root, scanned_at, added_at) VALUES (?, 'folder', '/x', ?, ?)",
            (SOURCE, now, now),
        )
        rows = (tuple(row[name] for name in names) for row in _rows(size, now))
        connection.executemany(f"INSERT INTO documents ({', '.join(names)}) VALUES ({marks})", rows)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _rows(size: int, now: float) -> Iterator[dict[str, object]]:
    blank: dict[str, object] = {column.name: None for column in schema.documents.columns}
    blank |= {
        "source": SOURCE,
        "desired_generation": 1,
        "wanted": "present",
        "bulk": True,
        "observed_at": now,
        "indexed_generation": 1,
        "recipe": RECIPE,
        "collection": COLLECTION,
        "chunks": 15,
        "vectors_pending": 0,
        "bytes": 10_000,
        "tokens": 2_300,
        "title": "A title of about forty characters, more or less",
        "filetype": "text/markdown",
        "state": State.READY.value,
        "token": int(now * 1000),
        "attempts": 0,
        "interruptions": 0,
        "seen_size": 10_000,
        "parse_ms": 4.2,
        "searchable_at": now,
        "indexed_at": now - 3600,
    }
    for number in range(size):
        path = _path(number)
        yield blank | {
            "id": intake.document_id(SOURCE, path),
            "path": path,
            "raw_path": path.encode(),
            "version": UUID(int=number).hex * 2,
            "seen_mtime_ns": 1_700_000_000_000_000_000 + number,
            "seen_inode": number,
        }


def _path(number: int) -> str:
    return f"department-{number % 97:02}/year-{number % 31:02}/report-{number:09}.md"


def questions(engine: Engine, size: int) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """Yield (question, how often it is asked, how)."""
    ledger, views, books = Ledger(engine, "bench"), LedgerViews(engine), Books(engine)
    middle = intake.document_id(SOURCE, _path(size // 2))
    touched = iter(range(size // 2, size))

    def edit() -> None:
        number = next(touched)
        seen = Stat(10_001, time.time_ns(), number)
        intake.observe(engine, [Observation(SOURCE, _path(number).encode(), seen)])

    def attempt() -> None:
        number = next(touched)
        seen = Stat(10_001, time.time_ns(), number)
        (key,) = intake.observe(engine, [Observation(SOURCE, _path(number).encode(), seen)])
        claim = ledger.claim(key, RECIPE)
        assert claim is not None
        ledger.commit(claim, Indexed(State.READY, "0" * 64, RECIPE, COLLECTION, chunks=15, size=10_000))

    yield "sweep: what is due (nothing)", "every 5 s", lambda: ledger.due(RECIPE, 1000)
    yield "sweep: texts without vectors (none)", "every 5 s", ledger.has_embeddings_due
    yield "embedding: claim (nothing)", "every 2 s", lambda: ledger.claim_embeddings(100)
    yield "pulse: is everything at rest", "every 10 s", books.at_rest
    yield "pulse: points expected", "every 10 s", lambda: books.chunks(COLLECTION)
    yield "status: documents by state", "each status", lambda: LedgerViews(engine).states()
    yield "status: totals", "each status", lambda: LedgerViews(engine).totals()
    yield "status: converged", "each status", lambda: views.converged()
    yield "documents: one, by path", "on request", lambda: views.by_path(_path(size // 2))
    yield "documents: one, by id", "on request", lambda: views.document(middle)
    yield "documents: a page of 100", "on request", lambda: views.documents(limit=100)
    yield "documents: paths that begin so (none)", "on request", lambda: views.documents(limit=100, path="zebra")
    yield (
        "documents: paths with this in them (none)",
        "on request",
        lambda: views.documents(limit=100, contains="zebra"),
    )
    yield "scan: read 2,000 rows", "each scan", lambda: _some(intake.remembered_rows(engine, SOURCE), ROWS)
    yield "audit: read 2,000 rows", "daily", lambda: _some(books.rows(), ROWS)
    yield "an edit noticed (durable)", "each edit", edit
    yield "an edit noticed, claimed, committed", "each edit", attempt


def _some(rows: Iterator[object], count: int) -> int:
    return sum(1 for _, _ in zip(range(count), rows, strict=False))


def best(ask: Callable[[], object], tries: int = 5) -> float:
    """Return the shortest of several times, in seconds; the first warms the caches up."""
    found = []
    for _ in range(tries):
        started = time.perf_counter()
        ask()
        found.append(time.perf_counter() - started)
        if sum(found) > 5.0:
            break
    return min(found)


def _print(sizes: list[int], costs: list[Cost]) -> None:
    heads = [f"{size:,}" for size in sizes]
    print(f"\n| question | asked | {' | '.join(f'{head} ms' for head in heads)} | {TARGET:,} ms |")
    print("|" + "---|" * (len(heads) + 3))
    for cost in costs:
        grown = len(cost.at) > 1 and cost.at[-1] > GROWS * cost.at[-2]
        then = cost.at[-1] * (TARGET / sizes[-1] if grown else 1)
        cells = " | ".join(f"{ms:.2f}" for ms in cost.at)
        print(f"| {cost.name} | {cost.how_often} | {cells} | {'' if grown else '~'}{then:,.1f} |")
    print(f"\n{os.cpu_count()} cores; best of up to five.")


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
