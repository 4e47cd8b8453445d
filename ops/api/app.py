"""The HTTP face: search, answers, documents, status, metrics and the console page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount

from ops import metrics
from ops.api.bodies import BoundedBody
from ops.api.dify import router as dify_router
from ops.api.documents import router as documents_router
from ops.api.doors import OPEN, KeyOnly, LoopbackOnly, SafeAnswers
from ops.api.embeddings import EmbeddingProxy
from ops.api.errors import ApiError, refusal
from ops.api.feedback import router as feedback_router
from ops.api.ledger_views import LedgerViews
from ops.api.openai import router as openai_router
from ops.api.queries import Queries, QueryAway
from ops.api.query import router as query_router
from ops.api.querylog import QueryLog
from ops.api.rates import Rated
from ops.api.settings import ApiSettings
from ops.api.status import Status
from ops.api.verify import router as verify_router
from producers.uploads import UploadStore
from workers.contract.broker import Hints, make_celery
from workers.contract.faults import told
from workers.contract.loopback import is_loopback

log = structlog.get_logger()

CONSOLE = Path(__file__).parents[1] / "console"


def make_app(settings: ApiSettings, engine: Engine, *, queries: Queries | None = None) -> FastAPI:
    """Return the application; ``queries`` replaces the way to the query worker (tests)."""
    url = settings.broker_url.get_secret_value()
    celery = make_celery(url, settings.key_prefix, "producer", name="api")
    views = LedgerViews(engine)
    status = Status(settings, views, engine)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.queries = queries or Queries(
            celery, url, settings.key_prefix, settings.query_timeout, settings.queries_waiting
        )
        app.state.embeddings = EmbeddingProxy(settings)
        app.state.query_log.start()
        yield
        await app.state.queries.close()
        await app.state.embeddings.close()
        await asyncio.to_thread(app.state.query_log.close)
        status.close()

    app = FastAPI(
        title="Upwell",
        version="1",
        description="Search, answers with citations, and the state of every document.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.engine = engine
    app.state.views = views
    app.state.status = status
    app.state.hints = Hints(celery)
    app.state.query_log = QueryLog(engine, wanted=settings.query_log and settings.query_log_days > 0)
    app.state.uploads = UploadStore(engine, app.state.hints, settings.data_dir, settings.upload_max_bytes)
    _add_errors(app)
    _add_doors(app, settings)
    app.include_router(query_router, prefix="/v1")
    app.include_router(documents_router, prefix="/v1")
    app.include_router(verify_router, prefix="/v1")
    app.include_router(feedback_router, prefix="/v1")
    app.include_router(openai_router, prefix="/v1")
    app.include_router(dify_router)
    _add_status(app)
    app.mount("/", StaticFiles(directory=CONSOLE, html=True), name="console")
    return app


def _add_doors(app: FastAPI, settings: ApiSettings) -> None:
    """Put the doors before the application; each is outside of those added before it."""
    app.add_middleware(BoundedBody, most_upload=settings.upload_max_bytes)
    if settings.api_rpm is not None:
        app.add_middleware(Rated, per_minute=settings.api_rpm)
    if settings.api_key is not None or settings.metrics_key is not None:
        console = {"/", *(f"/{file.name}" for file in CONSOLE.iterdir())}
        app.add_middleware(KeyOnly, key=settings.api_key, open_paths=OPEN | console, metrics_key=settings.metrics_key)
    if settings.api_key is None and not settings.api_open and is_loopback(settings.api_host):
        app.add_middleware(LoopbackOnly)
    app.add_middleware(SafeAnswers)


def _add_status(app: FastAPI) -> None:
    @app.get("/v1/status", summary="How everything is")
    def read_status(request: Request) -> JSONResponse:
        return JSONResponse(request.app.state.status.status())

    @app.get("/livez", summary="The process lives")
    def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="The servers it needs answer")
    def readyz(request: Request) -> JSONResponse:
        faults = request.app.state.status.missing()
        if faults:
            return JSONResponse({"status": "unavailable", "missing": faults}, status_code=503)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", summary="Figures for Prometheus")
    def read_metrics(request: Request) -> Response:
        page = metrics.render(request.app.state.status.status(), request.app.state.views.counters())
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def ours(request: Request, exc: ApiError) -> JSONResponse:
        return _told(request, exc.status, exc.code, exc.message, exc.following)

    @app.exception_handler(QueryAway)
    async def away(request: Request, exc: QueryAway) -> JSONResponse:
        following = "Try again in a moment; upwell status shows the processes."
        return _told(request, 503, exc.code, str(exc), following)

    @app.exception_handler(SQLAlchemyError)
    async def ledger(request: Request, exc: SQLAlchemyError) -> JSONResponse:
        log.error("api.ledger", error=type(exc).__name__)
        message = "The ledger does not answer (UPWELL_LEDGER_URL)."
        return _told(request, 503, "ledger_away", message, "Try again in a moment.")

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, exc: RequestValidationError) -> JSONResponse:
        faults = [(_where(fault), told(fault)) for fault in exc.errors()[:5]]
        following = "See /openapi.json for what this takes."
        if any(what == "must be an object" and where == "body" for where, what in faults):
            following = "Send a JSON object, with Content-Type: application/json."
        said = "; ".join(f"{where}: {what}" for where, what in faults)
        return _told(request, 422, "invalid_request", f"{said}.", following)

    @app.exception_handler(HTTPException)
    async def http(request: Request, exc: HTTPException) -> JSONResponse:
        allowed = _methods(app, request) if exc.status_code in (404, 405) else []
        if allowed:
            taken = " or ".join(allowed)
            return _told(request, 405, "method_not_allowed", f"{request.method} is not for this path.", f"Use {taken}.")
        if exc.status_code in (404, 405):  # the console's files, which are behind every path, take GET alone
            return _told(request, 404, "not_found", "Not Found.", "See /openapi.json for what there is.")
        code = {413: "too_large"}.get(exc.status_code, "error")
        return _told(request, exc.status_code, code, str(exc.detail) + ".", "See /openapi.json for what there is.")

    @app.exception_handler(Exception)
    async def bug(request: Request, exc: Exception) -> JSONResponse:
        mark = uuid4().hex[:12]
        log.exception("api.bug", request=mark, path=request.url.path, error=type(exc).__name__)
        return _told(
            request, 500, "internal", f"Upwell made a mistake (request {mark}).", "The log of the api has the details."
        )


def _told(request: Request, status: int, code: str, message: str, following: str) -> JSONResponse:
    return refusal(status, code, message, following, path=request.url.path)


def _methods(app: FastAPI, request: Request) -> list[str]:
    """Return the methods that the path of a request takes; none where there is no such path."""
    routes = [route for route in app.routes if not isinstance(route, Mount)]  # the console's files are behind all paths
    asked = ({**request.scope, "method": method} for method in ("GET", "POST", "PUT", "PATCH", "DELETE"))
    return [scope["method"] for scope in asked if any(route.matches(scope)[0] is Match.FULL for route in routes)]


def _where(fault: Mapping[str, Any]) -> str:
    """Return the field that a fault is about; where a body is no JSON, pydantic has only the place of a letter."""
    within = [] if fault["type"] == "json_invalid" else fault["loc"][1:]
    return ".".join(str(part) for part in within) or "body"
