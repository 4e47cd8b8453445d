"""The ledger decides who works and what is forgotten: nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import select, update

from workers.contract import schema
from workers.contract.intake import Observation, Stat, beat, leave, observe, register_source
from workers.contract.schema import documents, processes
from workers.contract.states import State
from workers.indexing.embedding_claims import Embedded, EmbeddingClaim
from workers.indexing.leases import Leases
from workers.indexing.ledger import MAX_ATTEMPTS, Indexed, LeaseLost, Ledger

RECIPE = "r1"
SEEN = Observation("docs", b"a.txt", Stat(10, 20, 30))


@pytest.fixture
def engine(either_ledger_url):
    engine = schema.open_ledger(either_ledger_url)
    register_source(engine, "docs", "folder", "/docs")
    yield engine
    engine.dispose()


@pytest.fixture
def ledger(engine):
    return Ledger(engine, "worker-1")


def row(engine, key):
    with engine.connect() as connection:
        return connection.execute(select(documents).where(documents.c.id == key)).one()


def put(engine, key, **values):
    with engine.begin() as connection:
        connection.execute(update(documents).where(documents.c.id == key).values(**values))


def indexed(**values):
    return Indexed(
        **({"state": State.READY, "version": "v1", "recipe": RECIPE, "collection": "c", "chunks": 2} | values)
    )


def test_a_first_sight_is_queued_and_the_second_of_the_same_thing_changes_nothing(engine):
    assert observe(engine, [SEEN]) == [SEEN.document_id]
    before = row(engine, SEEN.document_id)

    assert observe(engine, [SEEN]) == []

    assert row(engine, SEEN.document_id) == before
    assert before.state == State.QUEUED


def test_a_touched_file_is_looked_at_although_size_and_times_are_the_same(engine):
    observe(engine, [SEEN])

    assert observe(engine, [Observation("docs", b"a.txt", Stat(10, 20, 30), touched=True)]) == [SEEN.document_id]


def test_many_observations_at_once_are_each_recorded_as_if_they_had_come_alone(engine):
    known = [Observation("docs", b"%d.txt" % number, Stat(1, 1, number)) for number in range(1200)]
    observe(engine, known[:600])
    again = [
        *known,  # 600 that are nothing new and 600 that are
        Observation("docs", b"0.txt", Stat(2, 2, 0)),  # a second word on the same document
        Observation("docs", b"1.txt", None),
        Observation("docs", b"2.txt", None, absent_as="held", reason="many vanished"),
        Observation("docs", b"3.txt", None, absent_as="skipped", reason="a rule"),
    ]

    dirty = observe(engine, again)

    assert dirty == [each.document_id for each in (*known[600:], known[0], known[1], known[3])]
    rows = [row(engine, each.document_id) for each in known[:5]]
    assert [each.desired_generation for each in rows] == [2, 2, 1, 2, 1]
    assert [(each.state, each.wanted) for each in rows] == [
        (State.QUEUED, "present"),
        (State.QUEUED, "absent"),
        (State.HELD, "present"),
        (State.QUEUED, "absent"),
        (State.QUEUED, "present"),
    ]
    assert rows[0].seen_size == 2


def test_the_absence_of_something_never_seen_is_nothing(engine):
    assert observe(engine, [Observation("docs", b"x", None)]) == []


def test_a_skipped_file_is_remembered_with_its_rule_and_gives_nobody_work(engine, ledger):
    ignored = Observation("docs", b"x.log", None, absent_as="skipped", reason=".upwellignore:1 *.log")

    assert observe(engine, [ignored]) == []

    assert row(engine, ignored.document_id).state == State.SKIPPED
    assert ledger.due(RECIPE, 10) == []


def test_only_one_of_two_workers_gets_a_document(engine, ledger):
    observe(engine, [SEEN])

    assert ledger.claim(SEEN.document_id, RECIPE) is not None
    assert Ledger(engine, "worker-2").claim(SEEN.document_id, RECIPE) is None


def test_an_expired_lease_is_taken_over_with_a_greater_token_and_schedules_a_verify(engine, ledger):
    observe(engine, [SEEN])
    first = ledger.claim(SEEN.document_id, RECIPE)
    put(engine, SEEN.document_id, lease_until=1.0)

    second = ledger.claim(SEEN.document_id, RECIPE)

    assert second.token > first.token
    assert second.doubt
    assert row(engine, SEEN.document_id).verify_at is not None


def test_who_lost_the_lease_commits_nothing(engine, ledger):
    observe(engine, [SEEN])
    first = ledger.claim(SEEN.document_id, RECIPE)
    put(engine, SEEN.document_id, lease_until=1.0)
    ledger.claim(SEEN.document_id, RECIPE)

    with pytest.raises(LeaseLost):
        ledger.commit(first, indexed())

    assert row(engine, SEEN.document_id).indexed_generation == 0


def test_who_lost_the_lease_cannot_say_either_that_nothing_has_changed(engine, ledger):
    observe(engine, [SEEN])
    first = ledger.claim(SEEN.document_id, RECIPE)
    put(engine, SEEN.document_id, lease_until=1.0)
    ledger.claim(SEEN.document_id, RECIPE)

    with pytest.raises(LeaseLost):
        ledger.confirm(first)

    assert row(engine, SEEN.document_id).state == State.PARSING
    assert row(engine, SEEN.document_id).indexed_generation == 0


def test_a_commit_makes_it_ready_and_leaves_nothing_to_do(engine, ledger):
    observe(engine, [SEEN])
    claim = ledger.claim(SEEN.document_id, RECIPE)

    assert ledger.commit(claim, indexed()) is False

    found = row(engine, SEEN.document_id)
    assert (found.state, found.version, found.attempts, found.lease_until) == (State.READY, "v1", 0, None)
    assert ledger.due(RECIPE, 10) == []
    assert ledger.claim(SEEN.document_id, RECIPE) is None


def test_a_change_noticed_during_the_work_is_not_forgotten_by_the_commit(engine, ledger):
    observe(engine, [SEEN])
    claim = ledger.claim(SEEN.document_id, RECIPE)
    observe(engine, [Observation("docs", b"a.txt", Stat(11, 21, 30))])

    assert ledger.commit(claim, indexed()) is True

    assert row(engine, SEEN.document_id).state == State.QUEUED
    assert ledger.due(RECIPE, 10) == [(SEEN.document_id, False)]


def test_attempts_count_at_pick_up_and_a_change_gives_new_ones(engine, ledger):
    observe(engine, [SEEN])
    for attempt in range(1, MAX_ATTEMPTS + 2):
        claim = ledger.claim(SEEN.document_id, RECIPE)
        assert claim.attempts == attempt
        put(engine, SEEN.document_id, lease_until=1.0)  # the worker was killed

    observe(engine, [Observation("docs", b"a.txt", Stat(11, 21, 30))])

    assert ledger.claim(SEEN.document_id, RECIPE).attempts == 1


def test_an_outage_takes_its_attempt_back(engine, ledger):
    observe(engine, [SEEN])
    claim = ledger.claim(SEEN.document_id, RECIPE)

    ledger.give_back(
        claim, state=State.FAILED, reason="Qdrant is away", error_class="Outage", retry_in_s=60, counted=False
    )

    found = row(engine, SEEN.document_id)
    assert (found.attempts, found.state, found.reason) == (0, State.FAILED, "Qdrant is away")
    assert ledger.claim(SEEN.document_id, RECIPE) is None  # not before its time
    put(engine, SEEN.document_id, next_try_at=1.0)
    assert ledger.claim(SEEN.document_id, RECIPE) is not None


def test_a_parked_document_waits_for_a_change_or_for_a_new_recipe(engine, ledger):
    observe(engine, [SEEN])
    ledger.commit(ledger.claim(SEEN.document_id, RECIPE), indexed(state=State.PARKED, version=None, reason="broken"))

    assert ledger.claim(SEEN.document_id, RECIPE) is None
    assert ledger.due(RECIPE, 10) == []
    assert ledger.due("r2", 10) == [(SEEN.document_id, False)]
    observe(engine, [Observation("docs", b"a.txt", Stat(11, 21, 30))])
    assert ledger.claim(SEEN.document_id, RECIPE) is not None


def test_a_new_recipe_makes_every_indexed_document_due(engine, ledger):
    observe(engine, [SEEN])
    ledger.commit(ledger.claim(SEEN.document_id, RECIPE), indexed())

    assert ledger.due("r2", 10) == [(SEEN.document_id, False)]
    assert ledger.due(None, 10) == []


def test_a_verify_that_is_due_is_work_and_is_done_once(engine, ledger):
    observe(engine, [SEEN])
    ledger.commit(ledger.claim(SEEN.document_id, RECIPE), indexed())
    ledger.suspect(SEEN.document_id)
    assert ledger.claim(SEEN.document_id, RECIPE) is None  # late writes have not landed yet
    put(engine, SEEN.document_id, verify_at=1.0)

    claim = ledger.claim(SEEN.document_id, RECIPE)
    assert claim.doubt
    ledger.commit(claim, indexed())

    assert ledger.claim(SEEN.document_id, RECIPE) is None


def test_a_verify_whose_worker_died_is_taken_over_and_not_forgotten(engine, ledger):
    observe(engine, [SEEN])
    ledger.commit(ledger.claim(SEEN.document_id, RECIPE), indexed())
    put(engine, SEEN.document_id, verify_at=1.0)
    assert ledger.claim(SEEN.document_id, RECIPE).doubt  # and the worker dies
    assert ledger.due(RECIPE, 10) == []
    put(engine, SEEN.document_id, lease_until=1.0)

    assert ledger.due(RECIPE, 10) == [(SEEN.document_id, False)]
    assert ledger.claim(SEEN.document_id, RECIPE).doubt


def test_a_failure_puts_off_a_verify_that_would_come_before_its_writes_have_landed(engine, ledger):
    observe(engine, [SEEN])
    claim = ledger.claim(SEEN.document_id, RECIPE)
    put(engine, SEEN.document_id, verify_at=1.0)

    ledger.give_back(claim, state=State.FAILED, reason="no answer", error_class="Outage", retry_in_s=0, counted=False)

    assert row(engine, SEEN.document_id).verify_at > 1.0
    assert ledger.claim(SEEN.document_id, RECIPE).doubt  # nobody knows yet what the index holds
    assert row(engine, SEEN.document_id).verify_at > 1.0  # and this claim does not answer it


def test_an_overtaken_attempt_that_fails_has_the_document_verified(engine, ledger):
    observe(engine, [SEEN])
    first = ledger.claim(SEEN.document_id, RECIPE)
    put(engine, SEEN.document_id, lease_until=1.0)
    second = ledger.claim(SEEN.document_id, RECIPE)
    put(engine, SEEN.document_id, verify_at=None)
    ledger.commit(second, indexed())

    ledger.give_back(first, state=State.FAILED, reason="no answer", error_class="Outage", retry_in_s=5)

    assert row(engine, SEEN.document_id).state == State.READY
    assert row(engine, SEEN.document_id).verify_at is not None


def test_an_overtaken_attempt_that_fails_leaves_the_lease_of_its_successor_alone(engine, ledger):
    observe(engine, [SEEN])
    first = ledger.claim(SEEN.document_id, RECIPE)
    put(engine, SEEN.document_id, lease_until=1.0)
    second = ledger.claim(SEEN.document_id, RECIPE)

    ledger.give_back(first, state=State.FAILED, reason="no answer", error_class="Outage", retry_in_s=5)

    assert row(engine, SEEN.document_id).state == State.PARSING
    assert ledger.commit(second, indexed()) is False
    assert row(engine, SEEN.document_id).lease_until is None


def test_live_documents_come_before_bulk_ones(engine, ledger):
    bulk = Observation("docs", b"bulk.txt", Stat(1, 1, 1), bulk=True)
    observe(engine, [bulk, SEEN])

    assert ledger.due(RECIPE, 10) == [(SEEN.document_id, False), (bulk.document_id, True)]


def test_embeddings_are_claimed_once_live_first_and_end_as_ready(engine, ledger):
    bulk = Observation("docs", b"bulk.txt", Stat(1, 1, 1), bulk=True)
    observe(engine, [bulk, SEEN])
    for key in (bulk.document_id, SEEN.document_id):
        ledger.commit(ledger.claim(key, RECIPE), indexed(state=State.EMBEDDING, vectors_pending=2))

    assert [claim.document_id for claim in ledger.claim_embeddings(1)] == [SEEN.document_id]
    [claim] = ledger.claim_embeddings(10)
    assert claim.document_id == bulk.document_id
    assert not ledger.has_embeddings_due()

    ledger.embedded([Embedded(claim, pending=0, tokens=7)])
    found = row(engine, bulk.document_id)
    assert (found.state, found.vectors_pending, found.tokens) == (State.READY, 0, 7)


def test_vectors_of_a_document_that_changed_meanwhile_do_not_make_it_ready(engine, ledger):
    observe(engine, [SEEN])
    ledger.commit(ledger.claim(SEEN.document_id, RECIPE), indexed(state=State.EMBEDDING, vectors_pending=2))
    [claim] = ledger.claim_embeddings(1)
    observe(engine, [Observation("docs", b"a.txt", Stat(11, 21, 30))])
    newer = ledger.claim(SEEN.document_id, RECIPE)

    ledger.embedded([Embedded(claim, pending=0, tokens=1)])

    assert row(engine, SEEN.document_id).state == State.PARSING
    assert row(engine, SEEN.document_id).token == newer.token

    ledger.commit(newer, indexed(state=State.EMBEDDING, vectors_pending=3))
    ledger.embedded([Embedded(claim, pending=0, tokens=1)])

    found = row(engine, SEEN.document_id)
    assert (found.state, found.vectors_pending) == (State.EMBEDDING, 3), "these vectors are of the version before"


def test_what_a_document_still_lacks_is_free_once_another_look_has_found_it_unchanged(engine, ledger):
    observe(engine, [SEEN])
    first = ledger.claim(SEEN.document_id, RECIPE)
    ledger.commit(first, indexed(state=State.EMBEDDING, vectors_pending=2, embeds_here=True))
    observe(engine, [replace(SEEN, touched=True)])
    ledger.confirm(ledger.claim(SEEN.document_id, RECIPE))

    ledger.embedded([Embedded(EmbeddingClaim(SEEN.document_id, first.token), pending=0, tokens=9)])
    [claim] = ledger.claim_embeddings(1)  # and not when the lease of the first runs out
    ledger.embedded([Embedded(claim, pending=0, tokens=0)])

    assert row(engine, SEEN.document_id).state == State.READY


def test_the_texts_of_a_worker_that_died_are_taken_over_when_its_lease_ends(engine, ledger):
    observe(engine, [SEEN])
    ledger.commit(ledger.claim(SEEN.document_id, RECIPE), indexed(state=State.EMBEDDING, vectors_pending=2))
    assert len(ledger.claim_embeddings(1)) == 1
    assert ledger.claim_embeddings(1) == []

    put(engine, SEEN.document_id, embed_lease_until=1.0)

    assert ledger.has_embeddings_due()
    assert [claim.document_id for claim in ledger.claim_embeddings(1)] == [SEEN.document_id]


def test_a_held_deletion_stays_as_it_is_until_somebody_decides(engine, ledger):
    observe(engine, [SEEN])
    ledger.commit(ledger.claim(SEEN.document_id, RECIPE), indexed())

    assert observe(engine, [Observation("docs", b"a.txt", None, absent_as="held", reason="too many at once")]) == []

    assert row(engine, SEEN.document_id).state == State.HELD
    assert ledger.due(RECIPE, 10) == []


def test_losing_the_collection_makes_every_stored_document_due_again(engine, ledger):
    observe(engine, [SEEN])
    ledger.commit(ledger.claim(SEEN.document_id, RECIPE), indexed())

    assert ledger.dirty_all("c2") == 1

    assert ledger.claim(SEEN.document_id, RECIPE).version is None


def test_an_attempt_that_is_at_work_when_the_collection_is_lost_goes_round(engine, ledger):
    observe(engine, [SEEN])
    claim = ledger.claim(SEEN.document_id, RECIPE)  # it may have stored its chunks already

    assert ledger.dirty_all("c2") == 1

    assert ledger.commit(claim, indexed()) is True
    assert ledger.due(RECIPE, 10) == [(SEEN.document_id, True)]


def test_a_new_collection_calls_for_what_another_one_holds_and_for_nothing_that_is_under_way(engine, ledger):
    other = Observation("docs", b"other.txt", Stat(1, 2, 3))
    observe(engine, [SEEN, other])
    ledger.commit(ledger.claim(SEEN.document_id, RECIPE), indexed())
    ledger.claim(other.document_id, RECIPE)

    assert ledger.dirty_elsewhere(row(engine, SEEN.document_id).collection) == 0
    assert ledger.dirty_elsewhere("c2") == 1

    assert ledger.claim(SEEN.document_id, RECIPE).version is None


def test_tokens_start_above_every_token_of_a_lost_ledger(engine, tmp_path):
    observe(engine, [SEEN])
    old = Ledger(engine, "w").claim(SEEN.document_id, RECIPE).token
    fresh = schema.open_ledger(f"sqlite:///{tmp_path}/new.db")
    observe(fresh, [SEEN])

    assert Ledger(fresh, "w").claim(SEEN.document_id, RECIPE).token > old - 2  # one token a millisecond at most


def test_a_name_that_belongs_to_uploads_cannot_be_a_folder(engine):
    register_source(engine, "uploads", "uploads", "/data/uploads")

    with pytest.raises(ValueError, match="already belongs"):
        register_source(engine, "uploads", "folder", "/elsewhere")


def test_a_process_beats_in_one_row_and_leaves_none(engine):
    beat(engine, "watcher", {"dirty": 1})
    beat(engine, "watcher", {"dirty": 0})
    with engine.connect() as connection:
        assert [r.info for r in connection.execute(select(processes))] == ['{"dirty": 0}']

    leave(engine, "watcher")

    with engine.connect() as connection:
        assert connection.execute(select(processes)).all() == []


def test_a_ledger_of_another_release_is_refused_with_the_way_out(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/ledger.db"
    schema.open_ledger(url).dispose()
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 99)

    with pytest.raises(schema.LedgerUnusable, match="UPWELL_LEDGER_URL"):
        schema.open_ledger(url)


def test_a_lease_lasts_as_long_as_the_ledger_was_told(engine):
    observe(engine, [SEEN])

    Ledger(engine, "hasty", lease_s=-1.0).claim(SEEN.document_id, RECIPE)

    assert Ledger(engine, "patient").claim(SEEN.document_id, RECIPE) is not None


def test_documents_of_a_backfill_are_claimed_and_committed_together_and_each_by_its_own_token(engine, ledger):
    seen = [Observation("docs", b"%d.txt" % number, Stat(1, 1, number), bulk=True) for number in range(6)]
    keys = observe(engine, seen)
    put(engine, keys[0], attempts=1)
    put(engine, keys[1], lease_until=1.0)
    put(engine, keys[2], verify_at=1.0)
    assert ledger.claim(keys[3], RECIPE) is not None
    before = {key: row(engine, key).token for key in keys}

    claims = ledger.claim_fresh(keys, RECIPE)

    assert sorted(claim.document_id for claim in claims) == sorted(keys[4:])
    assert [(claim.attempts, claim.doubt, claim.root) for claim in claims] == [(1, False, "/docs")] * 2
    assert [claim.token - before[claim.document_id] for claim in claims] == [1, 1]
    assert ledger.claim_fresh(keys, RECIPE) == []
    assert sorted(ledger.due_among(keys, RECIPE)) == sorted(keys[:3])

    put(engine, claims[0].document_id, token=claims[0].token + 1)
    observe(engine, [replace(seen[int(claims[1].path[0])], touched=True)])

    assert ledger.commit_all([(claim, indexed()) for claim in claims]) == [None, True]
    assert row(engine, claims[0].document_id).indexed_generation == 0
    assert row(engine, claims[1].document_id).indexed_generation == 1


def test_workers_that_claim_the_same_documents_together_share_them_out(engine):
    keys = observe(engine, [Observation("docs", b"%d.txt" % number, Stat(1, 1, number)) for number in range(20)])
    workers = [Ledger(engine, f"worker-{number}") for number in range(4)]

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda worker: worker.claim_fresh(keys, RECIPE), workers))

    assert sorted(claim.document_id for claims in taken for claim in claims) == sorted(keys)


def test_two_watchers_that_see_changes_at_once_ask_for_two_looks(engine):
    """An index worker that claims between the two must see that there was a second change."""
    observe(engine, [SEEN])
    [before] = [row(engine, SEEN.document_id).desired_generation]
    changes = [Observation("docs", b"a.txt", Stat(size, 20, 30), touched=True) for size in range(40)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda change: observe(engine, [change]), changes))

    assert row(engine, SEEN.document_id).desired_generation == before + len(changes)


def test_of_many_workers_that_claim_at_once_one_gets_the_document(engine):
    observe(engine, [SEEN])
    workers = [Ledger(engine, f"worker-{number}") for number in range(8)]

    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda worker: worker.claim(SEEN.document_id, RECIPE), workers))

    assert sum(claim is not None for claim in claims) == 1


def test_processes_that_start_together_create_one_ledger(either_ledger_url):
    with ThreadPoolExecutor(6) as pool:
        engines = list(pool.map(lambda _: schema.open_ledger(either_ledger_url), range(6)))

    assert [observe(engine, [SEEN]) for engine in engines] == [[SEEN.document_id], [], [], [], [], []]
    for engine in engines:
        engine.dispose()


def test_a_database_without_its_driver_is_named_with_the_way_out():
    with pytest.raises(schema.LedgerUnusable, match="upwell\\[postgres\\]"):
        schema.open_ledger("mysql+pymysql://127.0.0.1/upwell")


def test_a_worker_that_is_stopped_gives_back_what_it_has_not_finished_and_sends_nothing_more(engine, ledger):
    done, undone = Observation("docs", b"done.txt", Stat(1, 2, 3)), Observation("docs", b"undone.txt", Stat(1, 2, 4))
    observe(engine, [done, undone])
    leases = Leases(ledger, lambda: None)
    claims = [ledger.claim(each.document_id, RECIPE) for each in (done, undone)]
    with leases.kept(claims[0]), leases.kept(claims[1]):
        ledger.commit(claims[0], indexed())

        leases.give_back()

        with pytest.raises(LeaseLost):
            claims[1].deadline.check()
    assert row(engine, done.document_id).state == State.READY
    assert row(engine, undone.document_id).state == State.QUEUED
    assert row(engine, undone.document_id).attempts == 0
    again = Ledger(engine, "worker-2").claim(undone.document_id, RECIPE)
    assert again is not None, "at once, not when the lease would have ended"
    assert again.doubt, "what was sent last may still arrive"
    assert row(engine, undone.document_id).verify_at is not None


def test_what_people_wait_for_is_found_past_a_backfill(engine, ledger):
    names = [b"a.txt", b"b.txt", b"c.txt", b"d.txt"]
    seen = [Observation("docs", name, Stat(1, 2, number), bulk=number < 2) for number, name in enumerate(names)]
    observe(engine, seen)
    assert ledger.claim(seen[3].document_id, RECIPE) is not None  # somebody is at it

    assert ledger.live_due(10) == [seen[2].document_id]
