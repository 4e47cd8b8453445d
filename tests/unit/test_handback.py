"""What processes held that are known to be no more is free at once, and taken over as carefully as after a lease."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, update

from workers.contract import intake, schema
from workers.contract.intake import Observation, Stat, observe, register_source
from workers.contract.schema import audits, documents
from workers.contract.states import State
from workers.housekeeping.docket import Docket
from workers.indexing.handback import MOST_INTERRUPTIONS, Ended, hand_back
from workers.indexing.leases import Leases
from workers.indexing.ledger import MAX_ATTEMPTS, Indexed, LeaseLost, Ledger

RECIPE = "r1"
SEEN = Observation("docs", b"a.txt", Stat(10, 20, 30))
KEY = SEEN.document_id
LIFE = Ended(lives=("a1/index/1",))
RUN = Ended(runs=("a1",))


@pytest.fixture
def engine(either_ledger_url):
    engine = schema.open_ledger(either_ledger_url)
    register_source(engine, "docs", "folder", "/docs")
    observe(engine, [SEEN])
    yield engine
    engine.dispose()


@pytest.fixture
def dead(engine):
    return worker(engine, "a1/index/1")


@pytest.fixture
def heir(engine):
    return worker(engine, "a1/index/2")


def worker(engine, life):
    return Ledger(engine, intake.lease_owner("index-worker", life))


def row(engine, key=KEY):
    with engine.connect() as connection:
        return connection.execute(select(documents).where(documents.c.id == key)).one()


def put(engine, **values):
    with engine.begin() as connection:
        connection.execute(update(documents).where(documents.c.id == KEY).values(**values))


def indexed(**values):
    return Indexed(
        **({"state": State.READY, "version": "v1", "recipe": RECIPE, "collection": "c", "chunks": 2} | values)
    )


def die_with_it(engine, ended):
    """An attempt, and the end of its process."""
    put(engine, next_try_at=None)
    claim = worker(engine, "a1/index/1").claim(KEY, RECIPE)
    hand_back(engine, ended)
    return claim


@pytest.mark.parametrize("ended", [LIFE, RUN], ids=["one process", "everything"])
def test_what_the_dead_held_is_taken_over_at_once_with_all_that_belongs_to_it(engine, dead, heir, ended):
    first = dead.claim(KEY, RECIPE)
    assert heir.claim(KEY, RECIPE) is None

    assert hand_back(engine, ended).documents == ((KEY, False),)

    assert row(engine).state == State.QUEUED
    second = heir.claim(KEY, RECIPE)
    assert second.token > first.token
    assert second.doubt
    with engine.connect() as connection:
        late = row(engine).verify_at - connection.scalar(select(schema.now(connection)))
    assert late > 140, "the verify waits for all that may still be on its way"
    with pytest.raises(LeaseLost):
        dead.commit(first, indexed())


@pytest.mark.parametrize(
    "life",
    ["", "a1/index/2", "a1/index/10", "a1/index-2/1", "a10/index/1", "b2/index/1"],
    ids=["started by hand", "the next start", "a later start", "its neighbour", "a like name", "another machine"],
)
def test_nobody_elses_leases_are_touched(engine, life):
    worker(engine, life).claim(KEY, RECIPE)
    before = row(engine)

    assert hand_back(engine, LIFE).documents == ()
    if not life.startswith("a1/"):
        assert hand_back(engine, RUN).documents == ()
    assert hand_back(engine, Ended()).documents == ()

    assert row(engine) == before


def test_handing_back_twice_is_handing_back_once_and_takes_nothing_from_the_heir(engine, dead, heir):
    dead.claim(KEY, RECIPE)
    hand_back(engine, RUN)
    before = row(engine)
    assert hand_back(engine, RUN).documents == ()
    assert row(engine) == before

    claim = heir.claim(KEY, RECIPE)
    assert hand_back(engine, LIFE).documents == ()
    assert heir.commit(claim, indexed()) is False


def test_an_owner_that_lives_after_all_keeps_its_lease_unless_somebody_has_taken_over(engine, dead, heir):
    claim = dead.claim(KEY, RECIPE)
    hand_back(engine, LIFE)

    dead.renew([claim])

    assert heir.claim(KEY, RECIPE) is None
    hand_back(engine, LIFE)
    assert heir.claim(KEY, RECIPE) is not None
    dead.renew([claim])
    with pytest.raises(LeaseLost):
        dead.commit(claim, indexed())


def test_a_document_that_ends_its_process_is_parked_after_three_times_however_fast_it_is_handed_back(engine):
    counted = [die_with_it(engine, LIFE).attempts for _ in range(MAX_ATTEMPTS + 1)]

    assert counted == [1, 2, 3, 4]
    assert counted[-1] > MAX_ATTEMPTS, "this attempt parks it"


def test_what_was_there_twice_when_a_process_ended_waits_a_little_so_that_the_guilty_one_is_alone(engine, dead):
    seen = [Observation("docs", b"%d" % number, Stat(1, 1, number)) for number in range(20)]
    for key in observe(engine, seen):
        dead.claim(key, RECIPE)
    hand_back(engine, LIFE)
    assert {row(engine, each.document_id).next_try_at for each in seen} == {None}
    for each in seen:
        dead.claim(each.document_id, RECIPE)

    hand_back(engine, LIFE)

    assert len({row(engine, each.document_id).next_try_at for each in seen}) == len(seen)


def test_no_document_is_blamed_when_everything_ends_at_once(engine, heir):
    counted = [die_with_it(engine, RUN).attempts for _ in range(MOST_INTERRUPTIONS)]

    assert counted == [1] * MOST_INTERRUPTIONS
    claim = heir.claim(KEY, RECIPE)
    assert claim is not None, "nor does it wait"
    heir.commit(claim, indexed())
    assert row(engine).interruptions == 0


def test_a_document_that_ends_everything_time_and_again_is_parked_in_the_end(engine):
    """What a container's memory limit kills takes `upwell up` with it."""
    counted = [die_with_it(engine, RUN).attempts for _ in range(MOST_INTERRUPTIONS + MAX_ATTEMPTS + 1)]

    assert counted[-1] == MAX_ATTEMPTS + 1

    observe(engine, [Observation("docs", b"a.txt", Stat(11, 21, 30))])
    assert (row(engine).attempts, row(engine).interruptions) == (0, 0)


