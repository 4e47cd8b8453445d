"""Queries at size: what each layer between a caller and Qdrant's engine costs, and what many callers at once get.

    make bench ARGS="query 100000"

Fills an embedded Qdrant (its own process, as `upwell up` runs it) with chunks of real text through the index worker's
adapter; vectors of 384 dimensions lie in clusters around those of the questions, so no model is asked for any of them
but by name: the endpoint invents vectors, and the query worker remembers them.  Then each question goes, in turn,

    engine     the time that the embedded Qdrant itself says it took
    raw        the same JSON over a bare HTTP client
    client     the same query with the official qdrant-client: what a downstream service would write
    find       the query worker's adapter
    search     the query worker's search, in this process
    celery     task `query.search` over Valkey, asked as the api asks
    http       POST /v1/search

Ten hits each.  Then many clients at once, and searches beside what the store does for its upkeep.  `--data DIR` keeps
the filled store for the next run; `--answers FILE` keeps what searches returned, and says whether a later run returns
the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from qdrant_client import QdrantClient
from qdrant_client import models as m

from ops.api.queries import Queries
from tests.bench.query_rig import COLLECTION, Rig, cpu_s, memory
from tests.conftest import ROOT
from workers.adapters.embeddings import EmbeddingClient
from workers.adapters.qdrant_search import QdrantSearch
from workers.contract.broker import make_celery
from workers.contract.settings import EmbeddingSettings, IndexSettings
from workers.query.embedder import QueryEmbedder
from workers.query.requests import SearchRequest
from workers.query.search import ask, search

LIMIT = 10
FILTER = {"filetype": "text/markdown", "date": {"gte": "2015", "lt": "2020"}}
LAYERS = ("engine", "raw", "client", "find", "search", "celery", "http")
REST_S = 0.004
TOGETHER = 32
CASES = {
    mode + (", filtered" if filtered else ""): (mode, filtered)
    for filtered in (False, True)
    for mode in ("hybrid", "lexical", "semantic")
}


Times = defaultdict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Case:
    """One way to ask a question."""

    question: str
    mode: str
    filtered: bool

    @property
    def body(self) -> dict[str, Any]:
        """What POST /v1/search takes."""
        return {"query": self.question, "limit": LIMIT, "mode": self.mode} | (
            {"filters": FILTER} if self.filtered else {}
        )


class Layers:
    """Every way to have one question answered, in one process with its connections open."""

    def __init__(self, rig: Rig) -> None:
        settings = IndexSettings(qdrant_url=rig.qdrant_url, collection=COLLECTION)
        endpoint = EmbeddingSettings(embeddings_url=rig.embeddings_url, embeddings_model="bench")
        self._loop = asyncio.new_event_loop()
        self._celery = make_celery(rig.broker_url, "upwell:", "producer", name="bench")
        self._queries = self._loop.run_until_complete(self._connected(rig))
        self._index = QdrantSearch(settings, timeout=60)
        self._embedder = QueryEmbedder(EmbeddingClient(endpoint))
        self._client = QdrantClient(url=rig.qdrant_url, check_compatibility=False, timeout=60)
        self._raw = httpx.Client(base_url=rig.qdrant_url, timeout=60)
        self._http = httpx.Client(base_url=rig.api_url, timeout=60)
        self._engine_s = 0.0
        self._pids = rig.pids

    async def _connected(self, rig: Rig) -> Queries:
        return Queries(self._celery, rig.broker_url, "upwell:", 60)

    def prepared(self, case: Case) -> dict[str, Callable[[], Any]]:
        """Return, by layer, what is to be timed; what a caller would have at hand is made before."""
        request = SearchRequest.model_validate(case.body)
        [asked] = ask([request], self._index, self._embedder)
        query = plain_query(self._index, request, asked)
        body = json.dumps(query.model_dump(mode="json", exclude_none=True))
        words = asked.terms.vector if case.mode != "semantic" else None
        return {
            "raw": lambda: self._asked_raw(body),
            "client": lambda: self._client.query_points(
                COLLECTION, query.query, query.using, query.prefetch, query.filter, limit=LIMIT, with_payload=True
            ),
            "find": lambda: self._index.find(
                words, asked.meaning, limit=30, filters=request.wanted, unrelated=asked.unrelated
            ),
            "search": lambda: self._searched_here(case.body),
            "celery": lambda: self._loop.run_until_complete(self._queries.search(case.body)),
            "http": lambda: self._searched(case.body),
        }  # fmt: skip

    def _asked_raw(self, body: str) -> bytes:
        answer = self._raw.post(
            f"/collections/{COLLECTION}/points/query", content=body, headers={"content-type": "application/json"}
        )
        answer.raise_for_status()
        self._engine_s = float(answer.content[answer.content.rindex(b'"time":') + 7 : -1])
        return answer.content

    def _searched_here(self, body: Mapping[str, Any]) -> Any:
        return search(SearchRequest.model_validate(body), index=self._index, embedder=self._embedder).as_json()

    def _searched(self, body: Mapping[str, Any]) -> Any:
        answer = self._http.post("/v1/search", json=body)
        answer.raise_for_status()
        return answer.json()

    def measure(self, case: Case, times: Times, cpu: Times) -> Any:
        """Time every layer once and add its milliseconds, and those of processor time of each process; return hits."""
        last = None
        for layer, run in self.prepared(case).items():
            before = self._cpu_ms()
            started = time.perf_counter()
            last = run()
            times[layer].append((time.perf_counter() - started) * 1000)
            time.sleep(REST_S)  # what a worker still does after its answer belongs to it
            for name, spent in self._cpu_ms().items():
                cpu[f"{layer} {name}"].append(spent - before[name])
            if layer == "raw":
                times["engine"].append(self._engine_s * 1000)
        return last

    def _cpu_ms(self) -> dict[str, float]:
        return {"caller": time.process_time() * 1000} | {name: cpu_s(pid) * 1000 for name, pid in self._pids.items()}

    def bodies(self, layer: str, questions: Sequence[str]) -> list[Any]:
        """Return what a crowd asks: hybrid searches, or the queries that they make."""
        cases = [Case(question, "hybrid", False) for question in questions]
        if layer == "http":
            return [case.body for case in cases]
        requests = [SearchRequest.model_validate(case.body) for case in cases]
        asked = ask(requests, self._index, self._embedder)
        plain = [plain_query(self._index, *pair) for pair in zip(requests, asked, strict=True)]
        return [query.model_dump(mode="json", exclude_none=True) for query in plain]

    def remember(self, questions: Sequence[str]) -> None:
        """Let the query worker ask for the questions' vectors now, so that nobody waits for one later."""
        for start in range(0, len(questions), TOGETHER):
            searches = [Case(question, "hybrid", False).body for question in questions[start : start + TOGETHER]]
            self._loop.run_until_complete(self._queries.search_batch({"searches": searches}))

    def close(self) -> None:
        """Hang up."""
        self._loop.run_until_complete(self._queries.close())
        self._loop.close()


