"""Makes the Celery application every process uses: one place for every broker setting and its reason (ADR 0005)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, cast
from uuid import UUID

import kombu.exceptions
import redis
import structlog
from celery import Celery
from kombu.entity import Queue as KombuQueue

from workers.contract.messages import (
    EmbeddingsPending,
    LookAtDocument,
    LookAtDocuments,
    Message,
    Queue,
    encode,
    route,
)
from workers.contract.settings import BrokerSettings

log = structlog.get_logger()

SOFT_SHUTDOWN_S = 4
VISIBILITY_TIMEOUT_S = 1800
TOGETHER = 16
"""Most documents of a backfill in one message: they walk side by side, and are found when the last of them is."""
SPREAD = 8
"""A small backfill is cut into about so many messages, for as many threads."""


class _Celery(Celery):  # type: ignore[misc]
    """Celery, whose workers end as ours do."""

    @cached_property
    def Worker(self) -> type:  # noqa: N802 - Celery's name
        """The class of its workers; imported by those who are one."""
        return cast(type, self.subclass_with_self("workers.contract.ending:Worker"))


def make_celery(
    url: str, key_prefix: str, role: Literal["producer", "worker", "client"], *, name: str = "upwell"
) -> Celery:
    """Return a Celery application for ``role``.

    A producer gives up on a stuck broker after about 2 x 3 s, because its hint is only a short cut; a worker waits
    longer.  A producer, which sends hints, has no result backend.
    """
    app = _Celery(
        name, broker=url, backend=url if role in ("client", "worker") else None, set_as_current=role == "worker"
    )
    app.conf.update(_reaching_the_broker(key_prefix, patient=role == "worker"))
    # Who asks waits only some seconds, so a search that is lost with its worker is not done again later.
    queues = [KombuQueue(queue.value, no_ack=queue in (Queue.QUERY, Queue.ANSWER)) for queue in Queue]
    app.conf.update(_TASKS, task_queues=queues)
    app.conf.update(_WORKERS)
    return app


def _reaching_the_broker(key_prefix: str, *, patient: bool) -> dict[str, Any]:
    """How long who waits for the broker, and what it is told of messages that nobody has acknowledged."""
    transport: dict[str, Any] = {
        "global_keyprefix": key_prefix,
        "visibility_timeout": VISIBILITY_TIMEOUT_S,  # recovery speed comes from leases, not from this
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "socket_timeout": 10 if patient else 3,
        "socket_connect_timeout": 5 if patient else 2,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry_on_timeout": patient,
    }
    return {
        "broker_transport_options": transport,
        "result_backend_transport_options": {
            "global_keyprefix": key_prefix,
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
        },
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "redis_socket_timeout": 10,
        "redis_socket_connect_timeout": 5,
        "redis_socket_keepalive": True,
        "redis_retry_on_timeout": True,
        "redis_backend_health_check_interval": 15,
        "broker_pool_acquire_timeout": 5,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # outlast long outages; the health check decides
    }


_TASKS: dict[str, Any] = {
    "task_publish_retry_policy": {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 1},
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    "result_expires": 300,
    "task_default_queue": Queue.BULK.value,
    "task_create_missing_queues": False,
    "task_acks_late": True,
    "task_acks_on_failure": True,
    "task_acks_on_timeout": True,  # failures are ledger states, not broker loops
    "task_reject_on_worker_lost": False,
    "task_ignore_result": True,
    "task_send_sent_event": False,
    "enable_utc": True,
}
"""What becomes of a message."""

_WORKERS: dict[str, Any] = {
    "worker_consumer": "workers.contract.consumer:Consumer",
    "worker_prefetch_multiplier": 1,
    "worker_soft_shutdown_timeout": SOFT_SHUTDOWN_S,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # Nobody asks over it, and its subscription is read without a timeout inside the consumer's loop: a reply that
    # breaks off after its first bytes would stop the worker for ever.
    "worker_enable_remote_control": False,
    "worker_send_task_events": False,
    "worker_eta_task_limit": 100,
    "worker_hijack_root_logger": False,
}
"""How a worker takes messages, and how it ends."""


def messages_waiting(settings: BrokerSettings, queues: Sequence[Queue]) -> int:
    """Return how many messages wait in ``queues``.

    Raises:
        redis.RedisError: the broker does not answer within 3 s.
    """
    url = settings.broker_url.get_secret_value()
    with redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=2) as client:
        return sum(int(cast(int, client.llen(f"{settings.key_prefix}{queue}"))) for queue in queues)


def eviction_policy(client: redis.Redis) -> str | None:
    """Return the policy by which a broker that is full forgets messages; None when it refuses new ones instead.

    Raises:
        redis.RedisError: it does not answer.
    """
    memory = client.info("memory")
    policy = str(memory.get("maxmemory_policy", "noeviction")) if isinstance(memory, dict) else "noeviction"
    return None if policy == "noeviction" else policy


def stamp() -> dict[str, float]:
    """Return the header by which the age of a waiting message can be told."""
    return {"stamped_at": time.time()}


class Hints:
    """Sends hints.  A lost hint is harmless, so sending never raises: the sweep sends it again."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def look(self, document_ids: list[str], *, bulk: bool = False) -> bool:
        """Ask index workers to look at documents; False when the broker did not take it."""
        keys = [UUID(key) for key in document_ids]
        # Enough messages for all threads of some workers; beyond that, the fewer the cheaper.
        size = min(TOGETHER, -(-len(keys) // SPREAD)) if bulk else 1
        if size <= 1:
            return self._send([LookAtDocument(document_id=key, bulk=bulk) for key in keys])
        groups = (tuple(keys[start : start + size]) for start in range(0, len(keys), size))
        return self._send([LookAtDocuments(document_ids=group) for group in groups])

    def look_together(self, document_ids: Sequence[str]) -> bool:
        """Ask an index worker to look at documents of a backfill side by side, in one message; False as above."""
        return self._send([LookAtDocuments(document_ids=tuple(UUID(key) for key in document_ids))])

    def embed(self) -> bool:
        """Ask an index worker to fetch missing dense vectors; False when the broker did not take it."""
        return self._send([EmbeddingsPending()])

    def _send(self, messages: Sequence[Message]) -> bool:
        if not messages:
            return True
        try:
            with self._app.producer_or_acquire() as producer:
                for message in messages:
                    task, queue = route(message)
                    self._app.send_task(
                        task,
                        args=[encode(message)],
                        queue=queue.value,
                        producer=producer,
                        ignore_result=True,
                        headers=stamp(),
                    )
        except (kombu.exceptions.OperationalError, OSError, TimeoutError) as exc:
            log.warning("hint.not_sent", error=type(exc).__name__, count=len(messages))
            return False
        return True
