"""The fault-injecting proxy does what it says, and nothing when it is told nothing."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.support.proxy import CALM, Fault, Proxy, Weather


class Recorder(ThreadingHTTPServer):
    """Answers every request with its own body, and remembers the bodies."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Echo)
        self.bodies: list[bytes] = []

    def handle_error(self, *_):
        """A connection that breaks is what these tests are about."""


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.bodies.append(body)
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Recorder()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def proxy(server):
    with Proxy(server.server_address, kind="http", seed=1) as proxy:
        yield proxy


def always(fault: Fault, **more: float) -> Weather:
    return Weather({fault: 1.0}, **more)


def post(proxy: Proxy, body: bytes, timeout: float = 0.3) -> bytes:
    return httpx.post(f"http://127.0.0.1:{proxy.port}/x", content=body, timeout=timeout).content


def wait_for(condition):
    while not condition():  # bounded by the timeout of every test
        time.sleep(0.01)


def test_in_calm_weather_everything_passes_and_connections_are_kept(proxy, server):
    with httpx.Client(base_url=f"http://127.0.0.1:{proxy.port}") as client:
        answers = [client.post("/x", content=bytes([65 + n]) * 100_000).content for n in range(3)]

    assert answers == server.bodies == [b"A" * 100_000, b"B" * 100_000, b"C" * 100_000]
    assert not proxy.done


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.HALF_OPEN])
def test_a_request_that_never_arrives_fails_at_its_sender(proxy, server, fault):
    proxy.weather = always(fault)

    with pytest.raises(httpx.TransportError):
        post(proxy, b"a")

    assert server.bodies == []
    assert proxy.done == {fault: 1}


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.DROPPED_REPLY])
def test_an_answer_that_is_lost_was_given_nevertheless(proxy, server, fault):
    proxy.weather = always(fault)

    with pytest.raises(httpx.TransportError):
        post(proxy, b"a" * 500)

    assert server.bodies == [b"a" * 500]


def test_a_delayed_request_arrives_after_its_sender_has_given_up(proxy, server):
    proxy.weather = always(Fault.DELAYED, late_s=1.2)

    with pytest.raises(httpx.TransportError):
        post(proxy, b"a")
    assert server.bodies == []
    assert proxy.late == 1

    wait_for(lambda: proxy.late == 0)
    assert server.bodies == [b"a"]


def test_a_duplicated_request_is_answered_once_and_arrives_twice(proxy, server):
    proxy.weather = always(Fault.DUPLICATED, late_s=1.2)

    assert post(proxy, b"a") == b"a"
    proxy.weather = CALM
    assert post(proxy, b"b") == b"b"

    wait_for(lambda: len(server.bodies) == 3)
    assert server.bodies == [b"a", b"b", b"a"]


def test_healing_breaks_what_was_silenced_and_lets_everything_pass_again(proxy):
    proxy.weather = always(Fault.HALF_OPEN)
    broken: list[BaseException] = []

    def ask():
        try:
            post(proxy, b"a", timeout=60)
        except httpx.TransportError as exc:
            broken.append(exc)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_for(lambda: proxy.done[Fault.HALF_OPEN] == 1)
    proxy.heal()
    asking.join()

    assert len(broken) == 1
    assert post(proxy, b"b") == b"b"


def test_the_same_seed_draws_the_same_faults(server):
    def drawn() -> dict[Fault, int]:
        weather = Weather({Fault.RESET: 0.3, Fault.CUT: 0.3})
        with Proxy(server.server_address, kind="http", seed=7) as proxy:
            proxy.weather = weather
            for _ in range(12):
                try:
                    post(proxy, b"a")
                except httpx.TransportError:
                    pass
            return dict(proxy.done)

    assert drawn() == drawn()


@pytest.fixture
def echo():
    """A server that sends back every byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with closing(connection), suppress(ConnectionError):
                    while data := connection.recv(65536):
                        connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()


def test_bytes_pass_both_ways_until_the_weather_turns(echo):
    with Proxy(echo, kind="bytes") as proxy, socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3) as client:
        client.sendall(b"ping")
        assert client.recv(100) == b"ping"

        proxy.weather = always(Fault.DROPPED_REPLY)
        client.sendall(b"ping")
        with pytest.raises(TimeoutError):
            client.recv(100)

        proxy.heal()
        with pytest.raises(ConnectionResetError):
            client.recv(100)
