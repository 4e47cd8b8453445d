"""Keeps the leases of attempts at work, and tells the ledger that this process lives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from workers.contract.states import State
from workers.indexing.ledger import Claim, Ledger

log = structlog.get_logger()

BEAT_S = 5.0
RENEWALS_PER_LEASE = 4


class Leases:
    """Renews every lease that is held, from one thread, for as long as the process lives.

    A process that is frozen does not renew; its documents go to others, and its token keeps its late writes out.
    """

    def __init__(self, ledger: Ledger, beat: Callable[[], None]) -> None:
        self._ledger = ledger
        self._beat = beat
        self._held: dict[str, Claim] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        """Start renewing."""
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing; what is still held runs out by itself."""
        self._stop.set()
        self._thread.join(timeout=2)

    def give_back(self) -> None:
        """Let others have what this process has not finished: it ends, and its documents need not wait for its leases.

        What was sent last may still arrive, so the ledger has each of them looked at again once it must have.
        """
        with self._lock:
            held = list(self._held.values())
        for claim in held:
            claim.deadline.end()
            try:
                self._ledger.give_back(
                    claim,
                    state=State.QUEUED,
                    reason="Its index worker was stopped; the next one goes on.",
                    error_class=None,
                    retry_in_s=0.0,
                    counted=False,
                )
            except SQLAlchemyError as exc:  # its lease runs out by itself
                log.warning("lease.not_given_back", document=claim.document_id, error=type(exc).__name__)

    @contextmanager
    def kept(self, *claims: Claim) -> Iterator[None]:
        """Keep ``claims`` alive for the length of the block."""
        with self._lock:
            self._held |= {claim.document_id: claim for claim in claims}
        try:
            yield
        finally:
            with self._lock:
                for claim in claims:
                    self._held.pop(claim.document_id, None)

    def _run(self) -> None:
        renew_s = self._ledger.lease_s / RENEWALS_PER_LEASE
        beat_s = min(BEAT_S, renew_s)
        since_renewal = 0.0
        while True:  # the first beat at once: whoever looks right after the start sees who is there
            try:
                self._beat()
                if since_renewal >= renew_s:
                    since_renewal = 0.0
                    with self._lock:
                        held = list(self._held.values())
                    if held:
                        self._ledger.renew(held)
            except SQLAlchemyError as exc:  # the ledger is busy or away: the next beat tries again
                log.warning("lease.not_renewed", error=type(exc).__name__)
            if self._stop.wait(beat_s):
                return
            since_renewal += beat_s


class Tally:
    """Adds figures up in memory and hands them to the ledger now and then, instead of one commit per document."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._amounts: dict[str, float] = {}

    def add(self, **amounts: float) -> None:
        """Add to named figures (``stage__parse__seconds=0.2``)."""
        with self._lock:
            for name, amount in amounts.items():
                self._amounts[name] = self._amounts.get(name, 0.0) + amount

    def take(self) -> dict[str, Any]:
        """Return what has been added since the last call."""
        with self._lock:
            taken, self._amounts = self._amounts, {}
        return taken
