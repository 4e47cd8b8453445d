"""What the template imports, layer after layer: a part is forked as soon as its layer is there (ADR 0047).

What several parts import when they begin is here as well, once for all of them: Celery's worker, its transport, HTTP.
The watcher comes early, because listing the files takes it as long as the index worker takes to come up.
"""

from __future__ import annotations

LAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "stores",
        (
            "numpy",
            "uvicorn.protocols.http.httptools_impl",
            "uvicorn.lifespan.off",
            "ops.embedded.qdrant.server",
            "ops.embedded.graph",
            "ops.embedded.tokenizer",
            "ops.embedded.weights",
            "ops.embedded.lanes",
        ),
    ),
    (
        "watch",
        (
            "ops.cli.main",
            "ops.cli.processes",
            "typer._adapters",
            "producers.watch",
            "celery.fixups.django",
            "celery.app.amqp",
            "celery.app.events",
            "celery.app.log",
            "kombu.transport.redis",
            "encodings.idna",
        ),
    ),
    (
        "index",
        (
            "workers.indexing.main",
            "workers.indexing.preflight",
            "workers.contract.ending",
            "workers.contract.consumer",
            "workers.indexing.tasks",
            "workers.indexing.wiring",
            "celery.app.control",
            "celery.backends.redis",
            "celery.concurrency.thread",
            "celery.worker.autoscale",
            "celery.worker.components",
            "celery.worker.consumer.delayed_delivery",
            "celery.worker.strategy",
            "httpcore",
        ),
    ),
    (
        "query",
        (
            "workers.query.main",
            "workers.query.tasks",
            "workers.query.room",
            "workers.query.embedder",
            "workers.adapters.qdrant_search",
            "workers.adapters.reranker",
        ),
    ),
    (
        "api",
        (
            "ops.api.main",
            "uvicorn.lifespan.on",
            "uvicorn.loops.asyncio",
            "anyio._backends._asyncio",
        ),
    ),
    ("beat", ("producers.listing", "workers.housekeeping.main")),
)