def test_vectors_and_texts_that_the_dead_were_fetching_are_for_others_at_once(engine, dead, heir):
    dead.commit(dead.claim(KEY, RECIPE), indexed(state=State.EMBEDDING, vectors_pending=2, embeds_here=True))
    dead.vectors.claim(["aa" * 32])
    assert heir.claim_embeddings(10) == []
    assert not heir.vectors.claim(["aa" * 32]).ours

    assert hand_back(engine, LIFE).embeddings == 1
    assert heir.vectors.hand_back(LIFE) == 1

    assert [claim.document_id for claim in heir.claim_embeddings(10)] == [KEY]
    assert heir.vectors.claim(["aa" * 32]).ours
    assert hand_back(engine, LIFE).embeddings == 0
    assert heir.vectors.hand_back(LIFE) == 0


def test_an_audit_that_the_dead_was_at_is_started_again(engine):
    owners = {life: intake.lease_owner("beat", f"a1/beat/{life}") for life in (1, 2)}
    dead, heir = (Docket(engine, owners[life]) for life in (1, 2))
    key = dead.ask("person", repair=False)
    assert dead.take().id == key
    assert heir.take() is None

    assert heir.hand_back(Ended(lives=("a1/index/1",))) == 0
    assert heir.hand_back(Ended(lives=("a1/beat/1",))) == 1

    assert heir.take().id == key
    with engine.connect() as connection:
        assert connection.scalar(select(func.max(audits.c.starts))) == 2


def test_an_ordinary_stop_leaves_nothing_to_hand_back(engine, dead):
    claim = dead.claim(KEY, RECIPE)
    leases = Leases(dead, lambda: None)
    with leases.kept(claim):
        leases.give_back()

    assert hand_back(engine, RUN).documents == ()


def test_the_name_of_an_owner_fits_whatever_the_machine_is_called(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "h" * 200)

    owner = intake.lease_owner("index-worker", "0123456789ab/index-4/100000")

    assert len(owner) == documents.c.lease_owner.type.length
    assert owner.startswith("0123456789ab/index-4/100000/")
