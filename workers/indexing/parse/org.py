"""Org mode by its lines: headings by their stars, keywords as metadata, tables, lists and blocks.

The rules are those of the Org manual, "Org Syntax".  Nothing is included or executed.
"""

from __future__ import annotations

import re

from workers.indexing.parse.dates import iso
from workers.indexing.parse.encoding import decode
from workers.indexing.parse.language import iso639
from workers.indexing.parse.text import joined, line_ends
from workers.indexing.values import DocumentMetadata, Element, ElementKind, Parsed

_STAR = re.compile(r"(\*{1,50})[ \t]+(?:(?:TODO|DONE|NEXT|WAITING|CANCELLED)[ \t]+)?(?:\[#[A-Z0-9]\][ \t]+)?(.*)$")
_TAGS = re.compile(r"[ \t]+:[\w@#%:]{1,200}:$")
_KEYWORD = re.compile(r"[ \t]*#\+([\w-]{1,40}):[ \t]*(.*)$")
_BEGIN = re.compile(r"[ \t]*#\+begin_(\w{1,30})", re.IGNORECASE)
_END = re.compile(r"[ \t]*#\+end_\w{1,30}", re.IGNORECASE)
_BULLET = re.compile(r"[ \t]*(?:[-+]|(?<=[ \t])\*|\d{1,4}[.)]|[a-zA-Z][.)])[ \t]+\S")
_DRAWER = re.compile(r"[ \t]*:[\w-]{1,40}:[ \t]*$")
_PLANNING = re.compile(r"[ \t]*(?:SCHEDULED|DEADLINE|CLOSED|CLOCK):")
_LINK = re.compile(r"\[\[([^\]\n]{1,1000})\](?:\[([^\]\n]{1,1000})\])?\]")
_EMPHASIS = re.compile(r"(?<![\w*/=~])([*=~])(\S(?:[^\n*=~]{0,300}?\S)?)\1(?![\w*/=~])")
_COOKIE = re.compile(r"\[[\d/%]{1,12}\]|<<[^<>\n]{1,100}>>")
_CODE_BLOCKS = frozenset(("src", "example", "export", "latex", "html"))


def read_org(data: bytes, _name: str) -> Parsed:
    """Read line by line; a block ends at a blank line, a heading or a line of another kind."""
    reader = _Reader()
    for line in line_ends(decode(data)).expandtabs(8).replace("\f", "\n").split("\n"):
        reader.line(line.rstrip())
    reader.flush()
    facts = reader.facts
    return Parsed(
        tuple(reader.elements),
        DocumentMetadata(
            title=facts.get("title"),
            author=facts.get("author"),
            language=iso639(facts.get("language")),
            created=iso(facts.get("date")),
        ),
    )


class _Reader:
    def __init__(self) -> None:
        self.elements: list[Element] = []
        self.facts: dict[str, str] = {}
        self._held: list[list[str]] = []  # groups of lines: an item and what continues it
        self._kind: ElementKind = "text"
        self._verbatim = False
        self._drawer = False

    def line(self, line: str) -> None:
        if self._verbatim:
            self._verbatim_line(line)
        elif self._drawer:
            self._drawer = line.strip().lower() != ":end:" and not line.startswith("*")
        elif star := _STAR.match(line):
            self.flush()
            text = inline(_COOKIE.sub("", _TAGS.sub("", star[2])).strip())
            if text:
                self.elements.append(Element("heading", text, level=len(star[1])))
        elif begin := _BEGIN.match(line):
            self.flush()
            self._verbatim = begin[1].lower() in _CODE_BLOCKS
            self._kind = "code" if self._verbatim else "text"
        elif _END.match(line):
            self.flush()
        elif keyword := _KEYWORD.match(line):
            self._keyword(keyword[1].lower(), keyword[2].strip())
        elif _DRAWER.match(line):
            self.flush()
            self._drawer = True
        elif _PLANNING.match(line) or line.lstrip().startswith("# ") or line.strip() == "#":
            pass
        else:
            self._text_line(line)

    def flush(self) -> None:
        held, self._held = self._held, []
        kind, self._kind = self._kind, "text"
        lines = [group[0] for group in held]
        if kind == "code":
            text = "\n".join(lines)
        elif kind == "table":
            text = "\n".join(_row(line) for line in lines if not line.lstrip().startswith("|-"))
        elif kind == "list":
            text = "\n".join(_margin(group[0]) + inline(joined(group)) for group in held)
        else:
            text = inline(joined(lines))
        if not text.strip():
            return
        self.elements.append(Element(kind, text))

    def _verbatim_line(self, line: str) -> None:
        if _END.match(line):
            self._verbatim = False
            self.flush()
        else:
            self._held.append([line.removeprefix(",")])

    def _keyword(self, name: str, value: str) -> None:
        self.flush()
        if name == "caption":
            self.elements.append(Element("text", inline(value)))
        elif value and name in self.facts and name in ("title", "author"):
            self.facts[name] += " " + value
        else:
            self.facts.setdefault(name, value)

    def _text_line(self, line: str) -> None:
        stripped = line.lstrip()
        if not stripped or re.fullmatch("-{5,}", stripped):
            self.flush()
            return
        kind: ElementKind
        if stripped.startswith("|"):
            kind = "table"
        elif stripped.startswith(": ") or stripped == ":":
            kind, line = "code", stripped[2:]
        elif _BULLET.match(line):
            kind = "list"
        elif self._kind == "list" and self._held and line[0].isspace():
            self._held[-1].append(line)
            return
        else:
            kind = "text"
        if kind != self._kind:
            self.flush()
            self._kind = kind
        self._held.append([line])


def inline(text: str) -> str:
    """Return the words without links' addresses and marks of emphasis."""
    if "[[" in text:
        text = _LINK.sub(lambda found: found[2] or found[1], text)
    return _EMPHASIS.sub(r"\2", text)


def _margin(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _row(line: str) -> str:
    return " | ".join(inline(cell.strip()) for cell in line.strip().strip("|").split("|"))
