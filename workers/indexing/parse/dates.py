"""Dates as formats write them, to ISO 8601; what is no date becomes None."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any

_ISO = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ](\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?\s*(Z|[+-]\d{2}:?\d{2})?)?",
    re.IGNORECASE,
)
_PDF = re.compile(r"D:(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(Z|[+-]\d{2}'?:?\d{2})?")
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})$")
_SLASHED = re.compile(r"(\d{4})[/.](\d{1,2})[/.](\d{1,2})$")
_DAY_FIRST = re.compile(r"(\d{1,2})(?:st|nd|rd|th|\.)?[ -]([A-Za-z]{3,9})\.?,?[ -](\d{4})")
_MONTH_FIRST = re.compile(r"([A-Za-z]{3,9})\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})")
_YEAR = re.compile(r"(\d{4})(?:-(\d{2}))?$")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def iso(value: Any) -> str | None:
    """Return the date or time as ISO 8601, with an offset only where the format says one."""
    if isinstance(value, datetime):
        return value.replace(microsecond=0).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    text = " ".join(str(value or "")[:100].split()).strip("<>[]\"'")
    try:
        return _iso(text)
    except (ValueError, OverflowError):
        return None


def _iso(text: str) -> str | None:
    if found := _ISO.match(text):
        year, month, day, hour, minute, second, zone = found.groups()
        if hour is None:
            return date(int(year), int(month), int(day)).isoformat()
        return _time([year, month, day, hour, minute, second], zone)
    if found := _PDF.match(text):
        *parts, zone = found.groups()
        return _time(parts, zone.replace("'", "") if zone else None)
    if found := _COMPACT.match(text) or _SLASHED.match(text):
        return date(int(found[1]), int(found[2]), int(found[3])).isoformat()
    if re.match(r"[A-Za-z]{3,9},? \d|\d{1,2} [A-Za-z]{3} \d{4} \d", text) and ":" in text:
        import email.utils  # a fiftieth of a parser child's start

        try:
            return email.utils.parsedate_to_datetime(text).isoformat()
        except (ValueError, TypeError, IndexError):
            pass
    if found := _DAY_FIRST.search(text):
        return date(int(found[3]), _month(found[2]), int(found[1])).isoformat()
    if found := _MONTH_FIRST.search(text):
        return date(int(found[3]), _month(found[1]), int(found[2])).isoformat()
    if found := _YEAR.match(text):
        return date(int(found[1]), int(found[2] or 1), 1).isoformat()
    return None


def _time(parts: list[Any], zone: str | None) -> str:
    year, month, day, hour, minute, second = (int(part) if part else None for part in parts)
    moment = datetime(year or 1, month or 1, day or 1, hour or 0, minute or 0, min(59, second or 0))
    text = moment.isoformat()
    if not zone:
        return text
    if zone in ("Z", "z"):
        return text + "+00:00"
    digits = zone[1:].replace(":", "")
    if int(digits[:2]) > 14 or int(digits[2:] or 0) > 59:
        return text
    return f"{text}{zone[0]}{digits[:2]}:{digits[2:] or '00'}"


def _month(name: str) -> int:
    return _MONTHS.index(name[:3].lower()) + 1
