"""The code keeps the promises of its model: every fault at every write of every history, on pipeline and ledger.

The histories are the model's.  At each call that writes to the index or ends an attempt in the ledger, in turn: the
worker is killed before it, or after it; its answer is lost, whether it was applied or not; or it lands only after the
successor has committed.  After each write somebody reads.  Then the machine heals, and the index must be the file.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from tests.property.protocol_model import HISTORIES
from tests.support.workbench import Workbench
from workers.errors import IndexUnavailable
from workers.indexing.deadline import LeaseLost

COMMITS = {"commit", "commit_all", "confirm"}
WRITES = COMMITS | {"put", "put_all", "restate", "restamp", "drop", "drop_document", "drop_documents"}
FAULTS = ("killed before", "killed after", "lost, applied", "lost, not applied", "late, killed", "late, failed")
TEXTS = {"a": "alpha", "b": "beta", "c": "gamma"}


class Killed(BaseException):
    """The worker is gone."""


class Faulty:
    """Passes calls on, until the one that the fault is for; tells ``reader`` of each write that was applied."""

    def __init__(self, target: object, fault: Fault, reader: Callable[[], None]) -> None:
        self._target, self._fault, self._reader = target, fault, reader

    def __getattr__(self, name: str):
        method = getattr(self._target, name)
        if name not in WRITES:
            return method

        def call(*args):
            answer = self._fault.meets(lambda: method(*args), ledger=name in COMMITS)
            self._reader()
            return answer

        return call


class Fault:
    """One fault at the write number ``at``, counted from when it is armed."""

    def __init__(self) -> None:
        self.kind: str | None = None
        self.left = 0
        self.late: Callable[[], object] | None = None

    def arm(self, kind: str, at: int) -> None:
        self.kind, self.left = kind, at

    def meets(self, write: Callable[[], object], *, ledger: bool) -> object:
        self.left -= 1
        if self.kind is None or self.left >= 0:
            return write()
        kind, self.kind = self.kind, None
        if kind.startswith("late"):
            self.late = write
        elif kind in ("killed after", "lost, applied"):
            write()
        if kind.startswith("killed") or kind == "late, killed":
            raise Killed
        raise OperationalError("commit", {}, Exception("no answer")) if ledger else IndexUnavailable("No answer.")


class Machine(Workbench):
    """One file, one worker, one faulty index."""

    def __init__(self, home: Path, history: tuple[str, ...]) -> None:
        self.history, self.fault = history, Fault()
        self.place, self.since = -1, -1
        super().__init__(home, wrap=lambda port: Faulty(port, self.fault, self.read), durable=False)

    def saved(self) -> tuple[bytes, dict, int, int]:
        """Return all there is, to come back to."""
        self.engine.dispose()
        return (self.home / "ledger.db").read_bytes(), copy.deepcopy(self.index.points), self.place, self.since

    def restored(self, saved: tuple[bytes, dict, int, int]) -> None:
        """Come back to what was saved."""
        self.engine.dispose()
        ledger, points, self.place, self.since = saved
        (self.home / "ledger.db").write_bytes(ledger)
        self.index.points.clear()
        self.index.points.update(copy.deepcopy(points))
        self.fault.kind = self.fault.late = None
        self.worker.index_breaker.succeeded()

    def change(self) -> None:
        """The file takes its next content, and the watcher notices."""
        self.place += 1
        path = self.root / "a.txt"
        path.unlink(missing_ok=True)
        if content := self.history[self.place]:
            path.write_text("\n\n".join(TEXTS[chunk] for chunk in content))
        self.key = self.see("a.txt")

    def read(self) -> None:
        """A reader finds a complete version, none older than the one that was there when all was well."""
        if self.since < 0:
            return
        found = self.chunks()
        versions = [set(content) for content in self.history[self.since : self.place + 1]]
        assert any(version <= found for version in versions), f"{found} is no complete version of {versions}"
        assert set.intersection(*versions) <= found

    def chunks(self) -> set[str]:
        names = {text: chunk for chunk, text in TEXTS.items()}
        return {names[text] for text in self.index.contents(self.key)}

    def look(self) -> bool:
        """Take the hint; tell whether the worker lived."""
        try:
            self.worker.look(self.key)
        except Killed:
            return False
        return True

    def successor(self) -> None:
        """The lease of whoever died runs out, waiting times pass, and somebody looks, undisturbed."""
        self.fault.kind = None
        self.worker.index_breaker.succeeded()
        self.expire()
        self.look()

    def heal(self) -> None:
        """Verifies come due and are done."""
        for _ in range(5):
            if not self.let_verifies_come_due():
                break
            self.successor()
        self.worker.embed()

    def settled(self) -> None:
        """At rest the index is the file, and the ledger says so."""
        wanted = self.history[self.place]
        assert self.index.contents(self.key) == [TEXTS[chunk] for chunk in wanted]
        self.check_at_rest()
        assert {point["version"] for point in self.index.points.values()} <= {self.row(self.key).version}
        self.since = self.place


def faults(home: Path, history: tuple[str, ...], steps: int) -> Iterator[Machine]:
    """Yield a machine after its change number ``steps`` + 1 met a fault at its first write, then its second, ..."""
    machine = Machine(home, history)
    for _ in range(steps):
        machine.change()
        machine.look()
        machine.worker.embed()
        machine.settled()
    before = machine.saved()
    for kind in FAULTS:
        for at in range(20):
            machine.restored(before)
            machine.change()
            machine.fault.arm(kind, at)
            machine.look()
            if machine.fault.kind is not None:
                assert at > 0  # some write was met
                break
            yield machine
    machine.engine.dispose()


@pytest.mark.parametrize("history", HISTORIES)
def test_whatever_happens_at_any_write_readers_see_no_gap_and_the_index_ends_as_the_file(tmp_path, history):
    for steps in range(len(HISTORIES[history])):
        (home := tmp_path / str(steps)).mkdir()
        for machine in faults(home, HISTORIES[history], steps):
            machine.successor()
            if machine.fault.late is not None:
                with suppress(LeaseLost):  # the commit of an overtaken attempt is refused
                    machine.fault.late()
                machine.read()
            machine.heal()
            machine.settled()


@pytest.mark.parametrize("history", [name for name, contents in HISTORIES.items() if len(contents) > 1])
def test_a_further_edit_after_any_fault_changes_none_of_that(tmp_path, history):
    """The next content comes before the successor: what the dead attempt wrote is of a version that nobody wants."""
    contents = HISTORIES[history]
    for steps in range(len(contents) - 1):
        (home := tmp_path / str(steps)).mkdir()
        for machine in faults(home, contents, steps):
            machine.change()
            machine.successor()
            if machine.fault.late is not None:
                with suppress(LeaseLost):
                    machine.fault.late()
                machine.read()
            machine.heal()
            machine.settled()
