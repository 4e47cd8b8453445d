"""The nouns of searching: small, frozen, free of any vendor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from workers.indexing.chunk import embedded_text

Vector = NDArray[np.float32]
Mode = Literal["hybrid", "lexical", "semantic"]
Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where a point stands in one of the lists that were fused: rank (from 1) and that list's own score."""

    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Found:
    """A point that a search found, best first."""

    id: str
    score: float
    payload: Mapping[str, Any]
    lists: Mapping[str, Place] = field(default_factory=dict)  # filled when asked to explain
    vector: Vector | None = field(default=None, compare=False)  # the dense one, filled when asked for

    @property
    def content(self) -> str:
        """The chunk's text."""
        return str(self.payload.get("content") or "")

    @property
    def metadata(self) -> dict[str, Any]:
        """What is known of its document, and where in it the chunk is."""
        found = self.payload.get("metadata")
        return found if isinstance(found, dict) else {}

    @property
    def path(self) -> str:
        """Where its document is: the name that people know it by."""
        return str(self.metadata.get("path") or "")

    @property
    def embedded_text(self) -> str:
        """What was indexed of it: where it stands, then what it says."""
        return embedded_text(self.metadata.get("heading"), self.content)

    @property
    def doc_id(self) -> str:
        """Id of its document."""
        return str(self.payload.get("doc_id") or "")

    @property
    def version(self) -> str:
        """Version of its document that it belongs to."""
        return str(self.payload.get("version") or "")

    @property
    def chunk_index(self) -> int:
        """Its place in the document, from 0; -1 when it is not known."""
        index = self.payload.get("chunk_index")
        return index if isinstance(index, int) else -1


@dataclass(frozen=True, slots=True)
class Background:
    """What an index is like as a whole: how many points it has, and the dense vectors of some of them, normalised."""

    points: int
    vectors: Vector  # (sample, dimensions)

    def nearness(self, meaning: Vector) -> float | None:
        """Return the mean cosine of a text with what is stored; None when nothing says it."""
        if not len(self.vectors) or self.vectors.shape[1] != len(meaning):
            return None
        return float((self.vectors @ meaning).mean())
