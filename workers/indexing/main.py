"""The index worker process: checks its set-up, hands over to Celery, and gives back what it has not finished."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from workers.contract import intake, schema
from workers.contract.disk import wait_for_room
from workers.contract.exits import EXIT_MISCONFIGURED, EXIT_UNAVAILABLE
from workers.contract.logs import set_up_logs
from workers.contract.messages import Queue
from workers.errors import Transient, WorkerError
from workers.indexing.settings import IndexWorkerSettings

if TYPE_CHECKING:
    from concurrent.futures import Future

    from sqlalchemy import Engine

    from workers.indexing.stall import Stall

log = structlog.get_logger()

STALL_LOOK_S = 5.0


def run() -> None:
    """Run an index worker until SIGTERM."""
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")  # soft shutdown: unfinished messages go back at once
    settings = IndexWorkerSettings()
    set_up_logs("index-worker", level=settings.log_level, fmt=settings.log_format)
    from workers.indexing.preflight import RefusesToStart

    try:
        _serve(settings)
    except (RefusesToStart, WorkerError, schema.LedgerUnusable) as exc:
        raise SystemExit(_told(exc)) from None


def _told(exc: BaseException) -> int:
    """Tell people why this process ends; returns the code with which it does."""
    print(f"upwell: {exc}", file=sys.stderr)
    return EXIT_UNAVAILABLE if isinstance(exc, Transient) else EXIT_MISCONFIGURED


def _serve(settings: IndexWorkerSettings) -> None:
    from workers.contract.broker import Hints, make_celery, messages_waiting
    from workers.contract.ending import work
    from workers.indexing.bulk import BulkLane
    from workers.indexing.facts import RECIPE_FACT
    from workers.indexing.stall import Stall
    from workers.indexing.tasks import register
    from workers.indexing.wiring import build

    if (directory := schema.directory_of(settings.ledger_url.get_secret_value())) is not None:
        wait_for_room(directory)  # to end and be started again would only say the same thing again
    engine = schema.open_ledger(settings.ledger_url.get_secret_value())
    freed = _hand_back(settings, engine)
    app = make_celery(settings.broker_url.get_secret_value(), settings.key_prefix, "worker")
    built = build(settings, engine, Hints(app))
    worker = built.worker
    for bulk in (False, True):
        worker.hints.look([document for document, is_bulk in freed if is_bulk == bulk], bulk=bulk)
    stall = Stall(lambda: messages_waiting(settings, (Queue.LIVE, Queue.BULK, Queue.EMBED)))
    register(app, worker, stall, BulkLane(settings.index_concurrency))
    worker.ledger.remember_fact(RECIPE_FACT, worker.pipeline.recipe, replace=True)
    worker.leases.start()
    worker.embedding.start()
    name = f"index@{socket.gethostname()}-{os.getpid()}"
    log.info("worker.ready", collection=worker.pipeline.collection, model=worker.pipeline.space.model)
    threading.Thread(target=_end_when_stuck, args=(stall,), name="stall", daemon=True).start()

    def give_back() -> None:
        worker.leases.stop()
        worker.leases.give_back()  # first: what is in flight to the embedding endpoint may outlast our patience
        worker.embedding.stop()
        built.parser.close()
        intake.leave(engine, "index-worker")
        engine.dispose()

    built.furnished.add_done_callback(partial(_end_without_a_collection, give_back=give_back))
    work(
        app,
        [Queue.LIVE, Queue.BULK, Queue.EMBED],
        threads=settings.index_concurrency,
        log_level=settings.log_level,
        name=name,
        pool="threads",
        give_back=give_back,
    )


def _hand_back(settings: IndexWorkerSettings, engine: Engine) -> tuple[tuple[str, bool], ...]:
    """Free what earlier processes held that `upwell up` knows to be gone; returns documents, as (id, bulk)."""
    from workers.indexing.cache import EmbeddingCache
    from workers.indexing.handback import Ended, hand_back

    ended = Ended(settings.ended_lives, settings.ended_runs)
    try:
        freed = hand_back(engine, ended)
        texts = EmbeddingCache(engine, "").hand_back(ended) if ended.lives or ended.runs else 0
    except SQLAlchemyError as exc:  # busy or full: their leases run out by themselves
        log.warning("lease.not_handed_back", error=type(exc).__name__)
        return ()
    if freed.documents or freed.embeddings or texts:
        log.info("lease.handed_back", documents=len(freed.documents), embeddings=freed.embeddings, texts=texts)
    return freed.documents


def _end_without_a_collection(furnished: Future[None], give_back: Callable[[], None]) -> None:
    """End the process when its collection cannot be completed, as it would have ended before it took a message."""
    exc = furnished.exception()
    if exc is None:
        return
    if isinstance(exc, WorkerError):
        code = _told(exc)
    else:
        log.error("collection.bug", exc_info=exc)
        code = 1
    try:
        give_back()
    finally:
        os._exit(code)  # the main thread is Celery's, and hears of nothing but signals


def _end_when_stuck(stall: Stall) -> None:
    """End the process when it takes no more messages: whoever started it starts it again.

    Without ceremony, because what is stuck is the thread that would stop in order.  Nobody is at work here, and the
    ledger has what waits.
    """
    while not stall.stuck():
        time.sleep(STALL_LOOK_S)
    log.error("worker.stuck", reason="messages wait, and the broker hands none of them over; starting again")
    os._exit(EXIT_UNAVAILABLE)
