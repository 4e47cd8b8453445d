"""Executes statements that every document or text costs, with values that the driver takes as they are.

SQLAlchemy looks at each value of each row for something to convert, and at each execution for listeners, which takes
several times as long as the database.  Here a statement is put into the words of a dialect once, and executed as these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Dialect, Row
from sqlalchemy.engine import Connection


def each(connection: Connection, statement: Any, rows: Sequence[Mapping[str, Any]]) -> int:
    """Execute ``statement`` for many rows of the same columns; returns how many rows it changed."""
    made = _made(statement, connection.dialect, tuple(rows[0]))
    return connection.exec_driver_sql(made.words, [made.values(row) for row in rows]).rowcount


def one(connection: Connection, statement: Any, row: Mapping[str, Any]) -> Row[Any] | None:
    """Execute ``statement`` with the values of one row; returns what it returns, at most one row, as the driver has it.

    A truth value may come back as a number.
    """
    made = _made(statement, connection.dialect, tuple(row))
    return connection.exec_driver_sql(made.words, made.values(row)).one_or_none()


class _Made:
    """A statement in the words of one dialect."""

    def __init__(self, statement: Any, dialect: Dialect, columns: tuple[str, ...]) -> None:
        made = statement.compile(dialect=dialect, column_keys=columns)
        self.words = str(made)
        self._fixed = {name: value for name, value in made.params.items() if name not in columns}
        positions = tuple(made.positiontup) if made.positional else ()
        self._in_order = itemgetter(*positions) if len(positions) > 1 else None
        self._only = positions[0] if len(positions) == 1 else None

    def values(self, row: Mapping[str, Any]) -> Any:
        """Return what the driver is given: a tuple in the order of the words, or a dictionary where they have names."""
        values = {**self._fixed, **row} if self._fixed else row
        if self._in_order is not None:
            return self._in_order(values)
        return (values[self._only],) if self._only is not None else dict(values)


@lru_cache(maxsize=32)
def _made(statement: Any, dialect: Dialect, columns: tuple[str, ...]) -> _Made:
    return _Made(statement, dialect, columns)
