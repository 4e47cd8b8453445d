"""Whether a question is answered at all: what the signs say, and that each of them counts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.support.answering import Index, ask
from workers.adapters.bm25 import document_vector, word_ids
from workers.query.relevance import Passage, Signs, Weights, ahead, means_the_same, nearness
from workers.query.words import Terms

LIKELY = {
    "cover": 0.95,
    "sentence": 0.8,
    "phrases": 0.8,
    "near": 0.5,
    "ahead_in_words": 0.15,
    "ahead_in_meaning": 0.1,
}
UNLIKELY = {
    "cover": 0.6,
    "sentence": 0.45,
    "phrases": 0.2,
    "near": 0.35,
    "ahead_in_words": 0.02,
    "ahead_in_meaning": 0.01,
}


def tokens(text):
    vector = document_vector(text)
    return dict(zip(vector.indices, vector.values, strict=True))


def weights(question, rarity=2.0):
    terms = Terms(question)
    return Weights(terms.forms, dict.fromkeys(terms.ids, rarity), 100)


@pytest.mark.parametrize("unknown", [(), ("near", "ahead_in_meaning"), ("ahead_in_words", "ahead_in_meaning")])
def test_likely_signs_answer_and_unlikely_ones_refuse_whatever_could_be_told(unknown):
    left_out = dict.fromkeys(unknown)

    assert Signs(**(LIKELY | left_out)).confidence > 0.5 > Signs(**(UNLIKELY | left_out)).confidence


@pytest.mark.parametrize("name", LIKELY)
def test_every_sign_makes_an_answer_likelier(name):
    assert Signs(**(UNLIKELY | {name: LIKELY[name]})).confidence > Signs(**UNLIKELY).confidence


def test_what_many_documents_touch_on_sets_none_of_them_apart():
    question = "What is the boiler code?"
    halls = ("north", "south", "east")
    about = Passage("a", tokens("The boiler code is 4711."), 0.6)
    others = [Passage(hall, tokens(f"The boiler in hall {hall} was serviced."), 0.5) for hall in halls]
    alike = [Passage(hall, tokens(f"The boiler of hall {hall} keeps its code secret."), 0.58) for hall in halls]

    words, meaning = ahead([about, *others], weights(question))
    words_alike, meaning_alike = ahead([about, *alike], weights(question))

    assert words is not None
    assert words_alike is not None
    assert words > words_alike > 0
    assert (meaning, meaning_alike) == (pytest.approx(0.1), pytest.approx(0.02))


def test_versions_of_the_best_passage_and_its_neighbours_are_no_rivals():
    question = "What is the boiler code?"
    best = Passage("a", tokens("The boiler code is 4711, and Meyer Heating has the key to the cellar."), 0.6)
    version = Passage("b", tokens("The boiler code is 4712, and Meyer Heating has the key to the cellar."), 0.6)
    neighbour = Passage("a", tokens("The hedge is cut in June."), 0.5)

    assert ahead([best, version, neighbour], weights(question)) == (None, None)
    assert ahead([], weights(question)) == (None, None)


def test_a_rival_without_a_vector_says_nothing_about_meaning():
    rivals = [Passage("a", tokens("The boiler code is 4711."), 0.6), Passage("b", tokens("The hedge is cut in June."))]

    words, meaning = ahead(rivals, weights("What is the boiler code?"))

    assert words is not None
    assert words > 0
    assert meaning is None


@pytest.mark.parametrize(
    ("question", "text", "held"),
    [
        ("What is the cause of death?", "Pneumonia is the cause of death.", {"cause", "death"}),
        ("What is the cause of death?", "His death had another cause.", set()),
        ("Was ist die Ursache des Brandes?", "Die Ursache des Brandes ist unbekannt.", {"ursache", "brandes"}),
        ("boiler", "A boiler.", {"boiler"}),
    ],
)
def test_words_count_as_a_phrase_beside_the_neighbour_that_they_have_in_the_question(question, text, held):
    terms = Terms(question, ("german",))

    found = terms.in_phrases(text, tokens(text))

    assert found == terms.ids & {token for word in held for token in tokens(word)}


def test_words_of_a_script_without_spaces_count_where_they_stand():
    terms = Terms("锅炉的代码是什么？")
    text = "锅炉的代码是4711。"

    assert terms.in_phrases(text, tokens(text)) == terms.ids & tokens(text).keys() != frozenset()


def test_nearness_is_nought_for_what_is_unrelated_and_one_for_the_question_itself():
    question, other = np.array([1.0, 0.0]), np.array([0.8, 0.6])

    assert nearness(question, 0.8, [other]) == pytest.approx(0.0)
    assert nearness(question, 1.0, [other]) == pytest.approx(1.0)


def test_in_a_handful_of_chunks_a_word_that_is_not_there_weighs_as_in_a_bigger_index():
    terms = Terms("Which formats does Upwell read?")
    held = {token for word in ("upwell", "read") for token in tokens(word)}

    def cover(points, held_by):
        rarity = dict.fromkeys(held, math.log((points + 1) / (held_by + 0.5)))  # as Qdrant has it
        return Weights(terms.forms, rarity, points).coverage(held)

    assert cover(5, held_by=5) > 0.5
    assert cover(5, held_by=5) == pytest.approx(cover(100, held_by=5))
    assert cover(100_000, held_by=100_000) < 0.1


def test_a_word_that_no_chunk_has_is_the_rarest_even_when_the_index_has_grown_since_it_was_counted():
    terms = Terms("Which formats does Upwell read?")
    rarity = dict.fromkeys((token for word in ("upwell", "read") for token in tokens(word)), 6.0)

    assert Weights(terms.forms, rarity, 0).coverage(rarity) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("heading", "answered"), [("Manual > How to leave files out", True), ("Manual", False)])
def test_a_sentence_says_what_its_heading_promises(heading, answered):
    index = Index("List them in .upwellignore.", "The pump in hall north was serviced.")
    index.chunks[0].metadata["heading"] = heading

    answer = ask(index, query="How do I leave files out of the list?")

    assert answer["refused"] is not answered
    assert (".upwellignore" in answer["answer"]) is answered


@pytest.mark.parametrize(
    ("other", "close", "same"),
    [
        ("Der Aufzug ist bis Freitag gesperrt.", 0.45, False),
        ("Der Aufzug ist bis Freitag gesperrt.", 0.6, True),
        ("电梯停用到星期五。", 0.45, True),
        ("المصعد متوقف حتى يوم الجمعة.", 0.45, True),
        ("المصعد متوقف حتى يوم الجمعة.", 0.35, False),
    ],
)
def test_a_translation_into_another_script_may_be_farther_away(other, close, same):
    class Plane:
        def passages(self, texts):
            return [np.array([1.0, 0.0]), np.array([close, math.sqrt(1 - close**2)])]

        def landmarks(self):
            return [np.array([0.0, 1.0])]

    assert means_the_same("The lift is out of service until Friday.", other, Plane()) is same


def test_a_question_whose_words_many_documents_share_is_refused():
    pumps = [f"The pump in hall {name} was serviced by the {name} crew." for name in ("north", "south", "east", "west")]

    assert ask(Index(*pumps), query="What did the new pump in the cellar cost?")["refused"]
    assert not ask(Index("The new pump in the cellar cost 900 euros.", *pumps), query="What did the new pump cost?")[
        "refused"
    ]


@pytest.mark.parametrize(
    "question",
    [
        "What does pump-manual.pdf say about the weekly service?",
        "In the pump manual, how long does the weekly service take?",
        "How long does the weekly service take (PumpManual)?",
    ],
)
def test_a_question_may_name_the_file_whose_text_does_not_say_its_name(question):
    index = Index("The weekly service takes twenty minutes.", "The lift was serviced in May.")
    before = ask(index, query=question)["confidence"]
    index.chunks[0].metadata["path"] = "house/pump-manual.pdf"

    answer = ask(index, query=question)

    assert "twenty minutes" in answer["answer"]
    assert answer["confidence"] > before


def test_the_name_of_a_file_alone_answers_nothing():
    index = Index("The weekly service takes twenty minutes.")
    index.chunks[0].metadata["path"] = "pump-manual.pdf"

    for question in ("pump manual?", "Who wrote the pump manual?", "What does the pump manual say about the boiler?"):
        assert ask(index, query=question)["refused"]


def test_what_counts_of_a_name_is_what_the_text_does_not_say():
    terms = Terms("How many manual pumps are there?")
    asked = Weights(terms.forms, dict.fromkeys(terms.ids, 2.0), 100)

    assert terms.place("a folder of pumps/manual.md") == set(word_ids("manual"))
    assert asked.coverage(tokens("pumps"), terms.place("manual.md")) > asked.coverage(tokens("pumps"))
    assert asked.coverage(tokens("manual pump"), terms.place("manual.md")) == asked.coverage(tokens("manual pump"))


@pytest.mark.parametrize(
    ("question", "language", "asking"),
    [
        ("What does the contract say about rent?", "english", {"say"}),
        ("Wer hat die Mauer gebaut und wann?", "german", {"Wer", "wann"}),
        ("¿Cuándo y dónde se firmó el tratado de la paz?", "spanish", {"Cuándo", "dónde"}),
        ("Почему закрыли завод и кто это решил?", "russian", {"Почему", "кто"}),
        ("لماذا أغلق المصنع في المدينة؟", "arabic", {"لماذا"}),
    ],
)
def test_a_word_that_only_asks_is_not_missed_in_what_answers(question, language, asking):
    terms = Terms(question, (language,))

    assert not asking & set(terms.missing("Xyz"))
    assert len(terms.forms) == len(terms.missing("Xyz"))


def test_a_question_of_words_that_ask_alone_looks_for_them():
    assert Terms("Wer? Wann?", ("german",)).missing("Xyz") == ["Wer", "Wann"]


def test_search_looks_for_a_word_that_only_asks():
    assert Terms("Wer hat die Mauer gebaut?", ("german",)).ids >= set(word_ids("wer", ("german",)))


def test_where_it_is_open_which_language_a_question_is_in_no_word_only_asks():
    assert Terms("wer Rossi", ("german", "italian")).missing("Xyz") == ["wer", "Rossi"]
    assert Terms("wer Rossi", ("german",)).missing("Xyz") == ["Rossi"]


@pytest.mark.parametrize(
    ("question", "language", "text", "kin"),
    [
        ("Wer leitet die Verteidigung?", "german", "Er leitet die Verteidigungslinie.", {"Verteidigung"}),
        ("Wo steht das Rathaus?", "german", "Die Rathäuser brannten.", set()),  # another vowel is another word
        ("Wann sprang das Motorboot an?", "german", "Der Motor sprang an.", {"Motorboot"}),
        ("¿Por qué hubo desempleo en la ciudad?", "spanish", "El empleo era poco.", {"desempleo"}),
        ("Was tat er im Amt?", "german", "Das Amtsblatt.", set()),  # too short to be anything's beginning
        ("Where is the defence line?", "english", "The defences stood.", set()),
    ],
)
def test_parts_and_endings_of_words_count_outside_of_english(question, language, text, kin):
    terms = Terms(question, (language,))

    found = terms.kin(text) - {token for word in terms.matched(text) for token in word_ids(word, (language,))}

    assert found == {token for word in kin for token in word_ids(word, (language,))}
