"""Chunks in a row are one hit where they were found together; none is lost, and none is shown twice."""

from __future__ import annotations

import random

import pytest

from workers.query.passages import AS_GOOD, MOST_CHUNKS, joined, passage
from workers.query.ranking import candidates
from workers.query.values import Found


def at(index: int, score: float = 1.0, *, doc: str = "d", version: str = "1", heading: str | None = None) -> Found:
    payload = {
        "content": f"chunk {index}",
        "doc_id": doc,
        "version": version,
        "chunk_index": index,
        "metadata": {"heading": heading},
    }
    return Found(f"{doc}{version}-{index}", score, payload)


def rows(found: list[Found], nothing: float = 0.0) -> list[list[str]]:
    return [[part.id for part, _ in passage(one).parts] for one in joined(candidates(found), nothing)]


def test_chunks_in_a_row_are_one_hit_in_reading_order_where_the_best_of_them_is():
    found = [at(7, 1.0), at(2, 0.95), at(8, 0.9), at(6, 0.8)]

    assert rows(found) == [["d1-6", "d1-7", "d1-8"], ["d1-2"]]
    best = joined(candidates(found))[0]
    assert (best.found.id, best.steps[-1]) == ("d1-7", {"step": "join", "chunks": [6, 7, 8]})


@pytest.mark.parametrize("other", [at(8, doc="e"), at(8, version="2"), at(9), at(5)])
def test_what_does_not_stand_beside_it_in_the_same_version_is_a_hit_of_its_own(other):
    assert len(rows([at(7), other])) == 2


@pytest.mark.parametrize(("nothing", "score", "hits"), [(0.0, AS_GOOD, 1), (0.0, AS_GOOD - 0.01, 2), (0.5, 0.8, 2)])
def test_a_chunk_beside_it_must_be_nearly_as_good(nothing, score, hits):
    assert len(rows([at(7, 1.0), at(8, score)], nothing)) == hits


def test_a_chunk_whose_place_is_not_known_stands_alone():
    nowhere = Found("x", 1.0, {"content": "x", "doc_id": "d", "version": "1"})

    assert rows([at(0), nowhere, Found("y", 1.0, dict(nowhere.payload))]) == [["d1-0"], ["x"], ["y"]]


def test_whatever_comes_each_chunk_is_shown_once_and_no_hit_is_too_long():
    dice = random.Random(4711)
    for _ in range(200):
        found = [at(n, dice.choice([1.0, 0.9, 0.75, 0.5]), doc=d) for d in "de" for n in dice.sample(range(12), 9)]
        dice.shuffle(found)
        hits = [passage(one) for one in joined(candidates(found))]

        assert sorted(part.id for hit in hits for part, _ in hit.parts) == sorted(one.id for one in found)
        for hit in hits:
            assert len(hit.parts) <= MOST_CHUNKS
            assert [part.chunk_index for part, _ in hit.parts] == list(hit.indices)
            assert len({part.doc_id for part, _ in hit.parts}) == 1
            assert all(hit.text[slice(*span)] == part.content for part, span in hit.parts)


def test_where_another_section_begins_its_heading_stands_between():
    [one] = joined(candidates([at(1, heading="A"), at(2, heading="A"), at(3, heading="A > B"), at(4)]))

    assert passage(one).text == "chunk 1\n\nchunk 2\n\nA > B\n\nchunk 3\n\nchunk 4"
