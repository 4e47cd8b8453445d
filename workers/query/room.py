"""Keeps room for searches, whatever answers do: a queue is read only while one of its own threads is free.

A model may write for a minute, and a search takes a few milliseconds.  So answers have a queue and threads of their
own, and what finds no thread waits in the broker, where another worker may take it.  A message that is taken is begun
at once; there is nothing to acknowledge later, and acknowledging costs as much as a third of a search (ADR 0041).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any, ClassVar

from celery import Celery, bootsteps
from celery.backends.redis import RedisBackend
from celery.concurrency.thread import ApplyResult
from celery.concurrency.thread import TaskPool as ThreadPool
from celery.states import PENDING
from kombu.asynchronous import get_event_loop
from kombu.common import ignore_errors

from workers.contract.messages import Queue


class Room:
    """How many tasks of each queue may run at once, and how many do."""

    def __init__(self, threads: Mapping[Queue, int]) -> None:
        self._free = dict(threads)
        self._lock = threading.Lock()
        self.threads = sum(threads.values())

    def has(self, queue: Queue) -> bool:
        """Tell whether one more may begin."""
        return self._free[queue] > 0

    def take(self, queue: Queue) -> None:
        """Count one that begins."""
        with self._lock:
            self._free[queue] -= 1

    def give_back(self, queue: Queue) -> bool:
        """Count one that has ended; True when there was no room before."""
        with self._lock:
            self._free[queue] += 1
            return self._free[queue] == 1


def keep_room(app: Celery, url: str, room: Room) -> None:
    """Let ``app``'s worker begin no more than there is room for, and read each queue only then."""
    app.conf.worker_pool = f"{__name__}:TaskPool"
    app.conf.result_backend = f"{__name__}:Results+{url}"
    app.room = room
    app.steps["consumer"].add(Reading)


class TaskPool(ThreadPool):  # type: ignore[misc]
    """Celery's threads, which tell the room what they work on."""

    finishes = True  # a message is acknowledged when it is taken: given back, it would be nobody's

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *more: Any,
        **options: Any,
    ) -> ApplyResult:
        """Begin a task; its third argument is what Celery knows of it."""
        room: Room = self.app.room
        queue = Queue.ANSWER if args[2]["delivery_info"]["routing_key"] == Queue.ANSWER else Queue.QUERY

        def run(*words: Any, **named: Any) -> Any:
            try:
                return target(*words, **named)
            finally:
                if room.give_back(queue) and (loop := get_event_loop()) is not None:
                    loop.call_soon(_look_again)

        room.take(queue)
        return super().on_apply(run, args, kwargs, *more, **options)


class Reading(bootsteps.StartStopStep):  # type: ignore[misc]
    """Reads both queues, each over a channel of its own: a channel is what Celery can stop to read for a while."""

    requires: ClassVar = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self._answers: Any = None
        super().__init__(consumer, **options)

    def start(self, consumer: Any) -> None:
        """Begin to read answers, and from now on look first whether there is room."""
        room: Room = consumer.app.room
        channel = consumer.connection.channel()
        _rule(consumer.task_consumer.channel, room, Queue.QUERY)
        _rule(channel, room, Queue.ANSWER)
        queue = consumer.app.amqp.queues[Queue.ANSWER.value]
        self._answers = consumer.app.amqp.TaskConsumer(
            channel, queues=[queue], on_decode_error=consumer.on_decode_error
        )
        self._answers.on_message = consumer.create_task_handler()
        self._answers.consume()

    def stop(self, consumer: Any) -> None:
        """Read no more answers."""
        if self._answers is not None:
            ignore_errors(consumer, self._answers.cancel)

    def shutdown(self, consumer: Any) -> None:
        """Give the channel back."""
        if self._answers is not None:
            self.stop(consumer)
            ignore_errors(consumer, self._answers.channel.close)
            self._answers = None


class Results(RedisBackend):  # type: ignore[misc]
    """Keeps and publishes results.  A task runs once here, so nobody looks first whether there is a result already.

    Nor are both one transaction: who heard nothing looks under the key (`ops.api.results`, and Celery's own clients).
    """

    def _set(self, key: str, value: str, expires: int | None = None) -> None:
        with self.client.pipeline(transaction=False) as both:
            both.setex(key, self.expires if expires is None else expires, value)
            both.publish(key, value)
            both.execute()

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        return {"status": PENDING, "result": None}


def _rule(channel: Any, room: Room, queue: Queue) -> None:
    """Let a channel read only with room.  Kombu acknowledges on Redis even what its queue says needs none; not here."""
    channel.qos.can_consume = MethodType(lambda _: room.has(queue), channel.qos)
    channel.qos.ack = MethodType(lambda _self, _tag: None, channel.qos)


def _look_again() -> None:
    """Nothing: what wakes the worker's loop is that it is called."""
