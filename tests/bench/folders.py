"""Watched folders at size, in a running stack beside an embedding endpoint that counts.

python -m tests.bench folders rename [FILES]     a directory is renamed (default 1,000 files)
python -m tests.bench folders move [FILES]       the same with nothing behind the watcher: until the ledger has it
python -m tests.bench folders restart [FILES]    a second start over unchanged files (default 20,000), beside find
python -m tests.bench folders scan [FILES]       only the scan of unchanged files, beside find, without a stack
python -m tests.bench folders unmount            an empty folder over the root, and the root again
python -m tests.bench folders hint [SAVES]       close() of a saved file to its hint, with nothing behind the watcher
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from ops.cli.processes import OBJECTS_BETWEEN_COLLECTIONS
from producers.follow import Follower
from producers.roots import Root
from producers.settings import WatcherSettings
from producers.watch import Watcher
from tests.support.endpoint import Endpoint
from tests.support.following import Following
from tests.support.stack import ROOT, Stack, environment
from workers.contract import schema
from workers.contract.schema import documents, sources

ROUNDS = 7


def main(args: list[str]) -> int:
    """Run the one that is named."""
    benchmarks: dict[str, Callable[..., None]] = {
        "rename": rename,
        "move": move,
        "restart": restart,
        "scan": scan,
        "unmount": unmount,
        "hint": hint,
    }
    if not args or args[0] not in benchmarks:
        print(__doc__)
        return 2
    with tempfile.TemporaryDirectory(prefix="upwell-bench-") as scratch:
        benchmarks[args[0]](Path(scratch), *map(int, args[1:]))
    return 0


# ---------------------------------------------------------------------------- rename


def rename(home: Path, files: int = 1000) -> None:
    """All found under the new name, none under the old one, nothing embedded."""
    docs = home / "docs"
    _fill(docs / "old", files)
    with Endpoint() as endpoint, _stack(home, docs, endpoint) as stack:
        began = time.perf_counter()
        stack.wait_converged(files, timeout=600)
        print(f"filled in {time.perf_counter() - began:.0f} s", flush=True)
        before = endpoint.counters.requests
        (docs / "old").rename(docs / "new")
        began = time.perf_counter()
        stack.wait_for(lambda: stack.status()["documents"] == {"ready": files, "deleted": files}, 300, 0.5)
        took = time.perf_counter() - began
        found = sum(f"new/{_name(n)}" in stack.paths(f"word{n}", mode="lexical") for n in range(0, files, files // 50))
        new, old = _points_below(stack, "new/"), _points_below(stack, "old/")
        print(f"files {files}   points under the new name {new}, under the old one {old}")
        print(f"searches that find their file under its new name: {found} of {len(range(0, files, files // 50))}")
        print(f"all ready under the new name and deleted under the old one after {took:.1f} s")
        print(f"embedding requests {endpoint.counters.requests - before}   alarm {_alarm(stack)}")


def move(home: Path, files: int = 1000) -> None:
    """The watcher's part of a rename, to and fro."""
    following = Following(home, brake_count=50)
    _fill(following.root / "old", files)
    following.start()
    columns, took = documents.c, []
    for here, there in [("old", "new"), ("new", "old")] * 3:
        (following.root / here).rename(following.root / there)
        began = time.perf_counter()
        query = select(func.count()).where(columns.path.like(f"{there}/%"), columns.wanted == "present")
        gone = select(func.count()).where(columns.path.like(f"{here}/%"), columns.wanted == "present")
        with schema.reading(following.engine).connect() as connection:
            while connection.scalar(query) != files or connection.scalar(gone) != 0:
                connection.rollback()  # or it would go on seeing the same
                time.sleep(0.01)
        took.append(_Cost(time.perf_counter() - began, 0.0))
    print(f"{files} files, new names known and old ones absent after {_told(took)}   alarm {following.alarm() or None}")
    following.close()


# ---------------------------------------------------------------------------- second start


def restart(home: Path, files: int = 20_000) -> None:
    """No parse, no embedding, no write; and how long the scan takes beside find."""
    docs = home / "docs"
    _fill(docs, files)
    with Endpoint() as endpoint, _stack(home, docs, endpoint) as stack:
        began = time.perf_counter()
        stack.wait_converged(files, timeout=3600)
        print(f"filled: {files} files in {time.perf_counter() - began:.0f} s")
        before = _state(stack), _points(stack)
        stack.stop()
        requests, texts = endpoint.counters.requests, endpoint.counters.paid_texts
        scans = len(_scans(stack))
        began = time.perf_counter()
        stack.start()
        stack.wait_for(lambda: len(_scans(stack)) > scans, 120)
        stack.wait_converged(files)
        print(f"second start: converged {time.perf_counter() - began:.1f} s after `upwell up`")
        after = _state(stack), _points(stack)
        print(f"  scan in the watcher's log: {_scans(stack)[-1]:.3f} s")
        print(f"  documents table {'unchanged' if after[0] == before[0] else 'CHANGED'}")
        print(f"  points in Qdrant, payloads and all: {'unchanged' if after[1] == before[1] else 'CHANGED'}")
        print(
            f"  embedding requests {endpoint.counters.requests - requests} with"
            f" {endpoint.counters.paid_texts - texts} texts (the start asks the endpoint for its dimensions)"
        )
        stack.stop()
    _beside_find(docs, stack.data)


