"""What `upwell up` runs: the parts, their commands and their environments.  Decides, starts nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ops.embedded.valkey import valkey_command
from ops.up.ahead import READ_AT_IMPORT, python
from ops.up.children import Part
from ops.up.datadir import DataDir
from ops.up.ports import HOST, any_free, near
from ops.up.settings import UpSettings
from workers.contract.addresses import without_password

EMBEDDED_MODEL = "multilingual-e5-small-q4"
WANTED_PORTS = {"api": 8080, "qdrant": 6333}

MOST_INDEX_WORKERS = 4  # unless somebody asks for more: each takes about 150 MB

PRODUCERS, WORKERS, STORES = 0, 1, 2  # stopped in this order


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the parts' commands are made from."""

    settings: UpSettings
    roots: tuple[str, ...]
    directory: Path
    password: str
    environ: Mapping[str, str]
    cpus: int


@dataclass(frozen=True, slots=True)
class Replaced:
    """A port that was wanted but taken, and the one used instead."""

    name: str
    wanted: int
    port: int

    def __str__(self) -> str:
        return f"port {self.wanted} is taken; {self.name} uses {self.port} instead"


def listeners(settings: UpSettings) -> list[str]:
    """Return the parts that need a port: the api, and whatever is not replaced by a real server."""
    urls = {"broker": settings.broker_url, "qdrant": settings.qdrant_url, "embeddings": settings.embeddings_url}
    return ["api", *(name for name, url in urls.items() if url is None)]


def choose_ports(settings: UpSettings, wanted_api: int | None, data: DataDir) -> tuple[dict[str, int], list[Replaced]]:
    """Choose a port for each listener: the one asked for, else last time's, else the usual one, else any."""
    known = data.ports()
    asked = {"api": wanted_api or settings.api_port}
    ports: dict[str, int] = {}
    replaced: list[Replaced] = []
    for name in listeners(settings):
        wanted = asked.get(name) or known.get(name) or WANTED_PORTS.get(name)
        taken = set(ports.values())
        ports[name] = any_free(taken) if wanted is None else near(wanted, taken)
        if wanted is not None and ports[name] != wanted:
            replaced.append(Replaced(name, wanted, ports[name]))
    data.remember_ports(known | ports)
    return ports, replaced


def addresses(plan: Plan, ports: Mapping[str, int]) -> dict[str, str]:
    """Return where each part is, without any password."""
    settings = plan.settings
    broker = settings.broker_url.get_secret_value() if settings.broker_url else f"redis://{HOST}:{ports['broker']}/0"
    return {
        "api": f"http://{_reachable(settings.api_host)}:{ports['api']}",
        "qdrant": without_password(settings.qdrant_url or f"http://{HOST}:{ports['qdrant']}"),
        "broker": without_password(broker),
        "embeddings": without_password(settings.embeddings_url or f"http://{HOST}:{ports['embeddings']}/v1"),
    }


def _reachable(host: str) -> str:
    """Return how to reach a server on this machine that listens on ``host``."""
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return HOST
    return f"[{host}]" if ":" in host else host


def parts(plan: Plan, ports: Mapping[str, int]) -> Iterator[Part]:
    """Yield the parts in the order in which they are started; nobody waits for anybody here."""
    env = _environment(plan, ports)
    if "broker" in ports:
        argv = valkey_command(plan.directory / "valkey", ports["broker"], plan.password)
        yield Part("broker", tuple(argv), env, STORES, ports["broker"])
    yield from _engines(plan, ports, env)
    yield from _processes(plan, ports, env)


def _engines(plan: Plan, ports: Mapping[str, int], env: dict[str, str]) -> Iterator[Part]:
    if "embeddings" in ports:
        threads = str(_embedding_threads(plan.cpus))
        where = ("--host", HOST, "--port", str(ports["embeddings"]), "--threads", threads)
        yield Part("embeddings", python("ops.embedded.embeddings", *where), env, STORES, ports["embeddings"], "stores")
    if "qdrant" in ports:
        where = ("--host", HOST, "--port", str(ports["qdrant"]), "--path", str(plan.directory / "qdrant"))
        yield Part("qdrant", python("ops.embedded.qdrant", *where), env, STORES, ports["qdrant"], "stores")


def _processes(plan: Plan, ports: Mapping[str, int], env: dict[str, str]) -> list[Part]:
    count = plan.settings.index_workers or max(1, min(MOST_INDEX_WORKERS, plan.cpus // 2))
    children = plan.settings.parser_children or max(1, min(8, plan.cpus // count))
    indexing = env | {"UPWELL_PARSER_CHILDREN": str(children)}
    names = ["index", *(f"index-{number}" for number in range(2, count + 1))]
    return [
        *(Part(name, _upwell("worker", "index"), indexing, WORKERS, layer="index") for name in names),
        Part("api", _upwell("api"), env, PRODUCERS, ports["api"], "api"),
        Part("watch", _upwell("watch", "--", *plan.roots), env, PRODUCERS, layer="watch"),
        Part("query", _upwell("worker", "query"), env, WORKERS, layer="query"),
        Part("beat", _upwell("worker", "beat"), env, PRODUCERS, layer="beat"),
    ]


def _environment(plan: Plan, ports: Mapping[str, int]) -> dict[str, str]:
    """Return the children's environment: the caller's, and what this start decided."""
    settings = plan.settings
    env = {name: value for name, value in plan.environ.items() if value or not name.startswith("UPWELL_")}
    env |= {
        "UPWELL_DATA_DIR": str(plan.directory),
        "UPWELL_API_PORT": str(ports["api"]),
        "UPWELL_API_EXPECTS_WATCHER": "true",
    }
    env |= READ_AT_IMPORT
    env.setdefault("OMP_NUM_THREADS", "1")  # the embedding endpoint has its own share; the rest works in processes
    if settings.ledger_url is None:
        env["UPWELL_LEDGER_URL"] = f"sqlite:///{plan.directory / 'ledger.db'}"
    if "broker" in ports:
        env["UPWELL_BROKER_URL"] = f"redis://:{plan.password}@{HOST}:{ports['broker']}/0"
    if "qdrant" in ports:
        env["UPWELL_QDRANT_URL"] = f"http://{HOST}:{ports['qdrant']}"
        env.pop("UPWELL_QDRANT_API_KEY", None)  # meant for another server
    if "embeddings" in ports:
        env["UPWELL_EMBEDDINGS_URL"] = f"http://{HOST}:{ports['embeddings']}/v1"
        env["UPWELL_EMBEDDINGS_MODEL"] = EMBEDDED_MODEL
        env["UPWELL_EMBEDDINGS_BATCH_INPUTS"] = str(settings.embeddings_batch_inputs or 16)
        env["UPWELL_EMBEDDINGS_CONCURRENCY"] = str(settings.embeddings_concurrency or 2)
        env.pop("UPWELL_EMBEDDINGS_API_KEY", None)
        env.pop("UPWELL_EMBEDDINGS_DIMENSIONS", None)
    return env


def _embedding_threads(cpus: int) -> int:
    """All but one processor, which is for parsing; two at least where there are two."""
    return max(min(cpus, 2), cpus - 1)


def cpu_count() -> int:
    """Return how many processors we may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _upwell(*words: str) -> tuple[str, ...]:
    return python("ops.cli", *words)