def plain_query(index: QdrantSearch, request: SearchRequest, asked: Any) -> m.QueryRequest:
    """Return the query that search makes, for ten hits, as a downstream service would write it."""
    made: list[Mapping[str, Any]] = []

    def caught(requests: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
        made.extend(requests)
        raise StopIteration

    original, index._ask = index._ask, caught  # type: ignore[method-assign]
    try:
        index.find(
            asked.terms.vector if request.mode != "semantic" else None,
            asked.meaning,
            limit=LIMIT,
            filters=request.wanted,
            unrelated=asked.unrelated,
        )
    except StopIteration:
        pass
    finally:
        index._ask = original  # type: ignore[method-assign]
    return m.QueryRequest.model_validate({**made[0], "limit": LIMIT})


# ------------------------------------------------------------------------------------------------------------- output


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile by nearest rank."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))]


def layers_table(layers: Layers, questions: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Measure and print every layer in every mode; returns the answers."""
    answers: dict[str, Any] = {}
    for name in names:
        mode, filtered = CASES[name]
        cases = [Case(question, mode, filtered) for question in questions]
        for case in cases[:5]:
            layers.measure(case, defaultdict(list), defaultdict(list))
        times: Times = defaultdict(list)
        cpu: Times = defaultdict(list)
        for case in cases:
            answer = layers.measure(case, times, cpu)
            answers[f"{name}: {case.question}"] = [(hit["id"], round(hit["score"], 5)) for hit in answer["hits"]]
        _print_layers(f"{name}, {len(cases)} questions", times, cpu)
    return answers


def _print_layers(title: str, times: Mapping[str, list[float]], cpu: Mapping[str, list[float]]) -> None:
    names = list(dict.fromkeys(key.partition(" ")[2] for key in cpu))
    print(f"\n{title}\n{'ms':8}{'p50':>7}{'p95':>7}{'p99':>7}{'p50 over client':>17}   median processor ms of", *names)
    for layer in LAYERS:
        values = times[layer]
        more = [value - client for value, client in zip(values, times["client"], strict=True)]
        spent = [cpu[f"{layer} {name}"] for name in names if f"{layer} {name}" in cpu]
        print(
            f"{layer:8}{statistics.median(values):7.1f}{percentile(values, 95):7.1f}{percentile(values, 99):7.1f}"
            f"{statistics.median(more):17.1f}  ",
            *(f"{statistics.median(each):7.2f}" for each in spent),
        )


def crowd(rig: Rig, layers: Layers, clients: int, seconds: float) -> None:
    """Let many clients ask at once from a process of their own, through each layer in turn; print what they got."""
    print(
        f"\n{clients} clients at once, {seconds:.0f} s each, hybrid\n{'':10}{'per s':>8}{'p50':>9}{'p99':>9}  answers"
    )
    layers.remember(rig.questions)
    for layer in ("client", "http"):
        before = {name: cpu_s(pid) for name, pid in rig.pids.items()}
        where = rig.qdrant_url if layer == "client" else rig.api_url
        command = [sys.executable, "-m", "tests.bench.query_load", layer, where, str(clients), str(seconds)]
        done = subprocess.run(
            command,
            cwd=ROOT,
            input=json.dumps(layers.bodies(layer, rig.questions)),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(f"{layer:10} failed: {done.stderr[-300:]}")
            continue
        told = json.loads(done.stdout)
        print(
            f"{layer:10}{told['per_s']:8.1f}{told['p50_ms']:9.0f}{told['p99_ms']:9.0f}  "
            + ", ".join(f"{count} x {status}" for status, count in told["statuses"].items())
            + f"; a client had {told['least']} to {told['most']}; processor ms each: "
            + ", ".join(
                f"{name} {(cpu_s(pid) - before[name]) * 1000 / max(1, sum(told['statuses'].values())):.1f}"
                for name, pid in rig.pids.items()
            )
        )


def compare(answers: Mapping[str, Any], file: Path) -> int:
    """Keep answers, or say how many are others than those kept."""
    if not file.exists():
        file.write_text(json.dumps(answers))
        print(f"\n{len(answers)} answers kept in {file}")
        return 0
    kept = json.loads(file.read_text())
    both = kept.keys() & answers.keys()
    other = [key for key in both if [list(pair) for pair in answers[key]] != kept[key]]
    print(f"\n{len(both) - len(other)} of {len(both)} answers are the same as those in {file}")
    for key in other[:5]:
        print("  other:", key)
    return 1 if other else 0


def main(words: Sequence[str]) -> int:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(prog="query", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("points", nargs="?", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--clients", type=int, nargs="*", default=[100])
    parser.add_argument("--seconds", type=float, default=20.0, help="for each crowd")
    parser.add_argument("--data", type=Path, help="keep the store here")
    parser.add_argument("--answers", type=Path, help="compare answers with those of an earlier run")
    parser.add_argument("--only", choices=["layers", "crowd", "upkeep"], help="only one part")
    wanted = parser.parse_args(words)
    with (
        tempfile.TemporaryDirectory(prefix="upwell-bench-") as scratch,
        Rig(Path(scratch), wanted.data or Path(scratch) / "store", wanted.points) as rig,
    ):
        return _run(wanted, rig)


def _run(wanted: argparse.Namespace, rig: Rig) -> int:
    layers, code = Layers(rig), 0
    try:
        if wanted.only in (None, "layers"):
            answers = layers_table(layers, rig.questions[: wanted.questions], wanted.cases)
            code = compare(answers, wanted.answers) if wanted.answers else 0
        for clients in wanted.clients if wanted.only in (None, "crowd") else ():
            crowd(rig, layers, clients, wanted.seconds)
    finally:
        layers.close()
    print()
    for name, pid in rig.pids.items():
        print(f"{name:8} {memory(pid)}")
    if wanted.only in (None, "upkeep"):
        rig.upkeep()
    return code
