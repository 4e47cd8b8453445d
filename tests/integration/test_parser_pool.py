"""The pool survives whatever its children do, and the children can do nothing but parse."""

from __future__ import annotations

import os
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from workers.errors import DocumentCorrupt, ParserCrashed
from workers.indexing.parse.limits import Limits
from workers.indexing.parse.pool import ParserPool

STUB = """
import json, os, signal, socket, struct, sys, time
channel = socket.socket(fileno=int(sys.argv[1]))
while True:
    header, fds, _, _ = socket.recv_fds(channel, 4, 1)
    if len(header) < 4: sys.exit(0)
    channel.recv(struct.unpack("!I", header)[0])
    text = os.pread(fds[0], 1000, 0).decode()
    def answer(value):
        data = json.dumps(value).encode()
        channel.sendall(struct.pack("!I", len(data)) + data)
{body}
"""


@pytest.fixture
def pool_of(tmp_path):
    pools = []

    def make(body: str, children: int = 1, **limits) -> ParserPool:
        script = tmp_path / f"stub{len(pools)}.py"
        script.write_text(STUB.replace("{body}", textwrap.indent(body, "    ")))
        pools.append(ParserPool(children, Limits(**({"wall_s": 20} | limits)), command=(sys.executable, str(script))))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def file(tmp_path):
    fds = []

    def make(text: str) -> int:
        path = tmp_path / f"file{len(fds)}.txt"
        path.write_text(text)
        fds.append(os.open(path, os.O_RDONLY))
        return fds[-1]

    yield make
    for fd in fds:
        os.close(fd)


GOOD = 'answer({"elements": [["text", text, None, None]], "metadata": {"filetype": "text/plain"}})'


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("os.kill(os.getpid(), 11)", "signal 11"),
        ("os.abort()", "signal 6"),
        ("sys.exit(3)", "code 3"),
        ("channel.sendall(struct.pack('!I', 2**31))", "more than can be handled"),
        ("channel.sendall(struct.pack('!I', 4) + b'abcd'); time.sleep(60)", "broke off"),
        ("answer([1, 2])", "no sense"),
        ('answer({"elements": [["alien", "x", None, None]], "metadata": {}})', "no sense"),
        ('answer({"error": "MemoryError"})', "UPWELL_PARSE_MEMORY_MB"),
        ('answer({"error": "SystemExit", "text": "x"})', "failed"),
    ],
)
def test_a_child_that_misbehaves_costs_its_document_only(pool_of, file, body, words):
    pool = pool_of(f"if text == 'bad':\n    {body}\nelse:\n    {GOOD}")

    with pytest.raises(ParserCrashed, match=words):
        pool.parse(file("bad"), "a.txt")

    assert pool.parse(file("good"), "a.txt").elements[0].text == "good"


def test_a_child_that_hangs_is_ended_with_everything_it_started(pool_of, file, tmp_path):
    pids = tmp_path / "pids"
    body = (
        "import subprocess\n"
        "sleeper = subprocess.Popen(['sleep', '1000'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{sleeper.pid}} {{os.getpid()}}')\n"
        "time.sleep(1000)"
    )
    pool = pool_of(body, wall_s=1.5)

    with pytest.raises(ParserCrashed, match="UPWELL_PARSE_TIMEOUT"):
        pool.parse(file("x"), "a.txt")

    for pid in map(int, pids.read_text().split()):
        deadline = time.monotonic() + 5
        while alive(pid):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_an_error_of_ours_comes_back_as_what_it_is(pool_of, file):
    pool = pool_of('answer({"error": "DocumentCorrupt", "text": "It is damaged."})')

    with pytest.raises(DocumentCorrupt, match="It is damaged"):
        pool.parse(file("x"), "a.txt")


def test_what_a_child_sends_is_cleaned(pool_of, file):
    pool = pool_of(
        'answer({"elements": [["text", "a\\x00b\\ud800", None, -5]], '
        '"metadata": {"filetype": "t", "extra": {"tenant": {"deep": 1}, "ok": "yes"}}})'
    )

    parsed = pool.parse(file("x"), "a.txt")

    assert (parsed.elements[0].text, parsed.elements[0].page) == ("ab", 1)
    assert parsed.metadata.extra == {"ok": "yes"}


def test_a_child_has_no_keys_and_no_network_of_ours(pool_of, file, monkeypatch):
    monkeypatch.setenv("UPWELL_QDRANT_API_KEY", "secret")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    pool = pool_of('answer({"elements": [["text", repr(dict(os.environ)), None, None]], "metadata": {}})')

    assert "secret" not in pool.parse(file("x"), "a.txt").elements[0].text


PID = 'answer({"elements": [["text", str(os.getpid()), None, None]], "metadata": {"filetype": "text/plain"}})'
LEAK = "globals().setdefault('kept', []).append(b'x' * (100 << 20))\n" + PID


@pytest.mark.parametrize(
    ("body", "limits", "children"),
    [
        pytest.param(PID, {"documents_per_child": 2}, 3, id="after many documents"),
        pytest.param(LEAK, {"resident_bytes": 150 << 20}, 3, id="when it has grown"),
        pytest.param(PID, {}, 1, id="not for nothing"),
    ],
)
def test_a_child_is_replaced_before_what_it_leaks_is_felt(pool_of, file, body, limits, children):
    pool = pool_of(body, **limits)

    pids = [pool.parse(file(str(n)), "a.txt").elements[0].text for n in range(6)]

    assert len(set(pids)) == children


def test_many_threads_share_few_children(pool_of, file):
    pool = pool_of(GOOD, children=2)
    found: list[str] = []

    def parse(fd: int) -> None:
        found.append(pool.parse(fd, "a.txt").elements[0].text)

    threads = [threading.Thread(target=parse, args=(file(str(n)),)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(found, key=int) == [str(n) for n in range(12)]


def test_the_real_child_parses_confined_and_leaves_nothing(file):
    pool = ParserPool(1, Limits(wall_s=60))
    try:
        parsed = pool.parse(file("# Title\n\nSome text.\n"), "a.md")
        assert [e.kind for e in parsed.elements] == ["heading", "text"]
        child = pool._free.queue[-1]
        status = Path(f"/proc/{child._process.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        pid, directory = child._process.pid, child._directory
    finally:
        pool.close()

    assert not os.path.exists(f"/proc/{pid}")
    assert not os.path.exists(directory)


def test_a_file_that_needs_too_much_memory_is_a_crash_with_the_setting(file, tmp_path):
    pool = ParserPool(1, Limits(wall_s=60, memory_bytes=700 << 20))
    path = tmp_path / "big.json"
    path.write_text("[" + "[]," * 12_000_000 + "[]]")
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(ParserCrashed):
            pool.parse(fd, "big.json")
        assert pool.parse(file("still fine"), "a.txt").elements[0].text == "still fine"
    finally:
        os.close(fd)
        pool.close()
