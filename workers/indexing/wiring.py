"""Builds the ports of an index worker once per process.  Imported when the process serves: its imports are heavy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

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
from workers.indexing.leases import Leases, Tally
from workers.indexing.ledger import Ledger
from workers.indexing.metadata import FolderRules
from workers.indexing.parse.limits import Limits as ParseLimits
from workers.indexing.parse.pool import ParserPool
from workers.indexing.preflight import Checked, preflight
from workers.indexing.recipe import recipe_fingerprint
from workers.indexing.reconcile import Pipeline
from workers.indexing.settings import IndexWorkerSettings
from workers.indexing.worker import IndexWorker

ANSWER_S = 15.0
"""Seconds after an embedding request's timeout in which its vectors are written down, at the longest."""


def build(settings: IndexWorkerSettings, engine: Engine, hints: Hints) -> tuple[IndexWorker, ParserPool]:
    """Build the worker and its parser pool; checks servers, model and collection on the way.

    Raises:
        RefusesToStart: model, dimensions or collection do not fit.
        Transient: a server did not come up within UPWELL_START_TIMEOUT.
    """
    ledger = _ledger(settings, engine)
    parser = _parser(settings)  # its children warm up while the servers are asked
    embedder = EmbeddingClient(settings)
    client = qdrant.connect(settings)
    checked = preflight(settings, ledger, client, embedder)
    index = qdrant.QdrantIndex(client, checked.collection, settings.qdrant_url)
    index.fields.declare(settings.metadata_indexes)
    tally, breaker, index_breaker = Tally(), Breaker(), Breaker()
    embedding = _embedding(settings, ledger, index, embedder, checked, breaker, tally)
    pipeline = _pipeline(settings, ledger, index, parser, checked, embedding)

    def beat() -> None:
        ledger.count(**tally.take())
        breakers = {"embeddings": breaker.told(), "qdrant": index_breaker.told()}
        intake.beat(engine, "index-worker", {"breakers": breakers})

    worker = IndexWorker(ledger, pipeline, embedding, Leases(ledger, beat), hints, tally, index_breaker)
    return worker, parser


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
