"""Dates as people write them in filters and metadata: a year, a month, a day, or an instant (RFC 3339).  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_PERIOD = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?", re.ASCII)
_INSTANT = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:[Zz]|[+-]\d{2}:?\d{2})?)?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Period:
    """From ``start`` up to ``end`` (not included); an instant is a period without length."""

    start: datetime
    end: datetime

    @property
    def is_instant(self) -> bool:
        """It has no length."""
        return self.start == self.end


def period(value: object) -> Period | None:
    """Return the period that is meant by a year (number or text), month, day or instant; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int) and 1000 <= value <= 9999:
        value = str(value)
    if not isinstance(value, str):
        return None
    found = _PERIOD.fullmatch(value)
    if found is None:
        at = instant(value)
        return Period(at, at) if at is not None else None
    year, month, day = (int(part) if part else None for part in found.groups())
    try:
        start = datetime(year or 0, month or 1, day or 1, tzinfo=UTC)
        if day:
            return Period(start, start + timedelta(days=1))
        if month:
            return Period(start, start.replace(year=start.year + month // 12, month=month % 12 + 1))
        return Period(start, start.replace(year=start.year + 1))
    except (ValueError, OverflowError):
        return None


def instant(text: str) -> datetime | None:
    """Return the point in time that a full date, or date and time, names (UTC where it says no zone); None if none."""
    if _INSTANT.fullmatch(text) is None:
        return None
    try:
        at = datetime.fromisoformat(text.upper().replace("Z", "+00:00"))
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
