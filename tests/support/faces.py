"""The api as a server of this process, over answers from memory: for clients that want a real address."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import uvicorn
from fastapi import FastAPI

from ops.api.patience import Patient
from workers.errors import WorkerError
from workers.query.answer import Answering
from workers.query.requests import (
    AnswerRequest,
    BadRequest,
    BatchRequest,
    ExplainRequest,
    QuestionRequest,
    SearchRequest,
    read,
)
from workers.query.search import search


class InProcess:
    """Stands for the way to a query worker: the real code, called here instead of over the broker."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self.asked: list[dict[str, Any]] = []

    def check_room(self) -> None:
        """There is always room."""

    async def search(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        asked = self.answering
        return await self._told(
            lambda: search(read(SearchRequest, request), index=asked.index, embedder=asked.embedder).as_json()
        )

    async def search_batch(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        asked = self.answering
        return await self._told(
            lambda: {"results": [one.as_json() for one in asked.search(read(BatchRequest, request).searches)]}
        )

    async def explain(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        return await self._told(lambda: self.answering.explain(read(ExplainRequest, request)))

    async def question(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        return await self._told(lambda: self.answering.question(read(QuestionRequest, request)))

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        return await self._told(lambda: self.answering.answer(read(AnswerRequest, request)))

    async def stream(self, request: dict[str, Any]) -> AsyncIterator[tuple[str, Any]]:
        self.asked.append(request)
        events: list[tuple[str, Any]] = []
        done = await self._told(
            lambda: self.answering.answer(read(AnswerRequest, request), emit=lambda e, d: events.append((e, d)))
        )
        for event in events:
            yield event
        yield ("error", done["error"]) if "error" in done else ("done", done)

    async def close(self) -> None:
        pass

    async def _told(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return await anyio.to_thread.run_sync(work)
        except (BadRequest, WorkerError) as exc:
            return {"error": {"class": type(exc).__name__, "message": str(exc)}}


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve ``app`` on a free port while the block runs; gives its base URL."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, http=Patient))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive(), "the api ended at its start"
        assert time.monotonic() < deadline, "the api did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
