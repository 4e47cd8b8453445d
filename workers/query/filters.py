"""What a hit must be: our own small filter model, read from JSON, bounded, and told in words.

    {"filetype": "application/pdf", "language": ["de", "en"],          equal to it; equal to one of them
     "date": {"gte": "2015", "lt": "2020-07"}, "pages": {"gt": 10},    ranges over dates and numbers
     "path": {"prefix": "contracts/"}, "author": {"exists": true},     beginnings; present or absent
     "or": [{…}, {…}], "not": {…}}                                     all of it must hold, unless it says otherwise

No filter of a client reaches Qdrant as it is, so none can name the tenant, nest without end or match by expression.
Pure; `matches` is the meaning of a filter, and what Qdrant answers is compared with it in tests.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard, assert_never

from workers.query.dates import Period, instant, period
from workers.query.values import Scalar

DEEPEST = 6
MOST_CONDITIONS = 64
MOST_VALUES = 1_000
LONGEST_VALUE = 1_000
LONGEST_FIELD = 100

TOP_LEVEL = frozenset({"doc_id", "version", "digest", "chunk_index", "indexed_at", "embedded"})
"""Fields beside `metadata` that may be asked for; the tenant is not among them."""

_LIMITS = ("gt", "gte", "lt", "lte")
_SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The field is one of the values, or, being a list, has one of them."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The field lies between limits: numbers, or dates (`2015`, `2015-03`, `2015-03-01`, RFC 3339).

    A date may be a whole period; after it means after its end, up to it means up to its end.
    """

    field: str
    gt: float | str | None = None
    gte: float | str | None = None
    lt: float | str | None = None
    lte: float | str | None = None

    @property
    def limits(self) -> dict[str, float | str]:
        """The limits that are set, by name."""
        return {name: limit for name in _LIMITS if (limit := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class Prefix:
    """The field's text begins so."""

    field: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Exists:
    """The field has a value."""

    field: str


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds; without parts, everything does."""

    parts: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Some:
    """At least one part holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Condition


Condition = AnyOf | Range | Prefix | Exists | All | Some | Not
EVERYTHING = All()


class BadFilter(ValueError):
    """It is no filter; the text says why and never repeats a value."""


def read_filter(raw: Any) -> Condition:
    """Return the filter in ``raw`` (JSON).

    Raises:
        BadFilter: it is none, or one beyond all measure.
    """
    if raw is None:
        return EVERYTHING
    return _object(raw, _Budget(), 1)


def both(one: Condition, other: Condition) -> Condition:
    """Return what holds when both hold."""
    parts = [p for each in (one, other) for p in (each.parts if isinstance(each, All) else (each,))]
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def fields_of(condition: Condition) -> frozenset[str]:
    """Return every field that the filter looks at."""
    match condition:
        case All(parts) | Some(parts):
            return frozenset().union(*(fields_of(part) for part in parts))
        case Not(part):
            return fields_of(part)
        case AnyOf(field) | Range(field) | Prefix(field) | Exists(field):
            return frozenset({field})
        case _:
            assert_never(condition)


def told(condition: Condition) -> str:
    """Return the filter as people read it."""
    match condition:
        case All(()):
            return "everything"
        case All(parts):
            return " and ".join(_bracketed(part) for part in parts)
        case Some(parts):
            return " or ".join(_bracketed(part) for part in parts)
        case Not(Exists(field)):
            return f"{field} is absent"
        case Not(part):
            return f"not ({told(part)})"
        case AnyOf(field, values):
            shown = [_told_value(value) for value in values[:5]] + (["…"] if len(values) > 5 else [])
            return f"{field} = {' or '.join(shown)}"
        case Range(field):
            return " and ".join(f"{field} {_SIGNS[name]} {limit}" for name, limit in condition.limits.items())
        case Prefix(field, prefix):
            return f"{field} begins with {prefix}"
        case Exists(field):
            return f"{field} is present"
        case _:
            assert_never(condition)


def matches(condition: Condition, payload: Mapping[str, Any]) -> bool:
    """Tell whether a point with this payload passes."""
    match condition:
        case All(parts):
            return all(matches(part, payload) for part in parts)
        case Some(parts):
            return any(matches(part, payload) for part in parts)
        case Not(part):
            return not matches(part, payload)
        case Exists(field):
            return bool(values_at(payload, field))
        case Prefix(field, prefix):
            return any(isinstance(value, str) and value.startswith(prefix) for value in values_at(payload, field))
        case AnyOf(field, wanted):
            return any(_equal(value, one) for value in values_at(payload, field) for one in wanted)
        case Range(field):
            return any(_within(value, condition) for value in values_at(payload, field))
        case _:
            assert_never(condition)


def payload_path(field: str) -> tuple[str, ...]:
    """Return where a field as people know it is in the payload: ``filetype`` and ``metadata.filetype`` are one."""
    if field in TOP_LEVEL:
        return (field,)
    return ("metadata", *field.removeprefix("metadata.").split("."))


def values_at(payload: Mapping[str, Any], field: str) -> list[Any]:
    """Return the values that a point has of a field; a list has several."""
    found: Any = payload
    for part in payload_path(field):
        if not isinstance(found, Mapping):
            return []
        found = found.get(part)
    values = found if isinstance(found, list) else [found]
    return [value for value in values if value is not None]


def typed_readings(value: Scalar) -> tuple[Scalar, ...]:
    """Return what a value may stand for: a command line knows only texts, and ``page=3`` must find the number 3."""
    if not isinstance(value, str):
        return (value,)
    if value in ("true", "false"):
        return (value, value == "true")
    if re.fullmatch(r"-?\d{1,18}", value, re.ASCII):
        return (value, int(value))
    if re.fullmatch(r"-?\d{1,18}\.\d{1,18}", value, re.ASCII):
        return (value, float(value))
    return (value,)


def number_limits(wanted: Range) -> dict[str, float] | None:
    """Return the limits as numbers; None when one of them is none."""
    found: dict[str, float] = {}
    for name, limit in wanted.limits.items():
        if isinstance(limit, str):
            try:
                limit = float(limit)
            except ValueError:
                return None
        if not math.isfinite(limit):
            return None
        found[name] = float(limit)
    return found


def date_limits(wanted: Range) -> dict[str, str] | None:
    """Return the limits as instants in RFC 3339, periods resolved; None when one of them is no date."""
    found: dict[str, str] = {}
    for name, limit in wanted.limits.items():
        meant = period(limit)
        if meant is None:
            return None
        # After a period is from its end on; up to and including it is before its end.
        name, at = {
            "gte": ("gte", meant.start),
            "lt": ("lt", meant.start),
            "gt": ("gt" if meant.is_instant else "gte", meant.end),
            "lte": ("lte" if meant.is_instant else "lt", meant.end),
        }[name]
        found[name] = at.isoformat().replace("+00:00", "Z")
    return found


# ----------------------------------------------------------------------------------------------------------- reading


@dataclass(slots=True)
class _Budget:
    conditions: int = MOST_CONDITIONS
    values: int = MOST_VALUES

    def spend(self, *, values: int = 0) -> None:
        self.conditions -= 1
        self.values -= values
        if self.conditions < 0:
            raise BadFilter(f"a filter has at most {MOST_CONDITIONS} conditions")
        if self.values < 0:
            raise BadFilter(f"a filter has at most {MOST_VALUES} values")


def _object(raw: Any, budget: _Budget, depth: int) -> Condition:
    if depth > DEEPEST:
        raise BadFilter(f"a filter is at most {DEEPEST} levels deep")
    if not isinstance(raw, Mapping):
        raise BadFilter('a filter is an object: {"field": value}')
    parts: list[Condition] = []
    for name, value in raw.items():
        budget.spend()
        if name in ("and", "or"):
            if not isinstance(value, list) or not value:
                raise BadFilter(f"{name!r} takes a list of filters")
            inner = tuple(_object(each, budget, depth + 1) for each in value)
            parts.append(All(inner) if name == "and" else Some(inner))
        elif name == "not":
            parts.append(Not(_object(value, budget, depth + 1)))
        else:
            parts += _conditions(field_name(name), value, budget)
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def _conditions(field: str, value: Any, budget: _Budget) -> list[Condition]:
    if not isinstance(value, Mapping):
        return [AnyOf(field, _scalars(value, budget))]
    if not value:
        raise BadFilter("a field's tests are gt, gte, lt, lte, prefix, exists, in and not")
    found: list[Condition] = []
    limits: dict[str, float | str] = {}
    for name, given in value.items():
        budget.spend()
        if name in _LIMITS:
            limits[name] = _limit(given)
        elif name == "prefix":
            found.append(Prefix(field, _text(given)))
        elif name == "exists":
            if not isinstance(given, bool):
                raise BadFilter("'exists' is true or false")
            found.append(Exists(field) if given else Not(Exists(field)))
        elif name == "in":
            found.append(AnyOf(field, _scalars(given, budget)))
        elif name == "not":
            found.append(Not(AnyOf(field, _scalars(given, budget))))
        else:
            raise BadFilter("a field's tests are gt, gte, lt, lte, prefix, exists, in and not")
    if limits:
        found.append(_comparable(replace(Range(field), **limits)))  # type: ignore[arg-type]
    return found


def _comparable(wanted: Range) -> Range:
    if number_limits(wanted) is None and date_limits(wanted) is None:
        raise BadFilter("the limits of a range are all numbers, or all dates (2015, 2015-03, 2015-03-01, RFC 3339)")
    return wanted


def field_name(name: Any) -> str:
    """Return the name of a field.

    Raises:
        BadFilter: it cannot be one.
    """
    good = isinstance(name, str) and 0 < len(name) <= LONGEST_FIELD and all(name.split("."))
    if not good or set(name) & set("\"'[]\\\0"):
        raise BadFilter("a field name has 1 to 100 characters and no quotes, brackets or empty parts")
    return str(name)


def _scalars(value: Any, budget: _Budget) -> tuple[Scalar, ...]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise BadFilter("a list of values has at least one")
    budget.spend(values=len(values))
    return tuple(_scalar(one) for one in values)


def _scalar(value: Any) -> Scalar:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return value
    if _is_number(value):
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise BadFilter("a number is out of range")
        return value
    raise BadFilter("a filter's value is a text, a number, true or false")


def _limit(value: Any) -> float | str:
    if isinstance(value, str):
        return _text(value)
    if _is_number(value):
        return value
    raise BadFilter("a limit is a number or a date")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > LONGEST_VALUE:
        raise BadFilter(f"a filter's text has 1 to {LONGEST_VALUE} characters")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise BadFilter("a filter's text has a lone surrogate")
    return value


def _is_number(value: Any) -> TypeGuard[int | float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else -(2**63) <= value < 2**63  # as far as Qdrant counts


# ----------------------------------------------------------------------------------------------------------- meaning


def _equal(value: Any, wanted: Scalar) -> bool:
    for reading in typed_readings(wanted):
        if isinstance(reading, bool) == isinstance(value, bool) and reading == value:
            return True
    meant = period(wanted)
    return meant is not None and not meant.is_instant and isinstance(value, str) and _in_period(value, meant)


def _in_period(value: str, meant: Period) -> bool:
    at = instant(value)
    return at is not None and meant.start <= at < meant.end


def _within(value: Any, wanted: Range) -> bool:
    if _is_number(value):
        numbers = number_limits(wanted)
        return numbers is not None and all(_compare(value, name, limit) for name, limit in numbers.items())
    at = instant(value) if isinstance(value, str) else None
    dates = date_limits(wanted)
    if at is None or dates is None:
        return False
    return all(_compare(at, name, instant(limit)) for name, limit in dates.items())


def _compare(value: Any, name: str, limit: Any) -> bool:
    match name:
        case "gt":
            return bool(value > limit)
        case "gte":
            return bool(value >= limit)
        case "lt":
            return bool(value < limit)
        case _:
            return bool(value <= limit)


def _bracketed(part: Condition) -> str:
    return f"({told(part)})" if isinstance(part, All | Some) else told(part)


def _told_value(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
