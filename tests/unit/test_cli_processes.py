"""What the commands set up before a process is imported and runs."""

from __future__ import annotations

import gc
import importlib

import pytest

from ops.cli import processes


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("watch", "producers.watch"),
        ("api", "ops.api.main"),
        ("index", "workers.indexing.main"),
        ("query", "workers.query.main"),
        ("beat", "workers.housekeeping.main"),
    ],
)
def test_a_process_does_not_look_for_cycles_every_few_hundred_objects(command, module, monkeypatch, tmp_path):
    usual, found = gc.get_threshold(), []
    monkeypatch.setattr(importlib.import_module(module), "run", lambda *_: found.append(gc.get_threshold()[0]))
    folders = {"folders": [str(tmp_path)]} if command == "watch" else {}

    try:
        getattr(processes, command)(**folders, as_json=False)
    finally:
        gc.set_threshold(*usual)

    assert found == [processes.OBJECTS_BETWEEN_COLLECTIONS]
    assert found[0] > usual[0]
