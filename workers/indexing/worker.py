"""Takes one hint, makes one attempt, and decides what becomes of the document: done, later, or parked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy.exc import OperationalError

from workers.contract.broker import Hints
from workers.contract.states import State
from workers.errors import (
    IndexGone,
    IndexUnavailable,
    LedgerUnavailable,
    Outage,
    Permanent,
    SourceUnavailable,
    SourceUnsettled,
    Transient,
)
from workers.indexing.breaker import Breaker
from workers.indexing.deadline import LeaseLost
from workers.indexing.embed import Embedding
from workers.indexing.leases import Leases, Tally
from workers.indexing.ledger import MAX_ATTEMPTS, Claim, Ledger, backoff_s
from workers.indexing.reconcile import Outcome, Pipeline

log = structlog.get_logger()

UNSETTLED_S = 2.0
LIVE_FIRST = 16
"""Most live documents that are looked at before a message of a backfill."""
OUTAGE_S = 5.0
UNREADABLE_S = 30.0


@dataclass(frozen=True)
class IndexWorker:
    """What the Celery tasks call; it has never heard of Celery."""

    ledger: Ledger
    pipeline: Pipeline
    embedding: Embedding
    leases: Leases
    hints: Hints
    tally: Tally
    index_breaker: Breaker = field(default_factory=Breaker)
    """Open while Qdrant is away: documents stay queued instead of waiting, one after the other, for its timeout."""

    def look(self, document_id: str) -> Outcome | None:
        """Make one document true; None when there was nothing to do, or when it has to wait."""
        if not self.index_breaker.admits():
            return None  # Qdrant is away, or one of us is trying whether it is back; the sweep sends the hint again
        claim = self.ledger.claim(document_id, self.pipeline.recipe)
        if claim is None:
            return None
        started = time.monotonic()
        with self.leases.kept(claim):
            outcome = self._attempt(claim, lambda: self.pipeline.reconcile(claim))
        self.tally.add(stage__reconcile__seconds=time.monotonic() - started, stage__reconcile__count=1)
        if outcome is None:
            return None
        self._tell(outcome, started)
        if outcome.moved_on:
            self.hints.look([document_id], bulk=claim.bulk)
        if outcome.vectors_pending and not outcome.embeds_here:
            self.hints.embed()
        return outcome

    def look_live(self) -> None:
        """Make true what people are waiting for: their documents must not queue up behind a backfill."""
        for key in self.ledger.live_due(LIVE_FIRST):
            self.look(key)

    def look_all(self, document_ids: Sequence[str]) -> None:
        """Make documents of a backfill true: side by side those that nothing is known against, the others alone."""
        claims = []
        if self.index_breaker.failures == 0:  # else one at a time tries whether Qdrant is back
            claims = self.ledger.claim_fresh(document_ids, self.pipeline.recipe)
        if claims:
            self._look_together(claims)
        left = [key for key in document_ids if key not in {claim.document_id for claim in claims}]
        for key in self.ledger.due_among(left, self.pipeline.recipe) if left else ():
            self.look(key)

    def _look_together(self, claims: Sequence[Claim]) -> None:
        started = time.monotonic()
        with self.leases.kept(*claims):
            results = self.pipeline.reconcile_all(claims)
            outcomes = [self._attempt(claim, result.get) for claim, result in zip(claims, results, strict=True)]
        self.tally.add(stage__reconcile__seconds=time.monotonic() - started, stage__reconcile__count=len(claims))
        done = [outcome for outcome in outcomes if outcome is not None]
        for outcome in done:
            self._tell(outcome, started)
        self.hints.look([outcome.document_id for outcome in done if outcome.moved_on], bulk=True)
        if any(outcome.vectors_pending and not outcome.embeds_here for outcome in done):
            self.hints.embed()

    def _tell(self, outcome: Outcome, started: float) -> None:
        if outcome.parse_s:
            self.tally.add(stage__parse__seconds=outcome.parse_s, stage__parse__count=1)
            self.tally.add(stage__store__seconds=outcome.store_s, stage__store__count=1)
        log.info(
            "document.reconciled",
            document=outcome.document_id,
            state=outcome.state,
            added=outcome.added,
            removed=outcome.removed,
            kept=outcome.kept,
            pending=outcome.vectors_pending,
            ms=round((time.monotonic() - started) * 1000),
        )

    def embed(self) -> None:
        """Fetch missing vectors for a while; ask for another turn when there is more."""
        if self.index_breaker.seconds_open() > 0:
            return
        if self.embedding.drain():
            self.hints.embed()

    def _attempt(self, claim: Claim, reconcile: Callable[[], Outcome]) -> Outcome | None:
        try:
            outcome = reconcile()
            if outcome.asked_index:
                self.index_breaker.succeeded()
            return outcome
        except LeaseLost:
            self.ledger.suspect(claim.document_id)
            log.warning("lease.lost", document=claim.document_id)
        except IndexGone as exc:
            # Qdrant is well, so there is nothing to be patient with: a housekeeper makes the collection again.
            self._later(claim, exc, OUTAGE_S, counted=False)
        except IndexUnavailable as exc:
            wait = self.index_breaker.failed(exc.retry_after, reason=str(exc), cause=exc)
            self._later(claim, exc, max(OUTAGE_S, wait), counted=False)
        except Outage as exc:
            self._later(claim, exc, exc.retry_after or OUTAGE_S, counted=False)
        except SourceUnsettled as exc:
            self._later(claim, exc, UNSETTLED_S, counted=False)
        except SourceUnavailable as exc:
            self._later(claim, exc, UNREADABLE_S, counted=False)
        except Transient as exc:
            return self._later_or_park(claim, exc)
        except Permanent as exc:
            # What the document itself is guilty of is an outcome; this is about our set-up, and it waits for a person.
            self._later(claim, exc, 60.0, counted=False)
        except OperationalError as exc:
            # The ledger is busy or away.  If it does not take the document back either, the lease runs out by itself.
            log.warning("ledger.unavailable", document=claim.document_id, error=type(exc.orig).__name__)
            away = LedgerUnavailable("The ledger (UPWELL_LEDGER_URL) did not answer in time.")
            self._later(claim, away, OUTAGE_S, counted=False)
        except (MemoryError, SystemExit) as exc:
            # Raised further, they would end Celery's main process and come back with the message (celery#10462).
            return self._later_or_park(claim, exc)
        except Exception as exc:
            log.exception("document.bug", document=claim.document_id)
            return self._later_or_park(claim, exc)
        return None

    def _later_or_park(self, claim: Claim, exc: BaseException) -> Outcome | None:
        """Count the attempt; after the last one the document is parked and what it had in the index goes."""
        if claim.attempts < MAX_ATTEMPTS:
            self._later(claim, exc, backoff_s(claim.attempts), counted=True)
            return None
        reason = f"{_told(exc)} Tried {claim.attempts} times. Change it, or run: upwell documents retry"
        try:
            return self.pipeline.park(claim, reason, type(exc).__name__)
        except LeaseLost:
            self.ledger.suspect(claim.document_id)
            return None
        except Transient as outage:
            self._later(claim, outage, OUTAGE_S, counted=False)
            return None

    def _later(self, claim: Claim, exc: BaseException, retry_in_s: float, *, counted: bool) -> None:
        self.ledger.give_back(
            claim,
            state=State.FAILED,
            reason=_told(exc),
            error_class=type(exc).__name__,
            retry_in_s=retry_in_s,
            counted=counted,
        )
        log.warning(
            "document.later", document=claim.document_id, error=type(exc).__name__, retry_in_s=round(retry_in_s, 1)
        )


def _told(exc: BaseException) -> str:
    """Return what people may read: our own errors explain themselves; a foreign one may hold document text."""
    if isinstance(exc, Transient | Permanent):
        return str(exc)
    return f"Upwell made a mistake with it ({type(exc).__name__}); the log of the index worker has the details."
