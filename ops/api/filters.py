"""Translates the filters of other faces (OpenAI's vector stores, Dify) into ours.  Pure.

Ours are JSON: `{"language": ["de", "en"], "date": {"gte": "2020"}, "or": [{…}, {…}], "not": {…}}`; all of it must hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ops.api.errors import ApiError

DEEPEST = 6
_DIFY_KEPT = "is, is not, in, not in, start with, empty, not empty, =, ≠, >, <, ≥, ≤, before, after"
_DIFY_RANGES = {">": "gt", "≥": "gte", ">=": "gte", "<": "lt", "≤": "lte", "<=": "lte", "after": "gt", "before": "lt"}


def from_openai(raw: Any, depth: int = 1) -> dict[str, Any]:
    """Return a comparison (`{"type", "key", "value"}`) or compound (`{"type", "filters"}`) filter of OpenAI as ours.

    Raises:
        ApiError: it is none.
    """
    if not isinstance(raw, dict) or depth > DEEPEST:
        raise _unknown("filters: each is an object with a type, and not nested without end.")
    kind, key = raw.get("type"), raw.get("key")
    if kind in ("and", "or"):
        inner = raw.get("filters")
        if not isinstance(inner, list) or not inner:
            raise _unknown(f"filters: {kind} needs a list of filters.")
        return _joined(kind, [from_openai(each, depth + 1) for each in inner])
    if not isinstance(key, str) or "value" not in raw:
        raise _unknown("filters: a comparison needs type, key and value.")
    value = raw["value"]
    match kind:
        case "eq" | "in":
            return {key: value}
        case "ne" | "nin":
            return {"not": {key: value}}
        case "gt" | "gte" | "lt" | "lte":
            return {key: {kind: value}}
        case _:
            raise _unknown("filters: type is eq, ne, gt, gte, lt, lte, in, nin, and, or.")


def from_dify(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return Dify's ``metadata_condition`` as ours.

    Raises:
        ApiError: it has an operator that we cannot keep; ignoring it would show more than was asked for.
    """
    conditions = raw.get("conditions")
    if not isinstance(conditions, list) or not conditions:
        return {}
    parts = [_condition(each) for each in conditions]
    return _joined("or" if raw.get("logical_operator") == "or" else "and", parts)


def _joined(how: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """All parts of one of our filters must hold anyway, so conditions on different fields need no `and`."""
    fields = [field for part in parts for field in part]
    if len(parts) == 1 or (how == "and" and len(set(fields)) == len(fields)):
        return {field: value for part in parts for field, value in part.items()}
    return {how: parts}


def _condition(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise _unknown("metadata_condition: a condition is an object.")
    named = raw.get("name")
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) for name in names):
        raise _unknown("metadata_condition: a condition needs the names of its fields.")
    found = [_one(name, raw.get("comparison_operator"), raw.get("value")) for name in names]
    return found[0] if len(found) == 1 else {"or": found}


def _one(name: str, operator: Any, value: Any) -> dict[str, Any]:
    match operator:
        case "is" | "=" | "in":
            return {name: value}
        case "is not" | "≠" | "!=" | "not in":
            return {"not": {name: value}}
        case "start with":
            return {name: {"prefix": value}}
        case "empty":
            return {name: {"exists": False}}
        case "not empty":
            return {name: {"exists": True}}
        case str() if operator in _DIFY_RANGES:
            return {name: {_DIFY_RANGES[operator]: value}}
        case _:
            named = f"comparison_operator {operator!r}" if _is_short(operator) else "that comparison_operator"
            raise _unknown(f"metadata_condition: {named} cannot be kept exactly. Those that can: {_DIFY_KEPT}.")


def _is_short(operator: Any) -> bool:
    return isinstance(operator, str) and len(operator) <= 40


def _unknown(message: str) -> ApiError:
    return ApiError(422, "invalid_request", message, "See ops/docs/http.md for the filters there are.")
