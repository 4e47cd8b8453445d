"""The room beside the ledger: vectors by text, forgotten by last use, and one flight per text at a time."""

from __future__ import annotations

import hashlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sqlalchemy import update

from workers.contract import schema
from workers.indexing import cache as module
from workers.indexing.cache import EmbeddingCache, flights, vectors
from workers.indexing.recipe import Space

ON_SQLITE = pytest.mark.parametrize("either_ledger_url", ["sqlite"], indirect=True)
"""For what only a room in a file of its own has."""


def key(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, dtype=np.float32)
    return vector / np.linalg.norm(vector)


@pytest.fixture
def engine(either_ledger_url):
    engine = schema.open_ledger(either_ledger_url)
    yield engine
    engine.dispose()


@pytest.fixture
def cache(engine):
    return EmbeddingCache(engine, "one")


def age(cache: EmbeddingCache, table, column, **ages: float) -> None:
    with cache._room().begin() as connection:
        for name, at in ages.items():
            connection.execute(update(table).where(table.c.key == bytes.fromhex(key(name))).values({column: at}))


def checkpoint(cache: EmbeddingCache) -> None:
    """Move what is in the write-ahead log into the file."""
    with cache._room().connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def test_a_vector_comes_back_with_its_direction_and_twice_is_once(cache):
    vector = np.random.default_rng(1).standard_normal(1536).astype(np.float32) * 40

    cache.remember([(key("k"), vector), (key("k"), vector)])
    cache.remember([(key("k"), unit(1, 0))])

    found = cache.known([key("k"), key("unknown")])
    assert list(found) == [key("k")]
    assert float(found[key("k")] @ unit(*vector)) > 0.99999
    assert np.linalg.norm(found[key("k")]) == pytest.approx(1, abs=1e-3)
    assert cache.size()[0] == 1


def test_a_vector_is_of_one_model_and_one_number_of_dimensions():
    keys = {Space(model, dimensions).cache_key("fish") for model in ("small", "large") for dimensions in (3, 4)}

    assert len(keys) == 4
    assert Space("small", 3).cache_key("fish") in keys


@ON_SQLITE
def test_a_ledger_that_is_thrown_away_leaves_the_vectors(cache, engine, tmp_path):
    cache.remember([(key("k"), unit(1, 2))])
    engine.dispose()
    for file in tmp_path.glob("ledger.db*"):
        file.unlink()

    again = EmbeddingCache(schema.open_ledger(f"sqlite:///{tmp_path}/ledger.db"), "two")

    assert list(again.known([key("k")])) == [key("k")]


def test_the_longest_unused_are_forgotten_first_and_a_use_counts(cache, monkeypatch):
    cache.remember([(key(n), unit(1, n)) for n in range(5)])
    age(cache, vectors, "used_at", **{str(n): 1000.0 + n for n in range(5)})

    cache.known([key(0)])  # the oldest is used again

    assert cache.trim(2, 1 << 30) == 3
    assert set(cache.known([key(n) for n in range(5)])) == {key(0), key(4)}


@ON_SQLITE
def test_a_use_shortly_after_the_last_writes_nothing(cache):
    cache.remember([(key("k"), unit(1, 1))])
    with sqlite3.connect(cache._room().url.database) as connection:
        before = connection.execute("PRAGMA data_version").fetchone()
        cache.known([key("k")])
        assert connection.execute("PRAGMA data_version").fetchone() == before


@ON_SQLITE
def test_the_room_is_bounded_in_bytes_too_and_its_file_shrinks(cache, tmp_path):
    cache.remember([(key(n), np.ones(4096, dtype=np.float32)) for n in range(500)])
    checkpoint(cache)
    full = (tmp_path / "vectors.db").stat().st_size
    assert cache.size()[1] >= 500 * 8192

    cache.trim(10_000, 100_000)
    checkpoint(cache)

    assert cache.size()[1] <= 100_000
    assert (tmp_path / "vectors.db").stat().st_size < full / 4


def test_two_workers_never_fetch_one_text_at_once(cache, engine):
    other = EmbeddingCache(engine, "two")

    first = cache.claim([key("a"), key("b")])
    second = other.claim([key("b"), key("c")])
    assert (first.ours, second.ours) == ({key("a"), key("b")}, {key("c")})
    assert second.elsewhere == {key("b")}

    cache.remember([(key("b"), unit(3, 4))])
    third = other.claim([key("b")])
    assert not third.ours
    assert list(third.known) == [key("b")]

    cache.release([key("a")])
    assert other.claim([key("a")]).ours == {key("a")}


def test_what_a_dead_worker_was_fetching_is_free_when_its_lease_ends(cache, engine):
    cache.claim([key("a")])
    other = EmbeddingCache(engine, "two")
    assert not other.claim([key("a")]).ours

    age(cache, flights, "until", a=1.0)

    assert other.claim([key("a")]).ours == {key("a")}


def test_the_same_texts_claimed_by_many_threads_at_once_belong_to_one_each(engine):
    keys = [key(n) for n in range(module.PAGE + 20)]

    with ThreadPoolExecutor(8) as pool:
        won = pool.map(lambda number: EmbeddingCache(engine, f"w{number}").claim(keys).ours, range(8))

    assert sorted(name for ours in won for name in ours) == sorted(keys)
