"""Qdrant's update requests: JSON -> the engine's operations.  All of a request is read before any is applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qdrant_edge as q

from ops.embedded.qdrant.errors import NotDone, engine
from ops.embedded.qdrant.fields import Fields, enum_words, has_just, malformed, point_id, point_ids
from ops.embedded.qdrant.filters import read_filter
from ops.embedded.qdrant.vectors import UNNAMED, Spaces, read_point_vectors, space

Reader = Callable[[Any, Spaces], Any]
_MODES = enum_words(q.UpdateMode)
_USUAL_POINT = frozenset({"id", "vector", "payload"})
_USUAL_VECTORS = frozenset({"id", "vector"})


def upsert(value: Any, spaces: Spaces) -> Any:
    """Read points to be stored, one by one or column by column."""
    fields = _opened(value, "points")
    condition, mode = fields.read("update_filter", read_filter), fields.one_of("update_mode", _MODES)
    batch = fields.object("batch")
    given = _rows(batch) if batch is not None else fields.items("points")
    if given is None:
        raise malformed("an upsert must have points or a batch")
    fields.done()
    points = [_point(point, spaces) for point in given]
    with engine():
        return q.UpdateOperation.upsert_points(points, condition, mode)


def _point(value: Any, spaces: Spaces) -> Any:
    payload: dict[str, Any] | None
    if has_just(value, _USUAL_POINT) and isinstance(value["payload"], dict):
        key, payload = point_id(value["id"]), value["payload"]
        vectors = read_point_vectors(value["vector"], spaces)
    else:
        fields = Fields(value, "point")
        key, payload = point_id(fields.required("id")), fields.object("payload")
        vectors = read_point_vectors(fields.required("vector"), spaces)
        fields.done()
    with engine():
        return q.Point(key, vectors, payload or {})


def _rows(value: Any) -> list[dict[str, Any]]:
    fields = Fields(value, "batch")
    ids, vectors, payloads = point_ids(fields.required("ids")), fields.required("vectors"), fields.items("payloads")
    fields.done()
    if isinstance(vectors, dict):
        _same_length(ids, *vectors.values())
        vectors = [dict(zip(vectors, row, strict=True)) for row in zip(*vectors.values(), strict=True)]
    payloads = [None] * len(ids) if payloads is None else payloads
    _same_length(ids, vectors, payloads)
    rows = zip(ids, vectors, payloads, strict=True)
    return [{"id": key, "vector": vector, "payload": payload} for key, vector, payload in rows]


def _same_length(ids: list[Any], *columns: Any) -> None:
    if not all(isinstance(column, list) and len(column) == len(ids) for column in columns):
        raise malformed("ids, vectors and payloads of a batch must be lists of the same length")


def update_vectors(value: Any, spaces: Spaces) -> Any:
    """Read vectors to be stored at points that exist."""
    fields = _opened(value, "vectors")
    condition = fields.read("update_filter", read_filter)
    points = [_point_vectors(point, spaces) for point in fields.items("points") or []]
    fields.done()
    with engine():
        return q.UpdateOperation.update_vectors(points, condition)


def _point_vectors(value: Any, spaces: Spaces) -> Any:
    if has_just(value, _USUAL_VECTORS):
        key, vectors = point_id(value["id"]), read_point_vectors(value["vector"], spaces)
    else:
        fields = Fields(value, "point")
        key, vectors = point_id(fields.required("id")), read_point_vectors(fields.required("vector"), spaces)
        fields.done()
    with engine():
        return q.PointVectors(key, vectors)


def delete_vectors(value: Any, spaces: Spaces) -> Any:
    """Read names of vectors to be dropped from points."""
    fields = _opened(value, "vectors")
    names = fields.words("vector") or []
    # A list with one empty name, or none at all, is how clients say the unnamed vector.
    names = names or [UNNAMED]
    for name in names:
        space(spaces, name)
    return _selected(
        fields,
        lambda ids: q.UpdateOperation.delete_vectors(ids, names),
        lambda condition: q.UpdateOperation.delete_vectors_by_filter(condition, names),
    )


def delete(value: Any, spaces: Spaces) -> Any:
    """Read which points are to be dropped."""
    operation = q.UpdateOperation
    return _selected(_opened(value, "delete"), operation.delete_points, operation.delete_points_by_filter)


def set_payload(value: Any, spaces: Spaces) -> Any:
    """Read a payload to be merged into that of points."""
    fields = _opened(value, "payload")
    payload, key = _payload(fields), fields.text("key")
    return _selected(
        fields,
        lambda ids: q.UpdateOperation.set_payload(ids, payload, key),
        lambda condition: q.UpdateOperation.set_payload_by_filter(condition, payload, key),
    )


def overwrite_payload(value: Any, spaces: Spaces) -> Any:
    """Read a payload to be put in the place of that of points."""
    fields = _opened(value, "payload")
    payload, key = _payload(fields), fields.text("key")
    return _selected(
        fields,
        lambda ids: q.UpdateOperation.overwrite_payload(ids, payload, key),
        lambda condition: q.UpdateOperation.overwrite_payload_by_filter(condition, payload, key),
    )


def delete_payload(value: Any, spaces: Spaces) -> Any:
    """Read which fields are to be dropped from points' payloads."""
    fields = _opened(value, "payload")
    keys = fields.words("keys")
    if keys is None:
        raise malformed("missing field `keys` in payload")
    return _selected(
        fields,
        lambda ids: q.UpdateOperation.delete_payload(ids, keys),
        lambda condition: q.UpdateOperation.delete_payload_by_filter(condition, keys),
    )


def clear_payload(value: Any, spaces: Spaces) -> Any:
    """Read which points are to lose their payload."""
    operation = q.UpdateOperation
    return _selected(_opened(value, "payload"), operation.clear_payload, operation.clear_payload_by_filter)


OPERATIONS: Mapping[str, Reader] = {
    "upsert": upsert,
    "delete": delete,
    "set_payload": set_payload,
    "overwrite_payload": overwrite_payload,
    "delete_payload": delete_payload,
    "clear_payload": clear_payload,
    "update_vectors": update_vectors,
    "delete_vectors": delete_vectors,
}


def batch(value: Any, spaces: Spaces) -> list[Any]:
    """Read a list of operations of any kind."""
    fields = Fields(value, "batch")
    given = fields.items("operations")
    fields.done()
    if given is None:
        raise malformed("missing field `operations` in batch")
    return [_operation(item, spaces) for item in given]


def _operation(value: Any, spaces: Spaces) -> Any:
    if not isinstance(value, dict) or len(value) != 1:
        raise malformed("an operation must be an object with one field")
    [(name, inner)] = value.items()
    if name not in OPERATIONS:
        raise malformed(f"an operation must be one of {', '.join(OPERATIONS)}")
    return OPERATIONS[name](inner, spaces)


def _opened(value: Any, where: str) -> Fields:
    # A list of ids is the short form of a selector.
    fields = Fields({"points": value} if isinstance(value, list) else value, where)
    if "shard_key" in fields:
        raise NotDone("shard_key")
    return fields


def _payload(fields: Fields) -> dict[str, Any]:
    payload = fields.object("payload")
    if payload is None:
        raise malformed("missing field `payload`")
    return payload


def _selected(fields: Fields, by_ids: Callable[[list[Any]], Any], by_filter: Callable[[Any], Any]) -> Any:
    ids, condition = fields.read("points", point_ids), fields.read("filter", read_filter)
    fields.done()
    if (ids is None) == (condition is None):
        raise malformed("there must be points or a filter, and not both")
    with engine():
        return by_ids(ids) if ids is not None else by_filter(condition)
