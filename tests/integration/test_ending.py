"""A worker that is told to end: at once when it has nothing to do, else when it is done, or has given it back."""

from __future__ import annotations

import subprocess
import sys
import time
from uuid import uuid4

import pytest
import redis
from sqlalchemy import select

from tests.support import children
from tests.support.askable import ROOT
from tests.support.endpoint import Endpoint
from tests.support.stack import environment
from workers.contract import schema
from workers.contract.broker import make_celery

LONG_S = 1000.0
CODE = """
import os, sys, time
os.environ["REMAP_SIGTERM"] = "SIGQUIT"
sys.path.insert(0, {root!r})
import redis
from workers.contract.broker import make_celery
from workers.contract.ending import work as be_a_worker
from workers.contract.messages import Queue
app = make_celery({url!r}, {prefix!r}, "worker")
app.conf.worker_soft_shutdown_timeout = {patience}
broker = redis.Redis.from_url({url!r})

@app.task(name="work")
def work(number):
    broker.rpush({prefix!r} + "begun", number)
    while not broker.exists({prefix!r} + "let go"):
        time.sleep(0.01)
    broker.rpush({prefix!r} + "done", number)

def give_back():
    broker.set({prefix!r} + "given back", 1)

be_a_worker(app, [Queue.BULK], threads=2, pool="threads", log_level="error", give_back=give_back)
"""


@pytest.fixture
def prefix():
    return f"test-{uuid4().hex[:8]}:"


@pytest.fixture
def broker(valkey_url):
    with redis.Redis.from_url(valkey_url) as client:
        yield client


@pytest.fixture
def start(valkey_url, prefix, broker):
    """Start a worker of two threads with two messages that it has begun, or none."""
    started = []

    def starter(*, patience: float, messages: int):
        app = make_celery(valkey_url, prefix, "producer", name="test")
        for number in range(messages):
            app.send_task("work", args=[number], queue="bulk")
        code = CODE.format(root=str(ROOT), url=valkey_url, prefix=prefix, patience=patience)
        process = children.start([sys.executable, "-c", code], stderr=subprocess.DEVNULL, stdout=subprocess.PIPE)
        started.append(process)
        if messages:
            until(lambda: broker.llen(f"{prefix}begun") == messages)
        else:
            app.send_task("work", args=[0], queue="bulk")
            broker.set(f"{prefix}let go", 1)
            until(lambda: broker.llen(f"{prefix}done") == 1 and not broker.hlen(f"{prefix}unacked"))
        return process

    yield starter
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
    for key in broker.scan_iter(f"{prefix}*"):
        broker.delete(key)


def until(fact, seconds=60):
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def test_a_worker_with_nothing_to_do_waits_for_nothing(start):
    worker = start(patience=LONG_S, messages=0)

    worker.terminate()

    assert worker.wait(60) == 0


def test_a_worker_waits_for_what_it_works_on_and_no_longer(start, broker, prefix):
    worker = start(patience=LONG_S, messages=2)

    worker.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(1)
    broker.set(f"{prefix}let go", 1)

    assert worker.wait(60) == 0
    assert broker.llen(f"{prefix}done") == 2
    assert (broker.llen(f"{prefix}bulk"), broker.hlen(f"{prefix}unacked")) == (0, 0)


def test_what_is_not_done_in_time_is_given_back_to_the_broker_at_once(start, broker, prefix):
    worker = start(patience=0.2, messages=2)

    worker.terminate()

    until(lambda: broker.llen(f"{prefix}bulk") == 2)
    assert broker.hlen(f"{prefix}unacked") == 0
    assert worker.wait(60) == 0, "nor does it wait for threads whose tasks are others' now"
    assert broker.llen(f"{prefix}done") == 0
    assert broker.exists(f"{prefix}given back")


def test_an_index_worker_ends_in_order_and_is_not_missed(tmp_path, valkey_url, qdrant_url, broker, prefix):
    """The real one: its row among the living is gone, and it ended by itself."""
    engine = schema.open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    with Endpoint(dimensions=64) as endpoint:
        settings = {
            "UPWELL_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
            "UPWELL_BROKER_URL": valkey_url,
            "UPWELL_KEY_PREFIX": prefix,
            "UPWELL_QDRANT_URL": qdrant_url,
            "UPWELL_COLLECTION": prefix.rstrip(":"),
            "UPWELL_EMBEDDINGS_URL": endpoint.url,
            "UPWELL_EMBEDDINGS_MODEL": "test",
        }
        command = [sys.executable, "-m", "ops.cli", "worker", "index"]
        worker = children.start(command, cwd=ROOT, env=environment(**settings), stdout=subprocess.DEVNULL)
        try:
            until(lambda: living(engine) == ["index-worker"])
            until(lambda: any(client["cmd"] == "brpop" for client in broker.client_list()))  # it takes messages

            worker.terminate()

            assert worker.wait(60) == 0
            assert living(engine) == []
        finally:
            worker.kill()
            worker.wait()
            engine.dispose()


def living(engine):
    with engine.connect() as connection:
        return list(connection.execute(select(schema.processes.c.kind)).scalars())
