"""Builds the ports of an index worker once per process.  Imported when the process serves: its imports are heavy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import Engine

from workers.adapters import qdrant
from workers.adapters.budget import Budget
from workers.adapters.embeddings import EmbeddingClient
from workers.contract import intake
from workers.contract.broker import Hints
from workers.indexing.breaker import Breaker
from workers.indexing.canary import Canary
from workers.indexing.chunk import ChunkOptions
from workers.indexing.desk import Limits
from workers.indexing.embed import Embedding
from workers.indexing.facts import COLLECTION_FACT
from workers.indexing.leases import Leases, Tally
from workers.indexing.ledger import Ledger
from workers.indexing.metadata import FolderRules
from workers.indexing.parse.limits import Limits as ParseLimits
from workers.indexing.parse.pool import ParserPool
from workers.indexing.preflight import Checked, furnish, preflight
from workers.indexing.recipe import recipe_fingerprint
from workers.indexing.reconcile import Pipeline
from workers.indexing.settings import IndexWorkerSettings
from workers.indexing.worker import IndexWorker

ANSWER_S = 15.0
"""Seconds after an embedding request's timeout in which its vectors are written down, at the longest."""


@dataclass(frozen=True, slots=True)
class Built:
    """A worker and what ends with it."""

    worker: IndexWorker
    parser: ParserPool
    furnished: Future[None]  # the collection has all that it needs; until then the index is not asked


def build(settings: IndexWorkerSettings, engine: Engine, hints: Hints) -> Built:
    """Build the worker and its parser pool; checks servers, model and collection on the way.

    The collection is furnished beside what follows: documents are read and parsed meanwhile.

    Raises:
        RefusesToStart: model, dimensions or collection do not fit.
        Transient: a server did not come up within UPWELL_START_TIMEOUT.
    """
    ledger = _ledger(settings, engine)
    parser = _parser(settings)  # its children warm up while the servers are asked
    embedder = EmbeddingClient(settings)
    client = qdrant.connect(settings)
    checked = preflight(settings, ledger, client, embedder)
    furnished: Future[None] = Future()
    index = qdrant.QdrantIndex(client, checked.collection, settings.qdrant_url, ready=furnished.result)

    def make_ready() -> None:
        furnish(settings, client, checked)
        index.fields.declare(settings.metadata_indexes)
        ledger.remember_fact(
            COLLECTION_FACT, checked.collection, replace=True
        )  # housekeepers look after it from now on

    _beside(make_ready, furnished)
    tally, breaker, index_breaker = Tally(), Breaker(), Breaker()
    embedding = _embedding(settings, ledger, index, embedder, checked, breaker, tally)
    pipeline = _pipeline(settings, ledger, index, parser, checked, embedding)

    def beat() -> None:
        ledger.count(**tally.take())
        breakers = {"embeddings": breaker.told(), "qdrant": index_breaker.told()}
        intake.beat(engine, "index-worker", {"breakers": breakers})

    worker = IndexWorker(ledger, pipeline, embedding, Leases(ledger, beat), hints, tally, index_breaker)
    return Built(worker, parser, furnished)


def _beside(work: Callable[[], None], done: Future[None]) -> None:
    """Do ``work`` on a thread that nobody waits for at the end; ``done`` tells what became of it."""

    def run() -> None:
        try:
            work()
        except Exception as exc:  # noqa: BLE001 - whoever asks for the result gets it
            done.set_exception(exc)
        else:
            done.set_result(None)

    threading.Thread(target=run, name="furnish", daemon=True).start()


def _ledger(settings: IndexWorkerSettings, engine: Engine) -> Ledger:
    ledger = Ledger(
        engine,
        intake.lease_owner("index-worker", settings.life),
        lease_s=settings.lease,
        # What a silent attempt has sent may be on its way until its lease is over, and then for one client timeout.
        late_writes_s=settings.lease + settings.qdrant_timeout,
    )
    ledger.vectors.flight_s = settings.embeddings_timeout + ANSWER_S
    return ledger


def _parser(settings: IndexWorkerSettings) -> ParserPool:
    limits = ParseLimits(
        wall_s=settings.parse_timeout,
        memory_bytes=settings.parse_memory_mb << 20,
        max_text_chars=settings.parse_max_chars,
    )
    return ParserPool(children=settings.parser_children, limits=limits)


def _embedding(
    settings: IndexWorkerSettings,
    ledger: Ledger,
    index: qdrant.QdrantIndex,
    embedder: EmbeddingClient,
    checked: Checked,
    breaker: Breaker,
    tally: Tally,
) -> Embedding:
    limits = Limits(settings.embeddings_batch_inputs, settings.embeddings_batch_tokens, settings.embeddings_concurrency)
    budget = Budget(
        settings.broker_url.get_secret_value(),
        settings.key_prefix,
        f"{settings.embeddings_url} {settings.embeddings_model}",
        tpm=settings.embeddings_tpm,
        rpm=settings.embeddings_rpm,
    )
    canary = None if checked.canary is None else Canary(checked.canary)
    return Embedding(ledger, index, embedder, checked.space, limits, breaker, tally, budget=budget, canary=canary)


def _pipeline(
    settings: IndexWorkerSettings,
    ledger: Ledger,
    index: qdrant.QdrantIndex,
    parser: ParserPool,
    checked: Checked,
    handover: Embedding,
) -> Pipeline:
    options = ChunkOptions(target_chars=settings.chunk_target, max_chars=settings.chunk_max)
    rules = FolderRules(settings.metadata_rules)
    return Pipeline(
        ledger=ledger,
        index=index,
        parser=parser,
        space=checked.space,
        collection=checked.collection,
        recipe=recipe_fingerprint(options, rules.fingerprint),
        options=options,
        max_bytes=settings.parse_max_bytes,
        rules=rules,
        handover=handover,
        parsing=ThreadPoolExecutor(settings.parser_children, thread_name_prefix="parse"),
    )
