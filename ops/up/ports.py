"""Finds ports that are free, outside the range from which the kernel takes ports for outgoing connections."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

HOST = "127.0.0.1"
LOWEST = 20_000


def is_free(port: int) -> bool:
    """Tell whether a server could listen on ``port`` right now."""
    with socket.socket() as probe:
        # As servers do: connections of a past owner that are still winding down are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def any_free(taken: set[int]) -> int:
    """Return a free port that is not in ``taken``.

    A port of the ephemeral range could be some client's own port when our server comes back to it after a restart.
    """
    highest = _ephemeral_start() - 1
    for _ in range(200):
        port = random.randint(LOWEST, max(LOWEST + 1000, highest))  # noqa: S311 - no secret
        if port not in taken and is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def near(wanted: int, taken: set[int]) -> int:
    """Return ``wanted`` or one of the ports after it, whichever is free; any free one if none is."""
    for port in range(wanted, min(wanted + 20, 65536)):
        if port not in taken and is_free(port):
            return port
    return any_free(taken)


def _ephemeral_start() -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return 32_768
