"""The package that Office files are: parts that refer to parts, and what the file says of itself (ECMA-376 part 2)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

from lxml import etree

from workers.errors import DocumentHostile
from workers.indexing.parse.archive import Archive
from workers.indexing.parse.dates import iso
from workers.indexing.parse.language import iso639
from workers.indexing.values import DocumentMetadata

_LOCAL: dict[Any, str] = {}


def core_properties(archive: Archive) -> DocumentMetadata:
    """Return title, author, dates, and how many pages or slides the program counted; what is missing is None."""
    core = {local(node): (node.text or "").strip() for node in _or_empty(part(archive, "docProps/core.xml"))}
    more = {local(node): (node.text or "").strip() for node in _or_empty(part(archive, "docProps/app.xml"))}
    pages = more.get("Slides") or more.get("Pages") or ""
    return DocumentMetadata(
        title=core.get("title") or None,
        author=core.get("creator") or None,
        language=iso639(core.get("language")),
        created=iso(core.get("created")),
        modified=iso(core.get("modified")),
        pages=int(pages) if pages.isdigit() and pages != "0" else None,
    )


def relations(archive: Archive, name: str, folder: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, entry) of what a part refers to within the file; nothing outside is ever opened."""
    for node in _or_empty(part(archive, name)):
        target = node.get("Target") or ""
        if node.get("TargetMode") != "External" and target:
            path = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
            yield (node.get("Type") or "").rpartition("/")[2], path


def part(archive: Archive, name: str | None) -> Any:
    """Return the root of a part, or None when there is none that can be read.

    Raises:
        DocumentHostile: it is nested deeper than any document is.
    """
    data = archive.read(name) if name else None
    if not data:
        return None
    parser = etree.XMLParser(
        recover=True, resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True
    )
    try:
        root = etree.fromstring(data, parser=parser)
    except etree.XMLSyntaxError:
        return None
    if any("depth" in entry.message.lower() for entry in parser.error_log):
        raise DocumentHostile("It is nested deeper than any document is. It was not read.")
    return root


def local(node: Any) -> str:
    """Return a tag without its namespace: strict and transitional documents differ in nothing else here."""
    tag = node.tag
    name = _LOCAL.get(tag)
    if name is None:
        name = tag.rpartition("}")[2] if isinstance(tag, str) else ""
        if len(_LOCAL) < 5000:
            _LOCAL[tag] = name
    return name


def attribute(node: Any, name: str) -> str | None:
    """Return an attribute's value, whatever its namespace."""
    return next((value for key, value in node.attrib.items() if key.rpartition("}")[2] == name), None)


def _or_empty(root: Any) -> Any:
    return root if root is not None else ()
