"""The HTTP layer under the embedded servers: one function answers, uvicorn listens, SIGTERM ends it in time."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import uvicorn

from workers.contract.exits import EXIT_TAKEN
from workers.contract.loopback import comes_from_loopback, is_loopback, names_loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class BodyTooLarge(Exception):
    """The request has more bytes than the server takes."""


class ClientGone(Exception):
    """The client hung up before its request was complete."""


class Foreign(Exception):
    """A web page of another machine asks, through a browser on this one."""


@dataclass(frozen=True, slots=True)
class Request:
    """One complete request."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes
    gone: Callable[[], Awaitable[None]]
    """Returns when the client hangs up: what it asked for may be dropped."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One complete answer."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = b"application/json"


@dataclass(frozen=True, slots=True)
class Application:
    """An ASGI application around one function; `too_large` is the answer to a body of more than `max_body` bytes."""

    answer: Callable[[Request], Awaitable[Reply]]
    too_large: Callable[[int], Reply]
    max_body: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            _check_who_asks(scope)
            reply = await self.answer(await _request(scope, receive, self.max_body))
        except BodyTooLarge:
            # The rest of the body is not read: a connection that goes on sending is closed after the answer.
            reply = self.too_large(self.max_body)
        except ClientGone:
            return
        except Foreign as exc:
            reply = Reply(403, json.dumps({"status": {"error": str(exc)}, "error": {"message": str(exc)}}).encode())
        length = str(len(reply.body)).encode()
        headers = [(b"content-type", reply.content_type), (b"content-length", length), *reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})


def _check_who_asks(scope: Scope) -> None:
    """Keep web pages out of a server that asks for no key because only this machine reaches it.

    A browser on it does, too, for any page: by a name that the page's owner turned to 127.0.0.1, or by a form.

    Raises:
        Foreign: the request names another host, or comes from a page of one.
    """
    bound = scope.get("server")
    if bound is None or not is_loopback(str(bound[0])):
        return  # open to others on purpose; who asks what is somebody else's business
    for name, value in scope["headers"]:
        if name == b"host" and not _ours(value):
            raise Foreign("This server answers only to the names of its own machine: ask http://127.0.0.1.")
        if name == b"origin" and not _ours_too(value):
            raise Foreign("No web page of another machine may ask this server.")


@lru_cache(maxsize=256)
def _ours(host: bytes) -> bool:
    return names_loopback(host.decode("latin-1"))


@lru_cache(maxsize=256)
def _ours_too(origin: bytes) -> bool:
    return comes_from_loopback(origin.decode("latin-1"))


async def _request(scope: Scope, receive: Receive, max_body: int) -> Request:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > max_body:
            raise BodyTooLarge
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > max_body:
            raise BodyTooLarge
        more = message.get("more_body", False)

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    return Request(scope["method"], scope["path"], query, b"".join(parts), gone)


def listen(host: str, port: int, process: str) -> socket.socket:
    """Return a socket that listens on the port, or end the process saying that somebody else has it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio switches Nagle's algorithm off; else every answer waits 40 ms for an ACK.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # Connections of our last run that are still winding down are no obstacle; a listening server is one.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(1024)
    except (OSError, OverflowError) as exc:
        sock.close()
        give_up(process, f"cannot listen on {host}:{port}: {exc}. Stop what listens there, or choose another --port.")
    sock.setblocking(False)
    return sock


def give_up(process: str, message: str) -> NoReturn:
    """End the process because something it needs belongs to somebody else."""
    print(f"{process}: {message}", file=sys.stderr, flush=True)
    raise SystemExit(EXIT_TAKEN)


@dataclass(slots=True)
class Service:
    """Runs an application on a socket until SIGTERM or SIGINT.

    `grace` is how long answers in flight may take after the signal.  `background` runs beside it and is cancelled then.
    """

    application: Application
    sock: socket.socket
    grace: float = 0.5
    background: Callable[[], Awaitable[None]] | None = None
    _server: uvicorn.Server = field(init=False)

    def run(self) -> None:
        """Serve; returns when asked to stop."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        config = uvicorn.Config(
            self.application,
            lifespan="off",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            ws="none",
            timeout_keep_alive=75,
        )
        self._server = _Server(config)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        beside = asyncio.ensure_future(self.background()) if self.background else None
        try:
            await self._server.serve(sockets=[self.sock])
        finally:
            if beside is not None:
                beside.cancel()
                await asyncio.gather(beside, return_exceptions=True)

    def _stop(self) -> None:
        self._server.should_exit = True
        asyncio.get_running_loop().call_later(self.grace, self._force)

    def _force(self) -> None:
        self._server.force_exit = True


class _Server(uvicorn.Server):
    """uvicorn without its signal handling, which would end the process by the signal before we can close our files."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the service."""
        yield
