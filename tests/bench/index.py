"""Cold index, unchanged rerun, edits, rename, copy and deletes: Upwell beside its peers, in one run.

    python -m tests.bench.index [--files 1000] [--latency 0.12] [--tpm 1000000] [--only upwell,langchain] [--keep DIR]
        [--processes] [--running]

All index the same folder through the same embedding endpoint (tests/support/endpoint.py: no cost of its own but what is
asked for) into Qdrant's engine behind the embedded server.  Upwell is `upwell up`, its start included; with --running
it is a stack that has been started over an empty folder, into which the files are moved.  A peer is one
process per step, its imports included (tests/bench/peers), with --running from when it has imported everything.
CPU and memory are those of the system under test: all of Upwell's processes with its Qdrant and broker, a peer's
process without the Qdrant it writes to.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import psutil

from tests.bench import corpus
from tests.support.endpoint import Behaviour
from tests.support.stack import ROOT, Stack, environment

PEERS = ("langchain", "llamaindex", "haystack", "cocoindex")
UNSTRUCTURED = "unstructured"  # runs only where it is named
DIMENSIONS = 384
MEMORY_EVERY = 5
"""Seconds between two looks at memory: to add up the pages of a dozen processes takes some 60 ms of a processor,
which on two that are busy is felt by the system with many processes only."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one step cost."""

    system: str
    step: str
    seconds: float
    cpu_s: float
    peak_mb: float
    requests: int
    tokens: int
    texts: int
    points: int


class Runner(Protocol):
    """A system that can be brought up to date with a folder."""

    name: str

    def sync(self) -> tuple[float, float, float]:
        """Bring the index up to date; returns (seconds, CPU seconds, peak MB)."""

    def points(self) -> int:
        """Return how many points its collection has."""

    def close(self) -> None:
        """Stop what is still running."""


class Endpoint:
    """The embedding endpoint as a process of its own, so that it costs the measured process nothing."""

    def __init__(self, **behaviour: Any) -> None:
        port = free_port()
        words = [f"{name}={json.dumps(value)}" for name, value in behaviour.items() if value is not None]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.endpoint", "--port", str(port), "--set", *words], cwd=ROOT
        )
        self.pid = self._process.pid
        self.behaviour = Behaviour(**behaviour)
        self.url = f"http://127.0.0.1:{port}/v1"
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        wait_until(lambda: answers(self._client, "/health"))

    def counted(self) -> dict[str, int]:
        """Return what was paid for since the last call."""
        found: dict[str, int] = self._client.get("/counters").json()
        self._client.post("/counters/reset")
        return found

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class Upwell:
    """The stack: started for the first step, restarted for a rerun, left running for what happens live."""

    name = "upwell"

    def __init__(self, home: Path, docs: Path, endpoint: str, workers: int | None = None) -> None:
        settings = {
            "UPWELL_EMBEDDINGS_URL": endpoint,
            "UPWELL_EMBEDDINGS_MODEL": "bench",
            "UPWELL_LOG_LEVEL": "warning",
        }
        if workers is not None:
            settings["UPWELL_INDEX_WORKERS"] = str(workers)
        self._docs = docs
        self._stack = Stack(home, docs, **settings)
        self._cpu_before: dict[tuple[int, float], float] = {}
        self.by_process: dict[str, float] = {}

    def sync(self) -> tuple[float, float, float]:
        started = time.perf_counter()
        if self._stack.process is None or self._stack.process.poll() is not None:
            self._cpu_before = {}
            self._stack.start(wait=False)
        with Sampled(self._stack.process.pid) as sampled:  # type: ignore[union-attr]
            # Asked five times a second: on two processors the asking is felt.
            files = sum(1 for _ in self._docs.rglob("*.md"))
            wait_until(lambda: self._done(files), timeout=1_800, every=0.2)
            seconds = time.perf_counter() - started
        self.by_process = sampled.by_process()
        cpu, self._cpu_before = sampled.since(self._cpu_before), sampled.seen
        return seconds, cpu, sampled.peak_mb

    def run_before(self) -> None:
        """Start over the folder as it is, and wait until there is nothing more to do."""
        self._stack.start()
        self._stack.wait_converged(timeout=60)
        assert self._stack.process is not None
        with Sampled(self._stack.process.pid) as sampled:
            pass
        self._cpu_before = sampled.seen

    def restart(self) -> None:
        """Stop, so that the next `sync` starts again."""
        self._stack.stop(30)

    def killed(self, share: float) -> None:
        """Start, and end everything with SIGKILL once this share of the files is ready: a power cut, nearly."""
        self._stack.start(wait=False)
        files = sum(1 for _ in self._docs.rglob("*.md"))
        wait_until(lambda: self._ready() >= share * files, timeout=1_800, every=0.02)
        assert self._stack.process is not None
        for process in reversed(list(family(self._stack.process.pid))):
            with suppress(psutil.Error):
                process.kill()
        self._stack.process.wait()

    def points(self) -> int:
        url = self._stack.state["addresses"]["qdrant"]
        answer = httpx.post(f"{url}/collections/upwell/points/count", json={"exact": True}, timeout=60)
        return int(answer.json()["result"]["count"])

    def close(self) -> None:
        self._stack.stop(30)

    def _done(self, files: int) -> bool:
        if self._stack.process is None or self._stack.process.poll() is not None:
            raise SystemExit(f"upwell ended:\n{self._stack.tail()}")
        return self._ready() == files and bool(self._stack.status()["converged"])

    def _ready(self) -> int:
        try:
            return int(self._stack.status()["documents"].get("ready", 0))
        except (httpx.HTTPError, OSError, KeyError, ValueError):
            return 0


