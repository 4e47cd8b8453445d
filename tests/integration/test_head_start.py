"""`upwell up` starts guard and template before it looks at what it is to do, and never leaves them behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no template")

UP = """
import atexit, json, os, signal, sys, time
import psutil
from ops.cli import main as cli

def lives(process):
    return process.is_running() and process.status() != "zombie"

def look_at(words):
    known = {"loaded": sorted({"typer", "pydantic"} & set(sys.modules))}
    deadline = time.monotonic() + 20
    family = set()
    while how != "at once" and not any("ops.up.template" in each.cmdline() for each in family):
        assert time.monotonic() < deadline
        family.update(psutil.Process().children(recursive=True))
        time.sleep(0.01)
    family.update(psutil.Process().children(recursive=True))
    known["begun"] = len(family)
    atexit.register(lambda: print(json.dumps(known | {"left": sum(lives(each) for each in family)})))
    if how == "interrupted":
        os.kill(os.getpid(), signal.SIGINT)
    return command_line(words)

how, command_line, cli.command_line = sys.argv.pop(1), cli.command_line, look_at
cli.main()
"""
"""Runs a command that comes to look at its words when the template is there, and tells what there was."""


def up(how: str, *words: str, cwd: Path) -> tuple[int, dict[str, Any], str]:
    """Return exit code, what was begun and what was left, and what was said."""
    command = [sys.executable, "-c", UP, how, "up", *words]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize(
    ("how", "words", "code", "said"),
    [
        ("later", ["--port", "none"], 2, "--port"),
        ("later", ["nowhere"], 1, "upwell: "),
        ("interrupted", ["nowhere"], 130, ""),
    ],
    ids=["a wrong option", "no such folder", "Ctrl-C"],
)
def test_what_was_begun_early_ends_with_a_start_that_comes_to_nothing(
    how: str, words: list[str], code: int, said: str, tmp_path: Path
) -> None:
    ended, known, told = up(how, *words, cwd=tmp_path)

    assert known == {"loaded": [], "begun": 2, "left": 0}
    assert (ended, said in told) == (code, True)
    assert "Traceback" not in told


def test_who_asks_for_help_starts_nothing(tmp_path: Path) -> None:
    assert up("at once", "--help", cwd=tmp_path)[:2] == (0, {"loaded": [], "begun": 0, "left": 0})
