"""One road for every change: whatever happened, the index ends as the file is, and nothing is paid for twice."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from tests.support.memory import MemoryIndex
from tests.support.workbench import Workbench
from workers.contract import schema
from workers.contract.identity import document_id
from workers.contract.schema import documents
from workers.contract.states import State
from workers.errors import (
    DocumentEncrypted,
    EmbedderUnavailable,
    IndexUnavailable,
    NoText,
    ParserCrashed,
    UnsupportedType,
)
from workers.housekeeping.sweep import Waiting, sweep
from workers.indexing.breaker import Breaker
from workers.indexing.chunk import embedded_text
from workers.indexing.deadline import LeaseLost
from workers.indexing.desk import Wanted
from workers.indexing.ledger import Ledger
from workers.indexing.reconcile import Pipeline


@pytest.fixture
def bench(tmp_path):
    bench = Workbench(tmp_path)
    yield bench
    bench.engine.dispose()


def test_a_new_file_is_searchable_before_it_is_embedded_and_ready_after(bench):
    key = bench.write("a.txt", "one fish\n\ntwo fish")

    bench.worker.look(key)
    assert bench.index.contents(key) == ["one fish", "two fish"]
    assert (bench.row(key).state, bench.row(key).vectors_pending) == (State.EMBEDDING, 2)

    bench.worker.embed()
    assert (bench.row(key).state, bench.row(key).vectors_pending) == (State.READY, 0)


def test_an_edit_embeds_only_the_chunk_it_changed(bench):
    key = bench.write("a.txt", "one\n\ntwo\n\nthree")
    bench.run(key)
    bench.embedder.texts.clear()

    bench.write("a.txt", "one\n\ntwo and a half\n\nthree")
    bench.run(key)

    assert bench.index.contents(key) == ["one", "two and a half", "three"]
    assert len(bench.embedder.texts) == 1


def test_an_insertion_at_the_top_embeds_only_itself_and_moves_the_others(bench):
    key = bench.write("a.txt", "one\n\ntwo")
    bench.run(key)
    bench.embedder.texts.clear()

    bench.write("a.txt", "zero\n\none\n\ntwo")
    bench.run(key)

    assert bench.index.contents(key) == ["zero", "one", "two"]
    assert len(bench.embedder.texts) == 1
    assert [p["metadata"]["chunk"] for p in bench.index.points.values() if p["content"] == "two"] == [2]


def test_the_first_chunk_carries_the_documents_name_and_hands_it_on(bench):
    key = bench.write("acme.txt", "one\n\ntwo")
    bench.run(key)
    bench.embedder.texts.clear()
    for text, first in (("zero\n\none\n\ntwo", "zero"), ("two\n\none", "two")):
        bench.write("acme.txt", text)
        bench.run(key)

        named = {p["content"]: p["name"] for p in bench.index.points.values() if p["name"] is not None}
        assert named == {first: "acme.txt"}
    assert len(bench.embedder.texts) == 1  # zero


def test_a_touch_parses_nothing_and_writes_nothing(bench):
    key = bench.write("a.txt", "one")
    bench.run(key)
    parsed, writes = bench.parser.parsed, bench.index.writes

    os.utime(bench.root / "a.txt")
    bench.see("a.txt")
    bench.run(key)

    assert (bench.parser.parsed, bench.index.writes) == (parsed, writes)
    assert bench.row(key).state == State.READY


def test_a_rename_a_copy_and_a_revert_embed_nothing(bench):
    key = bench.write("a.txt", "one\n\ntwo")
    bench.run(key)
    bench.write("a.txt", "one\n\nthree")
    bench.run(key)
    bench.embedder.texts.clear()

    bench.write("a.txt", "one\n\ntwo")
    bench.run(key)
    copy = bench.write("b.txt", "one\n\ntwo")
    bench.run(copy)
    (bench.root / "a.txt").rename(bench.root / "c.txt")
    bench.see("a.txt")
    moved = bench.see("c.txt")
    bench.run(moved)
    bench.run(key)

    assert bench.embedder.texts == []
    assert bench.index.contents(key) == []
    assert bench.index.contents(copy) == bench.index.contents(moved) == ["one", "two"]
    assert [bench.row(k).state for k in (key, copy, moved)] == [State.DELETED, State.READY, State.READY]


def test_equal_paragraphs_are_chunks_of_their_own(bench):
    key = bench.write("a.txt", "same\n\nsame\n\nsame")
    bench.run(key)

    assert bench.index.contents(key) == ["same"] * 3
    assert len(bench.embedder.texts) == 1


def test_a_file_that_vanished_stays_until_the_watcher_confirms_it(bench):
    key = bench.write("a.txt", "one")
    bench.run(key)
    bench.see("a.txt")
    (bench.root / "a.txt").unlink()

    bench.run(key)
    assert bench.index.contents(key) == ["one"]
    assert bench.row(key).state == State.FAILED

    bench.see("a.txt")
    bench.expire(key)
    bench.run(key)
    assert bench.index.contents(key) == []
    assert bench.row(key).state == State.DELETED


def test_a_deletion_that_came_true_too_late_indexes_what_is_there(bench):
    key = bench.write("a.txt", "one")
    bench.run(key)
    (bench.root / "a.txt").unlink()
    bench.see("a.txt")
    (bench.root / "a.txt").write_text("two")

    bench.run(key)

    assert bench.index.contents(key) == ["two"]


def test_a_link_put_in_a_files_place_is_never_followed(bench, tmp_path):
    (tmp_path / "secret").write_text("root password")
    key = bench.write("a.txt", "one")
    (bench.root / "a.txt").unlink()
    (bench.root / "a.txt").symlink_to(tmp_path / "secret")

    bench.run(key)

    assert bench.index.contents(key) == []


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (DocumentEncrypted("It is protected by a password."), State.PARKED),
        (NoText("There is no text in it."), State.EMPTY),
        (UnsupportedType("A picture."), State.SKIPPED),
    ],
)
def test_what_cannot_be_indexed_says_why_and_leaves_nothing_of_its_old_version(bench, error, state):
    key = bench.write("a.txt", "one")
    bench.run(key)
    bench.parser.error = error

    bench.write("a.txt", "changed")
    bench.run(key)

    assert bench.index.contents(key) == []
    assert (bench.row(key).state, bench.row(key).reason) == (state, str(error))


def test_a_file_over_the_limit_is_parked_and_names_the_setting(bench):
    key = bench.write("a.txt", "x" * 20_000)

    bench.run(key)

    assert bench.row(key).state == State.PARKED
    assert "UPWELL_PARSE_MAX_BYTES" in bench.row(key).reason


def test_a_document_that_crashes_its_parser_is_tried_three_times_and_parked(bench):
    key = bench.write("a.txt", "one")
    bench.parser.error = ParserCrashed("The parser ended with signal 11.")

    for expected in (State.FAILED, State.FAILED, State.PARKED):
        bench.run(key)
        assert bench.row(key).state == expected
        bench.expire(key)

    bench.run(key)
    assert bench.parser.parsed == 3
    assert "Tried 3 times" in bench.row(key).reason


def test_a_document_that_kills_its_worker_is_parked_after_three_pick_ups(bench):
    key = bench.write("a.txt", "one")
    for _ in range(3):
        assert bench.ledger.claim(key, "recipe") is not None  # and the worker dies
        bench.expire(key)

    bench.run(key)

    assert bench.row(key).state == State.PARKED
    assert bench.parser.parsed == 0


def test_an_outage_of_the_index_consumes_no_attempt(bench, monkeypatch):
    key = bench.write("a.txt", "one")

    def away(*_args):
        raise IndexUnavailable("No answer from Qdrant at http://x (UPWELL_QDRANT_URL).")

    with monkeypatch.context() as patch:
        patch.setattr(bench.index, "put", away)
        for _ in range(5):
            bench.run(key)
            assert (bench.row(key).state, bench.row(key).attempts) == (State.FAILED, 0)
            bench.expire(key)
            bench.worker.index_breaker.succeeded()
    bench.run(key)

    assert bench.row(key).state == State.READY


def test_while_the_index_is_away_one_document_tries_and_the_others_wait_in_the_queue(bench, monkeypatch):
    keys = [bench.write(f"{number}.txt", "one") for number in range(10)]
    now, asked = [0.0], []
    worker = replace(bench.worker, index_breaker=Breaker(clock=lambda: now[0]))

    def away(document):
        asked.append(document)
        raise IndexUnavailable("No answer from Qdrant at http://x (UPWELL_QDRANT_URL).")

    with monkeypatch.context() as patch:
        patch.setattr(bench.index, "stored", away)
        for key in keys:
            worker.look(key)
        assert len(asked) == 1
        assert [bench.row(key).state for key in keys] == [State.FAILED] + [State.QUEUED] * 9
        assert worker.index_breaker.told()["state"] == "open"
        assert "UPWELL_QDRANT_URL" in worker.index_breaker.told()["reason"]

        now[0] = 100.0
        for key in keys[1:]:
            worker.look(key)
        assert len(asked) == 2

    now[0] = 1000.0
    bench.expire(keys[0])
    for key in keys:
        worker.look(key)
    assert worker.index_breaker.told()["state"] == "closed"
    assert {bench.row(key).state for key in keys} == {State.EMBEDDING}


@pytest.mark.parametrize("end", [MemoryError, SystemExit])
def test_what_would_end_the_worker_costs_its_document_an_attempt_and_the_worker_lives(bench, end):
    key = bench.write("a.txt", "one")
    bench.parser.error = end()

    for expected in (State.FAILED, State.FAILED, State.PARKED):
        bench.run(key)
        assert (bench.row(key).state, bench.row(key).error_class) == (expected, end.__name__)
        bench.expire(key)


def test_a_ledger_that_does_not_take_the_commit_costs_no_attempt_and_nothing_is_called_done(bench, monkeypatch):
    key = bench.write("a.txt", "one")

    def busy(*_args):
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    with monkeypatch.context() as patch:
        patch.setattr(bench.ledger, "commit", busy)
        bench.worker.look(key)

    assert (bench.row(key).state, bench.row(key).attempts) == (State.FAILED, 0)
    assert "UPWELL_LEDGER_URL" in bench.row(key).reason


def test_a_document_that_joins_a_text_whose_vector_is_being_stored_gets_it_too(bench, monkeypatch):
    first, second = bench.write("a.txt", "one"), bench.write("b.txt", "one")
    bench.worker.look(first)
    bench.worker.look(second)
    bench.change(second, embed_lease_until=9e12)  # this process has it, and is about to hand its texts over
    [point] = bench.index.pending(second)
    text = embedded_text(point.heading, point.content)
    wanted = [Wanted(point.id, bench.worker.pipeline.space.cache_key(text), text)]
    token = bench.row(second).token
    during(
        bench,
        monkeypatch,
        "put_vectors",
        lambda: bench.worker.embedding.offer(second, token, bulk=False, wanted=wanted),
    )

    bench.worker.embed()

    assert [bench.row(key).state for key in (first, second)] == [State.READY, State.READY]
    assert bench.index.points[point.id]["embedded"]
    assert len(bench.embedder.texts) == 1


def test_the_sweep_asks_for_vectors_that_nobody_fetches(bench):
    bench.worker.look(bench.write("a.txt", "one"))
    before = bench.hints.embeds

    assert sweep(bench.ledger, bench.hints, "recipe", limit=10, waiting=Waiting()).embed
    assert bench.hints.embeds == before + 1

    bench.worker.embed()
    assert not sweep(bench.ledger, bench.hints, "recipe", limit=10, waiting=Waiting()).embed


def test_a_dead_endpoint_leaves_lexical_search_and_everything_is_embedded_later(bench):
    key = bench.write("a.txt", "one\n\ntwo")
    bench.embedder.error = EmbedderUnavailable("No answer from the endpoint.", retry_after=7.0)

    bench.run(key)
    assert bench.index.contents(key) == ["one", "two"]
    assert bench.row(key).state == State.EMBEDDING
    assert "Lexical search only" in bench.row(key).reason
    assert bench.breaker.seconds_open() > 0

    bench.embedder.error = None
    bench.breaker.succeeded()
    bench.expire(key)
    bench.worker.embed()
    assert (bench.row(key).state, bench.row(key).reason) == (State.READY, None)


def test_a_refused_text_is_bisected_out_and_only_its_chunk_is_marked(bench):
    key = bench.write("a.txt", "\n\n".join(["one", "two", "poison", "four", "five", "six"]))
    bench.embedder.refuse = "poison"

    bench.run(key)

    marked = [p["content"] for p in bench.index.points.values() if p["refused"]]
    assert marked == ["poison"]
    assert sum(p["embedded"] for p in bench.index.points.values()) == 5
    assert bench.row(key).state == State.READY
    assert "1 of its chunks" in bench.row(key).reason


def test_a_file_that_changes_while_it_is_read_is_read_again(bench, monkeypatch):
    key = bench.write("a.txt", "one")
    put = bench.index.put

    def edit_and_put(points, token):
        monkeypatch.setattr(bench.index, "put", put)
        (bench.root / "a.txt").write_text("two, written meanwhile")
        put(points, token)

    monkeypatch.setattr(bench.index, "put", edit_and_put)
    bench.run(key)

    assert bench.index.contents(key) == ["two, written meanwhile"]


@pytest.mark.parametrize(("before", "now"), [(None, "one"), ("one\n\ntwo", "one"), ("one", None)])
def test_a_worker_that_wakes_up_after_its_lease_sends_nothing_and_has_the_document_verified(bench, before, now):
    """Whatever it would send first: chunks, what is new about those that stay, or the order to drop them all."""
    if before is not None:
        bench.run(bench.write("a.txt", before))
    stored = bench.index.stored(document_id("docs", "a.txt"))
    (bench.root / "a.txt").unlink(missing_ok=True)
    key = bench.write("a.txt", now) if now is not None else bench.see("a.txt")
    frozen = replace(bench.worker, ledger=Ledger(bench.engine, "frozen", lease_s=0.0))  # its lease is over at once

    assert frozen.look(key) is None

    assert bench.index.stored(key) == stored
    assert bench.row(key).verify_at is not None


def test_a_renewed_lease_lets_a_long_attempt_go_on(bench, monkeypatch):
    key = bench.write("a.txt", "one")
    brief = Ledger(bench.engine, "slow", lease_s=0.0)
    claim = brief.claim(key, "recipe")
    with pytest.raises(LeaseLost):
        claim.deadline.check()

    brief.lease_s = 60.0
    brief.renew([claim])

    claim.deadline.check()
    assert bench.worker.pipeline.reconcile(claim).state == State.EMBEDDING


def test_a_renewal_that_comes_after_the_commit_takes_no_lease(bench):
    key = bench.write("a.txt", "one")
    claim = bench.ledger.claim(key, "recipe")
    bench.worker.pipeline.reconcile(claim)

    bench.ledger.renew([claim])

    assert bench.row(key).lease_until is None


def during(bench, monkeypatch, step: str, happens) -> None:
    """Let something happen once, right before the next call of one of the index's methods."""
    original = getattr(bench.index, step)

    def call(*args):
        monkeypatch.setattr(bench.index, step, original)
        happens()
        return original(*args)

    monkeypatch.setattr(bench.index, step, call)