def scan(home: Path, files: int = 20_000) -> None:
    """The same over a ledger that only the watcher has filled."""
    _fill(home / "docs", files)
    _beside_find(home / "docs", home)


def _beside_find(docs: Path, data: Path) -> None:
    """Print the seconds of scans and of finds over the same tree, in turn, warm; the first of each does not count."""
    gc.freeze()  # as the template does, from which the watcher is forked
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)  # as the watcher does itself
    engine = schema.open_ledger(f"sqlite:///{data / 'ledger.db'}")
    root = Root("docs", docs)
    follower = Follower(root, WatcherSettings(), engine, lambda *_: None, lambda *_: None)
    find = ["find", str(docs), "-type", "f", "-printf", r"%s %T@\n"]
    scans, finds = [], []
    assert follower.folder.begin()
    for _ in range(ROUNDS + 1):
        scans.append(_timed(lambda: _scan(follower)))
        finds.append(_timed(lambda: subprocess.run(find, check=True, stdout=subprocess.DEVNULL)))
    engine.dispose()
    print(f"scan (first {scans[0].wall:.2f} s)   {_told(scans[1:])}")
    print(f"find   {_told(finds[1:])}")
    pairs = [scan.wall / find.wall for scan, find in zip(scans[1:], finds[1:], strict=True)]
    print(
        f"scan / find in turn: median {statistics.median(pairs):.2f}   best {min(pairs):.2f}   worst {max(pairs):.2f}"
    )
    print(f"ratio of processor time: {_cpu(scans) / _cpu(finds):.2f}")


def _scan(follower: Follower) -> None:
    follower.scanner.need()
    while follower.scanner.needed:
        follower.scanner.advance()


def _scanned_at(engine: Any) -> float | None:
    with engine.connect() as connection:
        found: float | None = connection.scalar(select(sources.c.scanned_at).where(sources.c.name == "docs"))
        return found


# ---------------------------------------------------------------------------- unmount


def unmount(home: Path) -> None:
    """Nothing is deleted, and the alarm says why."""
    docs = home / "docs"
    _fill(docs, 200)
    with Endpoint() as endpoint, _stack(home, docs, endpoint) as stack:
        stack.wait_converged(200, timeout=120)
        began = time.perf_counter()
        docs.rename(home / "unmounted")
        docs.mkdir()
        stack.wait_for(lambda: _alarm(stack), 30)
        print(f"alarm after {time.perf_counter() - began:.1f} s; `upwell status` says:")
        print("  " + "\n  ".join(line for line in _upwell(stack, "status").splitlines() if "alarm" in line))
        time.sleep(15)  # several deletion waits, scans of the supervisor and sweeps of beat
        print(f"15 s later: {stack.status()['documents']}, points {len(_points(stack))}")
        docs.rmdir()
        (home / "unmounted").rename(docs)
        began = time.perf_counter()
        stack.wait_for(lambda: not _alarm(stack), 30)
        print(f"mounted again: the alarm is over after {time.perf_counter() - began:.1f} s")
        (docs / "after.md").write_text("# After\n\nThe disk is back, says walrus.\n")
        stack.wait_for(lambda: "after.md" in stack.paths("walrus", mode="lexical"), 30)
        status = stack.wait_converged(201)
        print(f"a new file is found; {status['documents']}, points {len(_points(stack))}")


# ---------------------------------------------------------------------------- save to hint


