"""How a Celery worker ends: it waits for what it works on, for a while, and for nothing else.

Celery's soft shutdown sleeps its whole timeout whenever something is under way, also when that is done a moment later.
After it, Celery waits for the threads of its pool without end, and gives unfinished messages back to the broker only
then: whoever has to end the worker loses patience first, and the messages stay taken.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

from celery import Celery
from celery.apps.worker import Worker as CeleryWorker
from celery.worker import state

from workers.contract.messages import Queue

LOOK_S = 0.05


class Worker(CeleryWorker):  # type: ignore[misc]
    """A worker that ends as soon as its tasks have; what is not done in time goes back to the broker at once.

    Unless its pool ``finishes`` whatever it has begun, because nobody else would.
    """

    def wait_for_soft_shutdown(self) -> None:
        """Wait until every message that was taken is done, at most ``worker_soft_shutdown_timeout`` seconds."""
        ends_at = time.monotonic() + self.app.conf.worker_soft_shutdown_timeout
        # Tasks end on threads of their own; this one, which would take new messages, is kept here.
        while _busy():
            if time.monotonic() >= ends_at:
                self._leave_threads()
                return
            time.sleep(LOOK_S)

    def _leave_threads(self) -> None:
        pool = self.consumer.pool
        if getattr(pool, "finishes", False):
            return
        if (threads := getattr(pool, "executor", None)) is not None:
            pool.on_stop = partial(threads.shutdown, wait=False, cancel_futures=True)


def _busy() -> bool:
    return bool(state.reserved_requests) or bool(state.active_requests)


def work(
    app: Celery,
    queues: Sequence[Queue],
    *,
    threads: int,
    log_level: str,
    name: str | None = None,
    pool: str | None = None,
    give_back: Callable[[], None] = lambda: None,
) -> NoReturn:
    """Be a Celery worker on ``queues`` until told to end; then ``give_back`` what is not done, and end this process.

    ``pool`` is Celery's word for what runs the tasks (unset: the setting `worker_pool`), ``name`` the worker's own.
    Celery's command line is not asked: it would read what we know, and imports an interactive shell for it (0.15 s).

    The end comes without the interpreter's farewell: it waits for every thread that is still at a task which others
    have by now, and takes two seconds to take its modules apart.
    """
    code: object = 0
    try:
        # Its `exitcode` is a failure's where messages were given back, which is how a worker ends that is told to.
        app.Worker(
            hostname=name,
            queues=[queue.value for queue in queues],
            concurrency=threads,
            pool_cls=pool,
            loglevel=log_level,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            no_color=False,
        ).start()
    except SystemExit as exc:
        code = exc.code
    finally:
        give_back()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
