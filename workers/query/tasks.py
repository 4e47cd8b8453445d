"""The Celery tasks of the query worker: decode, call, return.  Faults go back as JSON, not as exceptions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import redis
import structlog
from celery import Celery, Task
from celery.exceptions import Ignore
from celery.utils.time import maybe_iso8601

from workers.contract.broker import stamp
from workers.contract.messages import TASK_ANSWER, TASK_EXPLAIN, TASK_QUESTION, TASK_SEARCH, TASK_SEARCH_BATCH, Queue
from workers.errors import WorkerError
from workers.query.answer import Answering, Cancelled
from workers.query.requests import (
    AnswerRequest,
    BadRequest,
    BatchRequest,
    ExplainRequest,
    QuestionRequest,
    SearchRequest,
    read,
)

log = structlog.get_logger()

STREAM_S = 300
LONGEST_KEY = 200
_TASK: dict[str, Any] = {
    "ignore_result": False,
    "acks_late": False,
    "shared": False,
    "resultrepr_maxsize": 1,  # a picture of each result for logs: 0.2 ms, and documents are not to be in them
}


class Stream:
    """Passes an answer on as it comes, through a Redis stream that the caller reads."""

    def __init__(self, client: redis.Redis, key: str) -> None:
        self._client = client
        self._key = key

    def emit(self, event: str, data: dict[str, Any]) -> None:
        """Add one event; a broker that is away costs the caller the stream, not the worker its task."""
        try:
            self._client.xadd(self._key, {"event": event, "data": json.dumps(data, ensure_ascii=False)}, maxlen=10_000)
            self._client.expire(self._key, STREAM_S)
        except redis.RedisError as exc:
            log.warning("answer.stream", error=type(exc).__name__)

    def cancelled(self) -> bool:
        """Tell whether the caller went away."""
        try:
            return bool(self._client.exists(f"{self._key}:cancel"))
        except redis.RedisError:
            return False


def register(app: Celery, answering: Answering, broker: redis.Redis, key_prefix: str) -> None:
    """Give ``app`` its tasks."""

    @app.task(name=TASK_SEARCH, **_TASK)  # type: ignore[untyped-decorator]
    def run_search(request: Any) -> dict[str, Any]:
        return _answered(lambda: answering.search([read(SearchRequest, request)])[0].as_json())

    @app.task(name=TASK_SEARCH_BATCH, **_TASK)  # type: ignore[untyped-decorator]
    def run_search_batch(request: Any) -> dict[str, Any]:
        return _answered(
            lambda: {"results": [one.as_json() for one in answering.search(read(BatchRequest, request).searches)]}
        )

    @app.task(name=TASK_EXPLAIN, **_TASK)  # type: ignore[untyped-decorator]
    def run_explain(request: Any) -> dict[str, Any]:
        return _answered(lambda: answering.explain(read(ExplainRequest, request)))

    @app.task(name=TASK_QUESTION, bind=True, **_TASK)  # type: ignore[untyped-decorator]
    def run_question(task: Task, request: Any) -> dict[str, Any]:
        _among_answers(app, task)
        return _answered(lambda: answering.question(read(QuestionRequest, request)))

    @app.task(name=TASK_ANSWER, bind=True, **_TASK)  # type: ignore[untyped-decorator]
    def run_answer(task: Task, request: Any, stream: Any = None) -> dict[str, Any]:
        _among_answers(app, task)
        if stream is None:
            return _answered(lambda: answering.answer(read(AnswerRequest, request)))
        if not isinstance(stream, str) or not stream.startswith(key_prefix) or len(stream) > LONGEST_KEY:
            return _fault(BadRequest("stream: not a key of ours"))
        out = Stream(broker, stream)
        result = _answered(
            lambda: answering.answer(read(AnswerRequest, request), emit=out.emit, cancelled=out.cancelled)
        )
        if "error" in result:
            out.emit("error", result["error"])
        else:
            out.emit("done", result)
        return {"streamed": True}


def _among_answers(app: Celery, task: Task) -> None:
    """Send a task on that came by the searches' queue, where others may send it.

    Raises:
        Ignore: it was sent on; its result comes from there.
    """
    asked = task.request
    if (asked.delivery_info or {}).get("routing_key") != Queue.QUERY:
        return
    app.send_task(
        task.name,
        args=asked.args,
        kwargs=asked.kwargs,
        task_id=asked.id,
        queue=Queue.ANSWER.value,
        expires=maybe_iso8601(asked.expires),
        ignore_result=asked.ignore_result,
        headers=stamp(),
    )
    raise Ignore


def _answered(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return work()
    except (BadRequest, WorkerError) as exc:
        return _fault(exc)
    except Cancelled:
        return {"error": {"class": "Cancelled", "message": "Nobody waits any more."}}
    except Exception as exc:  # the process's edge: the caller gets an answer, the log gets the bug
        log.exception("query.bug", error=type(exc).__name__)
        return {
            "error": {
                "class": "QueryUnavailable",
                "message": f"Upwell made a mistake ({type(exc).__name__}). The query worker's log has the details.",
            }
        }


def _fault(exc: Exception) -> dict[str, Any]:
    return {"error": {"class": type(exc).__name__, "message": str(exc)}}
