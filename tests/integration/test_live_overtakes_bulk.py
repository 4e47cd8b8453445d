"""An edit is looked at while a backfill has long documents under way: real Valkey, Celery's own threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from uuid import uuid4

import pytest
from celery.contrib.testing.worker import start_worker

from workers.contract.broker import SPREAD, Hints, make_celery
from workers.contract.messages import Queue
from workers.indexing import tasks
from workers.indexing.bulk import BulkLane
from workers.indexing.stall import Stall
from workers.indexing.tasks import register

THREADS = 2
BULK = [str(uuid4()) for _ in range(6)]
LIVE = str(uuid4())


class SlowWorker:
    """An index worker whose bulk documents take as long as the test wants."""

    def __init__(self, hints: Hints) -> None:
        self.hints = hints
        self.done, self.busy, self.most_busy = [], 0, 0
        self.go_on = threading.Event()
        self.live: list[str] = []
        self.companies: list[list[str]] = []
        self._lock = threading.Lock()

    def look_live(self) -> None:
        while self.live:
            self.look(self.live.pop())

    def look(self, key: str) -> None:
        with self._lock:
            self.busy += key != LIVE
            self.most_busy = max(self.most_busy, self.busy)
        if key != LIVE:
            self.go_on.wait(60)
        with self._lock:
            self.busy -= key != LIVE
            self.done.append(key)

    def look_all(self, keys: list[str]) -> None:
        self.companies.append(keys)
        for key in keys:
            self.look(key)


@pytest.fixture
def app(valkey_url):
    app = make_celery(valkey_url, f"test-{uuid4().hex}:", "worker")
    yield app
    app.close()


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_edit_does_not_wait_for_a_long_backfill_and_no_bulk_document_is_forgotten(app):
    hints = Hints(app)
    worker = SlowWorker(hints)
    register(app, worker, Stall(lambda: 0), BulkLane(THREADS))
    queues = [Queue.LIVE.value, Queue.BULK.value]
    hints.look(BULK, bulk=True)

    with start_worker(app, pool="threads", concurrency=THREADS, perform_ping_check=False, queues=queues):
        wait_for(lambda: worker.busy == 1)
        hints.look([LIVE])
        wait_for(lambda: worker.done == [LIVE])
        worker.go_on.set()
        wait_for(lambda: len(worker.done) == 1 + len(BULK))

    assert sorted(worker.done[1:]) == sorted(BULK)
    assert worker.most_busy == THREADS - 1


def test_an_edit_that_waits_is_looked_at_before_a_message_of_a_backfill_that_came_first(app):
    hints = Hints(app)
    worker = SlowWorker(hints)
    register(app, worker, Stall(lambda: 0), BulkLane(THREADS))
    worker.live = [LIVE]
    worker.go_on.set()
    hints.look(BULK, bulk=True)

    with start_worker(app, pool="threads", concurrency=1, perform_ping_check=False, queues=[Queue.BULK.value]):
        wait_for(lambda: len(worker.done) == 1 + len(BULK))

    assert worker.done[0] == LIVE


def test_an_edit_is_looked_at_by_the_thread_that_waits_with_a_message_of_a_backfill(app, monkeypatch):
    monkeypatch.setattr(tasks, "TURNS", 10**6)  # it never gives up
    hints = Hints(app)
    worker = SlowWorker(hints)
    register(app, worker, Stall(lambda: 0), BulkLane(THREADS))
    hints.look(BULK, bulk=True)

    with start_worker(app, pool="threads", concurrency=THREADS, perform_ping_check=False, queues=[Queue.BULK.value]):
        wait_for(lambda: worker.busy == 1)
        worker.live.append(LIVE)
        wait_for(lambda: worker.done == [LIVE])
        worker.go_on.set()
        wait_for(lambda: len(worker.done) == 1 + len(BULK))


def test_documents_that_find_no_place_go_back_together_and_walk_together_later(app, monkeypatch):
    monkeypatch.setattr(tasks, "TURNS", 1)

    class CountedHints(Hints):
        sent_back = 0

        def look_together(self, document_ids: Sequence[str]) -> bool:
            self.sent_back += 1
            return super().look_together(document_ids)

    hints = CountedHints(app)
    worker = SlowWorker(hints)
    register(app, worker, Stall(lambda: 0), BulkLane(THREADS))
    many = sorted(str(uuid4()) for _ in range(4 * SPREAD))
    hints.look(many, bulk=True)

    with start_worker(app, pool="threads", concurrency=THREADS, perform_ping_check=False, queues=[Queue.BULK.value]):
        wait_for(lambda: hints.sent_back > 1)
        worker.go_on.set()
        wait_for(lambda: len(worker.done) == len(many))

    assert sorted(worker.companies) == [many[start : start + 4] for start in range(0, len(many), 4)]


def test_one_thread_does_everything():
    lane = BulkLane(1)

    with lane.place() as free:
        assert free
