"""Which URL is which operation."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import orjson
from pydantic_core import to_json

from ops.embedded.http import Reply, Request
from ops.embedded.qdrant.collection import Collection
from ops.embedded.qdrant.errors import ApiError, BadRequest, NotDone, NotFound
from ops.embedded.qdrant.store import Store

VERSION = "1.19.0"
FULL = 500_000

Operation = Callable[[Collection, Any], Any]

_COLLECTION = re.compile(r"^/collections/([^/]+)(/.*)?$")
_INDEX = re.compile(r"^/index/(.+)$")
_POINT = re.compile(r"^/points/([0-9]+|[0-9a-fA-F-]{32,36})$")

_READS: dict[tuple[str, str], Operation] = {
    ("POST", "/points"): Collection.retrieve,
    ("POST", "/points/scroll"): Collection.scroll,
    ("POST", "/points/count"): Collection.count,
    ("POST", "/facet"): Collection.facet,
    ("POST", "/points/query"): Collection.query,
    ("POST", "/points/query/batch"): Collection.query_batch,
    ("POST", "/points/search"): Collection.search,
    ("POST", "/points/search/batch"): Collection.search_batch,
}
_WRITES: dict[tuple[str, str], str] = {
    ("PUT", "/points"): "upsert",
    ("POST", "/points/delete"): "delete",
    ("PUT", "/points/vectors"): "update_vectors",
    ("POST", "/points/vectors/delete"): "delete_vectors",
    ("POST", "/points/payload"): "set_payload",
    ("PUT", "/points/payload"): "overwrite_payload",
    ("POST", "/points/payload/delete"): "delete_payload",
    ("POST", "/points/payload/clear"): "clear_payload",
}
_ELSEWHERE = re.compile(
    r"^/(snapshots|cluster|shards|points/(recommend|discover|query/groups|search/groups|search/matrix|recommend/.*|discover/.*))"
)


class Api:
    """Answers one request after another."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._operations = 0

    async def answer(self, request: Request) -> Reply:
        """Answer; every answer is JSON in Qdrant's envelope."""
        if not _only_reads(request):
            await self._store.may_write()
        started = time.perf_counter()
        try:
            result = self._route(request)
        except ApiError as exc:
            body = {"status": {"error": str(exc)}, "time": time.perf_counter() - started}
            return Reply(exc.status, to_json(body))
        if isinstance(result, Reply):
            return result
        body = {"result": result, "status": "ok", "time": time.perf_counter() - started}
        return Reply(200, to_json(body, inf_nan_mode="null"))

    def _route(self, request: Request) -> Any:
        method, path = request.method, request.path.rstrip("/") or "/"
        if method == "GET" and (plain := self._plain(path)) is not None:
            return plain
        if path == "/collections" and method == "GET":
            return {"collections": [{"name": name} for name in self._store.names()]}
        if path == "/collections/aliases" and method == "POST":
            self._store.change_aliases(_body(request))
            return True
        if path == "/aliases" and method == "GET":
            return {"aliases": self._store.aliases()}
        found = _COLLECTION.match(path)
        if found is None:
            if path.startswith(("/snapshots", "/cluster", "/telemetry", "/issues", "/locks", "/metrics")):
                raise NotDone(f"{method} {path}")
            raise NotFound("Not found: there is no such route")
        return self._collection(request, unquote(found[1]), found[2] or "")

    def _plain(self, path: str) -> Any:
        if path == "/":
            return Reply(200, to_json({"title": "qdrant - vector search engine", "version": VERSION, "commit": None}))
        if path in ("/healthz", "/livez", "/readyz"):
            words = b"all shards are ready" if path == "/readyz" else b"healthz check passed"
            return Reply(200, words, content_type=b"text/plain")
        if path == "/upwell/fullness":
            full = self._store.fullness()
            advice = (
                f"The embedded Qdrant holds {full['points']:,} points and compares each query with every one. Move to a"
                " Qdrant server: set UPWELL_QDRANT_URL."
                if full["points"] > FULL
                else None
            )
            return Reply(200, to_json(full | {"advice": advice}))
        return None

    def _collection(self, request: Request, name: str, rest: str) -> Any:
        method = request.method
        if rest == "":
            return self._whole(request, name)
        if rest == "/exists" and method == "GET":
            return {"exists": self._store.has(name)}
        if rest == "/aliases" and method == "GET":
            return {"aliases": self._store.aliases(name)}
        collection = self._store.collection(name)
        if read := _READS.get((method, rest)):
            return read(collection, _body(request))
        collection.written += len(request.body)
        if kind := _WRITES.get((method, rest)):
            collection.write(kind, _body(request))
            return self._done()
        if (method, rest) == ("POST", "/points/batch"):
            return [self._done() for _ in range(collection.write_batch(_body(request)))]
        if (method, rest) == ("PUT", "/index"):
            collection.create_index(_body(request))
            return self._done()
        if method == "DELETE" and (index := _INDEX.match(rest)):
            collection.delete_index(unquote(index[1]))
            return self._done()
        if method == "GET" and (point := _POINT.match(rest)):
            return collection.point(point[1])
        if _ELSEWHERE.match(rest):
            raise NotDone(f"{method} {rest}")
        raise NotFound("Not found: there is no such route")

    def _whole(self, request: Request, name: str) -> Any:
        match request.method:
            case "GET":
                return self._store.collection(name).info()
            case "PUT":
                self._store.create(name, _body(request))
                return True
            case "PATCH":
                self._store.change(name, _body(request))
                return True
            case "DELETE":
                return self._store.delete(name)
        raise NotFound("Not found: there is no such route")

    def _done(self) -> dict[str, Any]:
        """Every write is applied before it is answered, whatever `wait` says."""
        self._operations += 1
        return {"operation_id": self._operations, "status": "completed"}


def too_large(limit: int) -> Reply:
    """Return the answer to a body over the limit."""
    text = f"Payload error: JSON payload is larger than allowed (limit: {limit} bytes)."
    return Reply(413, to_json({"status": {"error": text}, "time": 0.0}))


def _only_reads(request: Request) -> bool:
    if request.method == "GET":
        return True
    found = _COLLECTION.match(request.path.rstrip("/"))
    return found is not None and (request.method, found[2]) in _READS


def _body(request: Request) -> Any:
    if not request.body:
        return {}
    try:
        return orjson.loads(request.body)
    except ValueError as exc:
        raise BadRequest("Format error in JSON body: this is no JSON") from exc
