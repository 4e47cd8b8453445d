"""reStructuredText by its lines: headings with their levels, directives, tables, lists, literal blocks.

The rules are those of the docutils manual, "reStructuredText Markup Specification".  Nothing is included or executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from workers.indexing.parse.dates import iso
from workers.indexing.parse.encoding import decode
from workers.indexing.parse.text import joined, line_ends
from workers.indexing.values import DocumentMetadata, Element, Parsed

_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1{2,}[ \t]*$")
_FIELD = re.compile(r":([\w -]{1,40}):(?:[ \t]+(.*))?$")
_MAIL_HEADER = re.compile(r"([A-Z][\w-]{1,30}):[ \t]+(.*)$")
_EXPLICIT = re.compile(r"\.\.(?:[ \t]+|$)")
_DIRECTIVE = re.compile(r"\.\.[ \t]+(?:\|[^|\n]{1,80}\|[ \t]+)?([\w][\w:.+-]{0,60})::[ \t]*(.*)$")
_FOOTNOTE = re.compile(r"\.\.[ \t]+\[([^\]\n]{1,60})\][ \t]*(.*)$")
_BULLET = re.compile(r"(?:[-*+•‣⁃]|\(?(?:\d{1,4}|[a-zA-Z]|#|[ivxlcIVXLC]{2,6})[.)])[ \t]+(?=\S)")
_SIMPLE_RULE = re.compile(r"={2,}(?:[ \t]+={2,})+[ \t]*$")
_GRID_RULE = re.compile(r"\+(?:[-=]+\+)+[ \t]*$")
_ROLE = re.compile(r":[\w:+.-]{1,40}:`([^`\n]{1,300}?)(?:\s*<[^>`\n]{1,300}>)?`")
_LINK = re.compile(r"`([^`<\n]{1,300}?)(?:\s*<[^>`\n]{1,500}>)?`__?")
_MARKS = re.compile(r"(\*\*|``)(\S(?:[^*`\n]{0,500}?\S)?)\1")
_REFERENCE = re.compile(r"(?<=\w)_(?=[\s.,;:)!?]|$)")
_CODE = frozenset(("code", "code-block", "sourcecode", "literalinclude", "parsed-literal", "doctest", "math", "prompt"))
# fmt: off
_SILENT = frozenset((
    "toctree", "include", "raw", "contents", "index", "meta", "default-role", "role", "highlight", "currentmodule",
    "module", "sectnum", "target-notes", "tabularcolumns", "graphviz", "plot",
))
# fmt: on
_TABLES = frozenset(("list-table", "csv-table", "table"))


def read_rst(data: bytes, _name: str) -> Parsed:
    """Headings by their adornments, whose first appearance decides their level."""
    lines = [line.rstrip() for line in line_ends(decode(data)).expandtabs(8).replace("\f", "\n").split("\n")]
    reader = _Reader()
    reader.body(lines)
    return Parsed(tuple(reader.elements), _facts(lines))


class _Reader:
    """Reads bodies of lines; an indented body is read with its indentation taken off."""

    def __init__(self) -> None:
        self.elements: list[Element] = []
        self._levels: list[str] = []

    def body(self, lines: Sequence[str], *, nested: int = 0) -> None:
        at = 0
        while at < len(lines):
            at = self._block(lines, at, nested)

    def _block(self, lines: Sequence[str], at: int, nested: int) -> int:
        """Read the block that starts at a line and return where the next begins."""
        line = lines[at]
        if not line:
            return at + 1
        if nested == 0 and (heading := _heading(lines, at)) is not None:
            style, text, used = heading
            if style not in self._levels:
                self._levels.append(style)
            self._add("heading", inline(text), self._levels.index(style) + 1)
            return at + used
        if line[0] == " ":
            end = _indented_end(lines, at)
            self._nested(_dedented(lines[at:end]), nested)
            return end
        if _EXPLICIT.match(line):
            return self._explicit(lines, at, nested)
        if _GRID_RULE.match(line):
            end = _block_end(lines, at)
            self._add("table", _grid(lines[at:end]))
            return end
        if _SIMPLE_RULE.match(line):
            return self._simple_table(lines, at)
        return self._paragraph(lines, at, nested)

    def _nested(self, lines: Sequence[str], nested: int) -> None:
        if nested >= 20:
            self._add("text", "\n".join(lines))
        else:
            self.body(lines, nested=nested + 1)

    def _paragraph(self, lines: Sequence[str], at: int, nested: int) -> int:
        end = at
        while end < len(lines) and lines[end] and not (end > at and _EXPLICIT.match(lines[end])):
            end += 1
        block = lines[at:end]
        literal = block[-1].endswith("::")
        if _BULLET.match(block[0]):
            self._add("list", "\n".join(_items(block)))
        elif _FIELD.match(block[0]) or block[0].startswith("| ") or (at < 3 and _MAIL_HEADER.match(block[0])):
            self._add("text", "\n".join(_fields(block)))
        elif block == ["::"]:
            pass
        elif all(_ADORNMENT.match(line) for line in block):
            pass  # a transition
        elif len(block) > 1 and block[1].startswith(" ") and not block[0].startswith(" "):
            self._add("text", inline(block[0]))  # a definition: the term, then what it means
            self._nested(_dedented(block[1:]), nested)
        else:
            text = joined(block)
            self._add("text", inline(text[:-1] if literal else text))
        if literal:
            while end < len(lines) and not lines[end]:
                end += 1
            if end < len(lines) and lines[end].startswith(" "):
                stop = _indented_end(lines, end)
                self._add("code", "\n".join(_dedented(lines[end:stop])))
                return stop
        return end

    def _explicit(self, lines: Sequence[str], at: int, nested: int) -> int:
        """Directives, footnotes, targets, comments: the line and what is indented below it."""
        end = _indented_end(lines, at + 1)
        content = _dedented(lines[at + 1 : end])
        if note := _FOOTNOTE.match(lines[at]):
            self._add("text", inline(f"[{note[1]}] " + joined([note[2], *(line for line in content if line)])))
        elif directive := _DIRECTIVE.match(lines[at]):
            self._directive(directive[1].lower().rpartition(":")[2], directive[2], content, nested)
        return end

    def _directive(self, name: str, argument: str, content: Sequence[str], nested: int) -> None:
        options = dict(_options(content))
        content = content[_options_end(content) :]
        if name in _CODE:
            self._add("code", "\n".join(content) or argument)
        elif name in ("image", "figure"):
            self._add("text", inline(options.get("alt", "")))
            self._nested(content, nested)
        elif name in _SILENT:
            return
        elif name in _TABLES:
            self._add("text", inline(argument))
            rows = {"csv-table": _csv_rows, "list-table": _list_rows}.get(name)
            if rows is None:
                self._nested(content, nested)
            else:
                header = [f"{options['header']}"] if options.get("header") else []
                self._add("table", "\n".join(rows([*header, *content])))
        else:  # admonitions, and the directives of extensions: what they say is text
            self._add("text", inline(argument))
            self._nested(content, nested)

    def _simple_table(self, lines: Sequence[str], at: int) -> int:
        starts = [found.start() for found in re.finditer(r"=+", lines[at])]
        rules = [number for number in range(at, min(len(lines), at + 5000)) if _SIMPLE_RULE.match(lines[number])]
        closing = next((n for n in rules[1:] if n + 1 >= len(lines) or not lines[n + 1]), None)
        if closing is None:
            self._add("text", lines[at])
            return at + 1
        rows: list[list[str]] = []
        for line in lines[at:closing]:
            if not line or _SIMPLE_RULE.match(line) or re.fullmatch(r"[-\s]+", line):
                continue
            cells = [line[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
            if rows and not cells[0]:
                rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells, strict=True)]
            else:
                rows.append(cells)
        self._add("table", "\n".join(" | ".join(map(inline, row)) for row in rows))
        return closing + 1

    def _add(self, kind: str, text: str, level: int | None = None) -> None:
        if text.strip():
            self.elements.append(Element(kind, text, level=level))  # type: ignore[arg-type]


def inline(text: str) -> str:
    """Return the words without their inline markup."""
    if "`" in text or "*" in text:
        text = _MARKS.sub(r"\2", _LINK.sub(r"\1", _ROLE.sub(lambda found: found[1].lstrip("~!"), text)))
        text = text.replace("`", "")
    return _REFERENCE.sub("", text)


def _heading(lines: Sequence[str], at: int) -> tuple[str, str, int] | None:
    """Return (style, text, lines used) when a heading starts at this line."""
    line, following, after = (lines[at + n] if at + n < len(lines) else "" for n in range(3))
    if _ADORNMENT.match(line) and following.strip() and _ADORNMENT.match(after) and after[0] == line[0]:
        return line[0] * 2, following.strip(), 3
    starts = at == 0 or not lines[at - 1] or _ADORNMENT.match(lines[at - 1]) is not None
    short = len(following) >= min(len(line), 4)
    if line[0] != " " and _ADORNMENT.match(following) and not _ADORNMENT.match(line) and starts and short:
        return following[0], line, 2
    return None


def _block_end(lines: Sequence[str], at: int) -> int:
    while at < len(lines) and lines[at]:
        at += 1
    return at


def _indented_end(lines: Sequence[str], at: int) -> int:
    """Return where the indented lines that start here end; blank lines after them do not belong to them."""
    end = last = at
    while end < len(lines) and (not lines[end] or lines[end].startswith(" ")):
        end += 1
        if lines[end - 1]:
            last = end
    return last


def _dedented(lines: Sequence[str]) -> list[str]:
    margin = min((len(line) - len(line.lstrip()) for line in lines if line), default=0)
    return [line[margin:] for line in lines]


def _options_end(content: Sequence[str]) -> int:
    at = 0
    while at < len(content) and _FIELD.match(content[at]):
        at += 1
    return at


def _options(content: Sequence[str]) -> Iterator[tuple[str, str]]:
    for line in content[: _options_end(content)]:
        found = _FIELD.match(line)
        if found is not None:
            yield found[1].lower(), found[2] or ""


def _items(block: Sequence[str]) -> list[str]:
    items: list[list[str]] = []
    for line in block:
        if _BULLET.match(line.lstrip()) or not items:
            items.append([line])
        else:
            items[-1].append(line)
    return [inline(item[0][: len(item[0]) - len(item[0].lstrip())] + joined(item)) for item in items]


def _fields(block: Sequence[str]) -> list[str]:
    found: list[list[str]] = []
    for line in block:
        field = _FIELD.match(line)
        if field:
            found.append([f"{field[1]}: {field[2] or ''}"])
        elif line.startswith(" ") and found:
            found[-1].append(line)
        else:
            found.append([line.removeprefix("| ")])
    return [inline(joined(lines)) for lines in found]


def _grid(lines: Sequence[str]) -> str:
    """Join the lines of each row of a grid table; spanning cells come out where they start."""
    rows: list[list[str]] = []
    fresh = True
    for line in lines:
        if line.startswith("+"):
            fresh = True
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if fresh or len(cells) != len(rows[-1]):
            rows.append(cells)
        else:
            rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells, strict=True)]
        fresh = False
    return "\n".join(" | ".join(map(inline, row)) for row in rows)


def _csv_rows(content: Sequence[str]) -> list[str]:
    import csv

    try:
        return [" | ".join(cell.strip() for cell in row) for row in csv.reader(content, skipinitialspace=True) if row]
    except csv.Error:
        return list(content)


def _list_rows(content: Sequence[str]) -> list[str]:
    """Rows are items, cells are items within them."""
    rows: list[list[str]] = []
    for line in content:
        stripped = line.strip()
        if stripped.startswith("* -"):
            rows.append([stripped[3:].strip()])
        elif stripped.startswith("- ") or stripped == "-":
            if rows:
                rows[-1].append(stripped[1:].strip())
        elif stripped and rows:
            rows[-1][-1] = f"{rows[-1][-1]} {stripped}".strip()
    return [" | ".join(map(inline, row)) for row in rows]


def _facts(lines: Sequence[str]) -> DocumentMetadata:
    """Take a field list at the top, or RFC 2822 headers as in PEPs."""
    found: dict[str, str] = {}
    for line in lines[:40]:
        field = _FIELD.match(line) or _MAIL_HEADER.match(line)
        if field and field[2]:
            found.setdefault(field[1].lower(), field[2].strip())
    return DocumentMetadata(
        title=found.get("title"),
        author=found.get("author") or found.get("authors"),
        created=iso(found.get("created") or found.get("date")),
        modified=iso(found.get("last-modified") or found.get("modified")),
    )
