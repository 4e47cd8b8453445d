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
from workers.indexing.parse.dates import iso
from workers.indexing.parse.language import iso639
from workers.indexing.parse.ooxml import attribute, core_properties, local, part
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

    return Parsed(_elements(partition_odt(file=BytesIO(data))), _odf_facts(Archive(data)))


def read_rtf(data: bytes, _name: str) -> Parsed:
    """Rich text."""
    seam()
    from unstructured.partition.rtf import partition_rtf

    return Parsed(_elements(partition_rtf(file=BytesIO(data))), _rtf_facts(data[:20_000]))


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


def _odf_facts(archive: Archive) -> DocumentMetadata:
    """Read meta.xml (OpenDocument 1.3 part 3, section 4)."""
    root = part(archive, "meta.xml")
    found: dict[str, str] = {}
    for node in root.iter() if root is not None else ():
        if len(node) == 0 and (node.text or "").strip():
            found.setdefault(local(node), node.text.strip())
        elif local(node) == "document-statistic":
            found["pages"] = attribute(node, "page-count") or ""
    pages = found.get("pages", "")
    return DocumentMetadata(
        title=found.get("title"),
        author=found.get("initial-creator") or found.get("creator"),
        language=iso639(found.get("language")),
        created=iso(found.get("creation-date")),
        modified=iso(found.get("date")),
        pages=int(pages) if pages.isdigit() and pages != "0" else None,
    )


_RTF_TIME = rb"\\%s\\yr(\d{1,4})\\mo(\d{1,2})\\dy(\d{1,2})"


def _rtf_facts(head: bytes) -> DocumentMetadata:
    """Read the information group (Rich Text Format specification 1.9.1); it stands before the text."""
    code_page = re.search(rb"\\ansicpg(\d{3,5})", head)
    encoding = f"cp{code_page[1].decode()}" if code_page else "cp1252"

    def text(name: bytes) -> str | None:
        found = re.search(rb"\{\\%s ([^{}]{1,500})\}" % name, head)
        return _rtf_words(found[1], encoding) if found else None

    def day(name: bytes) -> str | None:
        found = re.search(_RTF_TIME % name, head)
        return iso("-".join(number.decode() for number in found.groups())) if found else None

    return DocumentMetadata(
        title=text(b"title"), author=text(b"author"), created=day(b"creatim"), modified=day(b"revtim")
    )


def _rtf_words(raw: bytes, encoding: str) -> str | None:
    letters = re.sub(rb"\\'([0-9a-fA-F]{2})", lambda found: bytes.fromhex(found[1].decode()), raw)
    try:
        words = letters.decode(encoding, "replace")
    except LookupError:
        words = letters.decode("cp1252", "replace")
    words = re.sub(r"\\u(-?\d{1,6}) ?\??", lambda found: chr(int(found[1]) % 65536), words)
    return " ".join(re.sub(r"\\[a-z]{1,32}-?\d{0,10} ?", "", words).split()) or None
