"""In-memory ports for tests.  They keep the promises of workers/indexing/ports.py and refuse what they do not know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from workers.adapters.embeddings import EmbeddingBatch, InputRefused
from workers.adapters.qdrant import RESTATED
from workers.indexing.chunk import ChunkOptions, pieces
from workers.indexing.ports import PendingPoint, Point, StoredPoint, Vector
from workers.indexing.values import Cut, DocumentMetadata, Element, Parsed


@dataclass
class MemoryIndex:
    """A dict with the fences of the real index.  Several threads may use it, so it is only read from copies."""

    points: dict[str, dict[str, Any]] = field(default_factory=dict)
    writes: int = 0

    def stored(self, document_id: str) -> dict[str, StoredPoint]:
        return {
            key: StoredPoint(key, p["token"], p["embedded"], p["refused"], p["chunk_index"], p["metadata"])
            for key, p in self.points.copy().items()
            if p["doc_id"] == document_id
        }

    def stored_of(self, document_ids: Sequence[str]) -> dict[str, dict[str, StoredPoint]]:
        return {key: self.stored(key) for key in document_ids}

    def put(self, points: Sequence[Point], token: int) -> None:
        for point in points:
            self.writes += 1
            old = self.points.get(point.id)
            if old is None or old["token"] < token:
                fields = {
                    "token": token,
                    "embedded": point.vector is not None,
                    "vector": point.vector,
                    "refused": False,
                    "name": point.name,
                }
                self.points[point.id] = point.payload | fields

    def put_all(self, puts: Sequence[tuple[Sequence[Point], int]]) -> None:
        for points, token in puts:
            self.put(points, token)

    def restate(self, points: Sequence[Point], token: int, was: Mapping[str, StoredPoint] | None = None) -> None:
        for point in points:
            self.writes += 1
            old = self.points.get(point.id)
            if old is not None and old["token"] <= token:
                old |= {key: point.payload[key] for key in RESTATED} | {"token": token}

    def restamp(self, ids: Sequence[str], version: str, token: int) -> None:
        for key in ids:
            if key in self.points and self.points[key]["token"] <= token:
                self.points[key] |= {"token": token, "version": version}

    def drop(self, ids: Iterable[str], token: int) -> None:
        for key in ids:
            if key in self.points and self.points[key]["token"] <= token:
                del self.points[key]

    def drop_document(self, document_id: str, token: int) -> None:
        self.drop([key for key, p in self.points.copy().items() if p["doc_id"] == document_id], token)

    def drop_documents(self, drops: Sequence[tuple[str, int]]) -> None:
        for document_id, token in drops:
            self.drop_document(document_id, token)

    def pending(self, document_id: str) -> list[PendingPoint]:
        return [
            PendingPoint(key, document_id, p["metadata"]["heading"], p["content"])
            for key, p in self.points.copy().items()
            if p["doc_id"] == document_id and not p["embedded"] and not p["refused"]
        ]

    def vectors_of(self, digests: Sequence[str]) -> dict[str, Vector]:
        return {
            p["digest"]: p["vector"]
            for p in self.points.copy().values()
            if p.get("digest") in digests and p.get("vector") is not None
        }

    def put_vectors(self, vectors: Sequence[tuple[str, Vector]]) -> None:
        for key, vector in vectors:
            if key in self.points:
                self.points[key] |= {"embedded": True, "vector": vector}

    def mark_refused(self, ids: Sequence[str]) -> None:
        for key in ids:
            self.points[key]["refused"] = True

    def contents(self, document_id: str) -> list[str]:
        """Return the stored texts of one document, in order."""
        mine = [p for p in self.points.copy().values() if p["doc_id"] == document_id]
        return [p["content"] for p in sorted(mine, key=lambda p: p["chunk_index"])]


@dataclass
class LineParser:
    """Every paragraph is a heading of its own, so that every paragraph is a chunk of its own."""

    parsed: int = 0
    error: Exception | None = None

    def parse(self, fd: int, path: str) -> Parsed:
        import os

        self.parsed += 1
        if self.error is not None:
            raise self.error
        text = os.read(fd, 1 << 20).decode()
        elements: list[Element] = []
        for number, block in enumerate(b for b in text.split("\n\n") if b.strip()):
            elements += [
                Element("heading", f"Part {block.split()[0]}", level=1),
                Element("text", block, page=number + 1),
            ]
        return Parsed(tuple(elements), DocumentMetadata())

    def cut(self, fd: int, path: str, options: ChunkOptions, *, urgent: bool = False) -> Cut:
        parsed = self.parse(fd, path)
        return Cut(tuple(pieces(parsed, options)), parsed.metadata)


@dataclass
class CountingEmbedder:
    """Vectors that are a function of the text; counts what it is paid for."""

    texts: list[str] = field(default_factory=list)
    refuse: str | None = None
    error: Exception | None = None

    def embed(self, texts: Sequence[str], *, kind: Literal["query", "passage"]) -> EmbeddingBatch:
        if self.error is not None:
            raise self.error
        if self.refuse is not None and any(self.refuse in text for text in texts):
            raise InputRefused("refused")
        self.texts += texts
        vectors = np.array([[len(text), 1.0, sum(map(ord, text)) % 97] for text in texts], dtype=np.float32)
        return EmbeddingBatch(vectors, sum(len(text) // 4 for text in texts))


class RecordedHints:
    """Remembers hints instead of sending them."""

    def __init__(self) -> None:
        self.looked: list[str] = []
        self.embeds = 0

    def look(self, document_ids: list[str], *, bulk: bool = False) -> bool:
        self.looked += document_ids
        return True

    def embed(self) -> bool:
        self.embeds += 1
        return True
