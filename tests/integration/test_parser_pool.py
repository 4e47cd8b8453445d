"""The pool survives whatever its children do, and the children can do nothing but parse."""

from __future__ import annotations

import os
import sys
import textwrap
import threading
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from workers.adapters.bm25 import document_vector
from workers.errors import DocumentCorrupt, ParserCrashed
from workers.indexing.chunk import ChunkOptions, embedded_text, pieces
from workers.indexing.parse.formats import parse_file
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


def test_an_urgent_file_does_not_wait_for_a_long_one_and_the_child_more_ends_with_the_rush(pool_of, file, tmp_path):
    go_on, pids = tmp_path / "go_on", tmp_path / "pids"
    pool = pool_of(
        f"{PACKED}\nopen({str(pids)!r}, 'a').write(f'{{os.getpid()}} ')\n"
        f"while text == 'long' and not os.path.exists({str(go_on)!r}):\n    time.sleep(0.01)\n"
        "pieces(piece(text))"
    )
    with ThreadPoolExecutor(2) as threads:
        long = threads.submit(pool.cut, file("long"), "a.txt", ChunkOptions())
        while not pids.exists():
            time.sleep(0.01)
        waiting = threads.submit(pool.cut, file("backfill"), "a.txt", ChunkOptions())

        [urgent] = pool.cut(file("urgent"), "a.txt", ChunkOptions(), urgent=True).pieces

        assert [long.done(), waiting.done()] == [False, False]
        assert urgent.content == "urgent"
        go_on.touch()
        assert [one.result(20).pieces[0].content for one in (long, waiting)] == ["long", "backfill"]

    first, spare = list(dict.fromkeys(map(int, pids.read_text().split())))
    assert alive(first)
    assert not alive(spare)


def test_an_urgent_file_has_the_child_that_comes_free_before_those_that_waited_longer(pool_of):
    seats, order = pool_of(GOOD)._free, []
    with ThreadPoolExecutor(8) as threads:
        child = seats.take()

        def take(name: str, *, urgent: bool) -> None:
            taken = seats.take(urgent=urgent, timeout=20)
            order.append(name)
            seats.put(taken)

        waiting = [threads.submit(take, "backfill", urgent=False) for _ in range(6)]
        waiting.append(threads.submit(take, "edit", urgent=True))
        while not seats._urgent:
            time.sleep(0.01)
        seats.put(child)
        for one in waiting:
            one.result(30)

    assert order == ["edit", *["backfill"] * 6]


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


PACKED = """
from array import array
from base64 import b64encode
def piece(content="fish", heading=None, ids=(1, 2), weights=(0.5, 1.5)):
    packed = [b64encode(array(kind, numbers).tobytes()).decode() for kind, numbers in (("I", ids), ("f", weights))]
    return [heading, None, content, *packed]
def pieces(*found):
    answer({"pieces": found, "metadata": {"filetype": "text/plain"}})
"""


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param("piece(ids=(1, 1))", id="a word twice"),
        pytest.param("piece(ids=(1, 2**31))", id="a word of a name"),
        pytest.param("piece(ids=(1,))", id="a weight of no word"),
        pytest.param("piece(weights=(1, float('nan')))", id="no weight"),
        pytest.param("piece(weights=(1, float('inf')))", id="an endless weight"),
        pytest.param("piece(content='x' * 4000)", id="no piece but a book"),
        pytest.param("piece(content='\\u200b ')", id="nothing to be seen"),
        pytest.param("piece()[:3]", id="no words"),
        pytest.param("[None, None, 'x', '?', '?']", id="not packed"),
    ],
)
def test_pieces_that_no_child_of_ours_would_send_cost_their_document_only(pool_of, file, piece):
    pool = pool_of(f"{PACKED}\nif text == 'bad':\n    pieces(piece(), {piece})\nelse:\n    pieces(piece())")

    with pytest.raises(ParserCrashed, match="no sense"):
        pool.cut(file("bad"), "a.txt", ChunkOptions())

    [good] = pool.cut(file("good"), "a.txt", ChunkOptions()).pieces
    assert (good.content, good.words) == ("fish", (array("I", [1, 2]), array("f", [0.5, 1.5])))


def test_words_of_a_text_that_had_to_be_cleaned_are_not_believed(pool_of, file):
    pool = pool_of(f"{PACKED}\npieces(piece('bird'), piece('fi\\u200bsh'), piece('fish', heading='a\\x00b'))")

    found = pool.cut(file("x"), "a.txt", ChunkOptions()).pieces

    assert [(piece.heading, piece.content, piece.words is None) for piece in found] == [
        (None, "bird", False),
        (None, "fish", True),
        ("ab", "fish", True),
    ]


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
        child = pool._free._children[-1]
        status = Path(f"/proc/{child._process.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        pid, directory = child._process.pid, child._directory
    finally:
        pool.close()

    assert not os.path.exists(f"/proc/{pid}")
    assert not os.path.exists(directory)


MANY_TONGUES = """# Häuser und Gärten

Das ist ein Haus, und es war nicht immer so. Die Häuser sind alt, aber sie werden von vielen Menschen bewohnt.

## maxRetries and max_retries

The retry policy is one class, and its `maxRetries` explain themselves, as do snake_case and hyphen-ated words.

## 東京

東京は日本の首都です。Python 3.11 が好きです。

| id | name |
|----|------|
| 1  | one  |
| 2  | two  |
"""


def test_the_real_child_cuts_as_the_chunker_does_and_reckons_the_words_that_bm25_does(file):
    pool = ParserPool(1, Limits(wall_s=60))
    options = ChunkOptions(target_chars=200, max_chars=400, min_chars=50)
    text = MANY_TONGUES + "".join(f"\n## Part {n}\n\n{'A sentence of some words. ' * n}\n" for n in range(1, 40))
    try:
        found = pool.cut(file(text), "a.md", options)
    finally:
        pool.close()

    parsed = parse_file(file(text), "a.md", 10**6)
    assert [replace(piece, words=None) for piece in found.pieces] == pieces(parsed, options)
    assert found.metadata == parsed.metadata
    for piece in found.pieces:
        own = document_vector(embedded_text(piece.heading, piece.content))
        assert piece.words is not None
        assert [numbers.tolist() for numbers in piece.words] == [own.indices, own.values]


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
