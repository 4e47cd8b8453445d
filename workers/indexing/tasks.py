"""The Celery tasks of the index worker: decode, call, return."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Celery

from workers.contract.messages import (
    TASK_EMBED,
    TASK_RECONCILE,
    EmbeddingsPending,
    LookAtDocument,
    LookAtDocuments,
    Message,
    MessageRejected,
    decode,
)
from workers.indexing.bulk import TURNS, BulkLane
from workers.indexing.stall import Stall
from workers.indexing.worker import IndexWorker

log = structlog.get_logger()


def register(app: Celery, worker: IndexWorker, stall: Stall, bulk: BulkLane) -> None:
    """Give this app its tasks.  What finally fails is in the ledger; the broker never retries for us."""

    @app.task(name=TASK_RECONCILE, shared=False)  # type: ignore[untyped-decorator]
    def reconcile_document(raw: Any) -> None:
        with stall.working():
            message = _decoded(raw)
            match message:
                case LookAtDocument(bulk=False):
                    worker.look(str(message.document_id))
                case LookAtDocument():
                    in_turn([str(message.document_id)])
                case LookAtDocuments():
                    in_turn([str(key) for key in message.document_ids])

    def in_turn(keys: list[str]) -> None:
        # The broker hands queues out in turn, one message each, and one of a backfill takes as long as many edits.
        for _ in range(TURNS):
            worker.look_live()
            with bulk.place() as free:
                if free:
                    worker.look(keys[0]) if len(keys) == 1 else worker.look_all(keys)
                    return
        # To the end of the queue, as it came: they walk together wherever they find a place.
        worker.hints.look_together(keys)  # a lost hint is the sweep's

    @app.task(name=TASK_EMBED, shared=False)  # type: ignore[untyped-decorator]
    def embed_pending(raw: Any) -> None:
        with stall.working():
            message = _decoded(raw)
            if isinstance(message, EmbeddingsPending):
                worker.embed()


def _decoded(raw: Any) -> Message | None:
    """Whoever can write to the broker can send anything; what is not ours is dropped, and the sweep knows better."""
    try:
        return decode(raw)
    except MessageRejected as exc:
        log.warning("message.rejected", reason=str(exc))
        return None
