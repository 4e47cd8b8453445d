"""The ruler of the retrieval comparison: when has a text found the place that answers a question?"""

from __future__ import annotations

from tests.bench.beir import Places

TEXT = "The lease begins in May.\n\nIt ends after two years, or earlier by notice.\nRent is due monthly."


def place_of(words: str) -> tuple[int, int]:
    start = TEXT.index(words)
    return start, start + len(words)


def test_a_text_that_has_half_of_the_place_has_found_it():
    places = Places(TEXT)
    span = place_of("It ends after two years")

    assert places.has("begins in May. It ends after two", [span])
    assert not places.has("The lease begins in May. It ends", [span])


def test_white_space_that_a_parser_changed_does_not_matter():
    assert Places(TEXT).has(
        "It ends  after\ntwo years,\nor earlier by notice. Rent", [place_of("or earlier by notice")]
    )


def test_one_of_several_places_is_enough():
    assert Places(TEXT).has("Rent is due", [place_of("The lease begins"), place_of("Rent is due monthly")])


def test_a_text_with_something_repeated_before_it_must_have_the_whole_place():
    repeated = "Rent is due monthly.\nIt ends after two years"

    assert Places(TEXT).has(repeated, [place_of("after two years")])
    assert not Places(TEXT).has(repeated, [place_of("or earlier by notice")])


def test_nothing_finds_nothing():
    assert not Places(TEXT).has(" \n", [place_of("Rent")])