def test_a_file_that_is_reverted_while_its_edit_is_stored_gets_its_chunks_back(bench, monkeypatch):
    key = bench.write("a.txt", "one\n\ntwo")
    bench.run(key)
    bench.write("a.txt", "one\n\nthree")

    def revert():
        bench.write("a.txt", "one\n\ntwo")

    during(bench, monkeypatch, "drop", revert)
    bench.run(key)

    assert bench.index.contents(key) == ["one", "two"]


def test_a_second_round_tells_the_chunks_that_stay_where_they_are_now(bench, monkeypatch):
    key = bench.write("a.txt", "one\n\ntwo")

    def insert_above():
        bench.write("a.txt", "zero\n\none\n\ntwo")

    during(bench, monkeypatch, "put", insert_above)
    bench.run(key)

    assert bench.index.contents(key) == ["zero", "one", "two"]
    assert {p["version"] for p in bench.index.points.values()} == {bench.row(key).version}
    assert sorted(p["metadata"]["chunk"] for p in bench.index.points.values()) == [0, 1, 2]


def test_what_is_left_to_do_is_hinted_at_once(bench, monkeypatch):
    """The sweep would find it as well, a while later."""
    key = bench.write("a.txt", "one")
    during(bench, monkeypatch, "put", lambda: bench.see("a.txt"))  # an event, of bytes that are the same

    assert bench.worker.look(key).moved_on
    assert (bench.hints.looked, bench.hints.embeds) == ([key], 1)

    bench.worker.look_all([bench.write("b.txt", "two"), bench.write("c.txt", "three")])
    assert bench.hints.embeds == 2


