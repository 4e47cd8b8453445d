"""Starts the whole embedded stack as a user would (`upwell up`), and asks it things over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from tests.support import children

ROOT = Path(__file__).parents[2]
FINAL = {"ready", "parked", "empty", "skipped", "held", "deleted"}


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without any UPWELL_ setting, plus ``more``."""
    # Ours comes first: an installation of another checkout in the same interpreter is not what is being tested.
    ours = {"NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    return {k: v for k, v in os.environ.items() if not k.startswith("UPWELL_")} | ours | more


class Stack:
    """One `upwell up` on folders and a data directory of its own."""

    def __init__(self, home: Path, *docs: Path, **settings: str) -> None:
        self.home = home
        self.docs = docs
        self.data = home / "data"
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.output = home / "up.out"
        self._client: httpx.Client | None = None

    def __enter__(self) -> Stack:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *, wait: bool = True) -> Stack:
        words = ["up", *map(str, self.docs), "--data-dir", str(self.data), "--no-browser"]
        if not (self.data / "ports.json").exists():
            self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Two suites on one machine must not fight for the usual ports.
            (self.data / "ports.json").write_text(json.dumps({"api": _free_port(), "qdrant": _free_port()}))
        with self.output.open("ab") as out:
            self.process = children.start(
                [sys.executable, "-m", "ops.cli", *words],
                cwd=ROOT,
                env=environment(**self.settings),
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        if wait:
            self.wait_for(self.is_up, 60)
        return self

    def stop(self, timeout: float = 15) -> int:
        """End it as Ctrl-C would; returns the exit code."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGINT)  # the second Ctrl-C kills
            self.process.wait(10)
            raise

    # ------------------------------------------------------------------ what it says of itself

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data / "up.json").read_text())
        return found

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by part: broker, embeddings, qdrant, index, api, watch, query, beat."""
        return dict(self.state["processes"])

    @property
    def client(self) -> httpx.Client:
        address = self.state["addresses"]["api"]
        if self._client is None or str(self._client.base_url).rstrip("/") != address:
            self._client = httpx.Client(base_url=address, timeout=60)
        return self._client

    def is_up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"upwell up ended with {self.process.returncode}:\n{self.tail()}")
        try:
            return self.client.get("/readyz").status_code == 200
        except (httpx.HTTPError, OSError, KeyError, ValueError):
            return False

    def tail(self) -> str:
        """Return the end of what it printed and logged, for the message of a failed test."""
        logs = [f"--- {log.name}\n" + log.read_text(errors="replace")[-700:] for log in self.data.glob("logs/*.log")]
        return self.output.read_text(errors="replace")[-1500:] + "\n".join(logs)

    def status(self) -> dict[str, Any]:
        answer = self.client.get("/v1/status")
        answer.raise_for_status()
        return dict(answer.json())

    def documents(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = self.client.get(
                "/v1/documents", params={"limit": 1000} | ({"cursor": cursor} if cursor else {})
            ).json()
            found += page["documents"]
            cursor = page["next_cursor"]
            if not cursor:
                return found

    def search(self, query: str, **more: Any) -> dict[str, Any]:
        answer = self.client.post("/v1/search", json={"query": query, **more})
        answer.raise_for_status()
        return dict(answer.json())

    def paths(self, query: str, **more: Any) -> list[str]:
        """Return the paths of the hits, best first."""
        return [hit["metadata"]["path"] for hit in self.search(query, **more)["hits"]]

    # ------------------------------------------------------------------ waiting

    def wait_for(self, condition: Any, timeout: float, every: float = 0.05) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout} s: {condition}\n{self.tail()}")
            time.sleep(every)

    def wait_converged(self, documents: int | None = None, timeout: float = 120) -> dict[str, Any]:
        """Wait until everything known is in a final state (and at least ``documents`` are known)."""

        def quiet() -> bool:
            try:
                status = self.status()
            except (httpx.HTTPError, OSError, KeyError, ValueError):
                return False
            known = sum(count for state, count in status["documents"].items() if state != "deleted")
            return bool(status["converged"]) and (documents is None or known >= documents)

        self.wait_for(quiet, timeout, every=0.2)
        return self.status()


def _free_port() -> int:
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def living(session_or_marker: str) -> list[int]:
    """Return the pids of processes whose command line or environment mentions ``session_or_marker``."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        if session_or_marker.encode() in text and ") Z " not in stat:
            found.append(int(entry.name))
    return found
