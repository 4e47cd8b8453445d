"""Boundaries are local: what is not edited keeps its chunks."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.indexing.chunk import ChunkOptions, _sentences, chunk, embedded_text
from workers.indexing.values import DocumentMetadata, Element, Parsed

OPTIONS = ChunkOptions()


def parsed(*elements: Element) -> Parsed:
    return Parsed(elements, DocumentMetadata())


def text(*paragraphs: str) -> Parsed:
    return parsed(*(Element("text", paragraph) for paragraph in paragraphs))


def ids(document: Parsed, options: ChunkOptions = OPTIONS) -> set[str]:
    return {piece.id for piece in chunk("d", document, options)}


def prose(seed: int, paragraphs: int) -> list[str]:
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklm", k=draw.randint(2, 9))) for _ in range(800)]

    def sentence() -> str:
        return " ".join(draw.choices(words, k=draw.randint(5, 25))).capitalize() + "."

    return [" ".join(sentence() for _ in range(draw.randint(2, 8))) for _ in range(paragraphs)]


@settings(max_examples=500, deadline=None)
@given(st.text(st.sampled_from("ab .!?…\"'”’)]\n。！；」』\t\u00a0\x1c(")))
def test_a_sentence_ends_where_a_look_at_every_letter_says_it_does(text):
    ends = re.compile(r".*?(?:[.!?…]+[\"'”’)\]]*(?=\s)|[。！？；]+[」』”）]*|\n|\Z)\s*", re.DOTALL)

    assert _sentences(text) == [sentence for sentence in ends.findall(text) if sentence]


def test_a_short_document_is_one_chunk():
    [piece] = chunk("d", text("One.", "Two."), OPTIONS)

    assert piece.content == "One.\n\nTwo."
    assert piece.embedded_text == piece.content


def test_a_chunk_never_crosses_a_heading_and_carries_its_path():
    pieces = chunk(
        "d",
        parsed(
            Element("heading", "Book", level=1), Element("text", "Preface."),
            Element("heading", "Part", level=2), Element("text", "Story."),
            Element("heading", "Index", level=1), Element("text", "Words."),
        ),
        OPTIONS,
    )  # fmt: skip

    assert [(p.heading, p.content) for p in pieces] == [
        ("Book", "Preface."),
        ("Book > Part", "Story."),
        ("Index", "Words."),
    ]
    assert pieces[1].embedded_text == embedded_text("Book > Part", "Story.")


def test_the_title_of_a_slide_does_not_reach_the_next_slide():
    facts = DocumentMetadata(filetype="application/vnd.openxmlformats-officedocument.presentationml.presentation")
    slides = (
        Element("heading", "Plan", level=1, page=1),
        Element("text", "First.", page=1),
        Element("text", "Second.", page=2),
    )

    assert [(p.heading, p.content) for p in chunk("d", Parsed(slides, facts), OPTIONS)] == [
        ("Plan", "First."),
        (None, "Second."),
    ]


def test_a_document_of_headings_only_is_still_found():
    [piece] = chunk("d", parsed(Element("heading", "Alone", level=1)), OPTIONS)

    assert piece.content == "Alone"


def test_a_document_without_any_text_has_no_chunks():
    assert chunk("d", parsed(), OPTIONS) == []


def test_each_chunk_of_a_long_table_repeats_its_header():
    rows = "\n".join(f"{n} | name {n} | town {n}" for n in range(300))
    pieces = chunk("d", parsed(Element("table", f"id | name | town\n{rows}")), OPTIONS)

    assert len(pieces) > 5
    assert all(piece.content.startswith("id | name | town\n") for piece in pieces)
    assert all(len(piece.content) <= OPTIONS.max_chars for piece in pieces)
    assert "\n".join(p.content.removeprefix("id | name | town\n") for p in pieces) == rows


def test_a_chunk_knows_the_page_it_starts_on():
    pieces = chunk("d", parsed(Element("text", "First.", page=1), Element("text", "x" * 3000, page=2)), OPTIONS)

    assert pieces[0].page == 1
    assert pieces[-1].page == 2


def test_equal_chunks_are_numbered():
    elements = [e for _ in range(3) for e in (Element("heading", "Same", level=1), Element("text", "Same."))]
    pieces = chunk("d", parsed(*elements), OPTIONS)

    assert [piece.occurrence for piece in pieces] == [0, 1, 2]
    assert len({piece.id for piece in pieces}) == 3


@pytest.mark.parametrize("change", ["edit", "insert", "delete", "insert at the top"])
@pytest.mark.parametrize("seed", range(10))
def test_a_change_in_a_long_section_without_headings_makes_at_most_three_new_chunks(change, seed):
    before = prose(seed, 300)
    after = list(before)
    place = random.Random(seed).randrange(len(before))
    match change:
        case "edit":
            after[place] = after[place].replace(".", " and more.", 1)
        case "insert":
            after.insert(place, "A new sentence comes in here.")
        case "delete":
            del after[place]
        case "insert at the top":
            after.insert(0, "A new sentence at the top.")

    assert len(ids(text(*after)) - ids(text(*before))) <= 3


WORDS = ["".join(random.Random(n).choices("abcdefghijklm", k=2 + n % 8)) for n in range(300)]
SIGNS = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏"
LONG = {
    "prose": ("text", lambda d: " ".join(d.choices(WORDS, k=12)).capitalize() + ". "),
    "lines of a list": ("list", lambda d: "- " + " ".join(d.choices(WORDS, k=6)) + "\n"),
    "rows of a table": ("table", lambda d: f"{d.randint(0, 999)} | {d.choice(WORDS)} | {d.choice(WORDS)}\n"),
    "code": ("code", lambda d: f"{'    ' * d.randint(0, 2)}{d.choice(WORDS)} = {d.choice(WORDS)}()\n"),
    "Chinese with punctuation": ("text", lambda d: "".join(d.choices(SIGNS, k=20)) + "。"),
    "Chinese without punctuation": ("text", lambda d: "".join(d.choices(SIGNS, k=30))),
    "one line of words": ("text", lambda d: d.choice(WORDS) + " "),
    "one line without spaces": ("code", lambda d: "".join(d.choices("0123456789abcdef", k=40))),
}


@pytest.mark.parametrize("name", LONG)
def test_wherever_a_long_text_of_any_kind_is_edited_at_most_three_chunks_are_new(name):
    kind, piece = LONG[name]
    draw = random.Random(name)
    before = "".join(piece(draw) for _ in range(40_000 // len(piece(draw))))
    known = ids(parsed(Element(kind, before)))
    first = before.index("\n") + 1 if kind == "table" else 0

    for _ in range(25):
        place = draw.randrange(first, len(before) - 20)
        after = draw.choice(
            [
                before[:place] + "new" + before[place:],
                before[:place] + before[place + draw.randint(1, 20) :],
                before[:first] + piece(draw) + before[first:],
                before[:place] + piece(draw) * 2 + before[place:],
            ]
        )
        assert len(ids(parsed(Element(kind, after))) - known) <= 3


def test_a_line_of_words_is_cut_between_words():
    line = " ".join(random.Random(5).choices(WORDS, k=5000))

    pieces = chunk("d", text(line), OPTIONS)

    assert [word for piece in pieces for word in piece.content.split()] == line.split()


def test_one_character_in_a_line_without_spaces_makes_at_most_three_new_chunks():
    draw = random.Random(3)
    line = "".join(draw.choices("天地玄黄宇宙洪荒日月盈昃辰宿列张", k=50_000))
    edited = line[:25_000] + "插" + line[25_000:]

    assert len(ids(text(edited)) - ids(text(line))) <= 3


@pytest.mark.parametrize(
    "line", ["a" * 300_000, "ab " * 100_000, "same line\n" * 30_000, "x.\n" * 100_000, "\n" * 50_000]
)
def test_monotonous_text_is_cut_in_linear_time_and_within_the_limit(line):
    assert all(len(piece.content) <= OPTIONS.max_chars for piece in chunk("d", text(line), OPTIONS))


blocks = st.text(alphabet="abc. \n!。", max_size=400)
kinds = st.sampled_from(["text", "list", "code", "table", "heading"])
documents = st.lists(st.tuples(kinds, blocks), max_size=12)


@given(documents, st.sampled_from([OPTIONS, ChunkOptions(100, 200, 20)]))
def test_no_character_is_lost_and_no_chunk_is_too_long(found, options):
    elements = [Element(kind, content, level=1 if kind == "heading" else None) for kind, content in found]
    pieces = chunk("d", parsed(*elements), options)

    body = "".join(e.text for e in elements if e.kind not in ("heading", "table"))
    if not any(e.kind == "table" for e in elements) and body.strip():
        assert "".join("".join(p.content for p in pieces).split()) == "".join(body.split())
    assert all(len(piece.content) <= max(options.max_chars, 1600 if not body.strip() else 0) for piece in pieces)
    assert len({piece.id for piece in pieces}) == len(pieces)
    assert [piece.id for piece in chunk("d", parsed(*elements), options)] == [piece.id for piece in pieces]
