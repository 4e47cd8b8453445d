"""Whatever people do to files and machines do to workers, a drained product ends equal to its files: over real parts.

What people do (create, edit, append, save atomically, rename, move a tree, delete, duplicate, touch, revert) and what
machines do (a worker dies or freezes, a message comes twice or never, an audit repairs) is each a rule that finds
something to do, or makes it.  Real are the files, the watcher with the kernel's events, the ledger,
Valkey with Celery's messages in it, the index worker's functions, Qdrant's engine behind its REST API and an endpoint
behind OpenAI's.  Chosen by the test are only time and order: when a hint is taken from the queue, when a lease is over,
at which call a worker dies or freezes.
`test_convergence.py` asks the same of the protocol alone, much faster.

Run it longer with: UPWELL_TEST_EXAMPLES=500 python -m pytest tests/property/test_whole_product.py
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from qdrant_client import models as m
from sqlalchemy import select

from producers.listing import FilesOnDisk
from producers.roots import Root
from producers.settings import WatcherSettings
from producers.watch import Watcher
from tests.support.endpoint import Endpoint, Failure
from tests.support.fuse import Fuse, Moment
from tests.support.product import RECIPE, SOURCE, Product
from workers.adapters.qdrant_audit import QdrantAudit
from workers.contract import broker
from workers.contract.broker import Hints, make_celery
from workers.contract.identity import document_id
from workers.contract.messages import EmbeddingsPending, LookAtDocument, LookAtDocuments, Message, Queue, decode
from workers.contract.schema import documents, processes
from workers.housekeeping.auditor import Auditor
from workers.housekeeping.docket import Docket
from workers.housekeeping.sweep import Waiting, sweep

EXAMPLES = int(os.environ.get("UPWELL_TEST_EXAMPLES", "15"))
BLOCKS = (
    "# Red\n\nOne fish swims.",
    "# Blue\n\nTwo fish rest.",
    "# Old\n\nNo fish is left.",
    "A word without a heading.",
)
NAMES = ("a.md", "b.md", "one/c.md", "one/d.md", "two/c.md")
FOLDERS = ("one", "two", "three")
names = st.sampled_from(NAMES)
texts = st.lists(st.sampled_from(BLOCKS), max_size=4).map("\n\n".join)
calls = st.integers(0, 9)
moments = st.sampled_from(("before", "after"))
DEEDS = {
    "created", "edited", "appended", "saved atomically", "renamed", "tree moved", "deleted", "duplicated", "touched",
    "reverted", "killed", "written late", "frozen", "redelivered", "broker emptied", "endpoint away", "watcher killed",
    "audited",
}  # fmt: skip
"""What the rules come to."""


class WholeProduct(RuleBasedStateMachine):
    """The servers are set by the test that runs the machine."""

    qdrant_url: str
    valkey_url: str
    collection: str
    endpoint: Endpoint
    done: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="upwell-whole-"))
        self.prefix = f"test-{uuid4().hex}:"
        self.fuse = Fuse()
        self.app = make_celery(self.valkey_url, self.prefix, "producer")
        self.hints = Hints(self.app)
        self.broker = redis.Redis.from_url(self.valkey_url)
        self.endpoint.reset()
        self.endpoint.behaviour.failures.clear()
        self.product = Product(
            self.home, self.qdrant_url, self.collection, self.endpoint, hints=self.hints, wrap=self.fuse.wrap
        )
        self.root = self.product.root
        self.before: dict[Path, str] = {}
        self.cookies = 0
        self.may_repeat = 0
        self._start_watcher()

    def teardown(self) -> None:
        self.fuse.thaw()
        self._stop_watcher()
        self.product.client.delete(self.collection, m.FilterSelector(filter=m.Filter()), wait=True)
        self.product.close(keep_collection=True)
        self.app.close()
        self.broker.delete(*[f"{self.prefix}{queue}" for queue in Queue])
        self.broker.close()
        shutil.rmtree(self.home)

    # ------------------------------------------------------------------ what people do

    @rule(name=names, text=texts)
    def write(self, name: str, text: str) -> None:
        path = self._remembered(name)
        self.done["edited" if path.exists() else "created"] += 1
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    @rule(name=names, text=texts)
    def save_atomically(self, name: str, text: str) -> None:
        path = self._remembered(name)
        path.parent.mkdir(exist_ok=True)
        draft = path.with_name(f".{path.name}.swp")
        draft.write_text(text)
        self.done["saved atomically"] += path.exists()
        draft.replace(path)

    @rule(name=names, block=st.sampled_from(BLOCKS))
    def append(self, name: str, block: str) -> None:
        self._there(name)
        with self._remembered(name).open("a") as file:
            file.write("\n\n" + block)
        self.done["appended"] += 1

    @rule(name=names)
    def delete(self, name: str) -> None:
        self._there(name)
        self._remembered(name).unlink()
        self.done["deleted"] += 1

    @rule(old=names, new=names)
    def rename(self, old: str, new: str) -> None:
        if old != new:
            (self.root / new).parent.mkdir(exist_ok=True)
            self._there(old).replace(self.root / new)
            self.done["renamed"] += 1

    @rule(old=st.sampled_from(FOLDERS), new=st.sampled_from(FOLDERS))
    def move_tree(self, old: str, new: str) -> None:
        """To another name, or below what has that name already."""
        target = self.root / new
        target = target / old if target.exists() else target
        if old != new and not target.exists():
            self._there(f"{old}/c.md")
            (self.root / old).replace(target)
            self.done["tree moved"] += 1

    @rule(old=names, new=names)
    def duplicate(self, old: str, new: str) -> None:
        if old != new:
            (self.root / new).parent.mkdir(exist_ok=True)
            shutil.copy2(self._there(old), self.root / new)
            self.done["duplicated"] += 1

    @rule(name=names)
    def touch(self, name: str) -> None:
        os.utime(self._there(name))
        self.done["touched"] += 1

    @rule(name=names)
    def revert(self, name: str) -> None:
        path = self.root / name
        if path in self.before and path.parent.exists():
            self.done["reverted"] += not path.exists() or path.read_text() != self.before[path]
            path.write_text(self.before[path])

    # ------------------------------------------------------------------ what the system does

    @rule(place=st.integers(0, 9), again=st.booleans())
    def a_message_is_taken(self, place: int, again: bool) -> None:
        """From anywhere in the queue, as if others had been late; and perhaps it comes again."""
        message = self._take_work(place, again=again)
        if message is not None:
            self.done["redelivered"] += again
            self._handle(message)

    @rule(place=st.integers(0, 9), after=calls, moment=moments)
    def the_worker_is_killed(self, place: int, after: int, moment: Moment) -> None:
        message = self._take_work(place)
        if message is not None:
            with self._paying_twice_is_nobodys_fault():
                self.done["killed"] += self.fuse.kill_at(after, moment, lambda: self._handle(message))

    @rule(place=st.integers(0, 9), after=st.integers(0, 3))
    def the_worker_is_killed_with_a_write_on_its_way(self, place: int, after: int) -> None:
        message = self._take_work(place)
        if message is not None:
            with self._paying_twice_is_nobodys_fault():
                self.done["killed"] += self.fuse.kill_at(after, "on its way", lambda: self._handle(message))

    @rule(place=st.integers(0, 9), after=calls)
    def the_worker_freezes(self, place: int, after: int) -> None:
        message = self._take_work(place)
        if message is not None:
            with self._paying_twice_is_nobodys_fault():
                self.fuse.freeze_at(after, lambda: self._handle(message))

    @rule()
    def the_frozen_go_on(self) -> None:
        self.done["frozen"] += self.fuse.asleep
        with self._paying_twice_is_nobodys_fault():
            self.fuse.thaw()

    @rule(name=names, first=texts, then=texts, after=calls)
    def a_file_changes_while_a_worker_is_at_it(self, name: str, first: str, then: str, after: int) -> None:
        """The worker has read it, and has perhaps stored some of it."""
        self.write(name, first)
        self.product.scan()
        self.fuse.freeze_at(after, lambda: self.product.worker.look(document_id(SOURCE, name)))
        self.write(name, then)
        self.the_frozen_go_on()

    @rule()
    def late_writes_arrive(self) -> None:
        self._late_writes_land()

    @rule()
    def leases_end(self) -> None:
        self.product.let_leases_end()

    @rule()
    def the_sweep_comes_by(self) -> None:
        sweep(self.product.ledger, self.hints, RECIPE, limit=100, waiting=self._waiting())

    @rule(deep=st.booleans())
    def an_audit_repairs(self, deep: bool) -> None:
        """In the middle of everything, and with no patience: what it takes for a difference may just be under way."""
        product = self.product
        docket = Docket(product.engine)
        docket.ask("person", repair=True, deep=deep)
        index = QdrantAudit(product.client, product.collection, product.checker.qdrant_url)
        notes, now = self.home / "notes", {"interval_s": 0.0, "patience_s": 0.0, "settle_s": 0.0}
        auditor = Auditor(product.engine, lambda: index, FilesOnDisk(), self.hints, notes, **now)
        report = auditor.turn()
        assert report is not None
        assert "failed" not in report
        self.done["audited"] += 1

    @rule()
    def the_broker_loses_everything(self) -> None:
        self.done["broker emptied"] += self._length() > 0
        self.broker.delete(*[f"{self.prefix}{queue}" for queue in Queue])

    @rule()
    def the_endpoint_is_away_for_a_request(self) -> None:
        self.endpoint.behaviour.failures.append(Failure(503))
        self.done["endpoint away"] += 1

    @rule(away=st.booleans(), name=names, text=texts)
    def the_watcher_is_killed(self, away: bool, name: str, text: str) -> None:
        """And perhaps something changes while it is away."""
        self._stop_watcher()
        self.done["watcher killed"] += away
        if away:
            self.write(name, text)
        self._start_watcher()

    @rule()
    def drain(self) -> None:
        """Everything heals: then the index is equal to the files."""
        self._notice_everything()
        self.endpoint.behaviour.failures.clear()
        self.the_frozen_go_on()
        self._late_writes_land()
        for _ in range(40):
            self.product.let_time_pass()
            sweep(self.product.ledger, self.hints, RECIPE, limit=100, waiting=Waiting())
            if not self._length():
                break
            while (message := self._take(0)) is not None:
                self._handle(message)
        report = self.product.checker.check()
        assert not report.findings, str(report)
        assert self.endpoint.counters.repeated <= self.may_repeat, "a text was paid for twice"

    # ------------------------------------------------------------------ helpers

    @contextmanager
    def _paying_twice_is_nobodys_fault(self) -> Iterator[None]:
        """What is paid for in the block may be paid for again: whoever paid dies, or was given up."""
        before = self.endpoint.counters.paid_texts
        yield
        self.may_repeat += self.endpoint.counters.paid_texts - before

    def _late_writes_land(self) -> None:
        self.done["written late"] += len(self.fuse.late)
        self.fuse.land()

    def _there(self, name: str) -> Path:
        """Return the path of a file; if it was not there, it is from now on."""
        path = self.root / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_text(BLOCKS[len(name) % len(BLOCKS)])
        return path

    def _remembered(self, name: str) -> Path:
        path = self.root / name
        if path.exists():
            self.before[path] = path.read_text()
        return path

    def _length(self) -> int:
        return sum(self._lengths().values())

    def _waiting(self) -> Waiting:
        lengths = self._lengths()
        return Waiting(lengths[Queue.LIVE], lengths[Queue.BULK])

    def _lengths(self) -> dict[Queue, int]:
        return {queue: int(self.broker.llen(f"{self.prefix}{queue}")) for queue in Queue}  # type: ignore[arg-type]

    def _take(self, place: int, *, again: bool = False) -> Message | None:
        """Take a message off a queue, as Celery does; ``again``: it stays there as well."""
        waiting = [(queue, raw) for queue in Queue for raw in self.broker.lrange(f"{self.prefix}{queue}", 0, -1)]
        if not waiting:
            return None
        queue, raw = waiting[place % len(waiting)]
        if not again:
            self.broker.lrem(f"{self.prefix}{queue}", 1, raw)
        [arguments, _, _] = json.loads(base64.b64decode(json.loads(raw)["body"]))
        return decode(arguments[0])

    def _take_work(self, place: int, *, again: bool = False) -> Message | None:
        """Take a message; if none waits, an edit, a rescan and a sweep see to it that one does."""
        if not self._length():
            self.append(NAMES[place % len(NAMES)], BLOCKS[place % len(BLOCKS)])
            self.product.scan()
            self.the_sweep_comes_by()
        return self._take(place, again=again)

    def _handle(self, message: Message) -> None:
        match message:
            case LookAtDocument():
                self.product.worker.look(str(message.document_id))
            case LookAtDocuments():
                self.product.worker.look_all([str(key) for key in message.document_ids])
            case EmbeddingsPending():
                self.product.worker.embed()

    def _start_watcher(self) -> None:
        patience: dict[str, Any] = {
            "settle_closed": 0.01,
            "settle_quiet": 0.05,
            "deletion_wait": 0.02,
            "settle_busiest": 0.05,
        }
        self.watcher = Watcher(
            WatcherSettings(**patience, rescan_interval=3600),
            [Root(SOURCE, self.root)],
            self.product.engine,
            lambda keys, bulk: self.hints.look(keys, bulk=bulk) and None,
        )
        self.watching = threading.Thread(target=self.watcher.run, name="watcher")
        self.watching.start()

    def _stop_watcher(self) -> None:
        self.watcher.stop()
        self.watching.join()

    def _notice_everything(self) -> None:
        """Wait until the watcher has seen all that was done: events come in order, so a last one is the sign."""
        self.cookies += 1
        cookie = self.root / "zz-cookie.txt"
        cookie.write_text(f"{self.cookies}")
        mark = cookie.stat().st_mtime_ns
        seen = select(documents.c.seen_mtime_ns).where(documents.c.path == cookie.name)
        _until(lambda: self._scalar(seen) == mark)
        beat = select(processes.c.info).where(processes.c.kind == "watcher")

        def at_rest() -> bool:
            told = json.loads(self._scalar(beat) or '{"dirty": 1}')
            return not told["dirty"] and not told["scanning"]

        _until(at_rest)

    def _scalar(self, query: Any) -> Any:
        with self.product.engine.connect() as connection:
            return connection.scalar(query)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the watcher does not see what was done"
        time.sleep(0.01)


@pytest.fixture
def machine(qdrant_url, valkey_url, collection, monkeypatch):
    """The machine over this session's servers, which counts in ``done`` what it came to."""
    monkeypatch.setattr(broker, "SPREAD", 1)  # a handful of files is a backfill worth walking in company
    with Endpoint() as endpoint:
        servers = {"qdrant_url": qdrant_url, "valkey_url": valkey_url, "collection": collection, "endpoint": endpoint}
        yield type("WholeProduct", (WholeProduct,), servers | {"done": Counter()})


