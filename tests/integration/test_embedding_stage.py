"""The embedding stage against an endpoint over HTTP that limits, lies and breaks: RELIABILITY's rows 73 to 80."""

from __future__ import annotations

import math
import threading
import time
from uuid import uuid4

import pytest
from sqlalchemy import select, update

from tests.support.endpoint import Endpoint, Failure, vectors
from tests.support.memory import LineParser, MemoryIndex, RecordedHints
from workers.adapters.budget import Budget
from workers.adapters.embeddings import EmbeddingClient
from workers.contract import schema
from workers.contract.intake import Observation, Stat, observe, register_source
from workers.contract.schema import documents
from workers.contract.settings import EmbeddingSettings
from workers.contract.states import State
from workers.indexing.breaker import Breaker
from workers.indexing.canary import CANARY, Canary
from workers.indexing.chunk import ChunkOptions
from workers.indexing.embed import Embedding, Limits
from workers.indexing.leases import Leases, Tally
from workers.indexing.ledger import Ledger
from workers.indexing.recipe import Space
from workers.indexing.reconcile import Pipeline
from workers.indexing.worker import IndexWorker

DIMENSIONS = 8
LIMITS = Limits(200, 100_000, 4)


class VectorIndex(MemoryIndex):
    """Keeps the vectors too."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = {}

    def put_vectors(self, found) -> None:
        super().put_vectors(found)
        self.vectors.update(dict(found))


class Shop:
    """One folder, one index, one endpoint, and as many workers as wanted."""

    def __init__(self, home, endpoint) -> None:
        self.root = home / "docs"
        self.root.mkdir()
        self.engine = schema.open_ledger(f"sqlite:///{home}/ledger.db")
        register_source(self.engine, "docs", "folder", str(self.root))
        self.index = VectorIndex()
        self.endpoint = endpoint
        self.workers = []

    def worker(self, *, limits=LIMITS, budget=None, canary=None, timeout=20.0) -> IndexWorker:
        ledger = Ledger(self.engine, f"worker-{len(self.workers)}")
        client = EmbeddingClient(
            EmbeddingSettings(embeddings_url=self.endpoint.url, embeddings_model="m", embeddings_timeout=timeout)
        )
        space, tally, breaker = Space("m", DIMENSIONS), Tally(), Breaker()
        embedding = Embedding(ledger, self.index, client, space, limits, breaker, tally, budget=budget, canary=canary)
        options = ChunkOptions(min_chars=1)
        pipeline = Pipeline(
            ledger, self.index, LineParser(), space, "c", "recipe", options, max_bytes=10**6, handover=embedding
        )
        made = IndexWorker(ledger, pipeline, embedding, Leases(ledger, lambda: None), RecordedHints(), tally)
        self.workers.append((made, client, breaker))
        return made

    def write(self, name: str, *blocks: str) -> str:
        (self.root / name).write_text("\n\n".join(blocks))
        return self.see(name)

    def see(self, name: str, *, bulk: bool = False) -> str:
        path = self.root / name
        found = path.stat() if path.exists() else None
        stat = Stat(found.st_size, found.st_mtime_ns, found.st_ino) if found else None
        seen = Observation("docs", name.encode(), stat, touched=True, bulk=bulk)
        observe(self.engine, [seen])
        return seen.document_id

    def row(self, key):
        with self.engine.connect() as connection:
            return connection.execute(select(documents).where(documents.c.id == key)).one()

    def later(self) -> None:
        """Let every waiting time be over."""
        with self.engine.begin() as connection:
            connection.execute(update(documents).values(embed_next_try_at=None, embed_lease_until=None))
        for worker, _, breaker in self.workers:
            breaker.succeeded()
            worker.embedding._desk.pause(0)

    def wait(self, *keys: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while any(self.row(key).state != State.READY for key in keys):
            assert time.monotonic() < deadline, [tuple(self.row(key)) for key in keys]
            time.sleep(0.01)

    def close(self) -> None:
        for worker, client, _ in self.workers:
            worker.embedding.stop()
            client.close()
        self.engine.dispose()


@pytest.fixture
def endpoint():
    with Endpoint(dimensions=DIMENSIONS) as running:
        yield running


@pytest.fixture
def shop(tmp_path, endpoint):
    made = Shop(tmp_path, endpoint)
    yield made
    made.close()


# ------------------------------------------------------------------ what it does when all is well


def test_a_document_goes_from_the_attempt_to_the_endpoint_without_being_read_back(shop, endpoint, monkeypatch):
    worker = shop.worker()
    worker.embedding.start()
    monkeypatch.setattr(shop.index, "pending", lambda key: pytest.fail("read back from the index"))

    key = shop.write("a.txt", "one fish", "two fish")
    worker.look(key)
    shop.wait(key)

    for point, payload in shop.index.points.items():
        text = f"{payload['metadata']['heading']}\n\n{payload['content']}"
        assert shop.index.vectors[point] @ vectors([text], DIMENSIONS)[0] > 0.9999
    assert endpoint.counters.paid_texts == 2
    assert worker.hints.embeds == 0


def test_what_another_process_left_pending_is_found_in_the_index(shop, endpoint):
    key = shop.write("a.txt", "one", "two")
    shop.worker().look(key)  # not started: nobody embeds

    worker = shop.worker()
    worker.embedding.start()
    shop.wait(key)

    assert endpoint.counters.paid_texts == 2


def test_the_same_text_in_many_documents_and_two_workers_at_once_is_sent_once(shop, endpoint):
    endpoint.behaviour.latency_s = 0.2
    shared = [f"block {n}" for n in range(20)]
    keys = [shop.write(f"{n}.txt", *shared, f"own {n}") for n in range(6)]
    workers = [shop.worker(), shop.worker()]
    for worker in workers:
        worker.embedding.start()

    runs = [
        threading.Thread(target=lambda w=worker, part=part: [w.look(key) for key in part])
        for worker, part in zip(workers, (keys[:3], keys[3:]), strict=True)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    shop.wait(*keys)

    assert endpoint.counters.paid_texts == len(endpoint.counters.paid) == 26
    assert all(point["embedded"] for point in shop.index.points.values())


def test_a_live_edit_does_not_wait_for_a_backfill(shop, endpoint):
    endpoint.behaviour.latency_s = 0.3
    worker = shop.worker(limits=Limits(10, 100_000, 2))
    worker.embedding.start()
    for number in range(10):
        (shop.root / f"old-{number}.txt").write_text("\n\n".join(f"old {number} {n}" for n in range(20)))
        worker.look(shop.see(f"old-{number}.txt", bulk=True))

    fresh = shop.write("new.txt", "fresh")
    worker.look(fresh)
    shop.wait(fresh)

    done = [text for text in endpoint.counters.paid if "old" in text]
    assert len(done) < 150
    requests = [size for _, size, _ in endpoint.counters.batches]
    assert 1 in requests  # a request of its own


def test_after_a_crash_only_what_was_in_flight_is_sent_again(shop, endpoint):
    worker = shop.worker(limits=Limits(10, 100_000, 1))
    key = shop.write("a.txt", *(f"block {n}" for n in range(100)))
    worker.look(key)
    answered = worker.embedding._ledger.vectors.remember
    calls = []

    def dies(found):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt  # the process is gone between the answer and the cache
        answered(found)

    worker.embedding._ledger.vectors.remember = dies
    with pytest.raises(KeyboardInterrupt):
        worker.embed()
    shop.later()
    other = shop.worker()
    other.embed()

    assert shop.row(key).state == State.READY
    assert endpoint.counters.repeated == 10


# ------------------------------------------------------------------ RELIABILITY 73 to 80


@pytest.mark.parametrize("form", ["seconds", "date", "ms", "none", "zero", "nonsense"])
def test_73_a_rate_limit_is_waited_for_whatever_way_it_says_so(shop, endpoint, form):
    endpoint.behaviour.failures = [Failure(429, code="rate_limit_exceeded", retry_after=form)]
    worker = shop.worker()
    worker.embedding.start()
    key = shop.write("a.txt", "one")

    worker.look(key)
    shop.wait(key)

    assert endpoint.counters.statuses == {429: 1, 200: 1}
    assert shop.row(key).attempts == 0


def test_73_a_rate_limit_of_hours_is_written_down_and_asked_again_within_minutes(shop, endpoint):
    endpoint.behaviour.failures = [Failure(429, code="rate_limit_exceeded", retry_after="9999")]
    worker = shop.worker()
    key = shop.write("a.txt", "one")
    worker.look(key)

    worker.embed()

    found = shop.row(key)
    assert (found.state, found.attempts) == (State.EMBEDDING, 0)
    assert "limits the rate" in found.reason
    assert found.embed_next_try_at - time.time() == pytest.approx(300, abs=10)
    shop.later()
    worker.embed()
    assert (shop.row(key).state, shop.row(key).reason) == (State.READY, None)


def test_74_a_used_up_quota_opens_the_breaker_says_why_and_ends_by_itself(shop, endpoint):
    endpoint.behaviour.failures = [Failure(429, code="insufficient_quota")]
    worker = shop.worker()
    key = shop.write("a.txt", "one")
    worker.look(key)

    worker.embed()
    worker.embed()

    assert endpoint.counters.requests == 1
    assert shop.workers[0][2].seconds_open() > 100
    assert "quota" in shop.row(key).reason
    shop.later()
    worker.embed()
    assert shop.row(key).state == State.READY


def test_75_one_poisoned_text_among_200_is_found_in_few_calls_and_marked_alone(shop, endpoint):
    endpoint.behaviour.poison = "arsenic"
    worker = shop.worker(limits=Limits(200, 100_000, 1))
    key = shop.write("a.txt", *(f"block {n}" if n != 77 else "arsenic" for n in range(200)))
    worker.look(key)

    worker.embed()

    assert endpoint.counters.requests - 1 <= 2 * math.log2(200)
    assert [p["content"] for p in shop.index.points.values() if p["refused"]] == ["arsenic"]
    assert sum(p["embedded"] for p in shop.index.points.values()) == 199
    assert endpoint.counters.repeated == 0
    assert shop.row(key).state == State.READY
    assert "1 of its chunks" in shop.row(key).reason


def test_76_the_limits_of_a_request_are_kept(shop, endpoint):
    worker = shop.worker(limits=Limits(50, 300, 2))
    key = shop.write("a.txt", *(f"block {n} " + "word " * 20 for n in range(120)))
    worker.look(key)

    worker.embed()

    assert shop.row(key).state == State.READY
    assert endpoint.counters.largest_inputs <= 50
    assert endpoint.counters.largest_tokens <= 400  # ours is an estimate
    assert endpoint.counters.statuses.keys() == {200}


def test_76_an_endpoint_that_takes_less_than_we_were_told_is_learned_and_loses_no_text(shop, endpoint):
    endpoint.behaviour.max_inputs = 10
    worker = shop.worker(limits=Limits(64, 100_000, 1))
    key = shop.write("a.txt", *(f"block {n}" for n in range(300)))
    worker.look(key)

    worker.embed()

    assert shop.row(key).state == State.READY
    assert not any(p["refused"] for p in shop.index.points.values())
    assert endpoint.counters.repeated == 0
    assert endpoint.counters.statuses[400] < 10


@pytest.mark.parametrize("lie", ["hang", "drip", "cut", "not_json", "html", "reset"])
def test_77_an_answer_that_never_comes_whole_is_asked_for_again_and_not_stored(shop, endpoint, lie):
    endpoint.behaviour.change(lie=lie, lies=1)
    worker = shop.worker(timeout=0.3)
    key = shop.write("a.txt", "one")
    worker.look(key)

    worker.embed()

    assert not shop.index.vectors
    assert (shop.row(key).state, shop.row(key).attempts) == (State.EMBEDDING, 0)
    shop.later()
    worker.embed()
    assert shop.row(key).state == State.READY


@pytest.mark.parametrize("lie", ["fewer", "more", "duplicate_index", "nan", "infinite", "zeros"])
def test_78_an_answer_of_the_wrong_shape_stores_nothing(shop, endpoint, lie):
    endpoint.behaviour.change(lie=lie, lies=1)
    worker = shop.worker()
    key = shop.write("a.txt", "one", "two", "three")
    worker.look(key)

    worker.embed()

    assert not shop.index.vectors
    assert worker.ledger.vectors.size()[0] == 0
    shop.later()
    worker.embed()
    assert shop.row(key).state == State.READY
    assert len(shop.index.vectors) == 3


def test_78_vectors_of_other_dimensions_store_nothing(shop, endpoint):
    worker = shop.worker()
    first, second = shop.write("a.txt", "one"), shop.write("b.txt", "two")
    worker.look(first)
    worker.embed()
    endpoint.behaviour.lie = "wrong_dimensions"
    worker.look(second)

    worker.embed()

    assert len(shop.index.vectors) == 1
    assert "dimensions" in shop.row(second).reason


def test_78_vectors_in_another_order_are_put_right_by_their_index(shop, endpoint):
    endpoint.behaviour.lie = "shuffled"
    worker = shop.worker()
    key = shop.write("a.txt", *(f"block {n}" for n in range(30)))
    worker.look(key)

    worker.embed()

    assert shop.row(key).state == State.READY
    for point, payload in shop.index.points.items():
        text = f"{payload['metadata']['heading']}\n\n{payload['content']}"
        assert shop.index.vectors[point] @ vectors([text], DIMENSIONS)[0] > 0.9999


def test_79_a_model_that_is_swapped_behind_its_name_stops_the_embedding(shop, endpoint):
    now = [0.0]
    canary = Canary(vectors([CANARY], DIMENSIONS)[0], clock=lambda: now[0])
    worker = shop.worker(canary=canary)
    first, second = shop.write("a.txt", "one"), shop.write("b.txt", "two")
    worker.look(first)
    worker.embed()
    endpoint.behaviour.lie = "swapped"
    now[0] += 301
    worker.look(second)

    worker.embed()

    assert len(shop.index.vectors) == 1
    assert "another one" in shop.row(second).reason
    assert shop.workers[0][2].failures == 1
    endpoint.behaviour.lie = None
    shop.later()
    worker.embed()
    assert shop.row(second).state == State.READY


def test_79_a_model_that_is_swapped_during_an_outage_is_noticed_at_once(shop, endpoint):
    worker = shop.worker(canary=Canary(vectors([CANARY], DIMENSIONS)[0]))
    key = shop.write("a.txt", "one")
    worker.look(key)
    endpoint.behaviour.failures = [Failure(503)]
    worker.embed()
    endpoint.behaviour.lie = "swapped"
    shop.later()

    worker.embed()

    assert not shop.index.vectors
    assert "another one" in shop.row(key).reason


def test_80_a_text_that_the_server_cuts_in_silence_is_marked_and_not_stored(shop, endpoint):
    endpoint.behaviour.lie = "truncated"  # after 16 tokens
    worker = shop.worker()
    key = shop.write("a.txt", "short", "word " * 100, "brief")
    worker.look(key)

    worker.embed()

    assert [p["content"][:4] for p in shop.index.points.values() if p["refused"]] == ["word"]
    assert len(shop.index.vectors) == 2
    assert shop.row(key).state == State.READY


# ------------------------------------------------------------------ the budget that all workers share


def budget(valkey_url: str, prefix: str, **limits) -> Budget:
    return Budget(valkey_url, prefix, "endpoint", **limits)


def test_two_workers_spend_one_budget(valkey_url):
    prefix = f"{uuid4().hex}:"
    one, two = (budget(valkey_url, prefix, tpm=6000, rpm=100) for _ in range(2))

    assert one.take(4000, live=False) == 0
    assert two.take(4000, live=False) == pytest.approx((4000 + 120 - 2000) / 100, abs=0.5)
    assert two.take(1000, live=True) == 0


def test_a_backfill_leaves_something_for_live_edits(valkey_url):
    shared = budget(valkey_url, f"{uuid4().hex}:", tpm=6000)

    while shared.take(500, live=False) == 0:
        pass

    assert shared.take(100, live=True) == 0


def test_requests_per_minute_count_as_well_and_what_was_not_spent_comes_back(valkey_url):
    shared = budget(valkey_url, f"{uuid4().hex}:", tpm=6000, rpm=2)
    shared.take(5000, live=True)
    shared.settle(-5000)

    assert shared.take(5000, live=True) == 0
    assert shared.take(1, live=True) == pytest.approx(30, abs=1)


def test_a_pause_of_one_worker_is_kept_by_all(valkey_url):
    prefix = f"{uuid4().hex}:"
    one, two = (budget(valkey_url, prefix, tpm=60_000) for _ in range(2))

    one.pause(7.0)

    assert two.take(1, live=True) == pytest.approx(7, abs=0.5)


def test_limits_are_learned_from_the_headers_and_settings_win(shop, endpoint, valkey_url):
    endpoint.behaviour.change(tpm=6000, rpm=50)
    prefix = f"{uuid4().hex}:"
    learned = budget(valkey_url, prefix)
    worker = shop.worker(budget=learned)
    worker.look(shop.write("a.txt", "one"))

    worker.embed()

    assert learned.most_tokens == 1500
    learned.take(6000, live=True)
    assert learned.take(6000, live=True) > 0
    stubborn = budget(valkey_url, f"{uuid4().hex}:", tpm=100_000)
    worker = shop.worker(budget=stubborn)
    worker.look(shop.write("b.txt", "two"))
    worker.embed()
    assert stubborn.most_tokens == 25_000


def test_without_a_broker_the_budget_is_kept_to_half_and_never_stuck(free_port):
    alone = Budget(f"redis://127.0.0.1:{free_port()}/0", "x:", "endpoint", tpm=60_000)

    waits = [alone.take(400, live=False) for _ in range(3)]

    assert waits[0] == 0  # the first second's worth
    assert 0 < waits[-1] < 2


def test_a_binding_limit_is_used_and_not_run_against(shop, endpoint, valkey_url):
    endpoint.behaviour.tpm = 3000
    worker = shop.worker(limits=Limits(20, 1000, 4), budget=budget(valkey_url, f"{uuid4().hex}:", tpm=3000))
    worker.embedding.start()
    key = shop.write("a.txt", *(f"block {n} " + "word " * 40 for n in range(60)))

    worker.look(key)
    shop.wait(key, seconds=40)

    assert endpoint.counters.statuses.get(429, 0) <= 1
    assert endpoint.counters.repeated == 0
