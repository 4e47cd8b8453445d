"""The audit over real files, a real ledger and Qdrant's engine: whatever is planted is found, named and made right."""

from __future__ import annotations

import json
import os
import random
from uuid import uuid4

import pytest
from qdrant_client import models as m
from sqlalchemy import delete, select, update

from producers.uploads import UploadStore
from tests.support.place import Place
from workers.adapters import qdrant
from workers.adapters.qdrant_audit import QdrantAudit
from workers.contract import schema
from workers.contract.identity import document_id
from workers.contract.intake import beat
from workers.contract.schema import audits, documents
from workers.contract.settings import IndexSettings
from workers.contract.states import State
from workers.housekeeping.books import Books
from workers.housekeeping.docket import Docket
from workers.housekeeping.pulse import Pulse
from workers.indexing.facts import COLLECTION_FACT
from workers.indexing.ledger import Ledger
from workers.indexing.recipe import space_fact


@pytest.fixture(scope="module")
def shared_collection(qdrant_url):
    """Making a collection is the slowest part of these tests; each leaves it empty."""
    client, name = qdrant.connect(IndexSettings(qdrant_url=qdrant_url)), f"test-{uuid4().hex}"
    qdrant.create_collection(client, name, 3, qdrant_url)
    yield name
    client.delete_collection(name)
    client.close()


@pytest.fixture
def place(tmp_path, qdrant_url, shared_collection):
    place = Place(tmp_path, qdrant_url, shared_collection)
    for number in range(4):
        place.write(f"{number}.txt", f"one {number}\n\ntwo {number}\n\nthree {number}")
    yield place
    place.close()


def kinds(report: dict) -> dict[str, tuple[int, int]]:
    return {kind: (each["documents"], each["points"]) for kind, each in report["findings"].items()}


def paths(report: dict, kind: str) -> list[str]:
    return [each["path"] for each in report["findings"][kind]["examples"]]


def test_a_right_index_is_found_to_be_right_and_nothing_is_written(place):
    before = [(record.id, record.payload) for record in place.points()]

    report = place.audit(repair=True)

    assert report["clean"]
    assert (report["documents"], report["points"], report["files"]) == (4, 12, 4)
    assert [(record.id, record.payload) for record in place.points()] == before


def lose_a_point(place):
    place.client.delete(place.collection, [place.points("1.txt")[1].id])


def double_a_point(place):
    record = place.points("1.txt")[1]
    copy = m.PointStruct(id=str(uuid4()), payload=record.payload, vector=record.vector)
    place.client.upsert(place.collection, [copy], wait=True)


def age_a_point(place):
    place.client.set_payload(place.collection, {"version": "an older one"}, points=[place.points("1.txt")[1].id])


def claim_a_vector(place):
    place.client.delete_vectors(place.collection, [""], points=[place.points("1.txt")[1].id])


def deny_a_vector(place):
    place.client.set_payload(place.collection, {"embedded": False}, points=[place.points("1.txt")[1].id])


def restore_an_older_ledger(place):
    place.put("1.txt", token=place.row("1.txt").token - 5)


def bring_back_a_deleted_document(place):
    kept = place.points("1.txt")
    (place.root / "1.txt").unlink()
    place.see("1.txt")
    structs = [m.PointStruct(id=r.id, payload=r.payload, vector=r.vector) for r in kept]
    place.client.upsert(place.collection, structs, wait=True)


def forget_a_document(place):
    (place.root / "1.txt").unlink()
    with place.engine.begin() as connection:
        connection.execute(delete(documents).where(documents.c.id == place.id("1.txt")))


def miss_an_edit(place):
    (place.root / "1.txt").write_text("one 1\n\nsomething else")


def miss_a_file(place):
    (place.root / "new.txt").write_text("nobody has seen this")


def miss_a_file_that_came_back(place):
    text = (place.root / "1.txt").read_text()
    (place.root / "1.txt").unlink()
    place.see("1.txt")
    (place.root / "1.txt").write_text(text)


def miss_a_new_rule(place):
    (place.root / ".upwellignore").write_text("1.txt\n")


