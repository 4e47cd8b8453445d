"""An assistant finds and reads documents through MCP's own client: in process, over standard input, over HTTP."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from typing import Any
from uuid import uuid4

import anyio
import httpx
import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from ops.api.app import make_app
from ops.api.settings import ApiSettings
from ops.cli.client import Api
from ops.cli.mcp import http_app, make_server
from tests.support.answering import answering
from tests.support.endpoint import Endpoint
from tests.support.faces import InProcess, served
from tests.support.product import Product
from tests.support.stack import ROOT, environment
from workers.adapters.qdrant_search import QdrantSearch
from workers.contract.settings import IndexSettings

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


def test_both_tools_say_that_they_only_read():
    async def talk() -> Any:
        async with Client(make_server(Answers())) as client:
            return (await client.list_tools()).tools

    assert {tool.name: tool.annotations.read_only_hint for tool in anyio.run(talk)} == {"search": True, "fetch": True}


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


KEY = "s3cret"


def over_http(address: str, tool: str, key: str | None = None, **arguments: str) -> Any:
    """Call a tool through the SDK's own client for streamable HTTP."""

    async def talk() -> Any:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=30) as http,
            Client(streamable_http_client(f"{address}/mcp", http_client=http)) as client,
        ):
            return await client.call_tool(tool, arguments)

    return anyio.run(talk)


@pytest.fixture(scope="module")
def house(tmp_path_factory, qdrant_url):
    """An api with a key over real documents."""
    home, collection = tmp_path_factory.mktemp("house"), f"test-{uuid4().hex}"
    with Endpoint() as endpoint:
        product = Product(home, qdrant_url, collection, endpoint)
        text = "# House\n\nThe boiler code is 4711.\n\n# Garden\n\nThe hedge is cut in June.\n"
        product.write("house.md", f"---\nurl: https://house.example/\n---\n{text}")
        product.scan()
        product.settle()
        settings = ApiSettings(
            ledger_url=f"sqlite:///{home}/ledger.db", broker_url="redis://127.0.0.1:9/0", data_dir=home,
            qdrant_url=qdrant_url, collection=collection, api_key=KEY,
        )  # fmt: skip
        index = QdrantSearch(IndexSettings(qdrant_url=qdrant_url, collection=collection), timeout=10)
        with served(make_app(settings, product.engine, queries=InProcess(answering(index)))) as address:
            yield address
        product.close()


@pytest.fixture
def mcp_process(house, free_port):
    """`upwell mcp --http` as a process of its own; gives its address."""
    port = free_port()
    env = environment(UPWELL_API_URL=house, UPWELL_API_KEY=KEY)
    command = [sys.executable, "-m", "ops.cli", "mcp", "--http", "--port", str(port)]
    process = subprocess.Popen(command, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert f"http://127.0.0.1:{port}/mcp (bearer key: UPWELL_API_KEY)" in process.stderr.readline()
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGINT)
    assert process.wait(15) in (0, 130)
    process.stderr.close()


def test_over_http_an_assistant_with_the_key_searches_and_reads(mcp_process):
    [found] = told(over_http(mcp_process, "search", KEY, query="boiler code"))["results"]
    document = told(over_http(mcp_process, "fetch", KEY, id=found["id"]))

    assert found["text"] == "The boiler code is 4711."
    assert found["path"] == "house.md"
    assert document["id"] == found["id"]
    assert document["url"] == found["url"] == "https://house.example/"
    assert "The boiler code is 4711." in document["text"]
    assert "The hedge is cut in June." in document["text"]
    assert document["metadata"]["state"] == "ready"
    assert over_http(mcp_process, "fetch", KEY, id="../status").is_error

    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}):
        refused = httpx.post(f"{mcp_process}/mcp", json={}, headers=headers)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert KEY not in refused.text
    endless = httpx.post(f"{mcp_process}/mcp", content=b"x" * (2 << 20), headers={"Authorization": f"Bearer {KEY}"})
    assert endless.status_code == 413


def test_without_a_key_it_answers_only_to_the_names_of_this_machine():
    with served(http_app(make_server(Answers()), None)) as address:
        assert told(over_http(address, "search", query="boiler code"))["results"][0]["id"] == DOC
        for headers, status in (
            ({"Host": "evil.example"}, 421),
            ({"Origin": "https://evil.example"}, 403),
            ({"Host": "127.0.0.1.evil.example"}, 421),
        ):
            assert httpx.post(f"{address}/mcp", json={}, headers=headers).status_code == status


def test_with_a_key_a_proxy_may_stand_before_it():
    ask = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    headers = {"Host": "mcp.example.com", "Authorization": f"Bearer {KEY}"}
    with served(http_app(make_server(Answers()), KEY)) as address:
        assert httpx.post(f"{address}/mcp", json=ask, headers=headers).status_code not in (401, 403, 421)


def test_it_does_not_open_to_the_network_without_a_key(free_port):
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ops.cli", "mcp", "--http", *words]
        return subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=60)

    open_to_all = run("--host", "0.0.0.0", "--port", str(free_port()))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port_taken = run("--port", str(taken.getsockname()[1]))

    assert (open_to_all.returncode, "UPWELL_API_KEY" in open_to_all.stderr) == (78, True)
    assert (port_taken.returncode, "--port" in port_taken.stderr) == (3, True)
    assert "Traceback" not in open_to_all.stderr + port_taken.stderr
