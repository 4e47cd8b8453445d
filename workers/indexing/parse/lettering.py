"""Tells text that a font has disguised from text.  Pure.

A PDF draws glyphs; a table in each font says which letters they are.  Where that table is missing or wrong, programs
that make PDFs have left one of three things, and each looks on the page as it should:

* codes of nobody: private use, controls, or "(cid:31)" as some tools write them into the text;
* numbers of glyphs taken for ASCII: every letter is moved by the same distance ("7KH ERLOHU" for "The boiler");
* numbers in the order of first use: the text begins with !"#$%&'() and is mostly signs.

What is refused here must be so in any language, table, formula or list of parts, because nobody sees what is refused;
figures over real files are in `tests/bench/README.md`.
"""

from __future__ import annotations

import re
import unicodedata

from workers.indexing.parse.language import surely_a_language

SAMPLE = 4000
"""Characters that are looked at."""

LEAST = 200
"""Characters, spaces aside, from which the share of signs and vowels says something."""

NOBODYS = 0.3
"""Share of characters that are nobody's from which a text is none; a bullet or a logo may be one."""

SIGNS, LETTERS = 0.3, 0.3
"""Text in the order of first use has more signs than the first and fewer Latin letters than the second."""

VOWELS = 0.2
"""Share of vowels (y is one) below which Latin letters are no words of any language: those have 0.3 to 0.5."""

DISTANCES = range(-95, 96)

_CID = re.compile(r"\(cid:\d+\)")
_SIGNS = frozenset('!"#$%&*+/<=>?@[\\]^`{|}~')
_NOBODYS = frozenset({"Cc", "Cn", "Co", "Cs"})


def is_disguised(text: str) -> bool:
    """Tell whether ``text``, as a PDF's fonts name its letters, is certainly not what its reader sees."""
    marks, sample = len(_CID.findall(text)), "".join(_CID.sub("", text)[:SAMPLE].split())
    nobodys = marks + sum(unicodedata.category(sign) in _NOBODYS or sign == "\ufffd" for sign in sample)
    if nobodys > NOBODYS * (marks + len(sample)):
        return True
    if len(sample) < LEAST:
        return False
    letters = [sign for sign in unicodedata.normalize("NFD", sample.lower()) if "a" <= sign <= "z"]
    if len(letters) < LETTERS * len(sample):
        return sum(sign in _SIGNS for sign in sample) > SIGNS * len(sample)
    few_vowels = sum(sign in "aeiouy" for sign in letters) < VOWELS * len(letters)
    return few_vowels and surely_a_language(_moved_back(text[:SAMPLE]))


def _moved_back(text: str) -> str:
    """Return ``text`` with its letters moved by the distance that gives most small letters and spaces."""
    counts = {sign: text.count(sign) for sign in set(text) if sign != "\n"}

    def small(distance: int) -> int:
        return sum(often for sign, often in counts.items() if "a" <= chr(max(0, ord(sign) + distance)) <= "z")

    best = max(DISTANCES, key=small)
    return "".join(sign if sign.isspace() else chr(max(32, ord(sign) + best)) for sign in text)
