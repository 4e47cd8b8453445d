"""Requests past Qdrant's client: connections are kept, never trusted, and fail as the client's do."""

from __future__ import annotations

import gc
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import HOST
from workers.adapters.qdrant import connect
from workers.adapters.qdrant_models import ResponseHandlingException, UnexpectedResponse
from workers.adapters.qdrant_wire import ask, encoded
from workers.contract.settings import IndexSettings

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)

Answer = Callable[[socket.socket, bytes], None]


def told(connection: socket.socket, request: bytes) -> None:
    """Answer with the request's first line, key and body."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    key = next((header.partition(": ")[2] for header in headers if header.lower().startswith("api-key")), None)
    reply(connection, json.dumps({"result": {"line": line, "key": key, "body": json.loads(body)}}).encode())


def reply(connection: socket.socket, content: bytes, status: str = "200 OK", more: str = "") -> None:
    connection.sendall(f"HTTP/1.1 {status}\r\ncontent-length: {len(content)}\r\n{more}\r\n".encode() + content)


class Server:
    """Takes requests apart and counts its connections."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.connections: list[socket.socket] = []
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hang_up(self) -> None:
        """End every connection from this side."""
        for connection in self.connections:
            connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        got = b""
        try:
            while data := connection.recv(1 << 16):
                got += data
                head, end, body = got.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                if end and len(body) >= length:
                    self.answer(connection, got)
                    got = b""
        except OSError:
            return


@contextmanager
def serving(answer: Answer = told) -> Iterator[Server]:
    server = Server(answer)
    try:
        yield server
    finally:
        server.close()


def client_of(server: Server, *, path: str = "", **settings: str):
    return connect(IndexSettings(qdrant_url=f"http://{HOST}:{server.port}{path}", **settings), timeout=2)


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_requests_one_after_another_share_a_connection_and_carry_key_and_prefix():
    with serving() as server:
        client = client_of(server, path="/behind", qdrant_api_key="secret")

        answers = [ask(client, "a/b", "/points", {"n": n}, wait=n > 0) for n in range(3)]

        assert answers[0]["line"] == "POST /behind/collections/a%2Fb/points HTTP/1.1"
        assert answers[1]["line"] == "POST /behind/collections/a%2Fb/points?wait=true HTTP/1.1"
        assert [(answer["key"], answer["body"]["n"]) for answer in answers] == [("secret", n) for n in range(3)]
        assert len(server.connections) == 1


def test_threads_do_not_read_each_others_answers():
    with serving() as server:
        client = client_of(server)
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda n: ask(client, "c", "/points", {"n": n})["body"]["n"], range(200)))

        assert answers == list(range(200))
        assert len(server.connections) <= 8


def test_a_connection_that_the_server_has_closed_meanwhile_is_replaced():
    with serving() as server:
        client = client_of(server)
        ask(client, "c", "/points", {})
        server.hang_up()

        assert ask(client, "c", "/points", {"again": True})["body"] == {"again": True}
        assert len(server.connections) == 2


def test_half_an_answer_is_an_error_and_its_rest_is_no_answer_to_the_next_request():
    def half(connection: socket.socket, request: bytes) -> None:
        if b"first" in request:
            connection.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"result": ')
            connection.shutdown(socket.SHUT_WR)
        else:
            told(connection, request)

    with serving(half) as server:
        client = client_of(server)
        with pytest.raises(ResponseHandlingException) as caught:
            ask(client, "c", "/points", {"first": 1})

        assert isinstance(caught.value.source, httpx.RemoteProtocolError)
        assert ask(client, "c", "/points", {"n": 2})["body"] == {"n": 2}


def test_a_refusal_has_its_status_and_text_and_the_connection_goes_on():
    with serving(lambda connection, _: reply(connection, b'{"status":"no"}', "404 Not Found")) as server:
        client = client_of(server)
        for _ in range(2):
            with pytest.raises(UnexpectedResponse) as caught:
                ask(client, "c", "/points", {})
            assert (caught.value.status_code, caught.value.content) == (404, b'{"status":"no"}')

        assert len(server.connections) == 1


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"results": 1}'])
def test_an_answer_of_another_shape_is_none(content):
    with serving(lambda connection, _: reply(connection, content)) as server, pytest.raises(ResponseHandlingException):
        ask(client_of(server), "c", "/points", {})


def test_a_connection_that_the_server_ends_with_its_answer_is_not_kept():
    def last(connection: socket.socket, request: bytes) -> None:
        reply(connection, b'{"result": 1}', more="connection: close\r\n")

    with serving(last) as server:
        client = client_of(server)

        assert [ask(client, "c", "/points", {}) for _ in range(2)] == [1, 1]
        assert len(server.connections) == 2


def test_who_must_use_a_proxy_asks_through_the_client(monkeypatch):
    with serving() as server:
        monkeypatch.setenv("http_proxy", f"http://{HOST}:{server.port}")
        monkeypatch.setenv("no_proxy", "")
        client = connect(IndexSettings(qdrant_url="http://qdrant.example:6333"), timeout=2)

        line = ask(client, "c", "/points", {"n": 1})["line"]

        assert line == "POST http://qdrant.example:6333/collections/c/points HTTP/1.1"


def test_connections_end_with_their_client():
    with serving() as server:
        client = client_of(server)
        ask(client, "c", "/points", {})
        [connection] = server.connections

        client.close()
        del client
        gc.collect()

        assert connection.recv(1) == b""


@given(numbers=st.lists(FLOATS, max_size=20))
def test_a_vector_arrives_as_the_same_numbers_of_32_bits_in_few_digits(numbers):
    vector = np.array(numbers, dtype=np.float32)

    sent = encoded({"points": [{"id": "a", "vector": vector}]})

    [point] = json.loads(sent)["points"]
    assert np.array(point["vector"], dtype=np.float32).tobytes() == vector.tobytes()
    assert len(sent) <= len(b'{"points":[{"id":"a","vector":[]}]}') + 16 * len(numbers)


def test_an_integer_of_any_size_is_sent_as_it_is():
    vector = np.array([0.5], dtype=np.float32)

    assert json.loads(encoded({"huge": 2**70, "vector": vector})) == {"huge": 2**70, "vector": [0.5]}
