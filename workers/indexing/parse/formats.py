"""Finds out what a file is, lets the right reader read it, and cleans what it yields."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

from workers.errors import DocumentTooBig, NoText, UnsupportedType
from workers.indexing.parse import detect
from workers.indexing.parse.clean import clean_text, tidy
from workers.indexing.parse.language import language_of
from workers.indexing.values import Element, Parsed

Reader = Callable[[bytes, str], Parsed]

# Each reader's module is imported when the first file of its kind comes.
_READERS = {
    "text": ("text", "read_text"),
    "code": ("text", "read_code"),
    "markdown": ("markdown", "read_markdown"),
    "rst": ("rst", "read_rst"),
    "org": ("org", "read_org"),
    "html": ("html", "read_html"),
    "xml": ("xmlfile", "read_xml"),
    "json": ("data", "read_json"),
    "jsonl": ("data", "read_jsonl"),
    "notebook": ("data", "read_notebook"),
    "csv": ("data", "read_csv"),
    "eml": ("mail", "read_eml"),
    "msg": ("mail", "read_msg"),
    "pdf": ("pdf", "read_pdf"),
    "docx": ("word", "read_docx"),
    "pptx": ("office", "read_pptx"),
    "odt": ("office", "read_odt"),
    "rtf": ("office", "read_rtf"),
    "epub": ("book", "read_epub"),
    "xlsx": ("workbook", "read_xlsx"),
    "xls": ("workbook", "read_xls"),
}
_TEXTUAL = frozenset(("text", "code", "markdown", "rst", "org", "json", "jsonl", "csv"))
_EMPTY = b"\x00 \t\r\n\x0b\x0c\xef\xbb\xbf\xff\xfe"


def warm() -> None:
    """Import what the commonest files need before the first one comes; readers of others take a few hundredths."""
    for module in ("text", "markdown"):
        import_module(f"workers.indexing.parse.{module}")
    language_of([Element("text", "This sentence has the detector load its model of languages.")])


def parse_file(fd: int, name: str, max_chars: int) -> Parsed:
    """Parse the file open at ``fd``.

    Raises:
        Permanent, NotADocument: see `workers.errors`; the text is for people.
    """
    data = _read(fd)
    if not data.strip(_EMPTY):
        raise NoText("The file is empty.")
    kind = detect.kind_of(data, name)
    if kind.refusal:
        raise UnsupportedType(kind.refusal)
    if kind.name in _TEXTUAL and len(data) > 4 * max_chars:  # before it is decoded: no encoding takes more
        raise _too_long(max_chars)
    return _finished(_reader(kind.name)(data, name), kind, max_chars)


def _read(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    parts, offset = [], 0
    while offset < size or offset == 0:
        block = os.pread(fd, min(1 << 24, size - offset or 1 << 24), offset)
        if not block:
            break
        parts.append(block)
        offset += len(block)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _reader(kind: str) -> Reader:
    module, name = _READERS[kind]
    reader: Reader = getattr(import_module(f"workers.indexing.parse.{module}"), name)
    return reader


def _finished(parsed: Parsed, kind: detect.Kind, max_chars: int) -> Parsed:
    """Clean every element, drop the empty ones, and fill in what the format did not say."""
    elements: list[Element] = []
    chars = 0
    for element in parsed.elements:
        cleaned = clean_text(element.text)
        cleaned = cleaned.strip("\n").rstrip() if element.kind in ("code", "table") else tidy(cleaned)
        if not cleaned.strip():
            continue
        chars += len(cleaned)
        if chars > max_chars:
            raise _too_long(max_chars)
        elements.append(element if cleaned == element.text else replace(element, text=cleaned))
    if not elements:
        raise NoText("There is no text in it.")
    facts = parsed.metadata
    return Parsed(
        tuple(elements),
        replace(
            facts,
            filetype=kind.mime,
            title=_line(facts.title) or _first_title(elements),
            language=facts.language or (None if kind.name == "code" else language_of(elements)),
            author=_line(facts.author),
        ),
    )


def _too_long(max_chars: int) -> DocumentTooBig:
    return DocumentTooBig(f"It has more than {max_chars:,} characters of text (UPWELL_PARSE_MAX_CHARS). Split it.")


def _line(text: str | None) -> str | None:
    return " ".join(clean_text(text).split())[:300] or None if text else None


def _first_title(elements: list[Element]) -> str | None:
    """Take the first heading of level 1 near the top, or the heading that the document begins with."""
    for element in elements[:20]:
        if element.kind == "heading" and element.level == 1:
            return _line(element.text)
    first = next((element for element in elements if element.kind not in ("header", "footer")), elements[0])
    return _line(first.text) if first.kind == "heading" else None
