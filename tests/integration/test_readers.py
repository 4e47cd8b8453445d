"""Other people's clients find, cite and judge: OpenAI's own client, Dify's protocol, feedback and the query log."""

from __future__ import annotations

import base64

import httpx
import numpy as np
import openai
import pytest

from ops.api.app import make_app
from ops.api.settings import ApiSettings
from tests.support.answering import Index, answering
from tests.support.chat import ChatServer, says
from tests.support.endpoint import Endpoint
from tests.support.faces import InProcess, served
from workers.contract import asked, schema

KEY = "s3cret"
DOC = "6d3f9c0e-5a5b-5d0e-9a41-6f1f6b8a7c11"


class House(Index):
    """Two documents with ids as real ones have them."""

    def __init__(self) -> None:
        super().__init__("The boiler code is 4711.", "The hedge is cut in June by Meyer Gardens.")
        for number, chunk in enumerate(self.chunks):
            chunk.payload["doc_id"] = DOC[:-1] + str(number)
            chunk.payload["metadata"] |= {"title": f"House [{number}]", "filetype": "text/plain", "language": "en"}


@pytest.fixture
def endpoint():
    with Endpoint(dimensions=8) as endpoint:
        yield endpoint


@pytest.fixture
def settings(tmp_path, endpoint):
    return ApiSettings(
        ledger_url=f"sqlite:///{tmp_path}/ledger.db",
        broker_url="redis://127.0.0.1:9/0",
        data_dir=tmp_path,
        qdrant_url="http://127.0.0.1:9",
        api_key=KEY,
        embeddings_url=endpoint.url,
        embeddings_model="text-embedding-3-small",
        embeddings_api_key="upstream",
    )


@pytest.fixture
def queries():
    return InProcess(answering(House()))


@pytest.fixture
def address(settings, engine, queries):
    with served(make_app(settings, engine, queries=queries)) as address:
        yield address


@pytest.fixture
def client(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def http(address):
    with visitor(address) as client:
        yield client


def visitor(address: str) -> httpx.Client:
    return httpx.Client(base_url=address, headers={"authorization": f"Bearer {KEY}"}, timeout=30)


QUESTION = [{"role": "system", "content": "You are a pirate."}, {"role": "user", "content": "What is the boiler code?"}]


# ------------------------------------------------------------------------------------------------- OpenAI's own client


def test_a_chat_completion_answers_with_annotations_and_sources(client, address):
    done = client.chat.completions.create(model="upwell", messages=QUESTION, temperature=0.2, max_tokens=100)

    [choice] = done.choices
    assert choice.finish_reason == "stop"
    link = f"{address}/v1/documents/{DOC[:-1]}0"
    assert choice.message.content == (f"The boiler code is 4711. [1]\n\nSources:\n1. [House \\[0\\]]({link}), page 3")
    [note] = choice.message.annotations
    cited = note.url_citation
    assert (note.type, cited.url, cited.title) == ("url_citation", link, "House [0]")
    assert choice.message.content[cited.start_index : cited.end_index] == "[1]"
    assert cited.quote == "The boiler code is 4711."
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens > 0


def test_a_streamed_completion_says_the_same_as_a_whole_one(client):
    whole = client.chat.completions.create(model="upwell", messages=QUESTION)
    stream = client.chat.completions.create(
        model="upwell", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)

    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    [last] = [c for c in chunks if c.choices and c.choices[0].finish_reason]
    [note] = last.choices[0].delta.annotations
    assert text[note["url_citation"]["start_index"] : note["url_citation"]["end_index"]] == "[1]"
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


def test_a_model_that_breaks_off_in_a_stream_is_followed_by_the_documents_own_words(client, queries):
    with ChatServer(says("The boiler code is 4711 [1]. ", "And ", "more ")) as chat:
        chat.cut_after = 2
        queries.answering = answering(House(), chat.url)
        stream = client.chat.completions.create(model="upwell", messages=QUESTION, stream=True)
        text = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)

    assert text.startswith("The boiler code is 4711 [1]. \n\n*The chat endpoint")
    assert "The boiler code is 4711. [1]\n\nSources:" in text


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_question_before_or_after_a_long_paste_is_heard(client, queries, place):
    paste = "lorem ipsum " * 1000
    parts = ["What is the boiler code?", paste] if place == "before" else [paste, "What is the boiler code?"]
    client.chat.completions.create(model="upwell", messages=[{"role": "user", "content": "\n\n".join(parts)}])

    asked = queries.asked[-1]
    assert "What is the boiler code?" in asked["query"]
    assert [turn["content"] for turn in asked["messages"]] == [asked["query"]]  # no earlier question of its own


