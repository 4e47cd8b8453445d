"""JSON, JSON lines, notebooks and delimited tables."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from typing import Any

from workers.errors import DocumentCorrupt
from workers.indexing.parse.encoding import decode
from workers.indexing.parse.text import line_ends
from workers.indexing.values import DocumentMetadata, Element, Parsed

DEEPEST = 60
_DELIMITERS = ",;\t|"
_SNIFFED_ROWS = 200
_OUTPUT_CHARS = 20_000
_TITLES = ("title", "name", "headline", "subject")
csv.field_size_limit(10_000_000)


def read_json(data: bytes, name: str) -> Parsed:
    """Every value with the path of keys that leads to it; a list's objects are blocks of their own."""
    text = decode(data)
    try:
        value = json.loads(text.lstrip("\ufeff"))
    except RecursionError:
        return _as_lines(text)
    except ValueError:
        return read_jsonl(data, name)
    title = (
        next((value[key] for key in _TITLES if isinstance(value.get(key), str)), None)
        if isinstance(value, dict)
        else None
    )
    return Parsed(tuple(Element("text", block) for block in _blocks(value)), DocumentMetadata(title=title))


def read_jsonl(data: bytes, _name: str) -> Parsed:
    """One block a line; a line that is no JSON stays as it is."""
    elements = []
    for line in line_ends(decode(data)).split("\n"):
        if line.strip():
            try:
                elements.append(Element("text", "\n".join(_flat(json.loads(line), ""))))
            except (ValueError, RecursionError):
                elements.append(Element("text", line))
    return Parsed(tuple(elements), DocumentMetadata())


def _as_lines(text: str) -> Parsed:
    return Parsed(tuple(Element("text", line) for line in text.splitlines() if line.strip()), DocumentMetadata())


def _blocks(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        if all(not isinstance(item, dict | list) for item in value):
            yield "\n".join(map(_scalar, value))
            return
        for item in value:
            yield "\n".join(_flat(item, ""))
    elif isinstance(value, dict):
        flat = {k: v for k, v in value.items() if not isinstance(v, dict | list)}
        if flat:
            yield "\n".join(_flat(flat, ""))
        for key, item in value.items():
            if isinstance(item, list) and any(isinstance(each, dict) for each in item):
                for each in item:
                    yield "\n".join(_flat(each, key))
            elif isinstance(item, dict | list):
                yield "\n".join(_flat(item, key))
    else:
        yield _scalar(value)


def _flat(value: Any, path: str, depth: int = 0) -> Iterator[str]:
    if depth > DEEPEST:
        yield f"{path}: {json.dumps(value, ensure_ascii=False)}"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, list):
        if all(not isinstance(item, dict | list) for item in value):
            scalars = ", ".join(_scalar(item) for item in value if item is not None)
            if scalars:
                yield f"{path}: {scalars}" if path else scalars
        else:
            for item in value:
                yield from _flat(item, path, depth + 1)
    elif value is not None and value != "":
        yield f"{path}: {_scalar(value)}" if path else _scalar(value)


def _scalar(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def read_notebook(data: bytes, name: str) -> Parsed:
    """Jupyter: Markdown cells as Markdown, code cells as code, text outputs after them."""
    try:
        book = json.loads(decode(data).lstrip("\ufeff"))
        cells = book.get("cells") or [cell for sheet in book.get("worksheets", []) for cell in sheet.get("cells", [])]
        facts = book.get("metadata") or {}
        elements = [element for cell in cells for element in _cell(cell, name)]
        kernel = (facts.get("kernelspec") or {}).get("language") or (facts.get("language_info") or {}).get("name")
        authors = ", ".join(str(each["name"]) for each in facts.get("authors") or [] if each.get("name"))
        title = facts.get("title")
    except (ValueError, AttributeError, TypeError, RecursionError) as exc:
        raise DocumentCorrupt("It is no notebook that can be read. Open it in Jupyter and save it again.") from exc
    return Parsed(
        tuple(elements),
        DocumentMetadata(
            title=title if isinstance(title, str) else None,
            author=authors or None,
            extra={"kernel": kernel} if isinstance(kernel, str) else {},
        ),
    )


def _cell(cell: dict[str, Any], name: str) -> Iterator[Element]:
    from workers.indexing.parse.html import fragment
    from workers.indexing.parse.markdown import read_markdown

    source = _joined(cell.get("source", cell.get("input", "")))
    kind = cell.get("cell_type")
    if kind == "markdown":
        yield from read_markdown(source.encode("utf-8", "replace"), name).elements
    elif kind == "heading":
        yield Element("heading", source, level=max(1, min(6, int(cell.get("level", 1)))))
    elif source.strip():
        yield Element("code" if kind == "code" else "text", source)
    for output in cell.get("outputs") or []:
        shown = output.get("data") or output
        plain = _joined(output.get("text") or shown.get("text/plain") or "")
        if markup := _joined(shown.get("text/html") or ""):
            yield from fragment(markup[: 10 * _OUTPUT_CHARS])
        elif plain.strip():
            yield Element("code", plain[:_OUTPUT_CHARS])
        elif output.get("output_type") in ("error", "pyerr"):
            yield Element("code", f"{output.get('ename', '')}: {output.get('evalue', '')}"[:_OUTPUT_CHARS])


def _joined(value: Any) -> str:
    return "".join(map(str, value)) if isinstance(value, list) else str(value)


def read_csv(data: bytes, name: str) -> Parsed:
    """Read a table, one row a line, its header first; the delimiter is the one that makes rows of one length."""
    text = decode(data).replace("\x00", "")
    declared = text[:6].lower()
    if declared.startswith("sep=") and len(declared) > 4:  # what Excel writes and reads
        delimiter, text = text[4], text.partition("\n")[2]
    elif name.lower().endswith((".tsv", ".tab")) and "\t" in text:
        delimiter = "\t"
    else:
        delimiter = _delimiter(text)
    try:
        rows = [
            [" ".join(cell.split()) for cell in row]
            for row in csv.reader(StringIO(text, newline=""), delimiter=delimiter)
        ]
    except csv.Error:
        return _as_lines(text)
    lines = [" | ".join(_without_tail(row)) for row in rows if any(row)]
    return Parsed((Element("table", "\n".join(lines)),), DocumentMetadata())


def _delimiter(text: str) -> str:
    """Choose the delimiter under which most rows have the same number of cells, and more than one."""
    best, best_score = ",", 0.0
    head = text[:50_000]
    if len(head) < len(text):
        head = head[: head.rfind("\n") + 1] or head
    for delimiter in _DELIMITERS:
        try:
            rows = csv.reader(StringIO(head, newline=""), delimiter=delimiter)
            widths = Counter(len(row) for row, _ in zip(rows, range(_SNIFFED_ROWS), strict=False) if row)
        except csv.Error:
            continue
        width, often = max(((w, n) for w, n in widths.items() if w > 1), key=lambda pair: pair[1], default=(1, 0))
        score = often / max(1, widths.total()) * (1 + min(width, 20) / 100)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _without_tail(row: list[str]) -> list[str]:
    while row and not row[-1]:
        row.pop()
    return row
