"""What a filter means, and what the search adapter returns, is the same in Qdrant and in Python."""

from __future__ import annotations

import math
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as m

from tests.conftest import HOST
from workers.adapters import bm25, names
from workers.adapters.qdrant import QdrantIndex, create_collection
from workers.adapters.qdrant_search import QdrantSearch
from workers.contract.settings import IndexSettings
from workers.errors import IndexMisconfigured, IndexUnavailable
from workers.indexing.ports import Point
from workers.query import search as searching
from workers.query.filters import AnyOf, Not, matches, read_filter
from workers.query.requests import SearchRequest

TYPES = {"kind": "keyword", "year": "integer", "price": "float", "draft": "bool", "date": "datetime", "tags": "keyword"}
WORDS = ["decree", "law", "2015", "true", "a b", "é"]
DATES = ["2014-12-31", "2015-01-01", "2015-03-01T12:00:00Z", "2015-12-31T23:59:59Z", "2016-01-01T00:30:00+01:00"]
PERIODS = ["2014", "2015", "2015-03", "2015-03-01", "2015-03-01T12:00:00Z", 2015]


def point_id(number: int) -> str:
    return str(uuid5(NAMESPACE_URL, str(number)))


def draw_metadata(dice: random.Random, number: int) -> dict[str, Any]:
    whole = {
        "kind": dice.choice(WORDS),
        "year": dice.randint(2013, 2017),
        "price": dice.choice([0.5, 1.0, 2.5]),
        "draft": dice.random() < 0.5,
        "date": dice.choice(DATES),
        "tags": dice.sample(["x", "y", "z"], dice.randint(1, 3)),
        "path": f"{dice.choice(['laws', 'laws/ad', 'lawsuits'])}/{number}.md",
        "language": "de",
    }
    return {name: value for name, value in whole.items() if name in ("path", "language") or dice.random() < 0.8}


def draw_filter(dice: random.Random, depth: int = 0) -> dict[str, Any]:
    if depth < 2 and dice.random() < 0.3:
        inner = [draw_filter(dice, depth + 1) for _ in range(dice.randint(1, 3))]
        return dice.choice([{"and": inner}, {"or": inner}, {"not": inner[0]}])
    one: dict[str, Any] = dice.choice(
        [
            {"kind": dice.choice(WORDS)},
            {"kind": dice.sample(WORDS, 2)},
            {"year": dice.choice([2015, "2015", [2014, 2016]])},
            {"year": {"gt": dice.randint(2013, 2016)}},
            {"year": {"gte": str(dice.randint(2013, 2016)), "lt": 2017}},
            {"price": dice.choice([1.0, "2.5", 0.5])},
            {"price": {"lte": 1.0}},
            {"draft": dice.choice([True, False, "true"])},
            {"date": {dice.choice(["gt", "gte", "lt", "lte"]): dice.choice(PERIODS)}},
            {"date": {"gte": "2015-01-01", "lte": "2015-03"}},
            {"date": dice.choice(["2015", "2015-03", "2015-12-31"])},
            {"tags": dice.choice(["x", ["y", "z"]])},
            {"tags": {"not": "x"}},
            {"path": {"prefix": dice.choice(["laws/", "laws/ad", "none"])}},
            {dice.choice(list(TYPES)): {"exists": dice.random() < 0.5}},
            {"nowhere": "at all"},
        ]
    )
    return one


@pytest.fixture(scope="module")
def client(qdrant_url: str) -> Iterator[QdrantClient]:
    client = QdrantClient(url=qdrant_url, check_compatibility=False)
    yield client
    client.close()


@pytest.fixture
def search(client: QdrantClient, qdrant_url: str, collection: str) -> Iterator[QdrantSearch]:
    create_collection(client, collection, 2, qdrant_url)
    adapter = QdrantSearch(IndexSettings(qdrant_url=qdrant_url, collection=collection), timeout=10)
    yield adapter
    adapter.close()
    client.delete_collection(collection)


def put(client: QdrantClient, collection: str, payloads: list[dict[str, Any]], texts: list[str] | None = None) -> None:
    points = []
    for number, payload in enumerate(payloads):
        words = bm25.document_vector((texts or [])[number] if texts else "word")
        vector = {"": [1.0, number / 100], "bm25": m.SparseVector(indices=words.indices, values=words.values)}
        points.append(m.PointStruct(id=point_id(number), vector=vector, payload={"tenant": "default", **payload}))
    client.upsert(collection, points, wait=True)


