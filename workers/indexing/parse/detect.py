"""What a file is: its first bytes decide, then its name; what it calls itself elsewhere counts for nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from workers.errors import DocumentCorrupt, DocumentEncrypted
from workers.indexing.parse.encoding import looks_like_text

if TYPE_CHECKING:
    from workers.indexing.parse.archive import Archive


@dataclass(frozen=True, slots=True)
class Kind:
    """A reader's name and the MIME type; ``refusal`` says why the file is not read."""

    name: str
    mime: str
    refusal: str | None = None


_OFFICE = "application/vnd.openxmlformats-officedocument."
DOCX = Kind("docx", _OFFICE + "wordprocessingml.document")
PPTX = Kind("pptx", _OFFICE + "presentationml.presentation")
XLSX = Kind("xlsx", _OFFICE + "spreadsheetml.sheet")
ODT = Kind("odt", "application/vnd.oasis.opendocument.text")
EPUB = Kind("epub", "application/epub+zip")
PDF = Kind("pdf", "application/pdf")
RTF = Kind("rtf", "application/rtf")
HTML = Kind("html", "text/html")
XML = Kind("xml", "application/xml")
TEXT = Kind("text", "text/plain")
MARKDOWN = Kind("markdown", "text/markdown")
EML = Kind("eml", "message/rfc822")
JSON = Kind("json", "application/json")
JSONL = Kind("jsonl", "application/jsonl")
CSV = Kind("csv", "text/csv")

TEXTS: dict[str, Kind] = {
    ".md": MARKDOWN, ".markdown": MARKDOWN, ".mdown": MARKDOWN, ".mkd": MARKDOWN, ".mdx": MARKDOWN, ".qmd": MARKDOWN,
    ".rst": Kind("rst", "text/x-rst"), ".rest": Kind("rst", "text/x-rst"),
    ".org": Kind("org", "text/org"),
    ".html": HTML, ".htm": HTML, ".xhtml": HTML,
    ".xml": XML, ".rss": XML, ".atom": XML, ".svg": XML, ".xsd": XML, ".xsl": XML, ".opml": XML, ".fb2": XML,
    ".json": JSON, ".geojson": JSON, ".jsonld": JSON, ".jsonl": JSONL, ".ndjson": JSONL,
    ".ipynb": Kind("notebook", "application/x-ipynb+json"),
    ".csv": CSV, ".tsv": Kind("csv", "text/tab-separated-values"), ".tab": Kind("csv", "text/tab-separated-values"),
    ".eml": EML,
    ".txt": TEXT, ".text": TEXT, ".log": TEXT, ".asc": TEXT, ".adoc": TEXT, ".srt": TEXT, ".vtt": TEXT,
}  # fmt: skip
# fmt: off
CODE = frozenset((
    ".py", ".pyi", ".pyx", ".js", ".mjs", ".cjs", ".ts", ".mts", ".tsx", ".jsx", ".go", ".rs", ".c", ".h", ".cc",
    ".cxx", ".cpp", ".hpp", ".hh", ".m", ".mm", ".cs", ".fs", ".vb", ".java", ".kt", ".kts", ".groovy", ".scala",
    ".clj", ".swift", ".rb", ".php", ".pl", ".pm", ".lua", ".r", ".jl", ".hs", ".ml", ".ex", ".exs", ".erl", ".dart",
    ".zig", ".nim", ".sh", ".bash", ".zsh", ".fish", ".ps1", ".bat", ".cmd", ".sql", ".css", ".scss", ".less", ".vue",
    ".svelte", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".properties", ".tex", ".sty", ".bib",
    ".dockerfile", ".mk", ".cmake", ".gradle", ".proto", ".graphql", ".tf", ".hcl", ".nix", ".diff", ".patch", ".asm",
    ".s", ".f90", ".pas", ".lisp", ".el", ".vim",
))
# fmt: on
CODE_NAMES = frozenset(
    ("dockerfile", "makefile", "cmakelists.txt", "jenkinsfile", "vagrantfile", "gemfile", "rakefile")
)

