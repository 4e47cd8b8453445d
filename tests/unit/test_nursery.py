"""What the guard does with a template, for which these tests speak: orders, reports, and whatever goes wrong."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.up.nursery import GO, IMPORT_PATIENCE_S, MOST_FAILURES, PATIENCE_S, Born, Nursery

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="where a fork cannot become the guard's there is none")

ROOT = Path(__file__).parents[2]
PLAN = {"argv": ["template"], "env": {}, "layers": [["low", ["json"]], ["high", ["csv"]]]}


class Told:
    """An order as the template gets it."""

    def __init__(self, message: dict[str, Any], descriptors: list[int]) -> None:
        self.message = message
        self.output, self.control = descriptors[0], socket.socket(fileno=descriptors[1])

    def report(self, pid: int) -> None:
        self.control.send(str(pid).encode())

    def die(self) -> None:
        self.control.close()
        os.close(self.output)


class Bench:
    """A nursery whose clock stands still and whose templates are processes that only sleep."""

    def __init__(self) -> None:
        self.now = 0.0
        self.full = False
        self.processes: list[subprocess.Popen[bytes]] = []
        self.said: list[str] = []
        self.lines: list[socket.socket] = []
        self.nursery = Nursery(self._start, clock=lambda: self.now, say=self.said.append)

    def _start(self, _plan: dict[str, Any], line: int) -> int:
        if self.full:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        self.lines.append(socket.socket(fileno=os.dup(line)))
        self.lines[-1].setblocking(False)
        self.processes.append(subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(1000)"]))
        return self.processes[-1].pid

    def begin(self) -> None:
        self.nursery.plan(PLAN)
        assert self.hear() == {"layers": PLAN["layers"]}

    def say(self, **message: Any) -> None:
        self.lines[-1].send(json.dumps(message).encode())

    def hear(self) -> Any:
        """Return the next message: a dict, or an order with its descriptors."""
        data, descriptors, _, _ = socket.recv_fds(self.lines[-1], 1 << 20, 2)
        return Told(json.loads(data), descriptors) if descriptors else json.loads(data)

    def template_dies(self) -> list[dict[str, Any]]:
        self.processes[-1].kill()
        self.processes[-1].wait()
        self.lines[-1].close()
        return self.nursery.lost()

    def close(self) -> None:
        self.nursery.close()
        for process in self.processes:
            process.kill()
            process.wait()
        for line in self.lines:
            line.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def order(name: str = "one", layer: str | None = "low", **more: Any) -> dict[str, Any]:
    return {"name": name, "argv": ["python", "-m", name], "env": {"A": "b"}, "layer": layer} | more


def test_an_order_waits_for_its_layer_and_is_sent_before_the_next_one_is_imported(bench: Bench) -> None:
    bench.begin()
    assert bench.nursery.take(order("early", "low"))
    assert bench.nursery.take(order("late", "high"))

    bench.say(ready="low")
    assert list(bench.nursery.look()) == []

    told = bench.hear()
    assert told.message == {"argv": ["python", "-m", "early"], "env": {"A": "b"}}
    assert bench.hear() == {"on": True}
    assert bench.nursery.find("late")
    told.die()


def test_a_part_is_born_when_it_has_reported_and_goes_on_when_it_is_known(bench: Bench) -> None:
    told = ordered(bench)
    told.control.setblocking(False)
    assert list(bench.nursery.look()) == []
    assert bench.nursery.unborn_sessions() == {bench.nursery.pid}

    told.report(4711)
    with pytest.raises(BlockingIOError):
        told.control.recv(2)
    (born,) = bench.nursery.look()

    assert isinstance(born, Born)
    assert (born.order["name"], born.pid) == ("one", 4711)
    assert told.control.recv(2) == GO
    assert bench.nursery.unborn_sessions() == frozenset()
    assert bench.nursery.find("one") is None
    os.write(told.output, b"its words")
    assert os.read(born.output, 100) == b"its words"
    os.close(born.output)
    told.die()


def test_a_part_that_dies_before_it_reports_is_executed_instead(bench: Bench) -> None:
    told = ordered(bench)

    told.die()

    assert list(bench.nursery.look()) == [order()]
    assert bench.nursery.find("one") is None


def test_a_template_that_does_not_fork_is_killed_and_its_parts_are_executed(bench: Bench) -> None:
    told = ordered(bench)
    bench.now += PATIENCE_S

    assert list(bench.nursery.look()) == [order()]

    assert bench.processes[0].wait(10) == -9
    assert told.control.recv(2) == b"", "a fork that comes after all finds nobody"
    assert not bench.nursery.take(order("two"))
    told.die()


def test_a_template_that_imports_for_ever_is_killed_and_its_parts_are_executed(bench: Bench) -> None:
    bench.begin()
    assert bench.nursery.take(order())
    bench.now += IMPORT_PATIENCE_S + 1

    assert list(bench.nursery.look()) == []
    assert bench.processes[0].wait(10) == -9
    assert bench.nursery.lost() == [order()]


def test_a_template_that_is_unfit_is_ended_for_good(bench: Bench) -> None:
    bench.begin()
    assert bench.nursery.take(order())

    bench.say(unfit="2 threads run")

    assert list(bench.nursery.look()) == [order()]
    assert bench.processes[0].wait(10) == -9
    bench.nursery.lost()
    bench.now += 1_000
    list(bench.nursery.look())
    assert len(bench.processes) == 1
    assert "2 threads run" in bench.said[0]


def test_a_dead_template_is_followed_by_another_for_which_nobody_waits(bench: Bench) -> None:
    bench.begin()
    assert bench.nursery.take(order())
    assert bench.template_dies() == [order()]
    assert list(bench.nursery.look()) == []
    assert not bench.nursery.take(order())

    bench.now += 3
    list(bench.nursery.look())

    assert len(bench.processes) == 2
    assert bench.hear() == {"layers": PLAN["layers"]}
    assert not bench.nursery.take(order())
    bench.say(ready="low")
    list(bench.nursery.look())
    assert bench.nursery.take(order())


def test_a_machine_that_has_no_process_to_spare_is_asked_again(bench: Bench) -> None:
    bench.full = True
    descriptors = open_descriptors()
    bench.nursery.plan(PLAN)
    assert not bench.nursery.take(order())
    assert open_descriptors() == descriptors

    bench.full = False
    bench.now += 3
    list(bench.nursery.look())

    assert bench.hear() == {"layers": PLAN["layers"]}


def test_templates_that_keep_dying_are_given_up(bench: Bench) -> None:
    bench.begin()
    for _ in range(10):
        if bench.nursery.pid is not None:
            bench.template_dies()
        bench.now += 100
        list(bench.nursery.look())
    assert len(bench.processes) == MOST_FAILURES


def test_templates_that_were_ready_and_are_killed_are_never_given_up(bench: Bench) -> None:
    bench.begin()
    for number in range(1, 8):
        bench.say(ready="low")
        bench.say(ready="high")
        list(bench.nursery.look())
        bench.template_dies()
        bench.now += 100
        list(bench.nursery.look())
        assert len(bench.processes) == number + 1


@pytest.mark.parametrize(
    "unusual",
    [order(layer=None), order(layer="unknown"), order(env={"A": "b" * (1 << 21)})],
    ids=["none", "other", "big"],
)
def test_what_the_template_cannot_do_is_left_to_be_executed(bench: Bench, unusual: dict[str, Any]) -> None:
    bench.begin()
    bench.say(ready="low")
    list(bench.nursery.look())
    descriptors = open_descriptors()

    assert not bench.nursery.take(unusual)

    assert open_descriptors() == descriptors


def test_a_nursery_that_is_closed_holds_nothing_and_lets_nobody_go_on(bench: Bench) -> None:
    descriptors = open_descriptors()
    told = ordered(bench)

    bench.nursery.close()

    assert told.control.recv(2) == b""
    assert bench.processes[0].wait(10) == -9
    assert list(bench.nursery.look()) == []
    told.die()
    bench.lines.pop().close()
    assert open_descriptors() == descriptors


def test_a_nursery_that_is_closed_starts_no_other_template(bench: Bench) -> None:
    bench.begin()
    bench.nursery.close()

    assert bench.template_dies() == []
    bench.now += 1000

    assert list(bench.nursery.look()) == []
    assert len(bench.processes) == 1
    assert bench.said == []


def test_what_cannot_be_logged_on_a_full_disk_ends_nobody() -> None:
    code = (
        "import os; from ops.up.output import OwnLog; log = OwnLog(); log.say('early');"
        " log.begin(os.open('/dev/full', os.O_WRONLY)); log.say('late'); os._exit(7)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 7


def ordered(bench: Bench) -> Told:
    """Return an order that the template has got and nobody has reported on."""
    bench.begin()
    bench.say(ready="low")
    list(bench.nursery.look())
    assert bench.hear() == {"on": True}
    assert bench.nursery.take(order())
    told = bench.hear()
    assert isinstance(told, Told)
    return told


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
