"""markdown-it, which takes short ways where a text has nothing that CommonMark knows.

Most of what is written in Markdown is paragraphs, and most signs in them mean nothing: ``max_retries``, ``2 * 3`` or
``[1]``.  What has no meaning is not taken apart; a test compares with the parser as it comes.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.common.utils import MD_TRIM_CHARS
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

# The signs come first and what must stand around them afterwards: so the search for them does not stop at each letter.
_ALWAYS = (
    r"(?<=\\)(?=[!-/:-@\[-`{-~\n ])"  # before a space as well: at the end of a line that is kept
    r"|(?<=~)(?=~)|(?<=<)(?=\S)|(?<=&)(?=[#\w])"
)
_STAR = r"(?:(?<=[^ ]\*)|(?<=\*)(?=[^ ]))"
_LOW_LINE = r"(?:(?<=_)(?![^\W_])|(?<=_)(?<![^\W_]_))"
_STOPS = re.compile(rf"[\n\\`*_~\[\]!<&](?:(?<=[\n`\[\]])|{_ALWAYS}|(?<=!)(?=\[)|{_STAR}|{_LOW_LINE})")
"""Where something inside a paragraph may begin or end.  The parser's own set also has what extensions may want."""
_MARKS = rf"{_ALWAYS}|{_STAR}(?=[^*]*\*)"
_MARKED = re.compile(rf"[\\*~<&\]](?:{_MARKS}|(?<=\])(?=\())")
"""In a text where nothing is found, every sign but ` and _ stands for itself: what comes in pairs is there once."""
_MARKED_OR_NAMED = re.compile(rf"[\\*~<&\[](?:{_MARKS}|(?<=\[))")
"""The same where links have been given names."""
_OPENING = re.compile(r"(?<!\w)_++(?=[^ \n])")
_CLOSING = re.compile(r"(?<=[^ \n_])_++(?!\w)")
"""Runs of low lines that may begin emphasis, and that may end it; each is looked at once, however long it is."""
_TICKS = re.compile("`+")
_BREAK = re.compile(r"( *)\n[ \t]*")


def parser() -> MarkdownIt:
    """Return a parser of CommonMark with tables.

    An ``inline`` token has no children where its content has no marks, and paragraphs need have no tokens around it.
    """
    made = MarkdownIt("commonmark", {"html": True, "maxNesting": 40}).enable(["table", "strikethrough"])
    made.inline.terminator_re = _STOPS
    made.core.ruler.at("normalize", _normalize)
    made.core.ruler.at("inline", _inline)
    made.block.ruler.before("table", "prose", _prose)
    made.disable(["text_join", "fragments_join"])  # `text_of` joins
    return made


def text_of(token: Token) -> str:
    """Return what an ``inline`` token says."""
    if not token.children:
        return _in_lines(token.content)
    parts: list[str] = []
    for child in token.children:
        if child.type in ("text", "text_special", "code_inline", "image"):
            parts.append(child.content)
        elif child.type == "softbreak":
            parts.append(" ")
        elif child.type == "hardbreak" or (child.type == "html_inline" and child.content.startswith("<br")):
            parts.append("\n")
    return "".join(parts)


def _in_lines(text: str) -> str:
    return _BREAK.sub(_broken, text) if "\n" in text else text


def _broken(line_end: re.Match[str]) -> str:
    """Two spaces before the end of a line keep it; else it is a space, as CommonMark has it."""
    return "\n" if len(line_end[1]) > 1 else " "


def _normalize(state: StateCore) -> None:
    state.src = state.src.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")


def _inline(state: StateCore) -> None:
    marked = _MARKED_OR_NAMED if state.env.get("references") else _MARKED
    for token in state.tokens:
        if token.type != "inline":
            continue
        text = token.content
        parts = _around_code(text) if "`" in text else [text]
        if _has_signs(text) and (marked.search(around := "`".join(parts[::2])) or _emphasised(around)):
            token.children = []
            state.md.inline.parse(text, state.md, state.env, token.children)
        elif len(parts) > 1:
            parts[::2] = map(_in_lines, parts[::2])
            token.children = [Token("text", "", 0, content="".join(parts))]


