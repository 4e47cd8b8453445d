"""The OpenAI-compatible face: chat completions, models, embeddings, vector store search, for clients that know OpenAI.

https://platform.openai.com/docs/api-reference.  Parameters that mean nothing here (temperature, tools, …) are ignored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from ops.api import asking
from ops.api.completion import Completion
from ops.api.errors import ApiError
from ops.api.filters import from_openai
from ops.api.queries import QueryAway
from ops.api.scores import shares
from workers.query.requests import LONGEST_QUERY

router = APIRouter(tags=["openai"])

MODEL = "upwell"
MOST_RESULTS = 50


class _Open(BaseModel):
    """Clients send more than we know; that is no reason to refuse them."""

    model_config = ConfigDict(extra="ignore")


class Part(_Open):
    """A piece of a message."""

    type: str
    text: str | None = None


class ChatMessage(_Open):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[str, Field(max_length=200_000)] | Annotated[list[Part], Field(max_length=100)] | None = None

    @property
    def text(self) -> str:
        """What it says."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.text)
        return self.content or ""


class StreamOptions(_Open):
    """What else to stream."""

    include_usage: bool = False


class ChatBody(_Open):
    """A conversation.  ``filters``, ``limit`` and ``mode`` are ours (``extra_body`` in OpenAI's client)."""

    model: str = MODEL
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1000)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    filters: dict[str, Any] | None = None
    limit: Annotated[int, Field(ge=1, le=100)] | None = None
    mode: Literal["hybrid", "lexical", "semantic"] | None = None


class EmbeddingsBody(_Open):
    """Texts to embed."""

    model_config = ConfigDict(extra="allow")
    input: Any
    model: str | None = None


class RankingOptions(_Open):
    """How good a result must be."""

    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0


class StoreSearch(_Open):
    """A search of a vector store."""

    query: str | list[str]
    filters: dict[str, Any] | None = None
    max_num_results: Annotated[int, Field(ge=1, le=MOST_RESULTS)] = 10
    ranking_options: RankingOptions | None = None


@router.get("/models", summary="Models")
def models(request: Request) -> JSONResponse:
    """Return the model that answers, and the one that embeds."""
    names = [MODEL, request.app.state.embeddings.model]
    return JSONResponse({"object": "list", "data": [_model(name) for name in dict.fromkeys(names)]})


@router.get("/models/{name:path}", summary="One model")
def model(request: Request, name: str) -> JSONResponse:
    """Return a model of the list."""
    if name not in (MODEL, request.app.state.embeddings.model):
        raise _no_model(name)
    return JSONResponse(_model(name))


