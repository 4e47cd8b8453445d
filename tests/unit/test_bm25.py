"""Words become token ids: Qdrant's own, those of the text's language, and those of compounds."""

from __future__ import annotations

import re
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_edge import Bm25, Bm25Config, Language, StopwordsSet

from workers.adapters import bm25, language
from workers.adapters.bm25 import document_vector, languages_of, search_vector, spaced_words
from workers.adapters.language import language_of
from workers.adapters.stop_words import STOP_WORDS
from workers.indexing.chunk import ChunkOptions, embedded_text
from workers.indexing.cut import TOGETHER, cut
from workers.indexing.values import DocumentMetadata, Element, Parsed
from workers.query.words import Terms

TEXTS = {
    "english": "The court has found that the notice was not given in time and it is void.",
    "german": "Das Gericht hat festgestellt, dass die Kündigung nicht rechtzeitig war und sie ist unwirksam.",
    "spanish": "El tribunal ha declarado que la notificación no fue hecha a tiempo y es nula para los efectos.",
    "french": "Le tribunal a jugé que la notification n'a pas été faite dans les délais et elle est nulle.",
    "russian": "Суд установил, что уведомление не было вручено вовремя.",
    "arabic": "قضت المحكمة بأن الإشعار لم يقدم في الوقت المناسب",
}


LISTED = {word for words in STOP_WORDS.values() for word in words.split()}


@pytest.mark.parametrize("name", TEXTS)
def test_the_language_of_a_sentence_is_told_by_its_small_words(name):
    assert language_of(TEXTS[name]) == name


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("abzAXZé09 \t\n\x1c.,_-'/(日")))
def test_the_short_ways_find_the_words_and_names_that_the_patterns_find(text):
    joint = re.compile("[._-]|[a-z][A-Z]|[A-Z]{2}[a-z]{3}")
    names = re.findall(r"[^\W_]+(?:[._-][^\W_]+)*", text)

    assert language._words(text.lower()) == language._LETTERS.findall(text.lower())
    assert bm25._compounds(text) == [n for n in names if len(n) <= bm25.LONGEST_WORD and joint.search(n)]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*sorted(LISTED), *STOP_WORDS["english"].split() * 9, "boiler", "Код"]), max_size=40))
def test_a_text_is_in_another_language_when_its_language_is_told_and_is_not_english(words):
    told = language_of(" ".join(words))

    assert language.other_language_of(" ".join(words)) == (None if told == "english" else told)


@settings(max_examples=300, deadline=None)
@given(st.from_regex(r"[a-zA0-9é中]+([._-][a-zA0-9é中]+)+", fullmatch=True))
def test_the_short_way_gives_a_compound_the_forms_that_the_patterns_give_it(name):
    assert bm25._other_forms(name) == bm25._cased_forms(name)


def test_a_stop_word_is_one_in_the_languages_in_which_the_engine_ignores_it_and_in_no_other():
    engines = {name: Bm25(Bm25Config(language=name)) for name in STOP_WORDS}
    ignored = {w: [name for name, one in engines.items() if not one.embed_query(w).indices] for w in LISTED}

    assert ignored == {w: [name for name, words in STOP_WORDS.items() if w in words.split()] for w in LISTED}


def test_no_stop_word_that_differs_from_a_listed_one_in_a_letter_is_missing():
    languages = {getattr(Language, name.capitalize()) for name in STOP_WORDS}
    anybodys = Bm25(Bm25Config(stopwords=StopwordsSet(languages=languages, custom=None)))
    shorter = {w[:place] + w[place + 1 :] for w in LISTED for place in range(len(w))} - {""}
    endings = {w[:-1] + letter for w in LISTED for letter in "adeghiklmnorstuy"}
    longer = {w + letter for w in LISTED for letter in "adeghiklmnorstuy"}

    assert [w for w in (shorter | endings | longer) - LISTED if not anybodys.embed_query(w).indices] == []


