"""Queries and judgements are kept as they were asked, on either engine."""

from __future__ import annotations

import pytest

from workers.contract import asked, schema
from workers.contract.asked import Asked, Judgement


@pytest.fixture
def engine(either_ledger_url):
    engine = schema.open_ledger(either_ledger_url)
    yield engine
    engine.dispose()


def test_a_letter_that_a_database_cannot_store_costs_no_query_its_place_in_the_log(engine):
    asked.remember(engine, [Asked("1", "search", "boiler\0 code"), Asked("2", "search", "hedge")])
    asked.judge(engine, Judgement("answer", "up", "boiler\0 code", answer="4711\0", text="\0"))

    assert [asked.recall(engine, key).query for key in "12"] == ["boiler code", "hedge"]
    [judged] = asked.judgements(engine)
    assert (judged.query, judged.answer, judged.text) == ("boiler code", "4711", "")
