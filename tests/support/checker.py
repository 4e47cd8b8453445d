"""Compares the index with the files by a road of its own: read, parse, chunk, one file after another.

It uses the product's parsers and chunker, because they say what a document's chunks *are*, and nothing else of it: no
hints, no ledger, no leases, no adapter.  What is in Qdrant is read over REST.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import redis
from numpy.typing import NDArray
from sqlalchemy import Engine, Row, select

from producers.ignore import IGNORE_FILE, IgnoreRules
from producers.roots import MARKER
from workers.adapters import bm25, names
from workers.contract import schema
from workers.contract.identity import document_id, normal_path
from workers.contract.messages import Queue
from workers.contract.schema import documents, processes
from workers.contract.states import FINAL, State
from workers.errors import NotADocument, Permanent
from workers.indexing.chunk import ChunkOptions, chunk, embedded_text
from workers.indexing.parse.clean import clean_text
from workers.indexing.parse.formats import parse_file
from workers.indexing.parse.limits import Limits
from workers.indexing.values import Chunk, Parsed

Kind = Literal[
    "lost",  # a chunk of a file is not in the index
    "stale",  # the index has a text that the file does not have (any more)
    "duplicate",  # the index has a text more often than the file
    "payload",  # the right text with a wrong place, path, title, version, ...
    "vector",  # no dense or sparse vector, a false "embedded" flag, or the vector of another text
    "orphan",  # points of a document that is not there
    "ledger",  # a row that says what is not so, or no row
    "unfinished",  # something is still to be done: a lease, a queue, a dirty path
]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    kind: Kind
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind:10} {self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one file should be in the index; no chunks: it should not be there, and a row should say why."""

    source: str
    path: str
    version: str
    chunks: list[Chunk]
    parsed: Parsed | None

    @property
    def name(self) -> str:
        return f"{self.source}/{self.path}"


@dataclass(slots=True)
class Report:
    """What was compared, and what was found."""

    documents: int = 0
    chunks: int = 0
    vectors_compared: int = 0
    findings: list[Finding] = field(default_factory=list)

    def kinds(self) -> Counter[str]:
        return Counter(finding.kind for finding in self.findings)

    def __str__(self) -> str:
        head = f"{self.documents} documents, {self.chunks} chunks, {self.vectors_compared} vectors compared"
        return "\n".join([f"{head}: {len(self.findings)} findings", *map(str, self.findings[:40])])


