"""Cuts a parsed document into chunks whose boundaries are local.

Structure comes first: a chunk never crosses a heading.  Inside a long section the boundaries are chosen by content: a
unit (sentence, line, row) starts a chunk when its hash is the smallest within half a chunk's length on both sides.
That depends on the neighbourhood only, so an insertion, deletion or edit moves at most the neighbouring boundaries.
(Content-defined chunking by local extremes: Bjørner, Blass and Gurevich, "Content-dependent chunking for differential
compression, the local maximum approach", 2010.)
"""

from __future__ import annotations

import re
import zlib
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from workers.indexing.values import Chunk, Element, Parsed, Piece

CHUNKER_VERSION = "3"

HEADING_CHARS = 160
HEADINGS_ONLY_CHARS = 1600
"""Most characters of the one chunk of a document that has nothing but headings."""
_SENTENCE_END = re.compile(
    r"[.!?…。！？；\n](?:"
    r"(?<=[.!?…])(?<![.!?…][.!?…])[.!?…]*[\"'”’)\]]*\s+"  # only from the first of several on, or it would not be linear
    r"|(?<=[。！？；])[。！？；]*[」』”）]*\s*"
    r"|(?<=\n)\s*)"
)
_LINES = re.compile(r"[^\n]*\n*")
_WHITE = " \t\n\u00a0\u3000"
_FACTORS = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1, 0xD3A2646D, 0xFD7046C5, 0xB55A4F09)


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """Sizes in characters.  ``max_chars`` is kept but for one table row that is longer together with its header."""

    target_chars: int = 800
    max_chars: int = 1600
    min_chars: int = 200


class _Unit(NamedTuple):
    """What is never cut: a sentence, a line, a row; it keeps the white space that follows it."""

    text: str
    page: int | None
    header: str = ""  # first row of its table, which each chunk of the table repeats


def embedded_text(heading: str | None, content: str) -> str:
    """Return what is embedded for a chunk: where it stands, then what it says."""
    return f"{heading}\n\n{content}" if heading else content


def chunk(document_id: str, parsed: Parsed, options: ChunkOptions) -> list[Chunk]:
    """Return the chunks of a document, in reading order."""
    return named(document_id, pieces(parsed, options))


def named(document_id: str, parts: Iterable[Piece]) -> list[Chunk]:
    """Return the chunks that a document's pieces are, in their order."""
    seen: Counter[str] = Counter()
    chunks: list[Chunk] = []
    for part in parts:
        text = embedded_text(part.heading, part.content)
        chunks.append(
            Chunk(document_id, part.content, text, seen[text], len(chunks), part.heading, part.page, part.words)
        )
        seen[text] += 1
    return chunks


def pieces(parsed: Parsed, options: ChunkOptions) -> list[Piece]:
    """Return what a document is cut into, in reading order."""
    return list(_pieces(parsed, options)) or _headings_only(parsed)


def _pieces(parsed: Parsed, options: ChunkOptions) -> Iterator[Piece]:
    slides = parsed.metadata.filetype.endswith("presentation")
    for heading, elements in _sections(parsed.elements, slides=slides):
        units = [unit for element in elements for unit in _units(element, options)]
        for group in _groups(units, options):
            content = "".join(unit.text for unit in group).strip("\n").rstrip()
            first = group[0]
            if first.header and not content.startswith(first.header):
                content = f"{first.header}\n{content}"
            if content.strip():
                yield Piece(heading, first.page, content)


def _sections(elements: Sequence[Element], *, slides: bool) -> Iterator[tuple[str | None, list[Element]]]:
    """Yield (heading path, elements) for each section that has any.  A slide's title says nothing of the next slide."""
    path: list[tuple[int, str]] = []
    held: list[Element] = []
    page: int | None = None
    for element in elements:
        if element.kind in ("header", "footer"):
            continue
        if slides and element.page != page:
            if held:
                yield _joined(path), held
            path, held, page = [], [], element.page
        if element.kind != "heading":
            held.append(element)
            continue
        if held:
            yield _joined(path), held
            held = []
        level = element.level or 1
        path = [(depth, text) for depth, text in path if depth < level]
        path.append((level, " ".join(element.text.split())))
    if held:
        yield _joined(path), held


def _joined(path: Sequence[tuple[int, str]]) -> str | None:
    """The nearest headings count most: when the path is too long its beginning goes."""
    joined = " > ".join(text for _, text in path)
    if len(joined) <= HEADING_CHARS:
        return joined or None
    return "…" + joined[-HEADING_CHARS:]


def _headings_only(parsed: Parsed) -> list[Piece]:
    """A document of headings, or of page headers, only: better found by them than not at all."""
    texts = [e for e in parsed.elements if e.text.strip()]
    if not texts:
        return []
    return [Piece(None, texts[0].page, "\n".join(e.text for e in texts)[:HEADINGS_ONLY_CHARS])]


# ------------------------------------------------------------------------------------------------ units


