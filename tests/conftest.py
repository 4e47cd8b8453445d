"""Fixtures that start the embedded servers as real processes on free ports, once per test session."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, make_url

from tests.support import children

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"


def pytest_configure() -> None:
    """Give everything back when told to end, as after Ctrl-C."""
    children.end_like_ctrl_c()


def free_port() -> int:
    """Return a port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@pytest.fixture(name="free_port", scope="session")
def _free_port() -> Callable[[], int]:
    """The helper above, for tests that start servers of their own."""
    return free_port


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Valkey with a password."""
    from ops.embedded.valkey import ping, valkey_command

    port, password = free_port(), uuid4().hex
    url = f"redis://:{password}@{HOST}:{port}/0"
    with running(valkey_command(tmp_path_factory.mktemp("valkey"), port, password), lambda: ping(url)):
        yield url


@pytest.fixture(scope="session")
def qdrant_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded Qdrant."""
    url = f"http://{HOST}:{(port := free_port())}"
    directory = tmp_path_factory.mktemp("qdrant")
    with running(module("ops.embedded.qdrant", port, "--path", str(directory)), lambda: answers(url + "/readyz")):
        yield url


@pytest.fixture(scope="session")
def embeddings_url() -> Iterator[str]:
    """The embedded embedding endpoint: multilingual-e5-small, 384 dimensions."""
    url = f"http://{HOST}:{(port := free_port())}"
    with running(module("ops.embedded.embeddings", port, "--threads", "2"), lambda: answers(url + "/health")):
        yield url + "/v1"


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    """The URL of a ledger that does not exist yet."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL of our own.  Where there is none: a skip on a laptop, a failure in CI."""
    from tests.support import postgres

    programs = postgres.binaries()
    if programs is None:
        reason = "no PostgreSQL here: install Debian's package postgresql, or another"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with postgres.cluster(programs) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def either_ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a ledger that does not exist yet, once on each engine."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.db'}"
        return
    url = make_url(request.getfixturevalue("postgres_url"))
    name = f"t{uuid4().hex}"
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield url.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    admin.dispose()


@pytest.fixture
def collection() -> str:
    """A name that no other test uses."""
    return f"test-{uuid4().hex}"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Documents that are not part of the repository."""
    data = ROOT.parent / "shared" / "data"
    if not data.is_dir():
        pytest.skip(f"no sample documents at {data}")
    return data


def module(name: str, port: int, *words: str) -> list[str]:
    """Return the command of one embedded server."""
    return [sys.executable, "-m", name, "--host", HOST, "--port", str(port), *words]


def answers(url: str) -> bool:
    """Tell whether ``url`` answers with a success."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


@contextmanager
def running(command: list[str], ready: Callable[[], bool], timeout: float = 60) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server while the block runs; it is ready on entry, and gone on exit."""
    process = children.start(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + timeout
        while not ready():
            assert process.poll() is None, f"{command[:4]} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{command[:4]} was not ready within {timeout} s"
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
