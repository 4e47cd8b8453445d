"""An assistant finds and reads documents through MCP's own client, in process and over standard input and output."""

from __future__ import annotations

import json
import sys
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

from ops.cli.client import Api
from ops.cli.mcp import make_server
from tests.support.stack import ROOT, environment

DOC = "6d3f9c0e-5a5b-5d0e-9a41-6f1f6b8a7c11"
HIT = {"id": "p", "doc_id": DOC, "content": "The boiler code is 4711.", "metadata": {"path": "house.md", "page": 3}}


class Answers(Api):
    """An api that answers from memory."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:8080")

    def post(self, route: str, body: Any = None, /, **_query: Any) -> Any:
        assert (route, body["query"]) == ("/v1/search", "boiler code")
        return {"hits": [HIT]}

    def get(self, route: str, /, **_query: Any) -> Any:
        if route.endswith("/chunks"):
            return {"chunks": [{"content": "The boiler code is 4711."}, {"content": "Keep it secret."}]}
        assert route == f"/v1/documents/{DOC}"
        return {"id": DOC, "path": "house.md", "source": "docs", "version": "v", "state": "ready"}


def call(target: Any, tool: str, **arguments: str) -> Any:
    async def talk() -> Any:
        async with Client(target) as client:
            return await client.call_tool(tool, arguments)

    return anyio.run(talk)


def told(result: Any) -> dict[str, Any]:
    return json.loads(result.content[0].text)


def test_search_returns_passages_with_ids_titles_and_addresses():
    [found] = told(call(make_server(Answers()), "search", query="boiler code"))["results"]

    assert (found["id"], found["title"], found["page"]) == (DOC, "house.md", 3)
    assert found["text"] == "The boiler code is 4711."
    assert found["url"] == f"http://127.0.0.1:8080/v1/documents/{DOC}"


def test_fetch_returns_the_whole_document():
    document = told(call(make_server(Answers()), "fetch", id=DOC))

    assert document["text"] == "The boiler code is 4711.\n\nKeep it secret."
    assert document["metadata"]["path"] == "house.md"


@pytest.mark.parametrize("key", ["../status", "", "a/b", "x" * 65])
def test_what_is_no_id_reaches_no_route(key):
    result = call(make_server(Answers()), "fetch", id=key)

    assert result.is_error
    assert "no id" in result.content[0].text


def test_over_standard_input_an_api_that_is_away_is_an_error_in_words():
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "ops.cli", "mcp"],
        env=environment(UPWELL_API_URL="http://127.0.0.1:9"),
        cwd=ROOT,
    )
    result = call(server, "search", query="boiler code")

    assert result.is_error
    assert "upwell up" in result.content[0].text
