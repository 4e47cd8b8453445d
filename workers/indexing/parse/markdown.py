"""Markdown (CommonMark with tables): headings with their levels, lists, tables, code, front matter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from markdown_it.token import Token

from workers.indexing.parse import commonmark
from workers.indexing.parse.encoding import decode
from workers.indexing.parse.text import line_ends
from workers.indexing.values import DocumentMetadata, Element, Parsed

_FRONT = re.compile(r"\A---[ \t]*\n(.{0,20000}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TOML = re.compile(r"\A\+\+\+[ \t]*\n(.{0,20000}?)\n\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL)


_MARKDOWN = commonmark.parser()


def read_markdown(data: bytes, _name: str) -> Parsed:
    """CommonMark with tables; YAML or TOML front matter becomes metadata."""
    facts, text = _front_matter(line_ends(decode(data)))
    return Parsed(tuple(markdown(text)), facts)


def _front_matter(text: str) -> tuple[DocumentMetadata, str]:
    found = _FRONT.match(text) or _TOML.match(text)
    if found is None:
        return DocumentMetadata(), text
    from workers.indexing.parse.front import facts

    said = facts(found[0][:3], found[1])
    return (DocumentMetadata(), text) if said is None else (said, text[found.end() :])


def markdown(text: str) -> Iterator[Element]:
    """Yield the elements of a piece of Markdown."""
    tokens = _MARKDOWN.parse(text)
    bullets: list[str] = []  # what the next text of each open list begins with
    position = 0
    while position < len(tokens):
        token = tokens[position]
        kind = token.type
        if kind == "list_item_open":
            bullets.append(f"{token.info}{token.markup} " if token.info else "- ")
        elif kind == "list_item_close":
            bullets.pop()
        elif kind == "heading_open":
            yield Element("heading", commonmark.text_of(tokens[position + 1]), level=int(token.tag[1]))
            position += 1
        elif kind == "inline":
            if bullets:
                yield Element("list", "  " * (len(bullets) - 1) + bullets[-1] + commonmark.text_of(token))
                bullets[-1] = "  "
            else:
                yield Element("text", commonmark.text_of(token))
        elif kind in ("fence", "code_block"):
            yield Element("code", token.content)
        elif kind == "html_block":
            from workers.indexing.parse.html import fragment  # lxml, for what few texts have

            yield from fragment(token.content)
        elif kind == "table_open":
            end = next(i for i in range(position, len(tokens)) if tokens[i].type == "table_close")
            yield Element("table", _table(tokens[position:end]))
            position = end
        position += 1


def _table(tokens: Sequence[Token]) -> str:
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(commonmark.text_of(token))
    return "\n".join(" | ".join(row) for row in rows)
