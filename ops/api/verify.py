"""/v1/verify: ask for an audit, follow it, read its report.  Housekeepers run it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine

from ops.api.errors import ApiError
from ops.api.ledger_views import iso
from workers.housekeeping.docket import Docket, Entry
from workers.housekeeping.findings import BY_PEOPLE

router = APIRouter(tags=["verify"])


class Wanted(BaseModel):
    """What an audit is to do."""

    model_config = ConfigDict(extra="forbid")
    repair: bool = False
    deep: bool = False


@router.post("/verify", status_code=202, summary="Ask for an audit")
def ask(request: Request, wanted: Wanted) -> JSONResponse:
    """Have sources, ledger and Qdrant compared; ``repair``: make right what is wrong; ``deep``: read every file."""
    docket = Docket(request.app.state.engine)
    key = docket.ask("person", repair=wanted.repair, deep=wanted.deep)
    return JSONResponse({"id": key}, status_code=202)


@router.get("/verify", summary="The last audit")
def last(request: Request) -> JSONResponse:
    """Return the audit that finished last, and the one that runs or waits."""
    docket = Docket(request.app.state.engine)
    finished, running = docket.last(), docket.running()
    return JSONResponse({"last": finished and told(finished), "running": running and told(running)})


@router.get("/verify/{audit_id}", summary="One audit")
def show(request: Request, audit_id: UUID) -> JSONResponse:
    """Return how far an audit is, and its report when it is done."""
    found = Docket(request.app.state.engine).get(str(audit_id))
    if found is None:
        raise ApiError(404, "not_found", "There is no audit of this id.", "POST /v1/verify asks for one.")
    return JSONResponse(told(found))


def told(audit: Entry) -> dict[str, Any]:
    """Return an audit as the api tells it."""
    return {
        "id": audit.id,
        "state": audit.state,
        "asked_by": audit.asked_by,
        "repair": audit.repair,
        "deep": audit.deep,
        "asked_at": iso(audit.asked_at),
        "started_at": iso(audit.started_at),
        "finished_at": iso(audit.finished_at),
        "progress": audit.progress,
        "report": audit.report,
    }


def summary(engine: Engine) -> dict[str, Any]:
    """Return what the status tells of audits: the last one's figures, without examples."""
    docket = Docket(engine)
    finished, running = docket.last(), docket.running()
    report = (finished.report if finished is not None else None) or {}
    left = report.get("after") if finished is not None and finished.repair else report.get("findings")
    return {
        "finished_at": iso(finished.finished_at) if finished is not None else None,
        "finished_at_s": finished.finished_at if finished is not None else None,
        "clean": report.get("clean"),
        "failed": report.get("failed"),
        "documents": report.get("documents", 0),
        "points": report.get("points", 0),
        "found": _counts(report.get("findings")),
        "repaired": report.get("repaired", {}),
        "left": _counts(left) | _counts(_by_people(report.get("findings"))),
        "running": running is not None and running.state == "running",
    }


def _counts(findings: dict[str, Any] | None) -> dict[str, int]:
    return {kind: each["documents"] for kind, each in (findings or {}).items()}


def _by_people(findings: dict[str, Any] | None) -> dict[str, Any]:
    """What no repair touches."""
    return {kind: each for kind, each in (findings or {}).items() if kind in BY_PEOPLE}
