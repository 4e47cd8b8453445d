"""One sweep: whatever the ledger says is not done, and nobody is doing, gets a hint again.

Stateless and idempotent, so it may be killed at any point and run twice at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from workers.contract.broker import Hints
from workers.indexing.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Swept:
    """How many documents got a hint, and whether the embedding stage did."""

    live: int
    bulk: int
    embed: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """For how many documents look hints wait on the broker."""

    live: int = 0
    bulk: int = 0


def sweep(ledger: Ledger, hints: Hints, recipe: str | None, *, limit: int, waiting: Waiting) -> Swept:
    """Send hints for what is due, so that at most ``limit`` of each lane wait.

    The hints that wait already are taken to be those of the documents that are due the longest: both are in the order
    in which changes were noticed.  Where that is wrong a document is hinted some sweeps later.
    """
    live: list[str] = []
    bulk: list[str] = []
    for document, is_bulk in ledger.due(recipe, limit):
        (bulk if is_bulk else live).append(document)
    live, bulk = live[waiting.live :], bulk[waiting.bulk :]
    hints.look(live)
    hints.look(bulk, bulk=True)
    unembedded = ledger.has_embeddings_due()
    if unembedded:
        hints.embed()
    return Swept(len(live), len(bulk), unembedded)
