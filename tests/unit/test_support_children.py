"""Tests leave no process behind, however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONG = """
import os, time
from pathlib import Path

def test_that_takes_long(valkey_url):
    Path({told!r}).write_text(valkey_url)
    time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_of_the_tests_ends_with_them(tmp_path, number):
    from ops.embedded.valkey import ping

    told = tmp_path / "told"
    (tmp_path / "test_long.py").write_text(LONG.format(told=str(told)))
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    words = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *words, "--basetemp", str(tmp_path / "temp"), str(tmp_path)]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _until(lambda: told.exists() and bool(told.read_text()) and ping(told.read_text()))
        run.send_signal(number)
        run.wait(60)

        _until(lambda: not ping(told.read_text()))
    finally:
        run.kill()
        run.wait()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
