"""What docker-compose.yml lets Upwell do at its broker is enough for Upwell, and too little to break it (S22, S23)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
import redis
import yaml

from ops.api.queries import Queries
from ops.embedded.valkey import ping, valkey_command
from tests.conftest import HOST, free_port, running
from tests.support.askable import answering
from workers.contract.broker import Hints, eviction_policy, make_celery, messages_waiting
from workers.contract.messages import Queue
from workers.contract.settings import BrokerSettings

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"
PASSWORD = uuid4().hex


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The broker of the compose file, with the same options, from the embedded binary."""
    home = tmp_path_factory.mktemp("broker")
    port = free_port()
    [binary, _] = valkey_command(home / "unused", port, PASSWORD)
    (home / "valkey-server").symlink_to(binary)
    command = yaml.safe_load(COMPOSE.read_text())["services"]["valkey"]["command"]
    command[-1] = f"cd {home}; " + command[-1].replace("$$", "$") + f" --bind {HOST} --port {port} --loglevel warning"
    environment = ["env", f"PATH={home}:/usr/bin:/bin", f"BROKER_PASSWORD={PASSWORD}"]
    address = f"redis://:{PASSWORD}@{HOST}:{port}/0"
    with running([*environment, *command], lambda: ping(address)):
        yield address


TASKS = """
@app.task(name="query.search", ignore_result=False, acks_late=False)
def search(request):
    return {"asked": request["query"]}
"""


def test_hints_and_questions_pass(url):
    prefix = f"rights-{uuid4().hex[:8]}:"
    app = make_celery(url, prefix, "producer")
    assert Hints(app).look([str(uuid4())])
    assert messages_waiting(BrokerSettings(broker_url=url, key_prefix=prefix), [Queue.LIVE]) == 1
    with redis.Redis.from_url(url) as broker:
        assert eviction_policy(broker) is None

    async def ask():
        queries = Queries(app, url, prefix, timeout=30)
        answer = await queries.search({"query": "boiler"})
        await queries.close()
        return answer

    with answering(TASKS, url, prefix):
        assert asyncio.run(ask()) == {"asked": "boiler"}


@pytest.mark.parametrize(
    "command",
    [
        "CONFIG GET *", "CONFIG SET dir /", "FLUSHALL", "FLUSHDB", "KEYS *", "MODULE LIST", "SHUTDOWN",
        "ACL LIST", "REPLICAOF 127.0.0.1 1", "SAVE", "MONITOR", "CLIENT LIST", "SLOWLOG GET",
    ],
)  # fmt: skip
def test_what_could_empty_or_take_over_the_server_is_denied(url, command):
    with redis.Redis.from_url(url) as broker, pytest.raises(redis.exceptions.NoPermissionError):
        broker.execute_command(*command.split())


def test_nobody_comes_in_without_the_password(url):
    stranger = redis.Redis.from_url(url.replace(f":{PASSWORD}@", ""))
    with stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
