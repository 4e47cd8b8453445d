"""Keeps one thread of an index worker free of bulk documents, so that an edit never waits behind a backfill.

Celery's threads take from the queues in turn, whatever they are at.  Without this, as many long bulk documents as there
are threads hold up every edit until one of them is done.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 0.25
"""How long a bulk hint waits for a place before edits are looked for again: an edit's longest wait here."""
TURNS = 8
"""How often it does so before it goes back to the end of its queue: whatever else waits there has its turn as well."""


class BulkLane:
    """Places for bulk documents: all of ``threads`` but one, and always at least one."""

    def __init__(self, threads: int) -> None:
        self._places = threading.BoundedSemaphore(max(1, threads - 1))

    @contextmanager
    def place(self) -> Iterator[bool]:
        """Hold a place for the length of the block; False when there was none."""
        taken = self._places.acquire(timeout=PATIENCE_S)
        try:
            yield taken
        finally:
            if taken:
                self._places.release()
