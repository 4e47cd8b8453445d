"""However files change and hints are delayed, doubled, lost or interrupted, a drained queue leaves index == files.

The pipeline, the ledger and the files are real; index and endpoint are the in-memory ones whose promises
tests/contract keeps equal to the real ones.  Text is drawn from a few blocks, so that chunks repeat within and between
documents; draining is a rule of its own, so that the check runs often.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import select, update

from tests.support.memory import CountingEmbedder, LineParser, MemoryIndex, RecordedHints
from workers.contract import schema
from workers.contract.identity import document_id
from workers.contract.intake import Observation, Stat, observe, register_source
from workers.contract.schema import documents
from workers.contract.states import FINAL
from workers.indexing.breaker import Breaker
from workers.indexing.chunk import ChunkOptions
from workers.indexing.embed import Embedding, Limits
from workers.indexing.leases import Leases, Tally
from workers.indexing.ledger import Ledger
from workers.indexing.recipe import Space
from workers.indexing.reconcile import Pipeline
from workers.indexing.worker import IndexWorker

BLOCKS = ("one fish", "two fish", "red fish", "blue fish")
NAMES = ("a.txt", "b.txt", "sub/c.txt")
names = st.sampled_from(NAMES)
texts = st.lists(st.sampled_from(BLOCKS), max_size=4).map("\n\n".join)


class Killed(BaseException):
    """The worker is gone, in the middle of what it did."""


class Mortal:
    """Passes calls on to the index until its time has come; sometimes the last call is still applied."""

    def __init__(self, index: MemoryIndex) -> None:
        self._index = index
        self.calls_left: int | None = None
        self.applied = False

    def __getattr__(self, name: str):
        method = getattr(self._index, name)

        def call(*args):
            if self.calls_left is not None:
                if self.calls_left == 0:
                    self.calls_left = None
                    if self.applied:
                        method(*args)
                    raise Killed
                self.calls_left -= 1
            return method(*args)

        return call


class Convergence(RuleBasedStateMachine):
    """Truth and thrift of one worker's protocol under everything that a machine can do to it."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="upwell-convergence-"))
        self.root = self.home / "docs"
        (self.root / "sub").mkdir(parents=True)
        self.engine = schema.open_ledger(f"sqlite:///{self.home}/ledger.db")
        register_source(self.engine, "docs", "folder", str(self.root))
        self.ledger = Ledger(self.engine, "worker")
        self.index, self.embedder, self.hints = MemoryIndex(), CountingEmbedder(), RecordedHints()
        self.mortal = Mortal(self.index)
        self.parser = LineParser()
        space, tally = Space("model", 3), Tally()
        pipeline = Pipeline(
            self.ledger, self.mortal, self.parser, space, "c", "recipe", ChunkOptions(min_chars=1), max_bytes=10_000
        )
        embedding = Embedding(self.ledger, self.mortal, self.embedder, space, Limits(3, 1000, 1), Breaker(), tally)
        self.worker = IndexWorker(
            self.ledger, pipeline, embedding, Leases(self.ledger, lambda: None), self.hints, tally
        )
        self.unseen: set[str] = set()
        self.ever: set[str] = set()

    def teardown(self) -> None:
        self.engine.dispose()
        shutil.rmtree(self.home)

    # ------------------------------------------------------------------ what people do

    @rule(name=names, text=texts)
    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)
        self._changed(name)

    @rule(name=names, text=texts)
    def save_atomically(self, name: str, text: str) -> None:
        draft = self.root / ".draft"
        draft.write_text(text)
        draft.replace(self.root / name)
        self._changed(name)

    @rule(name=names, block=st.sampled_from(BLOCKS))
    def append(self, name: str, block: str) -> None:
        with (self.root / name).open("a") as file:
            file.write("\n\n" + block)
        self._changed(name)

    @rule(name=names)
    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)
        self._changed(name)

    @rule(old=names, new=names)
    def rename(self, old: str, new: str) -> None:
        if (self.root / old).exists() and old != new:
            (self.root / old).replace(self.root / new)
            self._changed(old)
            self._changed(new)

    @rule(name=names)
    def touch(self, name: str) -> None:
        if (self.root / name).exists():
            os.utime(self.root / name)
            self._changed(name)

    # ------------------------------------------------------------------ what the system does

    @rule(name=names)
    def watcher_notices(self, name: str) -> None:
        self._see(name)

    @rule(name=names)
    def hint_arrives(self, name: str) -> None:
        """Early, late, doubled: all the same."""
        self.worker.look(document_id("docs", name))

    @rule()
    def embed_hint_arrives(self) -> None:
        self.worker.embed()

    @rule(name=names, calls=st.integers(0, 8), applied=st.booleans())
    def worker_is_killed_at_a_write(self, name: str, calls: int, applied: bool) -> None:
        self.mortal.calls_left, self.mortal.applied = calls, applied
        try:
            self.worker.look(document_id("docs", name))
            self.worker.embed()
        except Killed:
            pass
        self.mortal.calls_left = None

    @rule()
    def leases_expire(self) -> None:
        with self.engine.begin() as connection:
            held = documents.c.lease_until.is_not(None)
            connection.execute(update(documents).where(held).values(lease_until=1.0))
            connection.execute(update(documents).values(next_try_at=None, embed_lease_until=None))

    @rule()
    def drain(self) -> None:
        """Everything heals: the watcher rescans, waiting times pass, the sweep finds what is due."""
        for name in list(self.unseen):
            self._see(name)
        for _ in range(20):
            self.leases_expire()
            with self.engine.begin() as connection:
                due = documents.c.verify_at.is_not(None)
                connection.execute(update(documents).where(due).values(verify_at=1.0))
            work = self.ledger.due("recipe", 100)
            for key, _ in work:
                self.worker.look(key)
            self.worker.embed()
            if not work and not self.ledger.has_embeddings_due():
                break
        self.check()

    # ------------------------------------------------------------------ what must hold

    def check(self) -> None:
        for name in NAMES:
            key = document_id("docs", name)
            path = self.root / name
            wanted = [b for b in path.read_text().split("\n\n") if b.strip()] if path.exists() else []
            assert self.index.contents(key) == wanted, name
        assert all(point["embedded"] for point in self.index.points.values())
        with self.engine.connect() as connection:
            states = {row.state for row in connection.execute(select(documents.c.state))}
        assert states <= {str(state) for state in FINAL}, states

    @invariant()
    def no_text_is_ever_paid_for_twice(self) -> None:
        assert len(self.embedder.texts) == len(set(self.embedder.texts))

    def _changed(self, name: str) -> None:
        self.unseen.add(name)

    def _see(self, name: str) -> None:
        path = self.root / name
        found = path.stat() if path.exists() else None
        stat = Stat(found.st_size, found.st_mtime_ns, found.st_ino) if found else None
        observe(self.engine, [Observation("docs", os.fsencode(name), stat, touched=True)])
        self.unseen.discard(name)


def test_the_index_converges_and_nothing_is_paid_for_twice():
    run_state_machine_as_test(
        Convergence,
        settings=settings(
            max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
