"""Asks Qdrant in plain JSON, past its client: what each document and each search costs goes this way (ADR 0034, 0048).

To build and check the client's models costs more than all that they say, and httpx below them takes four times as long
for a request as Python's own HTTP.  Everything else goes through the client.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakKeyDictionary, finalize

import httpx
import numpy as np
import orjson
from pydantic_core import from_json, to_json

from workers.adapters.qdrant_models import QdrantClient, ResponseHandlingException, UnexpectedResponse

_JSON = {"Content-Type": "application/json"}
TIMEOUT_S = 5.0  # the client's, where it is made without
MOST_IDLE = 64
"""Connections that are kept for later; as many as are asked for at once are opened."""


def ask(client: QdrantClient, collection: str, path: str, body: Mapping[str, Any], *, wait: bool = False) -> Any:
    """POST ``body`` to a path below a collection and return what Qdrant calls the result.

    Raises:
        UnexpectedResponse: another status than success.
        ResponseHandlingException: no answer, or none that makes sense.
    """
    lines = _lines_of(client)
    try:
        if lines is not None:
            target = f"/collections/{quote(collection, safe='')}{path}{'?wait=true' if wait else ''}"
            return from_json(lines.post(target, encoded(body)))["result"]
        answer = client.http.client.request(
            type_=dict,
            method="POST",
            url="/collections/{collection_name}" + path,
            path_params={"collection_name": collection},
            params={"wait": "true"} if wait else {},
            content=encoded(body),
            headers=_JSON,
        )
        return answer["result"]
    except (ValueError, KeyError, TypeError) as exc:
        raise ResponseHandlingException(exc) from exc


def encoded(body: Mapping[str, Any]) -> bytes:
    """Return ``body`` as JSON.  Vectors may be arrays: a float32 has 9 digits at most, as a number of Python's 17."""
    try:
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError:  # an integer of more than 64 bits in somebody's metadata; Qdrant says what it thinks
        return to_json(body, fallback=np.ndarray.tolist)


class Lines:
    """Connections to one server, kept open between requests.  Threads share them; each request has one to itself."""

    def __init__(self, address: str, api_key: str | None, timeout: float) -> None:
        """``address`` is the server's, with what goes before each path; ``timeout`` is in seconds, for each wait."""
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port
        self._prefix = parts.path.rstrip("/")
        self._timeout = timeout
        self._headers = _JSON | ({"api-key": api_key} if api_key else {})
        self._idle: list[HTTPConnection] = []
        self._lock = threading.Lock()

    def post(self, target: str, body: bytes) -> bytes:
        """Return the content of the answer.

        Raises:
            UnexpectedResponse: another status than success.
            ResponseHandlingException: no answer; its source is what httpx would raise.
        """
        with _as_httpx(httpx.ConnectTimeout, httpx.ConnectError):
            connection = self._connected()
        try:
            with _as_httpx(httpx.ReadTimeout, httpx.RemoteProtocolError):
                connection.request("POST", self._prefix + target, body=body, headers=self._headers)
                answer = connection.getresponse()
                content = answer.read()
        except BaseException:
            connection.close()  # what is left of this answer must not be the next one's
            raise
        self._keep(connection)
        if answer.status not in (200, 201, 202):
            raise UnexpectedResponse(answer.status, answer.reason, content, httpx.Headers(answer.getheaders()))
        return content

    def close(self) -> None:
        """Hang up what nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _connected(self) -> HTTPConnection:
        while (kept := self._kept()) is not None:
            if not _is_over(kept):
                return kept
            kept.close()
        connection = HTTPConnection(self._host, self._port, timeout=self._timeout)
        connection.connect()
        return connection

    def _kept(self) -> HTTPConnection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _keep(self, connection: HTTPConnection) -> None:
        if connection.sock is None:  # the server said that this was the last one
            return
        with self._lock:
            if len(self._idle) < MOST_IDLE:
                self._idle.append(connection)
                return
        connection.close()


_known: WeakKeyDictionary[QdrantClient, Lines | None] = WeakKeyDictionary()
_making = threading.Lock()


def _lines_of(client: QdrantClient) -> Lines | None:
    """Return the lines to a client's server; None where the client alone knows the way: over TLS, or a proxy."""
    if client not in _known:
        with _making:
            if client not in _known:
                _known[client] = _made(client)
    return _known[client]


def _made(client: QdrantClient) -> Lines | None:
    address, options = client.http.client.host, client.init_options
    parts = urlsplit(address)
    proxies = getproxies()
    proxied = bool(proxies.get("http") or proxies.get("all")) and not proxy_bypass(parts.hostname or "")
    if parts.scheme != "http" or proxied:
        return None
    lines = Lines(address, options["api_key"], float(options["timeout"] or TIMEOUT_S))
    finalize(client, lines.close)
    return lines


def _is_over(connection: HTTPConnection) -> bool:
    """Tell whether the server has hung up: nobody was asked anything, so there is nothing else to read."""
    if connection.sock is None:
        return True
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def _as_httpx(late: type[httpx.TimeoutException], broken: type[httpx.TransportError]) -> Iterator[None]:
    """Turn what Python's own HTTP raises into what the client's raises: who catches it knows one of them."""
    try:
        yield
    except TimeoutError as exc:
        raise ResponseHandlingException(late(str(exc))) from exc
    except (OSError, HTTPException) as exc:
        raise ResponseHandlingException(broken(str(exc))) from exc


def unanswered(exc: Exception, where: str, patience: str) -> str:
    """Say why there was no answer, and what to do.  ``where`` is the server, ``patience`` how long was waited."""
    match exc.source if isinstance(exc, ResponseHandlingException) else exc:
        case httpx.TimeoutException():
            return (
                f"{where} did not answer within {patience}. It is overloaded or hangs: see its log and how busy its"
                " machine is, and restart it if that does not pass."
            )
        case httpx.ConnectError():
            return f"{where} cannot be reached. Is it running, and is the address right?"
        case httpx.HTTPError() | OSError():
            return f"{where} broke the connection off before it had answered. If that does not pass, its log says why."
        case _:
            return f"{where} sent an answer that is not Qdrant's. Does the address lead to something else, or a proxy?"
