"""The user's own metadata: from folder rules, the document itself, its sidecar and the upload; the later wins.

Types are kept: numbers, truth values, lists; dates as RFC 3339.  What cannot be filtered by is left out.  Pure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from pathspec import GitIgnoreSpec

from workers.indexing.values import DocumentMetadata

OURS = frozenset({"source", "path", "heading", "page", "chunk", "filetype"})
"""What nobody but the pipeline says."""

KNOWN = ("title", "author", "language", "url", "created", "modified")
"""What formats say of themselves, and a sidecar, a rule or an upload may say better."""

MOST_FIELDS = 64
MOST_ITEMS = 100
LONGEST_TEXT = 2_000
LONGEST_NAME = 100
DEEPEST = 3

_FORBIDDEN = set("\"'[]\\\0")


@dataclass(frozen=True, slots=True)
class Described:
    """What is known of a document, and what is wrong with its sidecar (None: nothing), for people."""

    metadata: dict[str, Any]
    fault: str | None = None


class FolderRules:
    """`UPWELL_METADATA_RULES`: patterns as in .gitignore, or SOURCE:pattern, and the fields that they give."""

    def __init__(self, rules: Mapping[str, Mapping[str, Any]]) -> None:
        self._rules = [(*_pattern(pattern), own_fields(fields)) for pattern, fields in rules.items()]
        self.fingerprint: dict[str, Any] = {pattern: dict(fields) for pattern, fields in rules.items()}

    def fields(self, source: str, path: str) -> dict[str, Any]:
        """Return what the rules say of a document; a later rule wins."""
        found: dict[str, Any] = {}
        for of_source, spec, fields in self._rules:
            if of_source in (None, source) and spec.match_file(path):
                found |= fields
        return found


NO_RULES = FolderRules({})


def describe(
    facts: DocumentMetadata,
    *,
    source: str,
    path: str,
    sidecar: bytes | None,
    extra: Mapping[str, Any],
    rules: FolderRules,
) -> Described:
    """Return a document's metadata without its place: what the format says, under what people say."""
    beside, fault = _sidecar(sidecar)
    general, personal = rules.fields(source, path), {**beside, **own_fields(extra)}
    own = {**general, **own_fields(facts.extra), **personal}
    says = {name: getattr(facts, name) for name in KNOWN}
    for name in KNOWN:
        own.pop(name, None)
        if personal.get(name) is not None:
            says[name] = str(personal[name])
        elif says[name] is None and general.get(name) is not None:  # about many files; what one says itself is better
            says[name] = str(general[name])
    if says["created"] is None and _is_date(own.get("date")):
        says["created"] = own["date"]
    if fault is not None:
        own["sidecar_error"] = fault  # the ledger's reason makes room for others; this stays, and can be searched for
    return Described({**own, **says}, fault)


def own_fields(raw: Mapping[str, Any], depth: int = 1) -> dict[str, Any]:
    """Return the fields of ``raw`` that can be stored and filtered by, with their types."""
    found: dict[str, Any] = {}
    for name, value in raw.items():
        key = str(name).strip().replace(".", "_")
        if not key or len(key) > LONGEST_NAME or set(key) & _FORBIDDEN or (depth == 1 and key in OURS):
            continue
        kept = _kept(value, depth)
        if kept is not None and len(found) < MOST_FIELDS:
            found[key] = kept
    return found


def _kept(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return (own_fields(value, depth + 1) or None) if depth < DEEPEST else None
    if isinstance(value, list | tuple):
        items = [kept for item in value[:MOST_ITEMS] if (kept := _scalar(item)) is not None]
        return items or None
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, datetime | date):
        value = value.isoformat()
    if isinstance(value, str):
        text = " ".join(value.split())[:LONGEST_TEXT].encode("utf-8", "replace").decode()
        return _as_rfc3339(text) or None
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else float(value) if abs(value) < 1e300 else None
    return value if isinstance(value, float) and math.isfinite(value) else None


def _as_rfc3339(text: str) -> str:
    """Return a date and time as RFC 3339 (UTC where it says no zone); every other text as it is."""
    if len(text) < 16 or not _is_date(text):
        return text
    at = datetime.fromisoformat(text.replace("Z", "+00:00").replace("z", "+00:00"))
    shown = at.isoformat()
    return shown.replace("+00:00", "Z") if at.tzinfo is not None else shown + "Z"


def _is_date(value: Any) -> bool:
    if not isinstance(value, str) or not (10 <= len(value) <= 40) or value[4:5] != "-" or value[7:8] != "-":
        return False
    try:
        datetime.fromisoformat(value.replace("Z", "+00:00").replace("z", "+00:00"))
    except ValueError:
        return False
    return True


def _sidecar(raw: bytes | None) -> tuple[dict[str, Any], str | None]:
    if raw is None:
        return {}, None
    try:
        read = json.loads(raw)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        return {}, "Its sidecar (.meta.json) is no JSON object, or too large, and was not used. Correct it."
    return own_fields(read), None


def _pattern(written: str) -> tuple[str | None, GitIgnoreSpec]:
    source, colon, pattern = written.partition(":")
    return (source, GitIgnoreSpec.from_lines([pattern])) if colon else (None, GitIgnoreSpec.from_lines([written]))