_PICTURE, _PROGRAM, _SOUND, _VIDEO, _FONT = "a picture", "a program", "sound", "video", "a font"
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a picture (PNG)"), (b"\xff\xd8\xff", "a picture (JPEG)"), (b"GIF8", "a picture (GIF)"),
    (b"BM", "a picture (BMP)"), (b"II*\x00", "a picture (TIFF)"), (b"MM\x00*", "a picture (TIFF)"),
    (b"8BPS", "a picture (Photoshop)"), (b"\x00\x00\x01\x00", "a picture (icon)"),
    (b"\x00\x00\x00\x0cjP  ", "a picture (JPEG 2000)"), (b"AT&TFORM", "a scanned document (DjVu)"),
    (b"\x7fELF", _PROGRAM), (b"MZ", _PROGRAM), (b"\xca\xfe\xba\xbe", _PROGRAM), (b"\x00asm", _PROGRAM),
    (b"\xcf\xfa\xed\xfe", _PROGRAM), (b"\xfe\xed\xfa\xcf", _PROGRAM),
    (b"\x1f\x8b", "a compressed file (gzip)"), (b"BZh", "a compressed file (bzip2)"),
    (b"\xfd7zXZ\x00", "a compressed file (xz)"), (b"(\xb5/\xfd", "a compressed file (zstd)"),
    (b"\x04\"M\x18", "a compressed file (lz4)"),
    (b"7z\xbc\xaf'\x1c", "an archive (7z)"), (b"Rar!\x1a\x07", "an archive (rar)"),
    (b"MSCF", "an archive (cab)"), (b"!<arch>\n", "an archive (ar)"),
    (b"ID3", "sound (MP3)"), (b"\xff\xfb", "sound (MP3)"), (b"fLaC", "sound (FLAC)"), (b"OggS", "sound (Ogg)"),
    (b"\x1aE\xdf\xa3", "video (Matroska)"), (b"FLV\x01", _VIDEO), (b"\x00\x00\x01\xba", "video (MPEG)"),
    (b"SQLite format 3\x00", "a database (SQLite)"), (b"\x00\x01\x00\x00Stan", "a database (Access)"),
    (b"PAR1", "a table (Parquet). Save it as csv"), (b"\x89HDF", "a data file (HDF5)"), (b"ITSF", "a help file (CHM)"),
    (b"!BDN", "a mailbox (PST). Save its messages as eml"), (b"wOFF", _FONT), (b"wOF2", _FONT), (b"OTTO", _FONT),
    (b"\x00\x01\x00\x00\x00", _FONT), (b"\x80\x04\x95", "a Python pickle"),
)  # fmt: skip
_RIFF = {b"WAVE": "sound (WAV)", b"AVI ": "video (AVI)", b"WEBP": "a picture (WebP)"}
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_PASSWORD = "It is protected by a password. Save a copy without one."  # noqa: S105 - not a password
_BINARY_ENDINGS = {".docx", ".pptx", ".xlsx", ".odt", ".epub", ".pdf", ".msg", ".ppt"}
_HTML_START = re.compile(
    rb"(?:<\?xml[^>]{0,200}>\s*)?(?:<!--.{0,2000}?-->\s*)?<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE | re.DOTALL
)

_PLAIN_OR_RST = frozenset((".txt", ".text", ".rst", ".rest"))
_UNDERLINED = re.compile(rb"(?:\A|(?<=\n))([^\s][^\n]{0,200})\n(([=\-~^\"'`*+#])\3{2,})[ \t]*(?=\n)")
_SECTIONS_WITHIN = 1 << 20


def kind_of(data: bytes, name: str) -> Kind:
    """Return what the file is.

    Raises:
        DocumentEncrypted: an office file behind a password.
        DocumentCorrupt: a container that is none.
        DocumentHostile: an archive bomb.
    """
    ending = PurePosixPath(name.lower()).suffix
    if _is_pdf(data, ending):
        return PDF
    if data.startswith(b"{\\rtf"):
        return RTF
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_kind(data, ending)
    if data.startswith(_OLE):
        return _ole_kind(data, ending)
    if refusal := _foreign(data):
        return refusal
    readable = ending in TEXTS or ending in CODE or _HTML_START.match(data[:4096].lstrip()) is not None
    if not looks_like_text(data, tolerance=0.05 if readable else 0.02):
        if ending in _BINARY_ENDINGS:
            raise DocumentCorrupt(
                f"It is called {ending[1:]}, but its first bytes say otherwise: it is damaged or cut off."
                " Get another copy."
            )
        return Kind("binary", "application/octet-stream", "It holds no text that Upwell can read (binary data).")
    return _text_kind(data, name, ending)


def _is_pdf(data: bytes, ending: str) -> bool:
    """PDF readers accept some bytes before the signature; a text that mentions it is still a text."""
    head = data[:1024]
    if head.lstrip(b"\xef\xbb\xbf \t\r\n\x00").startswith(b"%PDF-"):
        return True
    return b"%PDF-" in head and (ending == ".pdf" or not looks_like_text(data))


