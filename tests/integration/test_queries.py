"""The api's way to the query worker, over a real Valkey and a Celery worker that echoes what it is asked."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import httpx
import pytest
import redis

from ops.api import queries as module
from ops.api import results
from ops.api.app import make_app
from ops.api.queries import Queries, QueriesFull, QueryAway
from ops.api.settings import ApiSettings
from tests.support.askable import answering
from tests.support.faces import served
from workers.contract import schema
from workers.contract.broker import make_celery

ECHO = """
@app.task(name="query.search", ignore_result=False, acks_late=False)
def search(request):
    time.sleep(request.get("sleep", 0))
    return {"hits": [], "mode": "lexical", "took_ms": 1.0, "asked": request["query"]}

@app.task(name="query.answer", ignore_result=False, acks_late=False)
def answer(request, stream):
    time.sleep(request.get("sleep", 0))
    broker.xadd(stream, {"event": "done", "data": json.dumps({"answer": "Yes."})})
"""


@pytest.fixture(scope="module")
def prefix():
    return f"t[e]s*t-{uuid4().hex[:8]}:"  # the signs of a pattern are only letters here


@pytest.fixture(scope="module", autouse=True)
def echo(valkey_url, prefix):
    with answering(ECHO, valkey_url, prefix):
        yield


@pytest.fixture
def broker(valkey_url):
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        yield client


def queries(url, prefix, *, room=256, timeout=20.0):
    return Queries(make_celery(url, prefix, "producer", name="test"), url, prefix, timeout, room)


def kept(broker, prefix):
    return [key for key in broker.scan_iter(count=1000) if key.startswith(prefix) and "task-meta" in key]


def listening(broker):
    return [client for client in broker.client_list() if int(client["psub"])]


def test_many_questions_wait_on_one_subscription_and_each_gets_its_own_answer(valkey_url, prefix, broker):
    async def ask():
        asks = queries(valkey_url, prefix)
        answers = await asyncio.gather(*(asks.search({"query": f"q{n}", "sleep": 0.02}) for n in range(60)))
        connections = len(listening(broker))
        await asks.close()
        return answers, connections

    answers, connections = asyncio.run(ask())

    assert [answer["asked"] for answer in answers] == [f"q{n}" for n in range(60)]
    assert connections == 1


def test_a_crowd_that_comes_at_once_shares_a_few_connections(valkey_url, prefix, broker):
    async def ask():
        before = len(broker.client_list())
        asks = queries(valkey_url, prefix)
        answers = await asyncio.gather(*(asks.search({"query": f"q{n}"}) for n in range(200)))
        connections = len(broker.client_list()) - before
        await asks.close()
        return answers, connections

    answers, connections = asyncio.run(ask())

    assert [answer["asked"] for answer in answers] == [f"q{n}" for n in range(200)]
    assert connections < 20


def test_more_than_a_hundred_answers_are_read_at_once(valkey_url, prefix):
    async def read(asks):
        return [event async for event, _ in asks.stream({"query": "q", "sleep": 0.01})]

    async def ask():
        asks = queries(valkey_url, prefix)
        read_at_once = await asyncio.gather(*(read(asks) for _ in range(150)))
        await asks.close()
        return read_at_once

    assert asyncio.run(ask()) == [["done"]] * 150


def test_a_result_is_not_kept_on_the_broker_once_it_was_read(valkey_url, prefix, broker):
    async def ask():
        asks = queries(valkey_url, prefix)
        await asyncio.gather(*(asks.search({"query": "q"}) for _ in range(20)))
        deadline = time.monotonic() + 10
        while kept(broker, prefix) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        await asks.close()

    asyncio.run(ask())

    assert kept(broker, prefix) == []


def test_an_answer_that_was_published_while_the_subscription_was_cut_is_found(valkey_url, prefix, broker, monkeypatch):
    monkeypatch.setattr(results, "LOOK_EVERY_S", 0.2)

    async def ask():
        asks = queries(valkey_url, prefix)
        await asks.search({"query": "first"})
        question = asyncio.create_task(asks.search({"query": "second", "sleep": 0.3}))
        until = time.monotonic() + 5
        while time.monotonic() < until and not question.done():  # as often as it comes back
            broker.client_kill_filter(_type="pubsub")
            await asyncio.sleep(0.01)
        answer = await question
        await asks.close()
        return answer

    assert asyncio.run(ask())["asked"] == "second"


def test_an_answer_may_take_longer_than_a_connection_may_be_silent(valkey_url, prefix, monkeypatch):
    monkeypatch.setattr(module, "SILENT_S", 0.5)
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.1)

    async def ask():
        asks = queries(valkey_url, prefix)
        events = [event async for event, _ in asks.stream({"query": "hard", "sleep": 1.2})]
        await asks.close()
        return events

    assert asyncio.run(ask()) == ["done"]


def test_a_reader_that_ended_is_begun_again(valkey_url, prefix, broker):
    async def ask():
        asks = queries(valkey_url, prefix)
        await asks.search({"query": "first"})
        asks._results._reader.cancel()
        await asyncio.sleep(0)
        answer = await asks.search({"query": "second"})
        connections = len(listening(broker))
        await asks.close()
        return answer["asked"], connections

    assert asyncio.run(ask()) == ("second", 1)


def test_one_question_too_many_is_refused_at_once_and_the_next_one_is_let_in(valkey_url, prefix):
    async def ask():
        asks = queries(valkey_url, prefix, room=2)
        inside = [asyncio.create_task(asks.search({"query": f"q{n}", "sleep": 0.3})) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(QueriesFull):
            await asks.search({"query": "too many"})
        with pytest.raises(QueriesFull):
            await anext(asks.stream({"query": "too many"}))
        await asyncio.gather(*inside)
        last = await asks.search({"query": "last"})
        await asks.close()
        return last

    assert asyncio.run(ask())["asked"] == "last"


def test_a_broker_that_is_away_is_said_to_be(prefix):
    async def ask():
        asks = queries("redis://127.0.0.1:9/0", prefix)
        try:
            await asks.search({"query": "q"})
        finally:
            await asks.close()

    with pytest.raises(QueryAway, match="broker"):
        asyncio.run(ask())


def test_over_http_a_full_house_is_a_503_that_says_when_to_come_again(valkey_url, prefix, tmp_path):
    settings = ApiSettings(
        ledger_url=f"sqlite:///{tmp_path}/ledger.db",
        broker_url=valkey_url,
        key_prefix=prefix,
        data_dir=tmp_path,
        queries_waiting=2,
    )
    engine = schema.open_ledger(settings.ledger_url.get_secret_value())

    async def ask(address):
        async with httpx.AsyncClient(base_url=address, timeout=30) as http:
            plain = [http.post("/v1/search", json={"query": f"q{n}"}) for n in range(40)]
            streamed = [
                http.post("/v1/answer", json={"query": "q"}, headers={"accept": "text/event-stream"}) for _ in range(20)
            ]
            return await asyncio.gather(*plain, *streamed)

    with served(make_app(settings, engine)) as address:
        given = asyncio.run(ask(address))
    engine.dispose()

    refused = [answer for answer in given if answer.status_code == 503]
    assert any(answer.status_code == 200 for answer in given)
    assert refused
    assert all(answer.headers["retry-after"] for answer in refused)
    assert {answer.json()["error"]["code"] for answer in refused} == {"overloaded"}
