"""`upwell doctor`: tries everything that a first run needs, and names the remedy for what would fail."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from ops.cli.errors import CliError
from ops.cli.findings import Finding
from ops.cli.output import JSON_OPTION, counted, print_json

SPACE_NEEDED = 500 * 1024 * 1024
PATIENCE_S = 40.0
OLDEST_PYTHON = (3, 11)


class _Wrong(Exception):
    """A check failed: (what was found, what to do)."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.found = found
        self.remedy = remedy


def doctor(
    folders: list[Path] = typer.Argument(
        None, metavar="[DIR]...", help="Folders that will be watched.", show_default=False
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Check everything that a first run needs, and one generated file of each type.

    Looks at UPWELL_DATA_DIR, UPWELL_API_PORT, UPWELL_BROKER_URL, UPWELL_QDRANT_URL and UPWELL_EMBEDDINGS_URL.
    """
    from ops.up.settings import UpSettings

    settings = UpSettings()
    findings: list[Finding] = []
    for finding in _examine(settings, folders or []):
        findings.append(finding)
        if not as_json:
            finding.show()
    failed = [finding for finding in findings if finding.verdict == "fail"]
    if as_json:
        print_json({"ok": not failed, "checks": [asdict(finding) for finding in findings]})
    if failed:
        raise CliError(f"{len(failed)} of {len(findings)} checks failed: {', '.join(f.name for f in failed)}.")
    if not as_json:
        print("Everything a first run needs is there. Start with: upwell up FOLDER")


def _examine(settings: Any, folders: list[Path]) -> Iterator[Finding]:
    """Yield the findings: cheap checks first, then what has to be started, a few at once."""
    yield _python()
    yield _guarded("data directory", lambda: _data_dir(settings.data_dir))
    yield _guarded("disk space", lambda: _space(settings.data_dir))
    yield _guarded("api port", lambda: _port(settings.api_port or 8080))
    yield from _inotify(folders)
    with tempfile.TemporaryDirectory(prefix="upwell-doctor-") as name, ThreadPoolExecutor(2) as pool:
        place = Path(name)
        jobs: list[Future[Any]] = [
            pool.submit(_guarded, "Valkey", lambda: _broker(settings, place)),
            pool.submit(_guarded, "Qdrant", lambda: _qdrant(settings, place)),
            pool.submit(_guarded, "embeddings", lambda: _embeddings(settings)),
            pool.submit(_parsers, place),
        ]
        for job in jobs:
            result = job.result()
            yield from [result] if isinstance(result, Finding) else result


def _guarded(name: str, check: Callable[[], str | Finding]) -> Finding:
    """Run one check; whatever goes wrong in it is a finding, not the end of the examination."""
    try:
        found = check()
    except _Wrong as exc:
        return Finding(name, "fail", exc.found, exc.remedy)
    except Exception as exc:  # noqa: BLE001 - an unforeseen failure is exactly what this command is to find
        found_text = f"{type(exc).__name__}: {exc}"
        return Finding(name, "fail", found_text, "Install Upwell again: make clean, then make up.")
    return found if isinstance(found, Finding) else Finding(name, "ok", found)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if tuple(sys.version_info) < OLDEST_PYTHON:
        return Finding("Python", "fail", found, "Upwell needs Python 3.11 or newer: make PYTHON=python3.12 up")
    return Finding("Python", "ok", found)


def _data_dir(path: Path) -> str:
    from ops.up.datadir import read_state

    there = path if path.exists() else _existing_parent(path)
    if not os.access(there, os.W_OK | os.X_OK):
        raise _Wrong(f"{there} cannot be written", "Give another directory with --data-dir or UPWELL_DATA_DIR.")
    running = read_state(path)
    pid = running.get("pid")
    if isinstance(pid, int):
        with suppress(OSError):
            os.kill(pid, 0)
            return f"{path.absolute()}, in use by the upwell with pid {pid}"
    return f"{path.absolute()} can be written"


def _space(path: Path) -> str:
    free = shutil.disk_usage(_existing_parent(path)).free
    if free < SPACE_NEEDED:
        raise _Wrong(
            f"{free // 1024**2} MB free", "Make room, at least 500 MB, or set UPWELL_DATA_DIR to a larger disk."
        )
    return f"{free / 1024**3:.1f} GB free"


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in [path.absolute(), *path.absolute().parents] if parent.exists())


def _port(port: int) -> str | Finding:
    from ops.up.ports import is_free, near

    if is_free(port):
        return f"{port} is free"
    return Finding(
        "api port",
        "warn",
        f"{port} is taken",
        f"upwell up will use {near(port, set())} instead and say so; choose one yourself with --port.",
    )


def _inotify(folders: list[Path]) -> Iterator[Finding]:
    limit = Path("/proc/sys/fs/inotify/max_user_watches")
    if not limit.exists():
        yield Finding("file watching", "ok", "this system has no inotify limits")
        return
    most = int(limit.read_text())
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        yield Finding("folders", "fail", f"there is no folder {missing[0]}", f"Make it: mkdir -p {missing[0]}")
    needed = sum(1 for folder in folders for _ in os.walk(folder))
    if needed > most * 0.9:
        yield Finding(
            "file watching",
            "fail",
            f"the folders have {needed} directories, the system allows {most} watches",
            f"Raise the limit: sudo sysctl fs.inotify.max_user_watches={max(524288, needed * 2)}",
        )
    else:
        yield Finding("file watching", "ok", f"{needed} directories to watch, {most} watches allowed")


def _broker(settings: Any, place: Path) -> str:
    from ops.up.ports import HOST, any_free
    from ops.up.reach import broker_fault

    if settings.broker_url is not None:
        url = settings.broker_url.get_secret_value()
        return _reached(broker_fault(url), "the server at UPWELL_BROKER_URL answers")
    from ops.embedded.valkey import valkey_command

    folder = place / "valkey"
    folder.mkdir()
    port = any_free(set())
    argv = valkey_command(folder, port, "doctor")
    with _running([str(word) for word in argv], port, "the embedded Valkey"):
        return _reached(broker_fault(f"redis://:doctor@{HOST}:{port}/0"), "the embedded Valkey starts and answers")


def _qdrant(settings: Any, place: Path) -> str:
    from ops.up.ports import HOST, any_free
    from ops.up.reach import qdrant_fault

    if settings.qdrant_url is not None:
        key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
        return _reached(qdrant_fault(settings.qdrant_url, key), "the server at UPWELL_QDRANT_URL answers")
    port = any_free(set())
    words = ["-m", "ops.embedded.qdrant", "--host", HOST, "--port", str(port), "--path", str(place / "qdrant")]
    with _running([sys.executable, "-P", *words], port, "the embedded Qdrant"):
        point = {"id": 1, "vector": [0.6, 0.8], "payload": {"content": "doctor"}}
        _call(port, "PUT", "/collections/doctor", {"vectors": {"size": 2, "distance": "Cosine"}})
        _call(port, "PUT", "/collections/doctor/points?wait=true", {"points": [point]})
        found = _call(port, "POST", "/collections/doctor/points/query", {"query": [0.6, 0.8], "limit": 1})
        if [hit.get("id") for hit in found["result"]["points"]] != [1]:
            raise _Wrong("the embedded Qdrant does not find what it stored", "Install Upwell again.")
    return "the embedded Qdrant stores and finds"


def _embeddings(settings: Any) -> str:
    from ops.up.ports import HOST, any_free
    from ops.up.reach import embeddings_fault

    if settings.embeddings_url is not None:
        fault = embeddings_fault(settings.embeddings_url)
        return _reached(fault, "the endpoint at UPWELL_EMBEDDINGS_URL answers")
    port = any_free(set())
    words = ["-m", "ops.embedded.embeddings", "--host", HOST, "--port", str(port), "--threads", "1"]
    with _running([sys.executable, "-P", *words], port, "the embedding endpoint"):
        from ops.up.stack import EMBEDDED_MODEL

        body = {"model": EMBEDDED_MODEL, "input": ["doctor"], "encoding_format": "float", "input_type": "passage"}
        vector = _call(port, "POST", "/v1/embeddings", body)["data"][0]["embedding"]
    return f"the bundled model makes vectors of {len(vector)} dimensions"


def _reached(fault: str | None, well: str) -> str:
    if fault is not None:
        found, _, remedy = fault.partition(". ")
        raise _Wrong(found, remedy or "See the server's log.")
    return well


@contextmanager
def _running(argv: list[str], port: int, what: str) -> Iterator[None]:
    """Run a server of the embedded stack until the block is left."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    lines = output.read().decode("utf-8", "replace").strip().splitlines()
                    last = lines[-1].removeprefix("upwell: ") if lines else f"exit code {process.returncode}"
                    raise _Wrong(f"{what} does not start: {last}", "Install Upwell again: make clean, then make up.")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(port: int) -> bool:
    from ops.up.ports import HOST

    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _call(port: int, method: str, path: str, body: dict[str, Any]) -> Any:
    from ops.up.ports import HOST

    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        if response.status >= 300:
            raise _Wrong(f"{path} answers with status {response.status}", "Install Upwell again.")
        return json.loads(text)
    finally:
        connection.close()


def _parsers(place: Path) -> list[Finding]:
    """Parse one generated file of each type, as an index worker would."""
    from ops.cli.samples import samples

    try:
        from workers.indexing.parse.limits import Limits
        from workers.indexing.parse.pool import ParserPool

        pool = ParserPool(children=1, limits=Limits())
    except Exception as exc:  # noqa: BLE001 - see _guarded
        return [Finding("parsers", "fail", f"{type(exc).__name__}: {exc}", "Install Upwell again.")]
    try:
        return [
            _guarded(f"reading .{name.partition('.')[2]}" + (" (UTF-16)" if "utf-16" in name else ""), check)
            for name, check in ((name, _parse_check(pool, place / name, make)) for name, make in samples().items())
        ]
    finally:
        pool.close()


def _parse_check(pool: Any, file: Path, make: Callable[[], bytes]) -> Callable[[], str]:
    from ops.cli.samples import WORDS

    def check() -> str:
        file.write_bytes(make())
        fd = os.open(file, os.O_RDONLY)
        try:
            parsed = pool.parse(fd, file.name)
        finally:
            os.close(fd)
        text = " ".join(" ".join(element.text.split()) for element in parsed.elements)
        if WORDS not in text:
            raise _Wrong("it was read, but its text was not found in it", "Install Upwell again.")
        return counted(len(parsed.elements), "element")

    return check
