"""What an audit needs of the outside, in its own words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from workers.contract.intake import Observation
from workers.housekeeping.books import Home
from workers.housekeeping.findings import SeenPoint


class Page(Protocol):
    """One page of points: ours, and the ids of those that are not."""

    @property
    def ours(self) -> list[SeenPoint]: ...
    @property
    def foreign(self) -> list[str]: ...


class AuditedIndex(Protocol):
    """The index as an audit reads and repairs it.  Every method may raise IndexUnavailable or IndexMisconfigured."""

    @property
    def collection(self) -> str: ...

    def pages(self) -> Iterator[Page]:
        """Yield every point."""

    def points_of(self, document_ids: Sequence[str]) -> dict[str, list[SeenPoint]]:
        """Return the points of these documents, each document's by chunk index."""

    def bare(self, document_ids: Sequence[str] | None = None) -> Iterator[list[tuple[str, str]]]:
        """Yield (document id, point id) of points that say they are embedded and have no dense vector."""

    def homes(self, document_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return the (source, path) that the points of these documents name."""

    def forget(self, document_id: str, token: int) -> None:
        """Remove the points of a document, except those that an attempt after ``token`` has stored."""

    def count(self) -> int:
        """Return how many points there are."""

    def disclaim(self, point_ids: Sequence[str]) -> None:
        """Take back the claim of points without a vector that they are embedded."""


class Files(Protocol):
    """What is on disk.  The watcher's rules about what is a document hold here as well."""

    def listed(self, home: Home, unreadable: list[str]) -> Iterator[Observation]:
        """Yield every file of a source; what cannot be looked at is added to ``unreadable``.

        Raises:
            OSError: the root is not there, or not the one that was indexed.
        """

    def at(self, home: Home, raw_path: bytes, path: str) -> Observation | None:
        """Return what is at one place now; None: nothing.

        Raises:
            OSError: it cannot be told.
        """
