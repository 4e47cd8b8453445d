"""What an attempt asks of the outside, as values: so that attempts of several documents can ask together.

An attempt (`reconcile`) is a generator.  It yields a step and is sent the answer, or the exception, that the step has
for this document.  Whoever drives it decides whether a step goes out alone or with those of others; the attempt cannot
tell the difference, and neither can its order of steps, which is what ADR 0001 proves right.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from workers.indexing.chunk import ChunkOptions
from workers.indexing.deadline import Deadline
from workers.indexing.ledger import Claim, Indexed
from workers.indexing.ports import Point, StoredPoint, Vector
from workers.indexing.values import Cut

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parse:
    """Parse an open file, and cut it; ``urgent``: somebody waits for it."""

    fd: int
    path: str
    options: ChunkOptions
    urgent: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """Tell what the index holds of a document."""

    document_id: str


@dataclass(frozen=True, slots=True)
class Known:
    """Tell which texts were embedded before."""

    keys: Sequence[str]


@dataclass(frozen=True, slots=True)
class Put:
    """Store points, unless the lease may have ended."""

    points: Sequence[Point]
    token: int
    deadline: Deadline


@dataclass(frozen=True, slots=True)
class DropDocument:
    """Forget every point of a document, unless the lease may have ended."""

    document_id: str
    token: int
    deadline: Deadline


@dataclass(frozen=True, slots=True)
class Commit:
    """Record in the ledger what is indexed now."""

    claim: Claim
    indexed: Indexed


Step = Parse | Stored | Known | Put | DropDocument | Commit
Walk = Generator[Step, Any, T]


def parse(fd: int, path: str, options: ChunkOptions, *, urgent: bool) -> Walk[Cut]:
    """Return the pieces of an open file."""
    answer: Cut = yield Parse(fd, path, options, urgent)
    return answer


def stored(document_id: str) -> Walk[dict[str, StoredPoint]]:
    """Return every point of one document, by id."""
    answer: dict[str, StoredPoint] = yield Stored(document_id)
    return answer


def known(keys: Sequence[str]) -> Walk[dict[str, Vector]]:
    """Return the vectors of those texts that were embedded before, by key."""
    answer: dict[str, Vector] = yield Known(keys)
    return answer


def commit(claim: Claim, indexed: Indexed) -> Walk[bool]:
    """Commit; True when the document moved on meanwhile."""
    answer: bool = yield Commit(claim, indexed)
    return answer
