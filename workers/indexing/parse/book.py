"""Books (EPUB): the chapters in the order of the spine, each read as the web page that it is.

The rules are those of EPUB 3.3 and 2.0.1: META-INF/container.xml names the package file, its spine the order.
"""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from lxml import etree

from workers.errors import DocumentCorrupt, DocumentEncrypted
from workers.indexing.parse.archive import Archive
from workers.indexing.parse.dates import iso
from workers.indexing.parse.html import read_html
from workers.indexing.parse.language import iso639
from workers.indexing.values import DocumentMetadata, Element, Parsed

_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document")
_FONT_HIDING = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")


def read_epub(data: bytes, name: str) -> Parsed:
    """Read every chapter of the spine; navigation pages are left out."""
    archive = Archive(data)
    _refuse_protected(archive)
    package_name = _package_name(archive)
    package = _xml(archive.read(package_name) if package_name else None)
    if package is None:
        raise DocumentCorrupt("It is no book that can be read: its table of contents is missing. Get another copy.")
    base = posixpath.dirname(package_name or "")
    elements: list[Element] = []
    for path in _spine(package, base):
        page = archive.read(path)
        if page is not None and page.strip():
            elements += _chapter(page, name)
    return Parsed(tuple(elements), _facts(package))


def _chapter(page: bytes, name: str) -> list[Element]:
    """Chapters without a heading of their own are named by the title of their page."""
    parsed = read_html(page, name)
    found = list(parsed.elements)
    titled = any(element.kind == "heading" for element in found[:5])
    if found and not titled and parsed.metadata.title:
        found.insert(0, Element("heading", parsed.metadata.title, level=1))
    return found


def _refuse_protected(archive: Archive) -> None:
    """Copy protection encrypts the chapters; hiding fonts does not matter."""
    root = _xml(archive.read("META-INF/encryption.xml"))
    if root is not None:
        methods = {node.get("Algorithm") or "" for node in root.iter("{*}EncryptionMethod")}
        if any(not method.startswith(_FONT_HIDING) for method in methods):
            raise DocumentEncrypted("It is a copy-protected book (DRM). Only its own reading program can open it.")


def _package_name(archive: Archive) -> str | None:
    container = _xml(archive.read("META-INF/container.xml"))
    if container is not None:
        for node in container.iter("{*}rootfile"):
            path = unquote(node.get("full-path") or "")
            if path in archive:
                return path
    return next((entry for entry in archive.names() if entry.endswith(".opf")), None)


def _spine(package: Any, base: str) -> list[str]:
    manifest = {node.get("id"): node for node in package.iter("{*}item")}
    found = []
    for reference in package.iter("{*}itemref"):
        item = manifest.get(reference.get("idref"))
        if item is None or "nav" in (item.get("properties") or "").split():
            continue
        if (item.get("media-type") or _PAGES[0]) in _PAGES:
            found.append(posixpath.normpath(posixpath.join(base, unquote(item.get("href") or ""))))
    return found


def _facts(package: Any) -> DocumentMetadata:
    def all_of(name: str) -> list[str]:
        texts = (" ".join("".join(node.itertext()).split()) for node in package.iter(f"{{*}}{name}"))
        return [text for text in texts if text]

    metadata = DocumentMetadata(
        title=next(iter(all_of("title")), None),
        author=", ".join(all_of("creator")) or None,
        language=iso639(next(iter(all_of("language")), None)),
        created=iso(next(iter(all_of("date")), None)),
    )
    changed = [node.text for node in package.iter("{*}meta") if node.get("property") == "dcterms:modified"]
    return replace(metadata, modified=iso(changed[0]) if changed else None)


def _xml(data: bytes | None) -> Any:
    if not data:
        return None
    parser = etree.XMLParser(recover=True, resolve_entities=False, no_network=True, load_dtd=False)
    try:
        return etree.fromstring(data, parser=parser)
    except etree.XMLSyntaxError:
        return None