class Peer:
    """One of tests/bench/peers: a process per step, with a Qdrant of its own that lives through all of them."""

    def __init__(
        self, name: str, home: Path, docs: Path, endpoint: str, python: Path, *, running: bool = False
    ) -> None:
        self.name = name
        self._running = running
        self._home, self._docs, self._endpoint, self._python = home, docs, endpoint, python
        home.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self._qdrant = subprocess.Popen(
            [sys.executable, "-m", "ops.embedded.qdrant", "--port", str(port), "--path", str(home / "qdrant")],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: answers(httpx, f"{self._url}/readyz"))

    def sync(self) -> tuple[float, float, float]:
        script = Path(__file__).parent / "peers" / f"with_{self.name}.py"
        words = [str(self._python), str(script), str(self._docs), self._endpoint, self._url, str(self._home / "state")]
        quiet = {"ANONYMIZED_TELEMETRY": "false", "DO_NOT_TRACK": "1", "HAYSTACK_TELEMETRY_ENABLED": "false"}
        started = time.time()
        with (self._home / "log").open("ab") as log:
            process = subprocess.Popen(words, env=environment(**quiet), stdout=log, stderr=log)
            with Sampled(process.pid) as sampled:
                _, status, usage = os.wait4(process.pid, 0)
        if self._running:
            started = (self._home / "imported").stat().st_mtime
        seconds = time.time() - started
        if status:
            raise SystemExit(f"{self.name} failed:\n{(self._home / 'log').read_text()[-3000:]}")
        return seconds, usage.ru_utime + usage.ru_stime, max(sampled.peak_mb, usage.ru_maxrss / 1024)

    def points(self) -> int:
        names = [c["name"] for c in httpx.get(f"{self._url}/collections").json()["result"]["collections"]]
        counts = (httpx.post(f"{self._url}/collections/{name}/points/count", json={"exact": True}) for name in names)
        return sum(int(answer.json()["result"]["count"]) for answer in counts)

    def close(self) -> None:
        self._qdrant.kill()
        self._qdrant.wait()


