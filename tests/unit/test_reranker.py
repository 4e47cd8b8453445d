"""The reranker over real HTTP, in both shapes; whatever it does, a search goes on without it."""

from __future__ import annotations

import pytest
from pytest_httpserver import HTTPServer

from workers.adapters.reranker import RerankerClient
from workers.errors import RerankerMisconfigured, RerankerUnavailable
from workers.query.settings import RerankerSettings


def client(server: HTTPServer, **settings) -> RerankerClient:
    return RerankerClient(RerankerSettings(rerank_url=server.url_for("/rerank"), rerank_timeout=0.5, **settings))


def test_the_cohere_shape_is_asked_with_model_and_key_and_its_scores_come_back_in_order(httpserver):
    body = {"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 2}
    answer = {"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]}
    httpserver.expect_request(
        "/rerank", method="POST", json=body, headers={"Authorization": "Bearer k"}
    ).respond_with_json(answer)

    assert client(httpserver, rerank_model="m", rerank_api_key="k").scores("q", ["a", "b"]) == [0.1, 0.9]


def test_the_shape_of_text_embeddings_inference_is_asked_without_a_model(httpserver):
    httpserver.expect_request("/rerank", json={"query": "q", "texts": ["a"], "truncate": True}).respond_with_json(
        [{"index": 0, "score": 0.5}]
    )

    assert client(httpserver, rerank_style="tei").scores("q", ["a"]) == [0.5]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        [{"index": 0}],
        [{"index": 5, "score": 1.0}],
        {"results": [{"index": 0, "relevance_score": "high"}]},
        "text",
    ],
    ids=str,
)
def test_an_answer_of_another_shape_is_a_matter_of_configuration(httpserver, answer):
    httpserver.expect_request("/rerank").respond_with_json(answer)

    with pytest.raises(RerankerMisconfigured, match="UPWELL_RERANK_STYLE"):
        client(httpserver).scores("q", ["a"])


@pytest.mark.parametrize(
    ("status", "error"), [(500, RerankerUnavailable), (429, RerankerUnavailable), (401, RerankerMisconfigured)]
)
def test_a_refusal_is_told_and_the_endpoint_is_left_alone_for_a_while(httpserver, status, error):
    httpserver.expect_request("/rerank").respond_with_data("", status=status)
    reranker = client(httpserver)

    with pytest.raises(error, match="UPWELL_RERANK_URL"):
        reranker.scores("q", ["a"])
    with pytest.raises(RerankerUnavailable, match="left alone"):
        reranker.scores("q", ["a"])
    assert len(httpserver.log) == 1


def test_nobody_there_is_told():
    reranker = RerankerClient(RerankerSettings(rerank_url="http://127.0.0.1:1/rerank"))

    with pytest.raises(RerankerUnavailable, match="no answer"):
        reranker.scores("q", ["a"])
