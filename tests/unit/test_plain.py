"""Statements that go past SQLAlchemy's conversions do what they do with them, in each dialect's own words."""

from __future__ import annotations

import pytest
from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text, bindparam, insert, select, update

from workers.contract import schema
from workers.indexing.plain import each, one

metadata = MetaData()
shelf = Table("shelf", metadata, Column("id", Integer, primary_key=True), Column("word", Text), Column("n", BigInteger))

PUTTING = insert(shelf)
DROPPING = shelf.delete().where(shelf.c.id == bindparam("key"))
RAISING = (
    update(shelf)
    .where(shelf.c.id == bindparam("key"))
    .values(n=shelf.c.n + 1, word=bindparam("said"))
    .returning(shelf.c.n, (shelf.c.n > 1).label("many"))
)


@pytest.fixture
def connection(either_ledger_url):
    engine = schema.open_ledger(either_ledger_url)
    with engine.begin() as connection:
        metadata.create_all(connection)
        each(connection, PUTTING, [{"id": n, "word": "50 % 'off'", "n": 0} for n in (1, 2)])
        yield connection
        metadata.drop_all(connection)
    engine.dispose()


def kept(connection):
    return connection.execute(select(shelf).order_by(shelf.c.id)).all()


def test_rows_are_stored_with_their_values(connection):
    assert kept(connection) == [(1, "50 % 'off'", 0), (2, "50 % 'off'", 0)]


def test_what_many_rows_change_is_counted(connection):
    assert each(connection, DROPPING, [{"key": 1}, {"key": 3}]) == 1
    assert [row.id for row in kept(connection)] == [2]


def test_a_statement_with_values_of_its_own_takes_those_of_the_row_beside_them(connection):
    first = one(connection, RAISING, {"key": 2, "said": None})
    again = one(connection, RAISING, {"key": 2, "said": "more"})

    assert (first.n, bool(first.many), again.n, bool(again.many)) == (1, False, 2, True)
    assert kept(connection)[1] == (2, "more", 2)


def test_a_statement_that_changes_nothing_returns_nothing(connection):
    assert one(connection, RAISING, {"key": 9, "said": "x"}) is None
