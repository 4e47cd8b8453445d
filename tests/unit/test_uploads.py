"""An upload is safe on disk and in the ledger before anybody is told; a failed one leaves nothing."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from producers import uploads
from producers.uploads import StorageFull, UploadStore, UploadTooLarge
from tests.support.memory import RecordedHints
from workers.contract import schema
from workers.contract.schema import documents


@pytest.fixture
def engine(tmp_path):
    engine = schema.open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine, tmp_path):
    return UploadStore(engine, RecordedHints(), tmp_path / "data", max_bytes=1000)


def row(engine, key):
    with engine.connect() as connection:
        return connection.execute(select(documents).where(documents.c.id == key)).one()


def kept(tmp_path) -> list[bytes]:
    stored = (tmp_path / "data" / "uploads").iterdir()
    return [file.read_bytes() for file in stored if not file.name.startswith(".")]


def test_an_upload_is_stored_under_a_name_of_ours_and_hinted(store, engine, tmp_path):
    stored = store.put([b"hello ", b"world"], filename="../notes.txt", metadata={"team": "red"})

    assert stored.path.endswith("/notes.txt")
    assert stored.created
    assert kept(tmp_path) == [b"hello world"]
    assert json.loads(row(engine, stored.document_id).extra) == {"team": "red"}
    assert store._hints.looked == [stored.document_id]


def test_the_same_external_id_is_a_new_version_of_the_same_document(store, engine, tmp_path):
    first = store.put([b"one"], filename="a.txt", external_id="team/a.txt")
    second = store.put([b"two"], filename="a.txt", external_id="team/a.txt")

    assert first.document_id == second.document_id
    assert (first.created, second.created) == (True, False)
    assert kept(tmp_path) == [b"two"]
    assert row(engine, first.document_id).desired_generation == 2


def test_the_same_bytes_without_an_id_are_the_same_document(store):
    assert store.put([b"x"], filename="a.txt").document_id == store.put([b"x"], filename="a.txt").document_id


def test_too_much_is_cut_off_and_leaves_nothing(store, engine, tmp_path):
    with pytest.raises(UploadTooLarge, match="UPWELL_UPLOAD_MAX_BYTES"):
        store.put((b"x" * 100 for _ in range(1000)), filename="a.txt")

    assert kept(tmp_path) == []


def test_a_full_disk_is_said_to_be_one(store, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "LITTLE", 1 << 60)

    with pytest.raises(StorageFull):
        store.put([b"x"], filename="a.txt")
    assert kept(tmp_path) == []


def test_a_disk_that_others_fill_meanwhile_ends_an_upload_at_the_floor(store, tmp_path, monkeypatch):
    free = iter([uploads.LITTLE, uploads.LITTLE - 1])
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda _: SimpleNamespace(free=next(free)))
    monkeypatch.setattr(uploads, "LOOK_EVERY", 500)

    with pytest.raises(StorageFull):
        store.put([b"x" * 400, b"x" * 400], filename="a.txt")
    assert [file for file in (tmp_path / "data" / "uploads").iterdir() if file.suffix == ".part"] == []


def test_a_ledger_that_fails_leaves_no_promise(store, engine, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads.intake, "observe", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        store.put([b"x"], filename="a.txt")
    assert store._hints.looked == []


def test_a_ledger_whose_disk_is_full_promises_nothing_and_takes_uploads_again_when_there_is_room(store, engine):
    limit = {"pages": 0}

    @event.listens_for(engine, "begin")
    def limited(connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {limit['pages'] or 1 << 30}")

    store.put([b"x"], filename="first.txt")
    with engine.connect() as connection:
        limit["pages"] = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def fill() -> None:
        for number in range(1000):
            store.put([b"y" * number], filename=f"{number}.txt", metadata={"note": "z" * 500})

    with pytest.raises(OperationalError, match="full"):
        fill()
    with engine.connect() as connection:
        recorded = connection.scalars(select(documents.c.id)).all()
    assert set(store._hints.looked) == set(recorded)

    limit["pages"] = 0
    assert store.put([b"at last"], filename="last.txt").created


def test_what_a_killed_api_had_half_received_is_removed_a_day_later(store, engine, tmp_path):
    drafts = [tmp_path / "data" / "uploads" / f".{name}.part" for name in ("old", "fresh")]
    for draft in drafts:
        draft.write_bytes(b"half of")
    os.utime(drafts[0], (1.0, 1.0))

    UploadStore(engine, RecordedHints(), tmp_path / "data", max_bytes=1000)

    assert [draft.exists() for draft in drafts] == [False, True]


def test_a_removed_upload_is_wanted_no_more_and_its_bytes_are_gone(store, engine, tmp_path):
    stored = store.put([b"x"], filename="a.txt", metadata={"patient": "Ann"})

    assert store.remove(stored.document_id)

    assert row(engine, stored.document_id).wanted == "absent"
    assert kept(tmp_path) == []
    assert [file.name for file in (tmp_path / "data" / "uploads").iterdir() if "about" in file.name] == []
    assert row(engine, stored.document_id).extra == "{}"
    assert not store.remove(stored.document_id)
    assert not store.remove("6d3f9c0e-5a5b-5d0e-9a41-6f1f6b8a7c11")
