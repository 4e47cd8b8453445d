"""Finds out what a file is, and lets the right reader read it."""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

from workers.errors import (
    DocumentCorrupt,
    DocumentEncrypted,
    DocumentHostile,
    DocumentTooBig,
    NoText,
    UnsupportedType,
)
from workers.indexing.parse import detect
from workers.indexing.parse.clean import clean_text, tidy
from workers.indexing.parse.language import language_of
from workers.indexing.values import DocumentMetadata, Element, Parsed

Reader = Callable[[bytes, str], Parsed]

ENTRY_BYTES = 512 << 20
TOTAL_BYTES = 2 << 30
ENTRIES = 10_000
RATIO, RATIO_FROM = 200, 50 << 20


def warm() -> None:
    """Import what the commonest files need before the first one comes."""
    from workers.indexing.parse import html, markup, text  # noqa: F401
    from workers.indexing.parse.language import language_of

    language_of("This sentence has the detector load its profiles of languages.")


def parse_file(fd: int, name: str, max_chars: int) -> Parsed:
    """Parse the file open at ``fd``.

    Raises:
        Permanent, NotADocument: see `workers.errors`; the text is for people.
    """
    data = _read(fd)
    if not data.strip(b"\x00 \t\r\n\xef\xbb\xbf\xff\xfe"):
        raise NoText("The file is empty.")
    kind = detect.kind_of(data, name)
    if kind.refusal:
        raise UnsupportedType(kind.refusal)
    if kind.container:
        _guard_archive(data)
    parsed = _reader(kind.name)(data, name)
    return _finished(parsed, kind.mime, max_chars)


def _read(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    parts, offset = [], 0
    while offset < size or offset == 0:
        block = os.pread(fd, 1 << 24, offset)
        if not block:
            break
        parts.append(block)
        offset += len(block)
    return b"".join(parts)


def _reader(kind: str) -> Reader:
    """Import a format's library only when a file of it comes."""
    from workers.indexing.parse import data as data_formats
    from workers.indexing.parse import html, mail, markup, text

    simple: dict[str, Reader] = {
        "text": text.read_text,
        "code": text.read_code,
        "markdown": markup.read_markdown,
        "rst": markup.read_rst,
        "org": markup.read_org,
        "html": html.read_html,
        "xml": html.read_xml,
        "json": data_formats.read_json,
        "jsonl": data_formats.read_jsonl,
        "notebook": data_formats.read_notebook,
        "csv": data_formats.read_csv,
        "eml": mail.read_eml,
    }
    if kind in simple:
        return simple[kind]
    if kind == "pdf":
        from workers.indexing.parse import pdf

        return pdf.read_pdf
    from workers.indexing.parse import office

    return {
        "docx": office.read_docx,
        "pptx": office.read_pptx,
        "xlsx": office.read_xlsx,
        "xls": office.read_xls,
        "odt": office.read_odt,
        "rtf": office.read_rtf,
        "epub": office.read_epub,
        "msg": office.read_msg,
    }[kind]


def _guard_archive(data: bytes) -> None:
    """Check declared sizes before anything is unpacked; zipfile refuses entries longer than declared."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as exc:
        raise DocumentCorrupt(
            "It is damaged or cut off: it cannot be unpacked. Get another copy, or save it again."
        ) from exc
    total = sum(entry.file_size for entry in entries)
    packed = max(1, sum(entry.compress_size for entry in entries))
    if (
        len(entries) > ENTRIES
        or total > TOTAL_BYTES
        or any(entry.file_size > ENTRY_BYTES for entry in entries)
        or (total > RATIO_FROM and total / packed > RATIO)
        or len({entry.header_offset for entry in entries}) < len(entries)
    ):
        raise DocumentHostile(
            f"It would unpack to {total:,} bytes in {len(entries):,} entries, which looks like an archive bomb."
            " It was not opened."
        )
    if any(entry.flag_bits & 1 for entry in entries):
        raise DocumentEncrypted("It is protected by a password. Save a copy without one.")


def _finished(parsed: Parsed, mime: str, max_chars: int) -> Parsed:
    """Clean every element, drop the empty ones, and fill in what the format did not say."""
    elements: list[Element] = []
    chars = 0
    for element in parsed.elements:
        cleaned = clean_text(element.text)
        cleaned = cleaned.strip("\n") if element.kind in ("code", "table") else tidy(cleaned)
        if not cleaned.strip():
            continue
        chars += len(cleaned)
        if chars > max_chars:
            raise DocumentTooBig(f"It has more than {max_chars:,} characters of text. Split it.")
        elements.append(replace(element, text=cleaned))
    if not any(element.kind not in ("header", "footer") for element in elements):
        raise NoText("There is no text in it.")
    facts = parsed.metadata
    return Parsed(
        tuple(elements),
        DocumentMetadata(
            filetype=mime,
            title=facts.title or _first_title(elements),
            language=facts.language or language_of(" ".join(e.text for e in elements[:60])),
            author=facts.author,
            created=facts.created,
            modified=facts.modified,
            url=facts.url,
            pages=facts.pages,
            extra=facts.extra,
        ),
    )


def _first_title(elements: list[Element]) -> str | None:
    """The first heading of the highest level near the top, unless there are several of that level before any text."""
    for element in elements[:20]:
        if element.kind == "heading" and element.level == 1:
            return element.text.replace("\n", " ")[:300]
    levels = Counter(e.level for e in elements if e.kind == "heading")
    if levels and elements[0].kind == "heading":
        return elements[0].text.replace("\n", " ")[:300]
    return None
