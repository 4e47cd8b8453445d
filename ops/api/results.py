"""Results of the query worker's tasks: one subscription for the whole process, and a look at the key when in doubt.

The worker keeps each result under its key and publishes it under the same name.  The ids of our tasks begin alike, so
one pattern covers all of them: no question opens a connection or a channel of its own.  What was published while the
subscription was away lies under its key, where whoever waits looks every two seconds.  Nobody else asks for our
results, so they are deleted once they are here: kept for Celery's five minutes, those of a busy hour fill the broker.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import redis
import redis.asyncio
import structlog

log = structlog.get_logger()

LOOK_EVERY_S = 2.0
AGAIN_S = 0.2
LISTENING_S = 3.0


class NotListening(Exception):
    """There is no subscription, and none could be made in time."""


class Results:
    """Waits for results of tasks.  Belongs to one event loop."""

    def __init__(self, client: redis.asyncio.Redis, key_of: Callable[[str], str]) -> None:
        self._client = client
        self._key_of = key_of
        self._ours = f"{uuid4().hex}-"
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self._listening = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._over: list[str] = []
        self._cleaner: asyncio.Task[None] | None = None
        self._closed = False

    @contextmanager
    def expected(self) -> Iterator[str]:
        """Give the id of a task to be sent; its result can be waited for inside of the block."""
        task_id = f"{self._ours}{uuid4().hex}"
        key = self._key_of(task_id)
        self._waiting[key] = asyncio.get_running_loop().create_future()
        try:
            yield task_id
        finally:
            del self._waiting[key]

    async def listen(self) -> None:
        """Return once results are heard of.

        Raises:
            NotListening: the broker does not answer.
        """
        if self._reader is None or self._reader.done():  # whatever ended it
            self._listening.clear()
            self._reader = asyncio.create_task(self._read())
        if self._listening.is_set():
            return
        try:
            await asyncio.wait_for(self._listening.wait(), LISTENING_S)
        except TimeoutError:
            raise NotListening from None

    async def wait(self, task_id: str, timeout: float) -> str | None:
        """Return the result of a task as JSON; None: not in time.

        Raises:
            redis.RedisError: the broker does not answer.
        """
        loop = asyncio.get_running_loop()
        key, deadline = self._key_of(task_id), loop.time() + timeout
        future = self._waiting[key]
        found: str | None = None
        while found is None and (left := deadline - loop.time()) > 0:
            done, _ = await asyncio.wait({future}, timeout=min(left, LOOK_EVERY_S))
            found = future.result() if done else await self._looked_up(key)
        if found is not None:
            self._forget(key)
        return found

    async def close(self) -> None:
        """Hang up."""
        self._closed = True  # a cancellation can get lost in the client's own retries
        tasks = {task for task in (self._reader, self._cleaner) if task is not None and not task.done()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2 * LOOK_EVERY_S)

    async def _looked_up(self, key: str) -> str | None:
        """Return what lies under a key; None also when the connection says nothing: the next look takes another one."""
        try:
            kept = await asyncio.wait_for(self._client.get(key), LOOK_EVERY_S)
        except TimeoutError:
            return None
        return kept if isinstance(kept, str) else None

    async def _read(self) -> None:
        pattern = re.sub(r"([*?\[\]\\^-])", r"\\\1", self._key_of(self._ours)) + "*"
        while not self._closed:
            try:
                async with self._client.pubsub() as channel:
                    await channel.psubscribe(pattern)
                    while not self._closed:
                        self._heard(await channel.get_message(timeout=LOOK_EVERY_S))
            except (redis.RedisError, OSError) as exc:
                self._listening.clear()
                log.warning("query.not_listening", error=type(exc).__name__)
                await asyncio.sleep(AGAIN_S)

    def _heard(self, message: dict[str, str] | None) -> None:
        if message is None:
            return
        if message["type"] == "psubscribe":
            self._listening.set()
        elif message["type"] == "pmessage":
            future = self._waiting.get(message["channel"])
            if future is not None and not future.done():
                future.set_result(message["data"])

    def _forget(self, key: str) -> None:
        self._over.append(key)
        if self._cleaner is None or self._cleaner.done():
            self._cleaner = asyncio.create_task(self._clean())

    async def _clean(self) -> None:
        while self._over:
            keys, self._over = self._over, []
            try:
                await self._client.unlink(*keys)
            except redis.RedisError:
                return  # they expire by themselves
