"""Asks real servers that are set instead of embedded parts whether they are there, before anything is started."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote, urlsplit

from ops.up.settings import UpSettings
from workers.contract.addresses import without_password

TIMEOUT_S = 4.0


def unreachable(settings: UpSettings) -> list[str]:
    """Return one message per server that is set but does not answer: what, where, which setting, what to do."""
    checks: list[Callable[[], str | None]] = []
    if settings.broker_url is not None:
        url = settings.broker_url.get_secret_value()
        checks.append(lambda: broker_fault(url))
    if settings.qdrant_url is not None:
        qdrant = settings.qdrant_url
        key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
        checks.append(lambda: qdrant_fault(qdrant, key))
    if settings.embeddings_url is not None:
        embeddings = settings.embeddings_url
        checks.append(lambda: embeddings_fault(embeddings))
    if not checks:
        return []
    with ThreadPoolExecutor(len(checks)) as pool:
        return [fault for fault in pool.map(lambda check: check(), checks) if fault]


def broker_fault(url: str) -> str | None:
    """Return what is wrong with the Valkey or Redis at ``url``, None if it answers."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss"):
        return (
            f"UPWELL_BROKER_URL starts with {parts.scheme or 'no scheme'}://; it must be redis:// or rediss://"
            " (for Valkey too)."
        )
    try:
        reply = _redis_ping(parts.hostname or "localhost", parts.port or 6379, parts, tls=parts.scheme == "rediss")
    except (OSError, ValueError) as exc:
        return _away("Valkey or Redis", url, "UPWELL_BROKER_URL", exc)
    if b"+PONG" in reply:
        return None
    if b"NOAUTH" in reply or b"WRONGPASS" in reply or b"AUTH" in reply:
        return (
            f"Valkey or Redis at {without_password(url)} refuses our password (UPWELL_BROKER_URL)."
            " Put it into the URL: redis://:password@host:port/0."
        )
    said = reply[:60].decode("ascii", "replace").strip()
    return f"What answers at {without_password(url)} is no Valkey or Redis, or not ready (UPWELL_BROKER_URL): {said}"


def qdrant_fault(url: str, api_key: str | None) -> str | None:
    """Return what is wrong with the Qdrant at ``url``, None if it answers."""
    try:
        status = _get(url, "/collections", {"api-key": api_key} if api_key else {})
    except (OSError, http.client.HTTPException, ValueError) as exc:
        return _away("Qdrant", url, "UPWELL_QDRANT_URL", exc)
    if status in (401, 403):
        return (
            f"Qdrant at {without_password(url)} refuses our key ({status})."
            " Set UPWELL_QDRANT_API_KEY to one that may write."
        )
    if status >= 500:
        return f"Qdrant at {without_password(url)} answers with status {status} (UPWELL_QDRANT_URL). See its log."
    if status != 200:
        return (
            f"What answers at {without_password(url)} is no Qdrant: status {status} for /collections."
            " Correct UPWELL_QDRANT_URL (the REST port is usually 6333)."
        )
    return None


def embeddings_fault(url: str) -> str | None:
    """Return what is wrong with the way to the embedding endpoint; keys and models are the index worker's question."""
    try:
        _get(url, "/models", {})
    except (OSError, http.client.HTTPException, ValueError) as exc:
        return _away("the embedding endpoint", url, "UPWELL_EMBEDDINGS_URL", exc)
    return None


def _away(what: str, url: str, setting: str, exc: Exception) -> str:
    why = "not a URL" if isinstance(exc, ValueError) else getattr(exc, "strerror", None) or type(exc).__name__
    return (
        f"No answer from {what} at {without_password(url)} ({setting}): {why}."
        " Start it, or unset the variable to use the embedded one."
    )


def _get(base: str, path: str, headers: dict[str, str]) -> int:
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(base)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def _redis_ping(host: str, port: int, parts: object, *, tls: bool) -> bytes:
    """Say AUTH and PING as the protocol has it; a whole client is not worth its import here."""
    user, password = getattr(parts, "username", None), getattr(parts, "password", None)
    lines = []
    if password:
        lines.append(["AUTH", *([unquote(user)] if user else []), unquote(password)])
    lines.append(["PING"])
    request = b"".join(
        b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)
        for words in lines
    )
    with socket.create_connection((host, port), timeout=TIMEOUT_S) as raw:
        stream: socket.socket = raw
        if tls:
            stream = ssl.create_default_context().wrap_socket(raw, server_hostname=host)
        stream.sendall(request)
        reply = b""
        while reply.count(b"\r\n") < len(lines):
            data = stream.recv(4096)
            if not data:
                break
            reply += data
        return reply
