"""Many clients at once, in a process of their own: each asks, waits, and asks again.

python -m tests.bench.query_load client|http URL CLIENTS SECONDS < bodies.json
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
from qdrant_client import AsyncQdrantClient
from qdrant_client import models as m
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from tests.bench.query_rig import COLLECTION

Ask = Callable[[Any], Awaitable[str]]


def over_http(url: str, clients: int) -> Ask:
    """Return what asks the api; the status is the answer."""
    http = httpx.AsyncClient(base_url=url, timeout=120, limits=httpx.Limits(max_connections=clients))

    async def ask(body: Any) -> str:
        try:
            answer = await http.post("/v1/search", json=body)
        except httpx.HTTPError as exc:
            return type(exc).__name__
        return str(answer.status_code)

    return ask


def over_client(url: str, clients: int) -> Ask:
    """Return what asks Qdrant with its own client."""
    limits = httpx.Limits(max_connections=clients)
    qdrant = AsyncQdrantClient(url=url, check_compatibility=False, timeout=120, limits=limits)

    async def ask(body: Any) -> str:
        query = m.QueryRequest.model_validate(body)
        try:
            await qdrant.query_points(
                COLLECTION, prefetch=query.prefetch, query=query.query, limit=query.limit or 10, with_payload=True
            )
        except UnexpectedResponse as exc:
            return str(exc.status_code)
        except ResponseHandlingException as exc:
            return type(exc.source).__name__
        return "200"

    return ask


async def crowd(ask: Ask, bodies: Iterator[Any], clients: int, seconds: float) -> dict[str, Any]:
    """Run, and return throughput, latencies of answered requests, statuses, and the least and most a client had."""
    times: list[float] = []
    statuses: Counter[str] = Counter()
    had = [0] * clients
    end = time.perf_counter() + seconds

    async def one(number: int) -> None:
        while time.perf_counter() < end:
            started = time.perf_counter()
            status = await ask(next(bodies))
            statuses[status] += 1
            if status == "200":
                had[number] += 1
                times.append((time.perf_counter() - started) * 1000)
            else:
                await asyncio.sleep(1.0)  # as Retry-After would have it, about

    started = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(clients)))
    spent = time.perf_counter() - started
    times.sort()
    return {
        "per_s": len(times) / spent,
        "p50_ms": statistics.median(times or [0.0]),
        "p99_ms": times[int(len(times) * 0.99)] if times else 0.0,
        "statuses": dict(statuses),
        "least": min(had),
        "most": max(had),
    }


def main() -> None:
    """Print the figures as JSON."""
    kind, url, clients, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    bodies = itertools.cycle(json.load(sys.stdin))
    ask = (over_client if kind == "client" else over_http)(url, clients)
    print(json.dumps(asyncio.run(crowd(ask, bodies, clients, seconds))))


if __name__ == "__main__":
    main()
