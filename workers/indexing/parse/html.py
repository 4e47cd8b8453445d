"""HTML through lxml: structure, title, language; no script, no style, nothing hidden, no network, no entity."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lxml import etree
from lxml import html as lxml_html

from workers.errors import DocumentCorrupt
from workers.indexing.parse.dates import iso
from workers.indexing.parse.encoding import declared_in_html, decode
from workers.indexing.parse.language import iso639
from workers.indexing.values import DocumentMetadata, Element, ElementKind, Parsed

# fmt: off
_SKIPPED = frozenset((
    "script", "style", "noscript", "template", "svg", "canvas", "iframe", "object", "select", "button", "textarea",
    "head", "audio", "video", "map", "datalist",
))
BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dialog", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "html", "main", "nav", "ol", "p", "section",
    "summary", "ul", "li", "table", "tr", "td", "th", "thead", "tbody", "tfoot", "caption", "pre", "h1", "h2", "h3",
    "h4", "h5", "h6", "title", "legend", "option", "dir", "menu",
))
# fmt: on
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_ASIDE_ROLES = frozenset(("navigation", "search", "contentinfo", "menu", "menubar", "toolbar"))
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d])", re.IGNORECASE)
SPACE = re.compile(r"[ \t\n\r\f\xa0]+")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]{0,500}\?>")
_BREAK = "\x0b"
_MAIN_SHARE = 0.4


def read_html(data: bytes, _name: str) -> Parsed:
    """A web page as a reader sees it; menus and the like are headers and footers."""
    tree = _tree(decode(data, declared_in_html(data)))
    if isinstance(tree, str):
        return Parsed(tuple(Element("text", text) for text in without_tags(tree)), DocumentMetadata())
    return Parsed(tuple(_elements(tree)), _facts(tree))


def fragment(text: str) -> list[Element]:
    """Return the elements of a piece of HTML."""
    if not text.strip():
        return []
    tree = _tree(text)
    return [Element("text", t) for t in without_tags(tree)] if isinstance(tree, str) else list(_elements(tree))


def _tree(text: str) -> Any:
    """Parse, or return the text itself when it is nested deeper than libxml2 goes (it would drop the rest)."""
    text = _DECLARATION.sub("", text.replace("\x00", ""), count=1)
    # Bytes in one known encoding: of a str lxml would believe the meta element.
    parser = lxml_html.HTMLParser(
        no_network=True, remove_comments=True, remove_pis=True, huge_tree=True, encoding="utf-8"
    )
    try:
        tree = lxml_html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError, ValueError) as exc:
        if not text.strip():
            raise DocumentCorrupt("It is no HTML that can be read. Open it in a browser and save it again.") from exc
        return text
    return text if any("depth" in entry.message.lower() for entry in parser.error_log) else tree


def without_tags(text: str) -> Iterator[str]:
    parts = [part.partition(">")[2] if ">" in part else part for part in text.split("<")]
    for block in re.split(r"\n[ \t\r]*\n", "\n".join(parts)):
        words = " ".join(block.split())
        if words:
            yield words


def _elements(tree: Any) -> list[Element]:
    body = tree.find("body")
    walker = _Walker(tree if body is None else body)
    walker.walk()
    return walker.elements


class _Walker:
    """Collects running text until a block ends it."""

    def __init__(self, root: Any) -> None:
        self.elements: list[Element] = []
        self._root = root
        self._held: list[str] = []
        self._lists = 0
        self._bullet = False  # the next text is the first of its list item
        self._aside = 0
        self._layout = _layout_tables(root)
        self._main = _main(root)
        self._place: ElementKind | None = "header" if self._main is not None else None

    def walk(self) -> None:
        events = etree.iterwalk(self._root, events=("start", "end"))
        for event, node in events:
            tag = node.tag if isinstance(node.tag, str) else ""
            if event == "end":
                self._leave(node, tag)
            elif tag in _SKIPPED or not tag or _hidden(node):
                events.skip_subtree()
                node.set("upwell", "skipped")
            elif (tag == "table" and node not in self._layout) or tag in _HEADINGS or tag == "pre":
                events.skip_subtree()
                node.set("upwell", "taken")
                self._take(node, tag)
            else:
                self._enter(node, tag)
        self._flush()

    def _take(self, node: Any, tag: str) -> None:
        self._flush()
        if tag == "table":
            self._add("table", table_rows(node))
        elif tag == "pre":
            self._add("code", "".join(node.itertext()))
        else:
            self._add("heading", inner_text(node), _HEADINGS[tag])

    def _enter(self, node: Any, tag: str) -> None:
        if node is self._main:
            self._flush()
            self._place = None
        if tag in BLOCKS:
            self._flush()
            self._lists += tag in ("li", "dd", "dt")
            self._bullet = self._bullet or tag in ("li", "dd", "dt")
            self._aside += _is_aside(node, tag)
        elif tag == "br":
            self._held.append(_BREAK)
        if node.text:
            self._held.append(node.text)

    def _leave(self, node: Any, tag: str) -> None:
        state = node.attrib.pop("upwell", None) if tag else "skipped"
        if state is None and tag in BLOCKS:
            self._flush()
            if tag in ("li", "dd", "dt"):
                self._lists -= 1
                self._bullet = False
            self._aside -= _is_aside(node, tag)
        if node is self._main:
            self._flush()
            self._place = "footer"
        if node.tail and node is not self._root:
            self._held.append(node.tail)

    def _flush(self) -> None:
        if not self._held:
            return
        text = SPACE.sub(" ", "".join(self._held))
        self._held.clear()
        for part in re.split(rf"{_BREAK}(?: ?{_BREAK})+", text):
            lines = "\n".join(line.strip() for line in part.split(_BREAK)).strip()
            if lines:
                self._add("list" if self._lists else "text", ("- " if self._lists and self._bullet else "") + lines)
                self._bullet = False

    def _add(self, kind: ElementKind, text: str, level: int | None = None) -> None:
        if not text.strip():
            return
        place = "header" if self._aside and self._place is None else self._place
        self.elements.append(Element(place, text) if place is not None else Element(kind, text, level=level))


def _is_aside(node: Any, tag: str) -> bool:
    return tag == "nav" or (node.get("role") or "").strip().lower() in _ASIDE_ROLES


def _hidden(node: Any) -> bool:
    return node.get("hidden") is not None or bool(_HIDDEN.search(node.get("style") or ""))


def _main(root: Any) -> Any:
    """Return the element that says it is the page's own content, when it holds a good part of the text."""
    for node in root.iter("main", "div", "article", "section"):
        if node.tag == "main" or node.get("role") == "main":
            whole = len(root.text_content())
            return node if whole and len(node.text_content()) >= _MAIN_SHARE * whole else None
    return None


