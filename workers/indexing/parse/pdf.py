"""Digital PDF through PDFium: text with page numbers, headings from the outline and from the size of letters."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from workers.errors import DocumentCorrupt, DocumentEncrypted, NoText
from workers.indexing.parse.dates import iso
from workers.indexing.values import DocumentMetadata, Element, Parsed

_HYPHEN = re.compile(r"(?<=[a-zß-ÿ])[-\u00ad\u2010\ufffe\x02]\n(?=[a-zß-ÿ])")
_END = re.compile(r"[.!?:;。！？”\"')\]]$")
MOST_PAGES = 20_000


def read_pdf(data: bytes, _name: str) -> Parsed:
    """Read every page; what only shows pictures has no text."""
    try:
        document = pdfium.PdfDocument(data)
        pages = len(document)
    except pdfium.PdfiumError as exc:
        if "password" in str(exc).lower():
            raise DocumentEncrypted("It is protected by a password. Save a copy without one.") from exc
        raise DocumentCorrupt("It is no PDF that can be read: damaged or cut off. Get another copy.") from exc
    outline = _outline(document)
    elements: list[Element] = []
    for number in range(min(pages, MOST_PAGES)):
        elements += _page(document, number, outline.get(number, {}))
    if not elements:
        if pages == 0:
            raise DocumentCorrupt("It has no page that can be read: damaged or cut off. Get another copy.")
        raise NoText("Its pages are pictures without text (a scan?). OCR is not installed; index a version with text.")
    facts = document.get_metadata_dict(skip_empty=True)
    return Parsed(
        tuple(elements),
        DocumentMetadata(
            title=(facts.get("Title") or "").strip() or None,
            author=facts.get("Author"),
            created=iso(facts.get("CreationDate")),
            modified=iso(facts.get("ModDate")),
            pages=pages,
        ),
    )


def _outline(document: Any) -> dict[int, dict[str, int]]:
    """Return page -> {heading text without spaces: level} of the document's own table of contents."""
    found: dict[int, dict[str, int]] = {}
    try:
        for number, entry in enumerate(document.get_toc(max_depth=6)):
            if number > 5000:
                break
            dest = entry.get_dest() if hasattr(entry, "get_dest") else None
            page = dest.get_index() if dest is not None else getattr(entry, "page_index", None)
            title = entry.get_title() if hasattr(entry, "get_title") else getattr(entry, "title", "")
            if page is not None and title:
                found.setdefault(page, {})[_squeezed(title)] = entry.level + 1
    except (pdfium.PdfiumError, ValueError, AttributeError):
        return found
    return found


def _page(document: Any, number: int, headings: dict[str, int]) -> list[Element]:
    try:
        page = document[number]
        text_page = page.get_textpage()
        text = text_page.get_text_range()
    except pdfium.PdfiumError:
        return []  # one broken page does not take the others with it
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = _HYPHEN.sub("", lines).replace("\ufffe", "").replace("\x02", "")
    sizes = _line_sizes(text_page, text)
    page.close()
    body = Counter()  # type: ignore[var-annotated]
    for line, size in sizes.items():
        body[size] += len(line)
    usual = body.most_common(1)[0][0] if body else 0.0
    return _paragraphs(lines, number + 1, headings, sizes, usual)


def _line_sizes(text_page: Any, text: str) -> dict[str, float]:
    """Return the letter size of each line, measured at its first letter."""
    sizes: dict[str, float] = {}
    position = 0
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped and len(sizes) < 2000:
            offset = position + line.index(stripped[0])
            sizes[stripped] = round(float(pdfium_c.FPDFText_GetFontSize(text_page, offset)), 1)
        position += len(line) + 1
    return sizes


def _paragraphs(text: str, page: int, headings: dict[str, int], sizes: dict[str, float], usual: float) -> list[Element]:
    """Join the lines of a paragraph; a short line in larger letters, or one of the outline, is a heading."""
    elements: list[Element] = []
    held: list[str] = []
    widest = max((len(line) for line in text.split("\n")), default=0)

    def flush() -> None:
        if held:
            elements.append(Element("text", " ".join(held), page=page))
            held.clear()

    for line in text.split("\n"):
        stripped = " ".join(line.split())
        if not stripped:
            flush()
            continue
        level = headings.get(_squeezed(stripped))
        if level is None and usual and len(stripped) < 120 and sizes.get(stripped, 0.0) >= usual * 1.2:
            level = 1 if sizes[stripped] >= usual * 1.7 else 2
        if level is not None and re.search(r"[^\W\d_]{2}", stripped):
            flush()
            elements.append(Element("heading", stripped, level=level, page=page))
            continue
        held.append(stripped)
        if _END.search(stripped) and len(stripped) < widest * 0.75:
            flush()  # a sentence that ends well before the margin ends its paragraph
    flush()
    return elements


def _squeezed(text: str) -> str:
    return re.sub(r"\W+", "", text).lower()
