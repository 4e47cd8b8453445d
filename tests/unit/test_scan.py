"""Walking a tree in the ledger's order, and merging the two: order, twins, links, special files, interruptions."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers import scan
from producers.brake import Gone
from producers.compare import BREATH, SAMPLES, News, compare
from producers.ignore import IgnoreRules
from producers.scan import Found, Scanned, walk
from workers.contract.intake import Remembered

REGULAR = 0o100644


def walked(root: Path, below: bytes = b"") -> list[str]:
    return [found.path for found in walk(root, below, IgnoreRules(root), Scanned()) if found]


def row(path: str, *, raw: bytes | None = None, **more) -> Remembered:
    usual = {"size": 1, "mtime_ns": 1, "inode": 1, "wanted": "present", "state": "ready", "reason": None}
    return Remembered(path, raw or path.encode(), **usual | more)


def file(path: str, *, size=1, name: str | None = None) -> Found:
    return Found(path, name or path, size, 1, 1, REGULAR)


def compared(known, found, *, there=lambda _raw: True, sample=None, scanned=None):
    merged = compare(known, found, scanned or Scanned(), there, sample=sample)
    return [each for each in merged if each is not None]


def test_files_come_in_the_order_of_their_paths_whatever_their_directories_are_called(tmp_path):
    for path in (
        "a.txt",
        "a/b.txt",
        "a/b/c.txt",
        "a-/d.txt",
        "a0/e.txt",
        "A/f.txt",
        "\u00e9/g.txt",
        "z.txt",
        "a/b-.txt",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")

    assert walked(tmp_path) == sorted(walked(tmp_path))
    assert len(walked(tmp_path)) == 9
    assert walked(tmp_path, b"a") == ["a/b-.txt", "a/b.txt", "a/b/c.txt"]


def test_two_forms_of_one_name_come_together_and_the_first_known_one_stays_the_document(tmp_path):
    for name in ("caf\u00e9", "cafe\u0301"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("x")
        (tmp_path / name / f"{len(name)}.txt").write_text("x")
    scanned = Scanned()
    found = [each for each in walk(tmp_path, b"", IgnoreRules(tmp_path), scanned) if each]
    paths = [each.path for each in found]

    assert paths == sorted(paths) == ["caf\u00e9/4.txt", "caf\u00e9/5.txt", "caf\u00e9/a.txt", "caf\u00e9/a.txt"]
    second = found[-1]
    known = [row(second.path, raw=second.raw)]
    news = compared(known, found, scanned=scanned)
    assert [each.found.path for each in news] == ["caf\u00e9/4.txt", "caf\u00e9/5.txt", "caf\u00e9/a.txt"]
    assert news[-1].found.raw == second.raw
    assert scanned.twins == ["caf\u00e9/a.txt"]


def test_nothing_is_followed_and_nothing_is_opened(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "secret.txt").write_text("x")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.txt").write_text("x")
    (root / "dir").symlink_to(tmp_path / "out")
    (root / "loop").symlink_to(root)
    (root / "file").symlink_to("/etc/passwd")
    os.mkfifo(root / "pipe")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(root / "socket"))

    found = {each.path: each.refusal for each in walk(root, b"", IgnoreRules(root), Scanned()) if each}
    listener.close()

    assert found.pop("a.txt") is None
    assert set(found) == {"dir", "loop", "file", "pipe", "socket"}
    assert all("never opened" in reason for reason in found.values())


def test_a_link_that_takes_the_place_of_a_directory_leads_nowhere(tmp_path):
    """A racer swaps the directory for a link to another one, again and again, while the walk goes on."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    for folder, name in ((outside, "foreign.txt"), (root / "sub", "own.txt")):
        folder.mkdir(parents=True)
        (folder / name).write_text("x")
    (tmp_path / "link").symlink_to(outside)
    stop = threading.Event()

    def race() -> None:
        while not stop.is_set():
            (root / "sub").rename(tmp_path / "aside")
            (tmp_path / "link").rename(root / "sub")
            (root / "sub").rename(tmp_path / "link")
            (tmp_path / "aside").rename(root / "sub")

    racer = threading.Thread(target=race)
    racer.start()
    seen: set[str] = set()
    walks = 0
    try:
        while walks < 300 or "sub/own.txt" not in seen:  # on a busy machine the racer may have all the luck for long
            seen.update(walked(root))
            walks += 1
    finally:
        stop.set()
        racer.join()

    assert seen <= {"sub/own.txt", "sub"}  # "sub": the link itself, which is refused


def test_a_long_listing_and_a_long_run_of_unchanged_files_can_be_interrupted(tmp_path):
    for number in range(3 * scan.BREATH):
        (tmp_path / f"{number}.txt").touch()
    found = list(walk(tmp_path, b"", IgnoreRules(tmp_path), Scanned()))

    assert found.count(None) == 3
    files = [file(f"{number:05d}") for number in range(3 * BREATH)]
    assert list(compare([row(each.path) for each in files], files, Scanned(), lambda _raw: True)) == [None] * 3


@pytest.mark.parametrize(
    ("before", "news"),
    [
        ({}, None), ({"size": 2}, False), ({"mtime_ns": 2}, False), ({"inode": 2}, False),
        ({"wanted": "absent"}, False), ({"state": "held"}, True),
        ({"reason": "kept"}, True), ({"wanted": "absent", "state": "skipped", "reason": "a rule"}, False),
    ],
)  # fmt: skip
def test_what_is_news(before, news):
    found = compared([row("a.txt", **before)], [file("a.txt")])

    assert found == ([] if news is None else [News(file("a.txt"), touched=news)])


@pytest.mark.parametrize(
    ("before", "gone"),
    [
        ({}, {}), ({"state": "held"}, None), ({"reason": "kept"}, {"kept": True}),
        ({"wanted": "absent", "state": "skipped"}, {"indexed": False}),
        ({"wanted": "absent", "state": "deleted"}, None),
    ],
)  # fmt: skip
def test_what_is_missing(before, gone):
    known = row("a.txt", **before)
    expected = [] if gone is None else [Gone("a.txt", b"a.txt", known.stat, **gone)]

    assert compared([known], []) == expected


def test_within_a_hundred_scans_every_unchanged_file_is_looked_at_again_once():
    names = [f"{number}.txt" for number in range(500)]
    names.sort()
    looked_at = []
    for sample in range(SAMPLES):
        found = compared([row(name) for name in names], [file(name) for name in names], sample=sample)
        assert all(each.touched for each in found)
        looked_at += [each.found.path for each in found]

    assert sorted(looked_at) == names


@given(st.sets(st.sampled_from("abcdefgh")), st.sets(st.sampled_from("abcdefgh")), st.sets(st.sampled_from("abcdefgh")))
def test_the_merge_says_exactly_what_differs(known, there, changed):
    found = compared(
        [row(name) for name in sorted(known)], [file(name, size=2 if name in changed else 1) for name in sorted(there)]
    )

    assert {each.path for each in found if isinstance(each, Gone)} == known - there
    assert {each.found.path for each in found if isinstance(each, News)} == (there - known) | (there & changed)
