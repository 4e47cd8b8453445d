"""The supervisor and its guard with tiny programs for children: what dies comes back, what stops leaves nothing."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.supervised import Run, until, wait_file

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts processes by what Linux tells of them")

SLEEPER = "import time; time.sleep(1000)"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def starter(*parts: tuple[str, int, str], **spec: Any) -> Run:
        programs = [(name, stage, [sys.executable, "-S", "-c", code], None) for name, stage, code in parts]
        run = Run(tmp_path / "data", programs, **spec)
        runs.append(run)
        return run

    yield starter
    for run in runs:
        run.end()


def test_what_is_killed_is_started_again_and_that_is_said(start: Callable[..., Run]) -> None:
    run = start(("one", 0, "print('all is well', flush=True); " + SLEEPER), ("two", 1, SLEEPER))
    before, other = run.pid("one"), run.pid("two")
    until(lambda: "well" in (run.data / "logs" / "one.log").read_text())

    os.kill(before, signal.SIGKILL)

    assert run.wait_for("restarting", "one")[2:] == ["was killed by SIGKILL", 0.2, 1]
    assert run.lines == [["restarting", "one", "was killed by SIGKILL", 0.2, 1]], "what it said last is no warning"
    assert run.pid("one", but=before) != before
    assert run.pid("two") == other


def test_the_next_start_of_what_died_is_told_so_and_no_other_is(start: Callable[..., Run]) -> None:
    run = start(("one", 0, TELLS_ITS_LIFE), ("two", 0, TELLS_ITS_LIFE))
    first, other = told(run, "one", 1), told(run, "two", 1)
    assert first["ended"] == other["ended"] == first["runs"] == []

    os.kill(run.pid("one"), signal.SIGKILL)

    assert told(run, "one", 2)["ended"] == [first["life"]]
    assert first["life"] != other["life"]


def test_when_everything_was_killed_the_next_run_is_told_of_the_last_one(start: Callable[..., Run]) -> None:
    run = start(("one", 0, TELLS_ITS_LIFE))
    name = told(run, "one", 1)["life"].split("/")[0]

    run.guard().kill()
    run.wait_for("restarting", "one")
    after = told(run, "one", 2)
    run.end()

    assert after["runs"] == [name]
    second = start(("one", 0, TELLS_ITS_LIFE))
    assert told(second, "one", 3)["runs"] == [after["life"].split("/")[0], name]


def test_nobody_gets_the_data_directory_while_any_process_of_the_last_run_is_left(start: Callable[..., Run]) -> None:
    """A frozen one may go on at any moment, with all that it holds; so may one that no kernel ends with its parent."""
    run = start(("one", 0, OUTLIVES))
    child = psutil.Process(int(wait_file(run.data / "outlives").read_text()))
    run.remember_family()
    lock = os.open(run.data / "lock", os.O_RDWR)
    child.suspend()
    guard = run.guard()
    run.process.send_signal(signal.SIGSTOP)  # so that it cannot tidy up behind the guard

    guard.kill()
    run.process.kill()
    run.process.wait(10)
    until(lambda: run.survivors() == [child])

    assert held(lock)
    child.kill()
    until(lambda: not held(lock))
    os.close(lock)


def held(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(lock, fcntl.LOCK_UN)
    return False


def told(run: Run, name: str, start: int) -> dict[str, Any]:
    """Return what the process of this start (counted over all runs) of ``name`` found in its environment."""

    def found() -> Any:
        lines = (run.data / f"{name}.lives").read_text().splitlines() if (run.data / f"{name}.lives").exists() else []
        mine = [json.loads(line) for line in lines if line.endswith("}")]
        return mine[start - 1] if len(mine) >= start else None

    return dict(until(found))


def test_a_data_directory_that_cannot_be_written_is_told_once_and_stops_nothing(start: Callable[..., Run]) -> None:
    run = start(("one", 0, SLEEPER))
    before = run.pid("one")
    draft = run.data / "up.json.new"
    draft.mkdir()  # stands in for a full disk: the file cannot be opened

    os.kill(before, signal.SIGKILL)
    assert "cannot be written" in run.wait_for("warning", "up")[2]
    until(lambda: len(psutil.Process(run.guard().pid).children()) == 1)
    assert run.pid("one") == before  # the last that could be told

    draft.rmdir()
    os.kill(psutil.Process(run.guard().pid).children()[0].pid, signal.SIGKILL)

    assert run.pid("one", but=before)
    assert sum(line[0] == "warning" for line in run.lines) == 1


def test_what_keeps_dying_is_started_ever_more_slowly(start: Callable[..., Run]) -> None:
    run = start(("bad", 0, "import sys; sys.exit(5)"))

    waits = [run.wait_for("restarting", "bad") for _ in range(4)]

    assert [wait[3] for wait in waits] == [0.2, 0.4, 0.8, 1.6]
    assert waits[0][2] == "ended with exit code 5"


def test_a_part_that_refuses_its_configuration_stops_everything_and_its_words_are_the_fault(
    start: Callable[..., Run],
) -> None:
    refusing = """import sys, time
        time.sleep(0.3)
        print("noise", file=sys.stderr)
        print("upwell: The models differ. Do this.", file=sys.stderr)
        print("Traceback or so", file=sys.stderr)
        sys.exit(78)"""
    run = start(("sleeper", 2, SLEEPER), ("refusing", 1, code(refusing)))
    run.pid("sleeper")
    run.remember_family()

    assert run.wait_for("ended") == ["ended", 78, "The models differ. Do this."]
    assert run.process.wait(10) == 78
    assert run.survivors() == []


def test_stopping_goes_stage_by_stage_and_gives_each_part_time_to_finish(start: Callable[..., Run]) -> None:
    def finishing(name: str) -> str:
        return code(f"""import signal, sys, time
            def stop(*_):
                time.sleep(0.2)
                open(sys.argv[1] + "/order", "a").write("{name} ")
                sys.exit(0)
            signal.signal(signal.SIGTERM, stop)
            open(sys.argv[1] + "/{name}", "w")
            while True: time.sleep(1)""")

    run = start(
        ("store", 2, finishing("store")), ("producer", 0, finishing("producer")), ("worker", 1, finishing("worker"))
    )
    for name in ("store", "producer", "worker"):
        wait_file(run.data / name)
    run.remember_family()

    run.process.send_signal(signal.SIGTERM)

    assert run.process.wait(10) == 0
    assert (run.data / "order").read_text() == "producer worker store "
    assert run.survivors() == []
    assert not (run.data / "up.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_way_of_asking_to_stop_leaves_no_process(start: Callable[..., Run], number: signal.Signals) -> None:
    run = start(("one", 0, SLEEPER), ("two", 2, SLEEPER))
    run.pid("one"), run.pid("two")
    run.remember_family()

    run.process.send_signal(number)

    assert run.process.wait(10) == 0
    assert run.survivors() == []


def test_a_second_ctrl_c_does_not_wait_for_the_stubborn(start: Callable[..., Run]) -> None:
    run = start(("deaf", 1, DEAF), graces=[1000.0, 1000.0, 1000.0])
    wait_file(run.data / "deaf")
    run.remember_family()

    run.process.send_signal(signal.SIGINT)
    run.wait_for("stopping")
    run.process.send_signal(signal.SIGINT)

    assert run.process.wait(20) == 0
    assert run.survivors() == []


def test_a_part_that_ignores_the_order_to_stop_is_killed_within_its_grace(start: Callable[..., Run]) -> None:
    run = start(("deaf", 0, DEAF), graces=[0.3, 0.3, 0.3])
    wait_file(run.data / "deaf")
    run.remember_family()

    run.process.send_signal(signal.SIGTERM)

    assert run.process.wait(10) == 0
    assert run.survivors() == []


def test_killing_the_supervisor_leaves_no_process_grandchildren_in_their_own_sessions_included(
    start: Callable[..., Run],
) -> None:
    run = start(("parent", 1, PARENT), ("deaf", 0, DEAF))
    grandchild = int(wait_file(run.data / "grandchild").read_text())
    wait_file(run.data / "deaf")
    run.remember_family()
    assert grandchild in {process.pid for process in run.family}

    run.process.kill()

    until(lambda: not run.survivors(), seconds=15)


def test_a_dead_parts_own_children_are_gone_before_it_starts_again(start: Callable[..., Run]) -> None:
    run = start(("parent", 1, PARENT))
    grandchild = psutil.Process(int(wait_file(run.data / "grandchild").read_text()))
    before = run.pid("parent")

    os.kill(before, signal.SIGKILL)
    run.pid("parent", but=before)

    until(lambda: not grandchild.is_running() or grandchild.status() == "zombie")


def test_killing_the_guard_is_survived_and_leaves_no_second_copy(start: Callable[..., Run]) -> None:
    run = start(("parent", 1, PARENT), ("one", 0, SLEEPER))
    before = {name: run.pid(name) for name in ("parent", "one")}
    wait_file(run.data / "grandchild")
    run.remember_family()

    run.guard().kill()

    assert run.wait_for("restarting", "parent")[2] == "was lost with the guard process"
    ours = psutil.Process(run.process.pid).children()
    assert [child for child in ours if child.status() == psutil.STATUS_ZOMBIE] == []
    after = {name: run.pid(name, but=before[name]) for name in before}
    assert set(after.values()).isdisjoint(before.values())
    until(lambda: not run.survivors())


def test_killing_supervisor_and_guard_at_once_leaves_no_part_running(start: Callable[..., Run]) -> None:
    run = start(("one", 0, SLEEPER), ("deaf", 2, DEAF))
    run.pid("one")
    wait_file(run.data / "deaf")
    run.remember_family()
    guard = run.guard()

    run.process.send_signal(signal.SIGSTOP)  # so that it cannot tidy up behind the guard
    guard.kill()
    run.process.kill()

    until(lambda: not run.survivors())


def test_a_taken_port_is_replaced_and_those_who_know_of_it_are_started_again(start: Callable[..., Run]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        run = start(("server", 2, SERVER), ("other", 0, SLEEPER), ports={"server": port})

        _, name, wanted, chosen = run.wait_for("replaced")
        assert (name, wanted) == ("server", port)
        assert chosen != port
        until(lambda: answers(chosen))
        until(lambda: run.state().get("ports") == {"server": chosen})


def test_a_directory_that_stays_locked_ends_in_a_fault_not_in_endless_restarts(start: Callable[..., Run]) -> None:
    locked = 'import sys; print("upwell: The directory is in use.", file=sys.stderr); sys.exit(3)'
    run = start(("qdrant", 2, locked))

    assert run.wait_for("ended") == ["ended", 3, "The directory is in use."]


def test_two_on_one_data_directory_is_an_error_that_names_the_first(start: Callable[..., Run]) -> None:
    first = start(("one", 0, SLEEPER))
    pid = first.pid("one")

    second = start(("one", 0, SLEEPER))

    message = second.wait_for("error")[1]
    assert second.process.wait(10) == 1
    assert str(first.process.pid) in message
    assert "http://127.0.0.1:1" in message
    assert "--data-dir" in message
    assert psutil.pid_exists(pid)


def test_a_start_right_after_a_kill_waits_for_the_rest_to_be_gone(start: Callable[..., Run]) -> None:
    first = start(("one", 0, SLEEPER))
    first.pid("one")
    first.remember_family()
    first.process.kill()

    second = start(("one", 0, SLEEPER))

    until(lambda: second.state().get("pid") == second.process.pid)
    assert first.survivors() == []


def test_what_a_part_writes_is_in_its_log_and_its_warnings_are_passed_on(start: Callable[..., Run]) -> None:
    run = start(("talker", 0, TALKER))

    line = run.wait_for("warning", "talker")[2]

    assert json.loads(line)["event"] == "disk.full"
    log = until(lambda: (text := (run.data / "logs" / "talker.log").read_text()).count("\n") >= 2 and text)
    assert "plain words" in log
    assert (run.data / "logs" / "talker.log").stat().st_mode & 0o077 == 0


def test_a_part_that_closes_its_output_costs_the_guard_nothing(start: Callable[..., Run]) -> None:
    run = start(("mute", 0, "import os, time; os.close(1); os.close(2); time.sleep(1000)"))
    run.pid("mute")
    guard = run.guard()
    time.sleep(0.3)
    before = guard.cpu_times()

    time.sleep(0.6)

    after = guard.cpu_times()
    assert (after.user + after.system) - (before.user + before.system) < 0.2


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def code(text: str) -> str:
    """Return a program written in line with the test around it."""
    first, _, rest = text.partition("\n")
    return first + "\n" + textwrap.dedent(rest)


TELLS_ITS_LIFE = code("""import json, os, sys, time
    names = {"life": "UPWELL_LIFE", "ended": "UPWELL_ENDED_LIVES", "runs": "UPWELL_ENDED_RUNS"}
    found = {key: os.environ[name] for key, name in names.items()}
    found |= {key: json.loads(found[key]) for key in ("ended", "runs")}
    with open(sys.argv[1] + "/" + found["life"].split("/")[1] + ".lives", "a") as out:
        out.write(json.dumps(found) + "\\n")
    time.sleep(1000)""")

DEAF = code("""import signal, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(sys.argv[1] + "/deaf", "w")
    time.sleep(1000)""")

OUTLIVES = code("""import ctypes, os, sys, time
    ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)  # as where there is no such order: live on without the guard
    with open(sys.argv[1] + "/draft", "w") as out: out.write(str(os.getpid()))
    os.replace(sys.argv[1] + "/draft", sys.argv[1] + "/outlives")
    time.sleep(1000)""")

PARENT = code("""import os, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(1000)"], start_new_session=True)
    with open(sys.argv[1] + "/draft", "w") as out: out.write(str(child.pid))
    os.replace(sys.argv[1] + "/draft", sys.argv[1] + "/grandchild")
    time.sleep(1000)""")

SERVER = code("""import socket, sys, time
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(("127.0.0.1", int(sys.argv[2])))
    except OSError:
        sys.exit(3)
    server.listen()
    time.sleep(1000)""")

TALKER = code("""import time
    print("plain words", flush=True)
    print('{"event": "disk.full", "level": "warning"}', flush=True)
    time.sleep(1000)""")
