"""What the template imports, layer after layer: a part is forked as soon as its layer is there (ADR 0047)."""

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
        "index",
        (
            "ops.cli.main",
            "workers.indexing.main",
            "workers.indexing.preflight",
            "workers.contract.ending",
            "workers.contract.consumer",
            "workers.indexing.tasks",
            "workers.indexing.wiring",
            "celery.bin.celery",
            "celery.concurrency.thread",
        ),
    ),
    ("query", ("workers.query.main", "workers.query.tasks", "workers.query.room")),
    ("api", ("ops.api.main",)),
    ("watch", ("producers.watch",)),
    ("beat", ("producers.listing", "workers.housekeeping.main")),
)
