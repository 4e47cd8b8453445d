"""In company a step costs once what it would cost each document, and nobody pays for anybody else's trouble."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.support.memory import LineParser
from tests.support.workbench import Workbench
from workers.contract.states import State
from workers.errors import DocumentEncrypted, IndexUnavailable, ParserCrashed
from workers.indexing.deadline import LeaseLost
from workers.indexing.ledger_statements import SMALL


@pytest.fixture
def bench(tmp_path):
    bench = Workbench(tmp_path)
    yield bench
    bench.engine.dispose()


@pytest.fixture
def calls(bench, monkeypatch):
    """Count what the ports are asked."""
    made: list[str] = []

    def count(target, name):
        method = getattr(target, name)

        def call(*args):
            made.append(name)
            return method(*args)

        monkeypatch.setattr(target, name, call)

    for name in ("stored", "stored_of", "put", "put_all", "drop_documents"):
        count(bench.index, name)
    for name in ("claim", "claim_fresh", "commit", "commit_all"):
        count(bench.ledger, name)
    return made


class Troubled(LineParser):
    """Does what it is told about some files: raises an exception, or waits."""

    def __init__(self, **trouble) -> None:
        super().__init__()
        self.trouble = trouble

    def parse(self, fd: int, path: str):
        found = self.trouble.get(path.partition(".")[0])
        if isinstance(found, BaseException):
            raise found
        if found is not None:
            found()
        return super().parse(fd, path)


def with_parser(bench, parser, parsing=None) -> None:
    pipeline = replace(bench.worker.pipeline, parser=parser, parsing=parsing)
    bench.worker = replace(bench.worker, pipeline=pipeline)


def test_new_documents_cost_one_claim_one_read_one_write_and_one_commit(bench, calls):
    keys = [bench.write(f"{n}.txt", f"fish {n}\n\nbird {n}") for n in range(5)]

    bench.worker.look_all(keys)

    # MemoryIndex does the common ones with the single ones.
    assert [name for name in calls if name not in ("stored", "put")] == [
        "claim_fresh",
        "stored_of",
        "put_all",
        "commit_all",
    ]
    assert [bench.index.contents(key) for key in keys] == [[f"fish {n}", f"bird {n}"] for n in range(5)]


def test_documents_that_go_are_dropped_together(bench, calls):
    keys = [bench.write(f"{n}.txt", f"fish {n}") for n in range(3)]
    bench.worker.look_all(keys)
    for n in range(3):
        (bench.root / f"{n}.txt").unlink()
        bench.see(f"{n}.txt")
    calls.clear()

    bench.worker.look_all(keys)

    assert calls.count("drop_documents") == 1
    assert bench.index.points == {}
    assert {bench.row(key).state for key in keys} == {State.DELETED}


def test_one_that_cannot_be_read_is_parked_and_one_that_fails_is_tried_again_and_the_others_are_there(bench):
    with_parser(bench, Troubled(locked=DocumentEncrypted("It has a password."), broken=ParserCrashed("It crashed.")))
    names = ("good", "locked", "broken", "fine")
    keys = {name: bench.write(f"{name}.txt", f"the {name} one") for name in names}

    bench.worker.look_all(list(keys.values()))

    states = {name: bench.row(key).state for name, key in keys.items()}
    assert states == {
        "good": State.EMBEDDING,
        "locked": State.PARKED,
        "broken": State.FAILED,
        "fine": State.EMBEDDING,
    }


def test_a_file_that_takes_long_to_parse_holds_up_nobody(bench, monkeypatch):
    others_are_there = threading.Event()
    held: list[bool] = []
    put_all = bench.index.put_all

    def told(puts) -> None:
        put_all(puts)
        others_are_there.set()

    monkeypatch.setattr(bench.index, "put_all", told)
    monkeypatch.setattr("workers.indexing.company.PATIENCE_S", 0.01)
    with ThreadPoolExecutor(2) as parsing:
        with_parser(bench, Troubled(slow=lambda: held.append(others_are_there.wait(60))), parsing)
        keys = [bench.write(f"{name}.txt", f"the {name} one") for name in ("a", "slow", "b")]

        bench.worker.look_all(keys)

    assert held == [True]
    assert [bench.index.contents(key) for key in keys] == [["the a one"], ["the slow one"], ["the b one"]]


def test_what_was_tried_before_or_is_large_walks_alone(bench, calls):
    tried, large, fresh = (bench.write(f"{name}.txt", name) for name in ("tried", "large", "fresh"))
    bench.ledger.claim(tried, "recipe")
    bench.expire(tried)
    bench.change(large, seen_size=SMALL + 1)
    calls.clear()

    bench.worker.look_all([tried, large, fresh])

    assert calls.count("claim") == 2
    assert {bench.row(key).state for key in (tried, large, fresh)} == {State.EMBEDDING}


def test_one_that_kills_its_worker_is_parked_alone(bench):
    class Dead(BaseException):
        pass

    with_parser(bench, Troubled(poison=Dead()))
    keys = {name: bench.write(f"{name}.txt", f"the {name} one") for name in ("a", "poison", "b")}
    for _ in range(5):
        try:
            bench.worker.look_all(list(keys.values()))
        except Dead:
            for key in keys.values():
                bench.expire(key)

    assert bench.row(keys["poison"]).state == State.PARKED
    assert {bench.row(keys[name]).state for name in ("a", "b")} == {State.EMBEDDING}


def test_an_index_that_is_away_is_one_failure_and_no_attempt_of_anybody(bench, monkeypatch):
    keys = [bench.write(f"{n}.txt", f"fish {n}") for n in range(4)]
    away = IndexUnavailable("No answer.")

    def refuse(*_args):
        raise away

    monkeypatch.setattr(bench.index, "put_all", refuse)
    bench.worker.look_all(keys)

    assert bench.worker.index_breaker.failures == 1
    assert {(bench.row(key).state, bench.row(key).attempts) for key in keys} == {(State.FAILED, 0)}


def test_a_write_that_one_document_makes_impossible_is_done_for_each_of_the_others(bench, monkeypatch):
    keys = [bench.write(f"{name}.txt", f"the {name} one") for name in ("a", "odd", "b")]
    put = bench.index.put

    def picky(points, token) -> None:
        if any("odd" in point.text for point in points):
            raise ValueError("no")
        put(points, token)

    monkeypatch.setattr(bench.index, "put", picky)  # which `put_all` of the dict does one by one

    bench.worker.look_all(keys)

    assert [bench.row(key).state for key in keys] == [State.EMBEDDING, State.FAILED, State.EMBEDDING]


def test_one_whose_lease_may_have_ended_sends_nothing_and_the_others_do(bench, monkeypatch):
    late, other = bench.write("late.txt", "late"), bench.write("other.txt", "other")
    stored_of = bench.index.stored_of

    def while_one_is_frozen(keys):
        claim = bench.worker.leases._held[late]
        claim.deadline.extend(0.0, 0.0)
        return stored_of(keys)

    monkeypatch.setattr(bench.index, "stored_of", while_one_is_frozen)

    bench.worker.look_all([late, other])

    assert bench.index.contents(late) == []
    assert bench.row(late).verify_at is not None
    assert bench.index.contents(other) == ["other"]


def test_one_that_was_overtaken_commits_nothing_and_is_verified(bench, monkeypatch):
    lost, other = bench.write("lost.txt", "lost"), bench.write("other.txt", "other")
    put_all = bench.index.put_all

    def overtaken(puts) -> None:
        put_all(puts)
        bench.change(lost, token=bench.row(lost).token + 1)

    monkeypatch.setattr(bench.index, "put_all", overtaken)

    bench.worker.look_all([lost, other])

    assert (bench.row(lost).indexed_generation, bench.row(lost).verify_at is not None) == (0, True)
    assert bench.row(other).state == State.EMBEDDING


def test_a_lost_lease_is_no_exception_of_anybody_elses():
    from workers.indexing.company import Result

    with pytest.raises(LeaseLost):
        Result(error=LeaseLost("gone")).get()
