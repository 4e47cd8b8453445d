"""A running stack loses its broker's memory, Qdrant's data and its ledger, in turn, and pays for no text again.

One stack goes through all of it, because starting one is what costs; so the tests come in the order of a story.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing

import httpx
import pytest
import redis

from tests.support.endpoint import Endpoint
from tests.support.stack import ROOT, Stack, environment, living

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

COUNT = 12


@pytest.fixture(scope="module")
def endpoint():
    with Endpoint(dimensions=64) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def stack(tmp_path_factory, endpoint):
    home = tmp_path_factory.mktemp("losses")
    docs = home / "docs"
    docs.mkdir()
    for number in range(COUNT):
        (docs / f"{number:02d}.md").write_text(text(number))
    # What is held by the dead is never waited for here: it would take an hour.
    patience = {"UPWELL_LEASE": "3600", "UPWELL_EMBEDDINGS_TIMEOUT": "3600"}
    stack = Stack(home, docs, UPWELL_EMBEDDINGS_URL=endpoint.url, UPWELL_EMBEDDINGS_MODEL="counting", **patience)
    with stack:
        stack.wait_converged(COUNT)
        yield stack
    assert living(str(stack.data)) == []


def text(number: int) -> str:
    mark = f"Mark{number:02d}"
    return f"# Note {number}\n\n{mark} is in the first part.\n\n## More\n\n{mark} is in the second part, too.\n"


def paid(endpoint: Endpoint) -> Counter[str]:
    """Return how often each text of a document was paid for; what starts and questions cost is another matter."""
    return Counter({text: n for text, n in endpoint.counters.paid.items() if "Mark" in text or "Rottnest" in text})


def verify(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    env = environment(UPWELL_API_URL=stack.state["addresses"]["api"])
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", "verify", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=env,
        timeout=180,
    )


def all_is_there(stack: Stack) -> bool:
    """Tell whether every file, and nothing else, has its points with their vectors."""
    url, name = stack.state["addresses"]["qdrant"], stack.status()["collection"]
    try:
        answer = httpx.post(f"{url}/collections/{name}/points/scroll", json={"limit": 1000, "with_payload": True})
    except httpx.HTTPError:
        return False
    if answer.status_code != 200:
        return False
    points = answer.json()["result"]["points"]
    told = {point["payload"]["metadata"]["path"] for point in points if point["payload"]["embedded"]}
    return told == {file.name for file in stack.docs[0].glob("*.md")} and len(points) >= 2 * len(told)


def test_an_emptied_broker_loses_nothing(stack, endpoint):
    docs = stack.docs[0]
    password = (stack.data / "broker.password").read_text().strip()
    broker = redis.Redis.from_url(stack.state["addresses"]["broker"].replace("redis://", f"redis://:{password}@"))
    for number in range(COUNT, COUNT + 6):
        (docs / f"{number:02d}.md").write_text(text(number))
        broker.flushall()
    broker.close()

    stack.wait_for(lambda: all_is_there(stack), 60)
    stack.wait_converged(COUNT + 6)


def test_a_broker_that_comes_back_empty_loses_nothing(stack):
    victim = stack.pids["broker"]
    os.kill(victim, signal.SIGKILL)
    shutil.rmtree(stack.data / "valkey" / "appendonlydir")
    (stack.docs[0] / "late.md").write_text(text(99))
    stack.wait_for(lambda: stack.pids.get("broker") not in (None, victim), 30)

    stack.wait_for(lambda: all_is_there(stack), 60)


def test_a_collection_that_was_deleted_is_noticed_and_filled_without_a_restart_and_without_a_call(stack, endpoint):
    stack.wait_converged()
    before = paid(endpoint)
    url = stack.state["addresses"]["qdrant"]
    [name] = [c["name"] for c in httpx.get(f"{url}/collections").json()["result"]["collections"]]

    httpx.delete(f"{url}/collections/{name}").raise_for_status()

    stack.wait_for(lambda: all_is_there(stack), 60)
    stack.wait_converged()
    assert paid(endpoint) == before


def test_an_emptied_directory_of_qdrant_is_filled_without_a_call(stack, endpoint):
    before = paid(endpoint)
    victim = stack.pids["qdrant"]
    os.kill(victim, signal.SIGKILL)
    shutil.rmtree(stack.data / "qdrant", ignore_errors=True)
    stack.wait_for(lambda: stack.pids.get("qdrant") not in (None, victim), 30)

    stack.wait_for(lambda: all_is_there(stack), 90)
    stack.wait_converged()
    assert paid(endpoint) == before


def test_points_that_vanished_and_files_that_changed_are_found_by_verify_and_made_right(stack, endpoint):
    before = paid(endpoint)
    url, name = stack.state["addresses"]["qdrant"], stack.status()["collection"]
    path = {"key": "metadata.path", "match": {"value": "03.md"}}
    httpx.post(
        f"{url}/collections/{name}/points/delete?wait=true", json={"filter": {"must": [path]}}
    ).raise_for_status()

    found = verify(stack)
    assert found.returncode == 1, found.stdout + found.stderr
    assert "lost: 1 documents, 2 points" in found.stdout
    assert "/03.md" in found.stdout

    repaired = verify(stack, "--repair")
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert all_is_there(stack)
    assert paid(endpoint) == before


@pytest.mark.parametrize("victims", ["the index worker", "everything"])
def test_what_the_killed_had_in_hand_goes_on_at_once(stack, endpoint, victims):
    """A text on its way to be embedded, a document on its way to Qdrant: neither waits for the leases of the dead."""
    docs, number = stack.docs[0], 40 if victims == "everything" else 60
    worker = stack.pids["index"]
    endpoint.behaviour.latency_s = 3600.0
    (docs / f"{number}.md").write_text(text(number))
    stack.wait_for(lambda: count(stack, "vectors.db", "flights"), 30)
    os.kill(stack.pids["qdrant"], signal.SIGSTOP)
    (docs / f"{number + 1}.md").write_text(text(number + 1))
    stack.wait_for(lambda: count(stack, "ledger.db", "documents WHERE lease_until > 0"), 30)

    for pid in living(str(stack.data)) if victims == "everything" else [worker]:
        os.kill(pid, signal.SIGKILL)
    endpoint.behaviour.latency_s = 0.0
    if victims == "everything":
        stack.process.wait(10)
        stack.start()
    else:
        os.kill(stack.pids["qdrant"], signal.SIGCONT)
        stack.wait_for(lambda: stack.pids.get("index") not in (None, worker), 30)

    stack.wait_for(lambda: all_is_there(stack), 60)
    stack.wait_converged()
    assert count(stack, "ledger.db", "documents WHERE attempts > 0 OR interruptions > 0") == 0


def count(stack: Stack, database: str, rows: str) -> int:
    with closing(sqlite3.connect(f"file:{stack.data / database}?mode=ro", uri=True)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {rows}").fetchone()[0])


def test_a_lost_ledger_is_rebuilt_after_everything_was_killed_at_once_and_nothing_is_paid_for_again(stack, endpoint):
    docs = stack.docs[0]
    note = stack.home / "upload.txt"
    note.write_text("Quokkas smile at visitors of Rottnest Island.")
    stack.client.post(
        "/v1/documents", files={"file": note.open("rb")}, data={"external_id": "q.txt"}
    ).raise_for_status()
    stack.wait_converged(COUNT + 8)
    before = paid(endpoint)

    for pid in living(str(stack.data)):
        os.kill(pid, signal.SIGKILL)
    stack.process.wait(10)
    stack.wait_for(lambda: living(str(stack.data)) == [], 20)
    for file in (*stack.data.glob("ledger.db*"), *stack.data.glob("vectors.db*")):
        file.unlink()
    (docs / "00.md").unlink()
    (docs / "01.md").rename(docs / "moved.md")
    stack.start()
    stack.wait_converged(COUNT + 6)

    # Nobody asks for it: the first audit comes when everything is at rest.
    stack.wait_for(lambda: (stack.status()["audit"] or {}).get("finished_at") is not None, 60)
    audit = stack.status()["audit"]
    assert audit["clean"], audit
    assert audit["repaired"] == {"orphaned": 2, "unlisted": 1}
    done = verify(stack)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "moved.md" in stack.paths("Mark01 second part", mode="lexical")
    assert any("Quokkas" in hit["content"] for hit in stack.search("quokkas smile")["hits"])
    assert paid(endpoint) == before
