"""Our filters -> Qdrant's.  The tenant is added here, outside of whatever was asked: no filter can widen what is seen.

A field's payload index says what its values are, so a condition is written for that type alone and Qdrant's strict
mode has nothing to refuse; for a field without an index every reading of a value is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, assert_never

from workers.adapters.qdrant_models import models as m
from workers.contract.identity import TENANT
from workers.query.dates import period
from workers.query.filters import (
    All,
    AnyOf,
    Condition,
    Exists,
    Not,
    Prefix,
    Range,
    Some,
    date_limits,
    number_limits,
    payload_path,
    typed_readings,
)
from workers.query.values import Scalar

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")

Types = Mapping[str, str]
"""Payload key -> type of its index (keyword, integer, float, bool, datetime)."""


def qdrant_filter(condition: Condition, types: Types) -> m.Filter:
    """Return what Qdrant is asked for."""
    return m.Filter(must=[_equals("tenant", TENANT), *_conditions(condition, types)])


def payload_key(field: str) -> str:
    """Return Qdrant's path of a field."""
    return ".".join(part if _PLAIN.fullmatch(part) else f'"{part}"' for part in payload_path(field))


def _conditions(condition: Condition, types: Types) -> list[Any]:
    """Return what must all hold, as flat as can be: Qdrant looks at each level of nesting for every point."""
    if isinstance(condition, All):
        return [one for part in condition.parts for one in _conditions(part, types)]
    made = _filter(condition, types)
    return list(made.should) if isinstance(made.should, list) and len(made.should) == 1 else [made]


def _filter(condition: Condition, types: Types) -> m.Filter:
    match condition:
        case All():
            return m.Filter(must=_conditions(condition, types))
        case Some(parts):
            return m.Filter(should=[_filter(part, types) for part in parts])
        case Not(part):
            return m.Filter(must_not=[_filter(part, types)])
        case Exists(field):
            return m.Filter(must_not=[m.IsEmptyCondition(is_empty=m.PayloadField(key=payload_key(field)))])
        case Prefix(field, prefix):
            return m.Filter(
                must=[m.FieldCondition(key=payload_key(field), match=m.MatchPrefix(prefix=prefix))],
            )
        case AnyOf(field, values):
            key = payload_key(field)
            return m.Filter(should=_any_of(key, values, types.get(key)))
        case Range():
            key = payload_key(condition.field)
            return m.Filter(should=_within(key, condition, types.get(key)))
        case _:
            assert_never(condition)


def _any_of(key: str, values: tuple[Scalar, ...], kind: str | None) -> list[Any]:
    readings = [reading for value in values for reading in _readings(value, kind)]
    words = list(dict.fromkeys(reading for reading in readings if isinstance(reading, str)))
    found: list[Any] = [m.FieldCondition(key=key, match=m.MatchAny(any=words))] if words and kind != "datetime" else []
    found += [_equals(key, reading) for reading in readings if not isinstance(reading, str)]
    if kind in (None, "datetime"):
        found += [date for value in values if (date := _in_period(key, value, instants=kind is not None)) is not None]
    return found or [_nothing(key)]


def _readings(value: Scalar, kind: str | None) -> tuple[Scalar, ...]:
    """Return the readings of a value that a field of this type can have; the text itself when there is none."""
    readings = typed_readings(value)
    match kind:
        case "keyword":
            return tuple(one for one in readings if isinstance(one, str))
        case "integer" | "float":
            numbers = tuple(one for one in readings if isinstance(one, int | float) and not isinstance(one, bool))
            return numbers or tuple(one for one in readings if isinstance(one, str))
        case "bool":
            return tuple(one for one in readings if isinstance(one, bool))
        case _:
            return readings


def _in_period(key: str, value: Scalar, *, instants: bool) -> m.FieldCondition | None:
    meant = period(value)
    if meant is None or (meant.is_instant and not instants):
        return None
    if meant.is_instant:
        return m.FieldCondition(key=key, range=m.DatetimeRange(gte=meant.start, lte=meant.start))
    return m.FieldCondition(key=key, range=m.DatetimeRange(gte=meant.start, lt=meant.end))


def _within(key: str, wanted: Range, kind: str | None) -> list[Any]:
    numbers = number_limits(wanted) if kind not in ("datetime", "keyword", "bool") else None
    dates = date_limits(wanted) if kind not in ("integer", "float", "bool") else None
    found: list[Any] = [m.FieldCondition(key=key, range=m.Range(**numbers))] if numbers is not None else []
    if dates is not None:
        found.append(m.FieldCondition(key=key, range=m.DatetimeRange.model_validate(dates)))
    return found or [_nothing(key)]


def _nothing(key: str) -> m.Filter:
    """No point: the field cannot be both absent and present."""
    empty = m.IsEmptyCondition(is_empty=m.PayloadField(key=key))
    return m.Filter(must=[empty], must_not=[empty])


def _equals(key: str, value: Scalar) -> m.FieldCondition:
    if isinstance(value, float):
        return m.FieldCondition(key=key, range=m.Range(gte=value, lte=value))
    return m.FieldCondition(key=key, match=m.MatchValue(value=value))
