"""The housekeeping process: sweeps, audits, trims the embedding cache, forgets old queries.  Any number may run."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

import redis
import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from workers.adapters import qdrant
from workers.adapters.qdrant_audit import QdrantAudit, current_collection
from workers.contract import asked, intake, schema
from workers.contract.broker import TOGETHER, Hints, eviction_policy, make_celery
from workers.contract.logs import set_up_logs
from workers.contract.messages import Queue
from workers.housekeeping.auditor import Auditor
from workers.housekeeping.books import Books
from workers.housekeeping.docket import Docket
from workers.housekeeping.ports import Files
from workers.housekeeping.pulse import Pulse
from workers.housekeeping.settings import HousekeepingSettings
from workers.housekeeping.sweep import Waiting, sweep
from workers.indexing.facts import RECIPE_FACT
from workers.indexing.handback import Ended
from workers.indexing.ledger import Ledger

log = structlog.get_logger()

TRIM_S = 600.0


def run(files: Files) -> None:
    """Run until SIGTERM; ``files`` is how audits see what is on disk."""
    settings = HousekeepingSettings()
    set_up_logs("beat", level=settings.log_level, fmt=settings.log_format)
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    engine = schema.open_ledger(settings.ledger_url.get_secret_value())
    ledger = Ledger(engine, intake.process_name("beat"))
    url = settings.broker_url.get_secret_value()
    hints = Hints(make_celery(url, settings.key_prefix, "producer"))
    broker = redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=2)
    client = qdrant.connect(settings)
    auditor = _auditor(settings, engine, client, files, hints)
    docket = Docket(engine)
    _hand_back(settings, docket)
    pulse = Pulse(ledger, Books(engine), docket, client, alias=settings.collection, url=settings.qdrant_url)
    auditor.start()
    pulse.start()
    trimmed_at = time.monotonic()
    log.info("beat.ready", every_s=settings.sweep_interval)
    _warn_of_eviction(broker)
    while not stop.wait(settings.sweep_interval):
        try:
            intake.beat(engine, "beat", {})
            # What the index worker that started last goes by; it is the one that will pick the hints up.
            recipe = ledger.fact(RECIPE_FACT)
            swept = sweep(ledger, hints, recipe, limit=settings.sweep_batch, waiting=_waiting(broker, settings))
            if swept.live or swept.bulk:
                log.info("sweep.hinted", live=swept.live, bulk=swept.bulk)
            if time.monotonic() - trimmed_at > TRIM_S:
                trimmed_at = time.monotonic()
                ledger.vectors.trim(settings.embedding_cache_entries, settings.embedding_cache_mb << 20)
                forgotten = asked.forget(engine, older_than_days=settings.query_log_days if settings.query_log else 0.0)
                if forgotten:
                    log.info("queries.forgotten", count=forgotten)
        except (SQLAlchemyError, redis.RedisError) as exc:  # away or busy: the next sweep tries again
            log.warning("sweep.failed", error=type(exc).__name__)
    pulse.stop()
    auditor.stop()
    intake.leave(engine, "beat")


def _auditor(
    settings: HousekeepingSettings, engine: Engine, client: qdrant.Client, files: Files, hints: Hints
) -> Auditor:
    def open_index() -> QdrantAudit | None:
        collection = current_collection(client, settings.collection, settings.qdrant_url)
        return None if collection is None else QdrantAudit(client, collection, settings.qdrant_url)

    directory = settings.data_dir / "audit"
    owner = intake.lease_owner("beat", settings.life)
    return Auditor(engine, open_index, files, hints, directory, interval_s=settings.audit_interval, owner=owner)


def _hand_back(settings: HousekeepingSettings, docket: Docket) -> None:
    """Free the audit that an earlier process was at, if `upwell up` knows that process to be gone."""
    try:
        docket.hand_back(Ended(settings.ended_lives, settings.ended_runs))
    except SQLAlchemyError as exc:  # its lease runs out by itself
        log.warning("audit.not_handed_back", error=type(exc).__name__)


def _warn_of_eviction(broker: redis.Redis) -> None:
    """A full broker that evicts costs time (the sweep sends lost hints again), and queries their answers."""
    try:
        policy = eviction_policy(broker)
    except redis.RedisError:
        return  # away for now; whoever needs it says so
    if policy is not None:
        log.warning("broker.evicts", policy=policy, remedy="set maxmemory-policy noeviction on the broker")


def _waiting(broker: redis.Redis, settings: HousekeepingSettings) -> Waiting:
    """Return for how many documents hints wait on the broker, at most: a bulk one may name several."""
    live, bulk = (broker.llen(f"{settings.key_prefix}{queue}") for queue in (Queue.LIVE, Queue.BULK))
    return Waiting(int(live), int(bulk) * TOGETHER)
