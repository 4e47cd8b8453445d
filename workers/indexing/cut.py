"""What a parser child does beside parsing: cuts the document, and reckons BM25 of each piece.

Both need nothing but the text, and both are pure Python for the most part, of which an index worker runs one line at a
time whatever its threads: done here they keep other processors busy.
"""

from __future__ import annotations

from array import array

from workers.adapters.bm25 import document_vector
from workers.indexing.chunk import ChunkOptions, embedded_text, pieces
from workers.indexing.values import Cut, Parsed, Piece


def cut(parsed: Parsed, options: ChunkOptions) -> Cut:
    """Return a parsed document in pieces, with the words of each."""
    return Cut(tuple(_with_words(piece) for piece in pieces(parsed, options)), parsed.metadata)


def _with_words(piece: Piece) -> Piece:
    found = document_vector(embedded_text(piece.heading, piece.content))
    return Piece(piece.heading, piece.page, piece.content, (array("I", found.indices), array("f", found.values)))
