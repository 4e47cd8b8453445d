"""Whoever can write to the broker can send anything: it costs no worker, and no log repeats it (S20, S21, S24, S27)."""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import redis

from tests.support import children
from workers.contract.broker import Hints, make_celery
from workers.contract.messages import TASK_EMBED, TASK_RECONCILE, Queue

ROOT = Path(__file__).parents[2]
CANARY = "Zimtsternrezept"
"""Stands for a document's text, or a secret."""
WORKER = """
import sys
sys.path.insert(0, {root!r})
import redis
from workers.contract.broker import make_celery
from workers.contract.logs import set_up_logs
from workers.indexing.tasks import register
set_up_logs("index-worker")
broker = redis.Redis.from_url({url!r}, decode_responses=True)

class Stall:
    def working(self):
        import contextlib
        return contextlib.nullcontext()

class Worker:
    hints = None
    def look(self, key):
        broker.rpush({prefix!r} + "looked", key)
        if key == {trap!r}:
            raise ValueError("the text of a document: {canary}")
    def look_live(self):
        pass
    def embed(self):
        broker.rpush({prefix!r} + "looked", "embed")

class Bulk:
    def place(self):
        import contextlib
        return contextlib.nullcontext(True)

app = make_celery({url!r}, {prefix!r}, "worker")
register(app, Worker(), Stall(), Bulk())
app.worker_main(["worker", "--pool=threads", "-c2", "-Qlive,bulk,embed", "--without-gossip", "--without-mingle",
                 "--without-heartbeat", "-linfo"])
"""


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return (exec, (f"open({self.path!r}, 'w').close()",))


def envelope(body: bytes, *, kind: str = "application/json", task: object = TASK_RECONCILE, **headers: object) -> str:
    """Return a message as kombu lays it on a list."""
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": kind,
            "headers": {"lang": "py", "task": task, "id": str(uuid4()), "root_id": None, "argsrepr": CANARY, **headers},
            "properties": {
                "body_encoding": "base64",
                "delivery_info": {"exchange": "", "routing_key": "live"},
                "delivery_tag": str(uuid4()),
                "priority": 0,
            },
        }
    )


def called(*args: object, **kwargs: object) -> bytes:
    return json.dumps([args, kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]).encode()


def hostile(planted: Path) -> list[str]:
    look = {"v": 1, "kind": "document.look", "document_id": f"../../etc/{CANARY}"}
    good = {"v": 1, "kind": "document.look", "document_id": str(uuid4())}
    return [
        envelope(pickle.dumps(([Bomb(planted)], {}, {})), kind="application/x-python-serialize"),
        envelope(b"!!python/object/apply:os.system ['true']", kind="application/x-yaml"),
        envelope(CANARY.encode(), kind="text/plain"),
        envelope(b"{" + CANARY.encode()),
        envelope(b"\xff\xfe"),
        envelope(json.dumps(CANARY).encode()),
        envelope(called(CANARY), task="os.system"),
        envelope(called(CANARY), task=None),
        envelope(called(CANARY), task={"a": CANARY}),
        envelope(called()),
        envelope(called(look)),
        envelope(called(look | {"document_id": "0" * 1_000_000})),
        envelope(called(good | {"tenant": CANARY})),
        envelope(called(good | {"v": 2})),
        envelope(called(good, CANARY)),
        envelope(called(**{CANARY: 1})),
        envelope(called([CANARY] * 1000)),
        envelope(called({"v": 1, "kind": "documents.look", "document_ids": [str(UUID(int=n)) for n in range(10_000)]})),
        envelope(called({"v": 1, "kind": "document.look", "document_id": {"a": CANARY}}), task=TASK_EMBED),
        envelope(called(good), expires=CANARY),
        envelope(called(good), retries=CANARY, timelimit=CANARY),
    ]


@pytest.fixture
def worker(valkey_url, tmp_path):
    """A real worker with the index worker's tasks; gives its prefix, a document that makes it fail, and its log."""
    prefix, trap = f"test-{uuid4().hex[:8]}:", str(uuid4())
    code = WORKER.format(root=str(ROOT), url=valkey_url, prefix=prefix, canary=CANARY, trap=trap)
    with (tmp_path / "log").open("wb") as log:
        process = children.start([sys.executable, "-c", code], stderr=log, stdout=subprocess.DEVNULL)
        try:
            yield prefix, trap, tmp_path / "log", process
        finally:
            process.kill()
            process.wait()


def test_a_hostile_message_is_dropped_runs_nothing_and_is_repeated_by_no_log(valkey_url, worker, tmp_path):
    prefix, trap, log, process = worker
    planted = tmp_path / "planted"
    with redis.Redis.from_url(valkey_url, decode_responses=True) as broker:
        for message in hostile(planted):
            broker.lpush(f"{prefix}{Queue.LIVE}", message)
        wanted = [trap, str(uuid4())]
        Hints(make_celery(valkey_url, prefix, "producer")).look(wanted)

        deadline = time.monotonic() + 60
        while not set(wanted) <= set(broker.lrange(f"{prefix}looked", 0, -1)):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.05)
        while "ValueError" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.05)
        seen = broker.lrange(f"{prefix}looked", 0, -1)

    assert not planted.exists()
    assert all(UUID(key) for key in seen if key != "embed")
    assert CANARY not in log.read_text()
    assert "dropped" in log.read_text()
