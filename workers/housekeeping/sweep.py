"""One sweep: whatever the ledger says is not done, and nobody is doing, gets a hint again.

Stateless and idempotent, so it may be killed at any point and run twice at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from workers.indexing.ledger import Ledger


class HintSender(Protocol):
    """Sends hints; False when the broker did not take them."""

    def look(self, document_ids: list[str], *, bulk: bool = False) -> bool:
        """Ask for documents to be looked at."""

    def embed(self) -> bool:
        """Ask for missing vectors to be fetched."""


@dataclass(frozen=True, slots=True)
class Swept:
    """How many documents got a hint, and whether the embedding stage did."""

    live: int
    bulk: int
    embed: bool


def sweep(ledger: Ledger, hints: HintSender, recipe: str | None, *, limit: int, queued: int) -> Swept:
    """Send hints for what is due.

    ``queued`` is how many hints wait on the broker already: while it has many, theirs are among them, and sending them
    again would only make the queue longer.
    """
    live: list[str] = []
    bulk: list[str] = []
    for document, is_bulk in ledger.due(recipe, max(0, limit - queued)):
        (bulk if is_bulk else live).append(document)
    hints.look(live)
    hints.look(bulk, bulk=True)
    waiting = ledger.has_embeddings_due()
    if waiting:
        hints.embed()
    return Swept(len(live), len(bulk), waiting)
