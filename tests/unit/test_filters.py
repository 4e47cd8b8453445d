"""Filters are read from JSON and from the command line, bounded, told in words, and never repeat what was sent."""

from __future__ import annotations

from typing import Any

import pytest

from ops.cli.errors import CliError
from ops.cli.filters import parse_filters
from workers.adapters.qdrant_filters import qdrant_filter
from workers.query.dates import period
from workers.query.filters import BadFilter, fields_of, matches, read_filter, told

LAW = {
    "doc_id": "d1",
    "metadata": {
        "jurisdiction": "AD",
        "date": "2015-06-30",
        "type": "decree",
        "pages": 12,
        "path": "laws/ad/1.md",
        "tags": ["water", "energy"],
        "court": {"name": "high"},
        "draft": False,
    },
}
FITS: list[dict[str, Any]] = [
    {},
    {"jurisdiction": "AD", "type": ["law", "decree"]},
    {"date": {"gte": 2015}},
    {"date": {"gte": "2015-06-30", "lte": "2015-06-30"}},
    {"date": {"lte": "2015"}},
    {"date": "2015-06"},
    {"pages": {"gt": 11, "lt": "13"}},
    {"pages": "12"},
    {"path": {"prefix": "laws/"}},
    {"tags": "energy"},
    {"court.name": "high"},
    {"draft": "false"},
    {"draft": {"exists": True}},
    {"nothing": {"exists": False}},
    {"or": [{"type": "law"}, {"pages": {"gte": 12}}]},
    {"not": {"jurisdiction": "DE"}},
    {"jurisdiction": {"not": ["DE", "FR"]}},
    {"and": [{"doc_id": "d1"}, {"metadata.type": "decree"}]},
]
FAILS: list[dict[str, Any]] = [
    {"jurisdiction": "DE"},
    {"date": {"gt": 2015}},
    {"date": {"lt": "2015-06-30"}},
    {"date": {"gt": "2015-06-30"}},
    {"pages": {"gt": 12}},
    {"path": {"prefix": "law/"}},
    {"draft": True},
    {"not": {"tags": "water"}},
    {"jurisdiction": "AD", "type": "law"},
]
NO_FILTERS: list[Any] = [
    7,
    {"": 1},
    {"a..b": 1},
    {"a[0]": 1},
    {"a": []},
    {"a": {}},
    {"a": {"near": 1}},
    {"a": {"gt": "soon"}},
    {"a": {"gt": 1, "lt": "2015-01-01"}},
    {"a": {"exists": "yes"}},
    {"a": None},
    {"a": float("nan")},
    {"a": 2**63},
    {"a": "x" * 1001},
    {"a": "\ud800"},
    {"or": []},
    {"or": {"a": 1}},
    {"not": [1]},
    {"a": list(range(1001))},
    {"or": [{"a": n} for n in range(65)]},
]


@pytest.mark.parametrize("raw", FITS, ids=str)
def test_a_document_that_fits_passes(raw):
    assert matches(read_filter(raw), LAW)


@pytest.mark.parametrize("raw", FAILS, ids=str)
def test_a_document_that_does_not_fit_is_kept_away(raw):
    assert not matches(read_filter(raw), LAW)


@pytest.mark.parametrize("raw", NO_FILTERS, ids=lambda raw: str(raw)[:40])
def test_what_is_no_filter_is_refused_without_repeating_it(raw):
    with pytest.raises(BadFilter) as caught:
        read_filter(raw)

    assert "soon" not in str(caught.value)


def test_a_filter_that_nests_without_end_is_refused():
    deep: dict[str, Any] = {"a": 1}
    for _ in range(5000):
        deep = {"not": deep}

    with pytest.raises(BadFilter, match="levels deep"):
        read_filter(deep)


def test_a_filter_is_told_as_people_read_it():
    wanted = read_filter({"jurisdiction": "AD", "date": {"gte": "2016"}, "type": ["law", "decree"]})

    assert told(wanted) == "jurisdiction = AD and date >= 2016 and type = law or decree"
    assert fields_of(wanted) == {"jurisdiction", "date", "type"}


@pytest.mark.parametrize(
    ("value", "start", "end"),
    [
        ("2015", "2015-01-01T00:00:00+00:00", "2016-01-01T00:00:00+00:00"),
        (2015, "2015-01-01T00:00:00+00:00", "2016-01-01T00:00:00+00:00"),
        ("2015-12", "2015-12-01T00:00:00+00:00", "2016-01-01T00:00:00+00:00"),
        ("2016-02-29", "2016-02-29T00:00:00+00:00", "2016-03-01T00:00:00+00:00"),
        ("2015-01-01T12:00:00Z", "2015-01-01T12:00:00+00:00", "2015-01-01T12:00:00+00:00"),
        ("2015-01-01t12:00:00+02:00", "2015-01-01T12:00:00+02:00", "2015-01-01T12:00:00+02:00"),
    ],
)
def test_a_date_may_be_a_year_a_month_a_day_or_an_instant(value, start, end):
    meant = period(value)

    assert meant is not None
    assert (meant.start.isoformat(), meant.end.isoformat()) == (start, end)


@pytest.mark.parametrize("value", ["2015-13", "2015-02-30", "15", "tomorrow", "9999", 42, True, None, "２０１５"])
def test_what_is_no_date_is_none(value):
    assert period(value) is None


@pytest.mark.parametrize(
    ("words", "filters"),
    [
        ([], {}),
        (["source=inbox"], {"source": "inbox"}),
        (["language=de", "language=en"], {"language": ["de", "en"]}),
        (["date>=2015", "date<2020"], {"date": {"gte": "2015", "lt": "2020"}}),
        (["path=laws/*", "author=*"], {"path": {"prefix": "laws/"}, "author": {"exists": True}}),
        (["draft!=*"], {"draft": {"exists": False}}),
        (["kind!=law"], {"kind": {"not": "law"}}),
        (["year=2015", "year>2014"], {"and": [{"year": "2015"}, {"year": {"gt": "2014"}}]}),
        (['{"or": [{"a": 1}, {"b": 2}]}', "c = x y"], {"c": "x y", "or": [{"a": 1}, {"b": 2}]}),
    ],
)  # fmt: skip
def test_conditions_of_the_command_line_become_filters(words, filters):
    assert parse_filters(words) == filters
    read_filter(filters)


@pytest.mark.parametrize("word", ["inbox", "=x", "a=", "a>= ", "{not json", "[1]"])
def test_what_is_no_condition_is_refused(word):
    with pytest.raises(CliError):
        parse_filters([word])


def test_qdrant_is_asked_on_as_few_levels_as_there_are():
    raw = {"filetype": "text/markdown", "and": [{"path": {"prefix": "laws/"}}, {"year": {"gte": 2015}}]}
    asked = qdrant_filter(read_filter(raw), {"metadata.filetype": "keyword", "metadata.year": "integer"})

    assert qdrant_filter(read_filter({}), {}).must == asked.must[:1]
    assert [one.key for one in asked.must[:2]] == ["tenant", "metadata.filetype"]
    assert len(asked.must) == 4
    assert asked.should is None
