"""Office documents and books: `unstructured` for those whose structure it knows well, openpyxl for workbooks.

unstructured wants a spaCy model that it downloads from GitHub when the first text comes.  The one seam below gives it
an empty English pipeline with a sentence splitter instead: nothing is downloaded (ADR 0007).
"""

from __future__ import annotations

import codecs
import re
from io import BytesIO
from typing import Any

from workers.errors import DocumentCorrupt, DocumentEncrypted
from workers.indexing.values import DocumentMetadata, Element, ElementKind, Parsed

MOST_CELLS = 5_000_000

KINDS: dict[str, ElementKind] = {
    "Title": "heading",
    "ListItem": "list",
    "Table": "table",
    "CodeSnippet": "code",
    "Header": "header",
    "Footer": "footer",
}


def seam() -> None:
    """Replace the loader of the spaCy model.  A test fails when the seam moves."""
    import spacy
    from unstructured.nlp import tokenize

    if not hasattr(tokenize, "_get_nlp"):
        raise RuntimeError("unstructured.nlp.tokenize._get_nlp has moved")
    if getattr(tokenize._get_nlp, "upwell", False):
        return
    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")

    def no_download() -> Any:
        return pipeline

    no_download.upwell = True  # type: ignore[attr-defined]
    tokenize._get_nlp = no_download  # type: ignore[assignment]


def read_docx(data: bytes, _name: str) -> Parsed:
    """Word."""
    seam()
    import docx
    from unstructured.partition.docx import partition_docx

    found = _elements(partition_docx(file=BytesIO(data)))
    return Parsed(found, _core(docx.Document(BytesIO(data)).core_properties))


def read_pptx(data: bytes, _name: str) -> Parsed:
    """PowerPoint: a slide is a page; speakers' notes included."""
    seam()
    import pptx
    from unstructured.partition.pptx import partition_pptx

    found = _elements(partition_pptx(file=BytesIO(data), include_slide_notes=True))
    return Parsed(found, _core(pptx.Presentation(BytesIO(data)).core_properties))


def read_odt(data: bytes, _name: str) -> Parsed:
    """OpenDocument text."""
    seam()
    from unstructured.partition.odt import partition_odt

    return Parsed(_elements(partition_odt(file=BytesIO(data))), DocumentMetadata())


def read_rtf(data: bytes, _name: str) -> Parsed:
    """Rich text."""
    seam()
    from unstructured.partition.rtf import partition_rtf

    return Parsed(_elements(partition_rtf(file=BytesIO(data))), DocumentMetadata())


def read_epub(data: bytes, _name: str) -> Parsed:
    """Books."""
    seam()
    from unstructured.partition.epub import partition_epub

    return Parsed(_elements(partition_epub(file=BytesIO(data))), _opf(data))


def read_msg(data: bytes, _name: str) -> Parsed:
    """Outlook messages; attachments are never opened."""
    from oxmsg import Message

    from workers.indexing.parse.html import read_html
    from workers.indexing.parse.text import blocks

    codecs.register(_windows_code_page)
    message = Message.load(BytesIO(data))
    subject = (message.subject or "").strip()
    elements = [Element("heading", subject, level=1)] if subject else []
    people = [("From", message.sender), ("To", ", ".join(str(r.name or r.email_address) for r in message.recipients))]
    head = "\n".join(f"{label}: {value}" for label, value in people if value)
    if head:
        elements.append(Element("text", head))
    if message.body and message.body.strip():
        elements += [Element("text", block) for block in blocks(message.body.replace("\r\n", "\n"))]
    elif message.html_body:
        html = message.html_body
        elements += read_html(html.encode() if isinstance(html, str) else html, "body.html").elements
    names = [str(a.file_name) for a in message.attachments if a.file_name]
    if names:
        elements.append(Element("text", "Attachments: " + ", ".join(names)))
    sent = message.sent_date
    return Parsed(
        tuple(elements),
        DocumentMetadata(
            title=subject or None, author=message.sender or None, created=sent.isoformat() if sent is not None else None
        ),
    )


def _windows_code_page(name: str) -> codecs.CodecInfo | None:
    """Python knows windows-950 as cp950 only."""
    found = re.fullmatch(r"windows[-_](\d{3,5})", name)
    return codecs.lookup(f"cp{found[1]}") if found else None


