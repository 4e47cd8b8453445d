"""The README's first screen runs, as it is written, from a clone in an empty home."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.stack import ROOT, environment, living

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


def first_screen() -> tuple[list[str], dict[str, list[str]]]:
    """Return (commands, expected output by command) of the README's console blocks."""
    commands: list[str] = []
    expected: dict[str, list[str]] = {}
    for block in re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        for line in block.strip().splitlines():
            if line.startswith("$ "):
                commands.append(line[2:])
            else:
                expected.setdefault(commands[-1], []).append(line)
    return commands, expected


@pytest.fixture
def clone(tmp_path):
    """What git has, as it is in the work tree, with the virtual environment that is already there."""
    target = tmp_path / "upwell"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in listed.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    venv = Path(os.environ.get("VIRTUAL_ENV") or ROOT / ".venv")
    (target / ".venv").symlink_to(venv)
    for name in ("requirements.lock", "pyproject.toml"):
        os.utime(target / name, (0, 0))  # installed already: make must not install the clone over the work tree
    return target


def test_the_first_screen_of_the_readme_works_as_written(clone, tmp_path):
    commands, expected = first_screen()
    up, *rest = commands
    assert up == "make up"
    home = tmp_path / "home"
    home.mkdir()
    # The usual ports may be taken by another suite: the second terminal must find the api all the same.
    env = environment(HOME=str(home), UPWELL_API_PORT="0")
    for name in ("UPWELL_API_PORT", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES"):  # `make test ARGS=…` hands its words down
        env.pop(name, None)
    with (tmp_path / "up.out").open("wb") as out:
        running = subprocess.Popen(
            ["sh", "-c", up],
            cwd=clone,
            env=env,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        wait_for_api(clone, running, tmp_path / "up.out")
        for command in rest:
            done = subprocess.run(
                ["sh", "-c", command], cwd=clone, env=env, capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0, (command, done.stdout, done.stderr, (tmp_path / "up.out").read_text())
            if command in expected:
                assert done.stdout.strip().splitlines() == expected[command]
        assert (clone / "inbox" / "welcome.md").exists()
    finally:
        os.killpg(running.pid, signal.SIGINT)
        running.wait(20)
    assert living(str(clone / ".upwell")) == []


def wait_for_api(clone: Path, running: subprocess.Popen[bytes], output: Path) -> None:
    import time

    import httpx

    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert running.poll() is None, output.read_text()
        try:
            address = json.loads((clone / ".upwell" / "up.json").read_text())["addresses"]["api"]
            if httpx.get(f"{address}/readyz").status_code == 200:
                return
        except (OSError, ValueError, KeyError, httpx.HTTPError):
            pass
        time.sleep(0.1)
    raise AssertionError(output.read_text())
