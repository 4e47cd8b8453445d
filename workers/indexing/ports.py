"""What the pipeline needs of the outside, in its own words.  One adapter per vendor implements each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from workers.indexing.chunk import ChunkOptions
from workers.indexing.values import Cut, Words

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Point:
    """A chunk as it is to be stored.  ``vector`` None: lexical search finds it now, semantic search later."""

    id: str
    text: str  # what BM25 is computed from
    payload: dict[str, Any]
    vector: Vector | None = None
    name: str | None = None  # its document's path, whose words BM25 gets as well; the first chunk has it
    words: Words | None = None  # of ``text``, where they have been reckoned already


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """What the index holds of a chunk: its fence, and the part of the payload that an edit elsewhere may change."""

    id: str
    token: int
    embedded: bool
    refused: bool
    chunk_index: int
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PendingPoint:
    """A stored chunk without a dense vector."""

    id: str
    document_id: str
    heading: str | None
    content: str


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors, in the order of the texts, and the tokens they cost."""

    vectors: NDArray[np.float32]  # (n, dimensions)
    tokens: int


class Index(Protocol):
    """The index as the pipeline writes it.  Every write carries the attempt's token and loses against a newer one."""

    def stored(self, document_id: str) -> dict[str, StoredPoint]:
        """Return every point of one document, by id."""

    def stored_of(self, document_ids: Sequence[str]) -> dict[str, dict[str, StoredPoint]]:
        """Return the same for several documents; one without points may be left out."""

    def put(self, points: Sequence[Point], token: int) -> None:
        """Store points; one that a newer attempt has stored stays as it is.  Twice is the same as once."""

    def put_all(self, puts: Sequence[tuple[Sequence[Point], int]]) -> None:
        """Do several `put`, of different documents, each under its own token."""

    def restate(self, points: Sequence[Point], token: int, was: Mapping[str, StoredPoint] | None = None) -> None:
        """Renew position, metadata, version and fence of stored points; text and vectors stay.

        ``was``, by id, is what `stored` has just told of them: what changes in the same way for all is told once.
        """

    def restamp(self, ids: Sequence[str], version: str, token: int) -> None:
        """Renew version and fence of stored points that are otherwise right."""

    def drop(self, ids: Iterable[str], token: int) -> None:
        """Forget points, except those that a newer attempt has stored.  An unknown id is no error."""

    def drop_document(self, document_id: str, token: int) -> None:
        """Forget every point of a document, except those that a newer attempt has stored."""

    def drop_documents(self, drops: Sequence[tuple[str, int]]) -> None:
        """Do several `drop_document`, each under its own token."""

    def pending(self, document_id: str) -> list[PendingPoint]:
        """Return the document's points that still need a dense vector."""

    def vectors_of(self, digests: Sequence[str]) -> dict[str, Vector]:
        """Return the dense vectors of texts (by their digests) that any stored chunk has, by digest."""

    def put_vectors(self, vectors: Sequence[tuple[str, Vector]]) -> None:
        """Add dense vectors to stored points; a point that is gone meanwhile is passed over."""

    def mark_refused(self, ids: Sequence[str]) -> None:
        """Remember that the embedding endpoint refuses these texts: they stay lexical and are not sent again."""


class Parser(Protocol):
    """Turns bytes into pieces of text, somewhere safe."""

    def cut(self, fd: int, path: str, options: ChunkOptions, *, urgent: bool = False) -> Cut:
        """Parse the open file and cut it; ``path`` only lends its extension.  ``urgent``: before what is not.

        Raises:
            Permanent: it cannot be read, ever.
            NotADocument: there is nothing to index.
            ParserCrashed: the child died, ran out of time or of memory.
        """


class Embedder(Protocol):
    """Turns texts into vectors."""

    def embed(self, texts: Sequence[str], *, kind: Literal["query", "passage"]) -> Any:
        """Return vectors (n, d) and tokens spent.

        Raises:
            EmbedderUnavailable: try again later.
            EmbedderMisconfigured: it will never work like this.
            InputRefused: the endpoint refuses some text of this batch.
        """
