"""Any XML through lxml: records as "name: value" lines, mixed content as paragraphs; no network, no external entity."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

from lxml import etree

from workers.errors import DocumentCorrupt
from workers.indexing.parse.dates import iso
from workers.indexing.parse.encoding import declared_in_xml, decode
from workers.indexing.parse.html import SPACE, fragment, read_html, without_tags
from workers.indexing.parse.language import iso639
from workers.indexing.values import DocumentMetadata, Element, Parsed

_DECLARATION = re.compile(r"^\s*<\?xml[^>]{0,500}\?>")
_NAMED = re.compile(r"&([A-Za-z][A-Za-z0-9]{1,31});")
_XML_OWN = frozenset(("amp", "lt", "gt", "quot", "apos"))
_HEADINGS = frozenset(("title", "heading", "head", "subtitle", "article-title"))
_PREFORMATTED = frozenset(("programlisting", "screen", "literallayout", "code-block", "pre", "verbatim"))
_MARKUP = re.compile(r"<[a-zA-Z/!][^<>]{0,2000}>")
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_INLINE_CHARS = 4000  # an element with text beside its children is a paragraph up to this size


def read_xml(data: bytes, name: str) -> Parsed:
    """The text of an XML document in order; a title element is a heading."""
    text = _DECLARATION.sub("", decode(data, declared_in_xml(data)), count=1).replace("\x00", "").strip()
    parser = etree.XMLParser(
        recover=True,
        resolve_entities="internal",
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        encoding="utf-8",
    )
    try:
        root = etree.fromstring(_named_letters(text).encode("utf-8", "replace"), parser=parser)
    except etree.XMLSyntaxError:
        root = None
    if root is None or any("depth" in entry.message.lower() for entry in parser.error_log):
        return _as_text(text)
    if etree.QName(root).localname.lower() == "html":
        return read_html(data, name)
    return Parsed(tuple(_elements(root)), _facts(root))


def _as_text(text: str) -> Parsed:
    found = [Element("text", block) for block in without_tags(text)]
    if not found:
        raise DocumentCorrupt("It is no XML that can be read. Check it with an XML validator.")
    return Parsed(tuple(found), DocumentMetadata())


def _named_letters(text: str) -> str:
    """Replace HTML's named letters, which many XML files use without declaring them."""

    def letter(found: re.Match[str]) -> str:
        if found[1] in _XML_OWN or f"<!ENTITY {found[1]} " in head:
            return found[0]
        known = html.unescape(found[0])
        return known if known != found[0] else found[0].replace("&", "&amp;")

    head = text[:100_000] if "<!ENTITY" in text else ""
    return _NAMED.sub(letter, text) if "&" in text else text


def _elements(root: Any) -> Iterator[Element]:
    events = etree.iterwalk(root, events=("start", "end"))
    depth = 0
    for event, node in events:
        if event == "end":
            depth -= 1
            continue
        depth += 1
        if not isinstance(node.tag, str):
            continue
        tag = etree.QName(node).localname.lower()
        taken = list(_taken(node, tag, depth))
        if taken:
            yield from taken
            events.skip_subtree()
        elif attributes := _attributes(node):
            yield Element("text", attributes)


def _taken(node: Any, tag: str, depth: int) -> Iterator[Element]:
    """Yield the elements of a leaf, a paragraph or a record; nothing for a node that only holds others."""
    children = [child for child in node if isinstance(child.tag, str)]
    if tag in _PREFORMATTED:
        yield Element("code", "".join(node.itertext()))
    elif not children or (_has_own_text(node) and sum(map(len, node.itertext())) <= _INLINE_CHARS):
        yield from _leaf(node, tag, depth)
    elif len(children) > 1 and all(len(child) == 0 for child in children) and not _has_own_text(node):
        yield from _record(node, children, depth)


def _leaf(node: Any, tag: str, depth: int) -> Iterator[Element]:
    raw = "".join(node.itertext())
    if _MARKUP.search(raw):  # feeds carry HTML inside
        yield from fragment(raw)
        return
    text = SPACE.sub(" ", raw).strip()
    attributes = _attributes(node)
    if text and tag in _HEADINGS:
        yield Element("heading", text, level=min(6, max(1, depth - 1)))
    elif text or attributes:
        yield Element("text", "\n".join(part for part in (text, attributes) if part))


def _record(node: Any, children: list[Any], depth: int) -> Iterator[Element]:
    """A title of its own becomes the heading; long texts and markup stand alone; the rest are lines."""
    lines = [_attributes(node)] if node.attrib else []
    long: list[Element] = []
    for child in children:
        tag = etree.QName(child).localname
        raw = child.text or ""
        text = SPACE.sub(" ", raw).strip()
        if tag.lower() in _HEADINGS and text:
            yield Element("heading", text, level=min(6, max(1, depth)))
        elif _MARKUP.search(raw):
            long += fragment(raw)
        elif len(text) > 200 or tag.lower() in ("p", "para"):
            long.append(Element("text", text))
        elif text or child.attrib:
            value = ", ".join(part for part in (text, _attributes(child, ", ")) if part)
            lines.append(f"{tag}: {value}")
    if any(lines):
        yield Element("text", "\n".join(line for line in lines if line))
    yield from long


def _attributes(node: Any, between: str = "\n") -> str:
    pairs = (
        (etree.QName(key).localname, value)
        for key, value in node.attrib.items()
        if value.strip() and not key.startswith("{http://www.w3.org/")
    )
    return between.join(f"{name}: {value}" for name, value in pairs if any(map(str.isalpha, value)))


def _has_own_text(node: Any) -> bool:
    return bool((node.text or "").strip()) or any((child.tail or "").strip() for child in node)


def _facts(root: Any) -> DocumentMetadata:
    """Take what Dublin Core, feeds and most formats call title, author and date, when it stands near the top."""
    found: dict[str, str] = {}
    for number, node in enumerate(root.iter()):
        if number > 200:
            break
        if isinstance(node.tag, str) and len(node) == 0 and (text := (node.text or "").strip()):
            found.setdefault(etree.QName(node).localname.lower(), text)
    return DocumentMetadata(
        title=found.get("title") or found.get("article-title"),
        author=found.get("creator") or found.get("author"),
        language=iso639(root.get(_LANG) or found.get("language")),
        created=iso(found.get("created") or found.get("date") or found.get("pubdate")),
        modified=iso(found.get("modified") or found.get("lastbuilddate") or found.get("updated")),
    )
