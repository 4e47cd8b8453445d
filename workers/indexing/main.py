"""The index worker process: builds the ports once, then hands over to Celery."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import structlog

from workers.contract import intake, schema
from workers.contract.logs import set_up_logs
from workers.contract.messages import Queue
from workers.errors import Transient, WorkerError
from workers.indexing.settings import IndexWorkerSettings

if TYPE_CHECKING:
    from workers.indexing.stall import Stall

log = structlog.get_logger()

STALL_LOOK_S = 5.0
EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE: a server is away; starting again later makes sense
EXIT_CONFIG = 78  # EX_CONFIG: starting again changes nothing


def run() -> None:
    """Run an index worker until SIGTERM."""
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")  # soft shutdown: unfinished messages go back at once
    settings = IndexWorkerSettings()
    set_up_logs("index-worker", level=settings.log_level, fmt=settings.log_format)
    from workers.indexing.preflight import RefusesToStart

    try:
        _serve(settings)
    except RefusesToStart as exc:
        print(f"upwell: {exc}", file=sys.stderr)
        raise SystemExit(EXIT_CONFIG) from None
    except Transient as exc:
        print(f"upwell: {exc} Start it, or set its address.", file=sys.stderr)
        raise SystemExit(EXIT_UNAVAILABLE) from None
    except WorkerError as exc:
        print(f"upwell: {exc}", file=sys.stderr)
        raise SystemExit(EXIT_CONFIG) from None
    except schema.LedgerUnusable as exc:
        print(f"upwell: {exc}", file=sys.stderr)
        raise SystemExit(EXIT_CONFIG) from None


def _serve(settings: IndexWorkerSettings) -> None:
    from workers.contract.broker import Hints, make_celery, messages_waiting
    from workers.indexing.bulk import BulkLane
    from workers.indexing.facts import COLLECTION_FACT, RECIPE_FACT
    from workers.indexing.stall import Stall
    from workers.indexing.tasks import register

    engine = schema.open_ledger(settings.ledger_url.get_secret_value())
    app = make_celery(settings.broker_url.get_secret_value(), settings.key_prefix, "worker")
    worker, parser = build(settings, engine, Hints(app))
    stall = Stall(lambda: messages_waiting(settings, (Queue.LIVE, Queue.BULK, Queue.EMBED)))
    register(app, worker, stall, BulkLane(settings.index_concurrency))
    worker.ledger.remember_fact(RECIPE_FACT, worker.pipeline.recipe, replace=True)
    worker.ledger.remember_fact(COLLECTION_FACT, worker.pipeline.collection, replace=True)
    worker.leases.start()
    worker.embedding.start()
    queues = ",".join((Queue.LIVE, Queue.BULK, Queue.EMBED))
    name = f"index@{socket.gethostname()}-{os.getpid()}"
    log.info("worker.ready", collection=worker.pipeline.collection, model=worker.pipeline.space.model)
    threading.Thread(target=_end_when_stuck, args=(stall,), name="stall", daemon=True).start()
    try:
        app.worker_main(
            [
                "worker",
                "--pool=threads",
                f"--concurrency={settings.index_concurrency}",
                f"--queues={queues}",
                f"--hostname={name}",
                "--without-gossip",
                "--without-mingle",
                "--without-heartbeat",
                f"--loglevel={settings.log_level}",
            ]
        )
    finally:
        worker.embedding.stop()
        worker.leases.stop()
        worker.leases.give_back()
        parser.close()
        intake.leave(engine, "index-worker")


def _end_when_stuck(stall: Stall) -> None:
    """End the process when it takes no more messages: whoever started it starts it again.

    Without ceremony, because what is stuck is the thread that would stop in order.  Nobody is at work here, and the
    ledger has what waits.
    """
    while not stall.stuck():
        time.sleep(STALL_LOOK_S)
    log.error("worker.stuck", reason="messages wait, and the broker hands none of them over; starting again")
    os._exit(EXIT_UNAVAILABLE)


def build(settings: IndexWorkerSettings, engine: Any, hints: Any) -> tuple[Any, Any]:
    """Build the worker and its parser pool; checks servers, model and collection on the way."""
    from concurrent.futures import ThreadPoolExecutor

    from workers.adapters import qdrant
    from workers.adapters.budget import Budget
    from workers.adapters.embeddings import EmbeddingClient
    from workers.indexing.breaker import Breaker
    from workers.indexing.canary import Canary
    from workers.indexing.chunk import ChunkOptions
    from workers.indexing.embed import Embedding, Limits
    from workers.indexing.leases import Leases, Tally
    from workers.indexing.ledger import Ledger
    from workers.indexing.metadata import FolderRules
    from workers.indexing.parse import Limits as ParseLimits
    from workers.indexing.parse import ParserPool
    from workers.indexing.preflight import preflight
    from workers.indexing.recipe import recipe_fingerprint
    from workers.indexing.reconcile import Pipeline
    from workers.indexing.worker import IndexWorker

    ledger = Ledger(
        engine,
        intake.process_name("index-worker"),
        lease_s=settings.lease,
        # What a silent attempt has sent may be on its way until its lease is over, and then for one client timeout.
        late_writes_s=settings.lease + settings.qdrant_timeout,
    )
    ledger.vectors.flight_s = settings.embeddings_timeout + 15.0
    # Parser children warm up while the servers are asked.
    parser = ParserPool(
        children=settings.parser_children,
        limits=ParseLimits(
            wall_s=settings.parse_timeout,
            memory_bytes=settings.parse_memory_mb << 20,
            max_text_chars=settings.parse_max_chars,
        ),
    )
    client = qdrant.connect(settings)
    embedder = EmbeddingClient(settings)
    checked = preflight(settings, ledger, client, embedder)
    if checked.created and (lost := ledger.dirty_all(checked.collection)):
        log.warning("index.rebuilding", documents=lost, reason="the collection was not there any more")
    index = qdrant.QdrantIndex(client, checked.collection, settings.qdrant_url)
    index.fields.declare(settings.metadata_indexes)
    rules = FolderRules(settings.metadata_rules)
    options = ChunkOptions(target_chars=settings.chunk_target, max_chars=settings.chunk_max)
    tally, breaker, index_breaker = Tally(), Breaker(), Breaker()
    limits = Limits(settings.embeddings_batch_inputs, settings.embeddings_batch_tokens, settings.embeddings_concurrency)
    budget = Budget(
        settings.broker_url.get_secret_value(),
        settings.key_prefix,
        f"{settings.embeddings_url} {settings.embeddings_model}",
        tpm=settings.embeddings_tpm,
        rpm=settings.embeddings_rpm,
    )
    canary = None if checked.canary is None else Canary(checked.canary)
    embedding = Embedding(ledger, index, embedder, checked.space, limits, breaker, tally, budget=budget, canary=canary)
    pipeline = Pipeline(
        ledger=ledger,
        index=index,
        parser=parser,
        space=checked.space,
        collection=checked.collection,
        recipe=recipe_fingerprint(options, rules.fingerprint),
        options=options,
        max_bytes=settings.parse_max_bytes,
        rules=rules,
        handover=embedding,
        parsing=ThreadPoolExecutor(settings.parser_children, thread_name_prefix="parse"),
    )

    def beat() -> None:
        ledger.count(**tally.take())
        intake.beat(
            engine,
            "index-worker",
            {"breakers": {"embeddings": breaker.told(), "qdrant": index_breaker.told()}},
        )

    leases = Leases(ledger, beat)
    return IndexWorker(ledger, pipeline, embedding, leases, hints, tally, index_breaker), parser
