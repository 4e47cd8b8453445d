"""The embedded Qdrant gets rid of deleted points while it is read and written: nothing is lost, nothing comes back."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from ops.embedded.http import Request
from ops.embedded.qdrant import rewrite, store
from ops.embedded.qdrant.routes import Api
from ops.embedded.qdrant.store import Store

POINTS = 1_500
CREATION = {
    "vectors": {"size": 4, "distance": "Cosine"},
    "sparse_vectors": {"bm25": {"modifier": "idf"}},
}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(store, "TIDY_AFTER", 1)
    monkeypatch.setattr(store, "TIDY_IDLE_S", 0.0)


@pytest.fixture
def opened(tmp_path):
    made = Store(tmp_path)
    yield made
    if made.names():  # a test may have closed it
        made.close()


async def send(api: Api, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async def gone() -> None: ...

    reply = await api.answer(Request(method, path, {}, json.dumps(body).encode() if body is not None else b"", gone))
    return reply.status, json.loads(reply.body)


async def call(api: Api, method: str, path: str, body: Any = None) -> Any:
    status, answer = await send(api, method, path, body)
    assert status == 200, answer
    return answer["result"]


def point(key: int, dice: random.Random, **payload: Any) -> dict[str, Any]:
    vector = {
        "": [dice.random() + 0.1 for _ in range(4)],
        "bm25": {"indices": [key % 7], "values": [dice.random() + 0.1]},
    }
    return {"id": key, "vector": vector, "payload": {"n": key, "color": dice.choice(["red", "blue"]), **payload}}


async def filled(opened: Store, dice: random.Random) -> Api:
    """Return an api whose collection "c" has lost half of what was written to it."""
    api = Api(opened)
    for name in ("c", "twin"):
        await call(api, "PUT", f"/collections/{name}", CREATION)
        await call(api, "PUT", f"/collections/{name}/index", {"field_name": "color", "field_schema": "keyword"})
    points = [point(key, dice) for key in range(2 * POINTS)]
    await both(api, "PUT", "/points", {"points": points})
    await both(api, "POST", "/points/delete", {"points": [key for key in range(2 * POINTS) if key % 2]})
    opened.collection("twin").changes = -(10**6)  # it stays as it is
    return api


async def both(api: Api, method: str, rest: str, body: Any) -> None:
    ours, others = [await send(api, method, f"/collections/{name}{rest}", body) for name in ("c", "twin")]
    assert ours[0] == others[0]  # some writes are refused: a point of a list is gone


async def everything(api: Api, name: str) -> Any:
    body = {"limit": 10 * POINTS, "with_payload": True, "with_vector": True}
    return (await call(api, "POST", f"/collections/{name}/points/scroll", body))["points"]


async def best(api: Api, name: str) -> Any:
    query = {
        "prefetch": [
            {"query": [1, 0, 0, 0], "limit": 50},
            {"query": {"indices": [3], "values": [1.0]}, "using": "bm25"},
        ],
        "query": {"fusion": "dbsf"},
        "filter": {"must": [{"key": "color", "match": {"value": "red"}}]},
        "limit": 20,
    }
    found = await call(api, "POST", f"/collections/{name}/points/query", query)
    return {hit["id"]: hit["score"] for hit in found["points"]}


async def meddle(api: Api, dice: random.Random) -> None:
    """Write in every way that a merge could forget."""
    key = dice.randrange(2 * POINTS)
    red = {"must": [{"key": "color", "match": {"value": "red"}}, {"key": "n", "range": {"gte": key, "lt": key + 9}}]}
    older = {"must": [{"key": "n", "range": {"lt": POINTS}}]}
    kind = dice.randrange(4)
    if kind == 0:
        await both(api, "PUT", "/points", {"points": [point(key, dice, again=True)], "update_filter": older})
    elif kind == 1:
        await both(api, "POST", "/points/delete", {"filter": red})
    elif kind == 2:
        await both(api, "POST", "/points/payload", {"payload": {"color": "red"}, "points": [key // 2 * 2, key]})
    else:
        await both(api, "PUT", "/points", {"points": [point(3 * POINTS + key, dice)]})


def waste(opened: Store, name: str) -> float:
    return rewrite.left_behind(opened._directory_of(name), opened.collection(name).points())


def test_a_rewritten_collection_holds_what_an_untouched_one_holds_whatever_was_written_meanwhile(opened, tmp_path):
    dice = random.Random(4711)

    async def scenario():
        api = await filled(opened, dice)
        shard = opened._directory_of("c")
        opened.collection("c").flush()
        assert waste(opened, "c") > 0.4
        tidying = asyncio.create_task(opened.tidy())
        writes = 0
        while not tidying.done():
            await meddle(api, dice)
            writes += 1
            await asyncio.sleep(0.005)
        await tidying
        assert writes > 20  # beside the rewriting, not after it
        assert opened._directory_of("c") != shard
        assert not shard.exists()
        await meddle(api, dice)
        opened.collection("c").flush()
        assert waste(opened, "c") < 0.3
        assert await everything(api, "c") == await everything(api, "twin")
        assert await best(api, "c") == pytest.approx(await best(api, "twin"), rel=1e-5)
        return await everything(api, "c")

    before = asyncio.run(scenario())
    opened.close()

    again = Store(tmp_path)
    assert asyncio.run(everything(Api(again), "c")) == before
    assert len(list((tmp_path / "shards").iterdir())) == 2
    again.close()


@pytest.mark.parametrize("fault", ["the child dies", "the copy is spoilt", "too much is written", "no room"])
def test_when_it_fails_everything_is_as_before(opened, tmp_path, monkeypatch, fault):
    async def failing(copy, *, given_up):
        if fault == "the copy is spoilt":
            for file in (copy / "segments").rglob("segment.json"):
                file.write_text("nonsense")
            return True
        return False

    if fault in ("the child dies", "the copy is spoilt"):
        monkeypatch.setattr(store, "rewritten", failing)
    elif fault == "too much is written":
        monkeypatch.setattr(store, "MOST_MEANWHILE", -1)
    else:
        monkeypatch.setattr(rewrite, "ROOM", 10**9)

    async def scenario():
        api = await filled(opened, random.Random(1))
        await opened.tidy()
        await meddle(api, random.Random(2))
        assert await everything(api, "c") == await everything(api, "twin")

    asyncio.run(scenario())

    assert waste(opened, "c") > 0.4
    assert len(list((tmp_path / "shards").iterdir())) == 2


def test_a_collection_that_is_deleted_meanwhile_stays_deleted(opened, tmp_path):
    async def scenario():
        api = await filled(opened, random.Random(1))
        tidying = asyncio.create_task(opened.tidy())
        await asyncio.sleep(0.3)
        await call(api, "DELETE", "/collections/c")
        await tidying

    asyncio.run(scenario())

    assert opened.names() == ["twin"]
    assert len(list((tmp_path / "shards").iterdir())) == 1


def test_with_too_little_room_on_the_disk_nothing_is_written_and_everything_is_read(opened, monkeypatch):
    async def scenario() -> None:
        dice = random.Random(4)
        api = await filled(opened, dice)
        count = await call(api, "POST", "/collections/c/points/count", {"exact": True})

        monkeypatch.setattr("ops.embedded.qdrant.collection.LEAST_FREE", 1 << 62)
        for method, path, body in [
            ("PUT", "/collections/c/points", {"points": [point(5000, dice)]}),
            ("POST", "/collections/c/points/batch", {"operations": [{"upsert": {"points": [point(5000, dice)]}}]}),
            ("PUT", "/collections/c/index", {"field_name": "late", "field_schema": "keyword"}),
            ("PUT", "/collections/other", CREATION),
        ]:
            status, answer = await send(api, method, path, body)
            assert (status, "until there is room" in answer["status"]["error"]) == (507, True)
        assert await call(api, "POST", "/collections/c/points/count", {"exact": True}) == count

        monkeypatch.undo()
        await call(api, "PUT", "/collections/c/points", {"points": [point(5000, dice)]})
        assert (await call(api, "POST", "/collections/c/points/count", {"exact": True}))["count"] == count["count"] + 1

    asyncio.run(scenario())
