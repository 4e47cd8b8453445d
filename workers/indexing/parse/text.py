"""Plain text and source code: blocks between blank lines, without the line breaks that only a margin made."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from workers.indexing.parse.encoding import decode
from workers.indexing.values import DocumentMetadata, Element, Parsed

_BLANK = re.compile(r"\n[ \t\r]*\n\s*?(?=[^\n]|\Z)")
_BULLET = re.compile(r"\s*(?:[-*+•‣◦▪–]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])\s+\S")
_CJK = re.compile("[\u2e80-\u30ff\u3400-\u9fff\uff00-\uffef]")
_HYPHEN = re.compile(r"[^\W\d_][-\u00ad\u2010]$")
_SHORT, _LONG = 40, 160  # characters: what is narrower is verse or a list, what is wider was not wrapped


def read_text(data: bytes, _name: str) -> Parsed:
    """Paragraphs; a form feed starts a new page."""
    text = line_ends(decode(data))
    pages = text.split("\f") if "\f" in text else [text]
    numbered = len(pages) > 1
    elements = [
        element for number, page in enumerate(pages, 1) for element in paragraphs(page, number if numbered else None)
    ]
    return Parsed(tuple(elements), DocumentMetadata(pages=len(pages) if numbered else None))


def read_code(data: bytes, _name: str) -> Parsed:
    """Source code, with its indentation."""
    text = line_ends(decode(data)).replace("\f", "\n").expandtabs(4)
    return Parsed(tuple(Element("code", block) for block in blocks(text)), DocumentMetadata())


def paragraphs(text: str, page: int | None = None) -> list[Element]:
    """Return running text as elements."""
    found = []
    for block in blocks(text):
        if _BULLET.match(block) and "\n" in block:
            found.append(Element("list", _items(block), page=page))
        else:
            found.append(Element("list" if _BULLET.match(block) else "text", unwrapped(block), page=page))
    return found


def blocks(text: str) -> list[str]:
    """Return the blocks between blank lines."""
    return [block.strip("\n") for block in _BLANK.split(text) if block.strip()]


def line_ends(text: str) -> str:
    """Return ``text`` with line feeds only."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def unwrapped(block: str) -> str:
    """Join lines that were broken at a margin: those after which the next line's first word would not have fitted."""
    lines = block.split("\n")
    width = max(map(len, lines))
    if len(lines) < 2 or not _SHORT <= width <= _LONG or "\t" in block:
        return block
    groups = [[lines[0].rstrip()]]
    for line, following in itertools.pairwise(lines):
        words = following.split(None, 1)
        soft = (
            bool(words)
            and len(line.rstrip()) + 1 + len(words[0]) > width
            and not _BULLET.match(following)
            and not ("   " in line.strip() or "   " in following.strip())  # columns
        )
        if soft:
            groups[-1].append(following)
        else:
            groups.append([following.rstrip()])
    return "\n".join(group[0] if len(group) == 1 else joined(group) for group in groups)


def joined(lines: Sequence[str]) -> str:
    """Join the lines of a paragraph; a word divided at a line's end becomes one again."""
    parts: list[str] = []
    for line in lines:
        following = line.strip()
        if not following:
            continue
        if parts:
            before = parts[-1]
            if following[0].islower() and _HYPHEN.search(before[-2:]):
                parts[-1] = before[:-1]
            elif not (_CJK.match(before[-1]) and _CJK.match(following[0])):
                parts.append(" ")
        parts.append(following)
    return "".join(parts)


def _items(block: str) -> str:
    """Keep one item a line."""
    items: list[list[str]] = []
    for line in block.split("\n"):
        if _BULLET.match(line) or not items or (line and not line[0].isspace()):
            items.append([line.rstrip()])
        else:
            items[-1].append(line)
    return "\n".join(item[0] if len(item) == 1 else item[0] + " " + joined(item[1:]) for item in items)
