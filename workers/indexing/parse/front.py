"""What a writer of Markdown has put above the text as YAML or TOML.

A module of its own because most texts have none: what reads it is then not imported.
"""

from __future__ import annotations

import re
import tomllib
from datetime import date, datetime
from typing import Any

import yaml

from workers.indexing.parse.dates import iso
from workers.indexing.parse.language import iso639
from workers.indexing.values import DocumentMetadata

_ANCHOR = re.compile(r"(?:^|[\s:\[,-])[&*][\w-]", re.MULTILINE)
_YAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def facts(mark: str, written: str) -> DocumentMetadata | None:
    """Return what stands between two lines of ``mark`` (+++ is TOML); None where it is no list of fields."""
    raw = _fields(mark, written)
    if raw is None:
        return None
    plain = {str(key).lower(): value for key, each in raw.items() if (value := _plain(each)) is not None}

    def taken(*names: str) -> str | None:
        values = [value for name in names if (value := plain.pop(name, None)) is not None]
        return (", ".join(map(str, values[0])) if isinstance(values[0], list) else str(values[0])) if values else None

    day = iso(plain.get("date"))
    if day is not None:
        plain["date"] = day  # stays under its own name, which people filter by
    return DocumentMetadata(
        title=taken("title"),
        author=taken("author", "authors"),
        language=iso639(taken("language", "lang")),
        url=taken("url"),
        created=iso(taken("created")) or day,
        modified=iso(taken("modified", "updated", "lastmod")),
        extra=plain,
    )


def _fields(mark: str, written: str) -> dict[str, Any] | None:
    try:
        if mark == "+++":
            return tomllib.loads(written)
        if _ANCHOR.search(written):  # anchors could multiply without end
            return None
        raw = yaml.load(written, Loader=_YAML)  # noqa: S506 - libyaml's safe loader, or Python's
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None


def _plain(value: Any, depth: int = 1) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, list):
        items = [plain for item in value if not isinstance(item, dict | list) and (plain := _plain(item)) is not None]
        return items or None
    if isinstance(value, dict):
        return {str(key): _plain(each, depth + 1) for key, each in value.items()} if depth < 3 else None
    return value if isinstance(value, str | int | float | bool) else None
