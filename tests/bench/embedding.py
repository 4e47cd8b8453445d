"""A first index against an endpoint with latency and limits: is embedding what one waits for?

    python -m tests.bench.embedding [--latency S] [--tpm N]

The 433 documents of `edits/peps2017` through the real pipeline (parser children, ledger, embedding stage and threads;
Qdrant is a dictionary): with an endpoint that costs nothing, with one that takes 120 ms a request, and with one that
also allows a million tokens a minute.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog

from tests.bench.thrift import base_files
from tests.conftest import free_port, running
from tests.support.endpoint import Endpoint
from tests.support.road import Road
from workers.adapters.budget import Budget
from workers.contract.states import State


def main(args: list[str]) -> int:
    """Run each case and print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    parser = argparse.ArgumentParser(prog="python -m tests.bench.embedding")
    parser.add_argument("--latency", type=float, default=0.12, help="seconds of one request")
    parser.add_argument("--tpm", type=int, default=1_000_000, help="tokens per minute in the last case; 0: without it")
    given = parser.parse_args(args)
    cases: list[dict[str, Any]] = [{}, {"latency_s": given.latency}]
    if given.tpm:
        cases.append({"latency_s": given.latency, "tpm": given.tpm})
    print(
        f"{'endpoint':34}{'seconds':>9}{'CPU s':>7}{'requests':>10}{'in flight':>11}{'429':>5}{'tokens':>11}",
        flush=True,
    )
    for case in cases:
        _run(case)
    return 0


def _run(case: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="upwell-bench-") as scratch, Endpoint(dimensions=384, **case) as endpoint:
        with _valkey(Path(scratch)) as url:
            budget = Budget(url, "bench:", uuid4().hex)
            road = Road(Path(scratch), endpoint, concurrency=16, budget=budget)
            try:
                seconds, cpu = _index(road)
            finally:
                road.close()
        counted = endpoint.counters
        name = ", ".join(f"{key}={value}" for key, value in case.items()) or "free"
        print(
            f"{name:34}{seconds:9.1f}{cpu:7.1f}{counted.requests:10}{counted.most_in_flight:11}"
            f"{counted.statuses[429]:5}{counted.paid_tokens:11,}",
            flush=True,
        )
        if case.get("tpm"):
            floor = max(0.0, (counted.paid_tokens - case["tpm"]) * 60 / case["tpm"])
            print(f"  floor of the limit {floor:.1f} s: {floor / seconds:.0%} of the limit used", flush=True)


def _index(road: Road) -> tuple[float, float]:
    files = base_files()
    for file in files:
        path = road.root / file["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file["content"])
    documents = road.noticed([file["path"] for file in files], bulk=True)
    started, cpu = time.monotonic(), time.process_time()
    road.embedding.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(road.worker.look, documents))
    while road.states() - {State.READY}:
        time.sleep(0.05)
    return time.monotonic() - started, time.process_time() - cpu


@contextmanager
def _valkey(home: Path) -> Iterator[str]:
    from ops.embedded.valkey import ping, valkey_command

    port, password = free_port(), uuid4().hex
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    with running(valkey_command(home / "valkey", port, password), lambda: ping(url)):
        yield url


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
