"""The broker loses, refuses and forgets; hints are only short cuts, so nothing that matters is lost with them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from uuid import uuid4

import pytest
import redis
from sqlalchemy import update

from tests.conftest import HOST, free_port, running
from tests.support.proxy import CALM, Fault, Proxy, Weather
from workers.contract import schema
from workers.contract.broker import Hints, eviction_policy, make_celery
from workers.contract.identity import document_id
from workers.contract.intake import Observation, Stat, observe, register_source
from workers.contract.messages import Queue
from workers.contract.schema import documents
from workers.housekeeping.sweep import Waiting, sweep
from workers.indexing.ledger import Ledger

RECIPE = "r1"
KEYS = [document_id("docs", f"{number}.md") for number in range(5)]


@pytest.fixture
def prefix():
    return f"test-{uuid4().hex}:"


@pytest.fixture
def broker(valkey_url, prefix):
    client = redis.Redis.from_url(valkey_url)
    yield client
    for key in client.scan_iter(f"{prefix}*"):
        client.delete(key)
    client.close()


@pytest.fixture
def hints(valkey_url, prefix):
    app = make_celery(valkey_url, prefix, "producer")
    yield Hints(app)
    app.close()


@pytest.fixture
def ledger(tmp_path):
    engine = schema.open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    register_source(engine, "docs", "folder", str(tmp_path))
    observe(engine, [Observation("docs", f"{number}.md".encode(), Stat(1, 2, number)) for number in range(5)])
    yield Ledger(engine, "worker")
    engine.dispose()


@pytest.fixture
def proxy(valkey_url):
    port = int(valkey_url.rsplit(":", 1)[1].split("/")[0])
    with Proxy((HOST, port), kind="bytes") as proxy:
        yield proxy


@pytest.fixture
def far_hints(valkey_url, prefix, proxy):
    """Hints that go through the proxy."""
    port = valkey_url.rsplit(":", 1)[1].split("/")[0]
    app = make_celery(valkey_url.replace(f":{port}/", f":{proxy.port}/"), prefix, "producer")
    app.conf.broker_transport_options["socket_timeout"] /= 10  # the same, sooner
    yield Hints(app)
    app.close()


@pytest.fixture
def own_broker(tmp_path):
    """A Valkey of one's own, whose settings may be spoilt."""
    from ops.embedded.valkey import ping, valkey_command

    port = free_port()
    url = f"redis://:pw@{HOST}:{port}/0"
    with running(valkey_command(tmp_path / "valkey", port, "pw"), lambda: ping(url)):
        client = redis.Redis.from_url(url)
        app = make_celery(url, "test:", "producer")
        yield client, Hints(app)
        app.close()
        client.close()


def waiting(broker: redis.Redis, prefix: str, queue: Queue = Queue.LIVE) -> int:
    return broker.llen(f"{prefix}{queue}")


def swept(ledger: Ledger, hints: Hints) -> int:
    done = sweep(ledger, hints, RECIPE, limit=100, waiting=Waiting())
    return done.live + done.bulk


def test_a_message_whose_worker_dies_between_taking_and_noting_it_is_sent_again(broker, prefix, hints, ledger):
    hints.look(KEYS)
    for _ in KEYS:
        broker.rpop(f"{prefix}{Queue.LIVE}")  # BRPOP was answered; nothing is in `unacked`

    assert swept(ledger, hints) == len(KEYS)
    assert waiting(broker, prefix) == len(KEYS)


def test_a_queue_that_was_emptied_is_filled_again(broker, prefix, hints, ledger):
    hints.look(KEYS)
    broker.delete(f"{prefix}{Queue.LIVE}")

    assert swept(ledger, hints) == len(KEYS)


def test_a_stuck_mutex_over_unacknowledged_messages_holds_up_nobody(broker, prefix, hints, ledger):
    hints.look(KEYS)
    taken = [broker.rpop(f"{prefix}{Queue.LIVE}") for _ in KEYS]
    broker.hset(f"{prefix}unacked", mapping={str(number): raw for number, raw in enumerate(taken)})
    broker.set(f"{prefix}unacked_mutex", "somebody who died")  # without a time to live: kombu restores nothing

    assert swept(ledger, hints) == len(KEYS)


def test_a_broker_that_says_nothing_any_more_holds_up_its_sender_for_a_bounded_time(far_hints, proxy):
    assert far_hints.look(KEYS[:1])
    proxy.weather = Weather({Fault.HALF_OPEN: 1.0})

    assert far_hints.look(KEYS[1:2]) is False

    proxy.heal()
    assert far_hints.look(KEYS[2:3])


