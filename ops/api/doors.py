"""What every request passes before the application sees it, and every answer before it leaves.

Written for ASGI itself: the framework's own way to put a function around an application runs each request in tasks and
streams of its own, twice the time that a search costs the api (tests/bench/README.md).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection

from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ops.api.errors import DIFY, refusal
from workers.contract.loopback import comes_from_loopback, names_loopback

OPEN = frozenset({"/livez", "/readyz", "/openapi.json"})
"""What is told without a key: whether it works, and what it can be asked."""
METRICS = "/metrics"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class LoopbackOnly:
    """Keeps web pages out: without a key, loopback is the only lock, and a browser on this machine is inside of it.

    See `workers.contract.loopback`.  The Origin is looked at as well, because a form of any page may be sent here, an
    upload among them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refused := self._refused(Headers(scope=scope))) is not None:
            await refused(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refused(self, headers: Headers) -> JSONResponse | None:
        following = "Ask http://127.0.0.1, or set UPWELL_API_KEY (or UPWELL_API_OPEN=true, behind a proxy that checks)."
        if not names_loopback(headers.get("host", "")):
            message = "Without a key, this answers only to the names of its own machine."
            return refusal(421, "foreign_host", message, following)
        origin = headers.get("origin")
        if origin is not None and not comes_from_loopback(origin):
            message = "Without a key, no web page of another machine may ask this."
            return refusal(403, "foreign_origin", message, following)
        return None


class KeyOnly:
    """Lets in who has a key, before a byte of the body is read; whatever is not named as open is locked.

    ``key`` opens everything, ``metrics_key`` the figures alone.  Without ``key`` nothing but the figures is locked.

    The framework would read a whole upload first and look at keys afterwards.  A wrong key, none, and a path that does
    not exist look alike from outside.
    """

    def __init__(
        self, app: ASGIApp, key: SecretStr | None, open_paths: Collection[str], metrics_key: SecretStr | None = None
    ) -> None:
        self._app = app
        self._keys = _digests(key)
        self._metrics_keys = _digests(key, metrics_key)
        self._open = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_open(scope["path"]) or self._fits(scope):
            await self._app(scope, receive, send)
            return
        # The same for every path, so that none is told from one that does not exist; but Dify knows two numbers.
        dify = scope["path"] == DIFY
        code = "malformed_key" if dify and not all(_bearer(scope)) else "unauthorized"
        message, following = "This needs a key.", "Send Authorization: Bearer with UPWELL_API_KEY."
        await refusal(401, code, message, following, path=DIFY if dify else "")(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in self._open or (not self._keys and path != METRICS)

    def _fits(self, scope: Scope) -> bool:
        bearer, key = _bearer(scope)
        wanted = self._metrics_keys if scope["path"] == METRICS else self._keys
        return any(hmac.compare_digest(_digest(key), each) for each in wanted) and bearer


def _bearer(scope: Scope) -> tuple[bool, bytes]:
    """Return whether the Authorization header is one of a bearer, and the key in it."""
    given: bytes = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, key = given.partition(b" ")
    return scheme.lower() == b"bearer", key.strip()


def _digests(*keys: SecretStr | None) -> list[bytes]:
    return [_digest(key.get_secret_value().encode()) for key in keys if key is not None]


def _digest(key: bytes) -> bytes:
    """Digests are compared, and not keys: equally long, so that not even a length shows in the time."""
    return hashlib.sha256(key).digest()


class SafeAnswers:
    """Gives every answer the headers that browsers are to obey."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, sent)
