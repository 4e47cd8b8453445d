"""Embedding and chat endpoints that misbehave, and what our side makes of each."""

from __future__ import annotations

import asyncio
import base64
import json
import sys

import numpy as np
import pytest
from pydantic import SecretStr
from werkzeug import Response

from ops.api.embeddings import EmbeddingProxy
from ops.api.errors import ApiError
from workers.adapters.chat import ChatClient
from workers.adapters.embeddings import EmbeddingClient, InputRefused, _most_words
from workers.adapters.reranker import RerankerClient
from workers.contract.settings import EmbeddingSettings
from workers.errors import (
    ChatMisconfigured,
    ChatUnavailable,
    EmbedderMisconfigured,
    EmbedderUnavailable,
    RerankerMisconfigured,
)
from workers.query.settings import ChatSettings, RerankerSettings

SECRET = "sk-very-secret"
TEXT = "the walrus is paul"


@pytest.fixture
def embedder(httpserver):
    settings = EmbeddingSettings(
        embeddings_url=httpserver.url_for("/v1"), embeddings_model="m", embeddings_api_key=SECRET, embeddings_timeout=2
    )
    client = EmbeddingClient(settings)
    yield client
    client.close()


def vectors(*rows, order=None):
    data = [
        {"object": "embedding", "index": i, "embedding": base64.b64encode(np.array(r, "<f4").tobytes()).decode()}
        for i, r in enumerate(rows)
    ]
    if order:
        data = [data[i] for i in order]
    return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 5, "total_tokens": 5}}


def serve(httpserver, body, status=200, headers=None):
    text = body if isinstance(body, str) else json.dumps(body)
    httpserver.expect_request("/v1/embeddings").respond_with_response(
        Response(text, status, {"Content-Type": "application/json"} | (headers or {}))
    )


def refusal(code=None, message="no"):
    return {"error": {"message": message, "type": "invalid_request_error", "code": code}}


def test_vectors_come_back_in_the_order_of_the_texts_with_their_cost(httpserver, embedder):
    serve(httpserver, vectors([1, 0], [0, 2], order=(1, 0)))

    batch = embedder.embed(["a", "b"], kind="passage")

    assert batch.vectors.tolist() == [[1, 0], [0, 2]]
    assert batch.tokens == 5


@pytest.mark.parametrize(
    "body",
    [
        vectors([1, 0]),
        vectors([1, 0], [0, 1], [1, 1]),
        vectors([1, 0], [np.nan, 1]),
        vectors([1, 0], [0, 0]),
        vectors([1, 0], [np.inf, 1]),
        {"object": "list", "data": []},
        "<html>welcome to our proxy</html>",
        "{cut",
        "[]",
    ],
)
def test_an_answer_that_cannot_be_trusted_stores_nothing(httpserver, embedder, body):
    serve(httpserver, body)

    with pytest.raises((EmbedderUnavailable, EmbedderMisconfigured)) as caught:
        embedder.embed([TEXT, "b"], kind="passage")
    assert TEXT not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "headers", "error", "wait"),
    [
        (429, refusal("rate_limit_exceeded"), {"retry-after": "7"}, EmbedderUnavailable, 7.0),
        (429, refusal("rate_limit_exceeded"), {"retry-after-ms": "1500"}, EmbedderUnavailable, 1.5),
        (429, refusal("rate_limit_exceeded"), {"retry-after": "99999"}, EmbedderUnavailable, 300.0),
        (429, refusal("insufficient_quota"), {}, EmbedderUnavailable, 300.0),
        (500, refusal(), {}, EmbedderUnavailable, None),
        (503, "<html>", {}, EmbedderUnavailable, None),
        (401, refusal(message=f"bad key {SECRET}"), {}, EmbedderMisconfigured, None),
        (404, refusal("model_not_found"), {}, EmbedderMisconfigured, None),
        (400, refusal(message=f"cannot embed {TEXT}"), {}, InputRefused, None),
        (413, refusal(), {}, InputRefused, None),
        (422, refusal(), {}, InputRefused, None),
    ],
)
def test_every_refusal_has_its_fate_and_repeats_neither_text_nor_key(
    httpserver, embedder, status, body, headers, error, wait
):
    serve(httpserver, body, status, headers)

    with pytest.raises(error) as caught:
        embedder.embed([TEXT], kind="passage")

    assert getattr(caught.value, "retry_after", None) == wait
    assert TEXT not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_an_endpoint_that_is_not_there_names_its_address_and_setting():
    client = EmbeddingClient(EmbeddingSettings(embeddings_url="http://127.0.0.1:9/v1", embeddings_timeout=1))

    with pytest.raises(EmbedderUnavailable, match=r"http://127\.0\.0\.1:9/v1.*UPWELL_EMBEDDINGS_URL"):
        client.embed(["x"], kind="query")