def test_connections_that_break_again_and_again_neither_stop_the_sender_nor_pile_up(far_hints, proxy, broker, prefix):
    far_hints.look(KEYS[:1])
    before = len(broker.client_list())
    sent = 0
    for number in range(30):
        proxy.break_connections()
        sent += far_hints.look([KEYS[number % 5]])
    proxy.weather = CALM

    assert sent >= 25
    assert waiting(broker, prefix) >= sent
    assert len(broker.client_list()) <= before + 5


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param({"maxmemory": "1"}, id="no memory is left"),
        pytest.param({"min-replicas-to-write": "1"}, id="writes are refused"),
    ],
)
def test_a_broker_that_refuses_writes_costs_hints_and_nothing_else(own_broker, ledger, spoil):
    broker, hints = own_broker
    for name, value in spoil.items():
        broker.config_set(name, value)

    assert hints.look(KEYS) is False
    assert swept(ledger, hints) == len(KEYS)

    for name in spoil:
        broker.config_set(name, "0")
    assert hints.look(KEYS)


def test_a_broker_that_would_evict_messages_is_told_from_one_that_refuses_them(own_broker):
    broker, _ = own_broker
    assert eviction_policy(broker) is None

    broker.config_set("maxmemory-policy", "allkeys-lru")

    assert eviction_policy(broker) == "allkeys-lru"


def test_a_broker_that_does_not_let_anybody_in_costs_hints_and_nothing_else(ledger, prefix):
    with socket.create_server((HOST, 0)) as listener:
        app = make_celery(f"redis://{HOST}:{listener.getsockname()[1]}/0", prefix, "producer")

        def refuse() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=refuse, daemon=True).start()

        assert Hints(app).look(KEYS) is False
        app.close()


def test_a_sweep_makes_a_long_queue_no_longer(broker, prefix, hints, ledger):
    hints.look(KEYS)

    sweep(ledger, hints, RECIPE, limit=100, waiting=Waiting(live=len(KEYS)))

    assert waiting(broker, prefix) == len(KEYS)


def test_a_sweep_fills_a_queue_up_with_what_does_not_wait_in_it_yet(broker, prefix, hints, ledger):
    with ledger._engine.begin() as connection:
        connection.execute(update(documents).values(bulk=True))
    in_order = [key for key, _ in ledger.due(RECIPE, 100)]
    hints.look(in_order[:2], bulk=True)

    sent = sweep(ledger, hints, RECIPE, limit=len(KEYS) - 1, waiting=Waiting(bulk=2))

    assert sent.bulk == len(KEYS) - 3
    raw = broker.lrange(f"{prefix}{Queue.BULK}", 0, -1)
    assert len(raw) == len(set(raw)) == len(KEYS) - 1


def test_live_hints_go_where_a_backfill_cannot_be_before_them(broker, prefix, hints, ledger):
    with ledger._engine.begin() as connection:
        connection.execute(update(documents).where(documents.c.id != KEYS[0]).values(bulk=True))

    swept(ledger, hints)

    assert waiting(broker, prefix, Queue.LIVE) == 1
    assert waiting(broker, prefix, Queue.BULK) == len(KEYS) - 1


def test_nothing_is_sent_about_what_is_sent(broker, prefix, hints):
    """Events, results and gossip of a hundred thousand tasks would be more than the tasks."""
    hints.look(KEYS)

    keys = {key.decode().removeprefix(prefix) for key in broker.scan_iter(f"{prefix}*")}
    assert {key for key in keys if not key.startswith("_kombu.binding")} == {"live"}
    [raw] = broker.lrange(f"{prefix}{Queue.LIVE}", 0, 0)
    assert json.loads(raw)["headers"]["ignore_result"] is True


WORKER = """
import sys
from workers.contract.broker import make_celery
app = make_celery(sys.argv[1], sys.argv[2], "worker")
@app.task(name="index.reconcile")
def look(raw):
    sys.__stdout__.write("taken\\n")
    sys.__stdout__.flush()
app.worker_main(["worker", "--pool=threads", "--queues=live", "--without-gossip", "--without-mingle", "-l", "error"])
"""


def test_a_worker_listens_to_its_queues_and_to_nothing_that_it_would_have_to_wait_for(
    valkey_url, broker, prefix, hints
):
    """A subscription is read inside the consumer's loop without a timeout; half a message there stops everything."""
    command = [sys.executable, "-c", WORKER, valkey_url, prefix]
    before = {client["id"] for client in broker.client_list()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as worker:
        try:
            hints.look(KEYS[:1])
            assert worker.stdout is not None
            assert b"taken\n" in iter(worker.stdout.readline, b"")
            theirs = [client for client in broker.client_list() if client["id"] not in before]
        finally:
            worker.kill()

    assert theirs
    assert {(client["sub"], client["psub"]) for client in theirs} == {("0", "0")}
