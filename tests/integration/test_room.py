"""A query worker whose answers take for ever still searches: a real Valkey, and a worker with two threads of each."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import pytest
import redis

from ops.api.queries import Queries
from tests.support.askable import answering
from workers.contract.broker import make_celery

ANSWERS = 7
TASKS = """
from workers.query.tasks import register

class Found:
    def as_json(self):
        return {"hits": [], "mode": "lexical"}

class Answering:
    def search(self, requests):
        return [Found() for _ in requests]

    def answer(self, request, **_):
        while not broker.exists(prefix + "let go"):
            time.sleep(0.01)
        return {"answer": request.query}

register(app, Answering(), broker, prefix)
"""


@pytest.fixture
def prefix():
    return f"test-{uuid4().hex[:8]}:"


@pytest.fixture(autouse=True)
def worker(valkey_url, prefix):
    with answering(TASKS, valkey_url, prefix, searches=2, answers=2):
        yield


@pytest.fixture
def broker(valkey_url):
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        yield client


async def until(fact, seconds=30):
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.02)


def test_searches_are_answered_while_more_answers_wait_than_there_are_threads(valkey_url, prefix, broker):
    async def ask():
        asks = Queries(make_celery(valkey_url, prefix, "producer", name="test"), valkey_url, prefix, 60)
        answers = [asyncio.create_task(asks.answer({"query": f"q{n}"})) for n in range(ANSWERS)]
        await until(lambda: broker.llen(f"{prefix}answer") == ANSWERS - 2)
        searches = await asyncio.gather(*(asks.search({"query": "word"}) for _ in range(20)))
        waiting = broker.llen(f"{prefix}answer"), sum(answer.done() for answer in answers)
        broker.set(f"{prefix}let go", 1, ex=60)
        told = await asyncio.gather(*answers)
        await asks.close()
        return searches, waiting, told

    searches, waiting, told = asyncio.run(ask())

    assert len(searches) == 20
    assert waiting == (ANSWERS - 2, 0)  # in the broker, where another worker may take them
    assert [answer["answer"] for answer in told] == [f"q{n}" for n in range(ANSWERS)]


def test_answers_asked_for_on_the_queue_of_searches_hold_up_none_either(valkey_url, prefix, broker):
    client = make_celery(valkey_url, prefix, "client", name="downstream")
    sent = [
        client.send_task("query.answer", args=[{"query": f"q{n}"}], queue="query", ignore_result=False, expires=60)
        for n in range(ANSWERS)
    ]

    search = client.send_task("query.search", args=[{"query": "word"}], queue="query", ignore_result=False)

    assert search.get(timeout=30)["hits"] == []
    assert not any(answer.ready() for answer in sent)
    broker.set(f"{prefix}let go", 1, ex=60)
    assert [answer.get(timeout=30)["answer"] for answer in sent] == [f"q{n}" for n in range(ANSWERS)]


def test_a_search_costs_the_broker_no_acknowledgement_and_no_look_for_an_earlier_result(valkey_url, prefix, broker):
    async def ask():
        asks = Queries(make_celery(valkey_url, prefix, "producer", name="test"), valkey_url, prefix, 60)
        await asks.search({"query": "word"})
        before = calls(broker)
        for _ in range(5):
            await asks.search({"query": "word"})
        spent = {name: count - before.get(name, 0) for name, count in calls(broker).items()}
        await asks.close()
        return spent

    spent = asyncio.run(ask())

    assert spent["publish"] == 5
    assert [spent.get(name, 0) for name in ("zadd", "hset", "hdel", "get")] == [0, 0, 0, 0]


def calls(broker):
    return {name.removeprefix("cmdstat_"): told["calls"] for name, told in broker.info("commandstats").items()}