def test_the_index_equals_the_files_after_each_deed_alone(machine):
    """What the search below may come to is possible, each deed at least once, whatever it draws."""
    state = machine()
    deeds: list[Callable[[], object]] = [
        lambda: state.write("a.md", BLOCKS[0]),
        lambda: state.write("a.md", BLOCKS[1]),
        lambda: state.append("a.md", BLOCKS[2]),
        lambda: state.save_atomically("a.md", BLOCKS[3]),
        lambda: state.revert("a.md"),
        lambda: state.touch("a.md"),
        lambda: state.duplicate("a.md", "one/c.md"),
        lambda: state.rename("a.md", "b.md"),
        lambda: state.move_tree("one", "three"),
        lambda: state.a_message_is_taken(0, True),
        lambda: state.the_worker_is_killed(1, 2, "after"),
        lambda: state.the_worker_is_killed_with_a_write_on_its_way(0, 0),
        lambda: state.the_worker_freezes(1, 3),
        lambda: (state.append("b.md", BLOCKS[0]), state._notice_everything(), state.the_broker_loses_everything()),
        lambda: (state.append("b.md", BLOCKS[1]), state.the_endpoint_is_away_for_a_request()),
        lambda: state.the_watcher_is_killed(True, "b.md", BLOCKS[3]),
        lambda: state.an_audit_repairs(True),
        lambda: state.delete("b.md"),
    ]
    try:
        for deed in deeds:
            deed()
            state.drain()
    finally:
        state.teardown()

    assert DEEDS - {deed for deed, times in machine.done.items() if times} == set()


@pytest.mark.slow
@pytest.mark.timeout(600 if EXAMPLES <= 25 else 7200)
def test_the_index_equals_the_files_whatever_happened(machine):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            derandomize=EXAMPLES <= 25,
            print_blob=True,
            phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
