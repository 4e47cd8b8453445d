"""Which texts were paid for more than once, and why: told apart by what is known of each request to the endpoint."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from itertools import pairwise
from typing import Any, Literal

from tests.support.proxy import Exchange, Proxy
from workers.indexing.preflight import CANARY

Why = Literal[
    "canary",  # the sentence that every start of an index worker sends
    "answer lost",  # the endpoint answered, and the answer never came
    "worker ended",  # it came, and its worker was killed or frozen before it had kept the vector
    "unexplained",
]
GRACE_S = 5.0


class Thrift:
    """Listens to the proxy before the embedding endpoint."""

    def __init__(self, proxy: Proxy) -> None:
        self._lock = threading.Lock()
        self._paid: dict[str, list[Exchange]] = {}
        self._disturbances: list[float] = []
        self._requests = 0
        proxy.on_exchange = self._heard

    def disturbed(self, target: str) -> None:
        """Remember that somebody who embeds may have been killed or frozen just now."""
        if target in ("index", "index-2", "guard", "supervisor", "all"):
            self._disturbances.append(time.monotonic())

    def _heard(self, exchange: Exchange) -> None:
        if exchange.status != 200 or not exchange.body:
            return
        given = json.loads(exchange.body).get("input", [])
        with self._lock:
            self._requests += 1
            for text in [given] if isinstance(given, str) else given:
                self._paid.setdefault(text, []).append(exchange)

    def told(self) -> dict[str, Any]:
        """Return the figures: texts sent, distinct ones, and why some were sent again."""
        with self._lock:
            sent = sum(map(len, self._paid.values()))
            return {
                "requests": self._requests,
                "texts_sent": sent,
                "texts_distinct": len(self._paid),
                "sent_again": dict(Counter(why for why, _ in self._again())),
            }

    def repeats(self) -> list[dict[str, Any]]:
        """Return every text that was sent again without a reason we know, with its requests."""
        with self._lock:
            return [
                {"text": text[:80], "requests": [(round(e.at, 2), e.fault, e.delivered) for e in self._paid[text]]}
                for why, text in self._again()
                if why == "unexplained"
            ]

    def _again(self) -> list[tuple[Why, str]]:
        found: list[tuple[Why, str]] = []
        for text, exchanges in self._paid.items():
            for before, after in pairwise(exchanges):
                found.append((self._why(text, before, after), text))
        return found

    def _why(self, text: str, before: Exchange, after: Exchange) -> Why:
        if text == CANARY:
            return "canary"
        if not before.delivered or not after.delivered:
            return "answer lost"
        if any(before.at - GRACE_S <= at <= min(after.at, before.at + GRACE_S) for at in self._disturbances):
            return "worker ended"
        return "unexplained"
