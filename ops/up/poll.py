"""Asks the api for the status, in a thread of its own, so that a slow answer never delays a restart."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

NEEDED = frozenset({"watcher", "index-worker"})
AT_REST_S = 1.0
"""Seconds between two questions when there is nothing to do: each takes the api 10 ms, all day long."""


class Poller:
    """Keeps the last answer of GET /v1/status, and whether everything has come up."""

    def __init__(self, api: Callable[[], str], api_key: str | None, *, every_s: float = 0.5) -> None:
        self._api = api
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._every_s = every_s
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._answer: tuple[int, dict[str, Any]] | None = None
        self._count = 0
        self.ready = False
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def last(self) -> tuple[int, dict[str, Any]] | None:
        """Return (number of the answer, the answer); None while there has not been one, or the api is away."""
        with self._lock:
            return self._answer

    def _run(self) -> None:
        while not self._stop.wait(self._pause()):
            try:
                status, body = self._get("/v1/status")
                answer = json.loads(body) if status == 200 else None
                if not self.ready and isinstance(answer, dict):
                    self.ready = self._all_up(answer)
            except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
                answer = None
            with self._lock:
                self._count += 1
                self._answer = (self._count, answer) if isinstance(answer, dict) else None

    def _pause(self) -> float:
        """Return the seconds until the next question; called by the thread that writes the answers."""
        if not self.ready:
            return 0.2
        at_rest = self._answer is not None and self._answer[1].get("converged") is True
        return max(self._every_s, AT_REST_S) if at_rest else self._every_s

    def _all_up(self, answer: dict[str, Any]) -> bool:
        """The api's servers answer, and whoever watches and indexes has given a sign of life since we started."""
        since = time.monotonic() - self._began
        up = {process["kind"] for process in answer.get("processes") or () if process["age_s"] <= since}
        return up >= NEEDED and self._get("/readyz")[0] == 200

    def _get(self, path: str) -> tuple[int, bytes]:
        parts = urlsplit(self._api())
        connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=5)
        try:
            connection.request("GET", path, headers=self._headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
