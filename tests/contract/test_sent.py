"""What we put into a queue ourselves is what Celery puts there, and Celery's workers and clients take it for that."""

from __future__ import annotations

import base64
import json
from uuid import uuid4

import pytest
import redis
from celery.result import AsyncResult

from tests.support.askable import answering
from workers.contract.broker import make_celery, stamp
from workers.contract.messages import Queue
from workers.contract.sent import task_message

TASKS = """
@app.task(name="query.search", ignore_result=False, acks_late=False)
def search(request, more=None):
    return {"asked": request["query"], "more": more}
"""
REQUEST = {"query": "Où est la clé? 发票", "limit": 3, "filters": {"date": {"gte": "2015"}}}
DIFFERS = {"expires", "origin", "stamped_at", "argsrepr", "kwargsrepr"}
"""Headers that tell when and by whom a message was sent, and Celery's picture of its arguments, which ours has not."""


@pytest.fixture
def broker(valkey_url):
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        yield client


@pytest.mark.parametrize("queue", [Queue.QUERY, Queue.ANSWER])
@pytest.mark.parametrize("keep_result", [True, False])
def test_a_message_is_the_one_that_celery_sends(valkey_url, broker, queue, keep_result):
    prefix = f"sent-{uuid4().hex[:8]}:"
    app, task_id, args = make_celery(valkey_url, prefix, "producer"), uuid4().hex, [REQUEST, "key"]
    app.send_task(
        "query.search", args=args, task_id=task_id, queue=queue.value, expires=90.5, ignore_result=not keep_result,
        headers=stamp(),
    )  # fmt: skip
    theirs = json.loads(broker.rpop(f"{prefix}{queue}"))

    ours = json.loads(
        task_message(app, "query.search", args, task_id=task_id, queue=queue, expires=90.5, keep_result=keep_result)
    )

    assert ours["headers"].keys() == theirs["headers"].keys()
    assert {name: value for name, value in ours["headers"].items() if name not in DIFFERS} == {
        name: value for name, value in theirs["headers"].items() if name not in DIFFERS
    }
    assert ours["headers"]["argsrepr"] == ours["headers"]["kwargsrepr"] == ""
    assert ours["properties"].keys() == theirs["properties"].keys()
    for message in (ours, theirs):
        del message["headers"], message["properties"]["delivery_tag"], message["properties"]["reply_to"]
    assert ours == theirs
    assert json.loads(base64.b64decode(ours["body"]))[0] == args


def test_a_worker_takes_it_and_any_client_of_celery_gets_the_result(valkey_url, broker):
    prefix = f"sent-{uuid4().hex[:8]}:"
    client, task_id = make_celery(valkey_url, prefix, "client"), uuid4().hex
    with answering(TASKS, valkey_url, prefix):
        message = task_message(
            client, "query.search", [REQUEST], task_id=task_id, queue=Queue.QUERY, expires=60, keep_result=True
        )
        broker.lpush(f"{prefix}{Queue.QUERY}", message)

        assert AsyncResult(task_id, app=client).get(timeout=30) == {"asked": REQUEST["query"], "more": None}