def test_bytes_that_change_while_they_are_found_to_be_the_indexed_ones_are_read_again(bench, monkeypatch):
    key = bench.write("a.txt", "one")
    bench.run(key)
    bench.see("a.txt")
    already = Pipeline._already_indexed

    def and_then_it_changes(pipeline, claim, version):
        monkeypatch.undo()
        bench.write("a.txt", "two")
        return already(pipeline, claim, version)

    monkeypatch.setattr(Pipeline, "_already_indexed", and_then_it_changes)
    bench.worker.look(key)

    assert bench.index.contents(key) == ["two"]


def test_a_revert_after_a_failed_attempt_is_no_short_cut_to_ready(bench, monkeypatch):
    key = bench.write("a.txt", "one\n\ntwo")
    bench.run(key)
    bench.write("a.txt", "one\n\nthree")

    def no_answer(*args):
        MemoryIndex.drop(bench.index, *args)
        raise IndexUnavailable("No answer from Qdrant at http://x (UPWELL_QDRANT_URL).")

    with monkeypatch.context() as patch:
        patch.setattr(bench.index, "drop", no_answer)
        bench.run(key)
    bench.worker.index_breaker.succeeded()
    bench.write("a.txt", "one\n\ntwo")
    bench.run(key)

    assert bench.row(key).state == State.READY
    assert bench.index.contents(key) == ["one", "two"]


