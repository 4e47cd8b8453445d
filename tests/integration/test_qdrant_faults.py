"""Qdrant loses answers, is late, is away, is full: nothing counts as done that is not, and the index ends right."""

from __future__ import annotations

import re
import time
from typing import ClassVar
from uuid import uuid4

import pytest
from pytest_httpserver import HTTPServer
from qdrant_client import models as m
from sqlalchemy import update

from tests.support.place import Place
from workers.adapters import qdrant
from workers.adapters.qdrant_search import QdrantSearch
from workers.contract.schema import documents
from workers.contract.settings import IndexSettings
from workers.contract.states import State
from workers.errors import IndexGone, IndexMisconfigured, IndexUnavailable
from workers.indexing.ports import Point


class Unreliable(qdrant.QdrantIndex):
    """The real index behind a network that can lose an answer, or keep a request and deliver it much later."""

    loses_answer = False
    keeps_request = False
    kept: ClassVar[list[tuple[list[Point], int]]] = []

    def put(self, points, token):
        if points and self.keeps_request:
            type(self).keeps_request = False
            type(self).kept = [(list(points), token)]
            raise IndexUnavailable("No answer.")
        super().put(points, token)
        if points and self.loses_answer:
            type(self).loses_answer = False
            raise IndexUnavailable("No answer.")

    def deliver(self):
        for points, token in self.kept:
            super().put(points, token)


@pytest.fixture(scope="module")
def shared_collection(qdrant_url):
    client, name = qdrant.connect(IndexSettings(qdrant_url=qdrant_url)), f"test-{uuid4().hex}"
    qdrant.create_collection(client, name, 3, qdrant_url)
    yield name
    client.delete_collection(name)
    client.close()


@pytest.fixture
def place(tmp_path, qdrant_url, shared_collection):
    place = Place(tmp_path, qdrant_url, shared_collection, Unreliable)
    place.faults = Unreliable
    yield place
    Unreliable.loses_answer = Unreliable.keeps_request = False
    Unreliable.kept = []
    place.close()


def time_passes(place: Place) -> None:
    """Let every waiting time end, then sweep."""
    place.worker.index_breaker.succeeded()
    with place.engine.begin() as connection:
        connection.execute(update(documents).values(next_try_at=None))
        connection.execute(update(documents).where(documents.c.verify_at.is_not(None)).values(verify_at=1.0))
    place.look([key for key, _ in place.worker.ledger.due("recipe", 100)])


def test_a_write_whose_answer_was_lost_is_done_again_and_leaves_nothing_twice(place):
    place.faults.loses_answer = True
    place.write("a.txt", "one\n\ntwo")
    assert (place.row("a.txt").state, place.row("a.txt").attempts) == (State.FAILED, 0)
    assert place.row("a.txt").verify_at is not None

    time_passes(place)

    assert place.row("a.txt").state == State.READY
    assert place.contents("a.txt") == ["one", "two"]
    assert place.audit()["clean"]


def test_a_write_that_arrives_after_its_successor_is_found_by_the_verify(place):
    place.faults.keeps_request = True
    place.write("a.txt", "one\n\ntwo")
    place.worker.index_breaker.succeeded()
    place.write("a.txt", "three")
    place.put("a.txt", next_try_at=None)
    place.look([place.id("a.txt")])
    assert place.contents("a.txt") == ["three"]

    place.worker.pipeline.index.deliver()
    assert sorted(place.contents("a.txt")) == ["one", "three", "two"]
    time_passes(place)

    assert place.contents("a.txt") == ["three"]


def test_a_write_that_arrives_after_every_verify_is_found_by_the_audit(place):
    """A proxy between us and Qdrant that repeats a request hours later."""
    place.faults.keeps_request = True
    place.write("a.txt", "one\n\ntwo")
    place.write("a.txt", "three")
    time_passes(place)
    time_passes(place)
    assert place.row("a.txt").verify_at is None

    place.worker.pipeline.index.deliver()
    report = place.audit(repair=True)

    assert set(report["findings"]) == {"stale", "duplicate", "mislabelled"}  # it had no vectors yet
    assert report["clean"]
    assert place.contents("a.txt") == ["three"]


def test_a_deleted_document_that_a_late_write_brings_back_is_removed_by_the_audit(place):
    place.faults.keeps_request = True
    place.write("a.txt", "one\n\ntwo")
    (place.root / "a.txt").unlink()
    place.see("a.txt")
    for _ in range(2):
        time_passes(place)
    assert place.row("a.txt").state == State.DELETED

    place.worker.pipeline.index.deliver()
    report = place.audit(repair=True)

    assert list(report["findings"]) == ["orphaned"]
    assert report["clean"]
    assert place.points() == []


