"""JSON, JSON lines, notebooks and delimited tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

from workers.errors import DocumentCorrupt
from workers.indexing.parse.encoding import decode
from workers.indexing.values import DocumentMetadata, Element, Parsed

DEEPEST = 40
csv.field_size_limit(10_000_000)


def read_json(data: bytes, _name: str) -> Parsed:
    """Every value with the path of keys that leads to it; a list's objects are blocks of their own."""
    text = decode(data)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return _as_lines(text)
    title = value.get("title") or value.get("name") if isinstance(value, dict) else None
    facts = DocumentMetadata(title=title if isinstance(title, str) else None)
    return Parsed(tuple(Element("text", block) for block in _blocks(value)), facts)


def read_jsonl(data: bytes, _name: str) -> Parsed:
    """One block a line; a line that is no JSON stays as it is."""
    elements = []
    for line in decode(data).splitlines():
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
        yield str(value)


def _flat(value: Any, path: str, depth: int = 0) -> Iterator[str]:
    if depth > DEEPEST:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, list):
        if all(not isinstance(item, dict | list) for item in value):
            yield f"{path}: {', '.join(map(_scalar, value))}" if path else ", ".join(map(_scalar, value))
        else:
            for item in value:
                yield from _flat(item, path, depth + 1)
    elif value is not None and value != "":
        yield f"{path}: {_scalar(value)}" if path else _scalar(value)


def _scalar(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def read_notebook(data: bytes, name: str) -> Parsed:
    """Jupyter: Markdown cells as Markdown, code cells as code, text outputs after them."""
    from workers.indexing.parse.markup import read_markdown

    try:
        book = json.loads(decode(data))
        cells = book.get("cells") or [cell for sheet in book.get("worksheets", []) for cell in sheet.get("cells", [])]
    except (ValueError, AttributeError, RecursionError) as exc:
        raise DocumentCorrupt("It is no notebook that can be read. Open it in Jupyter and save it again.") from exc
    elements: list[Element] = []
    for cell in cells:
        source = _joined(cell.get("source", cell.get("input", "")))
        if cell.get("cell_type") == "markdown":
            elements += read_markdown(source.encode(), name).elements
        elif source.strip():
            elements.append(Element("code" if cell.get("cell_type") == "code" else "text", source))
        for output in cell.get("outputs", []):
            text = _joined(output.get("text") or (output.get("data") or {}).get("text/plain") or "")
            if text.strip():
                elements.append(Element("code", text[:20_000]))
    language = ((book.get("metadata") or {}).get("kernelspec") or {}).get("language")
    return Parsed(tuple(elements), DocumentMetadata(extra={"kernel": language} if language else {}))


def _joined(value: Any) -> str:
    return "".join(map(str, value)) if isinstance(value, list) else str(value)


def read_csv(data: bytes, name: str) -> Parsed:
    """A table, its header first; the delimiter is sniffed."""
    text = decode(data).replace("\x00", "")
    sample = text[:20_000]
    if name.lower().endswith(".tsv"):
        delimiter = "\t"
    else:
        try:
            delimiter = csv.Sniffer().sniff(sample, ",;\t|").delimiter
        except csv.Error:
            delimiter = max(",;\t|", key=sample.count)
    try:
        rows = [[" ".join(cell.split()) for cell in row] for row in csv.reader(StringIO(text), delimiter=delimiter)]
    except csv.Error:
        return _as_lines(text)
    lines = [" | ".join(row) for row in rows if any(row)]
    return Parsed((Element("table", "\n".join(lines)),), DocumentMetadata())
