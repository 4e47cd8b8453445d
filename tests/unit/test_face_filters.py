"""Filters of other faces mean the same in ours, or are refused; none is ignored."""

from __future__ import annotations

import pytest

from ops.api.errors import ApiError
from ops.api.filters import from_dify, from_openai


def compare(kind: str, key: str, value) -> dict:
    return {"type": kind, "key": key, "value": value}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (compare("eq", "language", "de"), {"language": "de"}),
        (compare("in", "language", ["de", "en"]), {"language": ["de", "en"]}),
        (compare("ne", "language", "de"), {"not": {"language": "de"}}),
        (compare("gte", "date", "2020"), {"date": {"gte": "2020"}}),
        (
            {"type": "and", "filters": [compare("eq", "a", 1), compare("lt", "b", 2)]},
            {"a": 1, "b": {"lt": 2}},
        ),
        (
            {"type": "and", "filters": [compare("gt", "a", 1), compare("lt", "a", 2)]},
            {"and": [{"a": {"gt": 1}}, {"a": {"lt": 2}}]},
        ),
        ({"type": "or", "filters": [compare("eq", "a", 1), compare("eq", "b", 2)]}, {"or": [{"a": 1}, {"b": 2}]}),
    ],
)
def test_openais_filters(theirs, ours):
    assert from_openai(theirs) == ours


@pytest.mark.parametrize(
    "wrong", [{}, [], compare("like", "a", 1), {"type": "eq", "key": "a"}, {"type": "and", "filters": []}]
)
def test_an_openai_filter_that_we_do_not_know_is_refused(wrong):
    with pytest.raises(ApiError):
        from_openai(wrong)


def test_a_filter_nested_without_end_is_refused():
    nested = compare("eq", "a", 1)
    for _ in range(20):
        nested = {"type": "or", "filters": [nested, compare("eq", "b", 1)]}
    with pytest.raises(ApiError):
        from_openai(nested)


@pytest.mark.parametrize(
    ("operator", "value", "ours"),
    [
        ("is", "x", {"f": "x"}),
        ("is not", "x", {"not": {"f": "x"}}),
        ("start with", "x", {"f": {"prefix": "x"}}),
        ("empty", None, {"f": {"exists": False}}),
        ("not empty", None, {"f": {"exists": True}}),
        ("≥", 3, {"f": {"gte": 3}}),
        ("before", "2020-01-01", {"f": {"lt": "2020-01-01"}}),
    ],
)
def test_difys_filters(operator, value, ours):
    assert from_dify({"conditions": [{"name": ["f"], "comparison_operator": operator, "value": value}]}) == ours


def test_difys_names_are_alternatives_and_its_conditions_follow_its_operator():
    either = {"name": ["f", "g"], "comparison_operator": "is", "value": 1}
    other = {"name": ["h"], "comparison_operator": "is", "value": 2}

    assert from_dify({"conditions": [either]}) == {"or": [{"f": 1}, {"g": 1}]}
    assert from_dify({"logical_operator": "or", "conditions": [other, other]}) == {"or": [{"h": 2}, {"h": 2}]}
    assert from_dify({"conditions": []}) == {}


@pytest.mark.parametrize("operator", ["contains", "not contains", "end with"])
def test_an_operator_of_difys_that_we_cannot_keep_is_named_beside_those_that_we_can(operator):
    with pytest.raises(ApiError, match="Those that can: is, is not, in, not in, start with") as refused:
        from_dify({"conditions": [{"name": "f", "comparison_operator": operator, "value": "x"}]})

    assert f"comparison_operator {operator!r}" in refused.value.message


@pytest.mark.parametrize("operator", [None, 7, "x" * 1000])
def test_what_is_no_operator_is_not_repeated(operator):
    with pytest.raises(ApiError, match="that comparison_operator"):
        from_dify({"conditions": [{"name": "f", "comparison_operator": operator, "value": "x"}]})