def test_an_outage_costs_no_attempt_and_ends_by_itself(place):
    away = qdrant.connect(IndexSettings(qdrant_url="http://127.0.0.1:9", qdrant_timeout=1))
    index = place.worker.pipeline.index
    there, index._client = index._client, away
    for text in ("one", "two", "three", "four"):
        place.worker.index_breaker.succeeded()
        place.write("a.txt", text)
        assert place.row("a.txt").state == State.FAILED
    assert "UPWELL_QDRANT_URL" in place.row("a.txt").reason

    index._client = there
    time_passes(place)

    assert place.contents("a.txt") == ["four"]
    assert place.row("a.txt").attempts == 0


# ------------------------------------------------------------------------------------------------ what an answer means

WRITES = {
    "put": lambda index: index.put([point()], 1),
    "restate": lambda index: index.restate([point()], 1),
    "restamp": lambda index: index.restamp(["00000000-0000-5000-8000-000000000001"], "v", 1),
    "drop": lambda index: index.drop(["00000000-0000-5000-8000-000000000001"], 1),
    "drop_document": lambda index: index.drop_document("d", 1),
    "mark_refused": lambda index: index.mark_refused(["00000000-0000-5000-8000-000000000001"]),
}


def point() -> Point:
    payload = {"content": "words", "metadata": {}, "version": "v", "chunk_index": 0}
    return Point(id="00000000-0000-5000-8000-000000000001", text="words", payload=payload)


@pytest.fixture
def answering(httpserver: HTTPServer):
    def index(status: int, body: dict) -> qdrant.QdrantIndex:
        httpserver.expect_request("/collections/c/points/batch").respond_with_json(
            body if status != 200 else body | {"result": [body["result"]]}, status=status
        )
        httpserver.expect_request("/collections/c/points").respond_with_json(body, status=status)
        httpserver.expect_request("/collections/c/points/payload").respond_with_json(body, status=status)
        httpserver.expect_request("/collections/c/points/delete").respond_with_json(body, status=status)
        url = httpserver.url_for("").rstrip("/")
        index = qdrant.QdrantIndex(qdrant.connect(IndexSettings(qdrant_url=url)), "c", url)
        index.fields._known, index.fields._read_at = {}, time.monotonic()  # nothing but the write itself is asked
        return index

    return index


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("status", ["acknowledged", "wait_timeout"])
def test_only_completed_is_done(answering, write, status):
    index = answering(200, {"result": {"operation_id": 1, "status": status}, "status": "ok", "time": 0.1})

    with pytest.raises(IndexUnavailable, match="did not finish"):
        write(index)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("status", [429, 500, 503, 507])
def test_a_full_disk_and_a_server_in_trouble_are_outages_and_never_done(answering, write, status):
    index = answering(status, {"status": {"error": "no"}, "time": 0.1})

    with pytest.raises(IndexUnavailable, match=f"answers {status}"):
        write(index)


@pytest.mark.parametrize("when", ["7", "Thu, 26 Nov 2026 12:00:00 GMT"])
def test_a_server_that_says_when_to_come_again_is_an_outage_by_either_road(httpserver: HTTPServer, when):
    httpserver.expect_request(re.compile("/.*")).respond_with_json(
        {"status": {"error": "no"}}, status=429, headers={"Retry-After": when}
    )
    settings = IndexSettings(qdrant_url=httpserver.url_for("").rstrip("/"))
    index = qdrant.QdrantIndex(qdrant.connect(settings), "c", settings.qdrant_url)

    for ask in (lambda: index.stored("d"), index.count, QdrantSearch(settings, timeout=2).check):
        with pytest.raises(IndexUnavailable, match="answers 429"):
            ask()


def test_a_collection_that_is_gone_is_told_from_a_point_that_is_gone(answering, qdrant_url):
    with pytest.raises(IndexMisconfigured):
        WRITES["put"](answering(404, {"status": {"error": "Not found: No point with id 1 found"}, "time": 0.1}))

    client = qdrant.connect(IndexSettings(qdrant_url=qdrant_url))
    with pytest.raises(IndexGone, match="made again"):
        qdrant.QdrantIndex(client, "no-such-collection", qdrant_url).stored("d")
    condition = m.Filter(must=[])
    with pytest.raises(IndexGone), qdrant.translated(qdrant_url):
        client.delete("no-such-collection", condition)