def _text_kind(data: bytes, name: str, ending: str) -> Kind:
    head = data[:4096].replace(b"\x00", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    if ending in _PLAIN_OR_RST:
        # What is written decides, so that a rename from txt to rst finds the same chunks.
        return Kind("rst" if _has_sections(data) else "text", TEXTS[ending].mime)
    if ending in TEXTS:
        return TEXTS[ending]
    if ending in CODE or name.lower() in CODE_NAMES:
        return Kind("code", "text/x-" + (ending[1:] or name.lower().partition(".")[0]))
    if _HTML_START.match(head):  # whatever it is called: browsers and old programs save pages under many names
        return HTML
    if head.startswith(b"<?xml"):
        return HTML if b"<html" in head.lower() else XML
    if ending in _BINARY_ENDINGS:
        raise DocumentCorrupt(
            f"It is called {ending[1:]}, but it is plain text. Give it the ending of what it is (txt, for one)."
        )
    if ending == ".xls" and b"\t" in head:
        return TEXTS[".tsv"]
    if not ending and re.match(rb"(?:Return-Path|Received|Delivered-To|MIME-Version|X-[\w-]+): ", head):
        return EML
    if head.startswith(b"%!PS"):
        return Kind("foreign", "application/postscript", "It is PostScript. Save it as PDF.")
    return TEXT


def _has_sections(data: bytes) -> bool:
    """Tell whether a text has at least two titles with a line of signs under them that is as long as they are."""
    found = 0
    for title, line, _ in _UNDERLINED.findall(data[:_SECTIONS_WITHIN].replace(b"\r\n", b"\n")):
        found += len(title.decode("utf-8", "replace").rstrip()) <= len(line)
    return found >= 2


def _foreign(data: bytes) -> Kind | None:
    what = next((what for start, what in _SIGNATURES if data.startswith(start)), None)
    if what is None and data[:4] == b"RIFF":
        what = _RIFF.get(data[8:12])
    if what is None and data[4:8] == b"ftyp":
        brand = data[8:12]
        what = "a picture (HEIC)" if brand[:3] in (b"hei", b"mif", b"avi") else "sound" if brand == b"M4A " else "video"
    if what is None and data[257:262] == b"ustar":
        what = "an archive (tar)"
    if what is None and data[32769:32774] == b"CD001":
        what = "a disk image (ISO)"
    if what is None and data[60:68] == b"BOOKMOBI":
        what = "a Kindle book (mobi). Save it as epub"
    if what is None or (data[:8].isascii() and b"\x00" not in data[:512] and looks_like_text(data)):
        return None  # a text may begin with BM, MZ, ID3 or GIF8
    advice = " Unpack it into the folder to have it indexed." if "archive" in what or "compressed" in what else ""
    return Kind("foreign", "application/octet-stream", f"It is {what}; Upwell reads documents with text only.{advice}")


def _zip_kind(data: bytes, ending: str) -> Kind:
    from workers.indexing.parse.archive import Archive

    archive = Archive(data)
    names = archive.names()
    mime = (archive.read("mimetype", 200) or b"").decode("ascii", "replace").strip()
    if any(name.startswith("word/document") for name in names):
        return DOCX
    if "ppt/presentation.xml" in archive:
        return PPTX
    if "xl/workbook.bin" in archive:
        return Kind("xlsb", "application/vnd.ms-excel.sheet.binary", "It is a binary workbook (xlsb). Save it as xlsx.")
    if any(name.startswith("xl/workbook") for name in names):
        return XLSX
    if mime == EPUB.mime or "meta-inf/container.xml" in archive:
        return EPUB
    if mime.startswith(ODT.mime):
        return ODT
    if mime.startswith("application/vnd.oasis"):
        better = "xlsx" if "spreadsheet" in mime else "pptx" if "presentation" in mime else "pdf"
        return Kind("odf", mime, f"Of OpenDocument files Upwell reads text documents (odt) only. Save it as {better}.")
    if any(name.endswith(".iwa") for name in names):
        return Kind("iwork", "application/x-iwork", "It is an iWork file. Export it as docx, pptx, xlsx or PDF.")
    if _main_part_elsewhere(archive) is not None:
        return DOCX
    if ending in _BINARY_ENDINGS:
        raise DocumentCorrupt(f"It is called {ending[1:]}, but what makes one is missing in it. Save it again.")
    return Kind("zip", "application/zip", "It is an archive (zip). Unpack it into the folder to have it indexed.")


def _main_part_elsewhere(archive: Archive) -> str | None:
    """Word does not insist on the usual name of the main part; the table of content types tells."""
    types = (archive.read("[Content_Types].xml", 1 << 20) or b"").decode("utf-8", "replace")
    found = re.search(r'PartName="([^"]{1,300})"[^>]{0,200}wordprocessingml\.document\.main\+xml', types)
    return found[1] if found else None


def _ole_kind(data: bytes, ending: str) -> Kind:
    import olefile

    try:
        with olefile.OleFileIO(BytesIO(data)) as ole:
            streams = {"/".join(parts).lower() for parts in ole.listdir()}
    except Exception as exc:
        raise DocumentCorrupt("It is damaged: its inner table of contents cannot be read. Get another copy.") from exc
    if "encryptedpackage" in streams or "encryptioninfo" in streams:
        raise DocumentEncrypted(_PASSWORD)
    if any(name.startswith(("__properties", "__substg")) for name in streams):
        return Kind("msg", "application/vnd.ms-outlook")
    if "workbook" in streams or "book" in streams:
        return Kind("xls", "application/vnd.ms-excel")
    if "worddocument" in streams:
        return Kind("ole", "application/msword", "It is an old Word file (doc). Save it as docx.")
    if "powerpoint document" in streams or "current user" in streams:
        return Kind("ole", "application/vnd.ms-powerpoint", "It is an old PowerPoint file (ppt). Save it as pptx.")
    return Kind(
        "ole", "application/x-ole", "It is an old Office container that Upwell cannot read. Save it in a newer format."
    )
