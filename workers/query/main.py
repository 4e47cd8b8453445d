"""The query worker process: builds the ports once, then hands over to Celery."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from typing import Any

import structlog

from workers.contract.exits import EXIT_MISCONFIGURED
from workers.contract.logs import set_up_logs
from workers.contract.messages import Queue
from workers.errors import IndexMisconfigured, IndexUnavailable, Permanent
from workers.query.settings import QueryWorkerSettings

log = structlog.get_logger()


def run() -> None:
    """Run a query worker until SIGTERM."""
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
    settings = QueryWorkerSettings()
    set_up_logs("query-worker", level=settings.log_level, fmt=settings.log_format)
    try:
        _serve(settings)
    except Permanent as exc:
        print(f"upwell: {exc}", file=sys.stderr)
        raise SystemExit(EXIT_MISCONFIGURED) from None


def _serve(settings: QueryWorkerSettings) -> None:
    import redis

    from workers.contract.broker import make_celery
    from workers.contract.ending import work
    from workers.query.room import Room, keep_room
    from workers.query.tasks import register

    url = settings.broker_url.get_secret_value()
    app = make_celery(url, settings.key_prefix, "worker")
    room = Room({Queue.QUERY: settings.query_concurrency, Queue.ANSWER: settings.answer_concurrency})
    keep_room(app, url, room)
    answering, index = build(settings)
    broker = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2)
    register(app, answering, broker, settings.key_prefix)
    # A search that comes before the index is there gets a clear error; the log says when it is.
    threading.Thread(target=_watch_start, args=(index,), daemon=True).start()
    threading.Thread(target=_beat, args=(settings.ledger_url.get_secret_value(),), daemon=True).start()
    work(
        app,
        [Queue.QUERY],
        threads=room.threads,
        log_level=settings.log_level,
        name=f"query@{socket.gethostname()}-{os.getpid()}",
    )


def build(settings: QueryWorkerSettings) -> tuple[Any, Any]:
    """Return what the tasks call, and the index behind it."""
    from workers.adapters.embeddings import EmbeddingClient
    from workers.adapters.qdrant_search import QdrantSearch
    from workers.adapters.reranker import RerankerClient
    from workers.query.answer import Answering
    from workers.query.embedder import QueryEmbedder
    from workers.query.standing import LedgerCatalogue

    index = QdrantSearch(settings, timeout=settings.search_timeout)
    endpoint = EmbeddingClient(settings, timeout=settings.query_embedding_timeout)
    answering = Answering(
        index=index,
        embedder=QueryEmbedder(endpoint, remembered=settings.query_cache),
        writer=_writer(settings) if settings.chat_wanted else None,
        catalogue=LedgerCatalogue(settings.ledger_url.get_secret_value()),
        context_tokens=settings.answer_context_tokens,
        answer_tokens=settings.answer_tokens,
        threshold=settings.answer_confidence,
        reranker=RerankerClient(settings) if settings.rerank_url else None,
    )
    return answering, index


def _writer(settings: QueryWorkerSettings) -> Any:
    """Return who writes answers.  Only who has a chat endpoint waits for its client to be imported."""
    from workers.adapters.chat import ChatClient
    from workers.query.listening import Writer

    return Writer(ChatClient(settings), settings.chat_timeout)


def _watch_start(index: Any) -> None:
    said = ""
    while True:
        try:
            index.check()
        except (IndexUnavailable, IndexMisconfigured) as exc:
            if str(exc) != said:
                said = str(exc)
                log.info("query.waiting", reason=said)
            time.sleep(0.5)
        else:
            log.info("query.ready")
            return


def _beat(ledger_url: str) -> None:
    """Tell the ledger that this process lives.  Searching needs no ledger, so its absence stops nothing."""
    from sqlalchemy.exc import SQLAlchemyError

    from workers.contract import intake, schema

    engine = None
    while True:
        try:
            engine = engine or schema.open_ledger(ledger_url)
            intake.beat(engine, "query-worker", {})
        except (SQLAlchemyError, OSError) as exc:
            log.warning("query.no_beat", error=type(exc).__name__)
        time.sleep(5.0)
