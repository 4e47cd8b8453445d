"""Makes one tiny file of each type that Upwell reads, from nothing: what `upwell doctor` tries the parsers on."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from email.message import EmailMessage

WORDS = "The boiler code is 4711"
"""What every sample says, and what a parser must find in it."""


def samples() -> dict[str, Callable[[], bytes]]:
    """Return the maker of each sample by file name."""
    return {
        "sample.txt": lambda: f"{WORDS}.\n".encode(),
        "utf-16.txt": lambda: f"{WORDS}.\n".encode("utf-16"),
        "sample.md": lambda: f"# House\n\n{WORDS}.\n".encode(),
        "sample.rst": lambda: f"House\n=====\n\n{WORDS}.\n".encode(),
        "sample.org": lambda: f"* House\n\n{WORDS}.\n".encode(),
        "sample.html": lambda: f"<html><body><h1>House</h1><p>{WORDS}.</p></body></html>".encode(),
        "sample.xml": lambda: f"<?xml version='1.0'?><house><note>{WORDS}.</note></house>".encode(),
        "sample.json": lambda: json.dumps({"house": {"note": f"{WORDS}."}}).encode(),
        "sample.jsonl": lambda: (json.dumps({"note": f"{WORDS}."}) + "\n").encode(),
        "sample.csv": lambda: f"room,note\ncellar,{WORDS}\n".encode(),
        "sample.tsv": lambda: f"room\tnote\ncellar\t{WORDS}\n".encode(),
        "sample.py": lambda: f'"""{WORDS}."""\n'.encode(),
        "sample.rtf": lambda: rf"{{\rtf1\ansi {WORDS}.\par}}".encode(),
        "sample.eml": _eml,
        "sample.msg": _msg,
        "sample.docx": _docx,
        "sample.pptx": _pptx,
        "sample.xlsx": _xlsx,
        "sample.odt": _odt,
        "sample.epub": _epub,
        "sample.pdf": _pdf,
    }


def _eml() -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.org", "b@example.org", "House"
    message.set_content(f"{WORDS}.\n")
    return bytes(message)


def _docx() -> bytes:
    import docx

    document = docx.Document()
    document.add_heading("House", 1)
    document.add_paragraph(f"{WORDS}.")
    return _saved(document.save)


def _pptx() -> bytes:
    import pptx

    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "House"
    slide.placeholders[1].text = f"{WORDS}."
    return _saved(deck.save)


def _xlsx() -> bytes:
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["room", "note"])
    book.active.append(["cellar", WORDS])
    return _saved(book.save)


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    out = io.BytesIO()
    save(out)
    return out.getvalue()


def _odt() -> bytes:
    office = "urn:oasis:names:tc:opendocument:xmlns:office:1.0"
    text = "urn:oasis:names:tc:opendocument:xmlns:text:1.0"
    manifest = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"
    kind = "application/vnd.oasis.opendocument.text"
    return _zipped(
        kind,
        {
            "META-INF/manifest.xml": f'<m:manifest xmlns:m="{manifest}" m:version="1.2">'
            f'<m:file-entry m:full-path="/" m:media-type="{kind}"/>'
            '<m:file-entry m:full-path="content.xml" m:media-type="text/xml"/></m:manifest>',
            "styles.xml": f'<o:document-styles xmlns:o="{office}" o:version="1.2"><o:styles/><o:automatic-styles/>'
            "<o:master-styles/></o:document-styles>",
            "content.xml": f'<o:document-content xmlns:o="{office}" xmlns:t="{text}" o:version="1.2"><o:body><o:text>'
            f"<t:p>{WORDS}.</t:p></o:text></o:body></o:document-content>",
        },
    )


def _epub() -> bytes:
    container = "urn:oasis:names:tc:opendocument:xmlns:container"
    return _zipped(
        "application/epub+zip",
        {
            "META-INF/container.xml": f'<container version="1.0" xmlns="{container}"><rootfiles>'
            '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
            "book.opf": '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="i">'
            '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:identifier id="i">house</dc:identifier>'
            "<dc:title>House</dc:title><dc:language>en</dc:language></metadata>"
            '<manifest><item id="c" href="c.xhtml" media-type="application/xhtml+xml"/></manifest>'
            '<spine><itemref idref="c"/></spine></package>',
            "c.xhtml": '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>House</title></head>'
            f"<body><h1>House</h1><p>{WORDS}.</p></body></html>",
        },
    )


def _zipped(kind: str, files: dict[str, str]) -> bytes:
    """Both formats want their type first and uncompressed, so that it can be read without unpacking."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", kind, compress_type=zipfile.ZIP_STORED)
        for name, text in files.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}')
    return out.getvalue()


