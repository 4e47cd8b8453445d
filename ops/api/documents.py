"""/v1/documents and /v1/held: what is indexed, why something is not, uploads, retries, deletions that wait."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from uuid import UUID

import httpx
from fastapi import APIRouter, Body, File, Form, Query, Request, UploadFile
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from ops.api.chunks import Chunks
from ops.api.errors import ApiError
from ops.api.ledger_views import LedgerViews, details, summary
from producers import held as held_documents
from producers.ignore import IgnoreRules
from producers.uploads import BadName, StorageFull, UploadTooLarge
from workers.contract.states import State

router = APIRouter(tags=["documents"])

TEXT = r"^[^\x00]*$"
"""No NUL: PostgreSQL does not take one."""

BLOCK = 1 << 20
MOST_CHUNKS = 2**31
"""Beyond every place that a chunk can have."""


class Chosen(BaseModel):
    """Which held documents a decision is about."""

    ids: list[UUID] | None = None
    all: bool = False


@router.get("/documents", summary="List documents")
def list_documents(
    request: Request,
    state: State | None = None,
    path: Annotated[str | None, Query(max_length=4000, pattern=TEXT, description="A path, or its beginning.")] = None,
    contains: Annotated[
        str | None, Query(max_length=4000, pattern=TEXT, description="A piece of the path, in capitals or not.")
    ] = None,
    source: Annotated[str | None, Query(max_length=255, pattern=TEXT)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=8000)] = None,
) -> JSONResponse:
    """Return one page, ordered by source and path.

    With `contains` a page may have fewer documents than `limit`, or none, and a `next_cursor` all the same: so many
    paths are looked through for one page.
    """
    piece = None if contains is None else unicodedata.normalize("NFC", contains)
    try:
        page, following = request.app.state.views.documents(
            state=state, path=path, contains=piece, source=source, limit=limit, cursor=cursor
        )
    except (ValueError, TypeError) as exc:
        raise ApiError(422, "invalid_request", "This cursor is none of ours.", "Start without a cursor.") from exc
    return JSONResponse({"documents": page, "next_cursor": following})


@router.post("/documents", status_code=202, summary="Upload")
def upload(
    request: Request,
    file: Annotated[list[UploadFile], File(description="One or more files.")],
    external_id: Annotated[str | None, Form(max_length=4000)] = None,
    metadata: Annotated[str | None, Form(max_length=20_000, description="A JSON object of your own fields.")] = None,
) -> JSONResponse:
    """Take files; answered when they are safe on disk and in the ledger.  Indexing follows."""
    if external_id is not None and len(file) > 1:
        raise ApiError(422, "invalid_request", "One external_id is for one file.", "Send the files one by one.")
    extra = _own_fields(metadata)
    stored = [_store(request, each, external_id, extra) for each in file]
    body: dict[str, Any] = {"documents": stored}
    if len(stored) == 1:
        body["id"] = stored[0]["id"]
    return JSONResponse(body, status_code=202)


@router.get("/documents/why", summary="Why is a path (not) indexed?")
def why(request: Request, path: Annotated[str, Query(min_length=1, max_length=4000, pattern=TEXT)]) -> JSONResponse:
    """Say which rule ignores a path of a watched folder, or what became of its document."""
    found = [_why(request.app.state.views, root, relative) for root, relative in _places(request, path)]
    if not found:
        roots = ", ".join(s["root"] for s in request.app.state.views.sources() if s["kind"] == "folder") or "none"
        raise ApiError(404, "not_found", "No watched folder holds this path.", f"Watched folders: {roots}.")
    known = [each for each in found if each["document"] is not None or each["ignored"]]
    return JSONResponse((known or found)[0])


@router.post("/documents/retry", summary="Retry all of a state")
def retry_all(request: Request, state: Annotated[State, Query()] = State.FAILED) -> JSONResponse:
    """Give every parked or failed document new attempts."""
    if state not in (State.FAILED, State.PARKED):
        raise ApiError(422, "invalid_request", "Only failed and parked documents can be retried.", "state=parked")
    ids = request.app.state.views.retry(state=state)
    request.app.state.hints.look(ids)
    return JSONResponse({"retried": len(ids), "ids": ids})


@router.get("/documents/{document_id}", summary="One document")
def show(request: Request, document_id: UUID) -> JSONResponse:
    """Return everything that explains its state."""
    return JSONResponse(details(_row(request, document_id)))


@router.get("/documents/{document_id}/chunks", summary="Its chunks")
def chunks(
    request: Request,
    document_id: UUID,
    around: Annotated[UUID | None, Query(description="A chunk that is to be in their middle.")] = None,
    first: Annotated[int, Query(ge=0, le=MOST_CHUNKS, description="Place of the first one.")] = 0,
    limit: Annotated[int | None, Query(ge=1, le=1000, description="How many places; without it: all.")] = None,
) -> JSONResponse:
    """Return what the index holds of it, in order.

    With `limit` only so many, and in `next` the `first` of those that follow. `around` shows a chunk among its
    neighbours; when the document does not have it any more, there are none.
    """
    _row(request, document_id)
    if limit is None and (around is not None or first):
        raise ApiError(422, "invalid_request", "around and first need a limit.", "Add limit=20.")
    held: Chunks = request.app.state.status.chunks
    try:
        if limit is None:
            return JSONResponse({"chunks": held.all(str(document_id))})
        if around is not None:
            part, following = held.around(str(document_id), str(around), limit)
        else:
            part, following = held.part(str(document_id), first, limit)
    except httpx.HTTPError as exc:
        address = request.app.state.settings.qdrant_url
        raise ApiError(503, "index_away", f"No answer from Qdrant at {address} (UPWELL_QDRANT_URL).") from exc
    return JSONResponse({"chunks": part, "next": following})


@router.delete("/documents/{document_id}", status_code=202, summary="Delete an upload")
def delete(request: Request, document_id: UUID) -> JSONResponse:
    """Forget an upload.  A file of a watched folder is deleted by deleting the file."""
    row = _row(request, document_id)
    if not request.app.state.uploads.remove(str(document_id)):
        if row.state == State.DELETED:
            raise ApiError(404, "not_found", "This document is deleted already.")
        raise ApiError(
            409, "watched", f"It is a file of the watched folder {row.source}.", "Delete the file; the index follows."
        )
    return JSONResponse({"id": str(document_id), "state": "queued"}, status_code=202)


@router.post("/documents/{document_id}/retry", status_code=202, summary="Retry one")
def retry(request: Request, document_id: UUID) -> JSONResponse:
    """Give a parked or failed document new attempts."""
    row = _row(request, document_id)
    ids = request.app.state.views.retry(key=str(document_id))
    if not ids:
        raise ApiError(409, "not_failed", f"It is {row.state}; only failed and parked documents can be retried.")
    request.app.state.hints.look(ids)
    return JSONResponse({"id": ids[0], "state": "queued"}, status_code=202)


@router.get("/held", summary="Deletions that wait")
def list_held(request: Request) -> JSONResponse:
    """Return the documents whose deletion waits for approval."""
    return JSONResponse({"documents": [summary(row) for row in held_documents.held(request.app.state.engine)]})


@router.post("/held/approve", summary="Delete held documents")
def approve(request: Request, chosen: Annotated[Chosen, Body()]) -> JSONResponse:
    """Delete them from the index."""
    ids = held_documents.approve(request.app.state.engine, _ids(chosen))
    request.app.state.hints.look(ids, bulk=True)
    return JSONResponse({"approved": len(ids), "ids": ids})


@router.post("/held/reject", summary="Keep held documents")
def reject(request: Request, chosen: Annotated[Chosen, Body()]) -> JSONResponse:
    """Keep them as they are indexed."""
    ids = held_documents.reject(request.app.state.engine, _ids(chosen))
    return JSONResponse({"rejected": len(ids), "ids": ids})


def _ids(chosen: Chosen) -> list[str] | None:
    if chosen.all:
        return None
    if not chosen.ids:
        raise ApiError(422, "invalid_request", "Name ids, or say all.", 'Send {"ids": [...]} or {"all": true}.')
    return [str(key) for key in chosen.ids]


def _row(request: Request, document_id: UUID) -> Any:
    row = request.app.state.views.document(str(document_id))
    if row is None:
        raise ApiError(404, "not_found", "There is no document of this id.", "GET /v1/documents lists them.")
    return row


def _own_fields(metadata: str | None) -> dict[str, Any] | None:
    if metadata is None:
        return None
    try:
        fields = json.loads(metadata)
    except ValueError as exc:
        raise ApiError(422, "invalid_request", "metadata is no JSON.", 'Send an object: {"field": "value"}.') from exc
    if not isinstance(fields, dict):
        raise ApiError(422, "invalid_request", "metadata is no object.", 'Send an object: {"field": "value"}.')
    return fields


def _store(request: Request, file: UploadFile, external_id: str | None, extra: dict[str, Any] | None) -> dict[str, Any]:
    try:
        stored = request.app.state.uploads.put(
            _blocks(file.file), filename=file.filename or "", external_id=external_id, metadata=extra
        )
    except UploadTooLarge as exc:
        raise ApiError(413, "too_large", str(exc), "Raise UPWELL_UPLOAD_MAX_BYTES, or split the file.") from exc
    except StorageFull as exc:
        raise ApiError(507, "storage_full", str(exc), "Make room, or move UPWELL_DATA_DIR to a larger disk.") from exc
    except BadName as exc:
        raise ApiError(422, "bad_name", str(exc)) from exc
    return {"id": stored.document_id, "path": stored.path, "bytes": stored.size, "created": stored.created}


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


def _places(request: Request, path: str) -> list[tuple[dict[str, Any], str]]:
    """Return (source, relative path) for every watched folder that the path may be in."""
    found = []
    for source in request.app.state.views.sources():
        if source["kind"] != "folder":
            continue
        if Path(path).is_absolute():
            absolute = os.path.normpath(path)
            for root in (source["root"], os.path.realpath(source["root"])):
                if absolute.startswith(root.rstrip("/") + "/"):
                    found.append((source, absolute[len(root.rstrip("/")) + 1 :]))
                    break
        elif ".." not in path.split("/"):
            found.append((source, os.path.normpath(path)))
    return found


def _why(views: LedgerViews, source: dict[str, Any], relative: str) -> dict[str, Any]:
    row = next((row for row in views.by_path(relative) if row.source == source["name"]), None)
    root = Path(source["root"])
    verdict = IgnoreRules(root).explain(relative, is_dir=(root / relative).is_dir()) if root.is_dir() else None
    ignored = bool(verdict and verdict.ignored)
    state = row.state if row is not None else None
    if ignored:
        reason = f"It is {verdict}."
    elif row is not None:
        reason = summary(row)["reason"] or summary(row)["next_step"] or f"It is {row.state}."
    elif not (root / relative).exists():
        reason = "There is no such file, and there never was one that the watcher saw."
    else:
        reason = "The watcher has not seen it yet. Is `upwell watch` running?"
    return {
        "source": source["name"],
        "path": relative,
        "ignored": ignored,
        "rule": verdict.rule if verdict and ignored else None,
        "where": verdict.where if verdict and ignored else None,
        "state": state,
        "reason": reason,
        "document": summary(row) if row is not None else None,
    }
