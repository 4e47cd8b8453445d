"""Every refusal says what is wrong and what to do next, in the shape that whoever asked can read."""

from __future__ import annotations

from unittest.mock import Mock

import openai
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from ops.api.app import make_app
from ops.api.settings import ApiSettings
from tests.support.answering import Index, answering
from tests.support.faces import InProcess, served
from workers.contract.disk import Room
from workers.errors import IndexUnavailable


@pytest.fixture
def settings(tmp_path):
    return ApiSettings(
        ledger_url=f"sqlite:///{tmp_path}/ledger.db",
        broker_url="redis://127.0.0.1:9/0",
        data_dir=tmp_path,
        qdrant_url="http://127.0.0.1:9",
        embeddings_url="http://127.0.0.1:9/v1",
        embeddings_model="m",
    )


@pytest.fixture
def queries():
    return InProcess(answering(Index("The boiler code is 4711.", "The hedge is cut in June.")))


@pytest.fixture
def client(settings, engine, queries):
    with TestClient(make_app(settings, engine, queries=queries), base_url="http://127.0.0.1:8080") as client:
        yield client


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "query: is missing."),
        ({"query": ""}, "query: must not be empty."),
        ({"query": 5}, "query: must be a text."),
        ({"query": "x" * 10_000}, "query: must have at most 4,000 characters."),
        ({"query": "x", "limt": 3}, "limt: is not known here."),
        ({"query": "x", "limit": "many"}, "limit: must be a whole number."),
        ({"query": "x", "limit": 1000}, "limit: must be at most 100."),
        ({"query": "x", "mode": "fuzzy"}, "mode: must be 'hybrid', 'lexical' or 'semantic'."),
        ({"query": "x", "filters": [1]}, "filters: must be an object."),
        ({"query": "x", "recency": {"weight": 0}}, "recency.weight: must be more than 0."),
        ([1], "body: must be an object."),
        ("{bad", "body: must be JSON."),
    ],
)
def test_a_fault_of_a_search_is_told_in_plain_words_with_what_to_do_next(client, body, message):
    headers = {"content-type": "application/json"}
    sent = {"content": body, "headers": headers} if isinstance(body, str) else {"json": body}
    answer = client.post("/v1/search", **sent)

    assert answer.status_code == 422
    assert answer.json()["error"]["message"] == message
    assert answer.json()["error"]["next"]


def test_what_the_query_worker_refuses_has_a_next_step_too(client):
    for body in ({"query": "  "}, {"query": "x", "filters": {"date": {"after": "2015"}}}):
        refused = client.post("/v1/search", json=body)

        assert refused.status_code == 422
        assert "/openapi.json" in refused.json()["error"]["next"]


def test_a_conversation_alone_is_a_question(client, queries):
    talk = [{"role": "user", "content": "What is the boiler code?"}]
    answered = client.post("/v1/answer", json={"messages": talk})
    refused = client.post("/v1/answer", json={"messages": [{"role": "assistant", "content": "Yes."}]})

    assert answered.json()["answer"] == "The boiler code is 4711. [1]"
    assert refused.status_code == 422
    assert "nothing that the user asks" in refused.json()["error"]["message"]


@pytest.mark.parametrize("free", [5 << 20, 5 << 40], ids=["full", "roomy"])
def test_a_search_that_finds_no_index_names_the_full_disk_that_it_cannot_be_made_on(client, queries, monkeypatch, free):
    no_index = IndexUnavailable(
        "Qdrant has no collection 'upwell' yet. The first index worker makes it: is one running?"
    )
    monkeypatch.setattr(Index, "find", Mock(side_effect=no_index))
    monkeypatch.setattr("ops.api.asking.room", lambda path: Room(str(path), free))

    told = client.post("/v1/search", json={"query": "boiler"}).json()["error"]
    sse = {"accept": "text/event-stream"}
    streamed = client.post("/v1/answer", json={"query": "boiler"}, headers=sse).text

    assert told["message"].endswith("is one running?")
    for text in (told["next"], streamed):
        assert ("is full: 5 MB are left" in text and "Make room" in text) == (free < 1 << 30)


@pytest.mark.parametrize(
    ("method", "path", "status", "following"),
    [
        ("GET", "/v1/search", 405, "Use POST."),
        ("PUT", "/v1/documents", 405, "Use GET or POST."),
        ("POST", "/v1/serch", 404, "See /openapi.json for what there is."),
        ("GET", "/v1/serch", 404, "See /openapi.json for what there is."),
    ],
)
def test_a_wrong_method_and_a_wrong_path_are_told_apart(client, method, path, status, following):
    answer = client.request(method, path)

    assert (answer.status_code, answer.json()["error"]["next"]) == (status, following)


def test_openais_client_shows_what_to_do_next(settings, engine, queries):
    with (
        served(make_app(settings, engine, queries=queries)) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0) as client,
    ):
        with pytest.raises(
            openai.NotFoundError, match=r"There is no model 'gpt-5' here\. Ask for 'upwell'"
        ) as no_model:
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "x"}])
        with pytest.raises(openai.UnprocessableEntityError, match=r"query: must not be empty\. See"):
            client.vector_stores.search("upwell", query="")

    assert no_model.value.type == "invalid_request_error"


def test_dify_has_its_own_numbers_of_errors(settings, engine, queries, client):
    asked = {"knowledge_id": "upwell", "query": "boiler", "retrieval_setting": {"top_k": 3, "score_threshold": 0}}
    told = [client.post("/retrieval", json=body) for body in (asked | {"knowledge_id": "other"}, asked | {"query": ""})]
    locked = settings.model_copy(update={"api_key": SecretStr("s3cret")})
    with TestClient(make_app(locked, engine, queries=queries), base_url="http://127.0.0.1:8080") as keyed:
        heads = [{}, {"authorization": "Basic x"}, {"authorization": "Bearer wrong"}]
        told += [keyed.post("/retrieval", json=asked, headers=head) for head in heads]

    assert [each.json()["error_code"] for each in told] == [2001, 422, 1001, 1001, 1002]
    assert "'upwell'" in told[0].json()["error_msg"]
    assert "query: must not be empty." in told[1].json()["error_msg"]


def test_a_vector_stores_scores_lie_between_0_and_1_and_a_threshold_holds(client):
    def found(**more):
        body = {"query": "boiler code and hedge", **more}
        return client.post("/v1/vector_stores/upwell/search", json=body).json()["data"]

    scores = [each["score"] for each in found()]
    best = found(ranking_options={"score_threshold": scores[0]})

    assert len(scores) == 2
    assert 1 >= scores[0] > scores[1] >= 0
    assert [each["score"] for each in best] == scores[:1]
