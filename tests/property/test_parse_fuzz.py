"""Whatever bytes come, a reader of ours yields elements or a refusal, in time that grows with the length only.

UPWELL_FUZZ=N multiplies the number of examples: UPWELL_FUZZ=100 python -m pytest tests/property/test_parse_fuzz.py
"""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import struct
import time
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.errors import ParserCrashed, WorkerError
from workers.indexing.parse import believe, formats, pool
from workers.indexing.parse.archive import Archive
from workers.indexing.parse.clean import clean_text, tidy
from workers.indexing.parse.dates import iso
from workers.indexing.parse.text import joined, unwrapped
from workers.indexing.values import Cut, Parsed

EFFORT = int(os.environ.get("UPWELL_FUZZ", "1"))
fuzz = settings(max_examples=40 * EFFORT, deadline=None, suppress_health_check=list(HealthCheck))

# Pieces that mean something to some reader, in any order: what random bytes alone would never hit.
PIECES = {
    "rst": [
        "Title\n=====\n",
        ".. note:: a\n   b\n",
        "   ",
        "::\n\n   code\n",
        "* a\n",
        "=== ===\na   b\n=== ===\n",
        "+--+\n",
        "|a |\n",
        ".. [1] x\n",
        ":f: v\n",
        ".. list-table::\n\n   * - a\n     - b\n",
        "`a <b>`_",
        "\n",
        "\f",
        "----\n",
    ],
    "org": [
        "* H\n",
        "** TODO [#A] x :t:\n",
        "#+begin_src py\n",
        "#+end_src\n",
        "| a | b |\n",
        "|--\n",
        "- a\n",
        ":D:\n",
        ":END:\n",
        "[[x][y]]",
        "#+TITLE: t\n",
        ": v\n",
        "  ",
        "\n",
        "*b*",
        "[[" * 5,
    ],
    "html": [
        "<p>",
        "</p>",
        "<table>",
        "<tr>",
        "<td>",
        "</table>",
        "<ul><li>",
        "<pre>",
        "<h1>",
        "</div>",
        "<main>",
        "<nav>",
        "<script>",
        "<!--",
        "-->",
        "&nbsp;",
        "&#0;",
        "<br>",
        "<svg>",
        "<title>",
        "<meta charset=utf-16>",
        "x",
        "\x00",
    ],
    "md": [
        "# h\n",
        "- a\n",
        "  - b\n",
        "> q\n",
        "|a|b|\n|-|-|\n",
        "```\n",
        "<div>\n",
        "---\n",
        "a: &x b\n",
        "![i](u)",
        "*",
        "\n",
    ],
    "xml": [
        "<a>",
        "</a>",
        "<?xml?>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]>",
        "&b;",
        "&eacute;",
        "<![CDATA[",
        "]]>",
        "<t x='1'/>",
        "w",
    ],
    "csv": ["a,b\n", '"', ";", "\t", "\n", "sep=;\n", "1,2,3\n", "|", "\x00", "é"],
    "json": ["{", "}", "[", "]", '"a"', ":", ",", "1", "null", "\n", '{"a": [1, {"b": 2}]}'],
    "eml": [
        "From: a@b\n",
        "Subject: =?utf-8?B?w6Q=?=\n",
        "Content-Type: multipart/mixed; boundary=x\n",
        "\n",
        "--x\n",
        "--x--\n",
        "Content-Type: text/html; charset=nope\n",
        "Content-Transfer-Encoding: base64\n",
        "Date: never\n",
        "=E9",
        "text\n",
    ],
    "ipynb": [
        '{"cells": [',
        '{"cell_type": "code", "source": ["x"], "outputs": [{"text": 1}]}',
        "]}",
        ",",
        '{"cells": 3}',
        "null",
    ],
    "rtf": ["{\\rtf1 ", "\\par ", "}", "{", "\\u1234?", "\\'e9", "text"],
    "txt": [
        "a line that goes on and on until the margin of the page\n",
        "- item\n",
        "\f",
        "\r",
        "1. x\n",
        "well-\n",
        "\u200b",
        "  ",
    ],
}
SLOW = {"rtf"}  # starts a program for each file


def parse(data: bytes, name: str) -> Parsed | None:
    fd = os.memfd_create("document")
    try:
        os.write(fd, data)
        return formats.parse_file(fd, name, 100_000)
    except WorkerError:
        return None
    finally:
        os.close(fd)


@pytest.mark.parametrize("kind", sorted(set(PIECES) - SLOW))
@fuzz
@given(data=st.data())
def test_pieces_of_a_format_in_any_order_are_read_or_refused(kind, data):
    pieces = st.lists(st.sampled_from(PIECES[kind]) | st.text(max_size=8), max_size=30)
    text = "".join(data.draw(pieces))

    parsed = parse(text.encode("utf-8", "surrogatepass"), f"a.{kind}")

    if parsed is not None:
        assert all(element.text.strip() for element in parsed.elements)
        assert parsed == parse(text.encode("utf-8", "surrogatepass"), f"a.{kind}")


@fuzz
@given(
    data=st.binary(max_size=300),
    start=st.sampled_from([b"", b"%PDF-1.7\n", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"\xff\xfe"]),
    name=st.sampled_from(["a", "a.txt", "a.pdf", "a.docx", "a.xls", "a.py", "a.msg", "a.epub"]),
)
def test_any_bytes_under_any_name_are_read_or_refused(data, start, name):
    parse(start + data, name)


