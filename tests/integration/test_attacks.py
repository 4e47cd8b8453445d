"""Attacks on the HTTP face: what a stranger, a clumsy client or a hostile document owner sends (S1-S19, S48-S61)."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from ops.api.app import make_app
from ops.api.bodies import AROUND_FILES, MOST_JSON, BoundedBody
from ops.api.patience import MOST_HEAD, Patient
from ops.api.rates import Rated
from ops.api.settings import ApiSettings
from tests.support.answering import Index, answering
from tests.support.endpoint import Endpoint
from tests.support.faces import InProcess, served
from workers.contract import schema

KEY = "Schlüssel-4711"
DOC = "6d3f9c0e-5a5b-5d0e-9a41-6f1f6b8a7c11"
MOST_UPLOAD = 100_000
OPEN = {"/livez", "/readyz"}
BLOCK = 64 << 10


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    home = tmp_path_factory.mktemp("api")
    with Endpoint(dimensions=8) as endpoint:
        yield ApiSettings(
            ledger_url=f"sqlite:///{home}/ledger.db",
            broker_url="redis://127.0.0.1:9/0",
            data_dir=home,
            qdrant_url="http://127.0.0.1:9",
            api_key=KEY,
            upload_max_bytes=MOST_UPLOAD,
            embeddings_url=endpoint.url,
        )


@pytest.fixture(scope="module")
def app(settings):
    engine = schema.open_ledger(settings.ledger_url.get_secret_value())
    yield make_app(settings, engine, queries=InProcess(answering(Index("The boiler code is 4711."))))
    engine.dispose()


@pytest.fixture(scope="module")
def client(app):
    bearer = {"Authorization": b"Bearer " + KEY.encode()}
    with TestClient(app, base_url="http://docs.example", headers=bearer, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def address():
    async def application(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})

    with served(application) as address:
        yield address


# ----------------------------------------------------------------------------------------------------------------- keys


def test_every_route_is_locked_and_a_stranger_learns_nothing_from_the_answers(client, app):
    described = app.openapi()["paths"]
    routes = [(verb, path) for path, verbs in described.items() for verb in verbs if path not in OPEN]
    routes += [("get", "/v1/nowhere"), ("get", "/v1"), ("get", "/console.js/../v1/documents")]
    assert len(routes) > 30
    answers = set()
    for verb, path in routes:
        place = re.sub(r"\{\w+(:path)?\}", DOC, path)
        for given in ("", "Bearer", "Bearer wrong", f"Basic {KEY}", f"bearer{KEY}", f"Bearer {KEY}x"):
            told = client.request(verb, f"{place}?api_key={KEY}", headers={"Authorization": given.encode()})
            answers.add((told.status_code, told.json().get("error_code"), path == "/retrieval" or told.text))

    dify = {(401, 1001, True), (401, 1002, True)}  # as its protocol has it: is the header one, is the key right
    assert dify < answers
    assert [status for status, _, _ in answers - dify] == [401]
    for path in OPEN:
        assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code in (200, 503)


def test_a_key_is_compared_as_bytes_whatever_letters_it_has(client):
    assert client.get("/v1/documents").status_code == 200
    assert client.get("/v1/documents", headers={"Authorization": b"bearer " + KEY.encode()}).status_code == 200


# --------------------------------------------------------------------------------------------------------------- bodies


class Sender:
    """A client that sends blocks without end, and what it hears."""

    def __init__(self, path: str, *, key: bool = True, length: int | None = None, first: bytes = b"") -> None:
        kind = b"multipart/form-data; boundary=b" if path == "/v1/documents" else b"application/json"
        headers = [(b"host", b"docs.example"), (b"content-type", kind)]
        headers += [(b"authorization", b"Bearer " + KEY.encode())] if key else []
        headers += [(b"content-length", str(length).encode())] if length is not None else []
        self.scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers,
        }  # fmt: skip
        self.first, self.read, self.status, self.text = first, 0, 0, b""
        self.pause = 0.0

    async def receive(self):
        assert self.read < 10 * MOST_JSON, "it would read for ever"
        await asyncio.sleep(self.pause)
        block, self.first = self.first or b"x" * BLOCK, b""
        self.read += len(block)
        return {"type": "http.request", "body": block, "more_body": True}

    async def send(self, message):
        self.status = message.get("status", self.status)
        self.text += message.get("body", b"")

    def meets(self, app) -> dict[str, str]:
        asyncio.run(app(self.scope, self.receive, self.send))
        return json.loads(self.text)["error"]


PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'


@pytest.mark.parametrize("length", [None, 10, 1 << 40], ids=["chunked", "understated", "declared"])
@pytest.mark.parametrize(
    ("path", "first", "most"),
    [
        ("/v1/documents", PART, MOST_UPLOAD + AROUND_FILES),
        ("/v1/search", b'{"query": "', MOST_JSON),
        (f"/v1/documents/{DOC}/explain", b'{"query": "', MOST_JSON),
    ],
)
def test_a_body_without_end_is_cut_off_at_its_limit(client, app, path, first, most, length):
    sender = Sender(path, first=first, length=length)
    error = sender.meets(app)

    assert (sender.status, error["code"]) == (413, "too_large")
    assert sender.read <= (0 if length == 1 << 40 else most + BLOCK + len(PART))


@pytest.mark.parametrize("path", ["/v1/documents", "/v1/search"])
def test_nothing_of_a_strangers_body_is_read(client, app, path):
    sender = Sender(path, key=False)
    sender.meets(app)

    assert (sender.status, sender.read) == (401, 0)


@pytest.mark.parametrize("drip", [b"x", b""], ids=["too slow", "silent"])
def test_a_body_that_does_not_come_ends_the_wait(drip):
    async def application(scope, receive, send):
        while (await receive())["type"] == "http.request":
            pass

    sender = Sender("/v1/search")
    sender.pause = 0.02 if drip else 60
    bounded = BoundedBody(application, MOST_UPLOAD, pause_s=0.1)

    async def receive():
        return await sender.receive() | {"body": drip}

    asyncio.run(bounded(sender.scope, receive, sender.send))

    assert sender.status == 408
    assert json.loads(sender.text)["error"]["code"] == "too_slow"


MULTIPART = {
    "many parts": (PART + b"x\r\n") * 1100 + b"--b--\r\n",
    "many fields": b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\nx\r\n' * 1100 + b"--b--\r\n",
    "a header without end": b"--b\r\nContent-Disposition: " + b"x" * MOST_UPLOAD,
    "many headers": b"--b\r\n" + b"X-A: b\r\n" * 10_000,
    "a field of its own size": b'--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n' + b"x" * (1 << 20),
    "no end": PART + b"x",
    "no parts": b"--b--\r\n",
    "no boundary": b"x" * 1000,
}


@pytest.mark.parametrize("body", MULTIPART.values(), ids=MULTIPART.keys())
def test_a_form_that_is_none_is_refused_in_words_and_leaves_no_file(client, settings, body):
    before = sorted((settings.data_dir / "uploads").iterdir())
    told = client.post("/v1/documents", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})

    assert 400 <= told.status_code < 500, told.text
    assert set(told.json()["error"]) == {"code", "message", "next"}
    assert sorted((settings.data_dir / "uploads").iterdir()) == before


# ---------------------------------------------------------------------------------------------------------- connections


@contextmanager
def connections(address: str, count: int) -> Iterator[list[socket.socket]]:
    host, port = address.removeprefix("http://").split(":")
    opened = [socket.create_connection((host, int(port)), timeout=30) for _ in range(count)]
    try:
        yield opened
    finally:
        for each in opened:
            each.close()


def test_connections_that_say_nothing_or_too_much_are_ended_and_others_served(address, monkeypatch):
    monkeypatch.setattr(Patient, "head_s", 0.5)
    with connections(address, 60) as slow:
        for number, each in enumerate(slow):
            each.sendall(b"GET /livez HTTP/1.1\r\nX: "[: number % 25])  # from nothing at all to half a header
        with connections(address, 1) as [other]:
            other.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            assert other.recv(100).startswith(b"HTTP/1.1 200")
            other.sendall(b"GET /livez HT")  # a second request is waited for no longer than a first
            assert b" 408 " in b"".join(iter(lambda: other.recv(1000), b""))
        heard = [each.recv(100) for each in slow]
        assert {answer[:12] for number, answer in enumerate(heard) if number % 25} == {b"HTTP/1.1 408"}
        assert {answer for number, answer in enumerate(heard) if number % 25 == 0} == {b""}

    monkeypatch.setattr(Patient, "head_s", 30.0)
    with connections(address, 1) as [endless], pytest.raises(OSError, match=r"reset|pipe"):
        endless.sendall(b"GET / HTTP/1.1\r\nX: " + b"y" * (1000 * MOST_HEAD))


# ------------------------------------------------------------------------------------------------ what is in a request

COMPOUND = '{"type": "and", "filters": ['
TURN = '{"role": "user", "content": ""}'
HOSTILE = [
    ("/v1/search", '{"query": "x", "diversity": NaN}'),
    ("/v1/search", '{"query": "x", "limit": 1e400}'),
    ("/v1/search", '{"query": "x", "limit": 1000000}'),
    ("/v1/search", '{"query": "x", "recency": {"half_life_days": Infinity}}'),
    ("/v1/search", '{"query": "x", "filters": {"a": {"gte": NaN}}}'),
    ("/v1/search", '{"query": "x", "filters": {"a": 1e999}}'),
    ("/v1/search", '{"query": "x", "filters": {"a": ' + "9" * 400 + "}}"),
    ("/v1/search", '{"query": "x", "filters": {"a": ' + "9" * 5000 + "}}"),
    ("/v1/search", '{"query": "x", "filters": ' + '{"not": ' * 900 + "{}" + "}" * 900 + "}"),
    ("/v1/search", '{"query": "x", "filters": {"a": [' + "1," * 2000 + "1]}}"),
    ("/v1/search", '{"query": "x", "filters": {"must": [{"key": "tenant", "match": {"value": "other"}}]}}'),
    ("/v1/search", '{"query": "\\ud800"}'),
    ("/v1/search", '{"query": "' + "x " * 4000 + '"}'),
    ("/v1/search", "[" * 500_000),
    ("/v1/search", '{"query": "x", "with_vector": true}'),
    ("/v1/search/batch", '{"searches": [' + '{"query": "x"},' * 100 + '{"query": "x"}]}'),
    ("/v1/answer", '{"query": "x", "messages": [' + (TURN + ",") * 200 + TURN + "]}"),
    ("/v1/answer", '{"query": "x", "messages": [{"role": "tool", "content": "x"}]}'),
    ("/v1/embeddings", '{"input": NaN}'),
    ("/v1/feedback", '{"kind": "answer", "vote": "up", "query": "x", "filters": {"a": NaN}}'),
    ("/v1/chat/completions", '{"messages": [{"role": "user", "content": "\\ud800"}]}'),
    ("/v1/vector_stores/upwell/search", '{"query": "x", "filters": ' + COMPOUND * 500 + "1" + "]}" * 500 + "}"),
    ("/v1/vector_stores/upwell/search", '{"query": ["x", "' + "y" * 900_000 + '"]}'),
    ("/v1/documents/retry?state=%00", ""),
    ("/v1/held/approve", '{"ids": ["../../etc/passwd"]}'),
]


@pytest.mark.parametrize(("path", "body"), HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_beyond_all_measure_is_refused_with_what_is_wrong(client, path, body):
    told = client.post(path, content=body, headers={"Content-Type": "application/json"})

    assert told.status_code in (400, 422), told.text
    assert set(told.json()["error"]) - {"type", "param"} == {"code", "message", "next"}
    assert len(told.text) < 1000, "an error does not repeat what was sent"


@pytest.mark.parametrize("query", ["path=%00", "source=a%00b", "cursor=%ff", "cursor=W1siYSJd", "limit=1e9"])
def test_no_parameter_reaches_the_ledger_that_it_cannot_take(client, query):
    assert client.get(f"/v1/documents?{query}").status_code == 422


def test_nul_in_a_query_ends_neither_its_search_nor_the_log(client):
    judged = {"kind": "answer", "vote": "up", "query": "a\0b", "text": "\0"}

    assert client.post("/v1/search", json={"query": "boiler\0 code"}).status_code == 200
    assert client.post("/v1/feedback", json=judged).is_success
    assert client.get("/v1/feedback").json()["feedback"][-1]["query"] == "ab"


NAMES = [
    "../../x.txt", "/etc/passwd", "C:\\Windows\\x.txt", "a\0b.txt", "x" * 5000 + ".txt", "CON", "a\u202etxt.exe",
    "<svg onload=alert(1)>.txt", 'a"\r\nSet-Cookie: x=1.txt', "..", ".", " ", "\U0001f600.txt", "a/b\\c.txt", "-rf.txt",
]  # fmt: skip
OURS = re.compile(r"[0-9a-f]{32}(\.[^./]{1,15})?|\.[0-9a-f-]{36}\.about|\.upwell.*")


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_file_name_is_metadata_and_nothing_else(client, settings, name):
    quoted = name.replace("\\", "\\\\").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    part = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n\r\n{name}\r\n--b--\r\n'
    told = client.post(
        "/v1/documents", content=part.encode(), headers={"Content-Type": "multipart/form-data; boundary=b"}
    )

    assert [file.name for file in (settings.data_dir / "uploads").iterdir() if not OURS.fullmatch(file.name)] == []
    assert {file.name.split(".db")[0] for file in settings.data_dir.iterdir()} == {"uploads", "ledger"}
    if not told.is_success:
        assert (told.status_code, told.json()["error"]["code"]) in ((422, "bad_name"), (400, "error"))
        return
    shown = client.get(f"/v1/documents/{told.json()['id']}")
    last = shown.json()["path"].partition("/")[2]
    assert 0 < len(last) <= 200
    assert not set(last) & set("/\\\0\r\n\u202e")
    assert shown.headers["content-type"] == "application/json"
    assert shown.headers["x-content-type-options"] == "nosniff"


def test_no_route_hands_out_stored_bytes_or_vectors(client, app):
    """Whatever an upload claims to be, no browser ever opens it from here."""
    kinds = {
        kind
        for verbs in app.openapi()["paths"].values()
        for verb in verbs.values()
        for answer in verb["responses"].values()
        for kind in answer.get("content", {})
    }
    lie = {"file": ("invoice.pdf", b"<html><script>alert(1)</script>", "text/html")}
    key = client.post("/v1/documents", files=lie).json()["id"]

    assert kinds == {"application/json"}
    assert "<script>" not in client.get(f"/v1/documents/{key}").text
    assert '"vector"' not in client.post("/v1/search", json={"query": "boiler", "explain": True}).text


def test_a_mistake_of_ours_is_told_without_its_inside(settings, tmp_path, monkeypatch):
    engine = schema.open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    queries = InProcess(answering(Index("x")))
    app = make_app(settings, engine, queries=queries)

    async def mistake(request):
        raise RuntimeError(f"/etc/upwell/secret: {KEY} {request}")

    monkeypatch.setattr(queries, "search", mistake)
    bearer = {"Authorization": b"Bearer " + KEY.encode()}
    with TestClient(app, headers=bearer, raise_server_exceptions=False) as client, capture_logs() as logs:
        told = client.post("/v1/search", json={"query": "boiler"})
    engine.dispose()

    assert told.status_code == 500
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["api.bug"]
    assert re.fullmatch(r"Upwell made a mistake \(request [0-9a-f]{12}\)\.", told.json()["error"]["message"])
    assert all(word not in told.text for word in ("secret", "boiler", "Traceback", KEY))


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:6333"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1.evil.example"},
    ],
    ids=lambda headers: next(iter(headers.values())),
)
def test_no_web_page_of_another_machine_gets_into_the_embedded_qdrant(qdrant_url, headers):
    """It has no key, and holds every document's text."""
    assert httpx.post(f"{qdrant_url}/collections/x/points/scroll", headers=headers, json={}).status_code == 403
    assert httpx.delete(f"{qdrant_url}/collections/x", headers=headers).status_code == 403
    assert httpx.get(f"{qdrant_url}/collections", headers={"Origin": qdrant_url}).status_code == 200


