"""The child process: gives up every right it can, then parses one file after another until its parent goes.

python -m workers.indexing.parse.child SOCKET PARENT MEMORY CPU FILE_BYTES OPEN_FILES MAX_CHARS
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import signal
import socket
import struct
import sys
from base64 import b64encode
from importlib import import_module
from typing import Any

import orjson

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000


def main(words: list[str]) -> int:
    """Serve until the socket closes."""
    number, parent, memory, cpu, file_bytes, open_files, max_chars = (int(word) for word in words)
    _confine(parent, memory, file_bytes, open_files)
    # A document is thousands of objects without cycles: to look through them every 700 is a fifth of Markdown's time.
    gc.set_threshold(10_000)
    channel = socket.socket(fileno=number)
    from workers.indexing.parse.formats import parse_file, warm

    warm()
    import_module("workers.indexing.cut")
    while True:
        header, fds, _, _ = socket.recv_fds(channel, 4, 1)
        if len(header) < 4:
            return 0
        (size,) = struct.unpack("!I", header)
        asked = b""
        while len(asked) < size:
            asked += channel.recv(size - len(asked))
        sizes, _, name = asked.partition(b"\0")
        _give_cpu(cpu)
        try:
            answer = _answer(parse_file, fds[0], name.decode("utf-8", "replace"), max_chars, sizes)
        finally:
            os.close(fds[0])
        channel.sendall(struct.pack("!I", len(answer)) + answer)


def _answer(parse: Any, fd: int, name: str, max_chars: int, sizes: bytes) -> bytes:
    from workers.errors import WorkerError

    try:
        parsed = parse(fd, name, max_chars)
        result: dict[str, Any] = (
            {"pieces": _pieces(parsed, sizes)}
            if sizes
            else {"elements": [(e.kind, e.text, e.level, e.page) for e in parsed.elements]}
        )
        result["metadata"] = {name: getattr(parsed.metadata, name) for name in parsed.metadata.__slots__}
    except WorkerError as exc:
        result = {"error": type(exc).__name__, "text": str(exc)}
    except (MemoryError, RecursionError):
        result = {"error": "MemoryError"}
    except Exception as exc:  # noqa: BLE001 - the process's edge: any parser may fail in any way on a broken file
        result = {
            "error": "DocumentCorrupt",
            "text": f"It seems to be damaged ({type(exc).__name__}). Open it in its program and save it again.",
        }
    return _packed(result)


def _packed(result: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(result, default=str, option=orjson.OPT_PASSTHROUGH_DATETIME)
    except TypeError:  # half a character, or a number of more than 64 bits, in what somebody wrote above a text
        return json.dumps(result, ensure_ascii=False, default=str).encode("utf-8", "replace")


def _pieces(parsed: Any, sizes: bytes) -> list[tuple[Any, ...]]:
    """Cut what was parsed.  Words go packed: as JSON they would take as long as all the rest."""
    from workers.indexing.chunk import ChunkOptions
    from workers.indexing.cut import cut

    pieces = cut(parsed, ChunkOptions(*map(int, sizes.split()))).pieces
    return [
        (p.heading, p.page, p.content, *(b64encode(numbers.tobytes()).decode() for numbers in p.words or ()))
        for p in pieces
    ]


def _confine(parent: int, memory: int, file_bytes: int, open_files: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)  # it died before we could ask to die with it
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)  # no network; where the kernel refuses, the other walls still stand
    for kind, amount in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, open_files),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (amount, amount))


def _give_cpu(seconds: int) -> None:
    """The limit counts from the process's start, so each document gets its share on top of what is used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
