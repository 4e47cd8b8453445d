"""Candidates lose duplicates, age, are spread and capped; nothing of it is lost, and each step is told."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.query.facets import count_facets
from workers.query.ranking import aged, candidates, capped, collapsed, diverse, reranked, together
from workers.query.requests import Recency
from workers.query.values import Found

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FORM = " ".join(f"clause{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(60)) + " rent of {} euros"


def found(number: int, content: str = "", *, doc: str = "", score: float | None = None, vector=None, **metadata):
    payload = {"content": content or f"text {number}", "doc_id": doc or f"d{number}", "metadata": metadata}
    dense = None if vector is None else np.array(vector, dtype=np.float32)
    return Found(f"p{number}", 1.0 / (number + 1) if score is None else score, payload, vector=dense)


def ids(ranked) -> list[str]:
    return [one.found.id for one in ranked]


def test_what_says_the_same_goes_behind_the_better_one():
    long = "A copy of one and the same paragraph, with enough words to be compared by them, and all of them common."
    ranked = collapsed(candidates([found(0, long), found(1, "Something else."), found(2, long.upper() + "  ")]))

    assert ids(ranked) == ["p0", "p1"]
    assert [other.id for other in ranked[0].duplicates] == ["p2"]


def test_forms_that_differ_in_a_figure_are_two_forms():
    ranked = collapsed(candidates([found(0, FORM.format(900)), found(1, FORM.format(950))]))

    assert ids(ranked) == ["p0", "p1"]


def test_nearly_equal_texts_collapse_and_short_ones_only_when_equal():
    words = " ".join(f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(60))
    nearly = collapsed(candidates([found(0, words), found(1, words + " more")]))
    short = collapsed(candidates([found(0, "one two three"), found(1, "one two three four")]))

    assert (len(nearly), len(short)) == (1, 2)


def test_each_text_goes_behind_the_first_one_that_says_the_same():
    dice = random.Random(4711)
    words = [f"w{chr(97 + n)}" for n in range(21)]

    def form() -> (
        str
    ):  # with one word or another missing: two that say the same as a third need not say it of each other
        left_out = dice.choice([*words[:4], "nothing"])
        return " ".join([*(word for word in words if word != left_out), dice.choice(["x", "7", "8"])])

    texts = [form() for _ in range(40)]
    first: dict[str, list[str]] = {}
    for number, text in enumerate(texts):
        pair = [next(iter(collapsed(candidates([found(0, texts[int(key[1:])]), found(1, text)])))) for key in first]
        home = next((key for key, kept in zip(first, pair, strict=True) if kept.duplicates), None)
        if home is None:
            first[f"p{number}"] = []
        else:
            first[home].append(f"p{number}")

    ranked = collapsed(candidates([found(number, text) for number, text in enumerate(texts)]))

    assert {one.found.id: [other.id for other in one.duplicates] for one in ranked} == first


def said(text: str) -> tuple[str, set[str], set[str]]:
    """A text without case and spaces, its different words, and those of them with a figure."""
    words = set(re.findall(r"[^\W_]+", text.casefold()))
    return " ".join(text.casefold().split()), words, {word for word in words if re.search(r"\d", word)}


def say_the_same(one: str, other: str) -> bool:
    (plain, words, figures), (plain_2, words_2, figures_2) = said(one), said(other)
    enough = min(len(words), len(words_2)) >= 8
    return plain == plain_2 or (enough and figures == figures_2 and len(words & words_2) / len(words | words_2) >= 0.95)


_WORDS = st.sampled_from(
    [*(f"w{chr(97 + n)}" for n in range(22)), "Wa", "7", "８", "x7", "straße", "STRASSE", "e\u0301", "_"]
)
_TEXTS = st.one_of(
    st.lists(_WORDS, max_size=12).map(" ".join),
    st.tuples(st.lists(_WORDS, max_size=3), st.sampled_from([" ", "  ", ", ", "\u3000"])).map(
        lambda drawn: drawn[1].join([*(f"w{chr(97 + n)}" for n in range(21)), *drawn[0]])
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_TEXTS, max_size=10))
def test_copies_are_those_that_say_the_same_as_the_first_that_was_kept(texts):
    homes: dict[int, list[str]] = {}
    for number, text in enumerate(texts):
        home = next((kept for kept in homes if say_the_same(texts[kept], text)), None)
        if home is None:
            homes[number] = []
        else:
            homes[home].append(f"p{number}")

    ranked = collapsed(candidates([found(number, text or " ") for number, text in enumerate(texts)]))

    assert [(one.found.id, [other.id for other in one.duplicates]) for one in ranked] == [
        (f"p{number}", copies) for number, copies in homes.items()
    ]


def test_a_chunk_gains_from_the_best_one_of_its_document():
    others = [found(1, doc="b", score=0.62), found(2, doc="a", score=0.6), found(3, doc="b", score=0.2)]
    ranked = together(candidates([found(0, doc="a", score=0.9), *others]))

    assert ids(ranked) == ["p0", "p2", "p1", "p3"]
    assert ranked[1].steps == ({"step": "document", "from_rank": 3},)
    assert ranked[1].shown == ranked[1].score == pytest.approx(0.75)


def test_documents_and_the_chunks_of_each_keep_their_order_and_scores_their_scale():
    dice = random.Random(4711)
    for _ in range(100):
        scores = sorted((dice.uniform(-1, 2) for _ in range(30)), reverse=True)
        before = candidates([found(n, doc=dice.choice("abcdef"), score=score) for n, score in enumerate(scores)])
        after = together(before)

        assert [*dict.fromkeys(c.found.doc_id for c in after)] == [*dict.fromkeys(c.found.doc_id for c in before)]
        assert [c.score for c in after] == sorted((c.score for c in after), reverse=True)
        assert after[0].score == before[0].score
        for doc in "abcdef":
            assert [c.found.id for c in after if c.found.doc_id == doc] == [
                c.found.id for c in before if c.found.doc_id == doc
            ]


def test_a_document_beyond_its_share_waits_and_is_not_lost():
    ranked = capped(candidates([found(0, doc="a"), found(1, doc="a"), found(2, doc="a"), found(3, doc="b")]), 2)

    assert ids(ranked) == ["p0", "p1", "p3", "p2"]
    assert ranked[3].steps == ({"step": "per_document", "cap": 2},)


def test_age_takes_the_share_of_the_score_that_was_asked_for():
    new, old, undated = (
        found(0, score=1.0, modified="2026-01-01"),
        found(1, score=1.0, modified="2025-01-01"),
        found(2, score=1.0),
    )
    ranked = aged(candidates([undated, old, new]), Recency(half_life_days=365, weight=0.5), NOW)

    assert [(one.found.id, round(one.score, 3)) for one in ranked] == [("p0", 1.0), ("p1", 0.75), ("p2", 0.5)]


def test_age_never_lifts_a_negative_score():
    ranked = aged(
        candidates([found(0, score=-0.2), found(1, score=-0.4, modified="2026-01-01")]), Recency(weight=1.0), NOW
    )

    assert all(one.score <= 0.2 for one in ranked)
    assert ids(ranked) == ["p0", "p1"]


def test_a_reranker_orders_what_it_saw_before_what_it_did_not():
    ranked = reranked(candidates([found(0), found(1), found(2)]), [0.1, 0.9])

    assert ids(ranked) == ["p1", "p0", "p2"]
    assert ranked[0].steps == ({"step": "rerank", "from_rank": 2, "score": 0.9},)


@pytest.mark.parametrize("vectors", [True, False])
def test_diverse_hits_are_not_like_one_another(vectors):
    first = found(0, "a b c d", score=1.0, vector=[1, 0] if vectors else None)
    like = found(1, "a b c e", score=0.99, vector=[1, 0.01] if vectors else None)
    other = found(2, "x y z", score=0.5, vector=[0, 1] if vectors else None)

    assert ids(diverse(candidates([first, like, other]), 0.8, 2)) == ["p0", "p2", "p1"]
    assert ids(diverse(candidates([first, like, other]), 0.0, 2)) == ["p0", "p1", "p2"]


def test_facets_count_documents_and_years():
    hits = [
        found(0, doc="a", filetype="pdf", date="2015-03-01", tags=["x", "y"]),
        found(1, doc="a", filetype="pdf", date="2015-03-01", tags=["x", "y"]),
        found(2, doc="b", filetype="pdf", date="2016-01-01T00:00:00Z", tags=["x"]),
        found(3, doc="c", filetype="md", date="soon"),
    ]

    facets = count_facets(hits, ["filetype", "date:year", "tags", "none"], complete=True)

    assert facets.documents == 3
    assert facets.counts == {
        "filetype": [{"value": "pdf", "count": 2}, {"value": "md", "count": 1}],
        "date:year": [{"value": "2015", "count": 1}, {"value": "2016", "count": 1}],
        "tags": [{"value": "x", "count": 2}, {"value": "y", "count": 1}],
        "none": [],
    }
