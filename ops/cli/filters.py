"""`--filter`: conditions as people type them -> filters as the api takes them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from ops.cli.errors import UsageError

FILTER_HELP = (
    "Only what fits: key=value, key!=value, 'key>=2015', 'key<2020-07-01', key=begin*, key=* (present), or a filter in"
    " JSON; repeat a key with = for either value."
)
_CONDITION = re.compile(r"\s*([^=<>!{}]+?)\s*(!=|>=|<=|=|>|<)\s*(.*)", re.DOTALL)
_RANGES = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}


def parse_filters(words: Sequence[str]) -> dict[str, Any]:
    """Return conditions as one filter; all must hold, and a key repeated with ``=`` means any of its values.

    Raises:
        UsageError: one of them is no condition.
    """
    either: dict[str, list[str]] = {}
    tests: list[dict[str, Any]] = []
    for word in words:
        if word.lstrip().startswith("{"):
            tests.append(_json(word))
            continue
        found = _CONDITION.fullmatch(word)
        if found is None or not found[3].strip():
            raise UsageError(
                f"--filter {word!r} is not KEY=VALUE. Write for example: --filter source=inbox, or"
                " --filter 'date>=2015'"
            )
        key, sign, value = found[1], found[2], found[3].strip()
        if sign == "=" and not value.endswith("*"):
            either.setdefault(key, []).append(value)
        else:
            tests.append({key: _test(sign, value)})
    return _joined([{key: values[0] if len(values) == 1 else values} for key, values in either.items()] + tests)


def _test(sign: str, value: str) -> dict[str, Any]:
    present = {"exists": True} if value == "*" else {"prefix": value[:-1]}
    match sign:
        case "=":
            return present
        case "!=":
            return {"exists": False} if value == "*" else {"not": value}
        case _:
            return {_RANGES[sign]: value}


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one object where no key is twice, else a list of them that must all hold."""
    whole: dict[str, Any] = {}
    for part in parts:
        for key, test in part.items():
            before = whole.get(key)
            if before is None:
                whole[key] = test
            elif isinstance(before, dict) and isinstance(test, dict) and not before.keys() & test.keys():
                whole[key] = {**before, **test}
            else:
                return {"and": parts}
    return whole


def _json(word: str) -> dict[str, Any]:
    try:
        read = json.loads(word)
    except ValueError as exc:
        raise UsageError(f"--filter {word!r} begins like JSON and is none: {exc}") from exc
    if not isinstance(read, dict):
        raise UsageError("A filter in JSON is an object. See the manual: ops/docs/search.md")
    return read
