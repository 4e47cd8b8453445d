"""A query worker whose tasks a test writes itself: a real Celery worker on a real broker, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import children

ROOT = Path(__file__).parents[2]
BEFORE = """
import json, sys, time
import redis
sys.path.insert(0, {root!r})
from workers.contract.broker import make_celery
from workers.contract.messages import Queue
from workers.query.room import Room, keep_room
app = make_celery({url!r}, {prefix!r}, "worker")
room = Room({{Queue.QUERY: {searches}, Queue.ANSWER: {answers}}})
keep_room(app, {url!r}, room)
prefix = {prefix!r}
broker = redis.Redis.from_url({url!r})
"""
AFTER = """
app.worker_main(["worker", f"-c{room.threads}", "-Qquery", "--without-gossip", "--without-mingle", "-lERROR"])
"""


@contextmanager
def answering(tasks: str, url: str, prefix: str, *, searches: int = 8, answers: int = 8) -> Iterator[None]:
    """Run a worker with ``tasks``, Python that decorates functions with ``@app.task`` and may use ``broker``."""
    code = BEFORE.format(root=str(ROOT), url=url, prefix=prefix, searches=searches, answers=answers) + tasks + AFTER
    process = children.start([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()
