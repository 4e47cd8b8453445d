"""POST /v1/search and /v1/answer: handed to the query worker as they are; it knows what they mean."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ops.api import asking
from ops.api.errors import ApiError
from ops.api.ledger_views import summary
from ops.api.queries import QueryAway

router = APIRouter(tags=["query"])


class RecencyBody(BaseModel):
    """Newer documents first."""

    model_config = ConfigDict(extra="forbid")
    field: Annotated[str, Field(max_length=100, description="A date of the metadata.")] = "modified"
    half_life_days: Annotated[float, Field(gt=0, le=36_500, description="Age at which half of the bonus is gone.")] = (
        365
    )
    weight: Annotated[float, Field(gt=0, le=1, description="Share of the score that age can take away.")] = 0.5


Query = Annotated[str, Field(min_length=1, max_length=4000, examples=["boiler code"])]


class Options(BaseModel):
    """How to search."""

    model_config = ConfigDict(extra="forbid")
    limit: Annotated[int, Field(ge=1, le=100)] = 10
    mode: Literal["hybrid", "lexical", "semantic"] = "hybrid"
    filters: Annotated[
        dict[str, Any] | None,
        Field(
            description="What a hit must be: equality, any-of, ranges, prefix, exists, and, or, not.",
            examples=[{"filetype": "text/markdown", "date": {"gte": "2015"}}],
        ),
    ] = None
    explain: Annotated[bool, Field(description="Say for each hit why it is there.")] = False
    facets: Annotated[
        list[str] | None,
        Field(
            max_length=16,
            description="Fields to count over all documents with a word of the query; `date:year` counts years.",
        ),
    ] = None
    per_document: Annotated[
        int | None, Field(ge=1, le=100, description="Chunks of a document that come before those of others.")
    ] = None
    collapse: Annotated[
        bool | None, Field(description="Show what says the same once; by default in lists of up to ten hits.")
    ] = None
    join: Annotated[
        bool | None,
        Field(description="Show chunks that stand side by side as one hit; by default in lists of up to ten hits."),
    ] = None
    neighbours: Annotated[int, Field(ge=0, le=5, description="Chunks before and after each hit to return.")] = 0
    diversity: Annotated[float, Field(ge=0, le=1, description="How much hits should differ (MMR); 0: not at all.")] = 0
    recency: RecencyBody | None = None
    rerank: Annotated[bool, Field(description="Let the reranker order the best, where there is one.")] = True


class SearchBody(Options):
    """What a search takes."""

    query: Query


class BatchBody(BaseModel):
    """Several searches at once."""

    model_config = ConfigDict(extra="forbid")
    searches: Annotated[list[SearchBody], Field(min_length=1, max_length=32)]


class QuestionBody(BaseModel):
    """A passage that somebody wants a question for."""

    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(min_length=1, max_length=20_000)]
    title: Annotated[str | None, Field(max_length=1_000)] = None
    heading: Annotated[str | None, Field(max_length=1_000)] = None


class Message(BaseModel):
    """One turn of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: Annotated[str, Field(max_length=32_000)]


class AnswerBody(Options):
    """What a question takes: the question, a conversation that ends with it, or both."""

    query: Query | None = None
    messages: Annotated[list[Message], Field(max_length=100)] | None = None

    @model_validator(mode="after")
    def something_is_asked(self) -> Self:
        if self.query is None and not any(each.role == "user" and each.content for each in self.messages or ()):
            raise ValueError("query: is missing, and messages has nothing that the user asks")
        return self


@router.post("/search", summary="Search", response_class=JSONResponse)
async def search(request: Request, body: Annotated[SearchBody, Body()]) -> Response:
    """Return hits, best first, and the mode that was really used."""
    return JSONResponse(await asking.search(request, body.model_dump(exclude_none=True)))


@router.post("/search/batch", summary="Several searches", response_class=JSONResponse)
async def search_batch(request: Request, body: Annotated[BatchBody, Body()]) -> Response:
    """Return the results in the order of the searches; their queries are embedded with one call."""
    return JSONResponse(await asking.search_batch(request, body.model_dump(exclude_none=True)))


@router.post("/documents/{document_id}/explain", summary="Why is it (not) found?", response_class=JSONResponse)
async def explain(request: Request, document_id: UUID, body: Annotated[SearchBody, Body()]) -> Response:
    """Say whether a search finds this document, and what keeps it away: its state, a filter, its words, better hits."""
    row = await asyncio.to_thread(request.app.state.views.document, str(document_id))
    if row is None:
        raise ApiError(404, "not_found", "There is no document of this id.", "GET /v1/documents lists them.")
    document = summary(row)
    why = await request.app.state.queries.explain(body.model_dump(exclude_none=True) | {"doc_id": str(document_id)})
    if "error" in why:
        raise asking.refusal(why["error"])
    if why["verdict"] == "not_indexed":
        reason = document["reason"] or document["next_step"] or ""
        why["summary"] = f"None of its text is in the index: it is {document['state']}. {reason}".strip()
    return JSONResponse({"document": document, **why})


@router.post("/answer", summary="Answer with citations", response_class=JSONResponse)
async def answer(request: Request, body: Annotated[AnswerBody, Body()]) -> Response:
    """Return an answer with citations; as server-sent events when the client accepts text/event-stream."""
    wanted = body.model_dump(exclude_none=True)
    if "text/event-stream" in request.headers.get("accept", ""):
        request.app.state.queries.check_room()  # a stream has no status any more once it has begun
        return StreamingResponse(
            _events(request, wanted), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )
    return JSONResponse(await asking.answer(request, wanted))


@router.post("/questions", summary="A question that a passage answers", response_class=JSONResponse)
async def question(request: Request, body: Annotated[QuestionBody, Body()]) -> Response:
    """Have the chat model write one, for test sets: checked, and None with a fault when none of its replies is one."""
    written = await request.app.state.queries.question(body.model_dump(exclude_none=True))
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