def test_a_chat_stream_arrives_piece_by_piece_and_a_broken_one_is_an_outage(httpserver):
    def event(text, finish=None):
        choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        return f"data: {json.dumps(chunk)}\n\n"

    whole = event("One ") + event("two.") + event(None, "stop") + "data: [DONE]\n\n"
    broken = event("One ")
    for body in (whole, broken):
        httpserver.expect_ordered_request("/v1/chat/completions").respond_with_data(
            body, content_type="text/event-stream"
        )
    client = ChatClient(ChatSettings(chat_url=httpserver.url_for("/v1"), chat_model="m", chat_timeout=5))

    assert "".join(client.stream([("user", "hi")])) == "One two."
    with pytest.raises(ChatUnavailable):
        list(client.stream([("user", "hi")]))
    client.close()


def test_a_chat_endpoint_that_refuses_the_key_is_misconfigured(httpserver):
    httpserver.expect_request("/v1/chat/completions").respond_with_json(refusal(), status=401)
    client = ChatClient(ChatSettings(chat_url=httpserver.url_for("/v1"), chat_model="m", chat_api_key=SECRET))

    with pytest.raises(ChatMisconfigured) as caught:
        list(client.stream([("user", "hi")]))
    assert SECRET not in str(caught.value)
    client.close()


@pytest.mark.parametrize("status", [301, 307, 308])
@pytest.mark.parametrize("client", ["embeddings", "chat", "reranker", "api"])
def test_a_redirect_takes_neither_text_nor_key_anywhere(httpserver, client, status):
    """S65: nobody but the host that was set hears a text; the error says what to do."""
    there = httpserver.url_for("/elsewhere").replace("localhost", "127.0.0.1")  # another host to every client
    httpserver.expect_request("/elsewhere").respond_with_json({})
    for path in ("/v1/embeddings", "/v1/chat/completions", "/rerank"):
        httpserver.expect_request(path).respond_with_response(Response("", status, {"Location": there}))
    url, secret = httpserver.url_for("/v1"), SecretStr(SECRET)

    def ask():
        match client:
            case "embeddings":
                settings = EmbeddingSettings(embeddings_url=url, embeddings_api_key=secret)
                EmbeddingClient(settings).embed([TEXT], kind="passage")
            case "chat":
                list(ChatClient(ChatSettings(chat_url=url, chat_api_key=secret)).stream([("user", TEXT)]))
            case "reranker":
                settings = RerankerSettings(rerank_url=httpserver.url_for("/rerank"), rerank_api_key=secret)
                RerankerClient(settings).scores(TEXT, [TEXT])
            case "api":
                settings = EmbeddingSettings(embeddings_url=url, embeddings_api_key=secret)
                asyncio.run(EmbeddingProxy(settings).embed({"input": TEXT}))

    with pytest.raises((EmbedderMisconfigured, ChatMisconfigured, RerankerMisconfigured, ApiError)) as refused:
        ask()
    assert [request.path for request, _ in httpserver.log] != []
    assert all(request.path != "/elsewhere" for request, _ in httpserver.log)
    assert SECRET not in str(refused.value)
    assert "UPWELL_" in str(refused.value)


def test_words_are_never_reckoned_to_be_fewer_than_there_are():
    white = [char for char in map(chr, range(sys.maxunicode + 1)) if char.isspace()]

    assert [char for char in white if _most_words([f"é{char}b", "漢 \ud800"]) < 4] == []
