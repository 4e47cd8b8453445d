"""Measures of rankings, against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from workers.query.evaluation import compare, holds_span, mean, ndcg, percentile, recall, reciprocal_rank
from workers.query.upheld import upheld

GRADES = {"a": 3, "b": 2, "c": 0, "d": 1}


def test_ndcg_is_the_discounted_gain_over_that_of_the_best_order():
    ideal = 3 / 1 + 2 / math.log2(3) + 1 / math.log2(4)

    assert ndcg(["a", "b", "d"], GRADES) == pytest.approx(1.0)
    assert ndcg(["b", "x", "a"], GRADES) == pytest.approx((2 / 1 + 3 / 2) / ideal)
    assert ndcg(["x", "y"], GRADES) == 0.0
    assert ndcg(["d", "a"], GRADES, k=1) == pytest.approx(1 / 3)


def test_where_nothing_is_relevant_there_is_nothing_to_measure():
    assert ndcg(["a"], {}) is None
    assert recall(["a"], {"a": 0}, 5) is None
    assert reciprocal_rank(["a"], {}) is None
    assert holds_span(["a"], [], 5) is None


def test_recall_and_reciprocal_rank_count_what_is_relevant():
    assert recall(["a", "x", "b", "d"], GRADES, 3) == pytest.approx(2 / 3)
    assert reciprocal_rank(["x", "c", "d"], GRADES) == pytest.approx(1 / 3)
    assert reciprocal_rank(["x"], GRADES) == 0.0


def test_a_span_is_found_whatever_its_white_space_and_case():
    assert holds_span(["nothing", "The boiler\n code is  4711."], ["boiler code IS 4711"], 2) is True
    assert holds_span(["nothing", "The boiler code is 4711."], ["boiler code is 4711"], 1) is False


def test_means_pass_over_what_could_not_be_measured():
    assert mean([1.0, None, 0.0]) == 0.5
    assert mean([None]) is None


def test_a_percentile_is_a_value_that_was_seen():
    assert percentile([4, 1, 3, 2], 0.5) == 2
    assert percentile([4, 1, 3, 2], 0.95) == 4
    assert percentile([], 0.5) == 0.0


def test_a_difference_that_every_query_shows_is_no_chance():
    found = compare([0.9, 0.8, 0.7, 0.9] * 10, [0.5, 0.5, 0.4, 0.6] * 10, samples=500)

    assert found.difference == pytest.approx(0.325)
    assert found.low > 0.3
    assert 0 < found.p < 0.01  # samples can make a chance small, never nothing
    assert (found.better, found.worse, found.equal) == (40, 0, 0)


def test_a_difference_that_comes_and_goes_may_be_chance():
    found = compare([1.0, 0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0, 0.0], samples=500)

    assert found.low < 0 < found.high
    assert found.p > 0.3
    assert (found.better, found.worse, found.equal) == (3, 2, 0)


@pytest.mark.parametrize(("wins", "chance"), [(1, 1.0), (2, 0.5), (3, 0.25), (10, 2 / 1024)])
def test_a_handful_of_queries_proves_little_however_clear_they_are(wins, chance):
    assert compare([1.0] * wins, [0.0] * wins).p == pytest.approx(chance, abs=0.02)
    assert compare([0.0] * wins, [1.0] * wins).p == pytest.approx(chance, abs=0.02)


def test_a_system_does_not_differ_from_itself_and_the_same_dice_fall_the_same_way():
    same = compare([0.1, None], [0.1, 0.3])

    assert (same.p, same.better, same.worse, same.equal) == (1.0, 0, 0, 1)
    assert compare([0.1, 0.9, 0.4], [0.2, 0.3, 0.4], samples=200) == compare(
        [0.1, 0.9, 0.4], [0.2, 0.3, 0.4], samples=200
    )


QUOTES = [
    {"n": 1, "title": "House", "path": "house.md", "quotes": ["The boiler code is 4711."]},
    {"n": 2, "title": "Flat", "path": "flat.md", "quote": "The hedge is cut in June by Meyer Gardens."},
]


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        ("The boiler code is 4711. [1] Meyer Gardens cut the hedge in June. [2]", (2, 2)),
        ("The boiler code is 4712. [1]", (1, 0)),  # the figure is another
        ("The hedge is cut in June. [1]", (1, 0)),  # the citation is of the neighbour
        ("The boiler code is not 4711. [1]", (1, 0)),
        ("The boiler code is 4711.", (1, 0)),  # nothing is cited
        ("The boiler code is 4711. [7]", (1, 0)),  # nothing like that is there to be cited
        ("These are the codes:\n- The boiler code is 4711. [1]\nNot in the documents: the colour.", (1, 1)),
        ("The documents differ: The boiler code is 4711. [1]", (1, 1)),
    ],
)
def test_a_sentence_is_supported_when_its_own_citations_say_it(answer, counts):
    found = upheld(answer, QUOTES)

    assert (found.sentences, found.supported) == counts
