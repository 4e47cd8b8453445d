"""HTML and XML through lxml: structure, title, language; no script, no style, no network, no entity."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lxml import etree
from lxml import html as lxml_html

from workers.errors import DocumentCorrupt
from workers.indexing.parse.encoding import declared_in_html, declared_in_xml, decode
from workers.indexing.values import DocumentMetadata, Element, Parsed

_SKIPPED = frozenset(
    ("script", "style", "noscript", "template", "svg", "canvas", "iframe", "object", "select", "button")
)
# fmt: off
_BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dialog", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "html", "main", "nav", "ol", "p", "section",
    "summary", "ul", "li", "table", "tr", "td", "th", "thead", "tbody", "tfoot", "caption", "pre", "h1", "h2", "h3",
    "h4", "h5", "h6", "title", "head", "br",
))
# fmt: on
_HEADING = re.compile(r"h([1-6])$")
_SPACE = re.compile(r"\s+")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
DEEPEST = 200


def read_html(data: bytes, _name: str) -> Parsed:
    """A web page as a reader sees it."""
    text = _DECLARATION.sub("", decode(data, declared_in_html(data))).replace("\x00", "")
    parser = lxml_html.HTMLParser(no_network=True, remove_comments=True, remove_pis=True, huge_tree=False)
    try:
        tree = lxml_html.document_fromstring(text, parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError, ValueError) as exc:
        raise DocumentCorrupt("It is no HTML that can be read. Open it in a browser and save it again.") from exc
    walker = _Walker()
    body = tree.find("body")
    walker.walk(body if body is not None else tree, 0)
    walker.flush()
    return Parsed(tuple(walker.elements), _facts(tree))


class _Walker:
    """Collects running text until a block ends it."""

    def __init__(self) -> None:
        self.elements: list[Element] = []
        self._held: list[str] = []
        self._kind: Any = "text"

    def flush(self) -> None:
        text = _SPACE.sub(" ", "".join(self._held)).strip()
        self._held.clear()
        if text:
            self.elements.append(Element(self._kind, ("- " if self._kind == "list" else "") + text))

    def walk(self, node: Any, depth: int) -> None:
        tag = node.tag if isinstance(node.tag, str) else ""
        if tag in _SKIPPED or depth > DEEPEST:
            return
        if tag == "table" and not node.xpath(".//table"):
            self._special(Element("table", _table(node)))
        elif heading := _HEADING.match(tag):
            self._special(Element("heading", _SPACE.sub(" ", node.text_content()).strip(), level=int(heading[1])))
        elif tag == "pre":
            self._special(Element("code", node.text_content()))
        else:
            self._inside(node, tag, depth)

    def _special(self, element: Element) -> None:
        self.flush()
        if element.text.strip():
            self.elements.append(element)

    def _inside(self, node: Any, tag: str, depth: int) -> None:
        block = tag in _BLOCKS
        before = self._kind
        if block:
            self.flush()
            if tag in ("li", "dd", "dt"):
                self._kind = "list"
            elif tag in ("nav", "footer", "header") and depth <= 3 and tag != "header":
                self._kind = "footer"
        self._held.append(node.text or "")
        for child in node:
            self.walk(child, depth + 1)
            self._held.append(child.tail or "")
        if block:
            self.flush()
            self._kind = before


def _table(node: Any) -> str:
    rows = []
    for row in node.iter("tr"):
        cells = [_SPACE.sub(" ", cell.text_content()).strip() for cell in row if cell.tag in ("td", "th")]
        if any(cells):
            rows.append(" | ".join(cells))
    return "\n".join(rows)


def _facts(tree: Any) -> DocumentMetadata:
    meta = {
        (node.get("name") or node.get("property") or "").lower(): (node.get("content") or "").strip()
        for node in tree.iter("meta")
    }
    title = tree.findtext(".//head/title") or tree.findtext(".//title") or meta.get("og:title")
    link = tree.xpath("string(.//link[@rel='canonical']/@href)")
    return DocumentMetadata(
        title=_SPACE.sub(" ", title).strip() or None if title else None,
        language=(tree.get("lang") or "").partition("-")[0].lower() or None,
        author=meta.get("author") or None,
        created=meta.get("date") or meta.get("article:published_time") or None,
        modified=meta.get("article:modified_time") or meta.get("last-modified") or None,
        url=link or meta.get("og:url") or None,
    )


_XML_HEADINGS = frozenset(("title", "heading", "head", "subtitle"))


def read_xml(data: bytes, name: str) -> Parsed:
    """Any XML: the text of its elements in order; a title element above others is a heading."""
    if b"<!ENTITY" in data[:100_000]:
        data = re.sub(rb"<!DOCTYPE[^\[>]*(\[.*?\]\s*)?>", b"", data, count=1, flags=re.DOTALL)
    text = _DECLARATION.sub("", decode(data, declared_in_xml(data))).replace("\x00", "")
    parser = etree.XMLParser(
        recover=True, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True
    )
    root = etree.fromstring(text.strip().encode("utf-8", "replace"), parser=parser)
    if root is None:
        raise DocumentCorrupt("It is no XML that can be read. Check it with an XML validator.")
    if etree.QName(root).localname == "html":
        return read_html(data, name)
    elements = list(_xml_elements(root, 0))
    if not elements:
        elements = [Element("text", text) for text in root.itertext() if text.strip()]
    title = next((e.text for e in elements if e.kind == "heading"), None)
    return Parsed(tuple(elements), DocumentMetadata(title=title))


def _xml_elements(node: Any, depth: int) -> Iterator[Element]:
    if not isinstance(node.tag, str) or depth > DEEPEST:
        return
    tag = etree.QName(node).localname.lower()
    own = _SPACE.sub(" ", node.text or "").strip()
    if "<" in own and ">" in own:  # feeds carry HTML inside
        own = _SPACE.sub(" ", re.sub(r"<[^>]{0,2000}>", " ", own)).strip()
    if own:
        if tag in _XML_HEADINGS:
            yield Element("heading", own, level=min(6, depth + 1))
        else:
            yield Element("text", own)
    for child in node:
        yield from _xml_elements(child, depth + 1)
        tail = _SPACE.sub(" ", child.tail or "").strip()
        if tail:
            yield Element("text", tail)