def test_a_chunk_that_a_late_deletion_takes_before_it_is_fenced_is_put_back_before_anything_is_dropped(
    bench, monkeypatch
):
    key = bench.write("a.txt", "one\n\ntwo")
    bench.run(key)
    old = bench.row(key).token
    bench.write("a.txt", "one\n\nthree")
    [one] = [p for p, point in bench.index.points.items() if point["content"] == "one"]
    drop, at_drop = bench.index.drop, []

    def look_and_drop(ids, token):
        at_drop.append(bench.index.contents(key))
        drop(ids, token)

    during(bench, monkeypatch, "restamp", lambda: drop([one], old))
    monkeypatch.setattr(bench.index, "drop", look_and_drop)
    bench.run(key)

    assert [set(texts) >= {"one", "three"} for texts in at_drop] == [True]
    assert bench.index.contents(key) == ["one", "three"]


@pytest.mark.parametrize(("ahead_s", "overtaken"), [(3600.0, True), (-3600.0, False)])
def test_a_worker_whose_clock_is_an_hour_off_may_take_over_and_the_index_ends_as_the_file(
    bench, monkeypatch, ahead_s, overtaken
):
    key = bench.write("a.txt", "one\n\ntwo")
    bench.run(key)
    bench.write("a.txt", "one\n\nthree")
    clock, looked = schema.clock, []

    def another_looks() -> None:
        with monkeypatch.context() as its:
            its.setattr(schema, "clock", lambda dialect: clock(dialect) + ahead_s)
            ledger = Ledger(bench.engine, "another")
            pipeline = replace(bench.worker.pipeline, ledger=ledger)
            looked.append(replace(bench.worker, ledger=ledger, pipeline=pipeline).look(key))

    during(bench, monkeypatch, "put", another_looks)
    bench.run(key)

    assert [outcome is not None for outcome in looked] == [overtaken]
    assert (bench.row(key).verify_at is not None) == overtaken  # what both have written is looked at once more
    if overtaken:
        bench.change(key, verify_at=1.0)
        bench.run(key)
    assert bench.index.contents(key) == ["one", "three"]
    assert (bench.row(key).state, bench.row(key).verify_at) == (State.READY, None)


