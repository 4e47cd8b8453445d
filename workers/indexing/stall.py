"""Notices that this worker takes no messages although some wait.

A consumer can be alive and deaf: an acknowledgement that fails keeps its place among the messages in work for ever
(kombu's QoS.ack), and enough of them leave no place for another; a reply that breaks off can hold up its loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

PATIENCE_S = 120.0
"""Longer than the longest pause between two attempts to reach the broker again (32 s), and than a slow start."""


class Stall:
    """``waiting`` returns how many messages wait for a worker like this one; it may raise `redis.RedisError`."""

    def __init__(
        self,
        waiting: Callable[[], int],
        *,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waiting = waiting
        self._patience_s = patience_s
        self._clock = clock
        self._lock = threading.Lock()
        self._working = 0
        self._well_at = clock()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Say that a message was taken, and that it is worked on for the length of the block."""
        with self._lock:
            self._working += 1
        try:
            yield
        finally:
            with self._lock:
                self._working -= 1
                self._well_at = self._clock()

    def stuck(self) -> bool:
        """Tell whether messages have waited all the time, and none was taken, for longer than one's patience.

        To be asked every few seconds.  A broker that does not answer is no fault of ours.
        """
        try:
            well = self._waiting() == 0
        except redis.RedisError:
            well = True
        with self._lock:
            now = self._clock()
            if well or self._working:
                self._well_at = now
            return now - self._well_at > self._patience_s