PLANTED = [
    (lose_a_point, {"lost": (1, 1)}),
    (double_a_point, {"duplicate": (1, 1)}),
    (age_a_point, {"stale": (1, 1)}),
    (claim_a_vector, {"mislabelled": (1, 1)}),
    (deny_a_vector, {"mislabelled": (1, 1)}),
    (restore_an_older_ledger, {"ahead": (1, 3)}),
    (bring_back_a_deleted_document, {"orphaned": (1, 3)}),
    (forget_a_document, {"orphaned": (1, 3)}),
    (miss_an_edit, {"stale": (1, 0)}),
    (miss_a_file, {"unlisted": (1, 0)}),
    (miss_a_file_that_came_back, {"unlisted": (1, 0)}),
    (miss_a_new_rule, {"stale": (1, 0)}),
]


@pytest.mark.parametrize(("plant", "expected"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_what_is_planted_is_found_and_repaired_and_nothing_else(place, plant, expected):
    plant(place)

    report = place.audit()
    assert not report["clean"]
    assert kinds(report) == expected

    report = place.audit(repair=True)
    assert report["clean"], report
    assert place.audit()["clean"]
    listed = {entry.name for entry in place.root.glob("*.txt")} - ({"1.txt"} if plant is miss_a_new_rule else set())
    told = {record.payload["metadata"]["path"] for record in place.points()}
    assert told == listed
    for name in listed:
        assert place.contents(name) == (place.root / name).read_text().split("\n\n")
    assert all(record.payload["embedded"] and record.vector for record in place.points())


def test_a_repair_of_points_pays_for_no_text_again(place):
    place.embedder.texts.clear()
    for plant in (lose_a_point, age_a_point):
        plant(place)
        assert place.audit(repair=True)["clean"]

    assert place.embedder.texts == []


def test_a_rewrite_with_the_same_size_and_times_is_found_by_reading_the_files(place):
    file = place.root / "2.txt"
    before = file.stat()
    file.write_text(file.read_text().replace("one", "eno"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert place.audit()["clean"]

    assert paths(place.audit(deep=True), "stale") == ["2.txt"]
    assert place.audit(deep=True, repair=True)["clean"]
    assert place.contents("2.txt")[0] == "eno 2"


def test_foreign_points_are_reported_and_never_touched(place):
    vector = {"": [1.0, 0.0, 0.0]}
    stranger = {"text": "not ours"}
    disguised = place.points("1.txt")[0].payload | {"doc_id": str(uuid4())}
    elsewhere = place.points("1.txt")[0].payload
    elsewhere = elsewhere | {
        "doc_id": document_id("other", "1.txt"),
        "metadata": elsewhere["metadata"] | {"source": "other"},
    }
    ids = [7, *(str(uuid4()) for _ in range(3))]
    payloads = [stranger, stranger, disguised, elsewhere]
    structs = [m.PointStruct(id=i, payload=p, vector=vector) for i, p in zip(ids, payloads, strict=True)]
    place.client.upsert(place.collection, structs, wait=True)

    report = place.audit(repair=True)

    assert not report["clean"]
    assert kinds(report) == {"foreign": (4, 4)}
    assert report["repaired"] == {}
    assert len(place.client.retrieve(place.collection, ids)) == 4


def test_points_without_an_owner_whose_document_comes_back_meanwhile_are_left_alone(place):
    class Slow(QdrantAudit):
        def forget(self, document_id: str, token: int) -> None:
            place.write("back.txt", "it is back")
            super().forget(document_id, token)

    [some, *_] = place.points("1.txt")
    metadata = some.payload["metadata"] | {"path": "back.txt"}
    orphan = some.payload | {"doc_id": place.id("back.txt"), "metadata": metadata, "token": 1}
    place.client.upsert(
        place.collection, [m.PointStruct(id=str(uuid4()), payload=orphan, vector=some.vector)], wait=True
    )

    place.audit(repair=True, index=Slow(place.client, place.collection, place.url))

    assert place.contents("back.txt") == ["it is back"]


def test_a_vanished_file_is_left_to_its_watcher(place):
    (place.root / "1.txt").unlink()

    report = place.audit(repair=True)

    assert kinds(report) == {"vanished": (1, 0)}
    assert not report["clean"]
    assert len(place.points("1.txt")) == 3


def test_a_missing_root_deletes_nothing_and_is_said(place):
    forget_a_document(place)
    place.root.rename(place.home / "unmounted")

    report = place.audit(repair=True)

    assert [each["source"] for each in report["unchecked"]] == ["docs"]
    assert report["findings"] == {}
    assert not report["clean"]
    assert len(place.points()) == 12


def test_an_empty_folder_in_the_place_of_the_root_deletes_nothing(place):
    forget_a_document(place)
    place.root.rename(place.home / "unmounted")
    place.root.mkdir()

    report = place.audit(repair=True)

    assert [each["source"] for each in report["unchecked"]] == ["docs"]
    assert len(place.points()) == 12


def test_documents_that_are_being_worked_on_are_no_findings(place):
    lose_a_point(place)
    place.put("1.txt", lease_until=4e9)
    (place.root / "new.txt").write_text("just written")
    beat(place.engine, "watcher", {"dirty": 1, "sources": ["docs"]})

    report = place.audit()

    assert report["findings"] == {}
    assert report["busy"] == 2


def test_a_change_that_a_watcher_has_in_hand_is_no_finding(place):
    miss_an_edit(place)
    beat(place.engine, "watcher", {"dirty": 1, "sources": ["docs"]})
    assert place.audit()["findings"] == {}

    beat(place.engine, "watcher", {"dirty": 0, "sources": ["docs"]})
    assert kinds(place.audit()) == {"stale": (1, 0)}


def test_a_file_that_is_still_being_written_is_no_finding(place):
    class Slow(QdrantAudit):
        def points_of(self, document_ids):
            with (place.root / "1.txt").open("a") as file:
                file.write("and more")
            return super().points_of(document_ids)

    miss_an_edit(place)

    report = place.audit(index=Slow(place.client, place.collection, place.url))

    assert report["findings"] == {}
    assert report["busy"] == 1


def test_edits_during_the_audit_raise_no_alarm(place):
    """Files change, come, go and are indexed between any two steps of the audit."""

    class Restless(QdrantAudit):
        def pages(self):
            for page in super().pages():
                edit()
                yield page
                edit()

        def points_of(self, document_ids):
            found = super().points_of(document_ids)
            edit()
            return found

    chance = random.Random(4)

    def edit():
        for _ in range(3):
            name = f"{chance.randrange(6)}.txt"
            if chance.random() < 0.3:
                (place.root / name).unlink(missing_ok=True)
            else:
                (place.root / name).write_text("\n\n".join(chance.sample(["one", "two", "three", "four"], 3)))
            place.see(name)

    index = Restless(place.client, place.collection, place.url)
    for _ in range(10):
        report = place.audit(index=index)
        assert report["findings"] == {}, report

    assert place.audit()["clean"]


class TestLosses:
    def test_a_lost_ledger_is_rebuilt_from_files_and_index_without_embedding_anything(self, place):
        place.embedder.texts.clear()
        (place.root / "3.txt").unlink()
        place.lose_ledger()

        place.see("0.txt", "1.txt", "2.txt")
        assert {place.row(f"{n}.txt").state for n in range(3)} == {State.READY}
        report = place.audit(repair=True)

        assert kinds(report) == {"orphaned": (1, 3)}
        assert report["clean"]
        assert place.points("3.txt") == []
        assert len(place.points()) == 9
        assert place.embedder.texts == []

    def test_a_text_that_moved_while_the_ledger_was_lost_is_not_paid_for_again(self, place):
        place.embedder.texts.clear()
        (place.root / "3.txt").rename(place.root / "moved.txt")
        place.lose_ledger()

        place.see("0.txt", "1.txt", "2.txt", "moved.txt")
        assert place.audit(repair=True)["clean"]

        assert {record.payload["metadata"]["path"] for record in place.points()} >= {"moved.txt"}
        assert all(record.vector for record in place.points("moved.txt"))
        assert place.embedder.texts == []
        (place.root / "moved.txt").rename(place.root / "again.txt")  # and now the cache knows it, too
        place.see("moved.txt", "again.txt")
        assert place.row("again.txt").state == State.READY
        assert place.embedder.texts == []

    def test_yesterdays_ledger_catches_up_with_edits_deletions_and_new_files(self, place):
        yesterday = place.keep_ledger()
        for number in range(8):
            place.write("0.txt", f"one 0\n\nedit {number}")
        (place.root / "1.txt").unlink()
        place.see("1.txt")
        place.write("4.txt", "new today")
        place.write("2.txt", "today it was this")
        place.restore_ledger(yesterday)
        (place.root / "0.txt").write_text("one 0\n\ntwo 0")
        place.embedder.texts.clear()

        place.see("0.txt", "1.txt", "2.txt", "3.txt", "4.txt")  # the watcher's first scan
        for _ in range(2):  # the sweep: what has met later tokens is claimed anew
            place.look([place.id(f"{n}.txt") for n in range(5)])

        assert [place.contents(f"{n}.txt") for n in (0, 1, 2, 4)] == [
            ["one 0", "two 0"],
            [],
            ["today it was this"],
            ["new today"],
        ]
        assert {place.row(f"{n}.txt").state for n in (0, 2, 4)} == {State.READY}
        assert place.audit(repair=True)["clean"]
        assert place.audit()["clean"]
        assert place.embedder.texts == []

    def test_an_older_copy_of_qdrants_data_catches_up(self, place):
        yesterday = place.points()
        place.write("0.txt", "one 0\n\nedited")
        (place.root / "1.txt").unlink()
        place.see("1.txt")
        place.write("4.txt", "new today")
        place.client.delete(place.collection, m.Filter(must=[]))
        structs = [m.PointStruct(id=r.id, payload=r.payload, vector=r.vector) for r in yesterday]
        place.client.upsert(place.collection, structs, wait=True)
        place.embedder.texts.clear()

        report = place.audit(repair=True)

        assert kinds(report) == {"lost": (1, 1), "stale": (1, 3), "duplicate": (1, 1), "orphaned": (1, 3)}
        assert report["clean"]
        assert [place.contents(f"{n}.txt") for n in (0, 1, 4)] == [["one 0", "edited"], [], ["new today"]]
        assert place.embedder.texts == []

    def test_points_that_qdrant_has_lost_come_back_from_the_cache(self, place):
        place.embedder.texts.clear()
        place.client.delete(place.collection, m.Filter(must=[]))

        report = place.audit(repair=True)

        assert kinds(report) == {"lost": (4, 12)}
        assert report["clean"]
        assert place.contents("2.txt") == ["one 2", "two 2", "three 2"]
        assert place.embedder.texts == []

    def test_uploads_survive_a_lost_ledger(self, place):
        store = UploadStore(place.engine, place, place.home, 10_000)
        kept = store.put([b"an upload"], filename="a.txt", external_id="notes/a.txt", metadata={"team": "blue"})
        dropped = store.put([b"another"], filename="b.txt")
        store.remove(dropped.document_id)
        place.lose_ledger()
        UploadStore(place.engine, place, place.home, 10_000)
        place.see("0.txt", "1.txt", "2.txt", "3.txt")

        report = place.audit(repair=True)

        assert kinds(report) == {"unlisted": (1, 0)}
        assert report["clean"]
        [point] = [r for r in place.points() if r.payload["metadata"]["source"] == "uploads"]
        assert point.payload["doc_id"] == kept.document_id
        assert (point.payload["metadata"]["path"], point.payload["metadata"]["team"]) == ("notes/a.txt", "blue")

    def test_an_upload_whose_bytes_are_gone_waits_for_a_person(self, place):
        store = UploadStore(place.engine, place, place.home, 10_000)
        kept = store.put([b"an upload"], filename="a.txt", external_id="a.txt")
        with place.engine.connect() as connection:
            raw = connection.scalar(select(documents.c.raw_path).where(documents.c.id == kept.document_id))
        (place.home / "uploads" / os.fsdecode(raw)).unlink()

        report = place.audit(repair=True)

        assert kinds(report) == {"vanished": (1, 0)}
        with place.engine.connect() as connection:
            state = connection.scalar(select(documents.c.state).where(documents.c.id == kept.document_id))
        assert state == State.HELD


class TestTurns:
    def test_an_audit_is_done_once_however_many_housekeepers_there_are(self, place):
        place.docket.ask("person", repair=False)

        first, second = place.auditor(), place.auditor()

        assert first.turn() is not None
        assert second.turn() is None

    def test_the_regular_audit_repairs_and_comes_again_only_after_its_interval(self, place):
        with place.engine.begin() as connection:
            connection.execute(update(schema.sources).values(added_at=1.0, scanned_at=2.0))
        Ledger(place.engine, "worker").remember_fact(COLLECTION_FACT, place.collection)
        lose_a_point(place)

        report = place.auditor(interval_s=3600.0).turn()

        assert report["clean"]
        assert report["repaired"] == {"lost": 1}
        assert place.auditor(interval_s=3600.0).turn() is None
        with place.engine.begin() as connection:
            connection.execute(update(audits).values(finished_at=audits.c.finished_at - 4000.0))
        assert place.auditor(interval_s=3600.0).turn() is not None

    def test_the_regular_audit_waits_until_folders_have_been_scanned(self, place):
        with place.engine.begin() as connection:
            now = connection.scalar(select(schema.now(connection)))
            connection.execute(update(schema.sources).values(added_at=now))

        assert place.auditor(interval_s=3600.0).turn() is None

    def test_the_regular_audit_waits_for_the_first_index_worker(self, place):
        """On a first start there is no collection yet, and nobody should read of that as of a fault."""
        with place.engine.begin() as connection:
            now = connection.scalar(select(schema.now(connection)))
            connection.execute(update(schema.sources).values(added_at=now - 10, scanned_at=now))
        assert place.auditor(interval_s=3600.0).turn() is None

        Ledger(place.engine, "worker").remember_fact(COLLECTION_FACT, place.collection)

        assert place.auditor(interval_s=3600.0).turn() is not None

    def test_a_dead_housekeepers_audit_is_started_again_by_another(self, place):
        key = place.docket.ask("person", repair=False)
        assert place.docket.take() is not None
        assert place.auditor().turn() is None

        with place.engine.begin() as connection:
            connection.execute(update(audits).values(lease_until=1.0))

        assert place.auditor().turn() is not None
        assert place.docket.get(key).state == "done"

    def test_an_audit_that_ends_its_housekeepers_is_given_up_with_a_reason(self, place):
        key = place.docket.ask("person", repair=False)
        for _ in range(3):
            assert place.docket.take() is not None
            with place.engine.begin() as connection:
                connection.execute(update(audits).values(lease_until=1.0))

        assert place.auditor().turn() is None
        assert place.docket.get(key).state == "failed"
        assert "3 times" in place.docket.get(key).report["failed"]

    def test_qdrant_away_is_told_and_is_no_finding(self, place):
        place.docket.ask("person", repair=True)
        away = qdrant.connect(IndexSettings(qdrant_url="http://127.0.0.1:9", qdrant_timeout=1))

        report = place.auditor(index=QdrantAudit(away, place.collection, "http://127.0.0.1:9")).turn()

        assert not report["clean"]
        assert "UPWELL_QDRANT_URL" in report["failed"]
        assert place.docket.last().state == "failed"


class TestPulse:
    """The collection is felt now and then, also when nobody touches a document."""

    @pytest.fixture
    def alone(self, tmp_path, qdrant_url, collection):
        """A place with a collection of its own, because these tests delete it."""
        place = Place(tmp_path, qdrant_url, collection)
        qdrant.create_collection(place.client, collection, 3, qdrant_url)
        place.alias = f"{collection}-alias"
        qdrant.point_alias(place.client, place.alias, collection, qdrant_url)
        ledger = place.worker.ledger
        ledger.remember_fact(COLLECTION_FACT, collection)
        ledger.remember_fact(space_fact(collection), json.dumps({"model": "model", "dimensions": 3}))
        with place.engine.begin() as connection:
            connection.execute(update(schema.sources).values(scanned_at=1.0))
        for number in range(3):
            place.write(f"{number}.txt", f"one {number}\n\ntwo {number}")
        yield place
        place.client.delete_collection(collection)
        place.engine.dispose()

    def pulse(self, place: Place) -> Pulse:
        books, docket = Books(place.engine), Docket(place.engine)
        return Pulse(place.worker.ledger, books, docket, place.client, alias=place.alias, url=place.url)

    def sweep(self, place: Place) -> None:
        place.look([key for key, _ in place.worker.ledger.due("recipe", 100)])

    def test_a_deleted_collection_is_made_again_and_filled_without_a_call_for_vectors(self, alone):
        alone.embedder.texts.clear()
        alone.client.delete_collection(alone.collection)

        self.pulse(alone).feel()
        self.sweep(alone)

        _, aliases = qdrant.physical_collections(alone.client, alone.url)
        assert aliases[alone.alias] == alone.collection
        assert [alone.contents(f"{n}.txt") for n in range(3)] == [[f"one {n}", f"two {n}"] for n in range(3)]
        assert all(record.vector for record in alone.points())
        assert alone.embedder.texts == []
        assert alone.audit()["clean"]

    def test_an_edit_while_the_collection_is_gone_costs_no_attempt_and_arrives(self, alone):
        alone.client.delete_collection(alone.collection)

        alone.write("0.txt", "edited meanwhile")
        assert (alone.row("0.txt").state, alone.row("0.txt").attempts) == (State.FAILED, 0)
        assert "made again" in alone.row("0.txt").reason
        self.pulse(alone).feel()
        self.sweep(alone)

        assert alone.contents("0.txt") == ["edited meanwhile"]

    def test_two_housekeepers_rebuild_once(self, alone):
        first, second = self.pulse(alone), self.pulse(alone)
        alone.client.delete_collection(alone.collection)
        generation = alone.row("0.txt").desired_generation

        first._rebuild(alone.collection)
        second._rebuild(alone.collection)

        assert alone.row("0.txt").desired_generation == generation + 1

    def test_a_rebuild_that_was_cut_short_is_done_by_the_next(self, alone, monkeypatch):
        alone.client.delete_collection(alone.collection)
        monkeypatch.setattr(qdrant, "create_collection", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            self.pulse(alone).feel()
        monkeypatch.undo()
        with alone.engine.begin() as connection:
            connection.execute(delete(schema.meta).where(schema.meta.c.key == "turn:rebuild"))

        self.pulse(alone).feel()
        self.sweep(alone)

        assert len(alone.points()) == 6

    def test_a_held_deletion_stays_held(self, alone):
        alone.put("0.txt", state=State.HELD)
        alone.client.delete_collection(alone.collection)

        self.pulse(alone).feel()

        assert alone.row("0.txt").state == State.HELD

    def test_a_lost_alias_is_set_again(self, alone):
        operation = m.DeleteAliasOperation(delete_alias=m.DeleteAlias(alias_name=alone.alias))
        alone.client.update_collection_aliases([operation])

        self.pulse(alone).feel()

        assert qdrant.physical_collections(alone.client, alone.url)[1][alone.alias] == alone.collection
        assert len(alone.points()) == 6

    def test_a_number_of_points_that_stays_wrong_asks_for_an_audit_once(self, alone):
        alone.client.delete(alone.collection, [alone.points()[0].id])
        pulse = self.pulse(alone)

        pulse.feel()
        assert alone.docket.running() is None
        pulse.feel()
        assert alone.docket.running().asked_by == "count"

        assert alone.auditor().turn()["clean"]
        for _ in range(3):
            pulse.feel()
        assert alone.docket.running() is None

    def test_foreign_points_that_an_audit_has_reported_ask_for_no_other(self, alone):
        alone.client.upsert(alone.collection, [m.PointStruct(id=7, payload={}, vector={})], wait=True)
        pulse = self.pulse(alone)
        for _ in range(2):
            pulse.feel()
        assert kinds(alone.auditor().turn()) == {"foreign": (1, 1)}
        with alone.engine.begin() as connection:
            connection.execute(update(audits).values(asked_at=1.0))

        for _ in range(3):
            pulse.feel()

        assert alone.docket.running() is None

    def test_nothing_is_counted_while_documents_are_on_their_way(self, alone):
        alone.client.delete(alone.collection, [alone.points()[0].id])
        alone.put("1.txt", state=State.QUEUED)
        pulse = self.pulse(alone)

        for _ in range(3):
            pulse.feel()

        assert alone.docket.running() is None