def hint(home: Path, saves: int = 200) -> None:
    """Where the milliseconds go between close() and the hint."""
    docs = home / "docs"
    docs.mkdir()
    engine = schema.open_ledger(f"sqlite:///{home / 'ledger.db'}")
    came, marks = threading.Event(), {}

    def hinted(_ids: list[str], _bulk: bool) -> None:
        marks["hint"] = time.perf_counter()
        came.set()

    settings = WatcherSettings()
    watcher = Watcher(settings, [Root("docs", docs)], engine, hinted)
    _mark(watcher, marks)
    thread = threading.Thread(target=watcher.run)
    thread.start()
    parts: dict[str, list[float]] = {name: [] for name in ("event", "rest", "look", "ledger", "all")}
    while _scanned_at(engine) is None:
        time.sleep(0.05)
    time.sleep(1)
    for number in range(saves):
        came.clear()
        (docs / f"{number % 20}.md").write_text(f"save {number}")
        closed = time.perf_counter()
        came.wait(10)
        parts["event"].append(marks["heard"] - closed)
        parts["rest"].append(marks["settled"] - marks["heard"])
        parts["look"].append(marks["record"] - marks["settled"])
        parts["ledger"].append(marks["hint"] - marks["record"])
        parts["all"].append(marks["hint"] - closed)
        time.sleep(0.02)
    watcher.stop()
    thread.join()
    engine.dispose()
    print(f"{saves} saves, UPWELL_SETTLE_CLOSED {settings.settle_closed:g} s")
    for name, values in parts.items():
        quarters = statistics.quantiles(values, n=20)
        print(f"  {name:7} median {1000 * statistics.median(values):6.1f} ms   p95 {1000 * quarters[18]:6.1f} ms")


def _mark(watcher: Watcher, marks: dict[str, float]) -> None:
    """Take the time at the seams between the rooms."""
    follower = watcher.followers["docs"]

    def before(target: Any, name: str, mark: str) -> None:
        function = getattr(target, name)

        def marked(*args: Any, **options: Any) -> Any:
            marks[mark] = time.perf_counter()
            return function(*args, **options)

        setattr(target, name, marked)

    before(follower, "hear", "heard")
    before(follower, "_look", "settled")
    before(follower.folder, "record", "record")


# ---------------------------------------------------------------------------- what they share


def _name(number: int) -> str:
    return f"area-{number // 100:03d}/note-{number:05d}.md"


def _fill(docs: Path, files: int) -> None:
    for number in range(files):
        file = docs / _name(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# Note {number}\n\nThis is about word{number} and nothing else.\n")


def _stack(home: Path, docs: Path, endpoint: Endpoint) -> Stack:
    return Stack(home, docs, UPWELL_EMBEDDINGS_URL=endpoint.url)


def _points(stack: Stack) -> list[str]:
    """Return a digest of every point, payload included."""
    base = f"{stack.state['addresses']['qdrant']}/collections/{stack.status()['collection']}/points"
    found: list[str] = []
    body: dict[str, Any] = {"limit": 1000, "with_payload": True}
    while True:
        result = stack.client.post(f"{base}/scroll", json=body).json()["result"]
        found += [hashlib.sha256(json.dumps(p, sort_keys=True).encode()).hexdigest() for p in result["points"]]
        if result["next_page_offset"] is None:
            return sorted(found)
        body["offset"] = result["next_page_offset"]


def _points_below(stack: Stack, prefix: str) -> int:
    base = f"{stack.state['addresses']['qdrant']}/collections/{stack.status()['collection']}/points"
    body = {"limit": 100_000, "with_payload": ["metadata.path"]}
    points = stack.client.post(f"{base}/scroll", json=body).json()["result"]["points"]
    return sum(point["payload"]["metadata"]["path"].startswith(prefix) for point in points)


def _state(stack: Stack) -> str:
    """Return a digest of the ledger's documents table."""
    engine = schema.open_ledger(f"sqlite:///{stack.data / 'ledger.db'}")
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(select(documents).order_by(documents.c.id))]
    engine.dispose()
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def _scans(stack: Stack) -> list[float]:
    """Return the seconds of every scan in the watcher's logs, that of an earlier start (watch.log.1) first."""
    logs = sorted(stack.data.glob("logs/watch.log*"), reverse=True)
    lines = (line for log in logs for line in log.read_text().splitlines())
    return [json.loads(line)["seconds"] for line in lines if "scan.finished" in line]


def _alarm(stack: Stack) -> str | None:
    alarms = [source["alarm"] for source in stack.status()["sources"] if source.get("alarm")]
    return "\n".join(alarms) or None


def _upwell(stack: Stack, *words: str) -> str:
    env = environment(UPWELL_API_URL=stack.state["addresses"]["api"])
    done = subprocess.run([sys.executable, "-m", "ops.cli", *words], cwd=ROOT, env=env, capture_output=True, text=True)
    return done.stdout


@dataclass(frozen=True)
class _Cost:
    """Seconds by the wall clock, and of processor time (children included)."""

    wall: float
    cpu: float


def _timed(call: Callable[[], Any]) -> _Cost:
    began, before = time.perf_counter(), sum(os.times()[:4])
    call()
    return _Cost(time.perf_counter() - began, sum(os.times()[:4]) - before)


def _cpu(costs: list[_Cost]) -> float:
    return sum(cost.cpu for cost in costs[1:])


def _told(costs: list[_Cost]) -> str:
    walls = [cost.wall for cost in costs]
    return f"median {statistics.median(walls):.3f} s   best {min(walls):.3f} s   worst {max(walls):.3f} s"
