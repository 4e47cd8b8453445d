"""A PostgreSQL of its own for a test session: a fresh cluster on a free port, gone afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import children

USER = "upwell"


def binaries() -> Path | None:
    """Return the folder of initdb and postgres; None where there is no PostgreSQL."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


@contextmanager
def cluster(programs: Path) -> Iterator[str]:
    """Run a cluster and yield the SQLAlchemy URL of a database in it."""
    # PostgreSQL refuses to run as root; Debian's package brings an account for it.
    as_user: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    home = Path(tempfile.mkdtemp(prefix="upwell-pg-"))
    if as_user:
        shutil.chown(home, **as_user)
    data = home / "data"
    port = _free_port()
    quiet: dict[str, Any] = as_user | {"cwd": home, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    encoding = ["--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust", "--no-sync"]
    subprocess.run([programs / "initdb", "-D", data, "-U", USER, *encoding], check=True, **quiet)
    server = children.start(
        [programs / "postgres", "-D", data, "-p", str(port), "-k", home, "-h", "127.0.0.1", "-c", "fsync=off"], **quiet
    )
    try:
        _until_ready(programs, port, server)
        yield f"postgresql+psycopg://{USER}@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(home, ignore_errors=True)


def _until_ready(programs: Path, port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    ask = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port), "-U", USER]
    while subprocess.run(ask, check=False).returncode != 0:
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("PostgreSQL did not start")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
