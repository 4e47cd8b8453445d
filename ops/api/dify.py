"""Dify's external knowledge API: POST /retrieval.  https://docs.dify.ai/en/guides/knowledge-base/external-knowledge-api"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from ops.api import asking
from ops.api.filters import from_dify

router = APIRouter(tags=["dify"])

MOST_FUSED = 2.7
"""A fused score: at most 1.7 for meaning and 1 for words (ADR 0025)."""


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
        told = f"The knowledge does not exist; the only knowledge_id here is {collection!r}."
        return JSONResponse({"error_code": 2001, "error_msg": told}, status_code=404)
    wanted: dict[str, Any] = {"query": body.query, "limit": body.retrieval_setting.top_k}
    if body.metadata_condition and (filters := from_dify(body.metadata_condition)):
        wanted["filters"] = filters
    result = await asking.search(request, wanted, face="dify")
    records = [_record(hit, score) for hit, score in zip(result["hits"], _scores(result), strict=True)]
    least = body.retrieval_setting.score_threshold
    return JSONResponse({"records": [record for record in records if record["score"] >= least]})


def _scores(result: dict[str, Any]) -> list[float]:
    """Return scores between 0 and 1.

    A fused score is told as a share of the highest there can be; a cosine is one already; a BM25 score has no upper end
    and is told as a share of the best.
    """
    raw = [max(0.0, float(hit["score"])) for hit in result["hits"]]
    match result["mode"]:
        case "hybrid":
            return [min(1.0, score / MOST_FUSED) for score in raw]
        case "semantic":
            return [min(1.0, score) for score in raw]
        case _:
            best = max(raw, default=0.0)
            return [score / best if best else 0.0 for score in raw]


def _record(hit: dict[str, Any], score: float) -> dict[str, Any]:
    facts = hit["metadata"]
    return {
        "content": hit["content"],
        "score": round(score, 4),
        "title": str(facts.get("title") or facts.get("path") or ""),
        "metadata": facts | {"doc_id": hit["doc_id"], "chunk_id": hit["id"]},
    }