def test_a_conversation_in_parts_is_understood(client, queries):
    client.chat.completions.create(
        model="upwell",
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "Who cuts the hedge?"}]},
            {"role": "assistant", "content": "Meyer Gardens [1]"},
            {"role": "user", "content": "When do they come?"},
        ],
        extra_body={"filters": {"filetype": "text/plain"}, "limit": 3},
    )

    assert queries.asked[-1]["query"] == "When do they come?"
    assert [m["role"] for m in queries.asked[-1]["messages"]] == ["user", "assistant", "user"]
    assert (queries.asked[-1]["filters"], queries.asked[-1]["limit"]) == ({"filetype": "text/plain"}, 3)


def test_an_answer_that_is_not_known_has_no_sources(client):
    done = client.chat.completions.create(model="upwell", messages=[{"role": "user", "content": "Who won in Uruguay?"}])

    assert "don't know" in done.choices[0].message.content
    assert "Sources" not in done.choices[0].message.content


def test_models_are_listed_and_an_unknown_one_is_refused(client):
    assert [m.id for m in client.models.list()] == ["upwell", "text-embedding-3-small"]
    assert client.models.retrieve("upwell").owned_by == "upwell"
    with pytest.raises(openai.NotFoundError, match="gpt-9"):
        client.chat.completions.create(model="gpt-9", messages=QUESTION)


def test_a_wrong_key_and_an_index_that_is_away_are_the_clients_own_errors(client, address, queries):
    from workers.errors import IndexUnavailable

    def gone(*_args, **_more):
        raise IndexUnavailable("No answer from Qdrant.")

    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0).models.list()
    queries.answering.index.find = gone
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError, match="No answer from Qdrant"):
            client.chat.completions.create(model="upwell", messages=QUESTION, stream=stream)
    with pytest.raises(openai.UnprocessableEntityError):
        client.chat.completions.create(model="upwell", messages=[{"role": "system", "content": "x"}])


def test_embeddings_come_from_the_endpoint_of_the_index_as_floats_or_base64(client, endpoint):
    texts = ["one", "two"]
    floats = client.embeddings.create(model="text-embedding-3-small", input=texts, encoding_format="float")
    packed = client.embeddings.create(model="text-embedding-3-small", input=texts, encoding_format="base64")

    assert [len(e.embedding) for e in floats.data] == [8, 8]
    decoded = np.frombuffer(base64.b64decode(packed.data[1].embedding), dtype="<f4")
    assert np.allclose(decoded, floats.data[1].embedding, atol=1e-6)
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="another", input="x")


def test_an_embedding_endpoint_that_is_away_is_503_and_the_key_stays_inside(settings, engine, queries):
    lost = settings.model_copy(update={"embeddings_url": "http://127.0.0.1:9/v1"})
    with served(make_app(lost, engine, queries=queries)) as address:
        answer = httpx.post(
            f"{address}/v1/embeddings", json={"input": "x"}, headers={"authorization": f"Bearer {KEY}"}, timeout=30
        )

    assert answer.status_code == 503
    assert "UPWELL_EMBEDDINGS_URL" in answer.text
    assert "upstream" not in answer.text


def test_a_vector_store_is_searched_with_openais_filters(client, queries):
    found = client.vector_stores.search(
        "upwell", query="boiler", max_num_results=5, filters={"type": "eq", "key": "filetype", "value": "text/plain"}
    )

    [first] = found.data
    assert (first.filename, first.content[0].text) == ("0.md", "The boiler code is 4711.")
    assert first.file_id == DOC[:-1] + "0"
    assert queries.asked[-1]["filters"] == {"filetype": "text/plain"}
    assert client.vector_stores.retrieve("upwell").status == "completed"
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.search("another", query="x")


# ---------------------------------------------------------------------------------------------------------------- Dify


def test_dify_retrieves_records_with_scores_between_0_and_1(http, queries):
    body = {
        "knowledge_id": "upwell",
        "query": "boiler code",
        "retrieval_setting": {"top_k": 3, "score_threshold": 0.5},
        "metadata_condition": {
            "logical_operator": "and",
            "conditions": [{"name": ["language"], "comparison_operator": "is", "value": "en"}],
        },
    }
    records = http.post("/retrieval", json=body).json()["records"]

    assert [record["content"] for record in records] == ["The boiler code is 4711."]
    assert 0.5 <= records[0]["score"] <= 1
    assert records[0]["metadata"]["path"] == "0.md"
    assert queries.asked[-1]["filters"] == {"language": "en"}


