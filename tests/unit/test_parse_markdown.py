"""Our reading of Markdown stops less often than the parser's own, and says the same."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from workers.indexing.parse import commonmark, markdown

STOCK = MarkdownIt("commonmark", {"html": True, "maxNesting": 40}).enable(["table", "strikethrough"])
# fmt: off
PIECES = [
    "a", "word ", " ", "  ", "\n", "\n\n", "\t", "*", "**", "_", "`", "``", "~~", "[", "]", "(", ")", "](", "!", "<",
    ">", "&", "&amp;", "\\", "<br>", "<b>", "#", "- ", "1. ", "|", "|-|", "{", "}", "$", "%", "@", "^", "+", "=", "--",
    ":", "é", "\u00a0", "[a]: b\n", "![x](y)", "[x](y)", "<http://a.b>", "\x0b", "\x0c", "\0", "a_b", " * ", "[a]",
    "`a`", "` a `", "\nWord ", "\n\nWord ", "\n    word ", "\n---\n", "\n===\n", "> ", "\n|-|-|\n",
    "# ", "\n# Title\n", "\n\n####### Word\n\n", "\n## Title # \n", "\n- Word\n", "\n  Word\n", "\n> Word\n\n",
    "\n1. Word\n\n", "\n# a|\n---\n", "[1]_ ", "._", "_a_",
]
# fmt: on


def said(token: Token) -> str:
    """Return what a paragraph's own children say."""
    parts = []
    for child in token.children or []:
        if child.type in ("text", "code_inline", "image"):
            parts.append(child.content)
        elif child.type == "softbreak":
            parts.append(" ")
        elif child.type == "hardbreak" or (child.type == "html_inline" and child.content.startswith("<br")):
            parts.append("\n")
    return "".join(parts)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=24).map("".join))
def test_every_paragraph_says_what_the_stock_parser_reads_in_it(text):
    ours = [commonmark.text_of(token) for token in markdown._MARKDOWN.parse(text) if token.type == "inline"]

    assert ours == [said(token) for token in STOCK.parse(text) if token.type == "inline"]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=24).map("".join))
def test_a_text_has_the_elements_that_the_stock_parser_finds(text):
    ours = list(markdown.markdown(text))

    with patch.object(markdown, "_MARKDOWN", STOCK):
        assert ours == list(markdown.markdown(text))


@pytest.mark.parametrize(
    "text",
    [
        "# a|\n---\nb",
        "# a\n|-\n",
        "# a\n: -\n",
        "# a\n---",
        "# a #\nb",
        "#\n# b",
        "- a\nb\n\nc",
        "> a\nb",
        "- # a\n\n b",
    ],
)
def test_a_line_below_may_say_what_the_line_above_is(text):
    ours = list(markdown.markdown(text))

    with patch.object(markdown, "_MARKDOWN", STOCK):
        assert ours == list(markdown.markdown(text))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("one\ntwo", "one two"),
        ("one \n  two", "one two"),
        ("one  \ntwo", "one\ntwo"),
        ("one\\\ntwo", "one\ntwo"),
        ("a - b: c = d > e (f) {g} $h", "a - b: c = d > e (f) {g} $h"),
    ],
)
def test_the_end_of_a_line_is_a_space_unless_the_writer_says_otherwise(text, read):
    assert [element.text for element in markdown.markdown(text)] == [read]