def _has_signs(text: str) -> bool:
    """Tell whether a text has what `_MARKED` begins with: in a twentieth of the time that a pattern takes."""
    return "*" in text or "_" in text or "]" in text or "<" in text or "&" in text or "\\" in text or "~" in text


def _emphasised(text: str) -> bool:
    """Tell whether low lines may mean emphasis: one that can begin it stands before one that can end it."""
    opening = _OPENING.search(text) if "_" in text else None
    return opening is not None and _CLOSING.search(text, opening.end()) is not None


def _around_code(text: str) -> list[str]:
    """Return what is around and what is in the code spans of a text without other marks, in turn."""
    runs = _TICKS.findall(text)
    if len(runs) % 2 == 0 and len(set(runs)) == 1:
        parts = text.split(runs[0])
        parts[1::2] = map(_code, parts[1::2])
        return parts
    return _around_runs(text)


def _around_runs(text: str) -> list[str]:
    runs = [run.span() for run in _TICKS.finditer(text)]
    last = {end - start: number for number, (start, end) in enumerate(runs)}
    parts: list[str] = []
    at = number = 0
    while number < len(runs):
        start, end = runs[number]
        if last[end - start] > number:
            number += 1
            while runs[number][1] - runs[number][0] != end - start:
                number += 1
            parts += [text[at:start], _code(text[end : runs[number][0]])]
            at = runs[number][1]
        number += 1
    return [*parts, text[at:]]


def _code(text: str) -> str:
    text = text.replace("\n", " ")
    padded = text.startswith(" ") and text.endswith(" ") and text.strip(" ")
    return text[1:-1] if padded else text


def _prose(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Take headings marked with # and paragraphs whose lines begin with letters, as many as follow one another.

    Neither can a letter begin another block, nor turn the line before it into a heading or a table.  Inside of a list
    or a quotation only one line is taken, with an empty one behind it: there the next may belong to something else.
    """
    if silent:
        return False
    if state.level or state.blkIndent:
        alone = start + 1 >= end or state.isEmpty(start + 1)
        after = _paragraph(state, start, start + 1) if alone else start
    else:
        line = after = start
        while line < end:
            after = (
                _heading(state, line) if state.src.startswith("#", state.bMarks[line]) else _paragraph(state, line, end)
            )
            if after == line:
                break
            line = after = state.skipEmptyLines(after)
    state.line = after
    return after > start


def _heading(state: StateBlock, line: int) -> int:
    """Return the line after a heading that begins and does not end with #; the same line where there is none."""
    text = state.src[state.bMarks[line] : state.eMarks[line]].rstrip(" \t")
    level = len(text) - len(text.lstrip("#"))
    if level > 6 or text.endswith("#") or text[level] not in " \t" or _begins(state, line + 1, "|-:"):
        return line  # with a line of | - : below it may be the head of a table
    state.tokens.append(Token("heading_open", f"h{level}", 1, block=True))
    _push(state, text[level:])
    return line + 1


def _begins(state: StateBlock, line: int, signs: str) -> bool:
    begin = state.bMarks[line] + state.tShift[line]
    return begin < state.eMarks[line] and state.src[begin] in signs


def _paragraph(state: StateBlock, start: int, end: int) -> int:
    """Return the line after a paragraph of letters; the same line where there is none."""
    line = start
    while line < end and (begin := state.bMarks[line] + state.tShift[line]) < state.eMarks[line]:
        if state.sCount[line] - state.blkIndent > 3 or not state.src[begin].isalpha():
            return start
        line += 1
    if line > start:
        _push(state, state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[line - 1]])
    return line


def _push(state: StateBlock, text: str) -> None:
    state.tokens.append(Token("inline", "", 0, content=text.strip(MD_TRIM_CHARS), children=[], block=True))
