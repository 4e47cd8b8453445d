"""Plain text and source code: blocks between blank lines."""

from __future__ import annotations

import re

from workers.indexing.parse.encoding import decode
from workers.indexing.values import DocumentMetadata, Element, Parsed

_BLANK = re.compile(r"\n[ \t\r]*\n+")
_BULLET = re.compile(r"^\s*(?:[-*•‣◦]|\d{1,3}[.)])\s+\S")


def read_text(data: bytes, _name: str) -> Parsed:
    """Paragraphs; a form feed starts a new page."""
    text = decode(data).replace("\r\n", "\n").replace("\r", "\n")
    pages = text.split("\f") if "\f" in text else [text]
    numbered = len(pages) > 1
    elements = [
        Element("list" if _BULLET.match(block) else "text", block, page=number if numbered else None)
        for number, page in enumerate(pages, 1)
        for block in blocks(page)
    ]
    return Parsed(tuple(elements), DocumentMetadata(pages=len(pages) if numbered else None))


def read_code(data: bytes, _name: str) -> Parsed:
    """Source code, with its indentation."""
    text = decode(data).replace("\r\n", "\n").expandtabs(4)
    return Parsed(tuple(Element("code", block) for block in blocks(text)), DocumentMetadata(language=None))


def blocks(text: str) -> list[str]:
    """Return the blocks between blank lines."""
    return [block.strip("\n") for block in _BLANK.split(text) if block.strip()]
