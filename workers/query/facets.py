"""Counts of what documents have in common (types, languages, years): of all that have a word of the query.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workers.query.dates import period
from workers.query.filters import values_at
from workers.query.values import Found

MOST_VALUES = 50
LONGEST = 200
_UNITS = {"year": 4, "month": 7, "day": 10}
"""`date:year` counts by the first four characters of a date in UTC, and so on."""


@dataclass(frozen=True, slots=True)
class Facets:
    """For each field its values with the number of documents that have them, most frequent first.

    ``documents`` were counted; ``complete`` says that no document with a word of the query was left out.
    """

    counts: dict[str, list[dict[str, Any]]]
    documents: int
    complete: bool
    note: str | None = None  # which of the fields no document has

    def as_json(self) -> dict[str, Any]:
        """Return them as readers get them."""
        over = {"documents": self.documents, "complete": self.complete, **({"note": self.note} if self.note else {})}
        return {"facets": self.counts, "facets_over": over}


def fault_of(facet: str) -> str | None:
    """Return what is wrong with a facet whatever is indexed: a unit that there is not; None: nothing."""
    _, colon, unit = facet.partition(":")
    if not colon or unit in _UNITS:
        return None
    return f"a facet counts dates by {', '.join(_UNITS)} (date:year), and other fields as they are (filetype)"


def field_of(facet: str) -> str:
    """Return the field that a facet counts: that of `date:year` is `date`."""
    return facet.partition(":")[0]


def count_facets(found: Sequence[Found], facets: Sequence[str], *, complete: bool) -> Facets:
    """Count; ``found`` may name a document several times.

    A document counts once, by its best chunk.  A value goes straight into a filter: ``{field: value}``.
    """
    documents = list({one.doc_id: one for one in reversed(found)}.values())
    return Facets({facet: _counted(documents, facet) for facet in facets}, len(documents), complete)


def _counted(documents: Sequence[Found], facet: str) -> list[dict[str, Any]]:
    name, _, unit = facet.partition(":")
    counts: Counter[Any] = Counter()
    for one in documents:
        counts.update({_shown(value, unit) for value in values_at(one.payload, name)})
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