@fuzz
@given(
    entries=st.dictionaries(
        st.sampled_from(["word/document.xml", "mimetype", "META-INF/container.xml", "x.opf", "ppt/presentation.xml"]),
        st.binary(max_size=80) | st.sampled_from([b"<w:p/>", b"application/epub+zip"]),
    ),
    cut=st.integers(0, 400),
    flip=st.integers(0, 2000),
)
def test_any_damaged_archive_is_read_or_refused(entries, cut, flip):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    data = bytearray(made.getvalue())
    if data:
        data[flip % len(data)] ^= 0xFF
    try:
        archive = Archive(bytes(data[: len(data) - cut]))
        for name in archive.names():
            archive.read(name, 1000)
    except WorkerError:
        pass


@fuzz
@given(value=st.text(max_size=60) | st.integers() | st.none() | st.dates() | st.datetimes())
def test_a_date_is_iso_8601_or_nothing(value):
    found = iso(value)

    assert found is None or (found[:4].isdigit() and found[4] == "-" and iso(found) == found)


@fuzz
@given(text=st.text(max_size=300))
def test_cleaning_twice_is_cleaning_once(text):
    once = clean_text(text)

    assert clean_text(once) == once
    assert tidy(tidy(once)) == tidy(once)


@fuzz
@given(lines=st.lists(st.text(alphabet="ab -é本\t", max_size=70), min_size=1, max_size=8))
def test_joining_lines_loses_no_letter(lines):
    def letters(text: str) -> str:
        return "".join(letter for letter in text if letter.isalpha())

    assert letters(joined(lines)) == letters("".join(lines))
    assert letters(unwrapped("\n".join(lines))) == letters("".join(lines))


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
good = st.tuples(st.sampled_from(["text", "heading"]), st.text(max_size=5), st.none() | st.integers(), st.none()).map(
    list
)
facts = st.dictionaries(st.sampled_from(["title", "extra", "pages", "filetype"]), values)
answers = (
    values
    | st.fixed_dictionaries({"elements": st.lists(good, max_size=3), "metadata": facts | values})
    | st.fixed_dictionaries({"elements": st.lists(good | values, max_size=3) | values, "metadata": facts})
    | st.fixed_dictionaries(
        {"error": values | st.sampled_from(["NoText", "MemoryError", "SystemExit"]), "text": values}
    )
)
packed = st.binary(max_size=12).map(lambda data: base64.b64encode(data).decode()) | st.text(max_size=8)
piece = st.tuples(st.none() | st.text(max_size=5), st.none() | st.integers(), st.text(max_size=8), packed, packed).map(
    list
)
cut_answers = answers | st.fixed_dictionaries(
    {"pieces": st.lists(piece | values, max_size=3) | values, "metadata": facts | values}
)


@fuzz
@given(answer=answers)
def test_whatever_a_child_answers_is_a_document_or_an_error_of_ours(answer):
    try:
        assert isinstance(believe.parsed(json.loads(json.dumps(answer))), Parsed)
    except WorkerError:
        pass


@fuzz
@given(answer=cut_answers)
def test_whatever_a_child_says_of_pieces_is_a_document_or_an_error_of_ours(answer):
    try:
        cut = believe.cut(json.loads(json.dumps(answer)), 6)
    except WorkerError:
        return
    assert isinstance(cut, Cut)
    for each in cut.pieces:
        assert 0 < len(each.content) <= 6
        ids, weights = each.words or ([], [])
        assert len(ids) == len(weights) == len(set(ids))


@fuzz
@given(stream=st.binary(max_size=64), declared=st.none() | st.integers(0, 2**32 - 1))
def test_a_frame_that_is_cut_off_too_long_or_no_json_is_an_error_that_the_pool_knows(stream, declared):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(stream if declared is None else struct.pack("!I", declared) + stream)
        theirs.shutdown(socket.SHUT_WR)
        try:
            pool._frame(ours, time.monotonic() + 60, 1000)
        except (ParserCrashed, OSError, ValueError, RecursionError):
            pass


def test_an_answer_nested_without_end_is_an_error_that_the_pool_knows():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack("!I", 50_000) + b"[" * 50_000)
        with pytest.raises((ValueError, RecursionError)):
            pool._frame(ours, time.monotonic() + 60, 100_000)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", b"a" * 1_000_000),
        ("a.txt", b"- a\n" * 250_000),
        ("a.txt", (b"word " * 14 + b"\n") * 14_000),
        ("a.txt", ("e" + "\u0301" * 300_000).encode()),
        ("a.rst", b"`" * 1_000_000),
        ("a.rst", b".. a::\n   :b: c\n" * 60_000),
        ("a.rst", b"=" * 500_000 + b"\n" + b"* a\n" * 100_000),
        ("a.org", b"[[" * 500_000),
        ("a.org", b"*" * 1_000_000),
        ("a.org", b"- a\n" + b"  b\n" * 200_000),
        ("a.md", b"[" * 8000),
        ("a.md", b"> " * 8000),
        ("a.md", b"- a\n" * 4000),
        ("a.html", b"<div>" * 200_000),
        ("a.html", b"<table><tr><td>" * 20_000),
        ("a.html", b"<" * 500_000),
        ("a.xml", b"<!DOCTYPE a [" * 50_000),
        ("a.xml", b"<a>" * 200_000),
        ("a.xml", b"<r>" + b"<a>x</a>" * 60_000),
        ("a.csv", b'"' * 500_000),
        ("a.json", b"[" * 500_000),
        ("a.eml", b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\n" * 1000),
        ("a.py", b"\n \n" * 300_000),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:12]),
)
@pytest.mark.timeout(60)
def test_a_long_text_without_rhythm_takes_linear_time(name, data):
    """A quadratic step on these would run for many minutes; the timeout is far above what a slow machine needs."""
    parse(data, name)