@dataclass(frozen=True)
class Checker:
    """Compares the files below ``roots`` (source name -> folder) with one collection and one ledger.

    ``embed`` returns the vectors that texts should have, (n, d); of every document at most ``sample`` chunks are
    compared by it.  ``broker`` is a client of the broker whose queues must be empty.
    """

    roots: Mapping[str, Path]
    qdrant_url: str
    collection: str
    engine: Engine
    embed: Callable[[Sequence[str]], NDArray[np.float32]] | None = None
    sample: int = 4
    broker: redis.Redis | None = None
    key_prefix: str = "upwell:"
    options: ChunkOptions = field(default_factory=ChunkOptions)
    parse: Callable[[int, str], Parsed] = lambda fd, name: parse_file(fd, name, Limits().max_text_chars)

    def check(self) -> Report:
        """Return everything that is wrong; call it when things are quiet."""
        report = Report()
        wanted = {document_id(each.source, each.path): each for each in self.wanted()}
        stored = self.stored()
        rows = self._rows()
        report.documents = len(wanted)
        for key, each in wanted.items():
            points = stored.pop(key, [])
            report.chunks += len(each.chunks)
            self._compare(each, points, report)
            report.findings += _row_findings(each, rows.pop(key, None))
        for key, points in stored.items():
            path = (points[0]["payload"].get("metadata") or {}).get("path")
            report.findings.append(Finding("orphan", str(path or key), f"{len(points)} points of no document"))
        report.findings += [finding for row in rows.values() for finding in _leftover_findings(row)]
        report.findings += self.unfinished()
        return report

    # ------------------------------------------------------------------ the files

    def wanted(self) -> Iterator[Wanted]:
        """Yield what every file should be in the index."""
        for source, root in self.roots.items():
            for raw in regular_files(root):
                yield self._read(source, root, raw)

    def _read(self, source: str, root: Path, raw: bytes) -> Wanted:
        path = normal_path(raw)
        with open(os.path.join(os.fsencode(root), raw), "rb") as file:
            version = hashlib.sha256(file.read()).hexdigest()
            try:
                parsed = self.parse(file.fileno(), path.rsplit("/", 1)[-1])
            except (Permanent, NotADocument):
                return Wanted(source, path, version, [], None)
        return Wanted(source, path, version, chunk(document_id(source, path), parsed, self.options), parsed)

    # ------------------------------------------------------------------ the index

    def stored(self) -> dict[str, list[dict[str, Any]]]:
        """Return every point of the collection, by document id."""
        found: dict[str, list[dict[str, Any]]] = {}
        offset: Any = None
        with httpx.Client(base_url=self.qdrant_url, timeout=60) as client:
            while True:
                body = {"limit": 1000, "offset": offset, "with_payload": True, "with_vector": True}
                answer = client.post(f"/collections/{self.collection}/points/scroll", json=body)
                if answer.status_code == 404 and offset is None:
                    return {}  # nothing was ever indexed
                result = answer.raise_for_status().json()["result"]
                for point in result["points"]:
                    found.setdefault((point["payload"] or {}).get("doc_id", ""), []).append(point)
                offset = result["next_page_offset"]
                if offset is None:
                    return found

    def _compare(self, wanted: Wanted, points: list[dict[str, Any]], report: Report) -> None:
        want = Counter((piece.heading, piece.content) for piece in wanted.chunks)
        have = Counter(_text(point) for point in points)
        for kind, difference in (("lost", want - have), ("stale", have - want)):
            for text, count in difference.items():
                known = "duplicate" if kind == "stale" and text in want else kind
                report.findings.append(Finding(known, wanted.name, f"{count} × {_short(text)}"))
        by_id = {piece.id: piece for piece in wanted.chunks}
        for point in points:
            piece = by_id.get(point["id"])
            if piece is not None and (piece.heading, piece.content) == _text(point):
                report.findings += _payload_findings(wanted, piece, point)
            report.findings += _vector_findings(wanted, point)
        self._compare_vectors(wanted, points, report)

    def _compare_vectors(self, wanted: Wanted, points: list[dict[str, Any]], report: Report) -> None:
        chosen = [point for point in points if _dense(point) is not None]
        chosen = sorted(chosen, key=lambda point: point["id"])[: self.sample]
        if self.embed is None or not chosen:
            return
        texts = [embedded_text(*_text(point)) for point in chosen]
        for point, text, right in zip(chosen, texts, self.embed(texts), strict=True):
            report.vectors_compared += 1
            have = np.asarray(_dense(point), dtype=np.float32)
            cosine = float(have @ right / (np.linalg.norm(have) * np.linalg.norm(right)))
            if cosine < 0.999:
                what = f"the vector of another text (cosine {cosine:.3f}): {_short(_text(point))}"
                report.findings.append(Finding("vector", wanted.name, what))
            name = wanted.path if point["payload"].get("chunk_index") == 0 else None
            sparse = names.chunk_vector(text, name)
            if dict(zip(*_sparse(point), strict=True)).keys() != set(sparse.indices):
                what = f"the BM25 vector of another text: {_short(_text(point))}"
                report.findings.append(Finding("vector", wanted.name, what))

    # ------------------------------------------------------------------ the ledger and the queues

    def _rows(self) -> dict[str, Row[Any]]:
        with schema.reading(self.engine).connect() as connection:
            rows = connection.execute(select(documents).where(documents.c.source.in_(list(self.roots)))).all()
        return {row.id: row for row in rows}

    def unfinished(self) -> list[Finding]:
        """Return what is still to be done: leases, retries, verifies, queues, dirty paths."""
        findings: list[Finding] = []
        for row in self._rows().values():
            name = f"{row.source}/{row.path}"
            if State(row.state) not in FINAL:
                findings.append(Finding("unfinished", name, f"{row.state}: {row.reason}"))
            elif row.desired_generation != row.indexed_generation and row.state != State.HELD:
                findings.append(Finding("unfinished", name, f"generation {row.desired_generation} is not indexed"))
            for column in ("lease_until", "embed_lease_until", "verify_at", "next_try_at"):
                if getattr(row, column) is not None:
                    findings.append(Finding("unfinished", name, f"{column} is set"))
        with schema.reading(self.engine).connect() as connection:
            beats = connection.execute(
                select(processes.c.name, processes.c.info).where(
                    processes.c.kind == "watcher", processes.c.beat_at > schema.now(connection) - 15
                )
            ).all()
        for beat in beats:
            info = json.loads(beat.info)
            if info.get("dirty") or info.get("scanning"):
                findings.append(Finding("unfinished", beat.name, f"{info.get('dirty')} paths are dirty"))
        return findings + self._queued()

    def _queued(self) -> list[Finding]:
        if self.broker is None:
            return []
        # What the dead had taken and not acknowledged stays in `unacked` for the visibility timeout; the ledger knows.
        lengths = {queue.value: self.broker.llen(f"{self.key_prefix}{queue.value}") for queue in Queue}
        return [Finding("unfinished", name, f"{length} messages") for name, length in lengths.items() if length]


def regular_files(root: Path) -> list[bytes]:
    """Return the files below ``root`` that are documents: regular and not ignored, relative, sorted."""
    return sorted(_files(os.fsencode(root), b"", IgnoreRules(root)))


