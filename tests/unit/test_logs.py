"""No log repeats what an exception of others repeats: a text, a secret, a parameter (S27)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CANARY = "Zimtsternrezept"
CODE = """
import asyncio, gc, logging, sys, threading
sys.path.insert(0, {root!r})
import pydantic, sqlalchemy, structlog
from workers.contract.logs import set_up_logs
from workers.errors import IndexUnavailable
set_up_logs("test", level={level!r})
log = structlog.get_logger()
canary = sys.stdin.read()

def validate():
    pydantic.TypeAdapter(int).validate_python(canary)

def execute():
    with sqlalchemy.create_engine("sqlite://").connect() as connection:
        connection.execute(sqlalchemy.text("SELECT nothing WHERE :text"), {{"text": canary}})

def look_up():
    {{}}[canary]

def ours():
    try:
        look_up()
    except KeyError as exc:
        raise IndexUnavailable("Qdrant is away.") from exc

def open_file():
    open("/nowhere/" + canary)

for work in (validate, execute, look_up, ours, open_file):
    try:
        work()
    except Exception as exc:
        log.exception("bug", error=type(exc).__name__)
        logging.getLogger("others").error("failed", exc_info=True)

async def fail():
    raise ValueError(canary)

async def forgotten():
    asyncio.ensure_future(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)

asyncio.run(forgotten())
gc.collect()
thread = threading.Thread(target=look_up)
thread.start()
thread.join()
log = structlog.get_logger("workers.somewhere")
log.debug("told to who asks for it")
logging.getLogger("kombu").debug("a message: %s", canary)
validate()
"""


@pytest.mark.parametrize("level", ["info", "debug"])
def test_no_level_tells_what_others_repeat(level):
    code = CODE.format(root=str(ROOT), level=level)
    done = subprocess.run([sys.executable, "-c", code], input=CANARY, capture_output=True, text=True, check=False)

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    loud = [line for line in lines if line["level"] != "debug"]
    assert [line["event"] for line in loud][:10] == ["bug", "failed"] * 5
    assert any("never retrieved" in line["event"] for line in loud)
    assert [line["event"] for line in loud][-2:] == ["unhandled"] * 2
    assert all("line" in line["exception"] for line in loud), "where it happened is always told"
    told = "".join(line["exception"] for line in loud)
    assert "Qdrant is away." in told
    assert "No such file" in told
    assert ("told to who asks for it" in done.stderr) == (level == "debug")
    assert CANARY not in done.stderr
