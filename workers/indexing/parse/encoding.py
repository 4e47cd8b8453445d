"""Bytes to text, whatever the encoding: byte order mark, UTF-16 and UTF-32, UTF-8, what is declared, then a guess."""

from __future__ import annotations

import codecs
import re
from functools import cache

SAMPLE = 64 * 1024
LINES_SAMPLE = 6 * 1024
FEW = 6
"""Bytes above ASCII below which old Macintosh and DOS encodings are not considered: they explain any short word."""
CREDIBLE = 0.6
"""What a declared encoding must reach of the best guess's confidence; true ones reach 0.66 and more (ADR 0020)."""

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_TEXT_CONTROL = bytes(range(0, 9)) + bytes(range(14, 27)) + bytes(range(28, 32)) + b"\x7f"
# What browsers and mail programs mean by the names they declare (WHATWG Encoding Standard, Microsoft's supersets).
_MEANT = {
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "hz": "hz", "shift_jis": "cp932", "euc_kr": "cp949", "big5": "cp950",
    "euc_jp": "euc_jis_2004", "koi8-r": "koi8-u",
}  # fmt: skip
_ALIASES = {
    "iso-8859-8-i": "iso8859-8", "x-sjis": "cp932", "ks_c_5601-1987": "cp949", "x-euc-jp": "euc_jp", "x-gbk": "gb18030",
    "x-mac-roman": "mac_roman", "macintosh": "mac_roman", "windows-874": "cp874", "unicode": "utf-16", "utf8": "utf-8",
}  # fmt: skip
# chardet's names; each is the superset that text of its family is really in.
_CANDIDATES = [
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874",
    "koi8-r", "koi8-u", "iso8859-2", "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8", "iso8859-9",
    "iso8859-15", "cp932", "euc_jis_2004", "gb18030", "big5hkscs", "cp949",
]  # fmt: skip
_OLD_CANDIDATES = ["cp850", "cp866", "mac-roman", "mac-cyrillic"]
_HIGH = bytes(range(0x80, 0x100))
_PLAIN = bytes(range(0x80)) + "“”‘’–—…•€£©®™°±§«»·\u00a0".encode("cp1252")  # what English has beside ASCII
_C1 = bytes(range(0x80, 0xA0))
_WIDE_LETTERS = re.compile(
    "[\t\n\r\x0c\x20-\x7e\u00a0-\u024f\u0300-\u036f\u0370-\u06ff\u0900-\u0e7f\u1e00-\u1eff\u2010-\u2122\u3000-\u30ff"
    "\u4e00-\u9fff\uac00-\ud7a3\uff00-\uff9f\ufeff]"
)


