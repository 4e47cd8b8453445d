"""Bytes to text, whatever the encoding: the byte order mark, then what is declared, then UTF-8, then a guess."""

from __future__ import annotations

import codecs
import re

SAMPLE = 64 * 1024

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_TEXT_CONTROL = bytes(range(1, 9)) + bytes(range(14, 27)) + bytes(range(28, 32))


def decode(data: bytes, declared: str | None = None) -> str:
    """Return the text of ``data``.  Never fails; what cannot be decoded becomes U+FFFD."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data.decode(name, "replace")
    wide = _wide(data)
    if wide is not None:
        return data.decode(wide, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        if exc.start >= len(data) - 3 and len(data) > 16:  # cut in the middle of the last letter
            return data.decode("utf-8", "replace")
    if declared is not None:
        try:
            if codecs.lookup(declared).name not in ("utf-8", "utf-16", "ascii"):
                return data.decode(declared)
        except (LookupError, UnicodeDecodeError):
            pass
    return data.decode(guess(data), "replace")


def guess(data: bytes) -> str:
    """Return the likeliest single- or multi-byte encoding, judged by a sample of lines that are not plain ASCII."""
    from charset_normalizer import from_bytes

    sample = data[:SAMPLE]
    best = from_bytes(sample, steps=8, chunk_size=1024).best()
    return best.encoding if best is not None else "cp1252"


def looks_like_text(data: bytes) -> bool:
    """Tell text from binary: a mark, UTF-16 without one, or hardly any control bytes."""
    if any(data.startswith(mark) for mark, _ in _MARKS):
        return True
    sample = data[:SAMPLE]
    if _wide(sample) is not None:
        return True
    if b"\x00" in sample:
        return False
    return len(sample.translate(None, _TEXT_CONTROL)) >= len(sample) * 0.98


def _wide(data: bytes) -> str | None:
    """Find UTF-16 without a mark: every other byte of mostly Latin text, spaces and line ends is zero."""
    sample = data[:4096]
    if len(sample) < 4 or b"\x00" not in sample:
        return None
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    half = len(sample) / 2
    name = "utf-16-le" if odd > even else "utf-16-be"
    if max(even, odd) < half * 0.05 or min(even, odd) > half * 0.02:
        return None
    try:
        text = data[: 4096 & ~1].decode(name)
    except UnicodeDecodeError as exc:
        if exc.start < 4090:
            return None
        return name
    return name if sum(c.isprintable() or c in "\r\n\t\f" for c in text) > 0.9 * len(text) else None


def declared_in_xml(head: bytes) -> str | None:
    """Return the encoding that an XML declaration names."""
    found = re.match(rb"\s*<\?xml[^>]{0,200}encoding\s*=\s*[\"']([\w.:-]+)", head[:300])
    return found[1].decode("ascii") if found else None


def declared_in_html(head: bytes) -> str | None:
    """Return the encoding that a meta element names."""
    found = re.search(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", head[:4096], re.IGNORECASE)
    return found[1].decode("ascii") if found else declared_in_xml(head)
