"""Markdown (CommonMark with tables): headings with their levels, lists, tables, code, front matter."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Any

import yaml
from markdown_it.token import Token

from workers.indexing.parse import commonmark
from workers.indexing.parse.dates import iso
from workers.indexing.parse.encoding import decode
from workers.indexing.parse.html import fragment
from workers.indexing.parse.language import iso639
from workers.indexing.parse.text import line_ends
from workers.indexing.values import DocumentMetadata, Element, Parsed

_FRONT = re.compile(r"\A---[ \t]*\n(.{0,20000}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TOML = re.compile(r"\A\+\+\+[ \t]*\n(.{0,20000}?)\n\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL)
_ANCHOR = re.compile(r"(?:^|[\s:\[,-])[&*][\w-]", re.MULTILINE)
_YAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_MARKDOWN = commonmark.parser()


def read_markdown(data: bytes, _name: str) -> Parsed:
    """CommonMark with tables; YAML or TOML front matter becomes metadata."""
    facts, text = _front_matter(line_ends(decode(data)))
    return Parsed(tuple(markdown(text)), facts)


def _front_matter(text: str) -> tuple[DocumentMetadata, str]:
    found = _FRONT.match(text) or _TOML.match(text)
    raw = _fields(found[0][:3], found[1]) if found else None
    if found is None or raw is None:
        return DocumentMetadata(), text
    plain = {str(key).lower(): value for key, each in raw.items() if (value := _plain(each)) is not None}

    def taken(*names: str) -> str | None:
        values = [value for name in names if (value := plain.pop(name, None)) is not None]
        return (", ".join(map(str, values[0])) if isinstance(values[0], list) else str(values[0])) if values else None

    day = iso(plain.get("date"))
    if day is not None:
        plain["date"] = day  # stays under its own name, which people filter by
    facts = DocumentMetadata(
        title=taken("title"),
        author=taken("author", "authors"),
        language=iso639(taken("language", "lang")),
        url=taken("url"),
        created=iso(taken("created")) or day,
        modified=iso(taken("modified", "updated", "lastmod")),
        extra=plain,
    )
    return facts, text[found.end() :]


def _fields(mark: str, written: str) -> dict[str, Any] | None:
    try:
        if mark == "+++":
            return tomllib.loads(written)
        if _ANCHOR.search(written):  # anchors could multiply without end
            return None
        raw = yaml.load(written, Loader=_YAML)  # noqa: S506 - libyaml's safe loader, or Python's
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None


def _plain(value: Any, depth: int = 1) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, list):
        items = [plain for item in value if not isinstance(item, dict | list) and (plain := _plain(item)) is not None]
        return items or None
    if isinstance(value, dict):
        return {str(key): _plain(each, depth + 1) for key, each in value.items()} if depth < 3 else None
    return value if isinstance(value, str | int | float | bool) else None


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
