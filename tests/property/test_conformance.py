"""The code keeps the promises of its model: every fault at every write of every history, on pipeline and ledger.

The histories are the model's.  At each call that writes to the index or ends an attempt in the ledger, in turn: the
worker is killed before it, or after it; its answer is lost, whether it was applied or not; or it lands only after the
successor has committed.  After each write somebody reads.  Then the machine heals, and the index must be the file.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import event, select, update
from sqlalchemy.exc import OperationalError

from tests.property.protocol_model import HISTORIES
from tests.support.memory import CountingEmbedder, LineParser, MemoryIndex, RecordedHints
from workers.contract import schema
from workers.contract.intake import Observation, Stat, observe, register_source
from workers.contract.schema import documents
from workers.contract.states import FINAL
from workers.errors import IndexUnavailable
from workers.indexing.breaker import Breaker
from workers.indexing.chunk import ChunkOptions
from workers.indexing.deadline import LeaseLost
from workers.indexing.embed import Embedding, Limits
from workers.indexing.leases import Leases, Tally
from workers.indexing.ledger import Ledger
from workers.indexing.recipe import Space
from workers.indexing.reconcile import Pipeline
from workers.indexing.worker import IndexWorker

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


class Machine:
    """One file, one worker, one faulty index."""

    def __init__(self, home: Path, history: tuple[str, ...]) -> None:
        self.history, self.home = history, home
        self.engine = schema.open_ledger(f"sqlite:///{home}/ledger.db")
        self.engine.dispose()

        @event.listens_for(self.engine, "connect")
        def not_durable(connection, _record) -> None:  # nothing here survives the test anyway
            connection.execute("PRAGMA synchronous=OFF")

        register_source(self.engine, "docs", "folder", str(home))
        self.index, self.fault = MemoryIndex(), Fault()
        ledger = Ledger(self.engine, "worker")
        space, tally = Space("model", 3), Tally()
        pipeline = Pipeline(
            Faulty(ledger, self.fault, self.read),
            Faulty(self.index, self.fault, self.read),
            LineParser(),
            space,
            "c",
            "recipe",
            ChunkOptions(min_chars=1),
            max_bytes=10_000,
        )
        embedding = Embedding(ledger, self.index, CountingEmbedder(), space, Limits(9, 9000, 1), Breaker(), tally)
        self.worker = IndexWorker(ledger, pipeline, embedding, Leases(ledger, lambda: None), RecordedHints(), tally)
        self.place, self.since = -1, -1

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
        path = self.home / "a.txt"
        path.unlink(missing_ok=True)
        if content := self.history[self.place]:
            path.write_text("\n\n".join(TEXTS[chunk] for chunk in content))
        found = path.stat() if path.exists() else None
        stat = Stat(found.st_size, found.st_mtime_ns, found.st_ino) if found else None
        seen = Observation("docs", os.fsencode("a.txt"), stat, touched=True)
        observe(self.engine, [seen])
        self.key = seen.document_id

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
        with self.engine.begin() as connection:
            connection.execute(update(documents).where(documents.c.lease_until.is_not(None)).values(lease_until=1.0))
            connection.execute(update(documents).values(next_try_at=None))
        self.look()

    def heal(self) -> None:
        """Verifies come due and are done."""
        for _ in range(5):
            with self.engine.begin() as connection:
                waits = documents.c.verify_at.is_not(None)
                if not connection.execute(update(documents).where(waits).values(verify_at=1.0)).rowcount:
                    break
            self.successor()
        self.worker.embed()

    def settled(self) -> None:
        """At rest the index is the file, and the ledger says so."""
        wanted = self.history[self.place]
        assert self.index.contents(self.key) == [TEXTS[chunk] for chunk in wanted]
        with self.engine.connect() as connection:
            row = connection.execute(select(documents)).one()
        assert row.state in {str(state) for state in FINAL}, row.reason
        assert (row.lease_until, row.verify_at, row.indexed_generation) == (None, None, row.desired_generation)
        assert {point["version"] for point in self.index.points.values()} <= {row.version}
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