def test_the_shares_of_a_vote_add_up_to_it_in_whatever_order_they_come():
    assert all(language._VOTE % count == 0 for count in range(1, len(language._LATIN) + 1))


@pytest.mark.parametrize("text", ["", "4711", "boiler code", "ABC-17", "发票金额", "def main(): return 0"])
def test_where_small_words_do_not_tell_there_is_no_language(text):
    assert language_of(text, question=True) is None


@pytest.mark.parametrize("text", [*TEXTS.values(), "getUserName(max_retries) e-mail 4711 Node.js", "发票金额 total"])
def test_a_stored_text_has_every_token_that_qdrant_infers_for_its_words(text):
    spaced = "".join(" " if "\u4e00" <= letter <= "\u9fff" else letter for letter in text)

    assert set(Bm25().embed_document(spaced).indices) <= set(document_vector(text).indices)


def test_every_piece_of_a_long_document_has_its_own_words():
    several = [*TEXTS.values(), "发票金额 total", "getUserName(max_retries)"]
    elements = tuple(Element("text", f"{text} {number} " * 9) for number in range(8) for text in several)

    parts = cut(Parsed(elements, DocumentMetadata()), ChunkOptions()).pieces
    alone = [document_vector(embedded_text(part.heading, part.content)) for part in parts]

    assert len(parts) > TOGETHER
    assert [part.words for part in parts] == [(array("I", each.indices), array("f", each.values)) for each in alone]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("Welche Kündigungen waren unwirksam?", TEXTS["german"]),
        ("¿Qué notificaciones fueron declaradas nulas?", TEXTS["spanish"]),
        ("user name", "def getUserName(self):"),
        ("maxRetries", "MAX_RETRIES = 3"),
        ("email", "Send an e-mail."),
        ("e-mail", "Send an email."),
        ("nodejs", "Node.js 22"),
        ("HTTP server", "class HTTPServer"),
    ],
)
def test_a_query_finds_other_forms_of_its_words(query, text):
    asked, stored = search_vector(query), set(document_vector(text).indices)

    assert any(token in stored for token in asked.indices)
    assert Terms(query).highlights(text) or "Server" in text or "_" in text or "." in text or "-" in text


def test_a_word_with_two_stems_counts_once():
    vector = search_vector("Welche Kündigungen sind unwirksam?")

    assert sum(vector.values) == pytest.approx(2.0)  # Kündigungen, unwirksam; the others are stop words


def test_a_query_that_does_not_tell_its_language_takes_those_of_the_index():
    assert languages_of("Kündigungen") == ()
    assert languages_of("Kündigungen", ("english", "german")) == ("german",)
    assert set(search_vector("Kündigungen", ("german",)).indices) & set(document_vector(TEXTS["german"]).indices)


def test_a_query_of_stop_words_only_still_asks_for_something_where_it_can():
    assert search_vector("und oder aber") == search_vector("und oder aber", ("german",))
    assert search_vector("the of and").indices == []


def test_what_a_text_lacks_of_a_query_is_told():
    terms = Terms("Which notices are void and which are cheap?")

    assert terms.matched(TEXTS["english"]) == ["notices", "void"]
    assert terms.missing(TEXTS["english"]) == ["Which", "cheap"] or terms.missing(TEXTS["english"]) == ["cheap"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("two_words and 4711", ["two", "words", "and", "4711"]),
        ("Kündigung, é", ["Kündigung", "é"]),
        ("Ku\u0308ndigung e\u0301", ["Ku\u0308ndigung", "e\u0301"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("发票 invoice 发票", ["invoice"]),
        ("…", []),
    ],
)
def test_a_word_has_its_letters_and_marks_and_its_place_in_the_text(text, words):
    found = list(spaced_words(text))

    assert [match.group() for match in found] == words
    assert [text[slice(*match.span())] for match in found] == words