def test_facts_are_of_every_point_with_a_word_and_hold_only_what_was_asked_for(client, collection, search):
    odd = {"my kind": "law", "tags": ["x", "y"], "a": {"b": 7}, "secret": "no"}
    payloads = [
        {"doc_id": f"d{number}", "content": "…", "metadata": odd | {"n": number}, "version": "v"}
        for number in range(300)
    ]
    texts = [f"boiler {'hedge' if number % 2 else 'roof'}" for number in range(300)]
    put(client, collection, payloads, texts)
    words = bm25.search_vector("the hedges of the kettle")
    found = search.facts(words, limit=1000, filters=read_filter({"n": {"gte": 100}}), fields=["my kind", "tags", "a.b"])

    assert sorted(one.doc_id for one in found) == sorted(f"d{number}" for number in range(101, 300, 2))
    assert all(
        one.payload == {"doc_id": one.doc_id, "metadata": {"my kind": "law", "tags": ["x", "y"], "a": {"b": 7}}}
        for one in found
    )
    assert len(search.facts(words, limit=10)) == 10
    assert search.facts(bm25.search_vector("the of"), limit=10) == []


@pytest.mark.parametrize("indexed", [False, True], ids=["without indexes", "with indexes"])
def test_a_filter_means_in_qdrant_what_it_means_in_python(client, collection, search, indexed):
    dice = random.Random(4711)
    payloads = [{"metadata": draw_metadata(dice, number), "content": ""} for number in range(60)]
    if indexed:
        for field, kind in TYPES.items():
            client.create_payload_index(collection, f"metadata.{field}", field_schema=m.PayloadSchemaType(kind))
    put(client, collection, payloads)

    for raw in [draw_filter(dice) for _ in range(150)]:
        wanted = read_filter(raw)
        found = search.find(None, np.array([1.0, 0.0], dtype=np.float32), limit=100, filters=wanted)
        expected = {point_id(number) for number, payload in enumerate(payloads) if matches(wanted, payload)}
        assert {one.id for one in found} == expected, raw


def test_no_filter_reaches_another_tenant(client, collection, search):
    put(client, collection, [{"tenant": "somebody else", "metadata": {"kind": "law"}, "doc_id": "d"}])

    for wanted in (read_filter({}), read_filter({"kind": "law"}), Not(AnyOf("kind", ("decree",)))):
        assert search.find(bm25.search_vector("word"), None, limit=10, filters=wanted) == []
    assert search.chunks_of("d", limit=10) == []


def test_neighbours_are_of_the_same_document_and_version_in_order(client, collection, search):
    chunks = [{"doc_id": "d", "version": "2", "chunk_index": number, "content": str(number)} for number in range(6)]
    stale = {"doc_id": "d", "version": "1", "chunk_index": 3, "content": "stale"}
    other = {"doc_id": "e", "version": "2", "chunk_index": 2, "content": "other"}
    put(client, collection, [*chunks, stale, other])
    [third] = [one for one in search.chunks_of("d", limit=10) if one.content == "3"]

    found = search.neighbours([third], 2)

    assert [one.content for one in found[third.id]] == ["1", "2", "4", "5"]


def test_the_languages_of_the_index_are_those_of_most_chunks(client, collection, search):
    put(client, collection, [{"metadata": {"language": code}} for code in ["de", "de", "en", "xx"]])

    assert search.languages() == ("german", "english")


def test_a_reader_that_infers_bm25_with_qdrants_defaults_finds_our_points(client, collection, search):
    texts = ["Die Kündigungen der Arbeitsverhältnisse", "getUserName reads the names", "Nichts davon"]
    put(client, collection, [{"content": text} for text in texts], texts)

    def ids(query: str) -> list[Any]:
        asked = m.Document(text=query, model="qdrant/bm25")
        return [point.id for point in client.query_points(collection, query=asked, using="bm25").points]

    assert ids("Kündigungen") == [point_id(0)]
    assert ids("getUserName") == [point_id(1)]


def test_stems_of_the_texts_own_language_are_found(client, collection, search):
    texts = ["Die Kündigung der Verträge war nicht wirksam", "Die Katze und der Hund sind nicht hier"]
    put(client, collection, [{"content": text} for text in texts], texts)

    found = search.find(bm25.search_vector("Welche Kündigungen sind wirksam und welche nicht?"), None, limit=5)

    assert found[0].id == point_id(0)


def test_in_strict_mode_a_field_without_index_is_refused_with_the_setting_that_helps(httpserver):
    refusal = {"status": {"error": "Bad request: Index required but not found"}, "time": 0.0}
    config = {
        "params": {},
        "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
        "optimizer_config": {
            "deleted_threshold": 0.2,
            "vacuum_min_vector_number": 1000,
            "default_segment_number": 0,
            "flush_interval_sec": 5,
        },
    }
    info = {"status": "green", "optimizer_status": "ok", "segments_count": 1, "config": config, "payload_schema": {}}
    collection = {"result": info, "status": "ok", "time": 0.0}
    httpserver.expect_request("/collections/upwell", method="GET").respond_with_json(collection)
    httpserver.expect_request("/collections/upwell/points/query/batch").respond_with_json(refusal, status=400)
    adapter = QdrantSearch(IndexSettings(qdrant_url=httpserver.url_for("").rstrip("/")), timeout=5)

    with pytest.raises(IndexMisconfigured, match="UPWELL_METADATA_INDEXES"):
        adapter.find(bm25.search_vector("word"), None, limit=5, filters=AnyOf("own", ("x",)))
    adapter.close()


