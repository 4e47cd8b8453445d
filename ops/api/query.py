"""POST /v1/search and /v1/answer: what the query worker takes, checked here and handed to it as it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from ops.api import asking
from ops.api.errors import ApiError
from ops.api.ledger_views import summary
from ops.api.queries import QueryAway
from workers.query.requests import AnswerRequest, BatchRequest, QuestionRequest, SearchRequest

router = APIRouter(tags=["query"])


@router.post("/search", summary="Search", response_class=JSONResponse)
async def search(request: Request, body: Annotated[SearchRequest, Body()]) -> Response:
    """Return hits, best first, and the mode that was really used."""
    return JSONResponse(await asking.search(request, body.model_dump(exclude_unset=True)))


@router.post("/search/batch", summary="Several searches", response_class=JSONResponse)
async def search_batch(request: Request, body: Annotated[BatchRequest, Body()]) -> Response:
    """Return the results in the order of the searches; their queries are embedded with one call."""
    return JSONResponse(await asking.search_batch(request, body.model_dump(exclude_unset=True)))


@router.post("/documents/{document_id}/explain", summary="Why is it (not) found?", response_class=JSONResponse)
async def explain(request: Request, document_id: UUID, body: Annotated[SearchRequest, Body()]) -> Response:
    """Say whether a search finds this document, and what keeps it away: its state, a filter, its words, better hits."""
    row = await asyncio.to_thread(request.app.state.views.document, str(document_id))
    if row is None:
        raise ApiError(404, "not_found", "There is no document of this id.", "GET /v1/documents lists them.")
    document = summary(row)
    why = await request.app.state.queries.explain(body.model_dump(exclude_unset=True) | {"doc_id": str(document_id)})
    if "error" in why:
        raise asking.refusal(why["error"])
    if why["verdict"] == "not_indexed":
        reason = document["reason"] or document["next_step"] or ""
        why["summary"] = f"None of its text is in the index: it is {document['state']}. {reason}".strip()
    return JSONResponse({"document": document, **why})


@router.post("/answer", summary="Answer with citations", response_class=JSONResponse)
async def answer(request: Request, body: Annotated[AnswerRequest, Body()]) -> Response:
    """Return an answer with citations; as server-sent events when the client accepts text/event-stream."""
    wanted = body.model_dump(exclude_unset=True)
    if "text/event-stream" in request.headers.get("accept", ""):
        request.app.state.queries.check_room()  # a stream has no status any more once it has begun
        return StreamingResponse(
            _events(request, wanted), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )
    return JSONResponse(await asking.answer(request, wanted))


@router.post("/questions", summary="A question that a passage answers", response_class=JSONResponse)
async def question(request: Request, body: Annotated[QuestionRequest, Body()]) -> Response:
    """Have the chat model write one, for test sets: checked, and None with a fault when none of its replies is one."""
    written = await request.app.state.queries.question(body.model_dump(exclude_unset=True))
    if "error" in written:
        raise asking.refusal(written["error"])
    return JSONResponse(written)


async def _events(request: Request, wanted: dict[str, Any]) -> AsyncIterator[str]:
    try:
        async for event, data in asking.stream(request, wanted):
            yield f"event: {event}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
    except QueryAway as exc:
        error = {"code": exc.code, "message": str(exc), "next": "Try again in a moment."}
        yield f"event: error\ndata: {json.dumps(error)}\n\n"
