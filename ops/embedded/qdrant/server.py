"""The process: arguments, lock, signals, work while idle."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from ops.embedded.http import Application, Service, give_up, listen
from ops.embedded.qdrant.routes import Api, too_large
from ops.embedded.qdrant.store import DirectoryTaken, Store

MAX_BODY = 32 << 20
LOOK_EVERY_S = 2.0


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m ops.embedded.qdrant", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", type=Path, required=True)
    args = parser.parse_args(argv)
    sock = listen(args.host, args.port, "qdrant")
    try:
        store = Store(args.path)
    except DirectoryTaken as exc:
        give_up("qdrant", f"{exc}. Stop it, or give this one another --path.")

    async def tidy() -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await store.tidy()

    try:
        Service(Application(Api(store).answer, too_large, MAX_BODY), sock, background=tidy).run()
    finally:
        store.close()
