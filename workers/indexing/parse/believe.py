"""Builds our values from what a parser child sent; nothing of it is trusted beyond its shape."""

from __future__ import annotations

from array import array
from binascii import a2b_base64
from math import isfinite
from typing import Any, get_args

from workers import errors
from workers.errors import ParserCrashed, WorkerError
from workers.indexing.chunk import HEADING_CHARS
from workers.indexing.parse.clean import clean_text
from workers.indexing.values import Cut, DocumentMetadata, Element, ElementKind, Parsed, Piece, Words

KINDS = frozenset(get_args(ElementKind))
FATES: dict[str, type[WorkerError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.Permanent | errors.NotADocument)
}
MOST_ELEMENTS = 1_000_000
LARGEST_TOKEN = (1 << 31) - 1
"""Ids above are those of words in names, which a child does not know."""
_NO_SENSE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


def parsed(answer: Any) -> Parsed:
    """Return the elements that a child sent.

    Raises:
        Permanent, NotADocument: what it says of the file.
        ParserCrashed: it failed, or sent no sense.
    """
    _check_fate(answer)
    try:
        return Parsed(tuple(_element(raw) for raw in _bounded(answer["elements"])), _metadata(answer["metadata"]))
    except _NO_SENSE as exc:
        raise ParserCrashed("Its parser sent no sense.") from exc


def cut(answer: Any, most_chars: int) -> Cut:
    """Return the pieces that a child sent, each of ``most_chars`` at most.

    Raises:
        As `parsed`.
    """
    _check_fate(answer)
    try:
        return Cut(tuple(_piece(raw, most_chars) for raw in _bounded(answer["pieces"])), _metadata(answer["metadata"]))
    except _NO_SENSE as exc:
        raise ParserCrashed("Its parser sent no sense.") from exc


def _check_fate(answer: Any) -> None:
    if not isinstance(answer, dict):
        raise ParserCrashed("Its parser sent no sense.")
    if "error" in answer:
        kind = FATES.get(str(answer["error"]))
        text = clean_text(str(answer.get("text", "")))[:500]
        if answer["error"] == "MemoryError":
            raise ParserCrashed("Parsing it needs more memory than one parser may have (UPWELL_PARSE_MEMORY_MB).")
        if kind is None:
            raise ParserCrashed(f"Its parser failed ({str(answer['error'])[:60]}).")
        raise kind(text)


def _bounded(given: list[Any]) -> list[Any]:
    if len(given) > MOST_ELEMENTS:
        raise ParserCrashed("It parses to more than can be handled.")
    return given


def _element(raw: Any) -> Element:
    kind, text, level, page = raw
    if kind not in KINDS:
        raise ValueError("unknown kind")
    return Element(kind, clean_text(str(text)), min(99, max(1, int(level))) if level is not None else None, _page(page))


def _piece(raw: Any, most_chars: int) -> Piece:
    heading, page, content, tokens, weights = raw
    heading, content = None if heading is None else str(heading), str(content)
    above = None if heading is None else clean_text(heading)[: HEADING_CHARS + 1]
    clean = clean_text(content)
    if not clean.strip() or len(content) > most_chars:
        raise ValueError("no piece")
    # Of a text that was not clean the words are another text's.
    words = _words(tokens, weights) if (above, clean) == (heading, content) else None
    return Piece(above, _page(page), clean, words)


def _words(tokens: str, weights: str) -> Words:
    """Return what a child has packed.  Qdrant refuses a whole write for an id that is there twice."""
    ids, worth = array("I", a2b_base64(tokens, strict_mode=True)), array("f", a2b_base64(weights, strict_mode=True))
    # A sum in 64 bits of numbers of 32 is finite when they all are.
    if len(ids) != len(worth) or max(ids, default=0) > LARGEST_TOKEN or not isfinite(sum(worth)):
        raise ValueError("no words")
    if len(set(ids)) != len(ids):
        raise ValueError("a word that is there twice")
    return ids, worth


def _page(page: Any) -> int | None:
    return max(1, int(page)) if page is not None else None


def _metadata(raw: dict[str, Any]) -> DocumentMetadata:
    def text(name: str) -> str | None:
        value = raw.get(name)
        return clean_text(str(value)).replace("\n", " ").strip()[:500] or None if value is not None else None

    extra = {
        clean_text(str(key))[:64]: clean_text(value)[:500] if isinstance(value, str) else value
        for key, value in list(dict(raw.get("extra") or {}).items())[:64]
        if isinstance(value, str | int | float | bool)
    }
    return DocumentMetadata(
        filetype=text("filetype") or "application/octet-stream",
        title=text("title"),
        language=text("language"),
        author=text("author"),
        created=text("created"),
        modified=text("modified"),
        url=text("url"),
        pages=int(raw["pages"]) if raw.get("pages") is not None else None,
        extra=extra,
    )