def _pdf() -> bytes:
    drawing = f"BT /F1 18 Tf 72 700 Td ({WORDS}.) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"xref\n0 %d\n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        table,
        len(objects) + 1,
        len(out),
    )


def _msg() -> bytes:
    """An Outlook message: properties as streams ([MS-OXMSG]) in a compound file ([MS-CFB])."""
    unicode = {"001A": "IPM.Note", "0037": "House", "1000": f"{WORDS}."}
    header = bytes(8) + struct.pack("<4I", 0, 0, 0, 0) + bytes(8)
    table = b"".join(
        struct.pack("<HHIII", 0x001F, int(tag, 16), 6, len(text.encode("utf-16-le")) + 2, 0)
        for tag, text in unicode.items()
    )
    streams = {"__properties_version1.0": header + table}
    streams |= {f"__substg1.0_{tag}001F": text.encode("utf-16-le") for tag, text in unicode.items()}
    return _compound_file(streams, storage="__nameid_version1.0")


def _compound_file(streams: dict[str, bytes], storage: str) -> bytes:
    """Return a compound file with an empty storage and small streams, each in the mini stream.

    Sectors: 0 is the FAT, then the directory, one sector of mini FAT, and the mini stream.
    """
    end, free, nothing = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFF
    mini, mini_fat, starts = b"", list[int](), list[int]()
    for data in streams.values():
        first, count = len(mini_fat), -(-len(data) // 64)
        starts.append(first)
        mini_fat += [first + i + 1 for i in range(count - 1)] + [end]
        mini += data.ljust(count * 64, b"\0")
    directory_sectors = -(-(len(streams) + 2) // 4)
    mini_sectors = -(-len(mini) // 512)
    mini_fat_at = 1 + directory_sectors

    def chain(first: int, count: int) -> list[int]:
        return [first + i + 1 for i in range(count - 1)] + [end]

    fat = [0xFFFFFFFD, *chain(1, directory_sectors), end, *chain(mini_fat_at + 1, mini_sectors)]

    def entry(name: str, kind: int, right: int, child: int, start: int, size: int) -> bytes:
        raw = name.encode("utf-16-le")
        head = raw.ljust(64, b"\0") + struct.pack("<HBB3I", len(raw) + 2 if name else 0, kind, 1, nothing, right, child)
        return head + bytes(36) + struct.pack("<IQ", start, size)

    # Siblings form a search tree, shorter names first; a chain to the right is one too.
    named = [(storage, 1, 0, 0), *((n, 2, s, len(d)) for (n, d), s in zip(streams.items(), starts, strict=True))]
    named.sort(key=lambda item: (len(item[0]), item[0].upper()))
    entries = [entry("Root Entry", 5, nothing, 1, mini_fat_at + 1, len(mini))]
    for number, (name, kind, start, size) in enumerate(named, 1):
        entries.append(entry(name, kind, number + 1 if number < len(named) else nothing, nothing, start, size))
    entries += [entry("", 0, nothing, nothing, 0, 0)] * (directory_sectors * 4 - len(entries))

    def sector(numbers: list[int]) -> bytes:
        return struct.pack(f"<{len(numbers)}I", *numbers).ljust(512, struct.pack("<I", free)[:1])

    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
    header += struct.pack("<5H6x", 0x3E, 3, 0xFFFE, 9, 6)
    header += struct.pack("<3I4x2I", 0, 1, 1, 4096, mini_fat_at)
    header += struct.pack("<3I", 1, end, 0) + struct.pack("<I", 0) + struct.pack("<I", free) * 108
    return header + sector(fat) + b"".join(entries) + sector(mini_fat) + mini.ljust(mini_sectors * 512, b"\0")
