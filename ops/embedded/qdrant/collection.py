"""One collection: a shard of the engine, its creation request, and the operations of points."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import qdrant_edge as q

from ops.embedded.qdrant import schema, updates
from ops.embedded.qdrant.errors import ApiError, BadRequest, NotFound, StorageFull, engine
from ops.embedded.qdrant.fields import Fields, malformed, point_id, point_ids
from ops.embedded.qdrant.filters import read_filter
from ops.embedded.qdrant.queries import QueryReader, read_order_by, read_with_payload, read_with_vector
from ops.embedded.qdrant.vectors import UNNAMED, shown, space
from workers.contract.disk import LEAST_FREE, room

SCROLL_LIMIT = 10


class Collection:
    """A shard that is open.  All calls come from one thread."""

    def __init__(self, directory: Path, shard: Any, request: Mapping[str, Any]) -> None:
        self._disk = directory.parent
        self._shard = shard
        self.request = dict(request)
        self._spaces = schema.read_creation(request).spaces
        self.changes = 0
        self.touched_at = time.monotonic()
        self.written = 0
        """Bytes of all requests that wrote; counted by who reads requests."""
        self._meanwhile: list[Any] | None = None

    @classmethod
    def create(cls, directory: Path, request: Mapping[str, Any]) -> Collection:
        """Make a shard in ``directory``, which must not be there."""
        made = schema.read_creation(request)
        _check_room(directory.parent)
        directory.mkdir(parents=True)
        try:
            with engine():
                shard = q.EdgeShard.create(str(directory), made.config)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return cls(directory, shard, request)

    @classmethod
    def open(cls, directory: Path, request: Mapping[str, Any]) -> Collection:
        """Open the shard in ``directory``."""
        return cls(directory, _loaded(directory, request), request)

    def close(self) -> None:
        """Write everything and give the files back."""
        self._shard.flush()
        self._shard.close()

    def flush(self) -> None:
        """Write everything to disk.  The engine answers nobody meanwhile."""
        self._shard.flush()

    def remember_writes(self, *, wanted: bool) -> None:
        """Begin, or cease, to remember every write from now on."""
        self._meanwhile = [] if wanted else None

    def change_over(self, old: Path, new: Path) -> None:
        """Go on with the shard in ``new``, or with ``old`` as before when it is no good.  Nobody is answered meanwhile.

        Raises:
            ApiError: the new shard is no good.
        """
        meanwhile, self._meanwhile = self._meanwhile or [], None
        self._shard.close()  # before the other is loaded: both at once need twice the memory
        try:
            self._shard = _loaded(new, self.request)
            for operation in meanwhile:
                with suppress(ApiError), engine():  # what was refused the first time is refused again
                    self._shard.update(operation)
            with engine():
                self._shard.flush()
        except ApiError:
            self._shard = _loaded(old, self.request)
            raise

    # ------------------------------------------------------------------------------------------------ itself

    def info(self) -> dict[str, Any]:
        """Return what the server shows of a collection."""
        with engine():
            info = self._shard.info()
        return {
            "status": "green",
            "optimizer_status": "ok",
            "indexed_vectors_count": info.indexed_vectors_count,
            "points_count": info.points_count,
            "segments_count": info.segments_count,
            "config": schema.shown_config(self.request),
            "payload_schema": {name: schema.shown_index(index) for name, index in info.payload_schema.items()},
            "update_queue": {"length": 0},
        }

    def points(self) -> int:
        """Return how many points there are."""
        return int(self._shard.info().points_count)

    def create_index(self, body: Any) -> None:
        """Index a field of payloads."""
        name, params = schema.read_index(body)
        _check_room(self._disk)
        with engine():
            self._update(q.UpdateOperation.create_field_index(name, params))

    def delete_index(self, name: str) -> None:
        """Drop the index of a field."""
        with engine():
            self._update(q.UpdateOperation.delete_field_index(name))

    # ------------------------------------------------------------------------------------------------ writing

    def write(self, kind: str, body: Any) -> None:
        """Apply one update operation."""
        operation = updates.OPERATIONS[kind](body, self._spaces)
        _check_room(self._disk)
        with engine():
            self._update(operation)

    def write_batch(self, body: Any) -> int:
        """Apply several, in order; returns how many.  All are read before the first is applied."""
        operations = updates.batch(body, self._spaces)
        _check_room(self._disk)
        for operation in operations:
            with engine():
                self._update(operation)
        return len(operations)

    def _update(self, operation: Any) -> None:
        self.changes += 1
        self.touched_at = time.monotonic()
        if self._meanwhile is not None:
            self._meanwhile.append(operation)
        self._shard.update(operation)

    # ------------------------------------------------------------------------------------------------ reading

    def retrieve(self, body: Any) -> list[dict[str, Any]]:
        """Return points by id; unknown ones are left out."""
        fields = Fields(body, "request")
        ids = point_ids(fields.required("ids"))
        payload, vector = read_with_payload(fields, default=True), read_with_vector(fields)
        fields.ignore("shard_key")
        fields.done()
        with engine():
            return [_record(record) for record in self._shard.retrieve(ids, payload, vector)]

    def point(self, key: str) -> dict[str, Any]:
        """Return one point with everything."""
        number = int(key) if key.isdigit() else key
        with engine():
            found = self._shard.retrieve([point_id(number)], True, True)
        if not found:
            raise NotFound(f"Not found: Point with id {key} does not exists!")
        return _record(found[0])

    def scroll(self, body: Any) -> dict[str, Any]:
        """Return one page of points, ordered by id or by a field."""
        fields = Fields(body, "scroll")
        offset, limit = fields.read("offset", point_id), fields.whole("limit", at_least=1) or SCROLL_LIMIT
        condition, order = fields.read("filter", read_filter), fields.read("order_by", read_order_by)
        payload, vector = read_with_payload(fields, default=True), read_with_vector(fields)
        fields.ignore("shard_key")
        fields.done()
        if order is not None and offset is not None:
            raise BadRequest("Wrong input: Cannot use an `offset` when using `order_by`. Use `start_from` instead.")
        with engine():
            request = q.ScrollRequest(offset, limit, condition, payload, vector, order)
            records, following = self._shard.scroll(request)
        ordered = order is not None
        return {
            "points": [_record(record, ordered=ordered) for record in records],
            "next_page_offset": None if ordered else _id(following),
        }

    def count(self, body: Any) -> dict[str, int]:
        """Return how many points match."""
        fields = Fields(body, "count")
        condition, exact = fields.read("filter", read_filter), fields.flag("exact")
        fields.ignore("shard_key")
        fields.done()
        with engine():
            return {"count": self._shard.count(q.CountRequest(exact is not False, condition))}

    def facet(self, body: Any) -> dict[str, Any]:
        """Return the values of an indexed field with their numbers."""
        fields = Fields(body, "facet")
        key, limit = fields.required_text("key"), fields.whole("limit", at_least=1) or 10
        condition, exact = fields.read("filter", read_filter), fields.flag("exact")
        fields.ignore("shard_key")
        fields.done()
        with engine():
            found = self._shard.facet(q.FacetRequest(key, limit, bool(exact), condition))
        return {"hits": [{"value": hit.value, "count": hit.count} for hit in found.hits]}

    def query(self, body: Any) -> dict[str, Any]:
        """Answer one universal query."""
        request = self._reader().read(body)
        with engine():
            return {"points": [_scored(point) for point in self._shard.query(request)]}

    def query_batch(self, body: Any) -> list[dict[str, Any]]:
        """Answer several."""
        return [self.query(each) for each in _searches(body)]

    def search(self, body: Any) -> list[dict[str, Any]]:
        """Answer one query of the older search API."""
        request = self._reader().read_search(body)
        with engine():
            return [_scored(point) for point in self._shard.query(request)]

    def search_batch(self, body: Any) -> list[list[dict[str, Any]]]:
        """Answer several."""
        return [self.search(each) for each in _searches(body)]

    def _reader(self) -> QueryReader:
        return QueryReader(self._spaces, self._vector_of)

    def _vector_of(self, key: int | str, using: str) -> Any:
        space(self._spaces, using)
        with engine():
            found = self._shard.retrieve([key], False, True)
        if not found:
            raise NotFound(f"Not found: No point with id {key} found")
        vector = found[0].vector
        named = vector.get(using) if isinstance(vector, dict) else vector if using == UNNAMED else None
        if named is None:
            raise BadRequest(f"Wrong input: point {key} has no such vector")
        return named


def _loaded(directory: Path, request: Mapping[str, Any]) -> Any:
    """Open a shard with the configuration that it would be made with today."""
    config = schema.read_creation(request).config
    with engine():
        return q.EdgeShard.load(str(directory), config)


def _check_room(directory: Path) -> None:
    """The engine writes into mapped files: a page that finds no room on the disk ends the process with SIGBUS."""
    if room(directory).free < LEAST_FREE:
        raise StorageFull(
            f"Less than {LEAST_FREE >> 20} MB of the disk are free: nothing is written until there is room."
        )


def _searches(body: Any) -> list[Any]:
    fields = Fields(body, "batch")
    searches = fields.items("searches")
    fields.done()
    if searches is None:
        raise malformed("missing field `searches` in batch")
    return searches


def _id(value: Any) -> int | str | None:
    return value if value is None or isinstance(value, int) else str(value)


def _record(record: Any, *, ordered: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {"id": _id(record.id)}
    if record.payload is not None:
        found["payload"] = record.payload
    if record.vector is not None:
        found["vector"] = _vector(record.vector)
    if ordered and record.order_value is not None:
        found["order_value"] = record.order_value
    return found


def _scored(point: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"id": _id(point.id), "version": point.version, "score": point.score}
    if point.payload is not None:
        found["payload"] = point.payload
    if point.vector is not None:
        found["vector"] = _vector(point.vector)
    if point.order_value is not None:
        found["order_value"] = point.order_value
    return found


def _vector(vector: Any) -> Any:
    """An unnamed vector alone is a plain list, as the server gives it."""
    made = shown(vector)
    return made[UNNAMED] if isinstance(made, dict) and made.keys() == {UNNAMED} else made
