"""Cuts a parsed document into chunks whose boundaries are local."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from workers.indexing.values import Chunk, Element, Parsed

CHUNKER_VERSION = "0"

_SENTENCE = re.compile(r"[^.!?。！？\n]*[.!?。！？\n]+\s*|[^.!?。！？\n]+$")


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """Sizes in characters."""

    target_chars: int = 800
    max_chars: int = 1600
    min_chars: int = 200


def embedded_text(heading: str | None, content: str) -> str:
    """Return what is embedded for a chunk."""
    return f"{heading}\n\n{content}" if heading else content


def chunk(document_id: str, parsed: Parsed, options: ChunkOptions) -> list[Chunk]:
    """Return the chunks of a document, in reading order."""
    seen: Counter[str] = Counter()
    chunks: list[Chunk] = []
    for heading, page, content in _pieces(parsed, options):
        text = embedded_text(heading, content)
        chunks.append(Chunk(document_id, content, text, seen[text], len(chunks), heading, page))
        seen[text] += 1
    return chunks


def _pieces(parsed: Parsed, options: ChunkOptions) -> Iterator[tuple[str | None, int | None, str]]:
    path: list[tuple[int, str]] = []
    section: list[Element] = []
    for element in parsed.elements:
        if element.kind == "heading":
            yield from _section(path, section, options)
            section = []
            level = element.level or 1
            path = [*((depth, text) for depth, text in path if depth < level), (level, element.text)]
        elif element.kind not in ("header", "footer"):
            section.append(element)
    yield from _section(path, section, options)


def _section(
    path: list[tuple[int, str]], section: list[Element], options: ChunkOptions
) -> Iterator[tuple[str | None, int | None, str]]:
    heading = " > ".join(text for _, text in path)[:160] or None
    held: list[str] = []
    page: int | None = None
    if not section and path:
        yield heading, None, path[-1][1]
        return
    for element in section:
        for sentence in _SENTENCE.findall(element.text) or [element.text]:
            for start in range(0, len(sentence), options.max_chars):
                part = sentence[start : start + options.max_chars]
                size = sum(map(len, held))
                if held and size + len(part) > options.max_chars:
                    yield heading, page, "".join(held).strip()
                    held, size = [], 0
                if not held:
                    page = element.page
                held.append(part)
                cut = hashlib.sha256(part.strip().encode("utf-8", "surrogatepass")).digest()[0] < 40
                if size + len(part) >= options.target_chars // 2 and cut:
                    yield heading, page, "".join(held).strip()
                    held = []
        if held:
            held.append("\n\n")
    if "".join(held).strip():
        yield heading, page, "".join(held).strip()
