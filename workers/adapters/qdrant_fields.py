"""Payload indexes for the user's own metadata: declared ones at start, others when a field is first seen.

Without an index Qdrant reads every payload to filter, and in strict mode refuses.  An index has one type, that of the
field's first value; declaring it settles what the first value would only guess.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from workers.adapters.qdrant_filters import payload_key
from workers.adapters.qdrant_models import QdrantClient
from workers.adapters.qdrant_models import models as m
from workers.query.dates import instant

MOST = 128
"""Automatic indexes of a collection: each costs memory, and a thousand odd field names are somebody's mistake."""

KNOWN_S = 30.0
"""How long what was read of a collection's indexes is believed."""

LONGEST_KEYWORD = 256
NEVER = frozenset({"heading", "chunk", "url"})
"""Long, or different in every chunk, or there under another name."""


def told_of(client: QdrantClient, collection: str) -> dict[str, Any]:
    """Return what Qdrant tells of a collection, past the client's models: to finish those of a collection's
    configuration takes the client 0.2 s, in each process that asks once.

    Raises:
        UnexpectedResponse, ResponseHandlingException, ValueError: as the client does.
    """
    answer = client.http.client.request(
        type_=dict, method="GET", url="/collections/{collection_name}", path_params={"collection_name": collection}
    )
    found: dict[str, Any] = answer["result"]
    return found


class FieldIndexes:
    """Which fields of one collection have an index.  Threads share it."""

    def __init__(
        self, client: QdrantClient, collection: str, translated: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._client = client
        self._collection = collection
        self._translated = translated
        self._lock = threading.Lock()
        self._known: dict[str, str] | None = None
        self._declared: dict[str, str] = {}
        self._read_at = 0.0

    def declare(self, types: Mapping[str, str]) -> None:
        """Make the indexes that the settings name; one of another type is replaced."""
        self._declared = {payload_key(field): kind for field, kind in types.items()}
        with self._lock:
            self._make_declared()

    def see(self, payloads: Iterable[Mapping[str, Any]]) -> None:
        """Make indexes for fields that nobody has seen before; called before the points are written."""
        new = {key: value for payload in payloads for key, value in _leaves(payload.get("metadata") or {})}
        known = self._known
        if time.monotonic() - self._read_at > KNOWN_S:
            known = self._known = None  # the collection may have been lost and made again behind our back
        if known is not None and new.keys() <= known.keys():
            return
        with self._lock:
            self._make_declared()
            known = self._read()
            for key, value in new.items():
                kind = _kind(value)
                if key not in known and kind is not None and len(known) < MOST:
                    self._create(key, kind)

    def _make_declared(self) -> None:
        known = self._read()
        for key, kind in self._declared.items():
            if known.get(key) != kind:
                self._create(key, kind)

    def _read(self) -> dict[str, str]:
        if self._known is None:
            with self._translated():
                schema = told_of(self._client, self._collection)["payload_schema"]
            self._known = {key: str(info["data_type"]) for key, info in schema.items()}
            self._read_at = time.monotonic()
        return self._known

    def _create(self, key: str, kind: str) -> None:
        schema = m.KeywordIndexParams(type=m.KeywordIndexType.KEYWORD, prefix=True) if kind == "keyword" else None
        with self._translated():
            self._client.create_payload_index(
                self._collection, key, field_schema=schema or m.PayloadSchemaType(kind), wait=True
            )
        self._read()[key] = kind


def _leaves(metadata: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in metadata.items():
        field = f"{above}.{name}" if above else str(name)
        if isinstance(value, Mapping):
            yield from _leaves(value, field)
        elif value is not None and name not in NEVER:
            yield payload_key(field), value


def _kind(value: Any) -> str | None:
    """Return the type of index for a field with this value; None: it is nothing to filter by."""
    if isinstance(value, list):
        value = value[0] if value else None
    match value:
        case bool():
            return "bool"
        case int():
            return "integer"
        case float():
            return "float"
        case str() if instant(value) is not None:
            return "datetime"
        case str() if len(value) <= LONGEST_KEYWORD:
            return "keyword"
        case _:
            return None
