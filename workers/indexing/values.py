"""The nouns of indexing: small, frozen, free of any vendor."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any, Literal

from workers.contract.identity import chunk_id, text_digest

Words = tuple["array[int]", "array[float]"]
"""Token ids of BM25, each once, and their weights, in 32 bits each."""

ElementKind = Literal["heading", "text", "list", "table", "code", "header", "footer"]


@dataclass(frozen=True, slots=True)
class Element:
    """One piece of a document, in reading order, as the parser yields it.

    ``level`` is the depth of a heading (1 is the highest) and None for everything else; ``page`` counts from 1 and is
    None where the format has no pages (for slides it is the slide, for workbooks the sheet's number).  A table's text
    has one row a line, cells joined by " | ".
    """

    kind: ElementKind
    text: str
    level: int | None = None
    page: int | None = None


@dataclass(frozen=True, slots=True)
class DocumentMetadata:
    """What the format itself says of the document; None where it is silent.  Dates are ISO 8601 (RFC 3339)."""

    filetype: str = "text/plain"
    title: str | None = None
    language: str | None = None  # ISO 639-1
    author: str | None = None
    created: str | None = None
    modified: str | None = None
    url: str | None = None
    pages: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A parsed document."""

    elements: tuple[Element, ...]
    metadata: DocumentMetadata


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a document that becomes a chunk, before anybody knows which document it is of.

    ``words`` are the token ids and weights of BM25 for its embedded text; None where nobody has reckoned them yet.
    """

    heading: str | None
    page: int | None
    content: str
    words: Words | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """A parsed document in pieces, in reading order."""

    pieces: tuple[Piece, ...]
    metadata: DocumentMetadata


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is embedded, stored and cited.

    ``content`` is what people read; ``embedded_text`` is what is embedded and indexed (heading path + content).  The
    point's id is derived from ``embedded_text`` and, but for the first chunk, never from the position, so an edit
    elsewhere leaves it alone.
    """

    document_id: str
    content: str
    embedded_text: str
    occurrence: int
    index: int
    heading: str | None = None
    page: int | None = None
    words: Words | None = None

    @property
    def digest(self) -> str:
        """Digest of the embedded text, 32 hex digits."""
        return text_digest(self.embedded_text)

    @property
    def first(self) -> bool:
        """Whether it begins its document, and carries the words of the document's name."""
        return self.index == 0

    @property
    def id(self) -> str:
        """Point id (uuid5)."""
        return self.id_of(self.digest)

    def id_of(self, digest: str) -> str:
        """Return the point id for whoever knows the digest already."""
        return chunk_id(self.document_id, digest, self.occurrence, first=self.first)