def _units(element: Element, options: ChunkOptions) -> Iterator[_Unit]:
    by_lines = element.kind in ("table", "code", "list")
    found = [text for text in _LINES.findall(element.text) if text] if by_lines else _sentences(element.text)
    header = found[0].strip() if element.kind == "table" and len(found) > 2 and len(found[0]) < 400 else ""
    if by_lines:
        found = [text.rstrip("\n") + "\n" for text in found]
    if found:
        found[-1] = found[-1].rstrip("\n") + "\n\n"
    room = options.max_chars - len(header) - 1
    for number, text in enumerate(found):
        for part in (text,) if len(text) <= room else _cut(text, room, options.target_chars):
            yield _Unit(part, element.page, header if number else "")


def _sentences(text: str) -> list[str]:
    ends = [end.end() for end in _SENTENCE_END.finditer(text)]
    return [text[start:end] for start, end in pairwise([0, *ends, len(text)]) if start < end]


def _cut(text: str, most: int, target: int) -> Iterator[str]:
    """Cut what has no sentences (one long line, Chinese without punctuation, base64) by content as well.

    The places that may be cut are those after white space, and of the others one in 32, chosen by the eight characters
    before it.  As with units, one of them is cut when its hash is the smallest within half a chunk's length on both
    sides, a place after white space before all others.  Where that leaves too much, the smallest hash that fits is.
    """
    places, hashes = _places(text)
    starts = [0, *places, len(text)]
    ranks = [1 << 40, *hashes, 1 << 40]
    edges = [0, *(i for i in _local_minima(starts, ranks, target // 2) if 0 < i < len(starts) - 1), len(starts) - 1]
    for first, last in pairwise(edges):
        yield from _cut_to_fit(text, starts, ranks, first, last, most, target // 2)


def _cut_to_fit(
    text: str, starts: Sequence[int], ranks: Sequence[int], first: int, last: int, most: int, least: int
) -> Iterator[str]:
    at = starts[first]
    while starts[last] - at > most:
        low, high = bisect_left(starts, at + least, first, last), bisect_right(starts, at + most, first, last)
        if low < high:
            cut = min(range(low, high), key=lambda i: (ranks[i], -i))
            yield text[at : starts[cut]]
            at = starts[cut]
        else:
            yield text[at : at + most]
            at += most
    yield text[at : starts[last]]


def _places(text: str) -> tuple[list[int], list[int]]:
    """Return where a text may be cut, and a hash for each place that depends on the eight characters before it."""
    import numpy as np  # a tenth of a second, for lines that few documents have

    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    mixed = np.zeros(len(codes) + 1, dtype=np.uint32)
    for back, factor in enumerate(_FACTORS):
        mixed[1 + back :] += codes[: len(codes) - back] * np.uint32(factor)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x2C1B3C6D)
    mixed ^= mixed >> np.uint32(12)
    spaces = np.zeros(len(mixed), dtype=bool)
    spaces[1:] = np.isin(codes, [ord(sign) for sign in _WHITE])
    chosen = np.flatnonzero((spaces | (mixed & np.uint32(31) == 0))[:-1])
    chosen = chosen[chosen > 0]
    ranks = mixed[chosen].astype(np.int64) + np.where(spaces[chosen], 0, 1 << 32)
    return chosen.tolist(), ranks.tolist()


# ------------------------------------------------------------------------------------------------ boundaries


def _groups(units: Sequence[_Unit], options: ChunkOptions) -> Iterator[Sequence[_Unit]]:
    """Yield runs of units; no run is longer than the maximum (its table header included)."""
    if not units:
        return
    starts = [0, *accumulate(len(unit.text) for unit in units)]
    total = starts[-1]
    if total <= options.target_chars:
        yield units
        return
    hashes = [zlib.crc32(unit.text.strip().encode("utf-8", "surrogatepass")) for unit in units]
    smallest = _local_minima(starts, hashes, options.target_chars // 2)
    inner = [i for i in smallest if options.min_chars <= starts[i] <= total - options.min_chars]
    edges = [0, *inner, len(units)]
    for first, last in pairwise(edges):
        yield from _within_limit(units, starts, hashes, first, last, options)


def _local_minima(starts: Sequence[int], hashes: Sequence[int], reach: int) -> list[int]:
    """Return the units whose hash is smaller than all within ``reach`` before and not greater than all after them."""
    count = len(hashes)
    found: list[int] = []
    window: deque[int] = deque()  # indices with increasing hashes
    head = 0
    for i in range(count):
        while head < count and starts[head] - starts[i] <= reach:
            while window and hashes[window[-1]] > hashes[head]:
                window.pop()
            window.append(head)
            head += 1
        while starts[i] - starts[window[0]] > reach:
            window.popleft()
        if window[0] == i:  # the leftmost of equal ones: earlier equal hashes stay in front of it
            found.append(i)
    return found


def _within_limit(
    units: Sequence[_Unit], starts: Sequence[int], hashes: Sequence[int], first: int, last: int, options: ChunkOptions
) -> Iterator[Sequence[_Unit]]:
    """Split what is still too long where the smallest hash is, from left to right."""
    while True:
        room = options.max_chars - (len(units[first].header) + 1 if units[first].header else 0)
        if starts[last] - starts[first] <= room:
            yield units[first:last]
            return
        fits = []
        for i in range(first + 1, last):
            if starts[i] - starts[first] > room:
                break
            fits.append(i)
        late = [i for i in fits if starts[i] - starts[first] >= options.target_chars // 2] or fits or [first + 1]
        cut = min(late, key=lambda i: (hashes[i], -i))
        yield units[first:cut]
        first = cut
