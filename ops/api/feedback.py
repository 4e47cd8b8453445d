"""/v1/feedback: what people think of hits and answers; kept in the ledger for evaluation and training."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from ops.api.errors import ApiError
from workers.contract import asked
from workers.contract.asked import Asked, Judgement
from workers.query.filters import BadFilter, read_filter

router = APIRouter(tags=["feedback"])

CURSOR = r"^\d+(\.\d+)?~[0-9a-f-]{36}$"
"""Time and id of the judgement after which a page begins."""


class FeedbackBody(BaseModel):
    """A judgement.  The query is named by the ``id`` of its result, or repeated when no log is kept."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    kind: Literal["hit", "answer"]
    vote: Literal["up", "down"]
    query_id: UUID | None = None
    query: Annotated[str | None, Field(min_length=1, max_length=8000)] = None
    filters: Annotated[
        dict[str, Any] | None, Field(description="Those of the query, where the log does not know them.")
    ] = None
    doc_id: UUID | None = None
    chunk_id: UUID | None = None
    answer: Annotated[str | None, Field(max_length=50_000, description="The answer that is judged.")] = None
    text: Annotated[str | None, Field(max_length=10_000, description="Why.")] = None


@router.post("/feedback", status_code=201, summary="Judge a hit or an answer")
def add(request: Request, body: Annotated[FeedbackBody, Body()]) -> JSONResponse:
    """Remember a judgement; it stays until it is withdrawn."""
    known = request.app.state.query_log.find(str(body.query_id)) if body.query_id else None
    query = body.query or (known.query if known else None)
    if query is None:
        raise ApiError(
            422,
            "invalid_request",
            "This query is not in the log." if body.query_id else "Which query is it about?",
            "Send query, the words that were asked.",
        )
    if body.kind == "hit" and body.doc_id is None and body.chunk_id is None:
        raise ApiError(422, "invalid_request", "Which hit is it about?", "Send doc_id or chunk_id (a hit's id).")
    try:
        read_filter(body.filters or {})
    except BadFilter as exc:
        raise ApiError(422, "invalid_request", f"filters: {exc}", "Send those of the search.") from None
    key = asked.judge(request.app.state.engine, _judgement(body, query, known))
    return JSONResponse({"id": key}, status_code=201)


@router.get("/feedback", summary="List judgements")
def read(
    request: Request,
    kind: Literal["hit", "answer"] | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    cursor: Annotated[str | None, Query(max_length=100, pattern=CURSOR)] = None,
) -> JSONResponse:
    """Return one page of judgements, oldest first; of equals (same kind, query and place) the last one counts."""
    at, _, key = (cursor or "-1~").partition("~")
    found = list(islice(asked.judgements(request.app.state.engine, kind=kind, after=(float(at), key)), limit + 1))
    page = found[:limit]
    following = f"{page[-1].at!r}~{page[-1].id}" if len(found) > limit else None
    return JSONResponse({"feedback": [_shown(each) for each in page], "next_cursor": following})


@router.delete("/feedback/{judgement_id}", summary="Withdraw a judgement")
def withdraw(request: Request, judgement_id: UUID) -> JSONResponse:
    """Forget it."""
    if not asked.withdraw(request.app.state.engine, str(judgement_id)):
        raise ApiError(404, "not_found", "There is no judgement of this id.", "GET /v1/feedback lists them.")
    return JSONResponse({"id": str(judgement_id), "withdrawn": True})


@router.delete("/queries", summary="Empty the query log")
def forget(request: Request) -> JSONResponse:
    """Forget everything that was asked; judgements stay."""
    return JSONResponse({"forgotten": request.app.state.query_log.forget()})


def _judgement(body: FeedbackBody, query: str, known: Asked | None) -> Judgement:
    """Fill in what the log knows of the hit."""
    chunk, document, path = body.chunk_id and str(body.chunk_id), body.doc_id and str(body.doc_id), None
    for hit in known.hits if known else ():
        if chunk == hit.chunk_id or (chunk is None and document == hit.doc_id):
            chunk, document, path = hit.chunk_id, hit.doc_id, hit.path
            break
    return Judgement(
        kind=body.kind,
        vote=body.vote,
        query=query,
        query_id=str(body.query_id) if body.query_id else None,
        doc_id=document or None,
        chunk_id=chunk or None,
        path=path,
        answer=body.answer,
        text=body.text,
        filters=body.filters or (known.filters if known else None),
    )


def _shown(each: Judgement) -> dict[str, Any]:
    return {name: getattr(each, name) for name in ("id", "at", *FeedbackBody.model_fields, "path")}
