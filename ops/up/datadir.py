"""The data directory of `upwell up`: who owns it, its secret, its ports, and where the running one can be found."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import time
from pathlib import Path
from typing import Any

from ops.up.lives import Run

PATIENCE_S = 11.0  # a killed supervisor's guard needs a moment to stop the rest
_UNQUOTABLE = re.compile(r'["\\\x00-\x1f\x7f\ud800-\udfff]')  # what Valkey's configuration cannot hold
KEPT_RUNS = 10
"""Most runs that are remembered as ended: more than one only when a run ends before any worker of it has started."""


class DataDirError(Exception):
    """The data directory cannot be used; the text says why and what to do."""


class DataDirTaken(DataDirError):
    """Another `upwell up` uses the data directory."""


class DataDir:
    """An owned data directory.  Everything in it is for its owner's eyes only."""

    def __init__(self, path: Path) -> None:
        """Create ``path`` if need be and take it.

        Raises:
            DataDirError: another `upwell up` runs on it, or it cannot be written.
        """
        self.path = path.absolute()
        if _UNQUOTABLE.search(str(self.path)):
            raise DataDirError(
                f"The path {str(self.path)!r} cannot be that of the data directory: no quotes, backslashes, control"
                " characters or names that are not UTF-8. Give another one with --data-dir or UPWELL_DATA_DIR."
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.path / "logs").mkdir(exist_ok=True, mode=0o700)
            self.lock_fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise DataDirError(_unwritable(self.path, exc)) from exc
        self._lock()

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def password(self) -> str:
        """Return the embedded broker's password, drawn once."""
        file = self.path / "broker.password"
        with contextlib.suppress(FileNotFoundError):
            if known := file.read_text().strip():
                return known
        fresh = secrets.token_urlsafe(32)
        _write(file, fresh + "\n")
        return fresh

    def ports(self) -> dict[str, int]:
        """Return the ports of the last start, by part."""
        raw = _read(self.path / "ports.json")
        return {name: port for name, port in raw.items() if isinstance(port, int) and 0 < port < 65536}

    def remember_ports(self, ports: dict[str, int]) -> None:
        _write(self.path / "ports.json", json.dumps(ports, indent=1) + "\n")

    def publish(self, state: dict[str, Any]) -> None:
        """Tell other commands where the running one is."""
        _write(self.path / "up.json", json.dumps(state, indent=1) + "\n")

    def begin_run(self) -> Run:
        """Begin a run, and return it with those that were here before.

        Whoever has the lock knows that they are over, because each of their processes had it too.  A copy of the
        directory has another lock: its runs may live on where the copy was made from, so they are not believed to be.
        """
        file = self.path / "runs.json"
        lock = os.fstat(self.lock_fd).st_ino
        raw = _read(file)
        known = raw.get("runs") if raw.get("lock") == lock else None
        ended = tuple(name for name in known if isinstance(name, str)) if isinstance(known, list) else ()
        run = Run(secrets.token_hex(6), ended)
        _write(file, json.dumps({"lock": lock, "runs": [run.name, *ended][:KEPT_RUNS]}) + "\n", sync=True)
        return run

    def unpublish(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.path / "up.json").unlink()

    def close(self) -> None:
        """Give the directory back."""
        os.close(self.lock_fd)

    def _lock(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                running = read_state(self.path)
                if _is_alive(running.get("pid")) or time.monotonic() > deadline:
                    os.close(self.lock_fd)
                    raise DataDirTaken(_owned(self.path, running)) from None
                time.sleep(0.05)
            else:
                return


def read_state(path: Path) -> dict[str, Any]:
    """Return what the `upwell up` on the data directory ``path`` says of itself; empty if there is none."""
    return _read(path / "up.json")


def _unwritable(path: Path, exc: OSError) -> str:
    if isinstance(exc, FileExistsError | NotADirectoryError):
        return (
            f"The data directory {path} cannot be made: a file is in the way."
            " Give another one with --data-dir or UPWELL_DATA_DIR."
        )
    mend = "Make room, or give" if exc.errno in (errno.ENOSPC, errno.EDQUOT) else "Give"
    return (
        f"The data directory {path} cannot be written ({exc.strerror})."
        f" {mend} another one with --data-dir or UPWELL_DATA_DIR."
    )


def _owned(path: Path, running: dict[str, Any]) -> str:
    pid = running.get("pid")
    left = [str(part) for part in running.get("processes", {}).values() if _is_alive(part)]
    if pid and not _is_alive(pid) and left:
        return (
            f"An earlier upwell (pid {pid}) has ended, but what it started on the data directory {path} has not."
            f" If these are its processes, end them (kill -9 {' '.join(left)}); or give this one a directory of its own"
            " with --data-dir."
        )
    where = running.get("addresses", {}).get("api")
    who = f"pid {pid}" if pid else "its pid is not known yet"
    at = f" at {where}" if where else ""
    stop = f"Ctrl-C there, or: kill {pid}" if pid else "Ctrl-C there"
    return (
        f"Another upwell ({who}) already runs{at} on the data directory {path}."
        f" Use that one, stop it ({stop}), or give this one a directory of its own with --data-dir."
    )


def _is_alive(pid: object) -> bool:
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(file: Path, text: str, *, sync: bool = False) -> None:
    """Replace ``file`` in one step, readable by its owner only; ``sync``: before we go on, whatever happens then.

    Raises:
        DataDirError: it cannot be written; what was there is there still.
    """
    draft = file.with_name(file.name + ".new")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as out:
            out.write(text)
            if sync:
                out.flush()
                os.fsync(out.fileno())
        draft.replace(file)
    except OSError as exc:
        raise DataDirError(_unwritable(file.parent, exc)) from exc
