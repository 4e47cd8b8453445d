"""Digital PDF through PDFium: text with page numbers, headings from the outline and from the size of letters.

Lines that stand at the top or the foot of most pages are told once, as header or footer.  What is filled into forms and
written into notes is text too.
"""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from workers.errors import DocumentCorrupt, DocumentEncrypted, DocumentTooBig, NoText
from workers.indexing.parse.dates import iso
from workers.indexing.parse.lettering import SAMPLE, is_disguised
from workers.indexing.parse.text import joined
from workers.indexing.values import DocumentMetadata, Element, ElementKind, Parsed

MOST_PAGES = 20_000
_END = re.compile(r"[.!?:;。！？”\"')\]]$")
_UNMAPPED = re.compile("[\x01\x03-\x08\x0b\x0e-\x1f\ufffd\ufffe]")
_EDGE = 2  # lines at the top and at the foot of a page that may be running lines
_NOTES = (pdfium_c.FPDF_ANNOT_TEXT, pdfium_c.FPDF_ANNOT_FREETEXT, pdfium_c.FPDF_ANNOT_HIGHLIGHT)
_MOST_ANNOTATIONS = 2000
_SCAN = "Its pages are pictures without text (a scan?). OCR is not installed; index a version with text."
_NO_LETTERS = (
    "Its text cannot be read: its fonts do not say which letters they show. Print it to PDF again, or have its pages"
    " read (OCR), for example with ocrmypdf --force-ocr."
)


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    size: float


def read_pdf(data: bytes, _name: str) -> Parsed:
    """Read every page; what only shows pictures has no text."""
    try:
        document = pdfium.PdfDocument(data)
        pages = len(document)
    except pdfium.PdfiumError as exc:
        if "password" in str(exc).lower():
            raise DocumentEncrypted("It is protected by a password. Save a copy without one.") from exc
        raise DocumentCorrupt("It is no PDF that can be read: damaged or cut off. Get another copy.") from exc
    if pages == 0:
        raise DocumentCorrupt("It has no page that can be read: damaged or cut off. Get another copy.")
    if pages > MOST_PAGES:
        raise DocumentTooBig(f"It has {pages:,} pages; more than {MOST_PAGES:,} are not read. Split it.")
    form = _form(document)
    read = [_page(document, number, form) for number in range(pages)]
    unmapped, letters = sum(page.unmapped for page in read), sum(page.letters for page in read)
    if is_disguised(_sample(read)):
        raise NoText(_NO_LETTERS)
    running = _running([page.lines for page in read])
    outline = _outline(document)
    elements: list[Element] = []
    told: set[str] = set()
    for number, page in enumerate(read):
        lines = list(_body(page.lines, running, told, number + 1, elements))
        elements += _paragraphs(lines, number + 1, outline.get(number, {}))
        elements += (Element("text", text, page=number + 1) for text in page.filled)
    if not elements or (unmapped > letters and letters < 100 * pages):
        raise NoText(_NO_LETTERS if unmapped else _SCAN)
    return Parsed(tuple(elements), _facts(document, pages, unmapped / max(1, unmapped + letters)))


def _facts(document: Any, pages: int, unmapped: float) -> DocumentMetadata:
    facts = document.get_metadata_dict(skip_empty=True)
    return DocumentMetadata(
        title=(facts.get("Title") or "").strip() or None,
        author=facts.get("Author"),
        created=iso(facts.get("CreationDate")),
        modified=iso(facts.get("ModDate")),
        pages=pages,
        extra={"unreadable_letters_percent": round(100 * unmapped)} if unmapped >= 0.01 else {},
    )


def _outline(document: Any) -> dict[int, dict[str, int]]:
    """Return page -> {heading text without spaces: level} of the document's own table of contents."""
    found: dict[int, dict[str, int]] = {}
    try:
        for number, entry in enumerate(document.get_toc(max_depth=6)):
            if number > 5000:
                break
            dest = entry.get_dest()
            page = dest.get_index() if dest is not None else None
            if page is not None and (title := _squeezed(entry.get_title())):
                found.setdefault(page, {})[title] = entry.level + 1
    except (pdfium.PdfiumError, ValueError):
        return found
    return found


# ------------------------------------------------------------------------------------------ one page


@dataclass(frozen=True, slots=True)
class _Page:
    lines: list[_Line]  # an empty text is a blank line
    filled: list[str]  # what is filled into forms and written into notes
    letters: int
    unmapped: int
    beginning: str  # its text, with a space for each sign that stands for nothing


def _page(document: Any, number: int, form: Any) -> _Page:
    try:
        page = document[number]
        text_page = page.get_textpage()
        text = text_page.get_text_range()
    except pdfium.PdfiumError:
        return _Page([], [], 0, 0, "")  # one broken page does not take the others with it
    unmapped = len(_UNMAPPED.findall(text))
    lines = _lines(text_page, text)
    filled = list(_annotations(page, form))
    text_page.close()
    page.close()
    return _Page(lines, filled, sum(map(str.isalnum, text)), unmapped, _UNMAPPED.sub(" ", text[:SAMPLE]))