def test_the_embedded_qdrant_fetches_and_takes_no_snapshot(qdrant_url):
    url = f"{qdrant_url}/collections/x/snapshots"
    assert httpx.put(f"{url}/recover", json={"location": "http://169.254.169.254/"}).status_code in (404, 501)
    assert httpx.post(f"{url}/upload", files={"snapshot": b"x"}).status_code in (404, 501)


def test_one_client_too_fast_is_told_when_to_come_again_and_others_are_not(settings, app):
    now = [0.0]
    rated = Rated(app, 6, clock=lambda: now[0])

    def ask(address: str) -> Sender:
        sender = Sender("/v1/search", first=b"x", length=1)
        sender.scope["client"] = (address, 1)
        asyncio.run(rated(sender.scope, sender.receive, sender.send))
        return sender

    assert {ask("10.0.0.1").status for _ in range(6)} == {413}  # let in, as far as its endless body
    refused = ask("10.0.0.1")
    assert (refused.status, refused.read) == (429, 0)
    assert "Wait 10 s" in refused.text.decode()
    assert ask("10.0.0.2").status == 413
    now[0] += 10.0
    assert [ask("10.0.0.1").status for _ in range(2)] == [413, 429]
    limited = make_app(settings.model_copy(update={"api_rpm": 1}), app.state.engine)
    visitor = TestClient(limited, headers={"Authorization": b"Bearer " + KEY.encode()})
    assert [visitor.post("/v1/held/approve", json={}).status_code for _ in range(2)] == [422, 429]
    assert visitor.get("/v1/documents").status_code == 200
