"""The nouns of searching: small, frozen, free of any vendor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Mode = Literal["hybrid", "lexical", "semantic"]
Scalar = str | int | float | bool
Filters = Mapping[str, tuple[Scalar, ...]]
"""Field of the metadata -> the values it may have; every field must fit."""


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
    def doc_id(self) -> str:
        """Id of its document."""
        return str(self.payload.get("doc_id") or "")