def _files(root: bytes, folder: bytes, rules: IgnoreRules) -> Iterator[bytes]:
    for entry in os.scandir(os.path.join(root, folder) if folder else root):
        raw = folder + b"/" + entry.name if folder else entry.name
        path = normal_path(raw)
        kind = entry.stat(follow_symlinks=False).st_mode
        if path == MARKER or path.rsplit("/", 1)[-1] == IGNORE_FILE:
            continue
        if rules.explain_entry(path, is_dir=stat.S_ISDIR(kind)).ignored:
            continue
        if stat.S_ISDIR(kind):
            yield from _files(root, raw, rules)
        elif stat.S_ISREG(kind):
            yield raw


# ---------------------------------------------------------------------------------------------------- one point


def _text(point: dict[str, Any]) -> tuple[str | None, str]:
    payload = point["payload"] or {}
    return (payload.get("metadata") or {}).get("heading"), payload.get("content", "")


def _dense(point: dict[str, Any]) -> list[float] | None:
    vector = point.get("vector")
    return vector if isinstance(vector, list) else (vector or {}).get("")


def _sparse(point: dict[str, Any]) -> tuple[list[int], list[float]]:
    vector = point.get("vector")
    found = (vector if isinstance(vector, dict) else {}).get("bm25") or {}
    return found.get("indices", []), found.get("values", [])


def _payload_findings(wanted: Wanted, piece: Chunk, point: dict[str, Any]) -> Iterator[Finding]:
    payload = point["payload"]
    facts = payload["metadata"]
    assert wanted.parsed is not None
    title = wanted.parsed.metadata.title
    pairs = {
        "chunk_index": (payload.get("chunk_index"), piece.index),
        "digest": (payload.get("digest"), piece.digest),
        "version": (payload.get("version"), wanted.version),
        "metadata.chunk": (facts.get("chunk"), piece.index),
        "metadata.page": (facts.get("page"), piece.page),
        "metadata.path": (facts.get("path"), wanted.path),
        "metadata.source": (facts.get("source"), wanted.source),
        "metadata.filetype": (facts.get("filetype"), wanted.parsed.metadata.filetype),
        "metadata.language": (facts.get("language"), wanted.parsed.metadata.language),
        "metadata.title": (facts.get("title"), clean_text(title).replace("\n", " ").strip() if title else None),
    }
    for name, (have, want) in pairs.items():
        if have != want:
            yield Finding("payload", wanted.name, f"{name} of chunk {piece.index} is {have!r}, not {want!r}")


def _vector_findings(wanted: Wanted, point: dict[str, Any]) -> Iterator[Finding]:
    payload, dense = point["payload"], _dense(point)
    if dense is None:
        yield Finding("vector", wanted.name, f"no dense vector: {_short(_text(point))}")
    elif abs(float(np.linalg.norm(dense)) - 1.0) > 1e-3:
        yield Finding("vector", wanted.name, f"a vector that is not of length 1: {_short(_text(point))}")
    if bool(payload.get("embedded")) != (dense is not None):
        yield Finding("vector", wanted.name, f"embedded is {payload.get('embedded')}: {_short(_text(point))}")
    if not _sparse(point)[0] and bm25.document_vector(embedded_text(*_text(point))).indices:
        yield Finding("vector", wanted.name, f"no BM25 vector: {_short(_text(point))}")


def _short(text: tuple[str | None, str]) -> str:
    heading, content = text
    return f"[{heading}] {content[:60]!r}" if heading else repr(content[:60])


# ---------------------------------------------------------------------------------------------------- one row


def _row_findings(wanted: Wanted, row: Row[Any] | None) -> Iterator[Finding]:
    if row is None:
        yield Finding("ledger", wanted.name, "no row")
    elif wanted.chunks:
        if row.state != State.READY:
            yield Finding("ledger", wanted.name, f"is {row.state} ({row.reason}), should be ready")
        elif (row.version, row.chunks, row.vectors_pending) != (wanted.version, len(wanted.chunks), 0):
            yield Finding("ledger", wanted.name, f"{row.chunks} chunks, {row.vectors_pending} without vector, or old")
    elif row.state not in (State.EMPTY, State.PARKED, State.SKIPPED):
        yield Finding("ledger", wanted.name, f"is {row.state}, but there is nothing of it to index")
    elif not row.reason:
        yield Finding("ledger", wanted.name, f"is {row.state} and does not say why")


def _leftover_findings(row: Row[Any]) -> Iterator[Finding]:
    """A row without a file: deleted, or skipped by a rule that it names."""
    if row.state == State.SKIPPED and row.reason:
        return
    if row.state != State.DELETED:
        yield Finding("ledger", f"{row.source}/{row.path}", f"is {row.state} ({row.reason}), but there is no such file")
