"""What every face that asks has in common: a number for each query, the query log, and errors of the query worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

from fastapi import Request

from ops.api.errors import ApiError
from workers.contract.asked import Asked, Place
from workers.contract.disk import room

OPT_OUT = "x-upwell-log"
"""Header with which one request keeps itself out of the query log: ``X-Upwell-Log: off``."""


async def search(request: Request, wanted: dict[str, Any], *, face: str = "search") -> dict[str, Any]:
    """Return the query worker's result, with an id.

    Raises:
        QueryAway: no answer in time.
        ApiError: the query worker refuses the request, or cannot search.
    """
    result = _checked(request, await request.app.state.queries.search(wanted))
    return _noted(request, wanted, result, face)


async def search_batch(request: Request, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the results of several searches, each with an id.  Raises as `search` does."""
    batch = _checked(request, await request.app.state.queries.search_batch(wanted))
    pairs = zip(wanted["searches"], batch["results"], strict=True)
    results = [_explained(request, r) if "error" in r else _noted(request, one, r, "search") for one, r in pairs]
    return batch | {"results": results}


async def answer(request: Request, wanted: dict[str, Any], *, face: str = "answer") -> dict[str, Any]:
    """Return the query worker's answer, with an id.  Raises as `search` does."""
    result = _checked(request, await request.app.state.queries.answer(wanted))
    return _noted(request, wanted, result, face)


async def stream(request: Request, wanted: dict[str, Any], *, face: str = "answer") -> AsyncIterator[tuple[str, Any]]:
    """Yield (event, data) of an answer as it comes; the last event has the id.

    Raises:
        QueryAway: nothing came in time.
    """
    async for event, data in request.app.state.queries.stream(wanted):
        match event:
            case "done":
                yield event, _noted(request, wanted, data, face)
            case "error":
                yield event, _explained(request, {"error": data})["error"]
            case _:
                yield event, data


def refusal(error: Mapping[str, Any]) -> ApiError:
    """Return the query worker's own error as a status: it says whether the request or a server was at fault."""
    kind = str(error.get("class", ""))
    away = kind.endswith("Unavailable")
    code = "unavailable" if away else "misconfigured" if kind.endswith("Misconfigured") else "invalid_request"
    usual = "See /openapi.json and ops/docs/search.md for what this takes." if kind == "BadRequest" else ""
    return ApiError(
        503 if away else 422,
        code,
        _sentence(str(error.get("message", "The query worker refused it."))),
        str(error.get("next") or usual),
    )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _checked(request: Request, result: dict[str, Any]) -> dict[str, Any]:
    if "error" in result:
        raise refusal(_explained(request, result)["error"])
    return result


def _explained(request: Request, result: dict[str, Any]) -> dict[str, Any]:
    """Return a result that is an error, with the reason that only the machine knows: nothing is written to a full disk.

    On one that was full from the first moment there is no collection yet, and none will be made.
    """
    error = result["error"]
    if error.get("class") != "IndexUnavailable" or error.get("next"):
        return result
    try:
        left = room(request.app.state.settings.data_dir.absolute())
    except OSError:  # the disk itself is away, which others tell
        return result
    return result | {"error": error | {"next": left.alarm}} if left.full else result


def _noted(request: Request, wanted: Mapping[str, Any], result: dict[str, Any], face: str) -> dict[str, Any]:
    """Give the result an id and remember it, unless settings or the caller say no."""
    key = str(uuid4())
    if request.headers.get(OPT_OUT, "").lower() != "off":
        request.app.state.query_log.add(_asked(key, wanted, result, face))
    return {"id": key, **result}


def _asked(key: str, wanted: Mapping[str, Any], result: Mapping[str, Any], face: str) -> Asked:
    hits = result.get("hits") or []
    return Asked(
        id=key,
        face=face,
        query=wanted["query"],
        mode=result.get("mode"),
        filters=wanted.get("filters"),
        hits=[Place(h["id"], h["doc_id"], str(h.get("metadata", {}).get("path") or "")) for h in hits],
        refused=result.get("refused"),
        grounded=result.get("grounded"),
        took_ms=result.get("took_ms"),
    )
