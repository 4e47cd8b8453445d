"""Cleans text of what cannot be seen and should not be searched.  Linear in the length, whatever the text."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

# Zero width, direction marks, soft hyphen, byte order mark, fillers, interlinear and musical marks; variation selectors
# and the TAG alphabet, which carry hidden instructions to language models (arXiv 2504.11168).
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Joiners spell words in Arabic and Indic scripts (after their letters); everywhere else they only hide.
_JOINERS = re.compile(
    "(?<![\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17ff\ufb50-\ufdff\ufe70-\ufefc])[\u200c\u200d]+"
)
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_BREAKS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_SPACES = re.compile("[ \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
_LINES = re.compile(r" ?\n(?: ?\n)* ?")
_MARKS_IN_A_ROW = 30  # as in the Stream-Safe Text Format (UAX #15); real writing needs three or four
_NEITHER_WORD_NOR_SPACE = re.compile(rf"[^\w\s]{{{_MARKS_IN_A_ROW + 1}}}")  # so is each of more marks than that


def clean_text(text: str) -> str:
    """Return ``text`` in NFC, without invisible and control characters; line breaks and tabs stay."""
    if text.isascii() and (text.isprintable() or text.replace("\n", "").replace("\t", "").isprintable()):
        return text  # as most texts: nothing below would change it
    text = _CONTROL.sub("", _BREAKS.sub("\n", text))
    if text.isascii():
        return text
    text = _INVISIBLE.sub("", text)
    if "\u200c" in text or "\u200d" in text:
        text = _JOINERS.sub("", text)
    # Normalising sorts each run of combining marks by insertion: 160 kB of marks took 30 s.
    if _NEITHER_WORD_NOR_SPACE.search(text):  # ten times as fast as to look for the marks themselves
        text = _marks().sub(r"\1", text)
    return unicodedata.normalize("NFC", text)


def tidy(text: str) -> str:
    """Return running text with single spaces and at most one blank line."""
    if "  " not in text and text.isprintable():  # of all white space only the space is printable
        return text.strip()
    return _LINES.sub(_line_break, _SPACES.sub(" ", text)).strip()


def _line_break(found: re.Match[str]) -> str:
    return "\n\n" if found[0].count("\n") > 1 else "\n"


@cache
def _marks() -> re.Pattern[str]:
    """Match a run of more combining marks than any writing needs."""
    ranges: list[list[int]] = []
    for code in range(0x300, 0x1E950):
        if unicodedata.combining(chr(code)):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    marks = "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
    return re.compile(f"([{marks}]{{{_MARKS_IN_A_ROW}}})[{marks}]+")
