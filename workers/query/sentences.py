"""Cuts a chunk into sentences, in any script: what an extractive answer is made of.  Pure."""

from __future__ import annotations

import re

LONGEST = 400
"""Characters of a sentence; what is longer (a contract's clause, a table without rows) is cut at a pause or a space."""

WRAPPED = 45
"""A line at least this long that ends without punctuation goes on in the next one: the file was wrapped by hand."""

Span = tuple[int, int]

_END = re.compile(r"[.!?…]+[\"'»”’)\]]*(?=\s)|[。！？｡؟।॥។။።]+[」』”’）】]*")
_ITEM = re.compile(r"\s*(?:[-*•‣–—·]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])\s")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[^\W\d_]|Dr|Mr|Mrs|Ms|Prof|St|No|Nr|Fig|Figs|Eq|Sec|Art|Abs|Inc|Ltd|Corp|vs|cf|al|approx|ca|bzw|Sr|Sra)\.$"
)
_PAUSE = re.compile(r"[;；:：,，、]\s*|\s+")


def sentences(text: str) -> list[Span]:
    """Return the place of every sentence, row of a table or item of a list, without surrounding white space."""
    found: list[Span] = []
    for start, end in _blocks(text):
        for first, last in _split(text, start, end):
            found += _short(text, *_trimmed(text, first, last))
    return [span for span in found if span[1] > span[0]]


def _blocks(text: str) -> list[Span]:
    """Join lines that were only wrapped; everything else starts anew at a line break."""
    blocks: list[Span] = []
    start = position = 0
    lines = text.split("\n")
    for number, line in enumerate(lines):
        end = position + len(line)
        if number + 1 == len(lines) or not _goes_on(line, lines[number + 1]):
            blocks.append((start, end))
            start = end + 1
        position = end + 1
    return blocks


def _goes_on(line: str, following: str) -> bool:
    if not line.strip() or not following.strip() or " | " in line or " | " in following or _ITEM.match(following):
        return False
    return len(line.rstrip()) >= WRAPPED or following[:1].islower()


def _split(text: str, start: int, end: int) -> list[Span]:
    if " | " in text[start:end]:  # a row is one thought, whatever dots are in its cells
        return [(start, end)]
    spans: list[Span] = []
    for match in _END.finditer(text, start, end):
        if _is_end(text, start, match):
            spans.append((start, match.end()))
            start = match.end()
    return [*spans, (start, end)]


def _is_end(text: str, start: int, match: re.Match[str]) -> bool:
    """A full stop before a small letter, or after an abbreviation or initial, ends nothing."""
    if match.group() != ".":
        return True
    following = text[match.end() : match.end() + 8].lstrip()[:1]
    return not following.islower() and not _ABBREVIATION.search(text[max(start, match.start() - 8) : match.end()])


def _trimmed(text: str, start: int, end: int) -> Span:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    return start + left, start + max(left, len(piece.rstrip()))


def _short(text: str, start: int, end: int) -> list[Span]:
    pieces: list[Span] = []
    while end - start > LONGEST:
        pauses = [match.end() for match in _PAUSE.finditer(text, start + LONGEST // 2, start + LONGEST)]
        cut = pauses[-1] if pauses else start + LONGEST
        pieces.append(_trimmed(text, start, cut))
        start = cut
    return [*pieces, _trimmed(text, start, end)]
