"""Markdown, reStructuredText and Org: headings with their levels, lists, tables, code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from workers.indexing.parse.encoding import decode
from workers.indexing.parse.text import blocks
from workers.indexing.values import DocumentMetadata, Element, Parsed

_FRONT = re.compile(r"\A---[ \t]*\n(.{0,20000}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_MARKDOWN = MarkdownIt("commonmark", {"html": True, "maxNesting": 40}).enable(["table", "strikethrough"])
_TAG = re.compile(r"<[^>\n]{0,500}>")


def read_markdown(data: bytes, _name: str) -> Parsed:
    """CommonMark with tables; YAML front matter becomes metadata."""
    text = decode(data).replace("\r\n", "\n").replace("\r", "\n")
    facts, text = _front_matter(text)
    return Parsed(tuple(_markdown(text)), facts)


def _front_matter(text: str) -> tuple[DocumentMetadata, str]:
    found = _FRONT.match(text)
    if not found or "&" in found[1] or "*" in found[1]:  # anchors could multiply without end
        return DocumentMetadata(), text
    try:
        raw = yaml.safe_load(found[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        return DocumentMetadata(), text
    if not isinstance(raw, dict):
        return DocumentMetadata(), text
    plain = {str(key): _plain(value) for key, value in raw.items() if _plain(value) is not None}
    known = {name: plain.pop(name, None) for name in ("title", "author", "language", "url")}
    created = plain.pop("date", plain.pop("created", None))
    modified = plain.pop("modified", plain.pop("updated", None))

    def words(value: Any) -> str | None:
        return None if value is None else str(value)

    facts = DocumentMetadata(
        title=words(known["title"]),
        author=words(known["author"]),
        language=words(known["language"]),
        url=words(known["url"]),
        created=words(created),
        modified=words(modified),
        extra=plain,
    )
    return facts, text[found.end() :]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(map(str, value))
    return value if isinstance(value, str | int | float | bool) else None


def _markdown(text: str) -> Iterator[Element]:
    tokens = _MARKDOWN.parse(text)
    depth = 0
    position = 0
    while position < len(tokens):
        token = tokens[position]
        if token.type in ("bullet_list_open", "ordered_list_open"):
            depth += 1
        elif token.type in ("bullet_list_close", "ordered_list_close"):
            depth -= 1
        elif token.type == "heading_open":
            yield Element("heading", _inline(tokens[position + 1]), level=int(token.tag[1]))
            position += 1
        elif token.type == "inline":
            yield Element("list" if depth else "text", ("- " if depth else "") + _inline(token))
        elif token.type in ("fence", "code_block"):
            yield Element("code", token.content)
        elif token.type == "html_block":
            yield Element("text", _TAG.sub("", token.content))
        elif token.type == "table_open":
            end = next(i for i in range(position, len(tokens)) if tokens[i].type == "table_close")
            yield Element("table", _table(tokens[position:end]))
            position = end
        position += 1


def _inline(token: Token) -> str:
    parts = []
    for child in token.children or []:
        if child.type in ("text", "code_inline"):
            parts.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif child.type == "image":
            parts.append(child.content)
    return "".join(parts)


def _table(tokens: Sequence[Token]) -> str:
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(_inline(token))
    return "\n".join(" | ".join(row) for row in rows)


# ------------------------------------------------------------------------------------------ reStructuredText

_ADORNMENT = re.compile(r"^([!-/:-@\[-`{-~])\1{2,}[ \t]*$")
_FIELD = re.compile(r"^:([\w -]{1,40}):[ \t]+(.*)$")


def read_rst(data: bytes, _name: str) -> Parsed:
    """Headings by their adornments, whose first appearance decides their level (docutils' rule)."""
    lines = decode(data).replace("\r\n", "\n").expandtabs(8).split("\n")
    levels: list[str] = []
    elements: list[Element] = []
    held: list[str] = []

    def flush() -> None:
        for block in blocks("\n".join(held)):
            indented = all(line.startswith("   ") or not line.strip() for line in block.split("\n"))
            bullet = re.match(r"^\s*(?:[-*+•]|\d{1,3}[.)]|#\.)\s", block)
            elements.append(Element("list" if bullet else "code" if indented else "text", block))
        held.clear()

    number = 0
    while number < len(lines):
        heading = _rst_heading(lines, number)
        if heading is None:
            held.append(lines[number])
            number += 1
            continue
        style, text, used = heading
        flush()
        if style not in levels:
            levels.append(style)
        elements.append(Element("heading", text, level=levels.index(style) + 1))
        number += used
    flush()
    return Parsed(tuple(elements), _rst_facts(lines))


def _rst_heading(lines: Sequence[str], number: int) -> tuple[str, str, int] | None:
    """Return (style, text, lines used) when a heading starts at this line."""
    line = lines[number]
    following = lines[number + 1] if number + 1 < len(lines) else ""
    after = lines[number + 2] if number + 2 < len(lines) else ""
    if _ADORNMENT.match(line) and following.strip() and after.rstrip() == line.rstrip():
        return line[0] * 2, following.strip(), 3
    if (
        line.strip()
        and not line.startswith(" ")
        and _ADORNMENT.match(following)
        and not _ADORNMENT.match(line)
        and len(following.rstrip()) >= min(len(line.rstrip()), 4)
        and (number == 0 or not lines[number - 1].strip())
    ):
        return following[0], line.strip(), 2
    return None


def _rst_facts(lines: Sequence[str]) -> DocumentMetadata:
    """A field list at the top, or RFC 2822 headers as in PEPs."""
    found: dict[str, str] = {}
    for line in lines[:40]:
        field = _FIELD.match(line) or re.match(r"^([A-Z][\w-]{1,30}): +(.*)$", line)
        if field:
            found.setdefault(field[1].lower(), field[2].strip())
    return DocumentMetadata(
        title=found.get("title"), author=found.get("author") or found.get("authors"), created=found.get("created")
    )


# ------------------------------------------------------------------------------------------ Org

_STAR = re.compile(r"^(\*{1,20})[ \t]+(?:(?:TODO|DONE)[ \t]+)?(.*?)(?:[ \t]+:[\w@:]+:)?[ \t]*$")
_KEYWORD = re.compile(r"^#\+(\w+):[ \t]*(.*)$", re.IGNORECASE)


def read_org(data: bytes, _name: str) -> Parsed:
    """Headings by their stars; keywords become metadata; tables, lists and blocks keep their lines."""
    elements: list[Element] = []
    facts: dict[str, str] = {}
    held: list[str] = []
    in_code = False

    def flush(kind: str = "text") -> None:
        for block in blocks("\n".join(held)) if kind != "code" else ["\n".join(held)]:
            rows = block.split("\n")
            if kind == "code":
                elements.append(Element("code", block))
            elif all(row.lstrip().startswith("|") for row in rows):
                cells = [row.strip().strip("|").split("|") for row in rows if not row.lstrip().startswith("|-")]
                elements.append(Element("table", "\n".join(" | ".join(c.strip() for c in row) for row in cells)))
            elif re.match(r"^\s*(?:[-+]|\d{1,3}[.)])\s", block):
                elements.append(Element("list", block))
            else:
                elements.append(Element("text", block))
        held.clear()

    for line in decode(data).replace("\r\n", "\n").split("\n"):
        lowered = line.strip().lower()
        if lowered.startswith(("#+begin_src", "#+begin_example")):
            flush()
            in_code = True
        elif lowered.startswith(("#+end_src", "#+end_example")):
            flush("code")
            in_code = False
        elif in_code:
            held.append(line)
        elif star := _STAR.match(line):
            flush()
            elements.append(Element("heading", star[2], level=len(star[1])))
        elif keyword := _KEYWORD.match(line):
            facts.setdefault(keyword[1].lower(), keyword[2].strip())
        elif not lowered.startswith(("# ", ":properties:", ":end:")):
            held.append(line)
    flush("code" if in_code else "text")
    return Parsed(
        tuple(elements),
        DocumentMetadata(
            title=facts.get("title"),
            author=facts.get("author"),
            language=facts.get("language"),
            created=facts.get("date"),
        ),
    )