def test_a_new_field_gets_an_index_of_its_first_values_type_before_it_is_stored(client, collection, search, qdrant_url):
    index = QdrantIndex(client, collection, qdrant_url)
    index.fields.declare({"code": "keyword"})
    metadata = {
        "jurisdiction": "AD",
        "date": "2015-03-01",
        "pages": 12,
        "fee": 2.5,
        "draft": False,
        "tags": ["water"],
        "court": {"name": "high"},
        "summary": "x" * 300,
        "heading": "One > Two",
    }
    payload = {"content": "", "metadata": metadata, "doc_id": "d", "version": "1", "chunk_index": 0, "digest": "0"}
    index.put([Point(point_id(0), "word", {**payload, "tenant": "default"})], 1)

    types = {key: info.data_type.value for key, info in client.get_collection(collection).payload_schema.items()}

    assert {key.removeprefix("metadata."): kind for key, kind in types.items()}.items() >= {
        "code": "keyword",
        "jurisdiction": "keyword",
        "date": "datetime",
        "pages": "integer",
        "fee": "float",
        "draft": "bool",
        "tags": "keyword",
        "court.name": "keyword",
    }.items()
    assert not {"metadata.summary", "metadata.heading"} & types.keys()
    assert len(search.find(bm25.search_vector("word"), None, limit=5, filters=read_filter({"court.name": "high"}))) == 1


def test_the_fused_score_is_what_both_lists_make_together(client, collection, search):
    texts = ["boiler code", "boiler", "hedge", "other words"]
    put(client, collection, [{"content": text} for text in texts], texts)
    client.delete_vectors(collection, [""], [point_id(1)])
    meaning = np.array([1.0, 0.02], dtype=np.float32)

    found = search.find(
        bm25.search_vector("boiler code"), meaning / np.linalg.norm(meaning), limit=9, explain=True, unrelated=0.8
    )

    assert len(found) == 4
    for one in found:
        dense, words = one.lists.get("dense"), one.lists.get("bm25")
        together = 1.7 / 0.2 * ((dense.score if dense else 0.8) - 0.8) + (
            words.score**1.5 / (words.score**1.5 + 10**1.5) if words else 0
        )
        assert one.score == pytest.approx(together, abs=1e-5)
    assert "dense" not in next(one for one in found if one.content == "boiler").lists


def test_fields_that_nothing_has_are_told_with_the_one_spelled_most_like_them(client, collection, search, qdrant_url):
    index = QdrantIndex(client, collection, qdrant_url)
    metadata = {"jurisdiction": "DE", "summary": "x" * 300, "court": {"name": "high"}}
    payload = {"content": "", "metadata": metadata, "doc_id": "d", "version": "1", "chunk_index": 0, "digest": "0"}
    index.put([Point(point_id(0), "word", {**payload, "tenant": "default"})], 1)

    fields = {"jurisdiction", "metadata.summary", "court.name", "doc_id", "jurisdiktion", "court.nam", "zzz"}
    assert search.unknown(fields) == {"jurisdiktion": "jurisdiction", "court.nam": "court.name", "zzz": None}
    assert search.unknown(()) == {}
    assert {"jurisdiction", "court.name"} <= set(search.fields())
    assert "tenant" not in search.fields()


def test_what_waits_for_its_vector_is_not_behind_what_is_only_somehow_near(client, collection, search):
    """A file that was just saved: all of its words are asked for, and the others' vectors are there already."""
    texts = ["boiler code"] + ["hedge code"] * 9
    put(client, collection, [{"content": text, "embedded": number > 0} for number, text in enumerate(texts)], texts)
    client.delete_vectors(collection, [""], [point_id(0)])
    meaning = np.array([1.0, 0.0], dtype=np.float32)
    words = bm25.search_vector("boiler code")

    def best():
        return search.find(words, meaning, limit=9, explain=True, unrelated=0.995)[0]

    waiting = best()
    client.set_payload(collection, {"embedded": True}, points=[point_id(0)], wait=True)

    assert waiting.id == point_id(0) != best().id
    x = waiting.lists["bm25"].score ** 1.5
    assert waiting.score == pytest.approx(1.75 * x / (x + 10**1.5), abs=1e-5)


