"""A supervisor with tiny programs for parts, in a process of its own, and everything that it was the ancestor of."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.support.stack import ROOT

HARNESS = """
import json, sys
from pathlib import Path
from ops.up.children import Children, Part, Template
from ops.up.datadir import DataDir, DataDirError
from ops.up.lives import Lives
from ops.up.supervisor import Supervisor

class Telling:
    def _tell(self, *words): print(json.dumps(words), flush=True)
    def restarting(self, name, how, wait_s, times): self._tell("restarting", name, how, wait_s, times)
    def replaced(self, name, wanted, port): self._tell("replaced", name, wanted, port)
    def warning(self, name, line): self._tell("warning", name, line)
    def stopping(self): self._tell("stopping")
    def tick(self): pass

spec = json.loads(sys.argv[1])
try:
    data = DataDir(Path(spec["data"]))
except DataDirError as exc:
    print(json.dumps(["error", str(exc)]), flush=True)
    sys.exit(1)

env = {"PATH": "/usr/bin:/bin", "HOME": "/", **spec.get("env", {})}

def make(ports):
    return [
        Part(name, tuple(word.replace("{port}", str(ports.get(name))).replace("{server}", str(ports.get("server")))
                         for word in argv), env, stage, ports.get(name), layer)
        for name, stage, argv, layer in spec["parts"]
    ]

def publish(ports, pids):
    data.publish({"pid": __import__("os").getpid(), "ports": dict(ports), "processes": dict(pids),
                  "addresses": {"api": "http://127.0.0.1:1"}})

template = None
if "layers" in spec:
    template = Template((sys.executable, "-P", "-m", "ops.up.template"), env, spec["layers"])
children = Children(template)
if spec.get("waits"):
    sys.stdin.readline()
children.settle(data.logs, data.lock_fd)
supervisor = Supervisor(children, make, spec.get("ports", {}), Telling(), Lives(data.begin_run), on_change=publish,
                        graces=spec.get("graces", (2.5, 5.0, 1.5)))
supervisor.start()
code = supervisor.run()
print(json.dumps(["ended", code, supervisor.fault]), flush=True)
children.close()
data.unpublish()
sys.exit(code)
"""


class Run:
    """One supervisor.  ``parts`` are (name, stage, command, layer); the words that follow name the data directory.

    One that ``waits`` has begun guard and template, and goes on when it is told to.
    """

    def __init__(self, data: Path, parts: list[tuple[str, int, list[str], str | None]], **spec: Any) -> None:
        self.data = data
        self.lines: list[list[Any]] = []
        self.spec = {
            "data": str(data),
            "parts": [(name, stage, [*argv, str(data), "{port}"], layer) for name, stage, argv, layer in parts],
            **spec,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", HARNESS, json.dumps(self.spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.family: set[psutil.Process] = set()

    def go_on(self) -> None:
        """Tell one that waits that it may start its parts."""
        assert self.process.stdin is not None
        self.process.stdin.write("on\n")
        self.process.stdin.flush()

    def wait_for(self, kind: str, *facts: Any) -> list[Any]:
        """Read what the supervisor says until it says this."""
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            line: list[Any] = json.loads(raw)
            self.lines.append(line)
            if line[0] == kind and line[1 : 1 + len(facts)] == list(facts):
                return line
        raise AssertionError(f"it never said {kind} {facts}; it said {self.lines}")

    def state(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((self.data / "up.json").read_text()))
        return {}

    def pid(self, name: str, *, but: int | None = None) -> int:
        """Return the pid of a part, once it runs (``but``: as another process than that one)."""
        found = until(lambda: (pid := self.state().get("processes", {}).get(name)) not in (None, but) and pid)
        return int(found)

    def remember_family(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.family |= set(psutil.Process(self.process.pid).children(recursive=True))

    def guard(self) -> psutil.Process:
        """Return the guard's process, once there is one."""
        return self._below(self.process.pid, "guard.py", None)

    def template(self, *, but: int | None = None) -> psutil.Process:
        """Return the template's process, once there is one (``but``: another than that one)."""
        return self._below(self.guard().pid, "ops.up.template", but)

    def _below(self, parent: int, word: str, but: int | None) -> psutil.Process:
        def found() -> psutil.Process | None:
            for child in psutil.Process(parent).children():
                with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is none, either
                    if child.pid != but and any(word in each for each in child.cmdline()):
                        return child
            return None

        process = until(found)
        assert isinstance(process, psutil.Process)
        return process

    def survivors(self) -> list[psutil.Process]:
        return [process for process in self.family if lives(process)]

    def end(self) -> None:
        self.remember_family()
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            until(lambda: not self.survivors(), seconds=15)
        finally:  # a supervisor that fails its tests must not litter the machine
            for process in self.survivors():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != "zombie")
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


def until(fact: Callable[[], Any], *, seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)
    return found


def wait_file(path: Path) -> Path:
    until(path.exists)
    return path
