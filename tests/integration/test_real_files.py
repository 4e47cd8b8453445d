"""Every real file of the shared collection, through the real parser children: its text and facts, or the right refusal.

The collection is not part of the project; where it is absent these tests are skipped, and every kind of file that it
holds has a small one made by `test_parse*.py`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.errors import (
    DocumentCorrupt,
    DocumentEncrypted,
    NoText,
    ParserCrashed,
    UnsupportedType,
    WorkerError,
)
from workers.indexing.parse.limits import Limits
from workers.indexing.parse.pool import ParserPool
from workers.indexing.values import Parsed

FILES = Path(__file__).parents[3] / "shared" / "data" / "formats"
MANIFEST = FILES / "MANIFEST.tsv"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not MANIFEST.exists(), reason="the shared collection is not here")]

REFUSED: dict[str, tuple[type[WorkerError], str]] = {
    "ok/fake-power-point.ppt": (UnsupportedType, "pptx"),
    "ok/testWPSAttachment.docx": (NoText, "no text"),
    "embedded/test_files.zip": (UnsupportedType, "Unpack it"),
    "encrypted/testPDF_no_extract_no_accessibility_owner_user.pdf": (DocumentEncrypted, "password"),
    "encrypted/testUnicodePassword.pdf": (DocumentEncrypted, "password"),
    "encrypted/testWORD_protected_passtika.docx": (DocumentEncrypted, "password"),
    "encrypted/password_protected.xlsx": (DocumentEncrypted, "password"),
    "encrypted/fake-encrypted.msg": (DocumentEncrypted, "encrypted"),
    "hostile/testXXE.xml": (NoText, "no text"),
    "malformed/REDHAT-1531897-0.pdf": (DocumentCorrupt, "damaged"),
    "malformed/bug1020226.pdf": (DocumentCorrupt, "damaged"),
    "malformed/bug1980958.pdf": (DocumentCorrupt, "damaged"),
    "malformed/empty.pdf": (NoText, "pictures"),
    "malformed/poppler-742-0-fuzzed.pdf": (DocumentCorrupt, "damaged"),
    "malformed/testException1.doc": (UnsupportedType, "docx"),
    "malformed/testODTnotaZipFile.odt": (DocumentCorrupt, "plain text"),
    "malformed/testEXCEL_protected_passtika.xlsx": (DocumentEncrypted, "password"),
    "malformed/testWORD_missing_ooxml_bean1.docx": (NoText, "no text"),
    "malformed/testWORD_truncated.docx": (DocumentCorrupt, "damaged"),
    "scan/MEDRPT-2024-PAT-3847_medical_report_scan.pdf": (NoText, "OCR"),
}
PHRASES = {
    "ok/tracemonkey.pdf": "dynamically typed",
    "ok/GSA2022.pdf": "General Services Administration",
    "ok/fake-email-utf-16.eml": "Important points",
    "ok/testMSG_chinese.msg": "格式測試",
    "ok/test_rss.xml": "Microsoft",
    "ok/pep-0008.rst": "Readability counts",
    "ok/testEPUB.epub": "text for chapter One",
    "ok/equations.docx": "sinθ",
    "i18n/russian.cp866.txt": "студеную зимнюю",
    "i18n/testArabicMisleadingCharset.html": "ما",
    "i18n/fr_olap.pdf": "requêtes",
    "i18n/factbook-utf-16.xml": "capital: Washington, DC",
    "large/handbook-872p.docx": "Standing Trustees",
    "large/example-10k.html": "Annual Report",
    "ok/test_wikipedia.html": "Paul Allen",
}
TITLES = {
    "ok/tracemonkey.pdf": "Trace-based Just-in-Time Type Specialization for Dynamic Languages",
    "ok/pep-0008.rst": "Style Guide for Python Code",
    "ok/test_wikipedia.html": "Microsoft - Wikipedia",
    "ok/testMSG_forwarded.msg": "FW: Testing",
}
LANGUAGES = {
    "i18n/fr_olap.pdf": "fr", "i18n/russian.cp866.txt": "ru", "i18n/testArabicMisleadingCharset.html": "ar",
    "ok/GSA2022.pdf": "en", "ok/160F-2019.pdf": "fr", "ok/norwich-city.txt": "en",
}  # fmt: skip
PAGES = {"ok/GSA2022.pdf": 41, "ok/tracemonkey.pdf": 14, "ok/sample-presentation.pptx": 4}


def listed() -> list[str]:
    if not MANIFEST.exists():
        return []
    with MANIFEST.open(newline="") as file:
        return [row["file"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


@pytest.fixture(scope="module")
def pool() -> Iterator[ParserPool]:
    made = ParserPool(1, Limits(wall_s=150))
    yield made
    made.close()


def parse(pool: ParserPool, name: str) -> Parsed:
    fd = os.open(FILES / name, os.O_RDONLY)
    try:
        return pool.parse(fd, name)
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", listed())
def test_a_real_file_is_read_or_refused_for_the_right_reason(pool, name):
    if name in REFUSED:
        error, words = REFUSED[name]
        with pytest.raises(error, match=words) as refused:
            parse(pool, name)
        assert not isinstance(refused.value, ParserCrashed)
        return

    parsed = parse(pool, name)

    text = "\n".join(element.text for element in parsed.elements)
    assert text.strip()
    assert "\x00" not in text
    assert PHRASES.get(name, "") in text
    assert parsed.metadata.title == TITLES.get(name, parsed.metadata.title)
    assert parsed.metadata.language == LANGUAGES.get(name, parsed.metadata.language)
    assert parsed.metadata.pages == PAGES.get(name, parsed.metadata.pages)


def test_one_text_reads_the_same_in_twelve_formats(pool):
    texts = {}
    for name in (name for name in listed() if name.startswith("parity/")):
        parsed = parse(pool, name)
        texts[name] = "".join("".join(e.text for e in parsed.elements if e.kind == "text").split())

    shortest = min(texts.values(), key=len)
    assert len(texts) == 12
    assert {name: text for name, text in texts.items() if shortest[:2000] not in text} == {}