def decode(data: bytes, declared: str | None = None) -> str:
    """Return the text of ``data``.  Never fails; what cannot be decoded becomes U+FFFD."""
    for mark, marked in _MARKS:
        if data.startswith(mark):
            return data.decode(marked, "replace")
    if (wide := _wide(data)) is not None:
        return data.decode(wide, "replace")
    if (shifting := _shifting(data)) is not None:
        return data.decode(shifting, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
    wrong = text.count("\ufffd")
    if len(re.findall("[^\x00-\x7f\ufffd]", text)) >= 20 * wrong or (wrong == 1 and text.endswith("\ufffd")):
        return text  # UTF-8 with a broken letter here and there
    sample = _telling(data)
    if (name := _meant(declared)) is not None and _plausible(sample, name):
        try:
            return data.decode(name)
        except UnicodeDecodeError:
            pass
    return data.decode(guess(sample), "replace")


def guess(sample: bytes) -> str:
    """Return the likeliest single- or multi-byte encoding of lines that are not plain ASCII."""
    high = len(sample) - len(sample.translate(None, _HIGH))
    if high < FEW and not sample.translate(None, _PLAIN):
        return "cp1252"
    ranked = _ranked(sample, _CANDIDATES if high < FEW else _CANDIDATES + _OLD_CANDIDATES)
    best = next(iter(ranked), "cp1252")
    if best == "cp1250" and ranked.get("iso8859-2") == ranked[best] and len(sample.translate(None, _C1)) == len(sample):
        return "iso8859-2"  # cp1250 has most letters that tell the two apart where ISO 8859 has control characters
    return best


def _ranked(sample: bytes, candidates: list[str]) -> dict[str, float]:
    """Return what the bytes may be, the likeliest first, each with its confidence."""
    import chardet

    found = chardet.detect_all(sample, ignore_threshold=True, compat_names=False, include_encodings=candidates)
    ranked: dict[str, float] = {}
    for each in found:
        if each["encoding"] is not None:
            ranked.setdefault(codecs.lookup(each["encoding"]).name, each["confidence"])
    return ranked


def looks_like_text(data: bytes, *, tolerance: float = 0.02) -> bool:
    """Tell text from binary: a mark, UTF-16 or UTF-32 without one, or hardly any control bytes."""
    if any(data.startswith(mark) for mark, _ in _MARKS):
        return True
    sample = data[:SAMPLE]
    if _wide(sample) is not None:
        return True
    if b"\x00" in sample and tolerance <= 0.02:
        return False
    return len(sample.translate(None, _TEXT_CONTROL)) >= len(sample) * (1 - tolerance)


def _telling(data: bytes) -> bytes:
    """Return lines that are not plain ASCII, from all over: the top of a page often tells nothing."""
    parts, room = [], LINES_SAMPLE
    for found in re.finditer(rb"[^\r\n]*[\x80-\xff][^\r\n]*", data):
        line = found[0][:1000]
        parts.append(line)
        room -= len(line)
        if room <= 0:
            break
    return b"\n".join(parts)


def _meant(declared: str | None) -> str | None:
    if not declared:
        return None
    try:
        name = codecs.lookup(_ALIASES.get(declared.lower(), declared)).name
    except (LookupError, ValueError):
        return None
    name = _MEANT.get(name, name)
    if name.startswith(("utf", "unicode", "raw", "idna", "punycode")) or not _is_text_codec(name):
        return None  # it is not what it declares: that was tried above
    return name


def _is_text_codec(name: str) -> bool:
    try:
        return isinstance(b"a".decode(name), str)
    except (LookupError, ValueError, UnicodeError):
        return False


def _plausible(sample: bytes, name: str) -> bool:
    """Tell whether the declared encoding explains the bytes nearly as well as the best guess does."""
    text = sample.decode(name, "replace")
    if text.count("\ufffd") > 1 + sample.count(b"\n"):  # more than lines that are cut within a letter
        return False
    if any("\x80" <= letter <= "\x9f" for letter in text):
        return False
    ranked = _ranked(sample, _CANDIDATES + _OLD_CANDIDATES)
    name = "big5hkscs" if name == "cp950" else name
    if name not in ranked:
        return name not in _known()
    return ranked[name] >= CREDIBLE * max(ranked.values())


@cache
def _known() -> frozenset[str]:
    """Return the candidates' own names; each of them is a module to import."""
    return frozenset(codecs.lookup(name).name for name in _CANDIDATES + _OLD_CANDIDATES)


def _shifting(data: bytes) -> str | None:
    """Find ISO-2022, whose escape sequences are ASCII."""
    if b"\x1b$" not in data[:SAMPLE]:
        return None
    name = "iso2022_kr" if b"\x1b$)C" in data[:SAMPLE] else "iso2022_jp_2"
    try:
        data.decode(name)
    except UnicodeDecodeError:
        return None
    return name


def _wide(data: bytes) -> str | None:
    """Find UTF-32 and UTF-16 without a mark: what is meant must read as text of known scripts."""
    sample = data[:4096]
    if len(sample) < 4:
        return None
    if b"\x00" not in sample:
        try:
            sample.decode("utf-8")
        except UnicodeDecodeError as exc:
            if exc.start > len(sample) - 4:
                return None
        else:
            return None
    for name in ("utf-32-le", "utf-32-be"):
        if b"\x00\x00" in sample and _readable(sample[: len(sample) & ~3], name) > 0.8:
            return name
    best, name = max((_readable(sample[: len(sample) & ~1], name), name) for name in ("utf-16-be", "utf-16-le"))
    return name if best > 0.97 else None


def _readable(sample: bytes, name: str) -> float:
    try:
        text = sample.decode(name)
    except UnicodeDecodeError as exc:
        if exc.start < len(sample) - 4:
            return 0.0
        text = sample[: exc.start].decode(name)
    if not text:
        return 0.0
    good = len(_WIDE_LETTERS.findall(text))
    plain = sum(letter in " \n\r\t,.。、，" or "\u3040" <= letter <= "\u30ff" for letter in text)
    if b"\x00" not in sample and plain < 0.02 * len(text):
        return 0.0  # without one zero byte only texts with their scripts' own punctuation
    return good / len(text) * (1.0 if plain or len(text) < 20 else 0.9)


def declared_in_xml(head: bytes) -> str | None:
    """Return the encoding that an XML declaration names."""
    found = re.match(rb"\s*<\?xml[^>]{0,200}encoding\s*=\s*[\"']([\w.:-]+)", head[:300])
    return found[1].decode("ascii") if found else None


def declared_in_html(head: bytes) -> str | None:
    """Return the encoding that a meta element names."""
    found = re.search(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", head[:8192], re.IGNORECASE)
    return found[1].decode("ascii") if found else declared_in_xml(head)
