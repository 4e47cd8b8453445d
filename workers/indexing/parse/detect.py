"""What a file is: its first bytes decide, then its name; what it calls itself elsewhere counts for nothing."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath

from workers.errors import DocumentCorrupt, DocumentEncrypted
from workers.indexing.parse.encoding import looks_like_text


@dataclass(frozen=True, slots=True)
class Kind:
    """A reader's name and the MIME type; ``refusal`` says why the file is not read."""

    name: str
    mime: str
    container: bool = False
    refusal: str | None = None


_OFFICE = "application/vnd.openxmlformats-officedocument."
DOCX = Kind("docx", _OFFICE + "wordprocessingml.document", container=True)
PPTX = Kind("pptx", _OFFICE + "presentationml.presentation", container=True)
XLSX = Kind("xlsx", _OFFICE + "spreadsheetml.sheet", container=True)
ODT = Kind("odt", "application/vnd.oasis.opendocument.text", container=True)
EPUB = Kind("epub", "application/epub+zip", container=True)
PDF = Kind("pdf", "application/pdf")
RTF = Kind("rtf", "application/rtf")
HTML = Kind("html", "text/html")
XML = Kind("xml", "application/xml")

TEXTS: dict[str, Kind] = {
    ".md": Kind("markdown", "text/markdown"),
    ".markdown": Kind("markdown", "text/markdown"),
    ".rst": Kind("rst", "text/x-rst"),
    ".org": Kind("org", "text/org"),
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".xml": XML,
    ".rss": XML,
    ".atom": XML,
    ".svg": XML,
    ".json": Kind("json", "application/json"),
    ".jsonl": Kind("jsonl", "application/jsonl"),
    ".ndjson": Kind("jsonl", "application/jsonl"),
    ".ipynb": Kind("notebook", "application/x-ipynb+json"),
    ".csv": Kind("csv", "text/csv"),
    ".tsv": Kind("csv", "text/tab-separated-values"),
    ".eml": Kind("eml", "message/rfc822"),
    ".txt": Kind("text", "text/plain"),
    ".text": Kind("text", "text/plain"),
    ".log": Kind("text", "text/plain"),
}
# fmt: off
CODE = frozenset((
    ".py", ".pyi", ".js", ".mjs", ".ts", ".tsx", ".jsx", ".go", ".rs", ".c", ".h", ".cc", ".cpp", ".hpp",
    ".cs", ".java", ".kt", ".scala", ".swift", ".rb", ".php", ".pl", ".lua", ".r", ".jl", ".sh", ".bash",
    ".zsh", ".ps1", ".sql", ".css", ".scss", ".vue", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".tex",
    ".dockerfile", ".mk", ".cmake", ".proto", ".graphql",
))
# fmt: on

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a picture (PNG)"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"GIF8", "a picture (GIF)"),
    (b"BM", "a picture (BMP)"),
    (b"II*\x00", "a picture (TIFF)"),
    (b"MM\x00*", "a picture (TIFF)"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\x1f\x8b", "a compressed file (gzip)"),
    (b"BZh", "a compressed file (bzip2)"),
    (b"\xfd7zXZ\x00", "a compressed file (xz)"),
    (b"(\xb5/\xfd", "a compressed file (zstd)"),
    (b"7z\xbc\xaf'\x1c", "an archive (7z)"),
    (b"Rar!\x1a\x07", "an archive (rar)"),
    (b"ID3", "sound (MP3)"),
    (b"OggS", "sound or video (Ogg)"),
    (b"fLaC", "sound (FLAC)"),
    (b"SQLite format 3\x00", "a database (SQLite)"),
    (b"\x00asm", "a program (WebAssembly)"),
    (b"\xca\xfe\xba\xbe", "a program (Java class)"),
    (b"wOFF", "a font"),
    (b"wOF2", "a font"),
    (b"\x00\x01\x00\x00\x00", "a font"),
)  # fmt: skip
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def kind_of(data: bytes, name: str) -> Kind:
    """Return what the file is.

    Raises:
        DocumentEncrypted: an office file behind a password.
        DocumentCorrupt: a container that is none.
    """
    ending = PurePosixPath(name.lower()).suffix
    if b"%PDF-" in data[:1024]:
        return PDF
    if data.startswith(b"{\\rtf"):
        return RTF
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_kind(data)
    if data.startswith(_OLE):
        return _ole_kind(data, ending)
    if refusal := _foreign(data):
        return refusal
    if ending in (".docx", ".pptx", ".xlsx", ".odt", ".epub", ".pdf") and not looks_like_text(data):
        raise DocumentCorrupt(
            f"It is called {ending[1:]}, but its first bytes say otherwise: it is damaged or cut off."
        )
    if not looks_like_text(data):
        return Kind(
            "binary", "application/octet-stream", refusal="It holds no text that Upwell can read (binary data)."
        )
    return _text_kind(data, name, ending)