class Sampled:
    """CPU seconds and peak memory (proportional set size) of a process and all its descendants."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._seen: dict[tuple[int, float], float] = {}
        self._names: dict[tuple[int, float], str] = {}
        self.peak_mb = 0.0

    @property
    def seen(self) -> dict[tuple[int, float], float]:
        """CPU seconds of every process seen, since each began."""
        return dict(self._seen)

    def since(self, before: dict[tuple[int, float], float]) -> float:
        """Return the CPU seconds beyond what was ``seen`` then; a process that has ended meanwhile counts as it was."""
        return sum(seconds - before.get(key, 0.0) for key, seconds in self._seen.items())

    def by_process(self) -> dict[str, float]:
        """Return CPU seconds by what the processes are."""
        found: dict[str, float] = {}
        for key, seconds in self._seen.items():
            found[self._names[key]] = found.get(self._names[key], 0.0) + seconds
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def __enter__(self) -> Sampled:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._sample()

    def _run(self) -> None:
        looks = 0
        while not self._end.wait(1.0):
            looks += 1
            self._sample(memory=looks % MEMORY_EVERY == 0)

    def _sample(self, *, memory: bool = True) -> None:
        total = 0.0
        for process in family(self._pid):
            try:
                times = process.cpu_times()
                key = (process.pid, process.create_time())
                self._names[key] = named(process.cmdline())  # the last one: a fork has its template's at first
                self._seen[key] = times.user + times.system
                total += process.memory_full_info().pss if memory else 0
            except psutil.Error:
                continue
        self.peak_mb = max(self.peak_mb, total / 2**20)


def named(words: list[str]) -> str:
    """Return the last words of a command that say what it is: "worker index", "ops.embedded.qdrant"."""
    if "-m" not in words:
        return Path(words[0]).name if words else "?"
    module, *rest = words[words.index("-m") + 1 :]
    return " ".join([module, *(word for word in rest[:2] if word.isalpha())])


def family(pid: int) -> Iterator[psutil.Process]:
    """Yield a process and everything that it has started."""
    try:
        parent = psutil.Process(pid)
        yield parent
        yield from parent.children(recursive=True)
    except psutil.Error:
        return


# ------------------------------------------------------------------ the steps


def _steps(docs: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield (step, what happens to the folder before it)."""
    yield "cold", lambda: None
    yield "unchanged", lambda: None
    yield "edits 1 %", lambda: corpus.edit(docs, 0.01)
    yield "rename", lambda: (docs / "part-0001").rename(docs / "renamed-0001")
    yield "copy", lambda: shutil.copytree(docs / "part-0000", docs / "copied-0000")
    yield "deletes 1 %", lambda: [path.unlink() for path in sorted(docs.rglob("*.md"))[5::100]]


def main(args: list[str]) -> int:
    """Run the steps for each system and print a table."""
    options = _options(args)
    names = options.only.split(",") if options.only else ["upwell", *PEERS]
    rows: list[Row] = []
    with _scratch(options.keep) as home:
        for name in names:
            rows += _measured(name, home / name, options)
            _print(rows[-6:], header=name == names[0])
    return 0


def _measured(name: str, home: Path, options: argparse.Namespace) -> list[Row]:
    docs = home / "docs"
    corpus.make(docs, options.files, text=options.text)
    endpoint = Endpoint(dimensions=DIMENSIONS, latency_s=options.latency, tpm=options.tpm, rpm=options.rpm)
    runner: Any = (
        Upwell(home, docs, endpoint.url, options.workers)
        if name == "upwell"
        else Peer(name, home, docs, endpoint.url, _python_of(name, options.python), running=options.running)
    )
    rows = []
    try:
        if options.kill is not None:
            runner.killed(options.kill)
        if options.running and name == "upwell":
            _put_aside(docs)
            runner.run_before()
            endpoint.counted()
            _put_back(docs)
        for step, change in _steps(docs):
            if options.steps and step.split()[0] not in options.steps.split(","):
                continue
            if step == "unchanged" and name == "upwell":
                runner.restart()
            change()
            seconds, cpu, peak = runner.sync()
            paid = endpoint.counted()
            counts = paid["requests"], paid["paid_tokens"], paid["paid_texts"], runner.points()
            rows.append(Row(name, step, seconds, cpu, peak, *counts))
            if options.processes and name == "upwell":
                _print_processes(step, runner.by_process)
    finally:
        runner.close()
        endpoint.close()
    return rows


