"""Asks the query worker over Celery and waits for its answer without a thread per request.

Celery's own result consumer is not made for many threads; `Results` waits for all of them at once.  There is room for
so many questions at a time, and one more is refused at once: a caller who hears it in a millisecond can come again,
while one whose question waits behind a thousand others gets an answer that nobody reads any more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any
from uuid import uuid4

import redis
import redis.asyncio
from celery import Celery

from ops.api.results import NotListening, Results
from workers.contract.broker import make_celery
from workers.contract.messages import TASK_ANSWER, TASK_EXPLAIN, TASK_QUESTION, TASK_SEARCH, TASK_SEARCH_BATCH, Queue
from workers.contract.sent import task_message

SLOW = (TASK_ANSWER, TASK_QUESTION)
SILENT_S = 5.0
LOOK_EVERY_S = 2.0
"""A connection that says nothing for `SILENT_S` is given up, so no command may wait for as long: who waits for the next
part of an answer, which a model may need half a minute for, asks again and again."""
SENDERS = 4
"""Connections that questions are sent over; one takes a fraction of a millisecond."""
SPARE = 16
"""Connections beside those of whoever reads an answer: for results, and for looking after them."""
NO_WORKER = "The query worker does not answer. Is `upwell worker query` running?"
NO_BROKER = "The broker does not answer (UPWELL_BROKER_URL)."


class QueryAway(Exception):
    """The query worker, or the broker on the way to it, does not answer."""

    code = "query_worker_away"


class QueriesFull(QueryAway):
    """As many questions wait as are let in; nothing is broken."""

    code = "overloaded"


class Queries:
    """The way to the query worker, shared by all requests.  Belongs to one event loop.

    Who asks is answered with `QueriesFull` when too many wait already, and with `QueryAway` when nothing comes in time.
    """

    def __init__(self, app: Celery, url: str, key_prefix: str, timeout: float, room: int = 256) -> None:
        self._app = app
        self._timeout = timeout
        self._prefix = key_prefix
        self._room = room
        self._inside = 0
        names = make_celery(url, key_prefix, "client", name="names").backend
        manners: dict[str, Any] = {
            "socket_timeout": SILENT_S,
            "socket_connect_timeout": 2,
            "health_check_interval": 15,
            "decode_responses": True,
        }
        # Whoever reads an answer as it comes keeps a connection; left to itself, the client has a hundred of them.
        self._redis = redis.asyncio.Redis.from_url(url, max_connections=room + SPARE, **manners)
        # Those who come at once are sent one after another: each would open a connection of its own.
        senders = redis.asyncio.BlockingConnectionPool.from_url(
            url, max_connections=SENDERS, timeout=SILENT_S, **manners
        )
        self._sender = redis.asyncio.Redis.from_pool(senders)
        self._results = Results(self._redis, lambda task_id: _text(names.get_key_for_task(task_id)))

    async def search(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the query worker's answer to a search."""
        return await self._ask(TASK_SEARCH, request)

    async def search_batch(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the query worker's answers to several searches."""
        return await self._ask(TASK_SEARCH_BATCH, request)

    async def explain(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return why a document is, or is not, among the hits of a search."""
        return await self._ask(TASK_EXPLAIN, request)

    async def question(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a question that a passage answers, or why there is none."""
        return await self._ask(TASK_QUESTION, request)

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the query worker's answer to a question."""
        return await self._ask(TASK_ANSWER, request)

    async def stream(self, request: dict[str, Any]) -> AsyncIterator[tuple[str, Any]]:
        """Yield (event, data) as the answer comes.  When the caller goes away, the worker is told to stop."""
        async with aclosing(self._stream(request)) as events:
            with self._place():
                async for event, data in events:
                    yield event, data

    def check_room(self) -> None:
        """Raise what a question would be refused with now, before an answer's head is sent.

        Raises:
            QueriesFull: too many wait already.
        """
        if self._inside >= self._room:
            raise QueriesFull(f"{self._room} questions wait already (UPWELL_QUERIES_WAITING).")

    async def close(self) -> None:
        """Give connections back."""
        await self._results.close()
        await self._sender.aclose()
        await self._redis.aclose()

    @contextmanager
    def _place(self) -> Iterator[None]:
        self.check_room()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def _ask(self, task: str, request: dict[str, Any]) -> dict[str, Any]:
        with self._place(), self._results.expected() as task_id:
            try:
                await self._results.listen()  # before the task is sent, so that its result is heard of
                await self._send(task, [request], task_id, keep_result=True)
                raw = await self._results.wait(task_id, self._timeout)
            except (redis.RedisError, NotListening) as exc:
                raise QueryAway(NO_BROKER) from exc
        if raw is None:
            raise QueryAway(NO_WORKER)
        finished = json.loads(raw)
        if finished.get("status") != "SUCCESS":
            raise QueryAway("The query worker failed; its log has the details.")
        return dict(finished["result"])

    async def _stream(self, request: dict[str, Any]) -> AsyncGenerator[tuple[str, Any]]:
        key = f"{self._prefix}answer:{uuid4().hex}"
        await self._send(TASK_ANSWER, [request, key], uuid4().hex, keep_result=False)
        last, finished = "0", False
        try:
            while not finished:
                entries = await self._next_events(key, last)
                last = entries[-1][0]
                for _, fields in entries:
                    yield fields["event"], json.loads(fields["data"])
                    finished = fields["event"] in ("done", "error")
        except redis.RedisError as exc:
            raise QueryAway(NO_BROKER) from exc
        finally:
            if not finished:
                await asyncio.shield(self._cancel(key))

    async def _next_events(self, key: str, last: str) -> list[tuple[str, dict[str, str]]]:
        """Wait for what comes after ``last`` in an answer's stream: (id, fields) of each event, at least one."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        while (left := deadline - loop.time()) > 0:
            wait_ms = max(1, int(min(left, LOOK_EVERY_S) * 1000))  # 0 would be for ever
            found: Any = await self._redis.xread({key: last}, count=100, block=wait_ms)
            if found:
                return list(found[0][1])
        raise QueryAway(NO_WORKER)

    async def _send(self, task: str, args: list[Any], task_id: str, *, keep_result: bool) -> None:
        queue = Queue.ANSWER if task in SLOW else Queue.QUERY
        message = task_message(
            self._app, task, args, task_id=task_id, queue=queue, expires=self._timeout, keep_result=keep_result
        )
        try:
            await self._sender.lpush(f"{self._prefix}{queue}", message)
        except (redis.RedisError, OSError) as exc:
            raise QueryAway(NO_BROKER) from exc

    async def _cancel(self, key: str) -> None:
        try:
            await self._redis.set(f"{key}:cancel", "1", ex=300)
        except redis.RedisError:
            return  # the answer is then finished for nobody


def _text(key: str | bytes) -> str:
    return key.decode() if isinstance(key, bytes) else key
