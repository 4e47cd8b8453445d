"""Dify's external knowledge API: POST /retrieval.  https://docs.dify.ai/en/guides/knowledge-base/external-knowledge-api"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from ops.api import asking
from ops.api.errors import ApiError
from ops.api.filters import from_dify
from ops.api.scores import shares

router = APIRouter(tags=["dify"])


class RetrievalSetting(BaseModel):
    """How many records, and how good."""

    top_k: Annotated[int, Field(ge=1, le=100)] = 5
    score_threshold: float = 0.0


class RetrievalBody(BaseModel):
    """What Dify sends.  ``knowledge_id`` is the collection's name (UPWELL_COLLECTION)."""

    knowledge_id: str
    query: Annotated[str, Field(min_length=1, max_length=4000)]
    retrieval_setting: RetrievalSetting = RetrievalSetting()
    metadata_condition: dict[str, Any] | None = None


@router.post("/retrieval", summary="Search, as Dify asks")
async def retrieve(request: Request, body: Annotated[RetrievalBody, Body()]) -> JSONResponse:
    """Return records with scores between 0 and 1."""
    collection = request.app.state.settings.collection
    if body.knowledge_id != collection:
        raise ApiError(
            404, "no_knowledge", "The knowledge does not exist.", f"The only knowledge_id is {collection!r}."
        )
    wanted: dict[str, Any] = {"query": body.query, "limit": body.retrieval_setting.top_k}
    if body.metadata_condition and (filters := from_dify(body.metadata_condition)):
        wanted["filters"] = filters
    result = await asking.search(request, wanted, face="dify")
    records = [_record(hit, score) for hit, score in zip(result["hits"], shares(result), strict=True)]
    least = body.retrieval_setting.score_threshold
    return JSONResponse({"records": [record for record in records if record["score"] >= least]})


def _record(hit: dict[str, Any], score: float) -> dict[str, Any]:
    facts = hit["metadata"]
    return {
        "content": hit["content"],
        "score": round(score, 4),
        "title": str(facts.get("title") or facts.get("path") or ""),
        "metadata": facts | {"doc_id": hit["doc_id"], "chunk_id": hit["id"]},
    }
