"""A real server that is set but away, or is something else, is named with its address and its setting."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pytest_httpserver import HTTPServer

from ops.up import reach
from ops.up.settings import UpSettings


@contextmanager
def redis_that_says(reply: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server of one connection that answers whatever it is asked with ``reply``."""
    heard: list[bytes] = []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                heard.append(connection.recv(4096))
                connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", heard
        thread.join(5)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_servers_that_are_away_are_each_named_with_address_setting_and_remedy() -> None:
    port = closed_port()
    settings = UpSettings(
        broker_url=f"redis://:hidden@127.0.0.1:{port}/0",
        qdrant_url=f"http://127.0.0.1:{port}",
        embeddings_url=f"http://127.0.0.1:{port}/v1",
    )

    faults = reach.unreachable(settings)

    assert len(faults) == 3
    for fault, what, setting in zip(
        faults,
        ("Valkey or Redis", "Qdrant", "the embedding endpoint"),
        ("UPWELL_BROKER_URL", "UPWELL_QDRANT_URL", "UPWELL_EMBEDDINGS_URL"),
        strict=True,
    ):
        assert fault.startswith(f"No answer from {what} at ")
        assert f"127.0.0.1:{port}" in fault
        assert setting in fault
        assert fault.endswith("Start it, or unset the variable to use the embedded one.")
        assert "hidden" not in fault


def test_nothing_set_asks_nobody() -> None:
    assert reach.unreachable(UpSettings(broker_url=None, qdrant_url=None, embeddings_url=None)) == []


def test_a_broker_that_answers_is_fine_and_hears_the_decoded_password() -> None:
    with redis_that_says(b"+OK\r\n+PONG\r\n") as (address, heard):
        assert reach.broker_fault(f"redis://:p%40ss@{address}/0") is None
    assert heard == [b"*2\r\n$4\r\nAUTH\r\n$4\r\np@ss\r\n*1\r\n$4\r\nPING\r\n"]


@pytest.mark.parametrize("reply", [b"-NOAUTH Authentication required.\r\n", b"-WRONGPASS bad\r\n-NOAUTH x\r\n"])
def test_a_broker_that_wants_another_password_says_so(reply: bytes) -> None:
    with redis_that_says(reply) as (address, _):
        password = "x" if reply.count(b"\r\n") == 2 else ""
        fault = reach.broker_fault(f"redis://{':' + password + '@' if password else ''}{address}/0")
    assert fault is not None
    assert "password" in fault


def test_what_is_no_broker_is_not_taken_for_one() -> None:
    with redis_that_says(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (address, _):
        fault = reach.broker_fault(f"redis://{address}/0")
    assert fault is not None
    assert "no Valkey or Redis" in fault


def test_a_scheme_that_celery_does_not_know_is_refused_at_once() -> None:
    fault = reach.broker_fault("valkey://127.0.0.1:6379/0")
    assert fault is not None
    assert "redis://" in fault


@pytest.mark.parametrize(
    ("status", "words"), [(401, "UPWELL_QDRANT_API_KEY"), (404, "no Qdrant"), (500, "status 500"), (200, None)]
)
def test_a_qdrant_is_judged_by_its_answer(httpserver: HTTPServer, status: int, words: str | None) -> None:
    httpserver.expect_request("/collections", headers={"api-key": "k"}).respond_with_data("{}", status=status)

    fault = reach.qdrant_fault(httpserver.url_for("").rstrip("/"), "k")

    assert (fault is None) == (words is None)
    assert words is None or (fault is not None and words in fault)


def test_an_address_that_is_none_is_called_so() -> None:
    fault = reach.qdrant_fault("localhost:6333", None)
    assert fault is not None
    assert "not a URL" in fault
