"""The recipe: what turned bytes into points, as two fingerprints.

The *space* (embedding model, dimensions, sparse model) decides which vectors can be compared, so it names the physical
collection.  The *recipe* (parser, chunker) decides which chunks a document has; when it changes, documents are indexed
again where they are, and only the chunks that came out differently are embedded (ADR 0006).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from workers.adapters.bm25 import BM25_VERSION
from workers.indexing.chunk import CHUNKER_VERSION, ChunkOptions
from workers.indexing.parse import PARSER_VERSION

METADATA_VERSION = "1"
"""Another one when documents get other metadata from the same sources: all are described again, nothing is embedded."""


@dataclass(frozen=True, slots=True)
class Space:
    """What makes vectors comparable."""

    model: str
    dimensions: int

    @property
    def fingerprint(self) -> str:
        """Ten hex digits."""
        return _digest([self.model, self.dimensions, "cosine", BM25_VERSION])[:10]

    def collection(self, alias: str) -> str:
        """Return the name of the physical collection behind ``alias``."""
        return f"{alias}-{self.fingerprint}"

    def cache_key(self, text: str) -> str:
        """Return the key under which the vector of a passage is remembered, whichever document it is in."""
        return hashlib.sha256(
            "\x1f".join((self.model, str(self.dimensions), "passage", text)).encode("utf-8", "surrogatepass")
        ).hexdigest()


def space_fact(collection: str) -> str:
    """Return the name of the fact in which the ledger remembers the space of a collection."""
    return f"space:{collection}"[:64]


def recipe_fingerprint(options: ChunkOptions, rules: Mapping[str, Any] | None = None) -> str:
    """Return the fingerprint of parser and chunker with their settings, and of the folder rules for metadata."""
    parts: list[Any] = [PARSER_VERSION, CHUNKER_VERSION, METADATA_VERSION, asdict(options)]
    return _digest([*parts, rules] if rules else parts)[:16]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
