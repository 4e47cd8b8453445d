"""Reading what is at a path now: nothing outside of the root, nothing but regular files, nothing that blocks."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from workers.errors import SourceUnavailable
from workers.indexing.sources import look_again, open_document


def read(root, raw: bytes) -> bytes | None:
    with open_document(str(root), raw) as file:
        return None if file is None else os.read(file.fd, 100)


def test_a_link_that_takes_the_place_of_anything_leads_nowhere(tmp_path):
    """A racer swaps a directory, and a file in it, for links to others of the same name while they are being read."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    for folder, text in ((outside, "foreign"), (root / "sub", "own")):
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text(text)
    (tmp_path / "folder-link").symlink_to(outside)
    (tmp_path / "file-link").symlink_to(outside / "a.txt")
    stop = threading.Event()

    def race() -> None:
        while not stop.is_set():
            for real, link in (
                (root / "sub", tmp_path / "folder-link"),
                (root / "sub" / "a.txt", tmp_path / "file-link"),
            ):
                real.rename(tmp_path / "aside")
                link.rename(real)
                real.rename(link)
                (tmp_path / "aside").rename(real)

    racer = threading.Thread(target=race)
    racer.start()
    try:
        seen = {read(root, b"sub/a.txt") for _ in range(3000)}
    finally:
        stop.set()
        racer.join()

    assert seen <= {b"own", None}
    assert b"own" in seen


def test_a_pipe_is_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))

        assert read(tmp_path, b"pipe") is None
        assert read(tmp_path, b"socket") is None


def test_what_is_not_there_is_nothing_and_what_cannot_be_read_is_not_nothing(tmp_path):
    assert look_again(str(tmp_path), b"a.txt") is None
    assert look_again(str(tmp_path), b"no/such/folder/a.txt") is None
    with pytest.raises(SourceUnavailable, match="cannot be opened"):
        look_again(str(tmp_path / "unmounted"), b"a.txt")


def test_without_the_marker_nothing_in_the_root_is_believed(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(SourceUnavailable, match="marker"), open_document(str(tmp_path), b"a.txt", "known"):
        pass
    (tmp_path / ".upwell-root").write_text("known\n")
    with open_document(str(tmp_path), b"a.txt", "known") as file:
        assert file is not None
