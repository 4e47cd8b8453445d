"""The embedded Qdrant as the official client sees it: either it does what the server does, or it answers 501."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient
from qdrant_client import models as m
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.support.supervised import until

SPARSE = m.SparseVector(indices=[1, 2], values=[1.0, 0.5])


def has(key: str, value) -> m.Filter:
    return m.Filter(must=[m.FieldCondition(key=key, match=m.MatchValue(value=value))])


@pytest.fixture(scope="module")
def client(qdrant_url):
    client = QdrantClient(url=qdrant_url, prefer_grpc=False)  # checks compatibility: a warning would be a failure
    yield client
    client.close()


@pytest.fixture
def docs(client, collection):
    client.create_collection(
        collection,
        vectors_config=m.VectorParams(size=3, distance=m.Distance.COSINE),
        sparse_vectors_config={"bm25": m.SparseVectorParams(modifier=m.Modifier.IDF)},
    )
    client.create_payload_index(collection, "color", m.PayloadSchemaType.KEYWORD)
    client.upsert(
        collection,
        [
            m.PointStruct(id=1, vector={"": [1, 0, 0], "bm25": SPARSE}, payload={"color": "red", "n": 1}),
            m.PointStruct(id=2, vector={"": [0, 1, 0]}, payload={"color": "blue", "n": 2}),
            m.PointStruct(id=3, vector={"bm25": SPARSE}, payload={"color": "red", "n": 3}),
        ],
    )
    yield collection
    client.delete_collection(collection)


def test_a_collection_shows_what_it_was_made_of(client, docs):
    info = client.get_collection(docs)

    assert info.config.params.vectors.size == 3
    assert info.points_count == 3
    assert "color" in info.payload_schema
    assert client.collection_exists(docs)
    assert docs in {c.name for c in client.get_collections().collections}


def test_points_are_retrieved_counted_and_scrolled_by_filter(client, docs):
    assert {p.id for p in client.retrieve(docs, [1, 3, 99])} == {1, 3}
    assert client.count(docs, has("color", "red")).count == 2
    page, offset = client.scroll(docs, limit=2)
    rest, end = client.scroll(docs, limit=2, offset=offset)
    assert [p.id for p in page + rest] == [1, 2, 3]
    assert end is None
    ordered, _ = client.scroll(docs, scroll_filter=m.Filter(must_not=[m.HasIdCondition(has_id=[2])]), limit=5)
    assert [p.id for p in ordered] == [1, 3]


def test_points_without_a_dense_vector_are_found_by_words_and_by_fusion(client, docs):
    dense = client.query_points(docs, query=[1.0, 0.0, 0.0], limit=5).points
    assert {p.id for p in dense} == {1, 2}
    fused = client.query_points(
        docs,
        prefetch=[
            m.Prefetch(query=[1.0, 0.0, 0.0], limit=5),
            m.Prefetch(query=m.SparseVector(indices=[1], values=[1.0]), using="bm25", limit=5),
        ],
        query=m.FusionQuery(fusion=m.Fusion.RRF),
        with_payload=True,
    ).points
    assert {p.id for p in fused} == {1, 2, 3}
    assert fused[0].payload["color"] == "red"


def test_a_vector_can_come_later(client, docs):
    client.update_vectors(docs, [m.PointVectors(id=3, vector=[0, 0, 1])])

    [best] = client.query_points(docs, query=[0.0, 0.0, 1.0], limit=1).points
    assert best.id == 3
    with pytest.raises(UnexpectedResponse, match="No point with id"):
        client.update_vectors(docs, [m.PointVectors(id=99, vector=[0, 0, 1])])


def test_a_conditional_upsert_replaces_only_what_matches(client, docs):
    older = m.Filter(must=[m.FieldCondition(key="n", range=m.Range(lt=2))])
    points = [m.PointStruct(id=n, vector={"": [1, 1, 1]}, payload={"n": 10}) for n in (1, 2, 7)]
    client.upsert(docs, points, update_filter=older)

    assert [p.payload["n"] for p in client.retrieve(docs, [1, 2, 7])] == [10, 2, 10]


def test_payloads_are_set_overwritten_deleted_and_cleared(client, docs):
    client.set_payload(docs, {"n": 5}, points=has("color", "red"))
    client.overwrite_payload(docs, {"only": True}, points=[2])
    client.delete_payload(docs, ["n"], points=[3])

    found = {p.id: p.payload for p in client.retrieve(docs, [1, 2, 3])}
    assert found == {1: {"color": "red", "n": 5}, 2: {"only": True}, 3: {"color": "red"}}
    client.clear_payload(docs, [2])
    assert client.retrieve(docs, [2])[0].payload == {}


def test_points_are_deleted_by_id_and_by_filter(client, docs):
    client.delete(docs, [1])
    client.delete(docs, m.FilterSelector(filter=has("color", "blue")))

    assert [p.id for p in client.scroll(docs)[0]] == [3]


def test_a_batch_of_operations_is_applied_in_order(client, docs):
    client.batch_update_points(
        docs,
        [
            m.SetPayloadOperation(set_payload=m.SetPayload(payload={"n": 8}, points=[1])),
            m.DeleteOperation(delete=m.PointIdsList(points=[2])),
        ],
    )

    assert {p.id: p.payload["n"] for p in client.scroll(docs)[0]} == {1: 8, 3: 3}


def test_facets_count_values(client, docs):
    assert {(h.value, h.count) for h in client.facet(docs, "color").hits} == {("red", 2), ("blue", 1)}


def test_texts_become_bm25_vectors_in_the_server(client, docs):
    words = m.Document(text="the quick brown fox", model="qdrant/bm25")
    client.upsert(docs, [m.PointStruct(id=9, vector={"bm25": words}, payload={})])

    [hit] = client.query_points(docs, query=m.Document(text="foxes", model="qdrant/bm25"), using="bm25", limit=1).points
    assert hit.id == 9


def test_an_alias_stands_for_its_collection_and_is_switched_in_one_step(client, docs, collection):
    alias, other = f"{collection}-alias", f"{collection}-other"
    client.create_collection(other, vectors_config=m.VectorParams(size=3, distance=m.Distance.COSINE))
    create = m.CreateAlias(collection_name=docs, alias_name=alias)
    client.update_collection_aliases([m.CreateAliasOperation(create_alias=create)])
    assert client.count(alias).count == 3

    client.update_collection_aliases(
        [
            m.DeleteAliasOperation(delete_alias=m.DeleteAlias(alias_name=alias)),
            m.CreateAliasOperation(create_alias=m.CreateAlias(collection_name=other, alias_name=alias)),
        ]
    )
    assert client.count(alias).count == 0
    assert [a.alias_name for a in client.get_collection_aliases(other).aliases] == [alias]
    client.delete_collection(other)


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda c, n: c.get_collection("nowhere"), 404),
        (lambda c, n: c.count("nowhere"), 404),
        (lambda c, n: c.create_collection(n, vectors_config=m.VectorParams(size=3, distance=m.Distance.DOT)), 409),
        (lambda c, n: c.upsert(n, [m.PointStruct(id=1, vector=[1.0], payload={})]), 400),
        (lambda c, n: c.upsert(n, [m.PointStruct(id=1, vector={"no": [1.0]}, payload={})]), 400),
        (lambda c, n: c.query_points(n, query=[1.0, 2.0]), 400),
        (lambda c, n: c.create_snapshot(n), 501),
        (lambda c, n: c.query_points_groups(n, "color", query=[1.0, 0.0, 0.0]), 501),
    ],
)
def test_faults_have_the_servers_status(client, docs, call, status):
    with pytest.raises(UnexpectedResponse) as caught:
        call(client, docs)
    assert caught.value.status_code == status


def test_nonsense_is_refused_and_not_guessed(client, docs, qdrant_url):
    url = f"{qdrant_url}/collections/{docs}/points"
    assert httpx.post(f"{url}/scroll", content=b"{").status_code == 400
    assert httpx.post(f"{url}/scroll", json={"filter": {"must": [{"key": "n", "magic": 1}]}}).status_code == 400
    assert httpx.post(f"{url}/scroll", json={"surprise": 1}).status_code == 400
    assert httpx.post(f"{qdrant_url}/nowhere").status_code == 404


SPARSE_JSON = {"indices": [1, 2], "values": [1.0, 0.5]}


@pytest.mark.parametrize(
    "point",
    [
        {"id": 7, "vector": [0, 1, 0]},
        {"id": 7, "vector": [0, 1, 0], "payload": None},
        {"id": 7, "vector": {"": [0, 1, 0], "bm25": SPARSE_JSON}, "payload": {"color": None}},
        {"id": 7, "vector": {"bm25": SPARSE_JSON}, "payload": {}},
        {"id": 7, "vector": [3e38, 3e38, -3e38], "payload": {"n": 1}},  # longer than any one number may be
        {"id": 7, "vector": {"bm25": {"indices": [], "values": []}}, "payload": {}},
    ],
)
def test_a_point_may_leave_out_what_it_does_not_need(docs, qdrant_url, point):
    written = httpx.put(f"{qdrant_url}/collections/{docs}/points", json={"points": [point]})

    assert written.status_code == 200, written.text
    found = httpx.get(f"{qdrant_url}/collections/{docs}/points/7").json()["result"]
    assert found["payload"] == (point.get("payload") or {})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": "no-uuid"}, "not a valid point ID"),
        ({"id": True}, "not a valid point ID"),
        ({"id": None}, "missing field `id`"),
        ({"vector": None}, "missing field `vector`"),
        ({"payload": [1]}, "payload must be an object"),
        ({"shard": 1}, "unknown field `shard`"),
        ({"vector": [1, 0]}, "expected dim: 3, got 2"),
        ({"vector": [1, 0, "0"]}, "list of finite numbers"),
        ({"vector": [1, 0, 4e38]}, "list of finite numbers"),
        ({"vector": [1, 0, -4e38]}, "list of finite numbers"),
        ({"vector": [1, 0, 10**300]}, "list of finite numbers"),
        ({"vector": [1, 0, 10**400]}, "no JSON"),  # a number that no double holds
        ({"vector": {"bm25": {"indices": [1], "values": [1e39]}}}, "list of finite numbers"),
        ({"vector": {"bm25": {"indices": [1], "values": 1}}}, "values must be a list"),
        ({"vector": {"bm25": {"indices": [1], "values": None}}}, "must have indices and values"),
        ({"vector": {"bm25": {"indices": [1, 1], "values": [1, 2]}}}, "must be unique"),
        ({"vector": {"bm25": {"indices": [1, 2], "values": [1]}}}, "same length"),
        ({"vector": {"bm25": SPARSE_JSON | {"weights": []}}}, "unknown field `weights`"),
    ],
)
def test_a_point_that_is_wrong_is_refused_with_the_reason(docs, qdrant_url, change, words):
    point = {"id": 1, "vector": [0, 0, 1], "payload": {}} | change

    refused = httpx.put(f"{qdrant_url}/collections/{docs}/points", content=json.dumps({"points": [point]}))

    assert refused.status_code in (400, 422)
    assert words in refused.json()["status"]["error"]
    vectors = [{name: point[name] for name in ("id", "vector")}]
    again = httpx.put(f"{qdrant_url}/collections/{docs}/points/vectors", content=json.dumps({"points": vectors}))
    assert again.status_code == (200 if set(change) & {"payload", "shard"} else refused.status_code)


ids = st.integers(0, 12)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), ids, st.sampled_from("abc"), st.integers(0, 5)),
        st.tuples(st.just("delete"), ids),
        st.tuples(st.just("delete where"), st.sampled_from("abc")),
        st.tuples(st.just("set where"), st.sampled_from("abc"), st.integers(0, 5)),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations)
def test_any_sequence_of_writes_leaves_what_a_dict_would_hold(client, qdrant_url, found):
    name = f"oracle-{random.getrandbits(40):x}"
    client.create_collection(name, vectors_config=m.VectorParams(size=2, distance=m.Distance.DOT))
    oracle: dict[int, dict] = {}
    for operation in found:
        match operation:
            case ("upsert", key, letter, n):
                client.upsert(name, [m.PointStruct(id=key, vector=[1, n], payload={"k": letter, "n": n})])
                oracle[key] = {"k": letter, "n": n}
            case ("delete", key):
                client.delete(name, [key])
                oracle.pop(key, None)
            case ("delete where", letter):
                client.delete(name, m.FilterSelector(filter=has("k", letter)))
                oracle = {key: value for key, value in oracle.items() if value["k"] != letter}
            case ("set where", letter, n):
                client.set_payload(name, {"n": n}, points=has("k", letter))
                oracle = {key: value | ({"n": n} if value["k"] == letter else {}) for key, value in oracle.items()}
    points, _ = client.scroll(name, limit=100)
    assert {point.id: point.payload for point in points} == oracle
    assert client.count(name, has("k", "a")).count == sum(value["k"] == "a" for value in oracle.values())
    client.delete_collection(name)


def start(directory) -> tuple[subprocess.Popen, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "ops.embedded.qdrant", "--port", str(port), "--path", str(directory)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"{url}/readyz").raise_for_status()
            break
        except httpx.HTTPError:
            time.sleep(0.05)
    return process, url


def test_whatever_was_acknowledged_survives_a_kill(tmp_path):
    process, url = start(tmp_path)
    client = QdrantClient(url=url)
    client.create_collection("c", vectors_config=m.VectorParams(size=2, distance=m.Distance.DOT))
    client.update_collection_aliases(
        [m.CreateAliasOperation(create_alias=m.CreateAlias(collection_name="c", alias_name="a"))]
    )
    for key in range(50):
        client.upsert("a", [m.PointStruct(id=key, vector=[1, key], payload={"n": key})])
    process.send_signal(signal.SIGKILL)
    process.wait()

    process, url = start(tmp_path)
    points, _ = QdrantClient(url=url).scroll("a", limit=100)
    assert sorted(point.payload["n"] for point in points) == list(range(50))
    process.terminate()
    assert process.wait(10) == 0


def search_threads(process: subprocess.Popen) -> int:
    def named() -> int:
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        return sum((task / "comm").read_text().startswith("edge-search") for task in tasks)

    return until(named)  # a thread has its name a moment after it has begun


@pytest.mark.skipif(sys.platform != "linux", reason="the names of threads are read from /proc")
def test_a_collection_has_one_thread_that_searches_made_or_opened(tmp_path):
    process, url = start(tmp_path)
    httpx.put(f"{url}/collections/c", json={"vectors": {"size": 2, "distance": "Dot"}}).raise_for_status()
    made = search_threads(process)
    process.terminate()
    process.wait(10)

    process, _ = start(tmp_path)
    opened = search_threads(process)
    process.terminate()
    process.wait(10)

    assert (made, opened) == (1, 1)


def test_a_second_server_on_the_same_directory_is_refused(tmp_path):
    first, _ = start(tmp_path)
    second, _ = start(tmp_path)

    assert second.wait(10) == 3
    assert b"--path" in second.stderr.read()
    first.terminate()
    first.wait(10)
