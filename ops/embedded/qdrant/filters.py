"""Qdrant's filters: JSON -> the engine's objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import qdrant_edge as q

from ops.embedded.qdrant.errors import engine
from ops.embedded.qdrant.fields import Fields, malformed, point_ids

_MATCHES = {
    "text": q.MatchText,
    "text_any": q.MatchTextAny,
    "phrase": q.MatchPhrase,
    "prefix": q.MatchPrefix,
    "substring": q.MatchSubstring,
}


def read_filter(value: Any) -> Any:
    """Return the engine's filter."""
    with engine():
        return _filter(value)


def _filter(value: Any) -> Any:
    fields = Fields(value, "filter")
    read = q.Filter(
        must=fields.read("must", _conditions),
        should=fields.read("should", _conditions),
        must_not=fields.read("must_not", _conditions),
        min_should=fields.read("min_should", _min_should),
    )
    fields.done()
    return read


def _conditions(value: Any) -> list[Any]:
    return [_condition(item) for item in (value if isinstance(value, list) else [value])]


def _min_should(value: Any) -> Any:
    fields = Fields(value, "min_should")
    read = q.MinShould(_conditions(fields.required("conditions")), fields.whole("min_count") or 0)
    fields.done()
    return read


def read_condition(value: Any) -> Any:
    """Return one of the engine's conditions; a formula can hold one, too."""
    with engine():
        return _condition(value)


def _condition(value: Any) -> Any:
    if not isinstance(value, dict):
        raise malformed("a condition must be an object")
    if "key" in value:
        return _field_condition(value)
    if "is_empty" in value:
        return q.IsEmptyCondition(_payload_field(value, "is_empty"))
    if "is_null" in value:
        return q.IsNullCondition(_payload_field(value, "is_null"))
    fields = Fields(value, "condition")
    read: Any
    if "has_id" in fields:
        read = q.HasIdCondition(set(point_ids(fields.required("has_id"))))
    elif "has_vector" in fields:
        read = q.HasVectorCondition(fields.required_text("has_vector"))
    elif "nested" in fields:
        nested = Fields(fields.required("nested"), "nested")
        read = q.NestedCondition(nested.required_text("key"), _filter(nested.required("filter")))
        nested.done()
    else:
        return _filter(value)
    fields.done()
    return read


def _payload_field(value: dict[str, Any], kind: str) -> str:
    outer = Fields(value, "condition")
    inner = Fields(outer.required(kind), kind)
    key = inner.required_text("key")
    outer.done()
    inner.done()
    return key


def _field_condition(value: Any) -> Any:
    fields = Fields(value, "condition")
    key = fields.required_text("key")
    tests: dict[str, Any] = {
        "match": fields.read("match", _match),
        "range": fields.read("range", _range),
        "geo_bounding_box": fields.read("geo_bounding_box", _box),
        "geo_radius": fields.read("geo_radius", _circle),
        "geo_polygon": fields.read("geo_polygon", _polygon),
        "values_count": fields.read("values_count", _values_count),
        "is_empty": fields.flag("is_empty"),
        "is_null": fields.flag("is_null"),
    }
    fields.done()
    tests = {name: test for name, test in tests.items() if test is not None}
    if not tests:
        raise malformed("a condition on a field must say what it wants (match, range, ...)")
    return q.FieldCondition(key, **tests)


def _match(value: Any) -> Any:
    fields = Fields(value, "match")
    read: Any = None
    if "value" in fields:
        read = q.MatchValue(_scalar(fields.required("value")))
    elif "any" in fields:
        read = q.MatchAny(_variants(fields.required("any")))
    elif "except" in fields:
        read = q.MatchExcept(_variants(fields.required("except")))
    else:
        for word, kind in _MATCHES.items():
            if word in fields:
                read = kind(fields.required_text(word))
                break
    if read is None:
        raise malformed("match must have a value, any, except, text, text_any, phrase, prefix or substring")
    fields.done()
    return read


def _scalar(value: Any) -> Any:
    if isinstance(value, bool):
        # The engine's binding tries integers before booleans, and Python's True is an integer: it would look for 1.
        return np.bool_(value)
    if isinstance(value, str | int):
        return value
    raise malformed("match.value must be a string, an integer or a boolean")


def _variants(value: Any) -> list[Any]:
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return value
        if all(isinstance(item, int) and not isinstance(item, bool) for item in value):
            return value
    raise malformed("match.any and match.except must be a list of strings or a list of integers")


def _range(value: Any) -> Any:
    fields = Fields(value, "range")
    limits = {name: limit for name in ("gte", "gt", "lte", "lt") if (limit := fields.any(name)) is not None}
    fields.done()
    if all(isinstance(limit, int | float) and not isinstance(limit, bool) for limit in limits.values()):
        return q.RangeFloat(**limits)
    if all(isinstance(limit, str) for limit in limits.values()):
        return q.RangeDateTime(**limits)
    raise malformed("the limits of a range must be all numbers or all datetimes")


def _values_count(value: Any) -> Any:
    fields = Fields(value, "values_count")
    read = q.ValuesCount(**{name: fields.whole(name) for name in ("lt", "gt", "lte", "gte")})
    fields.done()
    return read


def read_geo_point(value: Any) -> Any:
    """Return a point on earth."""
    fields = Fields(value, "geo point")
    lon, lat = fields.number("lon"), fields.number("lat")
    fields.done()
    if lon is None or lat is None:
        raise malformed("a geo point must have lon and lat")
    return q.GeoPoint(lon, lat)


def _box(value: Any) -> Any:
    fields = Fields(value, "geo_bounding_box")
    corners = read_geo_point(fields.required("top_left")), read_geo_point(fields.required("bottom_right"))
    fields.done()
    return q.GeoBoundingBox(*corners)


def _circle(value: Any) -> Any:
    fields = Fields(value, "geo_radius")
    center, radius = read_geo_point(fields.required("center")), fields.number("radius")
    fields.done()
    if radius is None:
        raise malformed("geo_radius must have a radius")
    return q.GeoRadius(center, radius)


def _polygon(value: Any) -> Any:
    fields = Fields(value, "geo_polygon")
    exterior = _ring(fields.required("exterior"))
    interiors = [_ring(ring) for ring in fields.items("interiors") or []]
    fields.done()
    return q.GeoPolygon(exterior, interiors or None)


def _ring(value: Any) -> list[Any]:
    fields = Fields(value, "ring")
    points = fields.items("points")
    fields.done()
    if points is None:
        raise malformed("a ring must have points")
    return [read_geo_point(point) for point in points]