def test_a_file_whose_name_is_asked_for_is_before_those_whose_texts_have_the_words(client, collection, search):
    """Nothing in its text says so; the others have every word of the query, and are near by meaning."""
    texts = ["acme invoice 2023"] * 12 + ["hedge"]
    points = []
    for number, text in enumerate(texts):
        words = names.chunk_vector(text, "bills/2023/ACME-invoice_0042.txt" if number == 12 else f"{number}.txt")
        sparse = m.SparseVector(indices=words.indices, values=words.values)
        payload = {"tenant": "default", "content": text, "embedded": True}
        meaning = [1.0, 0.4 + number / 100] if number < 12 else [1.0, 0.75]
        points.append(m.PointStruct(id=point_id(number), vector={"": meaning, "bm25": sparse}, payload=payload))
    client.upsert(collection, points, wait=True)
    meaning = np.array([1.0, 0.0], dtype=np.float32)
    for query in ("ACME-invoice_0042.txt", "acme invoice 0042", "bills/2023/ACME-invoice_0042.txt"):
        words = names.with_names(bm25.search_vector(query))

        hybrid = search.find(words, meaning, limit=13, explain=True, unrelated=0.8)
        lexical = search.find(words, None, limit=13)

        assert [found[0].id for found in (hybrid, lexical)] == [point_id(12)] * 2
        assert hybrid[0].lists["name"].rank == 1
        x, h = hybrid[0].lists["name"].score, 0.5 * math.log(14 / 1.5) * sum(words.values) / 2
        assert hybrid[0].score == pytest.approx(2 * x**4 / (x**4 + h**4), abs=1e-4)


class Far:
    """An embedder whose model calls everything below 0.99 unrelated."""

    def queries(self, texts):
        return [np.array([0.0, 1.0], dtype=np.float32) for _ in texts]

    def unrelated(self):
        return 0.99


def test_a_question_far_from_every_chunk_finds_the_nearest_first(client, collection, search):
    """In another language than the documents, all cosines lie where those of unrelated texts lie in one language."""
    put(client, collection, [{"embedded": True, "content": f"{n} words"} for n in range(150)], ["word"] * 150)

    result = searching.search(SearchRequest(query="word", limit=3), index=search, embedder=Far())

    assert [hit.found.id for hit in result.hits] == [point_id(149), point_id(148), point_id(147)]


def test_chunks_in_a_row_come_as_one_hit_with_what_stands_around_them(client, collection, search):
    texts = ["hedge", "roof", "boiler", "boiler", "roof", "hedge"]
    chunks = [
        {"doc_id": "d", "version": "2", "chunk_index": number, "content": f"{number} {text}"}
        for number, text in enumerate(texts)
    ]
    stale = {"doc_id": "d", "version": "1", "chunk_index": 4, "content": "stale boiler"}
    put(client, collection, [*chunks, stale], [*texts, "boiler"])

    result = searching.search(SearchRequest(query="boiler", neighbours=1), index=search, embedder=Far())

    shown = [hit.as_json() for hit in result.hits]
    assert [hit["content"] for hit in shown] == ["2 boiler\n\n3 boiler", "stale boiler"]
    assert [other["content"] for other in shown[0]["neighbours"]] == ["1 roof", "4 roof"]


@contextmanager
def frozen():
    with socket.create_server((HOST, 0)) as server:  # takes connections and says nothing, as a process that is stopped
        yield server.getsockname()[1]


@contextmanager
def away():
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
    yield port


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (frozen, "did not answer within 1 s (UPWELL_SEARCH_TIMEOUT). It is overloaded or hangs: see its log"),
        (away, "cannot be reached. Is it running, and is the address right?"),
    ],
)
def test_no_answer_says_what_is_wrong_and_what_to_do_and_names_no_exception(server, reason):
    with server() as port:
        adapter = QdrantSearch(IndexSettings(qdrant_url=f"http://{HOST}:{port}"), timeout=1)

        with pytest.raises(IndexUnavailable) as caught:
            adapter.find(bm25.search_vector("word"), None, limit=5)
        adapter.close()

    assert reason in str(caught.value)
    assert "Exception" not in str(caught.value)


def test_an_answer_that_is_not_qdrants_is_told_as_such(httpserver):
    httpserver.expect_request("/collections/upwell/points/query/batch").respond_with_data("<html>Welcome!</html>")
    adapter = QdrantSearch(IndexSettings(qdrant_url=httpserver.url_for("").rstrip("/")), timeout=5)

    with pytest.raises(IndexUnavailable, match="not Qdrant's"):
        adapter.find(bm25.search_vector("word"), None, limit=5)
    adapter.close()


def test_of_equally_good_points_at_the_limit_the_same_ones_are_found_every_time(client, collection, search):
    put(client, collection, [{"content": "word"} for _ in range(25)])

    found = [one.id for one in search.find(bm25.search_vector("word"), None, limit=10)]

    assert found == sorted(point_id(number) for number in range(25))[:10]