def test_what_a_dead_attempt_left_is_found_by_the_verify_of_its_successor(bench):
    key = bench.write("a.txt", "one")
    bench.run(key)
    claim_token = bench.row(key).token
    bench.index.points["late"] = {
        "doc_id": key, "content": "stale", "token": claim_token, "embedded": True, "refused": False,
        "chunk_index": 9, "metadata": {"heading": None},
    }  # fmt: skip
    bench.ledger.suspect(key)
    with bench.engine.begin() as connection:
        connection.execute(update(documents).values(verify_at=1.0))

    bench.run(key)

    assert bench.index.contents(key) == ["one"]


def test_memory_that_runs_out_in_a_task_costs_an_attempt_and_not_the_worker(bench):
    """Raised further, it would end Celery's main process and come back with its message to end the next one."""
    key = bench.write("a.txt", "one")
    bench.parser.error = MemoryError()

    bench.run(key)

    assert (bench.row(key).state, bench.row(key).error_class) == (State.FAILED, "MemoryError")
    assert bench.row(key).lease_until is None


def test_a_bug_costs_its_document_three_attempts_and_its_text_stays_out_of_the_reason(bench, monkeypatch):
    key = bench.write("a.txt", "one")
    bench.parser.error = ValueError("cannot handle: the secret sentence")

    for _ in range(3):
        bench.run(key)
        bench.expire(key)

    assert bench.row(key).state == State.PARKED
    assert "secret" not in bench.row(key).reason
