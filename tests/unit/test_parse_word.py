"""A Word document yields what its printed page shows, and nothing that was deleted or hidden."""

from __future__ import annotations

import io
import zipfile

import pytest

from workers.errors import DocumentCorrupt, DocumentHostile
from workers.indexing.parse.word import read_docx

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
STYLES = (
    '<w:style w:type="paragraph" w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Own"><w:name w:val="Chapter"/><w:basedOn w:val="berschrift1"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Titel"><w:name w:val="Title"/></w:style>'
)
OFF = '<w:vanish w:val="0"/>'
TOP = '<w:vMerge w:val="restart"/>'


def word(body: str, **parts: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        relations = "".join(
            f'<Relationship Id="r{n}" Type="{OFFICE}/{name.rstrip("12")}" Target="{name}.xml"/>'
            for n, name in enumerate(["styles", *parts])
        )
        file.writestr("[Content_Types].xml", "<Types/>")
        file.writestr("word/document.xml", f"<w:document {W}><w:body>{body}</w:body></w:document>")
        file.writestr("word/_rels/document.xml.rels", f"<Relationships>{relations}</Relationships>")
        file.writestr("word/styles.xml", f"<w:styles {W}>{STYLES}</w:styles>")
        for name, content in parts.items():
            file.writestr(f"word/{name}.xml", f"<w:root {W}>{content}</w:root>")
    return made.getvalue()


def p(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr>{r(text)}</w:p>"


def r(text: str, properties: str = "") -> str:
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def found(body: str, **parts: str) -> list[tuple[str, str]]:
    return [(e.kind, e.text) for e in read_docx(word(body, **parts), "a.docx").elements]


def test_headings_are_found_by_built_in_styles_in_any_language_and_by_what_is_based_on_them():
    body = (
        p("One", '<w:pStyle w:val="Titel"/>')
        + p("Two", '<w:pStyle w:val="Own"/>')
        + p("x", '<w:outlineLvl w:val="2"/>')
    )

    elements = read_docx(word(body), "a.docx").elements

    assert [(e.kind, e.level) for e in elements] == [("heading", 1), ("heading", 1), ("heading", 3)]


def test_tracked_insertions_are_text_and_deletions_are_not():
    body = f"<w:p>{r('kept ')}<w:ins>{r('added')}</w:ins><w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"

    assert found(body) == [("text", "kept added")]


def test_footnotes_and_comments_follow_their_paragraph():
    body = (
        f"<w:p>{r('See')}<w:r><w:footnoteReference w:id='2'/></w:r><w:r><w:commentReference w:id='0'/></w:r></w:p>"
        + p("Next.")
    )
    separator = f"<w:footnote w:type='separator' w:id='0'>{p('-')}</w:footnote>"
    notes = f"{separator}<w:footnote w:id='2'>{p('The source.')}</w:footnote>"
    comments = f"<w:comment w:id='0' w:author='Ada'>{p('Is it so?')}</w:comment>"

    assert found(body, footnotes=notes, comments=comments) == [
        ("text", "See[2]"),
        ("text", "[2] The source."),
        ("text", "Comment by Ada: Is it so?"),
        ("text", "Next."),
    ]


def test_text_boxes_and_content_controls_are_read_once():
    box = f"<w:txbxContent>{p('boxed')}</w:txbxContent>"
    twice = f"<AlternateContent><Choice>{box}</Choice><Fallback>{box}</Fallback></AlternateContent>"
    body = (
        f"<w:p>{r('before')}<w:r>{twice}</w:r></w:p>"
        f"<w:sdt><w:sdtPr/><w:sdtContent>{p('controlled')}</w:sdtContent></w:sdt>"
    )

    assert found(body) == [("text", "before"), ("text", "boxed"), ("text", "controlled")]


def test_hidden_text_and_field_codes_are_left_out():
    body = (
        f"<w:p>{r('seen')}{r(' hidden', '<w:vanish/>')}{r(' shown', OFF)}"
        "<w:r><w:instrText>HYPERLINK x</w:instrText></w:r></w:p>"
    )

    assert found(body) == [("text", "seen shown")]


def cell(text: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{p(text)}</w:tc>"


def test_tables_keep_rows_and_columns_also_where_cells_are_merged_or_missing():
    body = (
        f"<w:tbl><w:tr>{cell('Name')}{cell('Town')}</w:tr>"
        f"<w:tr>{cell('Ada', TOP)}{cell('London')}</w:tr>"
        f"<w:tr>{cell('not shown', '<w:vMerge/>')}{cell('Paris')}</w:tr>"
        f"<w:tr><w:trPr><w:gridBefore w:val='1'/></w:trPr>{cell('Rome')}</w:tr>"
        f"<w:tr><w:trPr><w:del/></w:trPr>{cell('deleted row')}</w:tr></w:tbl>"
    )

    assert found(body) == [("table", "Name | Town\nAda | London\n | Paris\n | Rome")]


def test_a_table_of_one_cell_is_a_frame_around_its_text():
    assert found(f"<w:tbl><w:tr><w:tc>{p('One.')}{p('Two.')}</w:tc></w:tr></w:tbl>") == [
        ("text", "One."),
        ("text", "Two."),
    ]


def test_lists_are_indented_by_their_depth_and_pages_are_counted_where_word_left_marks():
    item = '<w:numPr><w:ilvl w:val="1"/><w:numId w:val="3"/></w:numPr>'
    body = p("item", item) + "<w:p><w:r><w:lastRenderedPageBreak/></w:r></w:p>" + p("second page")

    elements = read_docx(word(body), "a.docx").elements

    assert [(e.kind, e.text, e.page) for e in elements] == [("list", "  - item", 1), ("text", "second page", 2)]


def test_headers_and_footers_are_marked_and_told_once():
    assert found(p("Body."), header1=p("Head"), header2=p("Head"), footer1=p("Foot")) == [
        ("header", "Head"),
        ("text", "Body."),
        ("footer", "Foot"),
    ]


def test_a_document_without_its_main_part_says_so():
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("word/other.xml", "<x/>")

    with pytest.raises(DocumentCorrupt, match="main part"):
        read_docx(made.getvalue(), "a.docx")


def test_a_document_nested_without_end_is_refused():
    with pytest.raises(DocumentHostile, match="nested"):
        read_docx(word("<w:tbl><w:tr><w:tc>" * 2000), "a.docx")
