"""What a parser child does beside parsing: cuts the document, and reckons BM25 of each piece.

Both need nothing but the text, and both are pure Python for the most part, of which an index worker runs one line at a
time whatever its threads: done here they keep other processors busy.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from workers.adapters.bm25 import document_vectors
from workers.indexing.chunk import ChunkOptions, embedded_text, pieces
from workers.indexing.values import Cut, Parsed, Piece

TOGETHER = 32
"""Pieces whose words are reckoned at once: the engine's lists take ten times the memory of what is kept."""


def cut(parsed: Parsed, options: ChunkOptions) -> Cut:
    """Return a parsed document in pieces, with the words of each."""
    found = pieces(parsed, options)
    parts = (found[start : start + TOGETHER] for start in range(0, len(found), TOGETHER))
    return Cut(tuple(piece for part in parts for piece in _with_words(part)), parsed.metadata)


def _with_words(found: Sequence[Piece]) -> list[Piece]:
    vectors = document_vectors([embedded_text(piece.heading, piece.content) for piece in found])
    return [
        Piece(piece.heading, piece.page, piece.content, (array("I", vector.indices), array("f", vector.values)))
        for piece, vector in zip(found, vectors, strict=True)
    ]