def _put_aside(docs: Path) -> None:
    docs.rename(docs.with_name("aside"))
    docs.mkdir()


def _put_back(docs: Path) -> None:
    for part in sorted(docs.with_name("aside").iterdir()):
        part.rename(docs / part.name)


def _print(rows: list[Row], *, header: bool) -> None:
    if header:
        names = ("seconds", "CPU s", "peak MB", "requests", "tokens", "texts", "points")
        print(f"{'system':12}{'step':13}" + "".join(f"{name:>11}" for name in names))
    for r in rows:
        print(
            f"{r.system:12}{r.step:13}{r.seconds:11.2f}{r.cpu_s:11.2f}{r.peak_mb:11.0f}"
            f"{r.requests:11}{r.tokens:11,}{r.texts:11}{r.points:11}",
            flush=True,
        )


def _print_processes(step: str, by_process: dict[str, float]) -> None:
    """Print the CPU seconds of each of Upwell's processes since it was started."""
    told = ", ".join(f"{name} {seconds:.2f}" for name, seconds in by_process.items())
    print(f"  CPU s by process until the end of {step}: {told}", flush=True)


def _options(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.index")
    parser.add_argument("--files", type=int, default=corpus.SIZES["medium"])
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that each embedding request takes")
    parser.add_argument("--tpm", type=int, help="tokens a minute that the endpoint allows")
    parser.add_argument("--rpm", type=int, help="requests a minute that the endpoint allows")
    parser.add_argument("--only", help=f"systems, comma separated: upwell, {', '.join(PEERS)}, {UNSTRUCTURED}")
    parser.add_argument("--processes", action="store_true", help="print the CPU seconds of each of Upwell's processes")
    parser.add_argument("--running", action="store_true", help="without anybody's start and imports")
    parser.add_argument("--steps", help="first words of the steps to run, comma separated")
    parser.add_argument("--workers", type=int, help="index workers of Upwell")
    parser.add_argument("--kill", type=float, help="before the cold run, kill -9 everything at this share of the files")
    parser.add_argument("--text", type=Path, help="folder of text files to make the corpus from")
    parser.add_argument("--keep", type=Path, help="folder to work in, kept afterwards")
    parser.add_argument("--python", type=Path, default=ROOT / ".venv-bench" / "bin" / "python", help="of the peers")
    return parser.parse_args(args)


@contextmanager
def _scratch(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="upwell-bench-", ignore_cleanup_errors=True) as scratch:
        yield Path(scratch)


# ------------------------------------------------------------------ small things


def _python_of(name: str, python: Path) -> Path:
    usual = python == ROOT / ".venv-bench" / "bin" / "python"
    return ROOT / ".venv-bench-unstructured" / "bin" / "python" if name == UNSTRUCTURED and usual else python


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def answers(client: Any, path: str) -> bool:
    """Tell whether a GET is answered with 200."""
    try:
        return bool(client.get(path).status_code == 200)
    except httpx.HTTPError:
        return False


def wait_until(fact: Callable[[], bool], *, timeout: float = 60, every: float = 0.05) -> None:
    """Wait until ``fact`` holds."""
    deadline = time.monotonic() + timeout
    while not fact():
        if time.monotonic() > deadline:
            raise SystemExit("it did not come to an end in time")
        time.sleep(every)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    raise SystemExit(main(sys.argv[1:]))
