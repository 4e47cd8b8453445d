"""How many requests a minute one client may send: a bucket for each address, filled at an even pace."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from ops.api.errors import refusal

MOST_CLIENTS = 10_000
"""Buckets that are remembered; who was seen longest ago begins with a full one again."""


class Rated:
    """Answers what is too much with 429 and Retry-After, before its body is read.

    What only looks (GET, HEAD) is not counted: it costs no model anything, and consoles ask every few seconds.
    """

    def __init__(self, app: ASGIApp, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._room = float(per_minute)
        self._per_s = per_minute / 60.0
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address: requests left, at this time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        wait_s = self._take(str(client[0]) if client else "")
        if wait_s == 0.0:
            await self._app(scope, receive, send)
            return
        message = f"More than {self._room:.0f} requests a minute (UPWELL_API_RPM)."
        refused = refusal(429, "rate_limited", message, f"Wait {math.ceil(wait_s)} s, or send fewer at a time.")
        refused.headers["Retry-After"] = str(math.ceil(wait_s))
        await refused(scope, receive, send)

    def _take(self, address: str) -> float:
        """Take one request out of a bucket; returns how many seconds there are none, 0.0 when there was one."""
        now = self._clock()
        left, at = self._buckets.pop(address, (self._room, now))
        left = min(self._room, left + (now - at) * self._per_s)
        taken = left >= 1.0
        self._buckets[address] = (left - 1.0 if taken else left, now)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1.0 - left) / self._per_s
