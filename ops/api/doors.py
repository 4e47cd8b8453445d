"""What every request passes before the application sees it, and every answer before it leaves.

Written for ASGI itself: the framework's own way to put a function around an application runs each request in tasks and
streams of its own, twice the time that a search costs the api (tests/bench/README.md).
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ops.loopback import comes_from_loopback, names_loopback

MOST_JSON = 1 << 20
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

    See `ops.loopback`.  The Origin is looked at as well, because a form of any page may be sent here, an upload among
    them.
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
            return _refusal(421, "foreign_host", message, following)
        origin = headers.get("origin")
        if origin is not None and not comes_from_loopback(origin):
            message = "Without a key, no web page of another machine may ask this."
            return _refusal(403, "foreign_origin", message, following)
        return None


class SafeAnswers:
    """Gives every answer the headers that browsers are to obey, and refuses JSON that is too long."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        if not scope["path"].startswith("/v1/documents") and length.isdigit() and int(length) > MOST_JSON:
            refused = _refusal(413, "too_large", f"A request may have {MOST_JSON:,} bytes.", "Send less.")
            await refused(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, sent)


def _refusal(status: int, code: str, message: str, following: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message, "next": following}}, status_code=status)
