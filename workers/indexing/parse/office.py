"""Office documents through `unstructured`.

unstructured wants a spaCy model that it downloads from GitHub when the first text comes.  The one seam below gives it
an empty English pipeline with a sentence splitter instead: nothing is downloaded (ADR 0007).
"""

from __future__ import annotations

import re
from dataclasses import replace
from io import BytesIO
from typing import Any

from workers.indexing.parse.archive import Archive
from workers.indexing.parse.ooxml import core_properties
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


def read_pptx(data: bytes, _name: str) -> Parsed:
    """PowerPoint: a slide is a page; speakers' notes included."""
    seam()
    import pptx
    from unstructured.partition.pptx import partition_pptx

    found = _elements(partition_pptx(file=BytesIO(data), include_slide_notes=True))
    slides = len(pptx.Presentation(BytesIO(data)).slides)
    return Parsed(found, replace(core_properties(Archive(data)), pages=slides))


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