def test_dify_is_told_of_an_unknown_knowledge_and_of_a_filter_that_cannot_be_kept(http):
    asked = {"knowledge_id": "other", "query": "x", "retrieval_setting": {"top_k": 3, "score_threshold": 0}}
    assert http.post("/retrieval", json=asked).json()["error_code"] == 2001

    odd = {"conditions": [{"name": ["a"], "comparison_operator": "sounds like", "value": "b"}]}
    refused = http.post("/retrieval", json=asked | {"knowledge_id": "upwell", "metadata_condition": odd})
    assert (refused.status_code, refused.json()["error_code"]) == (422, 422)
    assert "'sounds like' cannot be kept" in refused.json()["error_msg"]


# ------------------------------------------------------------------------------------------------ feedback, query log


def test_a_judgement_of_a_hit_knows_its_query_from_the_log(http, engine):
    filters = {"filetype": "text/plain"}
    result = http.post("/v1/search", json={"query": "boiler code", "filters": filters}).json()
    vote = {"kind": "hit", "vote": "up", "query_id": result["id"], "doc_id": result["hits"][0]["doc_id"], "text": "yes"}
    answer = http.post("/v1/feedback", json=vote)

    assert answer.status_code == 201
    [kept] = asked.judgements(engine)
    assert (kept.kind, kept.vote, kept.query, kept.path, kept.text) == ("hit", "up", "boiler code", "0.md", "yes")
    assert kept.filters == filters
    [told] = http.get("/v1/feedback").json()["feedback"]
    assert (told["id"], told["filters"]) == (kept.id, filters)
    assert http.delete(f"/v1/feedback/{kept.id}").status_code == 200
    assert list(asked.judgements(engine)) == []


def test_a_judgement_without_a_query_or_a_hit_is_refused(http):
    for body in (
        {"kind": "hit", "vote": "up", "query": "x"},
        {"kind": "answer", "vote": "up"},
        {"kind": "answer", "vote": "up", "query_id": DOC},
        {"kind": "answer", "vote": "maybe", "query": "x"},
        {"kind": "answer", "vote": "up", "query": "x", "filters": {"date": {"sometime": "2015"}}},
    ):
        assert http.post("/v1/feedback", json=body).status_code == 422


def test_judgements_come_in_pages_and_none_is_lost_or_doubled(http):
    votes = [{"kind": "answer", "vote": "up", "query": f"q{number}"} for number in range(5)]
    made = [http.post("/v1/feedback", json=vote).json()["id"] for vote in votes]
    read, cursor = [], None
    while True:
        page = http.get("/v1/feedback", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        read += [each["id"] for each in page["feedback"]]
        if (cursor := page["next_cursor"]) is None:
            break

    assert sorted(read) == sorted(made)
    assert http.get("/v1/feedback?cursor=x").status_code == 422


def logged(engine) -> list[str]:
    with engine.connect() as connection:
        return [row.query for row in connection.execute(schema.queries.select())]


def test_what_is_asked_is_remembered_once_it_may_be(settings, engine, queries):
    with served(make_app(settings, engine, queries=queries)) as address, visitor(address) as http:
        http.post("/v1/search", json={"query": "boiler code"})
        http.post("/v1/answer", json={"query": "who cuts the hedge"})
        http.post("/v1/search", json={"query": "a private matter"}, headers={"x-upwell-log": "off"})
    # the log is written before the api ends

    assert sorted(logged(engine)) == ["boiler code", "who cuts the hedge"]


def test_with_the_log_switched_off_nothing_is_remembered_and_results_still_have_ids(settings, engine, queries):
    off = settings.model_copy(update={"query_log": False})
    with served(make_app(off, engine, queries=queries)) as address, visitor(address) as http:
        assert http.post("/v1/search", json={"query": "boiler code"}).json()["id"]

    assert logged(engine) == []


def test_old_queries_are_forgotten_and_judgements_stay(engine):
    asked.remember(engine, [asked.Asked(id="old", face="search", query="q")])
    asked.judge(engine, asked.Judgement(kind="answer", vote="down", query="q"))

    assert asked.forget(engine, older_than_days=1) == 0
    assert asked.forget(engine, older_than_days=0) == 1
    assert logged(engine) == []
    assert len(list(asked.judgements(engine))) == 1


def test_every_new_route_needs_the_key(address):
    with httpx.Client(base_url=address) as nobody:
        for method, path in (
            ("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("POST", "/v1/embeddings"), ("POST", "/retrieval"),
            ("POST", "/v1/vector_stores/upwell/search"), ("POST", "/v1/feedback"), ("GET", "/v1/feedback"),
            ("DELETE", "/v1/queries"),
        ):  # fmt: skip
            assert nobody.request(method, path, json={}).status_code == 401, path
