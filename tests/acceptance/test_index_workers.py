"""A machine with many processors runs several index workers; files and their searches do not notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.stack import Stack

pytestmark = pytest.mark.stack


def test_several_index_workers_share_one_folder(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for number in range(40):
        (docs / f"{number:02}.md").write_text(f"# Note {number}\n\nThe lantern of room zq{number:02}x is lit.\n")

    with Stack(tmp_path, docs, UPWELL_INDEX_WORKERS="2") as stack:
        status = stack.wait_converged(40, timeout=120)
        workers = [process for process in status["processes"] if process["kind"] == "index-worker"]
        found = [stack.paths(f"zq{number:02}x", mode="lexical")[:1] for number in range(40)]
        pids = stack.pids

    assert {"index", "index-2"} <= set(pids)
    assert len(workers) == 2
    assert found == [[f"{number:02}.md"] for number in range(40)]
    assert not [process for process in pids.values() if Path(f"/proc/{process}").exists()]
