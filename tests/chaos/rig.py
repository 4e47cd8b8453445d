"""Everything that runs: our servers, proxies before them, `upwell up` behind those, and a second index worker."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import kombu.exceptions
import psutil
import redis

from ops.embedded.valkey import ping, valkey_command
from tests.support.endpoint import Endpoint
from tests.support.proxy import Proxy
from tests.support.stack import ROOT, Stack, environment
from workers.contract.broker import make_celery
from workers.contract.messages import TASK_EMBED, TASK_RECONCILE

HOST, MODEL = "127.0.0.1", "counting-model"
PASSWORD = "chaos"
COLLECTION = "upwell"


class Process:
    """One process of ours that is started again when it is down and its pause is over."""

    def __init__(self, name: str, command: Callable[[], list[str]], log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self._command = command
        self._log = log
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def ensure(self) -> None:
        """Start it if it does not run and should."""
        if self.pid is not None or time.monotonic() < self._not_before:
            return
        self.starts += 1
        self._not_before = time.monotonic() + 0.5
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                self._command(),
                cwd=ROOT,
                env=self._env,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def kill(self, pause: float = 0.0) -> None:
        """SIGKILL it and everything it started; it comes back after ``pause``."""
        self._not_before = time.monotonic() + pause
        if self.pid is not None:
            kill_tree(self.pid)
        if self._process is not None:
            self._process.wait()


class Rig:
    """The whole of it, on free ports, below ``home``.  ``real_model`` embeds with the bundled model."""

    def __init__(self, home: Path, seed: int, *, lease_s: float, timeout_s: float, real_model: bool = False) -> None:
        self.home = home
        self.docs = home / "docs"
        self.docs.mkdir(parents=True)
        self.logs = home / "servers"
        self.logs.mkdir()
        self.endpoint = Endpoint(latency_s=0.02)
        self.gave_up: list[str] = []
        self.stack_starts = 0
        self._ours_to_end = False
        self._stack_not_before = 0.0
        self._stopped: dict[psutil.Process, float] = {}
        ports = [_free_port() for _ in range(3)]
        self.broker_port, self.qdrant_port, self.model_port = ports
        self.qdrant_url = f"http://{HOST}:{self.qdrant_port}"
        self.broker_url = f"redis://:{PASSWORD}@{HOST}:{self.broker_port}/0"
        env = environment(OMP_NUM_THREADS="1")
        python = [sys.executable, "-P", "-m"]
        self.servers = {
            "broker": Process(
                "broker",
                lambda: valkey_command(home / "valkey", self.broker_port, PASSWORD),
                self.logs / "valkey.log",
                env,
            ),
            "qdrant": Process(
                "qdrant",
                lambda: [
                    *python,
                    "ops.embedded.qdrant",
                    "--port",
                    str(self.qdrant_port),
                    "--path",
                    str(home / "qdrant"),
                ],
                self.logs / "qdrant.log",
                env,
            ),
        }
        self.real_model = real_model
        if real_model:
            self.servers["embeddings"] = Process(
                "embeddings",
                lambda: [*python, "ops.embedded.embeddings", "--port", str(self.model_port), "--threads", "1"],
                self.logs / "embeddings.log",
                env,
            )
        self._seed = seed
        self._settings = {
            "UPWELL_LEASE": f"{lease_s:g}",
            "UPWELL_QDRANT_TIMEOUT": f"{timeout_s:g}",
            "UPWELL_EMBEDDINGS_TIMEOUT": f"{timeout_s:g}",
            "UPWELL_SWEEP_INTERVAL": "1",
            "UPWELL_PARSER_CHILDREN": "2",
            "UPWELL_COLLECTION": COLLECTION,
        }

    def __enter__(self) -> Rig:
        self._exit = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _exc: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self._exit.close()

    def _start(self) -> None:
        if not self.real_model:
            self._exit.enter_context(self.endpoint)
            self.model_port = int(self.endpoint.url.split(":")[2].split("/")[0])
        for server in self.servers.values():
            server.ensure()
            self._exit.callback(server.kill, 1e9)
        self.proxies = {
            name: self._exit.enter_context(Proxy((HOST, port), kind=kind, seed=self._seed * 10 + number))
            for number, (name, port, kind) in enumerate(
                [
                    ("broker", self.broker_port, "bytes"),
                    ("qdrant", self.qdrant_port, "http"),
                    ("embeddings", self.model_port, "http"),
                ]
            )
        }
        while not ping(self.broker_url) or not _answers(self.qdrant_port) or not _answers(self.model_port):
            time.sleep(0.05)
        model = "multilingual-e5-small-q4" if self.real_model else MODEL
        self.env = self._settings | {
            "UPWELL_BROKER_URL": f"redis://:{PASSWORD}@{HOST}:{self.proxies['broker'].port}/0",
            "UPWELL_QDRANT_URL": f"http://{HOST}:{self.proxies['qdrant'].port}",
            "UPWELL_EMBEDDINGS_URL": f"http://{HOST}:{self.proxies['embeddings'].port}/v1",
            "UPWELL_EMBEDDINGS_MODEL": model,
        }
        self.stack = Stack(self.home, self.docs, **self.env)
        self._exit.callback(self._end_stack)
        self.stack.start()
        self.stack_starts = 1
        second = self.env | {
            "UPWELL_LEDGER_URL": f"sqlite:///{self.stack.data}/ledger.db",
            "UPWELL_DATA_DIR": str(self.stack.data),
            "OMP_NUM_THREADS": "1",
            "REMAP_SIGTERM": "SIGQUIT",
        }
        words = [*python_words(), "ops.cli", "worker", "index"]
        self.servers["index-2"] = Process("index-2", lambda: words, self.logs / "index-2.log", environment(**second))
        self.servers["index-2"].ensure()
        self._exit.callback(self.servers["index-2"].kill, 1e9)

    # ------------------------------------------------------------------ keeping it running

    def tick(self) -> None:
        """Start again what is down and may come back; thaw what has been frozen for long enough."""
        for server in self.servers.values():
            server.ensure()
        now = time.monotonic()
        for process, until in list(self._stopped.items()):
            if now >= until:
                self._thaw(process)
        process = self.stack.process
        if process is not None and process.poll() is not None and now >= self._stack_not_before:
            if process.returncode == 78 and not self._ours_to_end:
                self.gave_up.append(self.stack.output.read_text(errors="replace").strip().splitlines()[-1])
            self._ours_to_end = False
            self.stack_starts += 1
            self._stack_not_before = now + 1.0  # as a service manager would
            self.stack.start(wait=False)

    def heal(self) -> None:
        """Good weather, everything thawed, everything running."""
        for proxy in self.proxies.values():
            proxy.heal()
        for process in list(self._stopped):
            self._thaw(process)
        for server in self.servers.values():
            server._not_before = 0.0
        self.tick()

    # ------------------------------------------------------------------ harm

    def pids(self, target: str) -> list[int]:
        """Return the processes that a plan means by ``target``; none when it is down at the moment."""
        stack = self.stack.process
        if stack is None or stack.poll() is not None:
            return []
        if target == "supervisor":
            return [stack.pid]
        if target in self.servers:
            return [pid] if (pid := self.servers[target].pid) else []
        children = _family(stack.pid)
        if target == "guard":
            return [child.pid for child in children if child.ppid() == stack.pid][:1]
        if target == "parser":
            return [pid for each in (*self._indexers(),) for pid in _parsers(each)]
        try:
            return [self.stack.pids[target]]
        except (OSError, ValueError, KeyError):
            return []

    def _indexers(self) -> list[int]:
        return [*self.pids("index"), *self.pids("index-2")]

    def kill(self, target: str, draw: random.Random) -> bool:
        """SIGKILL one process; False when there was none."""
        if target == "index-2":
            self.servers[target].kill()
            return True
        pids = self.pids(target)
        if not pids:
            return False
        self._ours_to_end = self._ours_to_end or target == "supervisor"
        with contextlib.suppress(ProcessLookupError):
            os.kill(draw.choice(sorted(pids)), signal.SIGKILL)
        return True

    def freeze(self, target: str, seconds: float, draw: random.Random) -> bool:
        """SIGSTOP one process, for ``seconds``."""
        pids = self.pids(target)
        if not pids:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(draw.choice(sorted(pids)))
            process.suspend()
            self._stopped[process] = time.monotonic() + seconds
        return True

    def _thaw(self, process: psutil.Process) -> None:
        self._stopped.pop(process, None)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()

    def flush(self) -> bool:
        """FLUSHALL."""
        with contextlib.suppress(redis.RedisError):
            client = redis.Redis.from_url(self.broker_url, socket_timeout=2)
            client.flushall()
            client.close()
            return True
        return False

    def throw_junk(self) -> None:
        """Put messages into the queues that nobody of this release would send."""
        app = make_celery(self.broker_url, "upwell:", "producer")
        with contextlib.suppress(kombu.exceptions.OperationalError, OSError):
            app.send_task("of.another.release", args=[1], queue="live", ignore_result=True, retry=False)
            app.send_task(TASK_RECONCILE, args=[{"v": 99}], queue="bulk", ignore_result=True, retry=False)
            app.send_task(TASK_RECONCILE, args=[], queue="live", ignore_result=True, retry=False)
            app.send_task(TASK_EMBED, args=[{"kind": "document.drop"}], queue="embed", ignore_result=True, retry=False)
        app.close()

    def empty_broker(self, seconds: float) -> None:
        """Valkey loses everything, and comes back after ``seconds``."""
        self.servers["broker"].kill(seconds)
        shutil.rmtree(self.home / "valkey", ignore_errors=True)

    def power_cut(self, seconds: float, draw: random.Random) -> None:
        """SIGKILL everything at once; it starts again in any order."""
        stack = self.stack.process
        self._ours_to_end = True
        if stack is not None and stack.poll() is None:
            kill_tree(stack.pid)
            stack.wait()
        for server in self.servers.values():
            server.kill(seconds * draw.random())
        self._stack_not_before = time.monotonic() + seconds

    def _end_stack(self) -> None:
        process = self.stack.process
        try:
            self.stack.stop()
        except Exception:
            if process is not None:
                kill_tree(process.pid)
                process.wait()


def python_words() -> list[str]:
    return [sys.executable, "-P", "-m"]


def kill_tree(pid: int) -> None:
    """SIGKILL a process and all that descends from it; the whole family is stopped first, so that nobody forks away."""
    family = [*_family(pid)]
    with contextlib.suppress(psutil.NoSuchProcess):
        family.append(psutil.Process(pid))
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _parsers(index: int) -> list[int]:
    found = []
    for process in _family(index):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "workers.indexing.parse.child" in process.cmdline():
                found.append(process.pid)
    return found


def _answers(port: int) -> bool:
    import socket

    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
