"""A TCP proxy that does to connections what networks do: delays, resets, silence, lost, cut, late and doubled messages.

One proxy stands before one server.  Before HTTP servers it takes whole requests apart with h11, so that one of them can
be swallowed, held back or sent twice; before Valkey it moves bytes.  Its loop runs in a thread of its own; faults are
set from outside while it runs, and what it does to each request is drawn from its seed.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, Literal, TypeVar

import h11

T = TypeVar("T")
BLOCK = 1 << 16


class Fault(StrEnum):
    """What can happen to a request (HTTP) or to a connection (bytes)."""

    LATENCY = "latency"  # everything comes, a while later
    RESET = "reset"  # the connection breaks before the request has arrived
    HALF_OPEN = "half-open"  # nothing is forwarded any more, and nobody says so
    CUT = "cut"  # the answer ends after some bytes
    DROPPED_REPLY = "dropped-reply"  # the server has done it; the answer never comes
    DELAYED = "delayed"  # the request arrives long after its sender has given up
    DUPLICATED = "duplicated"  # the request arrives twice, the second time late


BYTES_ONLY = (Fault.LATENCY, Fault.RESET, Fault.HALF_OPEN, Fault.CUT, Fault.DROPPED_REPLY)
"""What can be done without knowing where a request ends."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One HTTP request that reached the server: when it was sent on (monotonic seconds), and what became of the answer.

    ``delivered`` False: the server did its work, and the client never heard of it.
    """

    at: float
    body: bytes
    status: int
    delivered: bool
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class Weather:
    """Which faults happen, each with its share of the requests, and how long things take.

    ``latency_s`` is the longest wait of `LATENCY`; ``late_s`` the longest of `DELAYED` and `DUPLICATED`;
    ``cut_after`` the most bytes of an answer that `CUT` lets through.
    """

    shares: dict[Fault, float] = field(default_factory=dict)
    latency_s: float = 0.5
    late_s: float = 20.0
    cut_after: int = 2000

    def draw(self, random_: random.Random) -> Fault | None:
        """Return what happens to one request."""
        rest = random_.random()
        for fault, share in self.shares.items():
            rest -= share
            if rest < 0:
                return fault
        return None


CALM = Weather()


class Proxy:
    """Listens on a free port and forwards to ``upstream`` (host, port), through its weather."""

    def __init__(self, upstream: tuple[str, int], *, kind: Literal["http", "bytes"], seed: int = 0) -> None:
        self.upstream = upstream
        self.kind = kind
        self.weather = CALM
        self.done: Counter[Fault] = Counter()
        self.port = 0
        self.on_exchange: Callable[[Exchange], None] = lambda exchange: None
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{upstream[1]}", daemon=True)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._late = 0

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _exc: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def late(self) -> int:
        """How many requests are held back right now, to be sent later."""
        return self._late

    def heal(self) -> None:
        """Good weather from now on; connections that were silenced are broken, so that their owners notice."""
        self.weather = CALM
        self._call(self._break_all())

    def break_connections(self) -> None:
        """Reset every open connection, once."""
        self.done[Fault.RESET] += 1
        self._call(self._break_all())

    # ------------------------------------------------------------------ the loop's own thread

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=BLOCK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _break_all(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(task := asyncio.ensure_future(self._serve(reader, writer)))
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await (self._serve_http(reader, writer) if self.kind == "http" else self._serve_bytes(reader, writer))
        except ConnectionResetError:
            _reset(writer)
        except (OSError, EOFError, h11.ProtocolError):
            pass  # either side has gone: so does the other
        finally:
            self._writers.discard(writer)
            writer.close()

    # ------------------------------------------------------------------ bytes

    async def _serve_bytes(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection(*self.upstream)
        try:
            await _first(self._pump(reader, upstream, replies=False), self._pump(upstream_reader, writer, replies=True))
        finally:
            _reset(upstream)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, replies: bool) -> None:
        while data := await source.read(BLOCK):
            fault = self.weather.draw(self._random)
            if fault in (Fault.CUT, Fault.DROPPED_REPLY) and not replies:
                fault = None  # these happen on the way back
            if fault is not None:
                self.done[fault] += 1
            if fault is Fault.LATENCY:
                await asyncio.sleep(self._random.uniform(0, self.weather.latency_s))
            elif fault is Fault.RESET:
                raise ConnectionResetError
            elif fault in (Fault.HALF_OPEN, Fault.DROPPED_REPLY):
                await _gone(source)  # never one block alone: TCP loses the end of a stream, not its middle
                return
            elif fault is Fault.CUT:
                target.write(data[: self._random.randint(0, min(len(data), self.weather.cut_after))])
                return
            target.write(data)
            await target.drain()

    # ------------------------------------------------------------------ HTTP

    async def _serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = h11.Connection(h11.SERVER)
        link = _Link(self.upstream)
        try:
            while (request := await _receive(client, reader)) is not None:
                if not await self._one(request, client, reader, writer, link):
                    return
                if client.our_state is not h11.DONE or client.their_state is not h11.DONE:
                    return
                client.start_next_cycle()
        finally:
            link.close()

    async def _one(
        self,
        request: Message,
        client: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        link: _Link,
    ) -> bool:
        """Pass on one request; False when the connection is over."""
        fault = self.weather.draw(self._random)
        if fault is not None:
            self.done[fault] += 1
        if fault is Fault.RESET:
            raise ConnectionResetError
        if fault is Fault.HALF_OPEN:
            await _gone(reader)
            return False
        if fault is Fault.DELAYED:
            if self._random.random() < 0.5:
                await _gone(reader)
            self._send_later(request)
            raise ConnectionResetError
        if fault is Fault.LATENCY:
            await asyncio.sleep(self._random.uniform(0, self.weather.latency_s))
        at = time.monotonic()
        answer = await link.ask(request)
        delivered = fault not in (Fault.DROPPED_REPLY, Fault.CUT) and not reader.at_eof() and not writer.is_closing()
        self._tell(at, request, answer, delivered, fault)
        if fault is Fault.DROPPED_REPLY:
            await _gone(reader)
            return False
        if fault is Fault.DUPLICATED:
            self._send_later(request)
        wire = b"".join(client.send(event) or b"" for event in answer.events())
        if fault is Fault.CUT:
            wire = wire[: self._random.randint(0, min(len(wire) - 1, self.weather.cut_after))]
        writer.write(wire)
        await writer.drain()
        return fault is not Fault.CUT

    def _tell(self, at: float, request: Message, answer: Message, delivered: bool, fault: Fault | None) -> None:
        status = answer.head.status_code if isinstance(answer.head, h11.Response) else 0
        self.on_exchange(Exchange(at, request.body, status, delivered, fault))

    def _send_later(self, request: Message) -> None:
        self._tasks.add(
            task := asyncio.ensure_future(self._later(request, self._random.uniform(1, self.weather.late_s)))
        )
        task.add_done_callback(self._tasks.discard)

    async def _later(self, request: Message, wait: float) -> None:
        self._late += 1
        try:
            await asyncio.sleep(wait)
            link = _Link(self.upstream)
            try:
                at = time.monotonic()
                self._tell(at, request, await link.ask(request), False, Fault.DELAYED)
            finally:
                link.close()
        except (OSError, EOFError, h11.ProtocolError):
            pass  # the server is away: so is the request
        finally:
            self._late -= 1


@dataclass(frozen=True, slots=True)
class Message:
    """A whole request or answer."""

    head: h11.Request | h11.Response
    body: bytes

    def events(self) -> list[Any]:
        """Return what h11 sends for it."""
        return [self.head, h11.Data(data=self.body), h11.EndOfMessage()]


class _Link:
    """One connection to the server, made when first needed and again when the server has closed it."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self._upstream = upstream
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: Message) -> Message:
        if self._writer is None:
            await self._connect()
        assert self._writer is not None
        self._writer.write(b"".join(self._protocol.send(event) or b"" for event in request.events()))
        await self._writer.drain()
        answer = await _receive(self._protocol, self._reader)
        if answer is None:
            raise EOFError
        if self._protocol.our_state is h11.DONE and self._protocol.their_state is h11.DONE:
            self._protocol.start_next_cycle()
        else:
            self.close()
        return answer

    async def _connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(*self._upstream, limit=BLOCK)
        self._protocol = h11.Connection(h11.CLIENT)

    def close(self) -> None:
        if self._writer is not None:
            _reset(self._writer)
            self._writer = None


async def _receive(protocol: h11.Connection, reader: asyncio.StreamReader) -> Message | None:
    """Return the next whole message; None when the other side has closed instead of beginning one."""
    head: h11.Request | h11.Response | None = None
    body = bytearray()
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(await reader.read(BLOCK))
        elif isinstance(event, h11.Request | h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            return Message(head, bytes(body))
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            return None


async def _gone(reader: asyncio.StreamReader) -> None:
    """Return when the client has hung up."""
    while await reader.read(BLOCK):
        pass


async def _first(*work: Awaitable[None]) -> None:
    """Return, or raise, as the first of several does; the others are given up."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: what was not read yet is lost."""
    if writer.transport.is_closing():
        return
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