def _sample(pages: list[_Page]) -> str:
    """Return some of the text of several pages: a cover may be set in other fonts than what follows."""
    written = [page.beginning for page in pages if page.beginning.strip()]
    chosen = written[:: max(1, len(written) // 8)]
    return "\n".join(text[: SAMPLE // len(chosen)] for text in chosen)


def _lines(text_page: Any, text: str) -> list[_Line]:
    """Return the lines with the size of their first letter; PDFium writes a hyphen at a line's end as U+0002."""
    lines: list[_Line] = []
    position = 0
    for raw in text.split("\n"):
        stripped = raw.strip()
        size = 0.0
        if stripped and len(lines) < 5000:
            offset = position + raw.index(stripped[0])
            size = round(float(pdfium_c.FPDFText_GetFontSize(text_page, offset)), 1)
        cleaned = " ".join(_UNMAPPED.sub("", stripped.replace("\x02", "-")).split())
        lines.append(_Line(cleaned, size))
        position += len(raw) + 1
    return lines


def _form(document: Any) -> Any:
    try:
        document.init_forms()
    except pdfium.PdfiumError:
        return None
    return document.formenv.raw if document.formenv is not None else None


def _annotations(page: Any, form: Any) -> Iterator[str]:
    """Yield "name: value" of filled form fields, and the words of notes."""
    seen: set[str] = set()
    for number in range(min(pdfium_c.FPDFPage_GetAnnotCount(page), _MOST_ANNOTATIONS)):
        annotation = pdfium_c.FPDFPage_GetAnnot(page, number)
        if not annotation:
            continue
        kind = pdfium_c.FPDFAnnot_GetSubtype(annotation)
        found = ""
        if kind == pdfium_c.FPDF_ANNOT_WIDGET and form is not None:
            found = _field(form, annotation)
        elif kind in _NOTES:
            found = _note(annotation)
        pdfium_c.FPDFPage_CloseAnnot(annotation)
        if found and found not in seen:
            seen.add(found)
            yield found


def _note(annotation: Any) -> str:
    words = _wide(lambda b, n: int(pdfium_c.FPDFAnnot_GetStringValue(annotation, b"Contents", b, n)))
    return f"Note: {words}" if words else ""


def _field(form: Any, annotation: Any) -> str:
    value = _wide(lambda b, n: pdfium_c.FPDFAnnot_GetFormFieldValue(form, annotation, b, n))
    if not value or value == "Off":
        return ""
    name = _wide(lambda b, n: pdfium_c.FPDFAnnot_GetFormFieldAlternateName(form, annotation, b, n)) or _wide(
        lambda b, n: pdfium_c.FPDFAnnot_GetFormFieldName(form, annotation, b, n)
    )
    return f"{name}: {value}" if name else value


def _wide(call: Callable[[Any, int], int]) -> str:
    """Ask PDFium for a UTF-16 string: once for its length, once for its bytes."""
    size = call(None, 0)
    if not 2 < size < 1 << 20:
        return ""
    buffer = ctypes.create_string_buffer(size)
    call(ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), size)
    return " ".join(buffer.raw[: size - 2].decode("utf-16-le", "replace").split())


# ------------------------------------------------------------------------------------------ running lines


def _running(pages: list[list[_Line]]) -> frozenset[tuple[str, float]]:
    """Return what stands in one size at the top or foot of a third of the pages (three at least), numbers aside."""
    counts: Counter[tuple[str, float]] = Counter()
    for lines in pages:
        top, foot = _edges(lines)
        counts.update({_shape(lines[at]) for at in (*top, *foot)})
    least = max(3, len(pages) / 3)
    return frozenset(shape for shape, often in counts.items() if often >= least)


def _edges(lines: list[_Line]) -> tuple[list[int], list[int]]:
    written = [number for number, line in enumerate(lines) if line.text]
    if len(written) <= 2 * _EDGE:  # so little text is no page with running lines
        return [], []
    return written[:_EDGE], written[-_EDGE:]


def _shape(line: _Line) -> tuple[str, float]:
    """A title in large letters on the first page is not the running line that repeats it."""
    return re.sub(r"\d+", "#", line.text), line.size


def _body(
    lines: list[_Line], running: frozenset[tuple[str, float]], told: set[str], page: int, elements: list[Element]
) -> Iterator[_Line]:
    """Yield what is no running line; each of those becomes an element the first time."""
    top, foot = _edges(lines)
    for number, line in enumerate(lines):
        kind: ElementKind | None = "header" if number in top else "footer" if number in foot else None
        if kind is None or (shape := _shape(line)) not in running:
            yield line
        elif shape[0] not in told:
            told.add(shape[0])
            elements.append(Element(kind, line.text, page=page))


# ------------------------------------------------------------------------------------------ paragraphs


def _paragraphs(lines: list[_Line], page: int, headings: dict[str, int]) -> Iterator[Element]:
    """Join the lines of a paragraph; a short line in larger letters, or one of the outline, is a heading."""
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[line.size] += len(line.text)
    usual = sizes.most_common(1)[0][0] if sizes else 0.0
    widest = max((len(line.text) for line in lines), default=0)
    held: list[str] = []
    title: list[_Line] = []  # a heading may go over several lines of one size

    def flush() -> Iterator[Element]:
        if held:
            yield Element("text", joined(held), page=page)
            held.clear()
        if title:
            text = joined([line.text for line in title])
            level = headings.get(_squeezed(text)) or (1 if title[0].size >= usual * 1.7 else 2)
            yield Element("heading", text, level=level, page=page)
            title.clear()

    for line in lines:
        if not line.text:
            yield from flush()
            continue
        listed = headings.get(_squeezed(line.text))
        large = bool(usual) and len(line.text) < 120 and line.size >= usual * 1.2
        if (listed is not None or large) and re.search(r"[^\W\d_]{2}", line.text):
            if held or (title and (title[0].size != line.size or listed is not None or len(title) >= 4)):
                yield from flush()
            title.append(line)
            continue
        if title:
            yield from flush()
        held.append(line.text)
        if _END.search(line.text) and len(line.text) < widest * 0.75:
            yield from flush()  # a sentence that ends well before the margin ends its paragraph
    yield from flush()


def _squeezed(text: str) -> str:
    return re.sub(r"\W+", "", text).lower()
