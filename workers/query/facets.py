"""Counts of what hits have in common (types, languages, years), over the documents that were found.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from workers.query.dates import period
from workers.query.ranking import values_of
from workers.query.values import Found

MOST_VALUES = 50
LONGEST = 200
_UNITS = {"year": 4, "month": 7, "day": 10}
"""`date:year` counts by the first four characters of a date in UTC, and so on."""


def count_facets(found: Sequence[Found], fields: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return, for each field, its values with the number of documents that have them, most frequent first.

    A document counts once, by its best chunk.  A value goes straight into a filter: ``{field: value}``.
    """
    documents = list({one.doc_id: one for one in reversed(found)}.values())
    return {field: _counted(documents, field) for field in fields}


def _counted(documents: Sequence[Found], field: str) -> list[dict[str, Any]]:
    name, _, unit = field.partition(":")
    counts: Counter[Any] = Counter()
    for one in documents:
        counts.update({_shown(value, unit) for value in values_of(one, name)})
    counts.pop(None, None)
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
    return [{"value": value, "count": count} for value, count in ranked[:MOST_VALUES]]


def _shown(value: Any, unit: str) -> Any:
    if unit:
        meant = period(value)
        return meant.start.isoformat()[: _UNITS[unit]] if meant is not None and unit in _UNITS else None
    if isinstance(value, str):
        return value if len(value) <= LONGEST else None
    return value if isinstance(value, int | float | bool) else None