def _text_kind(data: bytes, name: str, ending: str) -> Kind:
    if ending in TEXTS:
        return TEXTS[ending]
    if ending in CODE or name.lower() in ("dockerfile", "makefile", "cmakelists.txt"):
        return Kind("code", "text/x-" + (ending[1:] or name.lower()))
    head = data[:4096].replace(b"\x00", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return HTML
    if head.startswith(b"<?xml"):
        return HTML if b"<html" in head else XML
    return TEXTS[".txt"]


def _foreign(data: bytes) -> Kind | None:
    for start, what in _SIGNATURES:
        if data.startswith(start) and (len(start) > 2 or not looks_like_text(data)):
            return Kind("foreign", "application/octet-stream", refusal=f"It is {what}; Upwell reads text only.")
    if data[:4] == b"RIFF" or data[4:8] == b"ftyp":
        return Kind(
            "foreign", "application/octet-stream", refusal="It is sound, a picture or video; Upwell reads text only."
        )
    return None


def _zip_kind(data: bytes) -> Kind:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = set(archive.namelist()[:20_000])
            mime = archive.read("mimetype")[:100].decode("ascii", "replace").strip() if "mimetype" in names else ""
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, RuntimeError, EOFError) as exc:
        raise DocumentCorrupt("It is damaged or cut off: it cannot be unpacked. Get another copy.") from exc
    if "word/document.xml" in names or any(n.startswith("word/document") for n in names):
        return DOCX
    if "ppt/presentation.xml" in names:
        return PPTX
    if any(n.startswith("xl/workbook") for n in names):
        return XLSX
    if mime == EPUB.mime:
        return EPUB
    if mime.startswith(ODT.mime):
        return ODT
    if mime.startswith("application/vnd.oasis"):
        return Kind("odf", mime, refusal="Of OpenDocument files Upwell reads text documents (odt) only.")
    return Kind(
        "zip", "application/zip", refusal="It is an archive (zip). Unpack it into the folder to have it indexed."
    )


def _ole_kind(data: bytes, ending: str) -> Kind:
    import olefile

    try:
        with olefile.OleFileIO(BytesIO(data)) as ole:
            streams = {"/".join(parts).lower() for parts in ole.listdir()}
    except Exception as exc:
        raise DocumentCorrupt("It is damaged: its inner table of contents cannot be read.") from exc
    if "encryptedpackage" in streams or "encryptioninfo" in streams:
        raise DocumentEncrypted("It is protected by a password. Save a copy without one.")
    if any(name.startswith("__properties") or name.startswith("__substg") for name in streams):
        return Kind("msg", "application/vnd.ms-outlook")
    if "workbook" in streams or "book" in streams:
        return Kind("xls", "application/vnd.ms-excel")
    old = "Word (doc)" if "worddocument" in streams else "PowerPoint (ppt)" if "powerpoint document" in streams else ""
    if old:
        return Kind("ole", "application/x-ole", refusal=f"It is an old {old} file. Save it as {ending[1:] or 'docx'}x.")
    return Kind("ole", "application/x-ole", refusal="It is an old Office container that Upwell cannot read.")
