"""Files that are built to harm their reader, or to be read by machines only."""

from __future__ import annotations

import email.message
import io
import os
import socket
import struct
import zipfile

import pytest

from workers.errors import DocumentCorrupt, DocumentEncrypted, DocumentHostile
from workers.indexing.parse import formats
from workers.indexing.parse.archive import Archive
from workers.indexing.values import Parsed


def parse(name: str, data: bytes) -> Parsed:
    fd = os.memfd_create("document")
    try:
        os.write(fd, data)
        return formats.parse_file(fd, name, 1_000_000)
    finally:
        os.close(fd)


def texts(parsed: Parsed) -> list[str]:
    return [element.text for element in parsed.elements]


def archive(entries: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return made.getvalue()


def test_entries_that_share_their_bytes_are_refused():
    data = bytearray(archive({"a": b"x" * 1000, "b": b"y" * 1000}))
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 0)  # its header is where the first one's is

    with pytest.raises(DocumentHostile, match="bomb"):
        Archive(bytes(data))


def test_an_entry_longer_than_it_declares_is_damaged():
    data = bytearray(archive({"a": b"x" * 100_000}))
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 10)

    with pytest.raises(DocumentCorrupt):
        Archive(bytes(data)).read("a")


def test_names_within_an_archive_lead_nowhere_and_case_does_not_matter():
    found = Archive(archive({"../../etc/passwd": b"x", "Word\\Document.xml": b"y"}))

    assert found.read("word/document.xml") == b"y"
    assert found.read("/etc/passwd") is None


def test_an_attachment_is_a_name_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = email.message.EmailMessage()
    message["Subject"] = "Hello"
    message.set_content("The body.")
    message.add_attachment(b"evil", maintype="application", subtype="octet-stream", filename="../../../tmp/x.sh")

    assert "Attachments: ../../../tmp/x.sh" in texts(parse("a.eml", message.as_bytes()))
    assert list(tmp_path.iterdir()) == []


def test_an_encrypted_message_says_so():
    with pytest.raises(DocumentEncrypted, match="mail program"):
        parse("a.eml", b'Subject: x\nContent-Type: multipart/encrypted; boundary="b"\n\n--b\n\nabc\n--b--\n')


WEB = "http://127.0.0.1:{port}/x"
PAGE = (
    '<html><head><link rel=stylesheet href="{u}"><base href="{u}"></head><body><img src="{u}">'
    '<iframe src="{u}"></iframe><p>Words.</p></body></html>'
)
XML = (
    '<!DOCTYPE r SYSTEM "{u}" [<!ENTITY % p SYSTEM "{u}">%p;<!ENTITY e SYSTEM "{u}">]>'
    '<r xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="{u}"/><t>Words.</t>&e;</r>'
)
FILES = {
    "a.html": PAGE,
    "a.md": "Words.\n\n![x]({u})\n\n<img src='{u}'>\n",
    "a.rst": "Words.\n\n.. image:: {u}\n\n.. include:: /etc/passwd\n\n.. raw:: html\n   :file: /etc/passwd\n",
    "a.org": "Words.\n#+INCLUDE: /etc/passwd\n[[{u}]]\n",
    "a.xml": XML,
    "a.ipynb": '{{"cells": [{{"cell_type": "markdown", "source": "Words. ![x]({u})"}}]}}',
}


@pytest.mark.parametrize("name", FILES)
def test_no_document_opens_a_connection_or_a_file(name):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        address = WEB.format(port=server.getsockname()[1])

        found = "\n".join(
            texts(parse(name, FILES[name].replace("{u}", address).replace("{{", "{").replace("}}", "}").encode()))
        )

        with pytest.raises(BlockingIOError):
            server.accept()
    assert "Words." in found
    assert "root:" not in found


def test_hidden_parts_of_a_page_are_not_text():
    page = (
        "<body><p>Seen.</p><p hidden>a</p><p style='display: none'>b</p><p style='font-size:0px'>c</p>"
        "<div style='visibility:hidden'><p>d</p></div><template>e</template><!-- f -->"
        "<p style='font-size:0.9em'>Also.</p>"
    )

    assert texts(parse("a.html", page.encode())) == ["Seen.", "Also."]


def test_menus_and_what_stands_around_the_main_part_are_set_apart():
    page = (
        "<body><nav>Home Shop</nav><div>We use cookies.</div><main><h1>Boiler</h1><p>"
        + "The code is 4711. " * 20
        + "</p><nav>Previous</nav></main><footer>Imprint</footer></body>"
    )

    found = parse("a.html", page.encode())

    assert [(e.kind, e.text[:17]) for e in found.elements] == [
        ("header", "Home Shop"),
        ("header", "We use cookies."),
        ("heading", "Boiler"),
        ("text", "The code is 4711."),
        ("header", "Previous"),
        ("footer", "Imprint"),
    ]


def test_what_is_nested_deeper_than_the_parser_goes_is_not_lost():
    deep = b"<div>" * 5000 + b"at the bottom" + b"</div>" * 5000 + b"<p>after it</p>"

    assert " ".join(texts(parse("a.html", deep))) == "at the bottom after it"
    assert "bottom" in " ".join(texts(parse("a.xml", b"<d>" * 5000 + b"bottom" + b"</d>" * 5000)))
