"""A task's message, as Celery and kombu would put it into Redis: for who has a connection of its own (ADR 0048).

Sending costs Celery 1.3 ms of processor time, and a thread where an event loop sends: most of it goes into a client, a
producer and a declaration for each message.  `contract/test_sent.py` compares with what Celery sends.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from celery import Celery

from workers.contract.broker import stamp
from workers.contract.messages import Queue

PERSISTENT = 2


def task_message(
    app: Celery, task: str, args: Sequence[Any], *, task_id: str, queue: Queue, expires: float, keep_result: bool
) -> str:
    """Return what is to be pushed to the left of a queue's list.  ``expires`` is in seconds from now.

    Without a picture of its arguments, which Celery makes for logs: they are somebody's question.
    """
    made = app.amqp.as_task_v2(
        task_id, task, args=args, expires=expires, ignore_result=not keep_result, argsrepr="", kwargsrepr=""
    )
    message = {
        "body": base64.b64encode(json.dumps(made.body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {**made.headers, **stamp()},
        "properties": {
            **made.properties,
            "delivery_mode": PERSISTENT,
            "expiration": str(int(expires * 1000)),
            "delivery_info": {"exchange": "", "routing_key": queue.value},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
        },
    }
    return json.dumps(message)