@router.post("/chat/completions", summary="Answer as a chat model", response_class=JSONResponse)
async def chat(request: Request, body: Annotated[ChatBody, Body()]) -> Response:
    """Answer the last question of the conversation from the documents, with citations and a list of sources."""
    if body.model != MODEL and not body.model.startswith(f"{MODEL}:"):
        raise _no_model(body.model)
    completion = Completion(body.model, str(request.base_url).rstrip("/"))
    wanted = _question(body)
    if not body.stream:
        return JSONResponse(completion.whole(await asking.answer(request, wanted, face="chat")))
    usage = body.stream_options is not None and body.stream_options.include_usage
    events = asking.stream(request, wanted, face="chat")
    first = await anext(events, None)  # what fails at once is an error with a status, not a stream
    if first is not None and first[0] == "error":
        raise asking.refusal(first[1])
    return StreamingResponse(
        _streamed(completion, first, events, usage=usage),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


@router.post("/embeddings", summary="Embed")
async def embeddings(request: Request, body: Annotated[EmbeddingsBody, Body()]) -> Response:
    """Pass texts on to the embedding endpoint that the index uses; floats or base64."""
    status, content = await request.app.state.embeddings.embed(body.model_dump(exclude_none=True))
    return Response(content, status_code=status, media_type="application/json")


@router.get("/vector_stores", summary="Vector stores")
def stores(request: Request) -> JSONResponse:
    """Return the one store there is: the collection."""
    only = _store(request)
    return JSONResponse(
        {"object": "list", "data": [only], "first_id": only["id"], "last_id": only["id"], "has_more": False}
    )


@router.get("/vector_stores/{store_id}", summary="One vector store")
def store(request: Request, store_id: str) -> JSONResponse:
    """Return it, with the counts of its documents."""
    _check_store(request, store_id)
    return JSONResponse(_store(request))


@router.post("/vector_stores/{store_id}/search", summary="Search a vector store")
async def search_store(request: Request, store_id: str, body: Annotated[StoreSearch, Body()]) -> JSONResponse:
    """Return chunks, best first, in OpenAI's shape, with scores between 0 and 1."""
    _check_store(request, store_id)
    asked = [body.query] if isinstance(body.query, str) else body.query
    wanted: dict[str, Any] = {"query": " ".join(asked), "limit": body.max_num_results}
    if body.filters:
        wanted["filters"] = from_openai(body.filters)
    result = await asking.search(request, wanted, face="vector_store")
    least = body.ranking_options.score_threshold if body.ranking_options else 0.0
    scored = zip(result["hits"], shares(result), strict=True)
    page = {
        "object": "vector_store.search_results.page",
        "search_query": asked,
        "data": [_result(hit, score) for hit, score in scored if score >= least],
        "has_more": False,
        "next_page": None,
    }
    return JSONResponse(page)


async def _streamed(
    completion: Completion, first: tuple[str, Any] | None, events: AsyncIterator[tuple[str, Any]], *, usage: bool
) -> AsyncIterator[str]:
    try:
        if first is not None:
            for chunk in completion.event(*first):
                yield chunk
        async for event, data in events:
            for chunk in completion.event(event, data):
                yield chunk
    except QueryAway as exc:
        for chunk in completion.event("error", {"message": str(exc)}):
            yield chunk
    if usage:
        yield completion.usage()
    yield "data: [DONE]\n\n"


def _question(body: ChatBody) -> dict[str, Any]:
    """Return the conversation as the query worker takes it.  System prompts are for models; ours are our own."""
    talk = [{"role": m.role, "content": m.text} for m in body.messages if m.role in ("user", "assistant")]
    asked = next((turn for turn in reversed(talk) if turn["role"] == "user"), None)
    if asked is None or not asked["content"].strip():
        raise ApiError(422, "invalid_request", "messages: there is no question of a user.", "Send a user message.")
    ours = {"filters": body.filters, "limit": body.limit, "mode": body.mode}
    asked["content"] = question = _both_ends(asked["content"].strip())
    wanted = {"query": question, "messages": [_short(turn) for turn in talk[-40:]]}
    return wanted | {name: value for name, value in ours.items() if value is not None}


def _both_ends(text: str) -> str:
    """Return a text that is too long to be asked without its middle: people paste, and ask before or after it."""
    half = LONGEST_QUERY // 2 - 2
    return text if len(text) <= LONGEST_QUERY else f"{text[:half]} … {text[-half:]}"


def _short(turn: dict[str, str]) -> dict[str, str]:
    return turn | {"content": turn["content"][:32_000]}


def _result(hit: Mapping[str, Any], score: float) -> dict[str, Any]:
    facts = hit["metadata"]
    plain = {key: value for key, value in facts.items() if isinstance(value, str | int | float | bool)}
    return {
        "file_id": hit["doc_id"],
        "filename": facts.get("path") or "",
        "score": round(score, 4),
        "attributes": plain | {"chunk_id": hit["id"]},
        "content": [{"type": "text", "text": hit["content"]}],
    }


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "upwell"}


def _no_model(name: str) -> ApiError:
    return ApiError(404, "model_not_found", f"There is no model {name[:100]!r} here.", f"Ask for {MODEL!r}.")


def _check_store(request: Request, store_id: str) -> None:
    collection = request.app.state.settings.collection
    if store_id != collection:
        raise ApiError(404, "not_found", "There is no vector store of this id.", f"The only one is {collection!r}.")


def _store(request: Request) -> dict[str, Any]:
    states, totals = request.app.state.views.states(), request.app.state.views.totals()
    ready = states.get("ready", 0)
    failed = states.get("failed", 0) + states.get("parked", 0)
    busy = sum(states.get(state, 0) for state in ("queued", "parsing", "embedding"))
    counts = {"completed": ready, "in_progress": busy, "failed": failed, "cancelled": 0}
    return {
        "id": request.app.state.settings.collection,
        "object": "vector_store",
        "created_at": 0,
        "name": request.app.state.settings.collection,
        "usage_bytes": totals["bytes"],
        "status": "in_progress" if busy else "completed",
        "file_counts": counts | {"total": ready + failed + busy},
        "metadata": {},
    }
