"""Puts together what `GET /v1/status`, `/readyz` and `/metrics` tell."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import redis
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from ops.api.chunks import Chunks
from ops.api.ledger_views import LedgerViews
from ops.api.settings import ApiSettings
from ops.api.verify import summary as audits
from workers.adapters.trust import trusted
from workers.contract.addresses import without_password
from workers.contract.disk import room
from workers.contract.intake import ALIVE_S
from workers.contract.messages import Queue

SHARED_S = 0.5
"""How old the figures beside the verdict may be while documents are on their way: they move on meanwhile anyway."""


class Status:
    """Asks ledger, broker and Qdrant; each may be away."""

    def __init__(
        self,
        settings: ApiSettings,
        views: LedgerViews,
        engine: Engine,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._figures: dict[str, Any] | None = None  # of the last answer, if that was no verdict of being done
        self._until = 0.0
        self._settings = settings
        self._engine = engine
        self._views = views
        self._broker = redis.Redis.from_url(
            settings.broker_url.get_secret_value(), socket_timeout=2, socket_connect_timeout=1
        )
        self._qdrant = httpx.Client(
            base_url=settings.qdrant_url, timeout=3.0, headers=self._key(), verify=trusted(settings.qdrant_url)
        )
        self.chunks = Chunks(self._qdrant, settings.collection)

    def status(self) -> dict[str, Any]:
        """Return the answer of GET /v1/status.

        Its verdict is of now.  What is told beside a verdict that all is done is as young; while documents are on
        their way, who asks within half a second of another has the same figures.
        """
        converged = self._views.converged(expects_watcher=self._settings.api_expects_watcher)
        if converged:
            with self._lock:
                self._figures = None  # the next ones to be on their way must show at once
            return {"converged": True} | self._counted(converged=True)  # a server that hangs holds up nobody else
        with self._lock:
            if self._figures is None or self._clock() >= self._until:
                self._figures = self._counted(converged=False)
                self._until = self._clock() + SHARED_S
            return {"converged": False} | self._figures

    def _counted(self, *, converged: bool) -> dict[str, Any]:
        settings = self._settings
        states, totals = self._views.counted(converged=converged)
        queues = self.queues()
        waiting = sum(states.get(state, 0) for state in ("queued", "parsing", "embedding", "failed"))
        rate = totals["last_minute"] / 60.0
        return {
            "documents": states,
            "chunks": totals["chunks"],
            "embeddings_pending": totals["pending"],
            "queues": queues,
            "addresses": {
                "api": f"http://{settings.api_host}:{settings.api_port}",
                "qdrant": without_password(settings.qdrant_url),
                "broker": without_password(settings.broker_url.get_secret_value()),
                "embeddings": without_password(settings.embeddings_url),
            },
            "collection": settings.collection,
            "bytes": totals["bytes"],
            "tokens": totals["tokens"],
            "rate_per_s": round(rate, 2),
            "eta_s": round(waiting / rate) if waiting and rate else None,
            "sources": self._views.sources(),
            "processes": (processes := self._views.processes()),
            "breakers": breakers(processes),
            "qdrant": self.fullness(),
            "disk": disk(settings.data_dir),
            "audit": audits(self._engine),
        }

    def queues(self) -> dict[str, dict[str, Any] | None]:
        """Return length and age of each queue; None while the broker is away."""
        asked = self._broker.pipeline(transaction=False)  # one round trip for all
        for queue in Queue:
            key = f"{self._settings.key_prefix}{queue}"
            asked.llen(key)
            asked.lindex(key, -1)
        try:
            told = asked.execute()
        except redis.RedisError:
            return dict.fromkeys((queue.value for queue in Queue), None)
        return {
            queue.value: {"length": int(length), "oldest_age_s": _age(oldest) if length else 0.0}
            for queue, length, oldest in zip(Queue, told[::2], told[1::2], strict=True)
        }

    def missing(self) -> list[str]:
        """Return what does not answer, each with its setting; empty when everything is there.

        Whoever reaches the api may ask this: where those servers are is told by `status` alone.
        """
        faults = []
        try:
            self._views.ping()
        except SQLAlchemyError:
            faults.append("the ledger (UPWELL_LEDGER_URL)")
        try:
            self._broker.ping()
        except redis.RedisError:
            faults.append("the broker (UPWELL_BROKER_URL)")
        try:
            self._qdrant.get("/readyz").raise_for_status()
        except httpx.HTTPError:
            faults.append("Qdrant (UPWELL_QDRANT_URL)")
        return faults

    def fullness(self) -> dict[str, Any] | None:
        """Return how full the embedded Qdrant is; None with a real server, which has metrics of its own."""
        try:
            answer = self._qdrant.get("/upwell/fullness")
            return dict(answer.json()) if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            return None

    def close(self) -> None:
        """Give connections back."""
        self._qdrant.close()
        self._broker.close()

    def _key(self) -> dict[str, str]:
        key = self._settings.qdrant_api_key
        return {"api-key": key.get_secret_value()} if key else {}


def disk(directory: Path) -> dict[str, Any] | None:
    """Return the room where data is kept, and what is the matter with it, if anything; None: it cannot be seen."""
    try:
        found = room(directory.absolute())
    except OSError:
        return None
    return {"path": found.path, "free_bytes": found.free, "alarm": found.alarm}


def breakers(processes: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, by server, what the worst off of the living index workers tells of it: closed, open or half open."""
    worst: dict[str, dict[str, Any]] = {}
    for process in processes:
        if process["age_s"] >= ALIVE_S:
            continue
        for name, told in process["info"].get("breakers", {}).items():
            if name not in worst or told["failures"] > worst[name]["failures"]:
                worst[name] = told
    return worst


def _age(raw: Any) -> float | None:
    """Return the age of a queued message by the time its sender stamped on it; None when it has none."""
    try:
        stamped = float(json.loads(raw)["headers"]["stamped_at"])
    except (ValueError, KeyError, TypeError):
        return None
    return round(max(0.0, time.time() - stamped), 3)
