"""Hits that are only what is nearest are told as such; those that are about the query never are."""

from __future__ import annotations

import pytest

from tests.support.answering import Index, answering
from workers.query.requests import SearchRequest

HOUSE = (
    "The boiler code is 4711. It must not be shared.",
    "The hedge is cut in June by Meyer Gardens.",
    "Weekly cleaning of the stairs is on Tuesday.",
)


def asked(query: str, *, judge: bool = True, **more):
    index = Index(*HOUSE)
    return answering(index).search([SearchRequest(query=query, judge=judge, **more)])[0].as_json()


@pytest.mark.parametrize(
    "query", ["boiler", "boiler code", "When is the hedge cut?", "cleaning", "0.md", "stairs Tuesday"]
)
def test_what_is_about_the_query_is_not_weak(query):
    assert asked(query)["weak"] is False


@pytest.mark.parametrize(
    "query",
    [
        "Who won the chess championship tournament last June?",
        "capital of Mongolia, population, rivers and the cut",
        "zebra crossing code of practice",
    ],
)
def test_what_is_only_nearest_is_weak_and_shown_all_the_same(query):
    found = asked(query)

    assert found["weak"] is True
    assert found["hits"] == asked(query, judge=False)["hits"] != []


def test_who_does_not_ask_is_not_told_and_of_nothing_nothing_is_said():
    assert "weak" not in asked("boiler", judge=False)
    assert asked("zebra")["weak"] is False
    assert asked("the of")["weak"] is False
