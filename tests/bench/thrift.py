"""What an edit costs: real commits replayed through the real pipeline, characters embedded per character changed.

    python -m tests.bench.thrift [--commits N] [--data FOLDER]

`edits/peps2017`: 433 documents, then 299 commits.  Each commit is written to a folder and goes the whole road: ledger,
parser children, chunker, diff with the index, embedding cache, batches over HTTP to an endpoint that counts every text.
Only Qdrant is a dictionary.  Changed characters are those of the lines that `git diff --no-index` adds or changes.

Beside it, over the same files: LangChain's RecursiveCharacterTextSplitter at our mean chunk length, with a cache by
text as good as ours; and whole documents.  Needs `pip install -r tests/bench/requirements.txt` for the former.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import subprocess
import tempfile
from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import structlog

from tests.support.endpoint import Endpoint
from tests.support.road import Road

DATA = Path(__file__).parents[3] / "shared" / "data"


@dataclass
class Costs:
    """Characters by kind of change."""

    changed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    documents: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    embedded: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))

    def ratio(self, way: str, kind: str) -> str:
        changed = self.changed[kind]
        return f"{self.embedded[way][kind] / changed:.2f}" if changed else "–"


def events(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the events of one commit after another."""
    with gzip.open(path, "rt") as lines:
        for _, group in groupby(map(json.loads, lines), key=lambda event: event["commit"]):
            yield list(group)


def content(event: dict[str, Any]) -> bytes | None:
    """Return the bytes of an event; None for a pure rename."""
    if "content_b64" in event:
        return b64decode(event["content_b64"])
    return event["content"].encode() if "content" in event else None


def changed_characters(old: Path | None, new: Path) -> int:
    """Return the characters of the lines that git's diff adds or changes."""
    before = str(old) if old else "/dev/null"
    words = ["git", "diff", "--no-index", "--no-color", "--text", "-U0", before, str(new)]
    told = subprocess.run(words, capture_output=True, check=False).stdout.decode("utf-8", "replace")
    return sum(len(line) - 1 for line in told.split("\n") if line.startswith("+") and not line.startswith("+++ "))


def recursive(mean: int) -> Callable[[str], list[str]]:
    """Return LangChain's splitter at a mean chunk length of about ``mean``."""
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    sample = [b["content"] for b in base_files()][:100]
    low, high = mean, mean * 4
    while high - low > 8:  # its chunk_size is a maximum; the mean is what is compared
        size = (low + high) // 2
        split = RecursiveCharacterTextSplitter(chunk_size=size, chunk_overlap=0).split_text
        pieces = [piece for text in sample for piece in split(text)]
        low, high = (size, high) if sum(map(len, pieces)) / len(pieces) < mean else (low, size)
    return RecursiveCharacterTextSplitter(chunk_size=low, chunk_overlap=0).split_text


def base_files() -> list[dict[str, Any]]:
    """Return the documents before the first commit."""
    with gzip.open(DATA / "edits" / "peps2017.base.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


class Others:
    """Ways to cut that keep a cache by text and nothing else."""

    def __init__(self, ways: dict[str, Callable[[str], list[str]]]) -> None:
        self.ways = ways
        self._known: dict[str, set[str]] = {way: set() for way in ways}

    def embed(self, text: str) -> dict[str, int]:
        """Return the characters that each way would send for a file as it is now."""
        sent = {}
        for way, cut in self.ways.items():
            fresh = set(cut(text)) - self._known[way]
            self._known[way] |= fresh
            sent[way] = sum(map(len, fresh))
        return sent


def main(args: list[str]) -> int:
    """Replay and print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    parser = argparse.ArgumentParser(prog="python -m tests.bench.thrift")
    parser.add_argument("--commits", type=int, default=10**9)
    given = parser.parse_args(args)
    with tempfile.TemporaryDirectory(prefix="upwell-thrift-") as scratch, Endpoint(dimensions=8) as endpoint:
        road = Road(Path(scratch), endpoint)
        try:
            _replay(road, endpoint, given.commits, Path(scratch))
        finally:
            road.close()
    return 0


def _replay(road: Road, endpoint: Endpoint, commits: int, scratch: Path) -> None:
    base = base_files()
    for file in base:
        _write(road.root / file["path"], file["content"].encode())
    road.see([file["path"] for file in base])
    texts = [p["content"] for p in road.index.points.values()]
    mean = sum(map(len, texts)) // len(texts)
    print(f"base: {len(base)} files, {len(texts)} chunks of {mean} characters on average", flush=True)
    others = Others({"recursive": recursive(mean), "whole documents": lambda text: [text]})
    for file in base:
        others.embed(file["content"])
    costs = Costs()
    for number, commit in enumerate(events(DATA / "edits" / "peps2017.events.jsonl.gz")):
        if number >= commits:
            break
        if number % 100 == 99:
            print(f"after {number} commits", flush=True)
            _print(costs)
        _commit(road, endpoint, commit, others, costs, scratch)
    _print(costs)
    if repeated := endpoint.counters.repeated:
        raise SystemExit(f"{repeated} texts were paid for more than once")


def _commit(
    road: Road, endpoint: Endpoint, commit: list[dict[str, Any]], others: Others, costs: Costs, scratch: Path
) -> None:
    """Do one commit's events, one kind after another, so that each kind's cost is known."""
    old = scratch / "old"
    for kind in ("rename", "modify", "add", "delete"):
        mine = [event for event in commit if event["op"] == kind]
        if not mine:
            continue
        moved = [(event, road.root / event["from"]) for event in mine if kind == "rename"]
        held = {event["path"]: place.read_bytes() for event, place in moved}
        for _, place in moved:
            place.unlink()
        touched = []
        for event in mine:
            path = road.root / event["path"]
            after = content(event) if content(event) is not None else held.get(event["path"])
            before = held.get(event["path"]) or (path.read_bytes() if path.exists() else None)
            if kind == "delete":
                path.unlink()
            else:
                assert after is not None
                _write(path, after)
                if before is not None:
                    old.write_bytes(before)
                costs.changed[kind] += changed_characters(None if before is None else old, path)
                for way, sent in others.embed(after.decode("utf-8", "replace")).items():
                    costs.embedded[way][kind] += sent
            costs.documents[kind] += 1
            touched += [event["path"], *([event["from"]] if kind == "rename" else [])]
        before_sent = sum(len(text) * count for text, count in endpoint.counters.paid.items())
        road.see(touched)
        after_sent = sum(len(text) * count for text, count in endpoint.counters.paid.items())
        costs.embedded["Upwell"][kind] += after_sent - before_sent


def _print(costs: Costs) -> None:
    ways = ("Upwell", "recursive", "whole documents")
    print(f"{'':10}{'documents':>10}{'changed':>11}" + "".join(f"{way:>26}" for way in ways))
    for kind in ("modify", "add", "rename", "delete"):
        cells = "".join(f"{costs.embedded[way][kind]:>18,}{costs.ratio(way, kind):>8}" for way in ways)
        print(f"{kind:10}{costs.documents[kind]:>10}{costs.changed[kind]:>11,}{cells}")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
