"""Office documents through `unstructured`.

unstructured wants a spaCy model that it downloads from GitHub when the first text comes.  The one seam below gives it
an empty English pipeline with a sentence splitter instead: nothing is downloaded (ADR 0007).
"""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

from workers.indexing.parse.dates import iso
from workers.indexing.parse.language import iso639
from workers.indexing.values import DocumentMetadata, Element, ElementKind, Parsed

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
    return Parsed(found, core_properties(docx.Document(BytesIO(data)).core_properties))


def read_pptx(data: bytes, _name: str) -> Parsed:
    """PowerPoint: a slide is a page; speakers' notes included."""
    seam()
    import pptx
    from unstructured.partition.pptx import partition_pptx

    found = _elements(partition_pptx(file=BytesIO(data), include_slide_notes=True))
    return Parsed(found, core_properties(pptx.Presentation(BytesIO(data)).core_properties))


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


def core_properties(properties: Any) -> DocumentMetadata:
    """Return what an Office file says of itself (ECMA-376 part 2, core properties)."""
    return DocumentMetadata(
        title=(properties.title or "").strip() or None,
        author=(getattr(properties, "author", None) or getattr(properties, "creator", None) or "").strip() or None,
        language=iso639(getattr(properties, "language", None)),
        created=iso(getattr(properties, "created", None)),
        modified=iso(getattr(properties, "modified", None)),
    )