def _layout_tables(root: Any) -> frozenset[Any]:
    """Find tables that only arrange a page: they hold tables or headings, or lists without a header cell."""
    found: list[Any] = []
    inside: list[set[str]] = []  # what each open table holds
    for event, node in etree.iterwalk(root, events=("start", "end"), tag=("table", "th", "ul", "ol", *_HEADINGS)):
        tag = node.tag
        if event == "start":
            if inside:
                inside[-1].add("heading" if tag in _HEADINGS else tag)
            if tag == "table":
                inside.append(set())
        elif tag == "table":
            held = inside.pop()
            if held & {"table", "heading"} or (held & {"ul", "ol"} and "th" not in held):
                found.append(node)
    return frozenset(found)


def table_rows(node: Any) -> str:
    """Return one row a line, cells joined by " | "; a caption comes first."""
    rows = []
    for row in node.iter("tr", "caption"):
        if row.tag == "caption":
            rows.append(inner_text(row))
            continue
        cells = [inner_text(cell) for cell in row if cell.tag in ("td", "th")]
        if any(cells):
            rows.append(" | ".join(cells))
    return "\n".join(row for row in rows if row)


def inner_text(node: Any) -> str:
    """Return all text inside on one line."""
    if len(node) == 0:
        return SPACE.sub(" ", node.text or "").strip()
    parts: list[str] = []
    events = etree.iterwalk(node, events=("start", "end"))
    for event, each in events:
        tag = each.tag if isinstance(each.tag, str) else ""
        if event == "start":
            if tag in _SKIPPED or not tag:
                events.skip_subtree()
                continue
            parts.append(" " if tag in BLOCKS or tag == "br" else "")
            parts.append(each.text or "")
        elif each is not node:
            parts.append(" " if tag in BLOCKS else "")
            parts.append(each.tail or "")
    return SPACE.sub(" ", "".join(parts)).strip()


def _facts(tree: Any) -> DocumentMetadata:
    meta: dict[str, str] = {}
    for node in tree.iter("meta"):
        key = (node.get("name") or node.get("property") or "").lower()
        if key and (content := (node.get("content") or "").strip()):
            meta.setdefault(key, content)
    title = tree.findtext(".//head/title") or meta.get("og:title") or meta.get("dc.title") or ""
    link = next((n.get("href") for n in tree.iter("link") if (n.get("rel") or "").lower() == "canonical"), None)
    url = link or meta.get("og:url")
    return DocumentMetadata(
        title=SPACE.sub(" ", title).strip() or None,
        language=iso639(
            tree.get("lang") or tree.get("{http://www.w3.org/XML/1998/namespace}lang") or tree.get("xml:lang")
        ),
        author=meta.get("author") or meta.get("article:author") or meta.get("dc.creator"),
        created=iso(
            meta.get("article:published_time") or meta.get("date") or meta.get("dc.date") or meta.get("dcterms.created")
        ),
        modified=iso(meta.get("article:modified_time") or meta.get("last-modified") or meta.get("dcterms.modified")),
        url=url if url and url.startswith(("http://", "https://")) else None,
    )