def read_xlsx(data: bytes, _name: str) -> Parsed:
    """Workbooks: a sheet is a page with its name as heading, a row is a line."""
    import openpyxl

    book = openpyxl.load_workbook(BytesIO(data), read_only=True, data_only=True)
    elements: list[Element] = []
    cells = 0
    for number, sheet in enumerate(book.worksheets, 1):
        rows: list[str] = []
        for row in sheet.iter_rows(values_only=True):
            values = [" ".join(str(cell).split()) if cell is not None else "" for cell in row]
            while values and not values[-1]:
                values.pop()
            cells += len(values)
            if cells > MOST_CELLS:
                break
            if any(values):
                rows.append(" | ".join(values))
        elements += _sheet(sheet.title, rows, number)
    return Parsed(tuple(elements), _core(book.properties))


def read_xls(data: bytes, _name: str) -> Parsed:
    """Old workbooks."""
    import xlrd

    try:
        book = xlrd.open_workbook(file_contents=data)
    except xlrd.XLRDError as exc:
        if "encrypt" in str(exc).lower():
            raise DocumentEncrypted("It is protected by a password. Save a copy without one.") from exc
        raise DocumentCorrupt("It is no workbook that can be read. Save it again as xlsx.") from exc
    elements: list[Element] = []
    for number, sheet in enumerate(book.sheets(), 1):
        rows = [" | ".join(str(v).strip() for v in sheet.row_values(r)).rstrip(" |") for r in range(sheet.nrows)]
        elements += _sheet(sheet.name, [row for row in rows if row], number)
    return Parsed(tuple(elements), DocumentMetadata(pages=book.nsheets))


def _sheet(name: str, rows: list[str], number: int) -> list[Element]:
    if not rows:
        return []
    return [Element("heading", name, level=1, page=number), Element("table", "\n".join(rows), page=number)]


def _elements(found: Any) -> tuple[Element, ...]:
    elements = []
    for each in found:
        kind = KINDS.get(each.category, "text")
        text = _rows(each.metadata.text_as_html) if kind == "table" and each.metadata.text_as_html else each.text
        if not text or each.category in ("PageBreak", "Image"):
            continue
        level = (each.metadata.category_depth or 0) + 1 if kind == "heading" else None
        elements.append(Element(kind, text, level=level, page=each.metadata.page_number))
    return tuple(elements)


def _rows(table: str) -> str:
    from lxml import html as lxml_html

    tree = lxml_html.fragment_fromstring(table, create_parent="div")
    rows = []
    for row in tree.iter("tr"):
        cells = [re.sub(r"\s+", " ", cell.text_content()).strip() for cell in row if cell.tag in ("td", "th")]
        if any(cells):
            rows.append(" | ".join(cells))
    return "\n".join(rows)


def _core(properties: Any) -> DocumentMetadata:
    def iso(name: str) -> str | None:
        value = getattr(properties, name, None)
        return value.isoformat() if value is not None and hasattr(value, "isoformat") else None

    return DocumentMetadata(
        title=(properties.title or "").strip() or None,
        author=(getattr(properties, "author", None) or getattr(properties, "creator", None) or "").strip() or None,
        language=(getattr(properties, "language", None) or "").partition("-")[0].lower() or None,
        created=iso("created"),
        modified=iso("modified"),
    )


def _opf(data: bytes) -> DocumentMetadata:
    """Read a book's own title, author and language from its package file."""
    import zipfile

    from lxml import etree

    with zipfile.ZipFile(BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if name.endswith(".opf")]
        if not names:
            return DocumentMetadata()
        parser = etree.XMLParser(recover=True, resolve_entities=False, no_network=True)
        root = etree.fromstring(archive.read(names[0]), parser=parser)
    if root is None:
        return DocumentMetadata()

    def first(name: str) -> str | None:
        found = root.findtext(f".//{{http://purl.org/dc/elements/1.1/}}{name}")
        return found.strip() or None if found else None

    return DocumentMetadata(
        title=first("title"),
        author=first("creator"),
        language=(first("language") or "").partition("-")[0] or None,
        created=first("date"),
    )
