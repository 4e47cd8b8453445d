"""A watcher in a thread over a folder of its own, and the questions that tests ask of its ledger."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select

from producers.follow import Follower
from producers.roots import Root
from producers.settings import WatcherSettings
from producers.watch import Watcher
from workers.contract import schema
from workers.contract.schema import documents, sources
from workers.contract.states import State
from workers.indexing.ledger import Indexed, Ledger


class Following:
    """One folder, one ledger, and a watcher that can be started and stopped."""

    def __init__(self, home: Path, *, busy_timeout_s: float = 10.0, **settings: Any) -> None:
        self.root = home / "docs"
        self.root.mkdir(exist_ok=True)
        self.engine = schema.open_ledger(f"sqlite:///{home}/ledger.db", busy_timeout_s=busy_timeout_s)
        self.settings = WatcherSettings(**({"settle_quiet": 0.2, "brake_count": 20} | settings))
        self.hinted: list[str] = []
        self.watcher: Watcher | None = None
        self.thread: threading.Thread | None = None

    def start(self, *, scanned: bool = True) -> Following:
        """Start to watch; ``scanned``: and wait for the end of the first scan and of what follows from it."""
        before = self.scanned_at()
        root = Root("docs", self.root)
        self.watcher = Watcher(self.settings, [root], self.engine, lambda ids, _bulk: self.hinted.extend(ids))
        self.thread = threading.Thread(target=self.watcher.run, daemon=True)
        self.thread.start()
        if scanned:
            self.until(lambda: self.scanned_at() != before and self.follower.dirty == 0)
        return self

    def stop(self) -> None:
        """Stop to watch; the ledger stays."""
        if self.watcher is not None and self.thread is not None:
            self.watcher.stop()
            self.thread.join(5)
            assert not self.thread.is_alive()

    def close(self) -> None:
        """Stop to watch, and leave the ledger."""
        self.stop()
        self.engine.dispose()

    @property
    def follower(self) -> Follower:
        assert self.watcher is not None
        return self.watcher.followers["docs"]

    def scan(self) -> None:
        """A full scan, and the time for what follows from it."""
        before = self.scanned_at()
        self.follower.need_scan()
        self.until(lambda: self.scanned_at() != before and self.follower.dirty == 0)

    def rows(self) -> dict[str, Any]:
        with schema.reading(self.engine).connect() as connection:
            return {row.path: row for row in connection.execute(select(documents))}

    def wanted(self) -> set[str]:
        """Return the paths whose documents should be there and are not held."""
        return {path for path, row in self.rows().items() if row.wanted == "present" and row.state != State.HELD}

    def source(self) -> Any:
        with schema.reading(self.engine).connect() as connection:
            return connection.execute(select(sources)).one_or_none()

    def scanned_at(self) -> float | None:
        source = self.source()
        return None if source is None else source.scanned_at

    def alarm(self) -> str:
        source = self.source()
        return "" if source is None else source.alarm or ""

    def until(self, condition: Callable[[], Any], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (sorted(self.rows())[:100], self.source())
            time.sleep(0.01)

    def index_all(self) -> None:
        """What index workers would do."""
        ledger = Ledger(self.engine, "worker")
        for row in self.rows().values():
            claim = ledger.claim(row.id, "r")
            if claim is not None:
                done = State.READY if claim.wanted == "present" else State.DELETED
                ledger.commit(claim, Indexed(done, "v", "r", "c", chunks=1))


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, where the tests have them: root reads everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
